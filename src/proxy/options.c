/* OPTIONS of our own: to gateways (probe.c) and to phones (qualify.c). */
#include <errno.h>

#include "proxy_p.h"

/* A random Call-ID whose responses come to this worker. */
static void call_id_make(struct proxy *p, char out[static 33])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char r[16];

	do {
		gnutls_rnd(GNUTLS_RND_NONCE, r, sizeof(r));
		for (size_t i = 0; i < sizeof(r); i++) {
			out[2 * i] = hex[r[i] >> 4];
			out[2 * i + 1] = hex[r[i] & 15];
		}
		out[32] = 0;
	} while (p->lower.mine && !p->lower.mine(p->lower.ctx, slice_str(out)));
}

int options_send(struct proxy *p, const struct options_args *a, struct txn **out)
{
	char id[33], branch[48];
	struct buf o;

	call_id_make(p, id);
	int blen = snprintf(branch, sizeof(branch), "z9hG4bKhp%s", id);
	buf_init(&o, p->out, sizeof(p->out));
	buf_printf(&o, "OPTIONS " SLICE_FMT " SIP/2.0\r\nVia: SIP/2.0/", SLICE_ARG(a->uri));
	buf_slice(&o, flow_proto_name(a->flow.proto));
	buf_char(&o, ' ');
	self_sent_by(p, a->flow.listener, &a->flow.remote, &o);
	buf_printf(&o, ";branch=%s\r\n", branch);
	if (a->route.len)
		buf_printf(&o, "Route: " SLICE_FMT "\r\n", SLICE_ARG(a->route));
	buf_lit(&o, "Max-Forwards: 70\r\nFrom: <sip:probe@");
	self_sent_by(p, a->flow.listener, &a->flow.remote, &o);
	buf_printf(&o,
		   ">;tag=%.16s\r\nTo: <" SLICE_FMT ">\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\n"
		   "Accept: application/sdp\r\nContent-Length: 0\r\n\r\n",
		   id + 16, SLICE_ARG(a->uri), id);
	struct txn_client_args c = {.bytes = buf_view(&o),
				    .branch = slice_make(branch, (size_t)blen),
				    .method = SIP_METHOD_OPTIONS,
				    .method_name = SLICE_LIT("OPTIONS"),
				    .flow = a->flow,
				    .ack_timeout = a->ack_timeout,
				    .owner = a->owner};
	return o.full ? -ENOBUFS : txn_client_create(p->txns, &c, out);
}
