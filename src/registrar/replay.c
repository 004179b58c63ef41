/* Nonce-counts that were used. A slot: 32 bits of the nonce's hash, 12 of the time, 20 of the highest count. Where one
 * that is still good has to give way, the older nonces of its set are good no more: so one user who takes nonce after
 * nonce cannot shut out the others, whose new ones are taken, and no count is used twice. */
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
	r->floor = calloc(REPLAY_SETS, sizeof(*r->floor));
	if (r->slot && r->floor)
		return 0;
	replay_deinit(r);
	return -ENOMEM;
}

void replay_deinit(struct replay *r)
{
	free((void *)r->slot);
	free((void *)r->floor);
	r->slot = NULL;
	r->floor = NULL;
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

static unsigned slot_age(uint64_t v, unsigned tick)
{
	return (tick - (unsigned)(v >> 20)) % REPLAY_TICKS;
}

/* The slot to be given up for a new nonce: a free one, or the oldest. *v: what is in it. */
static unsigned find_room(_Atomic uint64_t *set, unsigned tick, uint64_t *v)
{
	unsigned found = 0, most = 0;

	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t one = atomic_load(&set[i]);
		unsigned age = slot_is_free(one, tick) ? REPLAY_TICKS : slot_age(one, tick);
		if (i == 0 || age > most) {
			found = i;
			most = age;
			*v = one;
		}
	}
	return found;
}

/* True if a nonce without a slot was given too early to say that it never had one. */
static bool is_below(_Atomic uint64_t *floor, uint64_t given, uint64_t now)
{
	uint64_t at = atomic_load(floor);

	/* The clock was set back: this one is refused, and those to come are not. */
	if (at > now + REPLAY_UNIT)
		atomic_compare_exchange_strong(floor, &at, now);
	return given <= at;
}

static void floor_raise(_Atomic uint64_t *floor, uint64_t to)
{
	uint64_t at = atomic_load(floor);

	while (at < to && !atomic_compare_exchange_weak(floor, &at, to))
		;
}

bool replay_use(struct replay *r, struct slice nonce, uint64_t given, uint32_t nc, uint64_t now)
{
	uint64_t h = hash_bytes(nonce.p, nonce.len, hash_seed ^ 1), v;
	_Atomic uint64_t *set = &r->slot[(h & (REPLAY_SETS - 1)) * TABLE_WAYS];
	_Atomic uint64_t *floor = &r->floor[h & (REPLAY_SETS - 1)];
	uint32_t tag = (uint32_t)(h >> 32) | 1; /* a slot in use is never 0 */
	unsigned tick = (unsigned)(now / REPLAY_UNIT) % REPLAY_TICKS, i;

	if (nc > REPLAY_NC_MAX)
		return false;
	for (;;) {
		for (i = 0; i < TABLE_WAYS; i++) {
			v = atomic_load(&set[i]);
			if ((uint32_t)(v >> 32) == tag && !slot_is_free(v, tick))
				break;
		}
		if (i < TABLE_WAYS) {
			if ((v & REPLAY_NC_MAX) >= nc)
				return false;
			if (atomic_compare_exchange_strong(&set[i], &v, slot_make(tag, tick, nc)))
				return true;
			continue;
		}
		/* Looked at behind the slots, and raised before one is taken: whoever misses a slot sees why. */
		if (is_below(floor, given, now))
			return false;
		i = find_room(set, tick, &v);
		if (!slot_is_free(v, tick))
			floor_raise(floor, now);
		if (atomic_compare_exchange_strong(&set[i], &v, slot_make(tag, tick, nc)))
			/* Whoever writes last sees the other; should both, both ask for a new nonce. */
			return !is_twice(set, i, tag, tick);
	}
}
