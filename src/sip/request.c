#include <errno.h>

#include "lines_p.h"
#include "sip/build.h"

/* `to` is the message whose To it gets. */
static long derive(const struct sip_msg *invite, struct slice method, const struct sip_msg *to,
		   struct slice reason, char *out, size_t cap)
{
	struct buf b;

	buf_init(&b, out, cap);
	buf_slice(&b, method);
	buf_char(&b, ' ');
	buf_slice(&b, sip_slice(invite, invite->ruri));
	buf_lit(&b, " SIP/2.0\r\nVia: ");
	buf_slice(&b, sip_slice(invite, invite->via.whole));
	buf_lit(&b, "\r\nMax-Forwards: 70\r\n");
	sip_lines_copy(invite, SIP_HDR_ROUTE, &b);
	sip_lines_copy(invite, SIP_HDR_FROM, &b);
	sip_lines_copy(to, SIP_HDR_TO, &b);
	sip_lines_copy(invite, SIP_HDR_CALL_ID, &b);
	buf_lit(&b, "CSeq: ");
	buf_u64(&b, invite->cseq);
	buf_char(&b, ' ');
	buf_slice(&b, method);
	buf_lit(&b, "\r\n");
	sip_lines_copy(invite, SIP_HDR_AUTHORIZATION, &b);
	sip_lines_copy(invite, SIP_HDR_PROXY_AUTHORIZATION, &b);
	if (reason.len) {
		buf_lit(&b, "Reason: ");
		buf_slice(&b, reason);
		buf_lit(&b, "\r\n");
	}
	buf_lit(&b, "Content-Length: 0\r\n\r\n");
	return b.full ? -ENOBUFS : (long)b.len;
}

long sip_ack_build(const struct sip_msg *invite, const struct sip_msg *response, char *out, size_t cap)
{
	return derive(invite, sip_method_name(SIP_METHOD_ACK), response, SLICE_NONE, out, cap);
}

long sip_cancel_build(const struct sip_msg *invite, struct slice reason, char *out, size_t cap)
{
	return derive(invite, sip_method_name(SIP_METHOD_CANCEL), invite, reason, out, cap);
}
