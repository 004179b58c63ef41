/* The hash table of a worker's transactions. Linear hashing: it grows by splitting one bucket and shrinks by joining
 * two, so no insertion ever waits for a rehash of everything. */
#include <errno.h>
#include <stdlib.h>

#include "txn_p.h"

#define BUCKETS_MIN     ((size_t)256)
#define BUCKETS_PER_TXN 1 /* grow below: a split is cheaper than a longer chain, all of it out of the cache */
#define BUCKETS_SPARE   8 /* shrink above */

int txn_table_init(struct txn_table *tb)
{
	tb->bucket = calloc(BUCKETS_MIN, sizeof(struct txn *));
	if (!tb->bucket)
		return -ENOMEM;
	tb->buckets = tb->cap = BUCKETS_MIN;
	tb->mask = BUCKETS_MIN - 1;
	return 0;
}

void txn_table_deinit(struct txn_table *tb)
{
	free(tb->bucket);
	tb->bucket = NULL;
}

/* Buckets from `buckets` to `mask` are not split off yet: their hashes are still in the lower half. */
static size_t bucket_of(const struct txn_table *tb, uint64_t hash)
{
	size_t i = hash & tb->mask;
	return i < tb->buckets ? i : i & (tb->mask >> 1);
}

static bool bucket_split(struct txn_table *tb)
{
	size_t n = tb->buckets;

	if (n == tb->cap) {
		/* Of this size realloc moves pages, not bytes. */
		struct txn **grown = realloc(tb->bucket, 2 * tb->cap * sizeof(struct txn *));
		if (!grown)
			return false; /* longer chains will do */
		tb->bucket = grown;
		tb->cap *= 2;
	}
	if (n > tb->mask)
		tb->mask = 2 * tb->mask + 1;

	struct txn **low = &tb->bucket[n & (tb->mask >> 1)], **high = &tb->bucket[n];
	*high = NULL;
	for (struct txn *t = *low; t; t = *low) {
		if ((t->hash & tb->mask) == n) {
			*low = t->chain;
			t->chain = *high;
			*high = t;
		} else {
			low = &t->chain;
		}
	}
	tb->buckets++;
	return true;
}

static void bucket_join(struct txn_table *tb)
{
	size_t last = tb->buckets - 1;
	struct txn **end = &tb->bucket[last & (tb->mask >> 1)];

	while (*end)
		end = &(*end)->chain;
	*end = tb->bucket[last];
	tb->buckets = last;
	if (last == (tb->mask >> 1) + 1) /* the upper half is empty */
		tb->mask >>= 1;
	if (tb->cap > BUCKETS_MIN && tb->buckets <= tb->cap / 4) {
		struct txn **less = realloc(tb->bucket, tb->cap / 2 * sizeof(struct txn *));
		if (less) {
			tb->bucket = less;
			tb->cap /= 2;
		}
	}
}

void txn_table_insert(struct txn_table *tb, struct txn *t)
{
	struct txn **b;

	tb->count++;
	for (unsigned i = 0; i < BUCKETS_PER_TXN && tb->buckets < (size_t)tb->count * BUCKETS_PER_TXN; i++)
		if (!bucket_split(tb))
			break;
	b = &tb->bucket[bucket_of(tb, t->hash)];
	t->chain = *b;
	*b = t;
}

void txn_table_remove(struct txn_table *tb, struct txn *t)
{
	struct txn **b = &tb->bucket[bucket_of(tb, t->hash)];

	while (*b != t)
		b = &(*b)->chain;
	*b = t->chain;
	t->chain = NULL;
	tb->count--;
	for (unsigned i = 0;
	     i < BUCKETS_SPARE && tb->buckets > BUCKETS_MIN && tb->buckets > (size_t)tb->count * BUCKETS_SPARE;
	     i++)
		bucket_join(tb);
}

struct txn *txn_table_look(const struct txn_table *tb, const struct txn_key *k)
{
	struct txn *t = tb->bucket[bucket_of(tb, k->hash)];

	while (t && !(t->hash == k->hash && txn_key_matches(k, t)))
		t = t->chain;
	return t;
}

unsigned txn_table_same(const struct txn_table *tb, uint64_t hash)
{
	unsigned n = 0;

	for (const struct txn *t = tb->bucket[bucket_of(tb, hash)]; t; t = t->chain)
		n += t->hash == hash;
	return n;
}
