/* Responses that we make, and responses on their way back. */
#include "proxy_p.h"

#include <errno.h>

#include "base/counters.h"

void reply_flow(const struct packet *pk, struct flow *out)
{
	const struct sip_msg *m = pk->msg;
	const struct sip_via *v = &m->via;
	struct addr a;

	*out = pk->flow;
	uint16_t port = v->port ? v->port : flow_proto_port(out->proto);
	if (flow_is_reliable(out)) {
		out->remote.port = port; /* for when the connection is gone */
		return;
	}
	if (v->maddr.len && addr_parse_ip(sip_slice(m, v->maddr), port, &a) == 0 &&
	    a.family == out->remote.family && addr_is_unicast(&a))
		out->remote = a;
	else if (!v->has_rport)
		out->remote.port = port;
}

long reply_build(struct proxy *p, const struct packet *pk, unsigned status, const char *reason,
		 struct slice extra)
{
	struct sip_reply r = {.status = status, .reason = reason, .source = &pk->flow.remote, .extra = extra};
	long n = sip_reply_build(pk->msg, &r, p->out, sizeof(p->out));

	if (n > 0) {
		count_generated(status);
		journal_refused(pk, status, reason);
	}
	return n;
}

void reply_stateless(struct proxy *p, struct packet *pk, unsigned status, const char *reason,
		     struct slice extra)
{
	if (pk->msg->method == SIP_METHOD_ACK) {
		count(CNT_DROP_ACK);
	} else {
		struct flow f;
		long n = reply_build(p, pk, status, reason, extra);
		reply_flow(pk, &f);
		if (n > 0)
			proxy_send(p, &f, slice_make(p->out, (size_t)n));
	}
	packet_destroy(pk);
}

struct slice reply_retry_after(const struct proxy *p, char text[static REPLY_RETRY_AFTER_MAX])
{
	struct buf b;

	buf_init(&b, text, REPLY_RETRY_AFTER_MAX);
	buf_lit(&b, "Retry-After: ");
	buf_u64(&b, config_retry_after(p->config));
	buf_lit(&b, "\r\n");
	return buf_view(&b);
}

void reply_overload(struct proxy *p, struct packet *pk)
{
	char text[REPLY_RETRY_AFTER_MAX];

	reply_stateless(p, pk, 503, NULL, reply_retry_after(p, text));
}

bool reply_passes(const struct sip_msg *m)
{
	struct sip_values it = {0};
	struct slice v;

	if (!sip_values_next(m, SIP_HDR_VIA, &it, &v))
		return false;
	return sip_values_next(m, SIP_HDR_VIA, &it, &v);
}

long reply_strip(struct proxy *p, const struct sip_msg *m, bool stream)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_VIA);
	struct sip_edits e;
	struct sip_values it = {0}, second;
	struct slice v;
	bool unframed = stream && m->content_length < 0;
	char length[FORWARD_LENGTH_MAX];

	/* Nearly always our Via has a line of its own, and there is one below it. */
	if (h && !unframed && h->value_len == m->via.whole.len && h->next >= 0 &&
	    m->len - (h->end - h->off) <= sizeof(p->out)) {
		memcpy(p->out, m->buf, h->off);
		memcpy(p->out + h->off, m->buf + h->end, m->len - h->end);
		return (long)(m->len - (h->end - h->off));
	}
	if (!sip_values_next(m, SIP_HDR_VIA, &it, &v))
		return -EBADMSG;
	second = it;
	if (!sip_values_next(m, SIP_HDR_VIA, &second, &v))
		return -EBADMSG; /* for a request of our own */
	e.count = 0;
	e.full = false;
	sip_edits_remove_value(&e, m, &it);
	if (unframed)
		forward_length(m, &e, length);
	return sip_edits_apply(&e, m, p->out, sizeof(p->out));
}
