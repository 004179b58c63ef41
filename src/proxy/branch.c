/* One branch of a response context: where it goes, its client transaction, Timer C, its CANCEL. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"

static void branch_timer(struct timer *t, msec_t now);

static struct branch *branch_create(struct context *c, unsigned target, unsigned breadth)
{
	struct branch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->kind = OWNER_BRANCH;
	b->context = c;
	b->target = target;
	b->breadth = (uint16_t)breadth;
	b->index = c->next_index++;
	timer_init(&b->timer, branch_timer);
	b->next = c->branches;
	c->branches = b;
	return b;
}

static void branch_set_timer(struct branch *b, uint32_t ms)
{
	struct proxy *p = b->context->proxy;
	timer_set(p->wheel, &b->timer, proxy_now(p) + ms);
}

/* Sends the request to one hop. 0, or the status that the branch fails with. */
static unsigned branch_send(struct branch *b, const struct resolver_hop *hop)
{
	struct context *c = b->context;
	struct proxy *p = c->proxy;
	struct packet *pk = c->pk;
	char branch[TOKEN_BRANCH_LEN];
	struct flow out;

	if (forward_flow(p, hop, &c->route, &pk->flow, &out) < 0)
		return 503;
	struct forward_args a = {.m = pk->msg,
				 .source = &pk->flow,
				 .route = &c->route,
				 .target = &c->target[b->target],
				 .out = &out,
				 .breadth = b->breadth,
				 .loop = c->loop,
				 .index = b->index};
	long n = forward_build(p, &a, branch);
	if (n < 0)
		return 513; /* what we add makes it larger than a message can be */
	struct txn_client_args args = {.bytes = slice_make(p->out, (size_t)n),
				       .branch = slice_make(branch, sizeof(branch)),
				       .method = pk->msg->method,
				       .method_name = sip_slice(pk->msg, pk->msg->method_name),
				       .flow = out,
				       .owner = b};
	if (txn_client_create(p->txns, &args, &b->client) < 0) {
		b->client = NULL;
		count(CNT_REFUSED_TRANSACTIONS);
		c->overload = 1;
		return 503;
	}
	count(CNT_BRANCHES);
	if (c->invite)
		branch_set_timer(b, p->config->timers.c);
	return 0;
}

/* Tries hops until one takes the request. */
static unsigned branch_send_any(struct branch *b)
{
	unsigned status = 503;

	while (b->hop_next < b->hop_count) {
		status = branch_send(b, &b->hop[b->hop_next++]);
		if (status == 0)
			return 0;
		count(CNT_BRANCH_ICMP);
	}
	return status;
}

void branch_start(struct context *c, unsigned target, unsigned breadth)
{
	struct proxy *p = c->proxy;
	struct branch *b = branch_create(c, target, breadth);
	struct resolver_hop hop;
	struct sip_uri uri;
	unsigned status = 0;

	if (!b)
		return; /* context_advance sees a target without a branch and goes on */
	if (forward_hop_uri(&c->route, &c->target[target], &uri) < 0) {
		context_branch_done(b, 400, NULL);
		return;
	}
	int err = resolver_literal(&uri, p->protos, &hop);
	if (err == 0) {
		status = branch_send(b, &hop);
		if (status == 503)
			count(CNT_BRANCH_ICMP);
	} else if (err == -EAGAIN) {
		pending_add(p, &b->pending, PENDING_BRANCH);
		if (p->lower.resolve(p->lower.ctx, &uri, b->pending.ref) < 0) {
			pending_remove(p, &b->pending);
			count(CNT_BRANCH_DNS);
			status = 503;
		}
	} else {
		count(CNT_BRANCH_ICMP);
		status = err == -EINVAL ? 416 : 503;
	}
	if (status)
		context_branch_done(b, status, NULL);
}

void branch_resolved(struct branch *b, const struct resolver_answer *a)
{
	unsigned status = 0;

	if (b->done)
		return;
	if (a->error) {
		count(CNT_BRANCH_DNS);
		/* 16.9: what cannot be reached is a 503; a name that does not exist leads nowhere, 404. */
		context_branch_done(b, a->error == -ENOENT ? 404 : 503, NULL);
		return;
	}
	if (a->hop_count > 1) {
		b->hop = malloc(a->hop_count * sizeof(b->hop[0]));
		if (b->hop) {
			memcpy(b->hop, a->hop, a->hop_count * sizeof(b->hop[0]));
			b->hop_count = a->hop_count;
			b->hop_next = 0;
			status = branch_send_any(b);
		}
	}
	if (!b->hop)
		status = branch_send(b, &a->hop[0]);
	if (status)
		context_branch_done(b, status, NULL);
}

/* RFC 3263 4.3: the next address of the same target, as a branch of its own (another branch parameter). The failed one leaves no
 * response behind. */
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
	b->hop = NULL;
	b->hop_count = b->hop_next = 0;
	b->done = 1;
	branch_stop(c->proxy, b);
	unsigned status = branch_send_any(n);
	if (status)
		context_branch_done(n, status, NULL);
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
	struct slice sent = txn_request_bytes(b->client);
	if (sip_msg_parse(&p->room, sent.p, sent.len, false) == 0) {
		long n = sip_cancel_build(&p->room.msg, p->out, sizeof(p->out));
		struct txn *t;
		struct txn_client_args args = {.bytes = slice_make(p->out, n > 0 ? (size_t)n : 0),
					       .branch = sip_slice(&p->room.msg, p->room.msg.via.branch),
					       .method = SIP_METHOD_CANCEL,
					       .method_name = SLICE_LIT("CANCEL"),
					       .flow = *txn_flow(b->client)};
		if (n > 0 && txn_client_create(p->txns, &args, &t) < 0)
			p->lower.send(p->lower.ctx, &args.flow,
				      args.bytes); /* once is better than not at all */
	}
	branch_set_timer(b, 64 * p->config->timers.t1);
}

void branch_provisional(struct branch *b)
{
	b->provisional = 1;
	if (b->cancel_wanted)
		branch_cancel(b);
}

void branch_stop(struct proxy *p, struct branch *b)
{
	timer_stop(p->wheel, &b->timer);
	pending_remove(p, &b->pending);
}

/* Timer C (16.8), or 64*T1 after a CANCEL without a final response (9.1). */
static void branch_timer(struct timer *t, msec_t now)
{
	struct branch *b = (struct branch *)((char *)t - offsetof(struct branch, timer));
	struct context *c = b->context;

	(void)now;
	if (b->done)
		return;
	if (!b->cancel_sent) {
		count(CNT_BRANCH_TIMER_C);
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
