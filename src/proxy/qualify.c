/* Whether registered phones are there: an OPTIONS to each contact of a domain with qualify_interval. Which are due is
 * decided by sweep.c as it passes them; nothing is kept of a contact but its round-trip time, in a table of fixed size
 * that all workers share, and whether it is reachable, in its binding. */
#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/log.h"
#include "proxy_p.h"
#include "registrar/location.h"

#define QUALIFY_MAX 2000 /* under way, of one worker; others wait for the next pass */

struct qualify {
	uint8_t kind;     /* OWNER_QUALIFY */
	bool unreachable; /* what its binding says */
	struct proxy *proxy;
	struct qualify *next, **prev; /* proxy->qualifying */
	struct txn *client;
	struct timer timeout;
	struct flow flow;
	uint64_t number;
	nsec_t sent;
	uint64_t asked; /* ms of the wall clock */
	unsigned aor_len;
	char aor[];
};

static void qualify_destroy(struct qualify *q)
{
	struct proxy *p = q->proxy;
	struct txn *t = q->client;

	*q->prev = q->next;
	if (q->next)
		q->next->prev = q->prev;
	p->qualify_count--;
	timer_stop(p->wheel, &q->timeout);
	q->client = NULL;
	if (t) {
		txn_set_owner(t, NULL);
		txn_client_abandon(t);
	}
	free(q);
}

/* --- round-trip times --- */

static _Atomic uint64_t *rtt_slot(const struct proxy_shared *s, uint64_t number)
{
	return s->rtt ? &s->rtt[number % PROXY_RTT_SLOTS] : NULL;
}

bool qualify_rtt(const struct proxy_shared *s, uint64_t number, uint32_t *us)
{
	_Atomic uint64_t *slot = rtt_slot(s, number);
	uint64_t v = slot ? atomic_load_explicit(slot, memory_order_relaxed) : 0;

	if (!v || v >> 32 != (number >> 32 | 1))
		return false;
	*us = (uint32_t)v;
	return true;
}

static void rtt_note(const struct proxy_shared *s, uint64_t number, uint64_t us)
{
	_Atomic uint64_t *slot = rtt_slot(s, number);

	if (slot)
		atomic_store_explicit(slot, (number >> 32 | 1) << 32 | (us > UINT32_MAX ? UINT32_MAX : us),
				      memory_order_relaxed);
}

/* --- the answer --- */

static void qualify_result(struct qualify *q, bool ok)
{
	struct proxy *p = q->proxy;

	count(ok ? CNT_QUALIFY_OK : CNT_QUALIFY_FAILED);
	if (ok) {
		uint64_t us = (clock_mono_ns() - q->sent) / 1000u;
		rtt_note(p->shared, q->number, us);
		count(us < 50000     ? CNT_QUALIFY_50MS
		      : us < 200000  ? CNT_QUALIFY_200MS
		      : us < 1000000 ? CNT_QUALIFY_1S
				     : CNT_QUALIFY_SLOW);
	}
	if (ok == q->unreachable)
		register_mark(p, slice_make(q->aor, q->aor_len), q->number, !ok, q->asked);
	/* Over a stream nothing is lost on the way: who does not answer there is gone, or stuck. */
	if (!ok && q->flow.conn && p->lower.hangup)
		p->lower.hangup(p->lower.ctx, &q->flow);
	qualify_destroy(q);
}

static void qualify_timeout(struct timer *t, msec_t now)
{
	(void)now;
	qualify_result(container_of(t, struct qualify, timeout), false);
}

void qualify_response(void *owner, unsigned status)
{
	/* 408 and 503 are what a proxy on the way says for a phone that is not there. */
	if (status >= 200)
		qualify_result(owner, status != 408 && status != 503);
}

void qualify_gone(void *owner)
{
	struct qualify *q = owner;
	q->client = NULL;
}

/* --- the question --- */

/* Where it goes: over its flow, or to its address. Contacts by name are not asked: a look-up for each would be. 0 or
 * -errno. */
static int qualify_flow(struct proxy *p, const struct binding *b, struct options_args *a)
{
	struct resolver_hop hop;
	struct sip_uri uri;
	struct slice first = b->path;
	int l;

	if (b->use_flow) {
		a->flow = b->flow;
		if (a->flow.conn)
			return p->lower.attach ? p->lower.attach(p->lower.ctx, &a->flow, &a->ack_timeout)
					       : -ENOTCONN;
		return a->flow.listener < p->config->listen_count ? 0 : -ENOTCONN;
	}
	if (first.len) {
		const char *end = memchr(first.p, '>', first.len);
		if (first.p[0] != '<' || !end)
			return -EINVAL;
		first = slice_make(first.p + 1, (size_t)(end - first.p) - 1);
	}
	if (sip_uri_parse(first.len ? first : b->contact, &uri) < 0 ||
	    resolver_literal(&uri, p->protos, &hop) < 0)
		return -EINVAL;
	l = self_listener(p, hop.proto, &hop.addr, b->flow.listener);
	if (l < 0)
		return -EHOSTUNREACH;
	a->flow = (struct flow){.proto = hop.proto, .listener = (uint16_t)l, .remote = hop.addr};
	if (hop.proto == FLOW_UDP)
		return 0;
	return p->lower.connect ? p->lower.connect(p->lower.ctx, &a->flow, uri.host, &a->ack_timeout)
				: -ENOTCONN;
}

void qualify_ask(struct proxy *p, struct slice aor, const struct binding *b, uint32_t timeout)
{
	struct options_args a = {.uri = b->contact, .route = b->path};
	struct qualify *q;

	if (p->qualify_count >= QUALIFY_MAX || qualify_flow(p, b, &a) < 0)
		return;
	q = calloc(1, sizeof(*q) + aor.len);
	if (!q)
		return;
	q->kind = OWNER_QUALIFY;
	q->unreachable = b->unreachable;
	q->proxy = p;
	q->flow = a.flow;
	q->number = b->number;
	q->aor_len = (unsigned)aor.len;
	memcpy(q->aor, aor.p, aor.len);
	q->next = p->qualifying;
	q->prev = &p->qualifying;
	if (q->next)
		q->next->prev = &q->next;
	p->qualifying = q;
	p->qualify_count++;
	timer_init(&q->timeout, qualify_timeout);
	timer_set(p->wheel, &q->timeout, proxy_now(p) + timeout);
	q->sent = clock_mono_ns();
	q->asked = proxy_wall(p);
	a.owner = q;
	count(CNT_QUALIFY_SENT);
	if (options_send(p, &a, &q->client) < 0) {
		q->client = NULL;
		qualify_destroy(q);
	}
}

void qualify_stop(struct proxy *p)
{
	for (struct qualify *q = p->qualifying, *next; q; q = next) {
		next = q->next;
		qualify_destroy(q);
	}
}
