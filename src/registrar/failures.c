/* Who failed to authenticate lately, so that passwords cannot be tried out at leisure. A slot: 24 bits of the key's
 * hash, one that says that the user has succeeded from there, 7 of the number of failures, 32 of the time of the last
 * attempt in units of 16 ms. When a set is full, a slot without failures gives way, then the oldest. Who is known from
 * a source is not held back by what others do there: behind a NAT, or another proxy, one telephone with an old password
 * would shut out all. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "digest_p.h"

#define FAILURES_UNIT   16u       /* ms */
#define FAILURES_FORGET 600000u   /* ms without a failure after which all is forgotten */
#define FAILURES_FIRST  500u      /* ms: the first delay; it doubles */
#define FAILURES_MOST   16000u    /* ms: the longest */
#define FAILURES_KNOWN  86400000u /* ms after which a success is forgotten */
#define FAILURES_MAX    127u
#define SLOT_KNOWN      (UINT64_C(1) << 39)
#define FREE_USER       2u  /* failures without a delay: of a user at a source */
#define FREE_SOURCE     50u /* of a source: a NAT may have many users behind it */

int failures_init(struct failures *f)
{
	f->slot = calloc((size_t)FAILURES_SETS * TABLE_WAYS, sizeof(*f->slot));
	return f->slot ? 0 : -ENOMEM;
}

void failures_deinit(struct failures *f)
{
	free((void *)f->slot);
	f->slot = NULL;
}

struct failure_key {
	_Atomic uint64_t *set;
	uint32_t tag;
	unsigned free; /* failures */
};

static void key_make(struct failures *f, uint64_t origin, struct slice user, struct failure_key *k)
{
	uint64_t h = hash_bytes(&origin, sizeof(origin), hash_seed ^ 2);
	k->free = user.len ? FREE_USER : FREE_SOURCE;
	if (user.len)
		h = hash_bytes(user.p, user.len, h);
	k->set = &f->slot[(h & (FAILURES_SETS - 1)) * TABLE_WAYS];
	k->tag = (uint32_t)(h >> 40) | 1;
}

static uint32_t slot_tag(uint64_t v)
{
	return (uint32_t)(v >> 40);
}

static unsigned slot_count(uint64_t v)
{
	return (unsigned)(v >> 32) & FAILURES_MAX;
}

/* ms since the slot's time; an empty one is older than all. */
static uint64_t slot_age(uint64_t v, uint64_t now)
{
	if (!v)
		return UINT64_MAX;
	return (uint64_t)(uint32_t)((uint32_t)(now / FAILURES_UNIT) - (uint32_t)v) * FAILURES_UNIT;
}

/* True if the slot says nothing any more. */
static bool slot_is_old(uint64_t v, uint64_t now)
{
	return slot_age(v, now) >= (v & SLOT_KNOWN ? FAILURES_KNOWN : FAILURES_FORGET);
}

static unsigned slot_failures(uint64_t v, uint64_t now)
{
	return slot_age(v, now) < FAILURES_FORGET ? slot_count(v) : 0;
}

static uint64_t slot_make(const struct failure_key *k, bool known, unsigned count, uint64_t now)
{
	return (uint64_t)k->tag << 40 | (known ? SLOT_KNOWN : 0) | (uint64_t)count << 32 |
	       (uint32_t)(now / FAILURES_UNIT);
}

static uint32_t delay_of(unsigned count, unsigned free)
{
	unsigned step = count - free - 1;
	if (count <= free)
		return 0;
	return step > 5 ? FAILURES_MOST : FAILURES_FIRST << step;
}

static _Atomic uint64_t *find(const struct failure_key *k, uint64_t now, uint64_t *v)
{
	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		*v = atomic_load(&k->set[i]);
		if (*v && slot_tag(*v) == k->tag && !slot_is_old(*v, now))
			return &k->set[i];
	}
	return NULL;
}

/* A slot to be given up for another: one that says nothing, one without failures, or the oldest. */
static _Atomic uint64_t *find_room(const struct failure_key *k, uint64_t now, uint64_t *v)
{
	_Atomic uint64_t *found = NULL;
	uint64_t most = 0;

	for (unsigned i = 0; i < TABLE_WAYS; i++) {
		uint64_t one = atomic_load(&k->set[i]), age = slot_age(one, now);
		if (one && slot_is_old(one, now))
			age = UINT64_MAX - 1;
		else if (one && !slot_failures(one, now))
			age += UINT64_MAX / 2;
		if (!found || age > most) {
			found = &k->set[i];
			most = age;
			*v = one;
		}
	}
	return found;
}

static uint32_t key_due(const struct failure_key *k, uint64_t now, bool *known)
{
	uint64_t v;

	*known = false;
	if (!find(k, now, &v))
		return 0;
	*known = v & SLOT_KNOWN;
	uint64_t delay = delay_of(slot_failures(v, now), k->free), age = slot_age(v, now);
	return age >= delay ? 0 : (uint32_t)(delay - age);
}

static uint32_t key_note(const struct failure_key *k, uint64_t now, bool *known)
{
	_Atomic uint64_t *s;
	uint64_t v;
	unsigned n;

	do {
		n = 1;
		*known = false;
		s = find(k, now, &v);
		if (s) {
			n = slot_failures(v, now) < FAILURES_MAX ? slot_failures(v, now) + 1 : FAILURES_MAX;
			*known = v & SLOT_KNOWN;
		} else {
			s = find_room(k, now, &v);
		}
	} while (!atomic_compare_exchange_strong(s, &v, slot_make(k, *known, n, now)));
	return delay_of(n, k->free);
}

uint32_t failures_due(struct failures *f, uint64_t origin, struct slice user, uint64_t now)
{
	struct failure_key one, all;
	bool known, none;

	key_make(f, origin, user, &one);
	key_make(f, origin, SLICE_NONE, &all);
	uint32_t a = key_due(&one, now, &known), b = key_due(&all, now, &none);
	return known || a > b ? a : b;
}

uint32_t failures_note(struct failures *f, uint64_t origin, struct slice user, uint64_t now)
{
	struct failure_key one, all;
	bool known, none;

	key_make(f, origin, user, &one);
	key_make(f, origin, SLICE_NONE, &all);
	uint32_t a = key_note(&one, now, &known), b = key_note(&all, now, &none);
	return known || a > b ? a : b;
}

void failures_forget(struct failures *f, uint64_t origin, struct slice user, uint64_t now)
{
	struct failure_key k;
	_Atomic uint64_t *s;
	uint64_t v;

	key_make(f, origin, user, &k);
	s = find(&k, now, &v);
	if (!s) {
		s = find_room(&k, now, &v);
		if (v && !slot_is_old(v, now) && slot_failures(v, now))
			return; /* who fails is remembered first */
	}
	/* Another thread has changed it meanwhile: the next success is as good. */
	atomic_compare_exchange_strong(s, &v, slot_make(&k, true, 0, now));
}
