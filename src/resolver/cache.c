#include "resolver/cache_p.h"

#include <stdlib.h>

struct entry {
	struct entry *next;          /* in the bucket, or among the free ones */
	struct entry *newer, *older; /* by last use */
	struct rr_set *set;
	msec_t until;
};

struct cache {
	unsigned limit, count;
	size_t mask;
	struct entry **bucket;
	struct entry *entries, *unused;
	struct entry *newest, *oldest;
};

struct cache *cache_create(unsigned limit)
{
	struct cache *c = calloc(1, sizeof(*c));
	if (!c || limit == 0)
		return c;
	size_t buckets = 16;
	while (buckets < limit)
		buckets *= 2;
	c->limit = limit;
	c->mask = buckets - 1;
	c->bucket = calloc(buckets, sizeof(struct entry *));
	c->entries = calloc(limit, sizeof(struct entry));
	if (!c->bucket || !c->entries) {
		cache_destroy(c);
		return NULL;
	}
	for (unsigned i = 0; i < limit; i++) {
		c->entries[i].next = c->unused;
		c->unused = &c->entries[i];
	}
	return c;
}

static void use_unlink(struct cache *c, struct entry *e)
{
	*(e->newer ? &e->newer->older : &c->newest) = e->older;
	*(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void use_first(struct cache *c, struct entry *e)
{
	e->newer = NULL;
	e->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

static struct entry **find(struct cache *c, enum rr_type type, const char *name)
{
	struct entry **at = &c->bucket[rr_hash(type, name) & c->mask];
	while (*at && !rr_set_is((*at)->set, type, name))
		at = &(*at)->next;
	return at;
}

static void drop(struct cache *c, struct entry **at)
{
	struct entry *e = *at;
	*at = e->next;
	use_unlink(c, e);
	rr_set_unref(e->set);
	e->set = NULL;
	e->next = c->unused;
	c->unused = e;
	c->count--;
}

void cache_destroy(struct cache *c)
{
	if (!c)
		return;
	for (struct entry *e = c->newest; e; e = e->older)
		rr_set_unref(e->set);
	free(c->bucket);
	free(c->entries);
	free(c);
}

void cache_put(struct cache *c, struct rr_set *s, msec_t now)
{
	uint32_t ttl = s->ttl < RR_TTL_MAX ? s->ttl : RR_TTL_MAX;
	msec_t keep = s->error ? CACHE_FAILURE_MS : (msec_t)ttl * 1000;
	if (c->limit == 0)
		return;
	struct entry **at = find(c, s->type, s->name);
	if (*at)
		drop(c, at);
	if (keep == 0)
		return;
	if (!c->unused)
		drop(c, find(c, c->oldest->set->type, c->oldest->set->name));
	struct entry *e = c->unused;
	c->unused = e->next;
	e->set = rr_set_ref(s);
	e->until = now + keep;
	struct entry **head = &c->bucket[rr_hash(s->type, s->name) & c->mask];
	e->next = *head;
	*head = e;
	use_first(c, e);
	c->count++;
}

struct rr_set *cache_get(struct cache *c, enum rr_type type, const char *name, msec_t now)
{
	if (c->limit == 0)
		return NULL;
	struct entry **at = find(c, type, name);
	struct entry *e = *at;
	if (!e)
		return NULL;
	if (now >= e->until) {
		drop(c, at);
		return NULL;
	}
	use_unlink(c, e);
	use_first(c, e);
	return e->set;
}

unsigned cache_count(const struct cache *c)
{
	return c->count;
}
