/* The targets of a gateway, in the order that its policy says. */
#include <stdlib.h>

#include "proxy_p.h"

#include "base/hash.h"

struct gateway_states *gateway_states_create(const struct config *c)
{
	unsigned n = 0;
	for (unsigned i = 0; i < c->gateway_count; i++)
		n += c->gateway[i].target_count;
	struct gateway_states *s = calloc(1, sizeof(*s) + n * sizeof(s->state[0]));
	if (s)
		s->count = n;
	return s;
}

void gateway_states_name(const struct config *c, unsigned index, const char **gateway, const char **target)
{
	for (unsigned i = 0; i < c->gateway_count; i++) {
		if (index < c->gateway[i].target_count) {
			*gateway = c->gateway[i].name;
			*target = c->gateway[i].target[index].text;
			return;
		}
		index -= c->gateway[i].target_count;
	}
	*gateway = *target = "";
}

static unsigned first_state(const struct config *c, unsigned g)
{
	unsigned n = 0;
	for (unsigned i = 0; i < g; i++)
		n += c->gateway[i].target_count;
	return n;
}

/* Draws for `random` and `weight` come from the request (splitmix64 over its loop hash): a CANCEL, and a request
 * after a restart, then finds the same order without anybody having kept it. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void rotate(unsigned *order, unsigned n, unsigned by)
{
	for (unsigned i = 0; i < n; i++)
		order[i] = (by + i) % n;
}

/* At least 1: config sees to it. */
static unsigned weight_of(const struct config_gateway *gw, unsigned target, bool weighted)
{
	return weighted ? gw->target[target].weight : 1;
}

static void shuffle(const struct config_gateway *gw, unsigned *order, unsigned n, bool weighted, uint64_t seed)
{
	for (unsigned i = 0; i + 1 < n; i++) {
		uint64_t total = weight_of(gw, order[i], weighted);
		for (unsigned j = i + 1; j < n; j++)
			total += weight_of(gw, order[j], weighted);
		uint64_t at = draw(&seed) % total;
		unsigned pick = i;
		while (pick + 1 < n) {
			unsigned w = weight_of(gw, order[pick], weighted);
			if (at < w)
				break;
			at -= w;
			pick++;
		}
		unsigned t = order[i];
		order[i] = order[pick];
		order[pick] = t;
	}
}

/* Puts one target into the set: its own URI if it has a user part, else the request's user at the target; with lr it is
 * a next hop, and the Request-URI stays. */
static void gateway_add(const struct config_target *t, const struct plan *plan, struct target_set *set)
{
	struct target *out = &set->target[set->count];
	struct buf *b = &set->text;
	size_t mark = b->len;

	bool sips = plan->uri.scheme == SIP_SCHEME_SIPS && t->uri.scheme != SIP_SCHEME_SIPS;
	struct slice transport;

	*out = (struct target){.group = set->parallel ? 0 : set->count};
	if (sip_param_get(t->uri.params, SLICE_LIT("lr"), NULL)) {
		out->ruri = plan->ruri;
		out->route = t->uri.whole;
		set->count++;
		return;
	}
	if (plan->uri.scheme == SIP_SCHEME_OTHER)
		return; /* nothing in it that we could put into the target's URI */
	/* RFC 5630: what asks for TLS all the way gets it. */
	if (sips && (!sip_param_get(t->uri.params, SLICE_LIT("transport"), &transport) ||
		     !slice_ieq(transport, SLICE_LIT("tls"))))
		return;
	if (!sips && (t->uri.has_user || plan->uri.user.len == 0)) {
		out->ruri = t->uri.whole;
		set->count++;
		return;
	}
	buf_slice(b, sips ? SLICE_LIT("sips") : t->uri.scheme_text);
	buf_char(b, ':');
	buf_slice(b, t->uri.has_user ? t->uri.user : plan->uri.user);
	if (t->uri.has_user || plan->uri.user.len)
		buf_char(b, '@');
	buf_slice(b, t->uri.host);
	if (t->uri.port) {
		buf_char(b, ':');
		buf_u64(b, t->uri.port);
	}
	buf_slice(b, t->uri.params);
	/* user=phone belongs to the number, not to the host. */
	struct slice user;
	if (plan->uri.scheme == SIP_SCHEME_TEL ||
	    (sip_param_get(plan->uri.params, SLICE_LIT("user"), &user) && slice_ieq(user, SLICE_LIT("phone"))))
		buf_lit(b, ";user=phone");
	if (b->full)
		return;
	out->ruri = slice_make(b->p + mark, b->len - mark);
	set->count++;
}

void gateway_targets(struct proxy *p, unsigned g, const struct sip_msg *m, const struct plan *plan,
		     uint64_t loop, struct target_set *set)
{
	const struct config_gateway *gw = &p->config->gateway[g];
	unsigned n = gw->target_count < PROXY_TARGETS_MAX ? gw->target_count : PROXY_TARGETS_MAX;
	unsigned order[PROXY_TARGETS_MAX], base = first_state(p->config, g);

	set->failover = true;
	rotate(order, n, 0);
	switch (gw->policy) {
	case POLICY_SERIAL: break;
	case POLICY_PARALLEL: set->parallel = true; break;
	case POLICY_ROUND_ROBIN:
		rotate(order, n,
		       atomic_fetch_add_explicit(&p->shared->round_robin, 1, memory_order_relaxed) % n);
		break;
	case POLICY_HASH: {
		struct slice id = sip_slice(m, m->call_id);
		/* Not with the seed of this start: calls keep their gateway over restarts, and on a second proxy. */
		rotate(order, n, (unsigned)(hash_bytes(id.p, id.len, 0) % n));
		break;
	}
	case POLICY_RANDOM: shuffle(gw, order, n, false, loop); break;
	case POLICY_WEIGHT: shuffle(gw, order, n, true, loop); break;
	}
	for (unsigned i = 0; i < n; i++)
		if (!p->states ||
		    !atomic_load_explicit(&p->states->state[base + order[i]].down, memory_order_relaxed))
			gateway_add(&gw->target[order[i]], plan, set);
	/* All are said to be down: a probe may be wrong, a refused call is certainly lost. */
	bool none = set->count == 0;
	for (unsigned i = 0; i < n && none; i++)
		gateway_add(&gw->target[order[i]], plan, set);
	if (set->count == 0) {
		set->reject = plan->uri.scheme == SIP_SCHEME_OTHER  ? 416
			      : plan->uri.scheme == SIP_SCHEME_SIPS ? 480
								    : 500;
		set->reject_reason = NULL;
	}
}
