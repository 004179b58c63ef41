/* Time. Everything that decides by time takes it as an argument, so that a test can make it. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

typedef uint64_t msec_t; /* ms since some start, monotonic */
typedef uint64_t nsec_t; /* ns */

static inline nsec_t clock_ns(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (nsec_t)ts.tv_sec * 1000000000u + (nsec_t)ts.tv_nsec;
}

static inline nsec_t clock_mono_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline msec_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000u;
}

/* Wall clock, the one of the kernel's packet timestamps. */
static inline nsec_t clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

#endif
