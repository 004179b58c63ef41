/* Targets from the location service (RFC 3261 16.5, RFC 5626 5.3, 6): the contacts that a user of ours has registered,
 * the most wanted first. Those of the same q are tried at once. Of an instance that registered over several flows one
 * is tried, and the next only when that one fails. */
#include "proxy_p.h"

#include <stdlib.h>

#include "registrar/digest.h"
#include "registrar/location.h"

struct choice {
	const struct binding *b;
	unsigned order; /* as registered */
};

/* Reachable before unreachable, then by q, then the newest: for an instance that is its newest flow. */
static int choice_cmp(const void *x, const void *y)
{
	const struct choice *a = x, *b = y;

	if (a->b->unreachable != b->b->unreachable)
		return a->b->unreachable ? 1 : -1;
	if (a->b->q != b->b->q)
		return a->b->q < b->b->q ? 1 : -1;
	if (a->b->updated != b->b->updated)
		return a->b->updated < b->b->updated ? 1 : -1;
	return (a->order > b->order) - (a->order < b->order);
}

static bool same_instance(const struct binding *a, const struct binding *b)
{
	return a->outbound && b->outbound && a->instance.len && slice_eq(a->instance, b->instance);
}

static struct slice keep(struct target_set *set, struct slice s)
{
	size_t mark = set->text.len;
	buf_slice(&set->text, s);
	return slice_make(set->text.p + mark, set->text.len - mark);
}

/* A contact may be any URI; others than these lead nowhere from here. */
static bool is_sip(struct slice uri)
{
	const char *colon = memchr(uri.p, ':', uri.len);
	struct slice scheme = slice_make(uri.p, colon ? (size_t)(colon - uri.p) : 0);

	return slice_ieq(scheme, SLICE_LIT("sip")) || slice_ieq(scheme, SLICE_LIT("sips"));
}

/* 19.1.1: a Request-URI has neither headers nor a method. */
static struct slice put_ruri(struct buf *b, struct slice contact)
{
	size_t mark = b->len;
	struct slice rest, name, value, whole;
	struct sip_uri u;

	if (sip_uri_parse(contact, &u) < 0)
		return SLICE_NONE;
	rest = u.params;
	if (rest.len && sip_param_get(rest, SLICE_LIT("method"), NULL)) {
		buf_put(b, contact.p, (size_t)(rest.p - contact.p));
		while (sip_param_next(&rest, &name, &value, &whole))
			if (!slice_ieq(name, SLICE_LIT("method")))
				buf_slice(b, whole);
	} else {
		buf_put(b, contact.p, u.headers.len ? (size_t)(u.headers.p - 1 - contact.p) : contact.len);
	}
	return slice_make(b->p + mark, b->len - mark);
}

static void add(struct target_set *set, const struct binding *b, struct slice aor, unsigned group,
		bool alternate)
{
	struct target *t = &set->target[set->count];

	*t = (struct target){.ruri = put_ruri(&set->text, b->contact),
			     .route = keep(set, b->path),
			     .aor = aor,
			     .instance = keep(set, b->outbound ? b->instance : SLICE_NONE),
			     .group = group,
			     .alternate = alternate,
			     .has_flow = b->use_flow,
			     .fallback = !b->outbound};
	if (b->use_flow)
		t->flow = b->flow;
	if (!set->text.full && t->ruri.len)
		set->count++;
}

/* What is not reachable is left to the last, or out where there is something better. */
static unsigned usable(const struct choice *c, unsigned n)
{
	unsigned reachable = 0;
	while (reachable < n && !c[reachable].b->unreachable)
		reachable++;
	return reachable ? reachable : n;
}

static void fill(struct target_set *set, const struct binding_set *found, struct slice aor)
{
	struct choice c[LOCATION_BINDINGS_MAX];
	bool taken[LOCATION_BINDINGS_MAX] = {false};
	unsigned n = 0, group = 0;
	uint16_t q = 0; /* of the group */

	for (unsigned i = 0; i < found->count; i++)
		if (is_sip(found->b[i].contact))
			c[n++] = (struct choice){&found->b[i], i};
	if (!n)
		return;
	qsort(c, n, sizeof(c[0]), choice_cmp);
	n = usable(c, n);
	aor = keep(set, aor);
	for (unsigned i = 0; i < n && set->count < PROXY_TARGETS_MAX; i++) {
		if (taken[i])
			continue;
		if (set->count && c[i].b->q != q)
			group++;
		q = c[i].b->q;
		if (set->count && set->target[set->count - 1].group == group)
			set->parallel = true;
		add(set, c[i].b, aor, group, false);
		for (unsigned j = i + 1; j < n && set->count < PROXY_TARGETS_MAX; j++) {
			if (taken[j] || !same_instance(c[i].b, c[j].b))
				continue;
			taken[j] = true;
			add(set, c[j].b, aor, group, true);
		}
	}
}

static bool user_exists(struct proxy *p, struct slice user, unsigned domain)
{
	const struct config_domain *d = &p->config->domain[domain];
	char room[LOCATION_AOR_MAX];
	bool exists = true;
	struct buf b;

	if (!d->authenticate)
		return true; /* anybody may be a user here */
	buf_init(&b, room, sizeof(room));
	sip_unescape(user, &b);
	if (b.full)
		return false;
	return users_exist(p->reader, buf_view(&b), slice_str(d->name), &exists) < 0 || exists;
}

void locate_targets(struct proxy *p, const struct sip_msg *m, const struct plan *plan, unsigned domain,
		    struct target_set *set)
{
	char room[LOCATION_AOR_MAX];
	struct binding_set found;
	struct buf aor;
	int rc;

	(void)m;
	buf_init(&aor, room, sizeof(room));
	set->reject = 404;
	if (location_aor(plan->uri.user, slice_str(p->config->domain[domain].name), &aor) < 0)
		return;
	rc = store_read_begin(p->reader);
	if (!rc)
		rc = location_find(p->reader, buf_view(&aor), proxy_wall(p), &found);
	if (rc) {
		set->reject = 500;
		return;
	}
	if (!found.count) {
		set->reject = user_exists(p, plan->uri.user, domain) ? 480 : 404;
		return;
	}
	set->reject = 480; /* should none fit */
	fill(set, &found, buf_view(&aor));
}

/* The binding that a target was: of the same instance, or else the same contact. */
static bool is_target(const struct binding *b, const struct target *t)
{
	char room[2048];
	struct buf ruri;

	if (t->instance.len)
		return slice_eq(b->instance, t->instance);
	buf_init(&ruri, room, sizeof(room));
	return slice_eq(put_ruri(&ruri, b->contact), t->ruri);
}

bool location_flow(struct proxy *p, const struct target *t, struct flow *out)
{
	struct binding_set found;
	const struct binding *best = NULL;

	if (!p->reader || !t->aor.len || store_read_begin(p->reader) < 0 ||
	    location_find(p->reader, t->aor, proxy_wall(p), &found) < 0)
		return false;
	for (unsigned i = 0; i < found.count; i++)
		if (found.b[i].use_flow && is_target(&found.b[i], t) &&
		    (!best || found.b[i].updated > best->updated))
			best = &found.b[i];
	if (best)
		*out = best->flow;
	return best != NULL;
}
