/* Record sets by question. Resolver thread. */
#ifndef RESOLVER_CACHE_P_H
#define RESOLVER_CACHE_P_H

#include "resolver/rr_p.h"

#define CACHE_FAILURE_MS 5000 /* ms that a failure is kept */

struct cache;

/* `limit` 0: keeps nothing. NULL: no memory. */
struct cache *cache_create(unsigned limit);
void cache_destroy(struct cache *c);
/* Keeps a reference until the set's time is over or it is the least recently used of too many. Replaces an older
 * one. */
void cache_put(struct cache *c, struct rr_set *s, msec_t now);
/* Borrowed until the next cache_put; NULL: nothing, or out of date. */
struct rr_set *cache_get(struct cache *c, enum rr_type type, const char *name, msec_t now);
unsigned cache_count(const struct cache *c);

#endif
