#include "transport/thread.h"

#include <signal.h>
#include <stdio.h>

#include "base/counters.h"

static void *thread_main(void *arg)
{
	struct thread *t = arg;
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
