/* Where connections are found: by number, by peer, and how many an address has. Each table is spread over shards with a
 * lock of their own, held for a look-up and nothing else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/counters.h"
#include "base/hash.h"
#include "base/log.h"
#include "transport/conn_p.h"

#define TABLE_BUCKETS 16 /* of a shard, to begin with; doubled when there are as many entries */

struct conn_source_count {
	struct conn_source_count *next;
	uint64_t hash;
	struct addr addr;
	unsigned count;
};

static struct conn_shard *shard_of(struct streams *s, uint64_t hash)
{
	return &s->shard[(hash >> 32) % CONN_SHARDS];
}

/* Numbers are handed out one after the other: spread as they are. */
static struct conn_shard *shard_of_id(struct streams *s, uint64_t id)
{
	return &s->shard[id % CONN_SHARDS];
}

static uint64_t addr_hash(const struct addr *a, uint64_t seed)
{
	return hash_bytes(a->ip, sizeof(a->ip), seed + a->family);
}

static uint64_t peer_hash(enum flow_proto proto, const struct addr *a, struct slice name)
{
	uint64_t h = addr_hash(a, (uint64_t)a->port << 8 | proto);
	for (size_t i = 0; i < name.len; i++)
		h = (h ^ (unsigned char)slice_lower(name.p[i])) * 0x100000001b3u;
	return h;
}

int conn_table_init(struct streams *s)
{
	for (unsigned i = 0; i < CONN_SHARDS; i++) {
		struct conn_shard *d = &s->shard[i];
		pthread_mutex_init(&d->lock, NULL);
		d->buckets = TABLE_BUCKETS;
		d->bucket = calloc(d->buckets, sizeof(struct conn *));
		d->peer = calloc(d->buckets, sizeof(struct conn_peer *));
		d->source = calloc(d->buckets, sizeof(struct conn_source_count *));
		if (!d->bucket || !d->peer || !d->source)
			return -ENOMEM;
	}
	return 0;
}

void conn_table_deinit(struct streams *s)
{
	for (unsigned i = 0; i < CONN_SHARDS; i++) {
		struct conn_shard *d = &s->shard[i];
		if (!d->buckets)
			continue;
		pthread_mutex_destroy(&d->lock);
		free(d->bucket);
		free(d->peer);
		free(d->source);
	}
}

static void grow_ids(struct conn_shard *d, struct conn **bucket, unsigned n)
{
	for (unsigned i = 0; i < d->buckets; i++)
		for (struct conn *c = d->bucket[i], *next; c; c = next) {
			struct conn **b = &bucket[c->id / CONN_SHARDS % n];
			next = c->chain;
			c->chain = *b;
			*b = c;
		}
	free(d->bucket);
	d->bucket = bucket;
}

static void grow_peers(struct conn_shard *d, struct conn_peer **peer, unsigned n)
{
	for (unsigned i = 0; i < d->buckets; i++)
		for (struct conn_peer *p = d->peer[i], *next; p; p = next) {
			struct conn_peer **b = &peer[p->hash % n];
			next = p->next;
			p->next = *b;
			*b = p;
		}
	free(d->peer);
	d->peer = peer;
}

static void grow_sources(struct conn_shard *d, struct conn_source_count **source, unsigned n)
{
	for (unsigned i = 0; i < d->buckets; i++)
		for (struct conn_source_count *q = d->source[i], *next; q; q = next) {
			struct conn_source_count **b = &source[q->hash % n];
			next = q->next;
			q->next = *b;
			*b = q;
		}
	free(d->source);
	d->source = source;
}

/* Locked. Without memory the chains get longer. */
static void shard_grow(struct conn_shard *d)
{
	unsigned n = 2 * d->buckets;
	if (d->count < d->buckets && d->peers < d->buckets && d->sources < d->buckets)
		return;
	struct conn **bucket = calloc(n, sizeof(struct conn *));
	struct conn_peer **peer = calloc(n, sizeof(struct conn_peer *));
	struct conn_source_count **source = calloc(n, sizeof(struct conn_source_count *));
	if (!bucket || !peer || !source) {
		free(bucket);
		free(peer);
		free(source);
		return;
	}
	grow_ids(d, bucket, n);
	grow_peers(d, peer, n);
	grow_sources(d, source, n);
	d->buckets = n;
}

/* --- by number --- */

void conn_table_add(struct streams *s, struct conn *c)
{
	struct conn_shard *d = shard_of_id(s, c->id);
	conn_ref(c);
	pthread_mutex_lock(&d->lock);
	shard_grow(d);
	struct conn **b = &d->bucket[c->id / CONN_SHARDS % d->buckets];
	c->chain = *b;
	*b = c;
	d->count++;
	pthread_mutex_unlock(&d->lock);
}

struct conn *conn_table_get(struct streams *s, uint64_t id)
{
	struct conn_shard *d = shard_of_id(s, id);
	pthread_mutex_lock(&d->lock);
	struct conn *c = d->bucket[id / CONN_SHARDS % d->buckets];
	while (c && c->id != id)
		c = c->chain;
	if (c)
		conn_ref(c);
	pthread_mutex_unlock(&d->lock);
	return c;
}

static void peer_unlist(struct streams *s, struct conn_peer *p)
{
	struct conn_shard *d = shard_of(s, p->hash);
	pthread_mutex_lock(&d->lock);
	if (p->listed) {
		struct conn_peer **q = &d->peer[p->hash % d->buckets];
		while (*q != p)
			q = &(*q)->next;
		*q = p->next;
		p->listed = false;
		d->peers--;
	}
	pthread_mutex_unlock(&d->lock);
}

void conn_table_unlist(struct streams *s, struct conn *c)
{
	peer_unlist(s, &c->peer);
	peer_unlist(s, &c->alias);
}

void conn_table_remove(struct streams *s, struct conn *c)
{
	struct conn_shard *d = shard_of_id(s, c->id);
	conn_table_unlist(s, c);
	pthread_mutex_lock(&d->lock);
	struct conn **q = &d->bucket[c->id / CONN_SHARDS % d->buckets];
	while (*q && *q != c)
		q = &(*q)->chain;
	bool found = *q != NULL;
	if (found) {
		*q = c->chain;
		d->count--;
	}
	pthread_mutex_unlock(&d->lock);
	if (found)
		conn_put(c);
}

/* --- by peer --- */

static struct slice peer_name(const struct conn *c)
{
	return c->name ? slice_str(c->name) : SLICE_NONE;
}

/* Locked. */
static struct conn_peer *peer_look(struct conn_shard *d, uint64_t hash, enum flow_proto proto,
				   const struct addr *addr, struct slice name)
{
	struct conn_peer *p = d->peer[hash % d->buckets];
	while (p && !(p->hash == hash && p->conn->proto == proto && addr_eq(&p->addr, addr) &&
		      slice_ieq(peer_name(p->conn), name)))
		p = p->next;
	return p;
}

/* Locked. */
static void peer_list(struct conn_shard *d, struct conn_peer *p, struct conn *c, const struct addr *addr,
		      uint64_t hash)
{
	struct conn_peer **b = &d->peer[hash % d->buckets];
	p->conn = c;
	p->hash = hash;
	p->addr = *addr;
	p->listed = true;
	p->next = *b;
	*b = p;
	d->peers++;
}

struct conn *conn_table_peer(struct streams *s, enum flow_proto proto, const struct addr *addr,
			     struct slice name, struct conn *fresh)
{
	uint64_t hash = peer_hash(proto, addr, name);
	struct conn_shard *d = shard_of(s, hash);
	struct conn *c = NULL;

	pthread_mutex_lock(&d->lock);
	struct conn_peer *p = peer_look(d, hash, proto, addr, name);
	if (p) {
		c = conn_ref(p->conn);
	} else if (fresh) {
		shard_grow(d);
		peer_list(d, &fresh->peer, fresh, addr, hash);
		c = conn_ref(fresh);
	}
	pthread_mutex_unlock(&d->lock);
	return c;
}

void conn_table_alias(struct streams *s, struct conn *c, const struct addr *addr)
{
	uint64_t hash = peer_hash((enum flow_proto)c->proto, addr, peer_name(c));
	struct conn_shard *d = shard_of(s, hash);

	pthread_mutex_lock(&d->lock);
	if (!c->alias.listed && !peer_look(d, hash, (enum flow_proto)c->proto, addr, peer_name(c)))
		peer_list(d, &c->alias, c, addr, hash);
	pthread_mutex_unlock(&d->lock);
}

/* --- limits --- */

/* Locked. The count of an address; NULL: it has none. */
static struct conn_source_count **source_look(struct conn_shard *d, uint64_t hash, const struct addr *addr)
{
	struct conn_source_count **q = &d->source[hash % d->buckets];
	while (*q && !((*q)->hash == hash && addr_eq_ip(&(*q)->addr, addr)))
		q = &(*q)->next;
	return q;
}

/* Whom an address counts for. An IPv6 host has a whole /64 to call from. */
static struct addr source_of(const struct addr *addr)
{
	struct addr a = *addr;
	if (a.family == AF_INET6)
		memset(a.ip + 8, 0, 8);
	return a;
}

static bool source_enter(struct streams *s, const struct addr *remote, unsigned max)
{
	const struct addr of = source_of(remote), *addr = &of;
	uint64_t hash = addr_hash(addr, 1);
	struct conn_shard *d = shard_of(s, hash);
	bool ok = false;

	pthread_mutex_lock(&d->lock);
	shard_grow(d);
	struct conn_source_count **q = source_look(d, hash, addr);
	if (!*q && (*q = calloc(1, sizeof(**q))) != NULL) {
		(*q)->hash = hash;
		(*q)->addr = *addr;
		d->sources++;
	}
	if (*q && (*q)->count < max) {
		(*q)->count++;
		ok = true;
	}
	pthread_mutex_unlock(&d->lock);
	return ok;
}

static void source_leave(struct streams *s, const struct addr *remote)
{
	const struct addr of = source_of(remote), *addr = &of;
	uint64_t hash = addr_hash(addr, 1);
	struct conn_shard *d = shard_of(s, hash);

	pthread_mutex_lock(&d->lock);
	struct conn_source_count **q = source_look(d, hash, addr), *gone = NULL;
	if (*q && --(*q)->count == 0) {
		gone = *q;
		*q = gone->next;
		d->sources--;
	}
	pthread_mutex_unlock(&d->lock);
	free(gone);
}

bool conn_table_admit(struct streams *s, unsigned listener, const struct config_stream *o,
		      const struct addr *remote, bool inbound)
{
	static struct log_limiter limiter;
	struct stream_listener *l = &s->listener[listener];
	enum counter_id why = CNT_CONN_REFUSED_LIMIT;
	char text[ADDR_STRLEN], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	if (atomic_fetch_add_explicit(&l->count, 1, memory_order_relaxed) < o->max_connections) {
		if (!inbound || source_enter(s, remote, o->max_connections_per_address))
			return true;
		why = CNT_CONN_REFUSED_ADDRESS;
	}
	atomic_fetch_sub_explicit(&l->count, 1, memory_order_relaxed);
	count(why);
	if (log_limit(&limiter, 1, &missed))
		log_warning("transport", "connection %s %s refused: %s reached%s", inbound ? "from" : "to",
			    addr_str(remote, text),
			    why == CNT_CONN_REFUSED_LIMIT ? "max_connections" : "max_connections_per_address",
			    log_left_out(missed, left_out));
	return false;
}

void conn_table_leave(struct streams *s, unsigned listener, const struct addr *remote, bool inbound)
{
	atomic_fetch_sub_explicit(&s->listener[listener].count, 1, memory_order_relaxed);
	if (inbound)
		source_leave(s, remote);
}
