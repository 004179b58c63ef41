/* The hash table of a worker's transactions. Linear hashing: it grows by splitting one bucket and shrinks by joining
 * two, so no insertion ever waits for a rehash of everything.
 *
 * With 100,000 transactions nothing of the table is in the processor's cache, and to look into a transaction costs one
 * more miss. So a bucket is a cache line, and has of each transaction the part of its hash that tells whether it may be
 * meant, and to which half it goes in a split. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "txn_p.h"

#define BUCKETS_MIN ((size_t)256)
#define TXNS_PER_BUCKET \
	3          /* grow above; of buckets that hold twice this on their way to a split, few are full */
#define TXNS_FEW 8 /* shrink when the transactions would fill a bucket in so many */
#define SLOTS    TXN_BUCKET_SLOTS

static uint32_t tag_of(uint64_t hash)
{
	return (uint32_t)hash;
}

int txn_table_init(struct txn_table *tb)
{
	tb->bucket = calloc(BUCKETS_MIN, sizeof(struct txn_bucket));
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
static struct txn_bucket *bucket_of(const struct txn_table *tb, uint64_t hash)
{
	size_t i = hash & tb->mask;
	return &tb->bucket[i < tb->buckets ? i : i & (tb->mask >> 1)];
}

static void bucket_put(struct txn_bucket *b, struct txn *t, uint32_t tag)
{
	if (b->used < SLOTS) {
		t->chain = NULL;
		b->tag[b->used] = tag;
		b->slot[b->used++] = t;
	} else {
		t->chain = b->slot[SLOTS - 1]->chain;
		b->slot[SLOTS - 1]->chain = t;
		b->more++;
	}
}

/* All that is in `from`: to `high` if its hash has the bit, else to `low`. */
static void bucket_move(const struct txn_bucket *from, struct txn_bucket *low, struct txn_bucket *high,
			uint32_t bit)
{
	struct txn *next = from->more ? from->slot[SLOTS - 1]->chain : NULL;

	for (unsigned i = 0; i < from->used; i++)
		bucket_put(from->tag[i] & bit ? high : low, from->slot[i], from->tag[i]);
	for (struct txn *t = next; t; t = next) {
		next = t->chain;
		bucket_put(tag_of(t->hash) & bit ? high : low, t, tag_of(t->hash));
	}
}

static bool bucket_split(struct txn_table *tb)
{
	size_t n = tb->buckets;

	if (n == tb->cap) {
		/* Of this size realloc moves pages, not bytes. */
		struct txn_bucket *grown = realloc(tb->bucket, 2 * tb->cap * sizeof(*grown));
		if (!grown)
			return false; /* longer chains will do */
		tb->bucket = grown;
		tb->cap *= 2;
	}
	if (n > tb->mask)
		tb->mask = 2 * tb->mask + 1;

	struct txn_bucket *low = &tb->bucket[n & (tb->mask >> 1)], *high = &tb->bucket[n], both = *low;
	low->used = low->more = high->used = high->more = 0;
	bucket_move(&both, low, high, (uint32_t)(tb->mask - (tb->mask >> 1)));
	tb->buckets++;
	return true;
}

static void bucket_join(struct txn_table *tb)
{
	size_t last = tb->buckets - 1;
	struct txn_bucket *low = &tb->bucket[last & (tb->mask >> 1)];

	bucket_move(&tb->bucket[last], low, low, 0);
	tb->buckets = last;
	if (last == (tb->mask >> 1) + 1) /* the upper half is empty */
		tb->mask >>= 1;
	if (tb->cap > BUCKETS_MIN && tb->buckets <= tb->cap / 4) {
		struct txn_bucket *less = realloc(tb->bucket, tb->cap / 2 * sizeof(*less));
		if (less) {
			tb->bucket = less;
			tb->cap /= 2;
		}
	}
}

void txn_table_insert(struct txn_table *tb, struct txn *t)
{
	tb->count++;
	if (tb->buckets * TXNS_PER_BUCKET < tb->count)
		bucket_split(tb);
	bucket_put(bucket_of(tb, t->hash), t, tag_of(t->hash));
}

/* A place that becomes free is filled with one of those without a slot, or else with the last. */
static void bucket_take(struct txn_bucket *b, struct txn *t)
{
	unsigned i = 0;

	while (i < b->used && b->slot[i] != t)
		i++;
	if (!b->more) {
		b->used--;
		b->slot[i] = b->slot[b->used];
		b->tag[i] = b->tag[b->used];
		return;
	}
	struct txn **first = &b->slot[SLOTS - 1]->chain; /* of those without a slot */

	b->more--;
	if (i == b->used) {
		while (*first != t)
			first = &(*first)->chain;
		*first = t->chain;
		return;
	}
	struct txn *in = *first;
	if (i < SLOTS - 1) {
		*first = in->chain;
		in->chain = NULL;
	} /* else it has the others hanging on it already */
	b->slot[i] = in;
	b->tag[i] = tag_of(in->hash);
}

void txn_table_remove(struct txn_table *tb, struct txn *t)
{
	bucket_take(bucket_of(tb, t->hash), t);
	t->chain = NULL;
	tb->count--;
	for (unsigned i = 0; i < TXNS_FEW && tb->buckets > BUCKETS_MIN &&
			     tb->buckets * TXNS_PER_BUCKET > (size_t)tb->count * TXNS_FEW;
	     i++)
		bucket_join(tb);
}

struct txn *txn_table_look(const struct txn_table *tb, const struct txn_key *k)
{
	const struct txn_bucket *b = bucket_of(tb, k->hash);

	for (unsigned i = 0; i < b->used; i++)
		if (b->tag[i] == tag_of(k->hash) && b->slot[i]->hash == k->hash &&
		    txn_key_matches(k, b->slot[i]))
			return b->slot[i];
	struct txn *t = b->more ? b->slot[SLOTS - 1]->chain : NULL;
	while (t && !(t->hash == k->hash && txn_key_matches(k, t)))
		t = t->chain;
	return t;
}

unsigned txn_table_same(const struct txn_table *tb, uint64_t hash)
{
	const struct txn_bucket *b = bucket_of(tb, hash);
	unsigned n = 0;

	for (unsigned i = 0; i < b->used; i++)
		n += b->tag[i] == tag_of(hash) && b->slot[i]->hash == hash;
	for (const struct txn *t = b->more ? b->slot[SLOTS - 1]->chain : NULL; t; t = t->chain)
		n += t->hash == hash;
	return n;
}

struct txn *txn_table_drain(struct txn_table *tb)
{
	struct txn *all = NULL, *next;

	for (size_t i = 0; i < tb->buckets; i++) {
		struct txn_bucket *b = &tb->bucket[i];
		for (unsigned s = 0; s < b->used; s++)
			for (struct txn *t = b->slot[s]; t; t = next) {
				next = t->chain;
				t->chain = all;
				all = t;
			}
		b->used = b->more = 0;
	}
	tb->count = 0;
	return all;
}
