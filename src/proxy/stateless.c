/* Stateless forwarding (RFC 3261 16.11): the ACK to a 2xx, and a CANCEL whose INVITE is not known here. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"

/* One that waits for the resolver. */
struct stateless {
	struct pending pending;
	struct stateless *next, **prev; /* proxy->held */
	struct packet *pk;
	struct route_set route;
	struct target target; /* its text behind this struct, or in the packet */
	uint64_t loop;
	uint16_t index;
	unsigned breadth;
};

static void stateless_destroy(struct stateless *s)
{
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	packet_destroy(s->pk);
	free(s);
}

void stateless_destroy_all(struct proxy *p)
{
	while (p->held) {
		pending_remove(p, &p->held->pending);
		stateless_destroy(p->held);
	}
}

/* By a hop, or without one by the target's own flow. False: there is no way. What has no transaction cannot turn to UDP
 * when a connection fails, and so is not sent over TCP for its size (18.1.1). */
static bool stateless_send(struct proxy *p, const struct packet *pk, const struct route_set *route,
			   const struct target *target, uint64_t loop, uint16_t index, unsigned breadth,
			   const struct resolver_hop *hop)
{
	char branch[TOKEN_BRANCH_LEN];
	uint32_t ack_timeout;
	struct flow out;
	struct forward_args a = {.m = pk->msg,
				 .source = &pk->flow,
				 .route = route,
				 .target = target,
				 .out = &out,
				 .breadth = breadth,
				 .loop = loop,
				 .index = index};

	if ((hop ? forward_flow(p, &a, hop, &out, &ack_timeout) : forward_attach(p, &a, &out, &ack_timeout)) <
	    0)
		return false;
	long n = forward_build(p, &a, branch);
	if (n < 0)
		return false;
	count(pk->msg->method == SIP_METHOD_ACK ? CNT_STATELESS_ACK : CNT_STATELESS_CANCEL);
	proxy_send(p, &out, slice_make(p->out, (size_t)n));
	return true;
}

static void stateless_hold(struct proxy *p, const struct packet *pk, const struct route_set *route,
			   const struct target *target, uint64_t loop, uint16_t index, unsigned breadth,
			   const struct sip_uri *uri)
{
	struct stateless *s = calloc(1, sizeof(*s) + target->ruri.len + target->route.len);

	if (!s || !(s->pk = packet_create(pk->msg, &pk->flow, pk->received))) {
		free(s);
		count(CNT_DROP_NO_MEMORY);
		return;
	}
	char *text = (char *)(s + 1);
	s->route = *route;
	/* A route set's slices point into the message it was made from: the same places in our copy. */
	if (route->next.len)
		s->route.next.p = s->pk->msg->buf + (route->next.p - pk->msg->buf);
	memcpy(text, target->ruri.p, target->ruri.len);
	s->target.ruri = slice_make(text, target->ruri.len);
	if (target->route.len) {
		memcpy(text + target->ruri.len, target->route.p, target->route.len);
		s->target.route = slice_make(text + target->ruri.len, target->route.len);
	}
	s->loop = loop;
	s->index = index;
	s->breadth = breadth;
	s->next = p->held;
	s->prev = &p->held;
	if (p->held)
		p->held->prev = &s->next;
	p->held = s;
	pending_add(p, &s->pending, PENDING_STATELESS);
	if (p->lower.resolve(p->lower.ctx, uri, s->pending.ref) < 0) {
		pending_remove(p, &s->pending);
		stateless_destroy(s);
		count(CNT_DROP_SEND);
	}
}

void stateless_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a)
{
	struct stateless *s = container_of(w, struct stateless, pending);

	if (a->error ||
	    !stateless_send(p, s->pk, &s->route, &s->target, s->loop, s->index, s->breadth, &a->hop[0]))
		count(CNT_DROP_SEND);
	stateless_destroy(s);
}

void stateless_forward(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		       const struct target_set *set)
{
	/* A serial search would have started with the first; a parallel one with all. */
	unsigned n = set->parallel ? set->count : 1, breadth = breadth_of(pk->msg);

	if (n > breadth) {
		count(CNT_REFUSED_BREADTH);
		reply_stateless(p, pk, 440, "Max-Breadth Exceeded", SLICE_NONE);
		return;
	}
	breadth = n > 1 ? breadth / n : 0; /* what has one way passes on what it was given */
	for (unsigned i = 0; i < n && i < set->count; i++) {
		const struct target *t = &set->target[i];
		struct resolver_hop hop;
		struct sip_uri uri;
		if (t->alternate)
			continue;
		if (t->has_flow) {
			if (stateless_send(p, pk, &plan->route, t, loop, (uint16_t)i, breadth, NULL))
				continue;
			if (!t->fallback) {
				count(CNT_DROP_SEND);
				continue;
			}
		}
		int err = forward_hop_uri(&plan->route, t, &uri);
		if (err == 0)
			err = resolver_literal(&uri, p->protos, &hop);
		if (err == -EAGAIN)
			stateless_hold(p, pk, &plan->route, t, loop, (uint16_t)i, breadth, &uri);
		else if (err || !stateless_send(p, pk, &plan->route, t, loop, (uint16_t)i, breadth, &hop))
			count(CNT_DROP_SEND);
	}
	packet_destroy(pk);
}
