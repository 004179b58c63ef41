/* Response contexts: RFC 3261 16.7. A context lives from a request's acceptance to the end of its last transaction. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"

static void context_enter(struct context *c)
{
	c->busy++;
}

static bool context_pending(const struct context *c)
{
	for (const struct branch *b = c->branches; b; b = b->next)
		if (!b->done)
			return true;
	return false;
}

/* Without memory its record finds no worker after a restart: the call is over then. */
static void context_keep_call_id(struct context *c, struct slice id)
{
	free(c->call_id);
	c->call_id = malloc(id.len ? id.len : 1);
	c->call_id_len = c->call_id ? (unsigned)id.len : 0;
	if (c->call_id_len)
		memcpy(c->call_id, id.p, id.len);
}

/* Once nothing more will be built from it the request's bytes go: most of a call's memory. */
static void context_shed(struct context *c)
{
	if (!c->final_sent || context_pending(c))
		return;
	if (c->pk && c->proxy->calls && c->invite)
		context_keep_call_id(c, sip_slice(c->pk->msg, c->pk->msg->call_id));
	if (c->pk) {
		packet_destroy(c->pk);
		c->pk = NULL;
	}
	free(c->reason);
	c->reason = NULL;
	free(c->target);
	c->target = NULL;
	free(c->best_bytes);
	c->best_bytes = NULL;
	free(c->challenges.p);
	c->challenges = (struct buf){0};
}

void context_destroy(struct context *c)
{
	struct proxy *p = c->proxy;

	snapshot_forget(c);
	for (struct branch *b = c->branches, *next; b; b = next) {
		next = b->next;
		branch_stop(p, b);
		if (b->client)
			txn_set_owner(b->client, NULL);
		free(b->hop);
		free(b);
	}
	if (c->server)
		txn_set_owner(c->server, NULL);
	if (c->counted) {
		atomic_fetch_sub_explicit(&p->shared->inflight, 1, memory_order_relaxed);
		count_sub(CNT_INFLIGHT, 1);
	}
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	p->contexts--;
	if (c->pk)
		packet_destroy(c->pk);
	timer_stop(p->wheel, &c->trying);
	free(c->target);
	free(c->reason);
	free(c->best_bytes);
	free(c->challenges.p);
	free(c->call_id);
	free(c);
}

/* Where nothing has changed but what a restart sees by the clock. */
static void context_leave_quietly(struct context *c)
{
	if (--c->busy)
		return;
	context_shed(c);
	if (context_pending(c))
		return;
	if (c->final_sent && !c->invite) {
		/* Its transactions linger for copies, and have nothing more to tell. An INVITE's may bring another
		 * 2xx. */
		context_destroy(c);
		return;
	}
	for (const struct branch *b = c->branches; b; b = b->next)
		if (b->client)
			return;
	if (c->server)
		return;
	context_destroy(c);
}

static void context_leave(struct context *c)
{
	snapshot_touch(c);
	context_leave_quietly(c);
}

/* --- answering the caller --- */

void context_finished(struct context *c)
{
	c->final_sent = 1;
	if (!c->recovered) /* whose branches may still have to be looked after */
		timer_stop(c->proxy->wheel, &c->trying);
	if (c->counted) {
		c->counted = 0;
		atomic_fetch_sub_explicit(&c->proxy->shared->inflight, 1, memory_order_relaxed);
		count_sub(CNT_INFLIGHT, 1);
	}
}

/* A retransmission may have come over another connection since. */
const struct flow *context_source(const struct context *c)
{
	return c->server ? txn_flow(c->server) : &c->source;
}

void context_respond(struct context *c, unsigned status, struct slice bytes)
{
	int rc = c->server ? txn_server_respond(c->server, status, bytes) : -EALREADY;

	/* 16.7 step 5: a 2xx to an INVITE passes whatever was answered before. */
	if (rc == -EALREADY && c->invite && status >= 200 && status < 300)
		proxy_send(c->proxy, context_source(c), bytes);
}

void context_respond_local(struct context *c, unsigned status, struct slice extra)
{
	long n = c->pk ? reply_build(c->proxy, c->pk, status, NULL, extra) : -1;
	if (n > 0)
		context_respond(c, status, slice_make(c->proxy->out, (size_t)n));
}

static void context_forward(struct context *c, const struct sip_msg *m)
{
	long n = reply_strip(c->proxy, m, flow_is_reliable(context_source(c)));
	if (n > 0)
		context_respond(c, m->status, slice_make(c->proxy->out, (size_t)n));
}

/* A 2xx is on its way: a dialog begins, once, or goes on. */
static void branch_confirmed(struct branch *b, const struct sip_msg *m)
{
	struct context *c = b->context;
	uint64_t bit = UINT64_C(1) << hash_slice(sip_slice(m, m->to_tag)) % 64;

	const struct sip_msg *request = c->pk ? c->pk->msg : NULL;

	if (!c->invite) {
		if (m->method == SIP_METHOD_UPDATE)
			dialog_confirmed(c->proxy, m, request, true);
	} else if (!(b->confirmed & bit)) { /* of 64 forks one may go uncounted */
		b->confirmed |= bit;
		dialog_confirmed(c->proxy, m, request, false);
	}
}

/* --- going on --- */

static void cancel_others(struct context *c, const struct branch *but)
{
	c->target_next = c->target_count;
	for (struct branch *b = c->branches; b; b = b->next)
		if (b != but)
			branch_cancel(b);
}

static void target_start(struct context *c, unsigned i)
{
	unsigned share = breadth_share(c->pk->msg, c->target, c->target_count, i, c->failover, c->breadth);

	c->target[i].started = true;
	branch_start(c, i, share);
}

/* Another flow to the instance whose flow has failed (RFC 5626 5.3). False: none is left. */
static bool alternate_start(struct context *c, const struct branch *b)
{
	const struct target *was = c->target ? &c->target[b->target] : NULL;

	for (unsigned i = 0; was && was->instance.len && i < c->target_count; i++) {
		struct target *t = &c->target[i];
		if (!t->alternate || t->started || !slice_eq(t->instance, was->instance))
			continue;
		t->started = true;
		branch_start(c, i, b->breadth);
		return true;
	}
	return false;
}

/* Starts what is to be started, and answers when nothing is left. */
static void context_advance(struct context *c)
{
	while (!c->final_sent && !c->cancelled && c->target_next < c->target_count) {
		const struct target *t = &c->target[c->target_next];
		bool first = c->target_next == 0 || t[-1].group != t->group;
		if (first && context_pending(c))
			return;
		unsigned i = c->target_next++;
		if (!t->alternate)
			target_start(c, i);
	}
	if (!c->final_sent && !context_pending(c))
		best_send(c);
}

/* Whether the call might succeed by another way to the same place: it was not reached, did not answer in time, or
 * failed. Not when it says that somebody is busy or unknown. */
static bool target_failed(const struct branch *b, unsigned status, const struct sip_msg *m)
{
	if (!m || b->cancel_sent) /* Timer C's CANCEL; of the caller's nothing more is tried anyway */
		return true;
	return status == 408 || status == 430 || (status >= 500 && status < 600);
}

static bool hop_failed(unsigned status, const struct sip_msg *m)
{
	/* RFC 3263 4.3: a 503, a transport error, or no answer at all. */
	return status == 503 || (!m && status == 408);
}

/* RFC 4320 4.2: when Timer F has fired here, so has the caller's. Nobody waits for what another way might bring. */
static bool caller_gave_up(const struct context *c, unsigned status, const struct sip_msg *m)
{
	return !c->invite && !m && status == 408;
}

/* Whether another way to the branch's target may be tried: nobody has given up, and nobody has refused for all (16.7
 * step 5). */
static bool branch_may_go_on(const struct branch *b)
{
	const struct context *c = b->context;

	return !c->cancelled && !c->final_sent && !b->cancel_wanted && c->best < 600;
}

/* The same place by another way: the next hop of its name, or another flow to its instance. False: there is none. */
static bool branch_other_way(struct context *c, struct branch *b, unsigned status, const struct sip_msg *m)
{
	if (!branch_may_go_on(b))
		return false;
	if (hop_failed(status, m) && b->hop_next < b->hop_count) {
		branch_next_hop(b);
		return true;
	}
	return (status == 430 || hop_failed(status, m)) && alternate_start(c, b);
}

static void branch_accepted(struct context *c, struct branch *b, const struct sip_msg *m)
{
	if (c->invite || !c->final_sent) {
		branch_confirmed(b, m);
		context_forward(c, m);
		context_finished(c);
	}
	cancel_others(c, b);
}

static void branch_refused(struct context *c, struct branch *b, unsigned status, const struct sip_msg *m)
{
	if (c->failover && !c->parallel && !target_failed(b, status, m))
		c->target_next = c->target_count;
	bool last = c->best == 0 && !context_pending(c) &&
		    (c->target_next >= c->target_count || c->cancelled || status >= 600);
	if (last && m && status != 503) {
		/* The usual case, one branch: on its way without being kept. */
		context_forward(c, m);
		context_finished(c);
	} else
		best_offer(c, b, status, m);
	if (status >= 600)
		cancel_others(c, b); /* may find that all are done, and send the best */
}

void context_branch_done(struct branch *b, unsigned status, const struct sip_msg *m)
{
	struct context *c = b->context;

	context_enter(c);
	b->done = 1;
	b->status = (uint16_t)status;
	branch_stop(c->proxy, b);
	bool over = caller_gave_up(c, status, m);
	if (over)
		c->target_next = c->target_count;
	if (over || !branch_other_way(c, b, status, m)) {
		/* The phone was not reached over this flow: not its answer, and nothing that the caller would
		 * understand. */
		if (status == 430 && m && c->target && c->target[b->target].aor.len)
			m = NULL;
		if (m && status < 300)
			branch_accepted(c, b, m);
		else if (!c->final_sent)
			branch_refused(c, b, status, m);
	}
	context_advance(c);
	context_leave(c);
}

/* Given up as not acknowledged, and there after all: it counts as if it had never been gone, beside those that were
 * started instead. */
static void branch_revive(struct branch *b)
{
	struct context *c = b->context;

	b->unacked = b->done = 0;
	if (c->invite)
		timer_set(c->proxy->wheel, &b->timer, proxy_now(c->proxy) + c->proxy->config->timers.c);
}

void context_response(struct branch *b, const struct sip_msg *m)
{
	struct context *c = b->context;

	context_enter(c);
	branch_heard(b);
	if (b->unacked && (m->status < 300 || !c->final_sent))
		branch_revive(b);
	if (m->status < 200) {
		if (!b->done) {
			if (m->status > 100 && c->invite && !b->cancel_sent)
				timer_set(c->proxy->wheel, &b->timer,
					  proxy_now(c->proxy) + c->proxy->config->timers.c);
			branch_provisional(b);
		}
		/* 16.7 step 5: all but 100; none once the caller has its final response. */
		if (m->status > 100 && !c->final_sent)
			context_forward(c, m);
		if (c->final_sent || c->cancelled)
			branch_cancel(b); /* one that had been given up: what rings there is nobody's call */
	} else if (!b->done && !reply_passes(m)) {
		/* It is over here, and the caller has to hear of that; but there is nothing to pass on. */
		count(CNT_DROP_MALFORMED_RESPONSE);
		context_branch_done(b, 502, NULL);
	} else if (!b->done) {
		journal_branch_answered(b, m->status);
		context_branch_done(b, m->status, m);
	} else if (m->status < 300 && c->invite) {
		branch_confirmed(b, m);
		context_forward(c, m); /* a 2xx again: the caller's ACK is yet to come (RFC 6026) */
	}
	context_leave(c);
}

/* A server behind us asked for this one flow: it is to hear that this has failed, and not we (RFC 5626 5.3.1). */
static bool is_path(const struct branch *b)
{
	const struct target *t = b->context->target ? &b->context->target[b->target] : NULL;

	return t && t->has_flow && !t->fallback && !t->aor.len;
}

void context_client_failed(struct branch *b, unsigned status, enum counter_id cause)
{
	struct context *c = b->context;

	if (b->done)
		return;
	journal_branch_failed(b, cause);
	if (cause == CNT_BRANCH_CONN_LOST && is_path(b))
		status = 430;
	if (status == 408)
		branch_heard(b); /* it was sent, and for long enough */
	context_branch_done(b, c->cancelled && status == 408 ? 487 : status, NULL);
}

void context_client_unacked(struct branch *b)
{
	struct context *c = b->context;

	if (b->done)
		return;
	journal_branch_failed(b, CNT_BRANCH_ACK_TIMEOUT);
	b->unacked = 1;
	context_branch_done(b, c->cancelled ? 487 : 503, NULL);
}

void context_resolved(struct branch *b, const struct resolver_answer *a)
{
	struct context *c = b->context;

	context_enter(c);
	branch_resolved(b, a);
	context_leave(c);
}

void context_server_gone(struct context *c)
{
	context_enter(c);
	c->server = NULL;
	context_leave_quietly(c);
}

void context_client_gone(struct branch *b)
{
	struct context *c = b->context;

	context_enter(c);
	b->client = NULL;
	/* A client transaction that ends without having told why (there is no such way but a lack of memory). */
	if (!b->done && b->pending.ref == 0)
		context_branch_done(b, 503, NULL);
	context_leave_quietly(c);
}

void context_keep_reason(struct context *c, const struct sip_msg *cancel)
{
	const struct sip_hdr *h = sip_msg_hdr(cancel, SIP_HDR_REASON);
	struct slice v = h ? sip_hdr_value(cancel, h) : SLICE_NONE;

	if (c->final_sent || c->cancelled || !v.len || v.len > CONTEXT_REASON_MAX || memchr(v.p, 0, v.len))
		return;
	free(c->reason);
	c->reason = strndup(v.p, v.len); /* without memory it goes without */
}

void context_cancel(struct context *c)
{
	if (c->final_sent || c->cancelled)
		return;
	context_enter(c);
	c->cancelled = 1;
	cancel_others(c, NULL);
	context_advance(c);
	context_leave(c);
}

/* --- the beginning --- */

/* RFC 4320 4.1: by now the caller sends its request again only every T2; a 100 stops even that. */
static void context_trying(struct timer *t, msec_t now)
{
	struct context *c = container_of(t, struct context, trying);

	(void)now;
	context_enter(c);
	if (c->recovered)
		recover_run(c);
	else if (!c->final_sent)
		context_respond_local(c, 100, SLICE_NONE);
	context_leave_quietly(c);
}

/* Targets move into one block of the context's; what points into the request stays there. */
static bool context_take_targets(struct context *c, const struct target_set *set)
{
	const char *lo = c->pk->msg->buf, *hi = lo + c->pk->msg->len;
	size_t size = set->count * sizeof(set->target[0]);

	for (unsigned i = 0; i < set->count; i++)
		size += set->target[i].ruri.len + set->target[i].route.len + set->target[i].aor.len +
			set->target[i].instance.len;
	c->target = malloc(size ? size : 1);
	if (!c->target)
		return false;
	char *at = (char *)(c->target + set->count);
	for (unsigned i = 0; i < set->count; i++) {
		struct slice *s[4] = {&c->target[i].ruri, &c->target[i].route, &c->target[i].aor,
				      &c->target[i].instance};
		c->target[i] = set->target[i];
		for (int j = 0; j < 4; j++) {
			if (s[j]->len == 0 || (s[j]->p >= lo && s[j]->p < hi))
				continue;
			memcpy(at, s[j]->p, s[j]->len);
			s[j]->p = at;
			at += s[j]->len;
		}
	}
	c->target_count = set->count;
	return true;
}

static void context_refuse(struct proxy *p, struct packet *pk)
{
	count(CNT_REFUSED_TRANSACTIONS);
	reply_overload(p, pk);
}

/* In its proxy, with nothing else set. */
static void context_place(struct context *c, struct proxy *p)
{
	c->kind = OWNER_CONTEXT;
	c->proxy = p;
	c->next = p->all;
	c->prev = &p->all;
	if (p->all)
		p->all->prev = &c->next;
	p->all = c;
	p->contexts++;
	timer_init(&c->trying, context_trying);
}

void context_count(struct context *c)
{
	c->counted = 1;
	atomic_fetch_add_explicit(&c->proxy->shared->inflight, 1, memory_order_relaxed);
	count(CNT_INFLIGHT);
}

struct context *context_make(struct proxy *p, struct slice call_id)
{
	struct context *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	context_place(c, p);
	c->recovered = 1;
	context_keep_call_id(c, call_id);
	return c;
}

void context_discard(struct context *c)
{
	struct txn *server = c->server;

	for (struct branch *b = c->branches; b; b = b->next)
		if (b->client) {
			txn_set_owner(b->client, NULL);
			txn_client_abandon(b->client);
			b->client = NULL;
		}
	if (server) {
		c->server = NULL;
		txn_set_owner(server, NULL);
		txn_server_abandon(server);
	}
	context_destroy(c);
}

void context_start(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		   const struct target_set *set)
{
	const struct sip_msg *m = pk->msg;
	const struct txn_timers timers = proxy_txn_timers(p->config);
	unsigned breadth = breadth_of(m);
	struct context *c;
	struct flow source;

	if (!breadth_enough(m, set, breadth)) {
		count(CNT_REFUSED_BREADTH);
		reply_stateless(p, pk, 440, "Max-Breadth Exceeded", SLICE_NONE);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		context_refuse(p, pk);
		return;
	}
	reply_flow(pk, &source);
	if (txn_server_create(p->txns, m, &source, c, pk->inflight, &c->server) < 0) {
		free(c);
		context_refuse(p, pk);
		return;
	}
	pk->inflight = NULL; /* the transaction's now */
	context_place(c, p);
	c->pk = pk;
	c->route = plan->route;
	c->loop = loop;
	c->breadth = breadth;
	c->invite = m->method == SIP_METHOD_INVITE;
	c->parallel = set->parallel;
	c->failover = set->failover;
	if (c->invite)
		context_count(c);
	context_enter(c);
	c->source = source;
	if (c->invite)
		context_respond_local(c, 100, SLICE_NONE);
	else
		timer_set(p->wheel, &c->trying, proxy_now(p) + txn_quiet_time(&timers));
	if (!context_take_targets(c, set))
		c->best = 500, c->best_local = true;
	context_advance(c);
	context_leave(c);
}
