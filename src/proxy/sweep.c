/* A walk over all registrations that never ends: each worker passes its part of them at a steady pace, removes what has
 * expired, notices whose connection is gone, and asks phones whether they are there. So no table of them is kept in
 * memory, and a hundred thousand make no burst. */
#include "proxy_p.h"

#include "base/counters.h"
#include "registrar/location.h"

#define SWEEP_TICK 100   /* ms */
#define SWEEP_PASS 30000 /* ms that one walk over all takes at the most */
#define SWEEP_MAX  2000  /* addresses of one tick */

static unsigned domain_of(struct proxy *p, struct slice aor)
{
	const char *at = memrchr(aor.p, '@', aor.len);
	int d = at ? self_domain(p, slice_make(at + 1, (size_t)(aor.p + aor.len - at - 1))) : -1;
	return d < 0 ? p->config->domain_count : (unsigned)d;
}

/* Each contact has its moment within the interval, by its number. True if that lies between the last pass and this
 * one. */
static bool is_due(const struct proxy *p, const struct binding *b, uint32_t interval)
{
	uint64_t now = proxy_now(p) + UINT32_MAX - b->number % interval, last = now - p->sweep_pass;
	return now / interval != last / interval;
}

static bool is_behind_nat(const struct proxy *p, const struct binding *b)
{
	return b->use_flow && !b->flow.conn && b->flow.listener < p->config->listen_count;
}

/* One binding that has not expired. `d`: of its domain; NULL: no longer ours. */
static void pass_binding(struct proxy *p, struct slice aor, const struct binding *b,
			 const struct config_domain *d)
{
	struct flow f = b->flow;
	uint32_t ack_timeout;

	/* Of an earlier run, or one whose end nobody told us: after a takeover we have to hear of it. */
	if (b->use_flow && b->unbind && f.conn && p->lower.attach &&
	    p->lower.attach(p->lower.ctx, &f, &ack_timeout) < 0) {
		register_conn_lost(p, b->flow.conn);
		return;
	}
	if (!d)
		return;
	if (d->nat_keepalive && is_behind_nat(p, b) && is_due(p, b, d->nat_keepalive) &&
	    p->lower.send(p->lower.ctx, &f, SLICE_LIT("\r\n\r\n")) == 0)
		count(CNT_NAT_KEEPALIVE);
	if (d->qualify_interval && is_due(p, b, d->qualify_interval))
		qualify_ask(p, aor, b, d->qualify_timeout);
}

static void pass(void *ctx, struct slice aor, const struct binding_set *set)
{
	struct proxy *p = ctx;
	uint64_t now = proxy_wall(p);
	bool expired = false;
	unsigned d = domain_of(p, aor);

	for (unsigned i = 0; i < set->count; i++)
		if (set->b[i].expires <= now)
			expired = true;
		else
			pass_binding(p, aor, &set->b[i],
				     d < p->config->domain_count ? &p->config->domain[d] : NULL);
	if (expired)
		register_expire(p, aor);
}

/* How long a walk may take: no interval is missed. */
static uint32_t pass_time(const struct proxy *p)
{
	uint32_t ms = SWEEP_PASS;
	for (unsigned i = 0; i < p->config->domain_count; i++) {
		uint32_t q = p->config->domain[i].qualify_interval, k = p->config->domain[i].nat_keepalive;
		if (q && q < ms)
			ms = q;
		if (k && k < ms)
			ms = k;
	}
	return ms > SWEEP_TICK ? ms : SWEEP_TICK;
}

static void sweep_due(struct timer *t, msec_t now)
{
	struct proxy *p = container_of(t, struct proxy, sweep_timer);
	uint64_t all = store_count(p->store, STORE_LOCATION), ticks = pass_time(p) / SWEEP_TICK;
	uint64_t n = all / p->sweep_parts / ticks + 1;

	timer_set(p->wheel, t, now + SWEEP_TICK);
	if (p->sweep_place.len == 0) {
		/* A new walk, no sooner than the pace wants it: a few addresses would be passed again and again. */
		if (p->sweep_began && now - p->sweep_began < pass_time(p))
			return;
		p->sweep_pass = p->sweep_began ? now - p->sweep_began : pass_time(p);
		p->sweep_began = now;
	}
	if (!all || store_read_begin(p->reader) < 0)
		return;
	if (location_walk(p->reader, p->worker, p->sweep_parts, &p->sweep_place,
			  n < SWEEP_MAX ? (unsigned)n : SWEEP_MAX, pass, p) < 0)
		p->sweep_place.len = 0;
}

void sweep_start(struct proxy *p)
{
	timer_init(&p->sweep_timer, sweep_due);
	p->sweep_parts = p->config->workers ? p->config->workers : 1;
	if (p->reader)
		timer_set(p->wheel, &p->sweep_timer, proxy_now(p) + SWEEP_TICK);
}

void sweep_stop(struct proxy *p)
{
	timer_stop(p->wheel, &p->sweep_timer);
}
