/* Responses to requests that a run before this one forwarded, and kept no record of: non-INVITE ones, and copies of a
 * 2xx. Our own Via branch on top proves that we sent the request (its MAC covers the Via below), so the response goes
 * where that Via says. RFC 3261 16.11, 18.2.2. */
#include "proxy_p.h"

#include "base/counters.h"

/* Where a response goes by a Via below ours. */
static bool via_flow(struct proxy *p, const struct sip_msg *m, const struct sip_via *v, struct flow *out)
{
	struct slice transport = sip_slice(m, v->transport);
	struct slice host = v->received.len ? sip_slice(m, v->received) : sip_slice(m, v->host);
	enum flow_proto proto;
	struct addr a;
	int l;

	if (!flow_proto_parse(transport, &proto))
		return false;
	uint16_t port = v->port ? v->port : flow_proto_port(proto);
	if (proto == FLOW_UDP && v->rport_value)
		port = v->rport_value;
	if (addr_parse_ip(host, port, &a) < 0 || !addr_is_unicast(&a))
		return false;
	l = self_listener(p, proto, &a, -1);
	if (l < 0)
		return false;
	*out = (struct flow){.proto = (uint8_t)proto, .listener = (uint16_t)l, .remote = a};
	if (proto == FLOW_UDP)
		return true;
	uint32_t ack_timeout;
	return p->lower.connect &&
	       p->lower.connect(p->lower.ctx, out, sip_slice(m, v->host), &ack_timeout) == 0;
}

bool stray_forward(struct proxy *p, const struct sip_msg *m)
{
	struct sip_values it = {0};
	struct sip_via ours, next;
	uint64_t prefix;
	struct slice v;
	struct flow to;

	if (proxy_now(p) - p->started > 64 * (msec_t)p->config->timers.t1)
		return false;
	if (!sip_values_next(m, SIP_HDR_VIA, &it, &v) || sip_via_parse(m, it.span, &ours) < 0 ||
	    !sip_values_next(m, SIP_HDR_VIA, &it, &v) || sip_via_parse(m, it.span, &next) < 0)
		return false;
	if (!token_branch_check(&p->keys, m, &ours, &next, &prefix) || !via_flow(p, m, &next, &to))
		return false;
	long n = reply_strip(p, m, flow_is_reliable(&to));
	if (n < 0)
		return false;
	count(CNT_STRAY_FORWARDED);
	proxy_send(p, &to, slice_make(p->out, (size_t)n));
	return true;
}
