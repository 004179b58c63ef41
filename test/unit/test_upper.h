/* The layer above an acceptor, which keeps what it is given. */
#ifndef TEST_UPPER_H
#define TEST_UPPER_H

#include <pthread.h>
#include <time.h>

#include "test_transport.h"
#include "transport/acceptor.h"

#define TAKEN_MAX 4096

struct upper {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct packet *taken[TAKEN_MAX];
	unsigned percent[TAKEN_MAX];
	unsigned count, flushes, flushed; /* flushed: `count` at the last flush */
	unsigned failures;
	struct addr remote;
	char quoted[ACCEPTOR_QUOTE_MAX];
	size_t quoted_len;
	bool refuse;
	unsigned refused;
	unsigned refused_percent;
};

static inline int upper_deliver(void *ctx, struct packet *p, unsigned percent)
{
	struct upper *u = ctx;
	int rc = 0;
	pthread_mutex_lock(&u->lock);
	if (u->refuse || u->count == TAKEN_MAX) {
		u->refused++;
		u->refused_percent = percent;
		rc = -ENOBUFS;
	} else {
		u->percent[u->count] = percent;
		u->taken[u->count++] = p;
	}
	pthread_mutex_unlock(&u->lock);
	return rc;
}

static inline void upper_send_failed(void *ctx, const struct addr *remote, struct slice quoted)
{
	struct upper *u = ctx;
	pthread_mutex_lock(&u->lock);
	u->failures++;
	u->remote = *remote;
	memcpy(u->quoted, quoted.p, quoted.len);
	u->quoted_len = quoted.len;
	pthread_mutex_unlock(&u->lock);
}

static inline void upper_flush(void *ctx)
{
	struct upper *u = ctx;
	pthread_mutex_lock(&u->lock);
	u->flushes++;
	u->flushed = u->count;
	pthread_cond_signal(&u->changed);
	pthread_mutex_unlock(&u->lock);
}

/* Waits until *number (under the lock, renewed by flush) has reached `want`. */
static inline void upper_await(struct upper *u, const unsigned *number, unsigned want)
{
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&u->lock);
	while (*number < want)
		if (pthread_cond_timedwait(&u->changed, &u->lock, &limit) != 0) {
			unsigned have = *number;
			pthread_mutex_unlock(&u->lock);
			fail_msg("waited for %u, have %u", want, have);
		}
	pthread_mutex_unlock(&u->lock);
}

static inline void upper_assert_call_id(const struct packet *p, const char *call_id)
{
	unit_assert_slice(sip_slice(p->msg, p->msg->call_id), call_id);
}

/* Frees what was taken; nothing delivers any more. */
static inline void upper_deinit(struct upper *u)
{
	for (unsigned i = 0; i < u->count; i++)
		packet_destroy(u->taken[i]);
	pthread_mutex_destroy(&u->lock);
	pthread_cond_destroy(&u->changed);
}

static inline void upper_init(struct upper *u)
{
	memset(u, 0, sizeof(*u));
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->changed, NULL);
}

#endif
