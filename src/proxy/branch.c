/* One branch of a response context: where it goes, its client transaction, Timer C, its CANCEL. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"

#define BRANCH_DATAGRAM_MAX 1300 /* bytes: RFC 3261 18.1.1, where the path's MTU is not known */

static void branch_timer(struct timer *t, msec_t now);

struct branch *branch_make(struct context *c)
{
	struct branch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->kind = OWNER_BRANCH;
	b->context = c;
	timer_init(&b->timer, branch_timer);
	return b;
}

static struct branch *branch_create(struct context *c, unsigned target, unsigned breadth)
{
	struct branch *b = branch_make(c);

	if (!b)
		return NULL;
	b->target = target;
	b->breadth = (uint16_t)breadth;
	b->index = c->next_index++;
	b->resumed = 1;
	b->next = c->branches;
	c->branches = b;
	return b;
}

static void branch_set_timer(struct branch *b, uint32_t ms)
{
	struct proxy *p = b->context->proxy;
	timer_set(p->wheel, &b->timer, proxy_now(p) + ms);
}

static struct forward_args branch_args(const struct branch *b)
{
	const struct context *c = b->context;

	return (struct forward_args){.m = c->pk->msg,
				     .source = &c->pk->flow,
				     .route = &c->route,
				     .target = &c->target[b->target],
				     .breadth = b->breadth,
				     .loop = c->loop,
				     .index = b->index};
}

/* Starts the client transaction with the `n` bytes in p->out. 0, or the status that the branch fails with. */
static unsigned branch_begin(struct branch *b, long n, const char *branch, const struct flow *out,
			     uint32_t ack_timeout)
{
	struct context *c = b->context;
	struct proxy *p = c->proxy;
	const struct sip_msg *m = c->pk->msg;

	if (n < 0)
		return 513; /* what we add makes it larger than a message can be */
	struct txn_client_args args = {.bytes = slice_make(p->out, (size_t)n),
				       .branch = slice_make(branch, TOKEN_BRANCH_LEN),
				       .method = m->method,
				       .method_name = sip_slice(m, m->method_name),
				       .flow = *out,
				       .ack_timeout = ack_timeout,
				       .owner = b};
	if (txn_client_create(p->txns, &args, &b->client) < 0) {
		b->client = NULL;
		count(CNT_REFUSED_TRANSACTIONS);
		c->overload = 1;
		return 503;
	}
	count(CNT_BRANCHES);
	journal_branch_sent(b);
	if (c->invite)
		branch_set_timer(b, p->config->timers.c);
	return 0;
}

/* RFC 3261 18.1.1: what is too large for a datagram goes over TCP, unless its URI asked for UDP. The same hop over UDP
 * then comes next, for when no connection can be made. False: it goes over UDP at once. */
static bool branch_prefer_tcp(struct branch *b, const struct forward_args *a, const struct resolver_hop *hop,
			      struct flow *out, uint32_t *ack_timeout)
{
	struct proxy *p = b->context->proxy;
	struct resolver_hop tcp = {.proto = FLOW_TCP, .addr = hop->addr};
	struct sip_uri uri;
	struct flow found;
	uint32_t timeout;

	if (b->udp_only || !(p->protos & 1u << FLOW_TCP) || forward_hop_uri(a->route, a->target, &uri) < 0 ||
	    sip_param_get(uri.params, SLICE_LIT("transport"), NULL))
		return false;
	if (!b->hop) {
		b->hop = malloc(sizeof(b->hop[0]));
		if (!b->hop)
			return false;
		b->hop[0] = *hop;
		b->hop_count = b->hop_next = 1;
	}
	if (forward_flow(p, a, &tcp, &found, &timeout) < 0)
		return false;
	*out = found;
	*ack_timeout = timeout;
	b->hop_next--;
	b->udp_next = 1;
	return true;
}

/* Sends the request to one hop. 0, or the status that the branch fails with. */
static unsigned branch_send(struct branch *b, const struct resolver_hop *hop)
{
	struct proxy *p = b->context->proxy;
	struct forward_args a = branch_args(b);
	char branch[TOKEN_BRANCH_LEN];
	uint32_t ack_timeout;
	struct flow out;

	int err = forward_flow(p, &a, hop, &out, &ack_timeout);
	if (err < 0) {
		journal_branch_failed(b, CNT_BRANCH_TRANSPORT);
		return err == -EPROTO ? 480 : 503;
	}
	a.out = &out;
	long n = forward_build(p, &a, branch);
	if (n > BRANCH_DATAGRAM_MAX && out.proto == FLOW_UDP &&
	    branch_prefer_tcp(b, &a, hop, &out, &ack_timeout))
		n = forward_build(p, &a, branch);
	return branch_begin(b, n, branch, &out, ack_timeout);
}

/* The same over the flow that the target came with. */
static unsigned branch_send_flow(struct branch *b)
{
	struct proxy *p = b->context->proxy;
	struct forward_args a = branch_args(b);
	char branch[TOKEN_BRANCH_LEN];
	uint32_t ack_timeout;
	struct flow out, found;

	int err = forward_attach(p, &a, &out, &ack_timeout);
	/* A phone that has come back since, over another. */
	if (err == -ENOTCONN && location_flow(p, a.target, &found)) {
		b->context->target[b->target].flow = found;
		err = forward_attach(p, &a, &out, &ack_timeout);
	}
	if (err < 0)
		return err == -EPROTO ? 480 : 430;
	a.out = &out;
	return branch_begin(b, forward_build(p, &a, branch), branch, &out, ack_timeout);
}

/* Tries hops until one takes the request. */
static unsigned branch_send_any(struct branch *b)
{
	unsigned status = 503;

	while (b->hop_next < b->hop_count) {
		b->udp_only = b->udp_next;
		b->udp_next = 0;
		status = branch_send(b, &b->hop[b->hop_next++]);
		if (status == 0)
			return 0;
	}
	return status;
}

/* Where the target leads by its URIs. 0: sent, or a name is being looked up; else the status that the branch fails
 * with. */
static unsigned branch_find(struct branch *b)
{
	struct context *c = b->context;
	struct proxy *p = c->proxy;
	struct resolver_hop hop;
	struct sip_uri uri;

	if (forward_hop_uri(&c->route, &c->target[b->target], &uri) < 0)
		return 400;
	int err = resolver_literal(&uri, p->protos, &hop);
	if (err == 0)
		return branch_send(b, &hop);
	if (err != -EAGAIN) {
		journal_branch_failed(b, CNT_BRANCH_TRANSPORT);
		if (err == -EPROTONOSUPPORT && uri.scheme == SIP_SCHEME_SIPS)
			return 480; /* as in branch_send: without TLS it is not reachable (RFC 5630) */
		return err == -EINVAL ? 416 : 503;
	}
	pending_add(p, &b->pending, PENDING_BRANCH);
	if (p->lower.resolve(p->lower.ctx, &uri, b->pending.ref) < 0) {
		pending_remove(p, &b->pending);
		journal_branch_failed(b, CNT_BRANCH_DNS);
		return 503;
	}
	return 0;
}

/* It did not get as far as to be sent. Behind a dead flow that says less than the flow's own status. */
static void branch_fail(struct branch *b, unsigned status)
{
	if (status)
		context_branch_done(b, b->flow_failed ? 430 : status, NULL);
}

void branch_start(struct context *c, unsigned target, unsigned breadth)
{
	struct branch *b = branch_create(c, target, breadth);

	if (b) /* else context_advance sees a target without a branch and goes on */
		branch_go(b);
}

void branch_go(struct branch *b)
{
	const struct target *t = &b->context->target[b->target];
	unsigned status = 430;

	if (t->has_flow) {
		status = branch_send_flow(b);
		b->flow_failed = status == 430;
		if (b->flow_failed)
			journal_branch_failed(b, CNT_BRANCH_CONN_LOST);
	}
	if (!t->has_flow || (b->flow_failed && t->fallback))
		status = branch_find(b);
	branch_fail(b, status);
}

void branch_resolved(struct branch *b, const struct resolver_answer *a)
{
	unsigned status = 0;

	if (b->done)
		return;
	if (a->error) {
		journal_branch_failed(b, CNT_BRANCH_DNS);
		/* 16.9: what cannot be reached is a 503; a name that does not exist leads nowhere, 404. */
		branch_fail(b, a->error == -ENOENT ? 404 : 503);
		return;
	}
	if (a->hop_count > 1) {
		b->hop = malloc(a->hop_count * sizeof(b->hop[0]));
		if (b->hop) {
			memcpy(b->hop, a->hop, a->hop_count * sizeof(b->hop[0]));
			b->hop_count = a->hop_count;
			b->hop_next = 0;
			status = branch_send_any(b);
			branch_fail(b, status);
			return;
		}
	}
	branch_fail(b, branch_send(b, &a->hop[0]));
}

/* RFC 3263 4.3: the next address of the same target, as a branch of its own (another branch parameter). The failed one
 * leaves no response behind. */
void branch_next_hop(struct branch *b)
{
	struct context *c = b->context;
	struct branch *n = branch_create(c, b->target, b->breadth);

	if (!n) {
		b->hop_next = b->hop_count; /* or it would come back here */
		context_branch_done(b, 503, NULL);
		return;
	}
	n->hop = b->hop;
	n->hop_count = b->hop_count;
	n->hop_next = b->hop_next;
	n->udp_next = b->udp_next;
	b->hop = NULL;
	b->hop_count = b->hop_next = 0;
	b->udp_next = 0;
	b->done = 1;
	branch_stop(c->proxy, b);
	unsigned status = branch_send_any(n);
	if (status)
		context_branch_done(n, status, NULL);
}

/* RFC 3326: a phone that knows why does not list a missed call. The caller's own reason goes on as it is. */
static struct slice cancel_reason(const struct context *c, char text[static 64])
{
	if (c->cancelled)
		return c->reason ? slice_str(c->reason) : SLICE_NONE;
	if (c->best >= 600)
		return slice_make(text, (size_t)snprintf(text, 64, "SIP;cause=%u", c->best));
	return c->final_sent ? SLICE_LIT("SIP;cause=200;text=\"Call completed elsewhere\"") : SLICE_NONE;
}

static void cancel_send(struct branch *b)
{
	struct proxy *p = b->context->proxy;
	struct slice sent = txn_request_bytes(b->client);

	if (sip_msg_parse(&p->room, sent.p, sent.len, false) < 0)
		return;
	char text[64];
	long n = sip_cancel_build(&p->room.msg, cancel_reason(b->context, text), p->out, sizeof(p->out));
	struct txn *t;
	struct txn_client_args args = {.bytes = slice_make(p->out, n > 0 ? (size_t)n : 0),
				       .branch = sip_slice(&p->room.msg, p->room.msg.via.branch),
				       .method = SIP_METHOD_CANCEL,
				       .method_name = SLICE_LIT("CANCEL"),
				       .flow = *txn_flow(b->client)};
	if (n > 0 && txn_client_create(p->txns, &args, &t) < 0)
		proxy_send(p, &args.flow, args.bytes); /* once is better than not at all */
}

void branch_cancel_again(struct branch *b)
{
	if (b->client && b->cancel_sent && !b->done)
		cancel_send(b);
}

/* 9.1: a CANCEL follows its INVITE's way, with the same branch; it waits for a provisional response. */
void branch_cancel(struct branch *b)
{
	struct context *c = b->context;
	struct proxy *p = c->proxy;

	if (b->done || b->cancel_sent || !c->invite)
		return;
	if (!b->client) { /* its name is still being looked up: nobody has heard of it */
		pending_remove(p, &b->pending);
		context_branch_done(b, 487, NULL);
		return;
	}
	if (!b->provisional) {
		b->cancel_wanted = 1;
		return;
	}
	b->cancel_wanted = 0;
	b->cancel_sent = 1;
	if (b->resumed)
		cancel_send(b);
	else /* its connection was of the run before: the CANCEL goes when there is another */
		timer_set(p->wheel, &c->trying, proxy_now(p));
	branch_set_timer(b, 64 * p->config->timers.t1);
}

void branch_provisional(struct branch *b)
{
	b->provisional = 1;
	if (b->cancel_wanted)
		branch_cancel(b);
}

void branch_heard(struct branch *b)
{
	if (!b->udp_next)
		return;
	b->udp_next = 0;
	b->hop_next++;
}

void branch_stop(struct proxy *p, struct branch *b)
{
	timer_stop(p->wheel, &b->timer);
	pending_remove(p, &b->pending);
}

/* Timer C (16.8), or 64*T1 after a CANCEL without a final response (9.1). */
static void branch_timer(struct timer *t, msec_t now)
{
	struct branch *b = container_of(t, struct branch, timer);
	struct context *c = b->context;

	(void)now;
	if (b->done)
		return;
	if (!b->cancel_sent) {
		journal_branch_failed(b, CNT_BRANCH_TIMER_C);
		if (b->provisional) {
			branch_cancel(b);
			return;
		}
	}
	struct txn *client = b->client;
	unsigned status = b->cancel_sent && c->cancelled ? 487 : 408;
	b->client = NULL;
	if (client) {
		txn_set_owner(client, NULL);
		txn_client_abandon(client);
	}
	context_branch_done(b, status, NULL);
}
