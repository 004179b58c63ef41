#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/thread.h"

struct keeper {
	struct thread thread;
	struct store *store;               /* const */
	const struct worker_pool *workers; /* const */
	uint32_t interval;                 /* const: ms */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping; /* under lock */
};

static void sync_one(struct store_env *e)
{
	static struct log_limiter limiter;
	uint64_t missed;
	int rc = e ? store_env_sync(e) : 0;

	if (!rc)
		return;
	count(CNT_STORE_SYNC_FAILED);
	if (log_limit(&limiter, 1, &missed))
		log_error("store", "the store cannot be written through to the disk: %s", strerror(-rc));
}

/* Only at the end: each time makes every page of the map cost a fault when it is next written, 20 µs a call at 2,000 a
 * second. The kernel writes them back in its own time, and calls that were being set up when the power went are over
 * when it is back. */
static void sync_calls(struct keeper *k)
{
	for (unsigned i = 0; i < worker_pool_count(k->workers); i++)
		sync_one(worker_pool_calls(k->workers, i));
}

static void keeper_main(void *arg)
{
	struct keeper *k = arg;
	struct timespec until;
	bool stopping = false;

	thread_sleep(&k->thread, UINT64_MAX);
	while (!stopping) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += k->interval / 1000;
		until.tv_nsec += (long)(k->interval % 1000) * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		pthread_mutex_lock(&k->lock);
		while (!k->stopping && pthread_cond_timedwait(&k->changed, &k->lock, &until) != ETIMEDOUT)
			;
		stopping = k->stopping;
		pthread_mutex_unlock(&k->lock);
		sync_one(store_shared(k->store));
	}
	sync_calls(k);
}

int keeper_start(struct store *s, const struct worker_pool *workers, uint32_t interval, struct keeper **out)
{
	pthread_condattr_t attr;
	struct keeper *k;
	int rc;

	*out = NULL;
	if (!interval || !s)
		return 0;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->store = s;
	k->workers = workers;
	k->interval = interval;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = thread_start(&k->thread, "hf-keeper", 0, keeper_main, k);
	if (rc) {
		free(k);
		return rc;
	}
	*out = k;
	return 0;
}

void keeper_stop(struct keeper *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stopping = true;
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
	thread_join(&k->thread);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}
