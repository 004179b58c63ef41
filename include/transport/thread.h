/* A thread with a name, a small stack, all signals blocked, counters of its own, and a heartbeat. */
#ifndef TRANSPORT_THREAD_H
#define TRANSPORT_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"

#define THREAD_STACK (1024 * 1024) /* bytes */
#define THREAD_GRACE 5000          /* ms: without a sign of life for so long, a busy thread counts as stuck */

struct thread {
	pthread_t id;               /* owner */
	bool running;               /* owner: started and not joined */
	_Atomic msec_t alive_until; /* atomic: the thread promises its next sign of life before this */
	void (*fn)(void *arg);      /* const after start */
	void *arg;                  /* const after start */
};

/* Starts fn(arg). The name is `name` and "-" and `index`, cut to 15 characters. 0 or -errno. */
int thread_start(struct thread *t, const char *name, unsigned index, void (*fn)(void *arg), void *arg);
/* Waits for its end; does nothing when it is not running. */
void thread_join(struct thread *t);

/* The thread itself: it is at work at `now`. */
static inline void thread_beat(struct thread *t, msec_t now)
{
	atomic_store_explicit(&t->alive_until, now + THREAD_GRACE, memory_order_relaxed);
}

/* The thread itself, before it sleeps until `wake` (UINT64_MAX: until somebody wakes it). */
static inline void thread_sleep(struct thread *t, msec_t wake)
{
	msec_t until = wake > UINT64_MAX - THREAD_GRACE ? UINT64_MAX : wake + THREAD_GRACE;
	atomic_store_explicit(&t->alive_until, until, memory_order_relaxed);
}

/* Any thread. */
static inline bool thread_alive(const struct thread *t, msec_t now)
{
	return atomic_load_explicit(&t->alive_until, memory_order_relaxed) >= now;
}

#endif
