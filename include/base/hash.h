/* xxHash with a seed that is random for each start, so that nobody outside can aim at a bucket. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

extern uint64_t hash_seed; /* const after hash_init */

void hash_init(uint64_t seed); /* main, before any thread */
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);

static inline uint64_t hash_slice(struct slice s)
{
	return hash_bytes(s.p, s.len, hash_seed);
}

/* Joins two hashes; order matters. */
static inline uint64_t hash_join(uint64_t a, uint64_t b)
{
	a ^= b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2);
	a *= 0xff51afd7ed558ccdu;
	return a ^ (a >> 32);
}

#endif
