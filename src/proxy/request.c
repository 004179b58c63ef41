/* Requests as they come in: matching, validation (RFC 3261 16.3), and which way they take from there. */
#include "proxy_p.h"

#include "base/counters.h"
#include "txn/snapshot.h"

/* RFC 5393 4.2: it has been here, with all that its routing depends on as it is now. */
static bool request_is_loop(const struct proxy *p, const struct sip_msg *m, uint64_t loop)
{
	struct sip_values it = {0};
	struct sip_via via, next;
	struct slice v;
	uint64_t prefix = token_loop_prefix(loop), found;
	bool have = false;
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_VIA);

	if (h->next < 0 && h->value_len == m->via.whole.len)
		return false; /* straight from a user agent */
	while (sip_values_next(m, SIP_HDR_VIA, &it, &v)) {
		bool candidate = have && token_branch_peek(sip_slice(m, via.branch), &found) && found == prefix;
		if (sip_via_parse(m, it.span, &next) < 0)
			return false;
		if (candidate && token_branch_check(&p->keys, m, &via, &next, &found))
			return true;
		via = next;
		have = true;
	}
	return false;
}

/* The Proxy-Require values, as the Unsupported header of a 420 wants them; false: there are none. */
static bool request_unsupported(const struct sip_msg *m, struct buf *b)
{
	struct sip_values it = {0};
	struct slice v;
	bool any = false;

	while (sip_values_next(m, SIP_HDR_PROXY_REQUIRE, &it, &v)) {
		if (v.len == 0)
			continue;
		if (any)
			buf_lit(b, ", ");
		else
			buf_lit(b, "Unsupported: ");
		for (size_t i = 0; i < v.len; i++)
			buf_char(b, v.p[i] == '\r' || v.p[i] == '\n' ? ' ' : v.p[i]);
		any = true;
	}
	if (any)
		buf_lit(b, "\r\n");
	return any;
}

/* RFC 3261 11.2, for an OPTIONS whose Request-URI is the proxy. */
static bool request_is_own_options(const struct proxy *p, const struct sip_msg *m, const struct plan *plan)
{
	return m->method == SIP_METHOD_OPTIONS && plan->route.next.len == 0 && !plan->path &&
	       plan->uri.user.len == 0 && (self_is_uri(p, &plan->uri) || self_is_domain(p, plan->uri.host));
}

/* True if the request may go on; else it has been answered and the packet is gone. */
static bool request_validate(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop)
{
	const struct sip_msg *m = pk->msg;
	char text[1024];
	struct buf b;

	/* 16.3 item 3: nobody else need hear of an OPTIONS that is for us. */
	if (m->max_forwards == 0 && !request_is_own_options(p, m, plan)) {
		count(CNT_REFUSED_HOPS);
		reply_stateless(p, pk, 483, NULL, SLICE_NONE);
		return false;
	}
	if (request_is_loop(p, m, loop)) {
		count(CNT_REFUSED_LOOP);
		reply_stateless(p, pk, 482, NULL, SLICE_NONE);
		return false;
	}
	buf_init(&b, text, sizeof(text));
	if (m->method != SIP_METHOD_CANCEL && m->method != SIP_METHOD_ACK && request_unsupported(m, &b)) {
		reply_stateless(p, pk, 420, NULL, b.full ? SLICE_NONE : buf_view(&b));
		return false;
	}
	return true;
}

/* New work that a full or draining proxy does not take; what belongs to a call in progress always passes. */
static bool request_admit(struct proxy *p, struct packet *pk, const struct plan *plan)
{
	const struct sip_msg *m = pk->msg;
	/* A To tag alone is easily made up; our own route set is not. */
	bool fresh = m->to_tag.len == 0 || (m->method == SIP_METHOD_INVITE && !plan->authorized);

	if (!fresh || m->method == SIP_METHOD_ACK || m->method == SIP_METHOD_CANCEL)
		return true;
	if (atomic_load_explicit(&p->shared->draining, memory_order_relaxed))
		count(CNT_REFUSED_DRAIN);
	else if (m->method == SIP_METHOD_INVITE &&
		 atomic_load_explicit(&p->shared->inflight, memory_order_relaxed) >=
			 p->config->timers.max_inflight)
		count(CNT_REFUSED_INFLIGHT);
	else
		return true;
	reply_overload(p, pk);
	return false;
}

#define OPTIONS_HEADERS                                                                                      \
	"Accept: application/sdp\r\n"                                                                        \
	"Accept-Encoding: identity\r\n"                                                                      \
	"Accept-Language: en\r\n"                                                                            \
	"Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, SUBSCRIBE, NOTIFY, REFER, " \
	"PUBLISH\r\n"

/* RFC 5923: what is to go to the sender may use the connection that it has opened. Over TLS the certificate says who
 * that is. Over TCP only the address does, and so the alias must be that very address: with any other, somebody could
 * draw to himself what is meant for another. */
static void request_alias(struct proxy *p, const struct packet *pk)
{
	const struct sip_msg *m = pk->msg;
	struct slice via = sip_slice(m, m->via.whole), host = sip_slice(m, m->via.host);
	const char *params = memchr(via.p, ';', via.len);
	bool tls = pk->flow.proto == FLOW_TLS;
	uint16_t port = m->via.port ? m->via.port : flow_proto_port(pk->flow.proto);
	struct addr a;

	if (!p->lower.alias || !params ||
	    !sip_param_get(slice_make(params, (size_t)(via.p + via.len - params)), SLICE_LIT("alias"), NULL))
		return;
	if (tls)
		p->lower.alias(p->lower.ctx, &pk->flow, port, host);
	else if (addr_parse_ip(host, port, &a) == 0 && addr_eq_ip(&a, &pk->flow.remote))
		p->lower.alias(p->lower.ctx, &pk->flow, port, SLICE_NONE);
}

static void request_route(struct proxy *p, struct packet *pk)
{
	const struct sip_msg *m = pk->msg;
	uint64_t loop = token_loop_hash(&p->keys, m);
	struct target_set set;
	struct plan plan;
	char text[1024];
	int domain;

	if (pk->flow.conn)
		request_alias(p, pk);
	unsigned status = plan_make(p, pk, &plan, text, sizeof(text));
	if (status) {
		count(CNT_REFUSED_MALFORMED);
		reply_stateless(p, pk, status, NULL, SLICE_NONE);
		return;
	}
	if (!request_validate(p, pk, &plan, loop) || !request_admit(p, pk, &plan))
		return;
	if (request_is_own_options(p, m, &plan)) {
		reply_stateless(p, pk, 200, NULL, SLICE_LIT(OPTIONS_HEADERS));
		return;
	}
	if (m->method == SIP_METHOD_REGISTER && p->reader && !plan.route.next.len &&
	    (domain = self_domain(p, plan.uri.host)) >= 0) {
		register_receive(p, pk, (unsigned)domain);
		return;
	}
	targets_find(p, pk, &plan, loop, &set);
	if (p->digest && !plan.authorized && !plan.path && !auth_caller(p, pk, set.authenticate))
		return;
	if (m->method == SIP_METHOD_BYE)
		dialog_ended(p, m);
	if (set.count == 0) {
		/* To a CANCEL a refusal of its routing means that there is nothing to cancel. */
		if (m->method == SIP_METHOD_CANCEL)
			reply_stateless(p, pk, 481, NULL, SLICE_NONE);
		else
			reply_stateless(p, pk, set.reject, set.reject_reason, SLICE_NONE);
	} else if (m->method == SIP_METHOD_ACK || m->method == SIP_METHOD_CANCEL)
		stateless_forward(p, pk, &plan, loop, &set);
	else
		context_start(p, pk, &plan, loop, &set);
}

/* 16.10: answered here, and sent on along the branches. The 200 needs no transaction: a copy of the CANCEL makes
 * the same one, and cancelling twice is cancelling once. False: no INVITE of ours. */
static bool request_cancel(struct proxy *p, struct packet *pk)
{
	struct txn *t = txn_server_find(p->txns, pk->msg, true);

	if (!t)
		return false;
	struct context *c = txn_owner(t);
	/* The client has come back with another connection since its INVITE: then the 487 goes there too. */
	if (flow_is_reliable(&pk->flow) && txn_flow(t)->conn != pk->flow.conn) {
		struct flow f;
		reply_flow(pk, &f);
		txn_set_flow(t, &f);
	}
	if (c)
		context_keep_reason(c, pk->msg);
	reply_stateless(p, pk, 200, NULL, SLICE_NONE);
	if (c)
		context_cancel(c);
	return true;
}

/* The ACK to a final response that we sent without a transaction (17.1.1.3): it ends here. */
static bool request_is_own_ack(const struct sip_msg *m)
{
	char tag[SIP_REPLY_TAG_LEN];

	if (m->to_tag.len != sizeof(tag))
		return false;
	sip_reply_tag(m, tag);
	return memcmp(m->buf + m->to_tag.off, tag, sizeof(tag)) == 0;
}

void request_receive(struct proxy *p, struct packet *pk)
{
	const struct sip_msg *m = pk->msg;
	struct flow source;
	struct txn *t;

	if (m->error) {
		count(CNT_REFUSED_MALFORMED);
		if (sip_msg_answerable(m))
			reply_stateless(p, pk, m->error, m->error_text, SLICE_NONE);
		else
			packet_destroy(pk);
		return;
	}
	if (m->method == SIP_METHOD_CANCEL) {
		if (request_cancel(p, pk))
			return;
	} else if ((t = txn_server_find(p->txns, m, false)) != NULL) {
		struct context *c = txn_owner(t);
		reply_flow(pk, &source);
		/* An ACK moves it on; a copy may have come another way. */
		if (c && c->kind == OWNER_CONTEXT &&
		    (m->method == SIP_METHOD_ACK ? txn_state(t) == TXN_COMPLETED
						 : source.conn != txn_flow(t)->conn ||
							   !addr_eq(&source.remote, &txn_flow(t)->remote)))
			snapshot_touch(c);
		txn_server_receive(t, m, &source);
		packet_destroy(pk);
		return;
	} else if (m->method == SIP_METHOD_ACK && request_is_own_ack(m)) {
		packet_destroy(pk);
		return;
	}
	request_route(p, pk);
}
