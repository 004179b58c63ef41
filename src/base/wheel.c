/* Ticks are numbers in base 256. A timer for tick T stands on the level of the highest digit in which T differs
 * from the wheel's tick, in the slot of T's digit there. As time only grows, the slots of a level that hold timers
 * are never behind the wheel's own digit, so the next one is the next set bit, however far away it is. */
#include "base/wheel.h"

#include <stddef.h>

#define DIGIT 8 /* bits of a tick that choose a slot of a level */

_Static_assert(WHEEL_SLOTS == 1 << DIGIT, "a digit is a slot");

static void list_init(struct timer *head)
{
	head->next = head->prev = head;
}

static void list_append(struct timer *head, struct timer *t)
{
	t->prev = head->prev;
	t->next = head;
	head->prev->next = t;
	head->prev = t;
}

/* Everything of `from` becomes the list `to`. */
static void list_move(struct timer *to, struct timer *from)
{
	if (from->next == from) {
		list_init(to);
		return;
	}
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to;
	to->prev->next = to;
	list_init(from);
}

static void map_clear(struct wheel *w, size_t slot)
{
	w->map[slot / WHEEL_SLOTS][slot % WHEEL_SLOTS / 64] &= ~(UINT64_C(1) << (slot % 64));
}

static void wheel_unlink(struct wheel *w, struct timer *t)
{
	struct timer *next = t->next;

	t->prev->next = next;
	next->prev = t->prev;
	t->next = t->prev = NULL;
	if (next->next == next) {
		/* A list head was left alone: if it is a slot (and not due, far or being run), its bit goes. */
		size_t off = (size_t)((uintptr_t)next - (uintptr_t)&w->slot[0][0]);
		if (off < sizeof(w->slot))
			map_clear(w, off / sizeof(struct timer));
	}
}

void wheel_init(struct wheel *w, msec_t now)
{
	*w = (struct wheel){.tick = now / WHEEL_TICK_MS + 1, .now = now};
	for (unsigned l = 0; l < WHEEL_LEVELS; l++)
		for (unsigned s = 0; s < WHEEL_SLOTS; s++)
			list_init(&w->slot[l][s]);
	list_init(&w->due);
	list_init(&w->far);
}

static void wheel_place(struct wheel *w, struct timer *t)
{
	uint64_t tick = t->when / WHEEL_TICK_MS + (t->when % WHEEL_TICK_MS != 0);
	uint64_t diff = tick ^ w->tick;
	unsigned level = diff ? (63u - (unsigned)__builtin_clzll(diff)) / DIGIT : 0;
	unsigned slot;

	if (level >= WHEEL_LEVELS) {
		if (w->far.next == &w->far)
			w->far_tick = ((w->tick >> (DIGIT * WHEEL_LEVELS)) + 1) << (DIGIT * WHEEL_LEVELS);
		list_append(&w->far, t);
		return;
	}
	slot = (unsigned)(tick >> (DIGIT * level)) & (WHEEL_SLOTS - 1);
	list_append(&w->slot[level][slot], t);
	w->map[level][slot / 64] |= UINT64_C(1) << (slot % 64);
}

void timer_set(struct wheel *w, struct timer *t, msec_t when)
{
	if (timer_is_set(t))
		wheel_unlink(w, t);
	else
		w->count++;
	t->when = when;
	if (when <= w->now)
		list_append(&w->due, t);
	else
		wheel_place(w, t);
}

void timer_stop(struct wheel *w, struct timer *t)
{
	if (!timer_is_set(t))
		return;
	wheel_unlink(w, t);
	w->count--;
}

/* The first slot at or after `from` that holds a timer, or WHEEL_SLOTS. */
static unsigned map_next(const uint64_t *map, unsigned from)
{
	unsigned i = from / 64;
	uint64_t word = map[i] & (~UINT64_C(0) << (from % 64));

	while (!word) {
		if (++i == WHEEL_SLOTS / 64)
			return WHEEL_SLOTS;
		word = map[i];
	}
	return i * 64 + (unsigned)__builtin_ctzll(word);
}

/* The next tick that has work, and the slot that it is for: one of level 0 to be fired, one of a higher level, or
 * the far list, to be spread over the lower ones. The higher of two for the same tick comes first: it may hold
 * timers of that very tick. */
static uint64_t wheel_work(const struct wheel *w, unsigned *level, unsigned *slot)
{
	uint64_t best = UINT64_MAX;

	for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
		unsigned shift = DIGIT * l;
		unsigned s = map_next(w->map[l], (unsigned)(w->tick >> shift) & (WHEEL_SLOTS - 1));
		uint64_t at;
		if (s == WHEEL_SLOTS)
			continue;
		at = (w->tick >> (shift + DIGIT) << DIGIT | s) << shift;
		if (at <= best) {
			best = at;
			*level = l;
			*slot = s;
		}
	}
	if (w->far.next != &w->far && w->far_tick <= best) {
		best = w->far_tick;
		*level = WHEEL_LEVELS;
	}
	return best;
}

static void wheel_spread(struct wheel *w, struct timer *from)
{
	struct timer list, *t, *next;

	list_move(&list, from);
	for (t = list.next; t != &list; t = next) {
		next = t->next;
		wheel_place(w, t);
	}
}

static unsigned wheel_fire(struct wheel *w, struct timer *from, msec_t now)
{
	struct timer list, *t;
	unsigned n = 0;

	/* What is set from now on goes elsewhere; what is stopped or moved leaves this list by its own links. */
	list_move(&list, from);
	while ((t = list.next) != &list) {
		timer_stop(w, t);
		t->fn(t, now);
		n++;
	}
	return n;
}

unsigned wheel_run(struct wheel *w, msec_t now)
{
	uint64_t last = now / WHEEL_TICK_MS;
	unsigned n = 0;

	if (now > w->now)
		w->now = now;
	if (w->due.next != &w->due)
		n += wheel_fire(w, &w->due, now);
	if (w->tick > last)
		return n;
	for (;;) {
		unsigned level = 0, slot = 0;
		uint64_t at = w->count ? wheel_work(w, &level, &slot) : UINT64_MAX;
		/* What begins right after the last tick is spread already, so that wheel_next is exact. */
		if (at > last + (level != 0)) {
			/* Nothing stands between here and there: no need to go there tick by tick. */
			w->tick = last + 1;
			return n;
		}
		w->tick = at;
		if (level == WHEEL_LEVELS) {
			wheel_spread(w, &w->far);
			continue;
		}
		map_clear(w, level * WHEEL_SLOTS + slot);
		if (level) {
			wheel_spread(w, &w->slot[level][slot]);
			continue;
		}
		w->tick++;
		n += wheel_fire(w, &w->slot[0][slot], now);
	}
}

msec_t wheel_next(const struct wheel *w)
{
	unsigned level, slot;

	if (w->count == 0)
		return UINT64_MAX;
	if (w->due.next != &w->due)
		return w->now;
	return wheel_work(w, &level, &slot) * WHEEL_TICK_MS;
}
