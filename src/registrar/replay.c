/* Nonce-counts that were used. A slot: 32 bits of the nonce's hash, 12 of the time, 20 of the highest count. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "digest_p.h"

#define REPLAY_UNIT   16384u /* ms of a tick of the slot's time, which wraps after 18 hours */
#define REPLAY_TICKS  4096u
#define REPLAY_NC_MAX 0xfffffu

int replay_init(struct replay *r)
{
	r->slot = calloc((size_t)REPLAY_SETS * TABLE_WAYS, sizeof(*r->slot));
	return r->slot ? 0 : -ENOMEM;
}

void replay_deinit(struct replay *r)
{
	free((void *)r->slot);
	r->slot = NULL;
}

static uint64_t slot_make(uint32_t tag, unsigned tick, uint32_t nc)
{
	return (uint64_t)tag << 32 | (uint64_t)tick << 20 | nc;
}

/* True if no nonce that was given when the slot was last used can still be good. */
static bool slot_is_free(uint64_t v, unsigned tick)
{
	unsigned age = (tick - (unsigned)(v >> 20)) % REPLAY_TICKS;
	return v == 0 || age > DIGEST_NONCE_LIFE / REPLAY_UNIT + 1;
}

/* Another slot of the set for the same nonce: two threads began with it at the same time. */
static bool is_twice(_Atomic uint64_t *set, unsigned mine, uint32_t tag, unsigned tick)
{
	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t v = atomic_load(&set[i]);
		if (i != mine && (uint32_t)(v >> 32) == tag && !slot_is_free(v, tick))
			return true;
	}
	return false;
}

bool replay_use(struct replay *r, struct slice nonce, uint32_t nc, uint64_t now)
{
	uint64_t h = hash_bytes(nonce.p, nonce.len, hash_seed ^ 1);
	_Atomic uint64_t *set = &r->slot[(h & (REPLAY_SETS - 1)) * TABLE_WAYS];
	uint32_t tag = (uint32_t)(h >> 32) | 1; /* a slot in use is never 0 */
	unsigned tick = (unsigned)(now / REPLAY_UNIT) % REPLAY_TICKS;

	if (nc > REPLAY_NC_MAX)
		return false;
again:
	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t v = atomic_load(&set[i]);
		if ((uint32_t)(v >> 32) != tag || slot_is_free(v, tick))
			continue;
		if ((v & REPLAY_NC_MAX) >= nc)
			return false;
		if (!atomic_compare_exchange_strong(&set[i], &v, slot_make(tag, tick, nc)))
			goto again;
		return true;
	}
	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t v = atomic_load(&set[i]);
		if (!slot_is_free(v, tick))
			continue;
		if (!atomic_compare_exchange_strong(&set[i], &v, slot_make(tag, tick, nc)))
			goto again;
		/* Whoever writes last sees the other; should both, both ask for a new nonce. */
		return !is_twice(set, i, tag, tick);
	}
	return false;
}
