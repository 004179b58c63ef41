#include "transport/thread.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/counters.h"

#define THREAD_SLICE 100000 /* ns, the shortest that the kernel grants */

/* The kernel's struct sched_attr as of version 0, which no header of glibc has. */
struct thread_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* Asks for short slices: the scheduler then lets the thread run soon after it wakes even when others keep the CPU busy,
 * with no more CPU time than they get (Linux 6.12; before that it changes nothing). The nice value stays. */
static void thread_slice(void)
{
	struct thread_sched a = {.size = sizeof(a), .policy = SCHED_OTHER, .runtime = THREAD_SLICE};
	if (sched_getscheduler(0) != SCHED_OTHER)
		return; /* the operator knows better */
	a.nice = getpriority(PRIO_PROCESS, (id_t)gettid());
	syscall(SYS_sched_setattr, 0, &a, 0);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	thread_slice();
	counters_use(counters_create());
	t->fn(t->arg);
	return NULL;
}

int thread_start(struct thread *t, const char *name, unsigned index, void (*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, before;
	char label[64];
	int rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	t->fn = fn;
	t->arg = arg;
	thread_beat(t, clock_mono_ms());
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	/* Signals are main's: the mask is inherited, so it is set around the creation. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&t->id, &attr, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc)
		return -rc;
	t->running = true;
	snprintf(label, sizeof(label), "%s-%u", name, index);
	label[15] = '\0';
	pthread_setname_np(t->id, label);
	return 0;
}

void thread_join(struct thread *t)
{
	if (!t->running)
		return;
	pthread_join(t->id, NULL);
	t->running = false;
}
