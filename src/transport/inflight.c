#include "transport/inflight.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

#define INFLIGHT_BYTES (sizeof(uint64_t) * INFLIGHT_WAYS * INFLIGHT_SETS)

_Static_assert(sizeof(uint64_t) * INFLIGHT_WAYS == 64, "a set is one cache line");
_Static_assert((INFLIGHT_SETS & (INFLIGHT_SETS - 1)) == 0, "the set is picked by a mask");
_Static_assert(sizeof(struct addr) == 3 * sizeof(uint64_t), "inflight_key hashes an address as three words");

int inflight_init(struct inflight *f)
{
	void *p = aligned_alloc(64, INFLIGHT_BYTES);
	if (!p)
		return -ENOMEM;
	memset(p, 0, INFLIGHT_BYTES);
	f->slot = p;
	return 0;
}

void inflight_deinit(struct inflight *f)
{
	free(f->slot);
	f->slot = NULL;
}

uint64_t inflight_key(struct slice datagram, const struct addr *source, unsigned listener)
{
	uint64_t word[3];
	uint64_t h = hash_bytes(datagram.p, datagram.len, hash_seed + listener);
	memcpy(word, source, sizeof(word));
	for (unsigned i = 0; i < 3; i++)
		h = hash_join(h, word[i]);
	return h ? h : 1;
}

static _Atomic uint64_t *inflight_set(const struct inflight *f, uint64_t key)
{
	return f->slot + (key & (INFLIGHT_SETS - 1)) * INFLIGHT_WAYS;
}

bool inflight_has(const struct inflight *f, uint64_t key)
{
	const _Atomic uint64_t *set = inflight_set(f, key);
	for (unsigned i = 0; i < INFLIGHT_WAYS; i++)
		if (atomic_load_explicit(&set[i], memory_order_relaxed) == key)
			return true;
	return false;
}

_Atomic uint64_t *inflight_enter(struct inflight *f, uint64_t key)
{
	_Atomic uint64_t *set = inflight_set(f, key);
	for (unsigned i = 0; i < INFLIGHT_WAYS; i++) {
		/* Acquire: what the worker did with the slot before it let go is over. Only we make a free slot a used
		 * one, so that no compare-and-swap is needed. */
		if (atomic_load_explicit(&set[i], memory_order_acquire) == 0) {
			atomic_store_explicit(&set[i], key, memory_order_relaxed);
			return &set[i];
		}
	}
	return NULL;
}
