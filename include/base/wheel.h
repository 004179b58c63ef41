/* A timer wheel, owned by one thread. Setting, moving and stopping a timer take constant time; a timer
 * never fires early, and late by at most one tick plus the time to the next wheel_run. */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include <stdbool.h>

#include "base/clock.h"
#include "base/container.h"

#define WHEEL_TICK_MS 8   /* ms */
#define WHEEL_SLOTS   256 /* per level */
#define WHEEL_LEVELS  4   /* 256^4 ticks: over a year */

struct timer;
typedef void timer_fn(struct timer *t, msec_t now);

struct timer {
	struct timer *next, *prev; /* NULL: not set */
	msec_t when;               /* ms, absolute */
	timer_fn *fn;              /* called on the wheel's thread with the timer already stopped; it may
	                            * set, stop or free any timer, its own included */
};

struct wheel {
	struct timer slot[WHEEL_LEVELS][WHEEL_SLOTS]; /* list heads */
	struct timer due;                             /* list head: set when their time had already come */
	struct timer far;                             /* list head: beyond the levels */
	uint64_t map[WHEEL_LEVELS][WHEEL_SLOTS / 64]; /* which slots hold a timer */
	uint64_t tick;                                /* the next tick to be run */
	uint64_t far_tick;                            /* when `far` is looked at again, unless it is empty */
	msec_t now;                                   /* ms, of the latest run */
	uint64_t count;                               /* timers set */
};

void wheel_init(struct wheel *w, msec_t now);

static inline void timer_init(struct timer *t, timer_fn *fn)
{
	*t = (struct timer){.fn = fn};
}

static inline bool timer_is_set(const struct timer *t)
{
	return t->next != 0;
}

/* Sets or moves: the timer fires at the first run at or after `when` (ms, absolute), rounded up to a tick. A time
 * that is not after the latest run fires at the next one. A timer set by a firing timer never fires in the same run. */
void timer_set(struct wheel *w, struct timer *t, msec_t when);
void timer_stop(struct wheel *w, struct timer *t);

/* Fires all that is due, in order of ticks. Returns how many fired. An idle gap costs the same however long it is. */
unsigned wheel_run(struct wheel *w, msec_t now);

/* The time of the next run that may have something to do; UINT64_MAX when no timer is set. Exact within a tick, but
 * for a timer that is not due in the present 2 s period (256 ticks): then it is the start of that timer's period
 * (of the 524 s period, if it is not in the present one either, and so on). */
msec_t wheel_next(const struct wheel *w);

#endif
