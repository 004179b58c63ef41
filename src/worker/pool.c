#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "transport/local.h"
#include "worker/worker_p.h"

#define POOL_SELF_MAX 64 /* addresses of one wildcard listener */

static void worker_destroy(struct worker *w)
{
	struct mailbox_item *it;
	if (!w)
		return;
	if (w->proxy)
		w->pool->core->destroy(w->proxy);
	while ((it = mailbox_take(&w->mailbox)) != NULL)
		worker_item_drop(it);
	mailbox_deinit(&w->mailbox);
	outbox_destroy(w->outbox);
	free(w);
}

/* Its own environment, so that no worker waits for another's commit. */
static int worker_store(struct store *s, unsigned index, struct store_env **out)
{
	char err[256];
	int rc = store_worker(s, index, out, err, sizeof(err));
	if (rc)
		log_error("worker", "%s", err);
	return rc;
}

static int worker_create(struct worker_pool *pool, const struct worker_pool_config *c, unsigned index,
			 struct worker **out)
{
	struct worker *w = aligned_alloc(64, (sizeof(*w) + 63) & ~(size_t)63);
	int rc;
	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof(*w));
	w->pool = pool;
	w->index = index;
	w->now = clock_mono_ms();
	thread_beat(&w->thread, w->now);
	w->stop.kind = WORKER_ITEM_STOP;
	w->reconfigure.kind = WORKER_ITEM_RECONFIGURE;
	atomic_init(&w->played, 1); /* by main, then by its thread */
	mailbox_init(&w->mailbox, c->config->mailbox_limit);
	wheel_init(&w->wheel, w->now);
	rc = pool->keeps_calls ? worker_store(pool->store, index, &w->calls) : 0;
	if (rc)
		goto fail;
	rc = outbox_create(c->udp, c->streams, &(struct outbox_upper){worker_send_failed, w}, &w->outbox);
	if (rc)
		goto fail;
	struct proxy_env env = {.config = c->config,
				.secret = c->secret,
				.shared = c->shared,
				.lower = {.send = worker_send,
					  .connect = c->streams ? worker_connect : NULL,
					  .attach = worker_attach,
					  .acked = worker_acked,
					  .alias = worker_alias,
					  .hangup = worker_hangup,
					  .resolve = worker_resolve,
					  .source = worker_source,
					  .mine = worker_mine,
					  .ctx = w},
				.wheel = &w->wheel,
				.now = &w->now,
				.self = pool->self,
				.self_count = pool->self_count,
				.worker = index,
				.store = c->store ? store_shared(c->store) : NULL,
				.calls = w->calls,
				.digest = c->digest};
	rc = c->core->create(&env, &w->proxy);
	if (rc)
		goto fail;
	*out = w;
	return 0;
fail:
	worker_destroy(w);
	return rc;
}

const struct addr *worker_pool_bound(const struct worker_pool *pool, unsigned listener)
{
	const struct udp *u = pool->udp;
	const struct addr *a = NULL;
	if (listener >= u->listeners)
		return NULL;
	if (u->bound[listener].family)
		a = &u->bound[listener];
	else if (pool->streams)
		a = streams_bound(pool->streams, listener);
	return a && a->family ? a : NULL;
}

static int worker_pool_self_make(struct worker_pool *pool)
{
	const struct udp *u = pool->udp;
	pool->self = calloc(u->listeners ? u->listeners : 1, POOL_SELF_MAX * sizeof(*pool->self));
	if (!pool->self)
		return -ENOMEM;
	for (unsigned i = 0; i < u->listeners; i++) {
		const struct addr *bound = worker_pool_bound(pool, i);
		if (!bound)
			continue;
		int n = local_list(bound, pool->self + pool->self_count, POOL_SELF_MAX);
		if (n < 0)
			return n;
		pool->self_count += (unsigned)n;
	}
	return 0;
}

static int worker_pool_ports_make(struct worker_pool *pool, unsigned n)
{
	pool->port = calloc(n ? n : 1, sizeof(*pool->port));
	if (!pool->port)
		return -ENOMEM;
	pool->ports = n;
	for (unsigned i = 0; i < n; i++) {
		struct shard_port *port = &pool->port[i];
		port->pool = pool;
		port->touched = calloc(pool->count, sizeof(*port->touched));
		port->list = calloc(pool->count, sizeof(*port->list));
		if (!port->touched || !port->list)
			return -ENOMEM;
	}
	return 0;
}

int worker_pool_create(const struct worker_pool_config *c, struct worker_pool **out)
{
	struct worker_pool *pool = calloc(1, sizeof(*pool));
	int rc;
	if (!pool)
		return -ENOMEM;
	sem_init(&pool->acknowledged, 0, 0);
	pool->core = c->core;
	pool->resolver = c->resolver;
	pool->udp = c->udp;
	pool->streams = c->streams;
	pool->store = c->store;
	pool->digest = c->digest;
	pool->keeps_calls = c->store && c->config->store.transactions;
	pool->config = c->config;
	rc = worker_pool_self_make(pool);
	if (rc)
		goto fail;
	pool->worker = calloc(c->config->workers, sizeof(struct worker *));
	if (!pool->worker) {
		rc = -ENOMEM;
		goto fail;
	}
	for (unsigned i = 0; i < c->config->workers; i++) {
		rc = worker_create(pool, c, i, &pool->worker[i]);
		if (rc)
			goto fail;
		pool->count++;
	}
	rc = worker_pool_ports_make(pool, c->config->acceptors);
	if (rc)
		goto fail;
	*out = pool;
	return 0;
fail:
	worker_pool_destroy(pool);
	return rc;
}

int worker_pool_start(struct worker_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++) {
		struct worker *w = pool->worker[i];
		int rc = thread_start(&w->thread, "hf-worker", i, worker_main, w);
		if (rc) {
			worker_pool_stop(pool);
			return rc;
		}
	}
	return 0;
}

static void worker_pool_post(struct worker *w, struct mailbox_item *it)
{
	if (mailbox_post_always(&w->mailbox, it) > 0)
		mailbox_wake(&w->mailbox);
}

void worker_pool_stop(struct worker_pool *pool)
{
	for (unsigned i = 0; i < pool->count; i++)
		if (pool->worker[i]->thread.running)
			worker_pool_post(pool->worker[i], &pool->worker[i]->stop);
	for (unsigned i = 0; i < pool->count; i++)
		thread_join(&pool->worker[i]->thread);
	for (unsigned i = 0; i < pool->count && pool->core->flush; i++)
		if (pool->worker[i]->proxy)
			pool->core->flush(pool->worker[i]->proxy);
}

void worker_pool_destroy(struct worker_pool *pool)
{
	if (!pool)
		return;
	worker_pool_stop(pool);
	for (unsigned i = 0; i < pool->count; i++)
		worker_destroy(pool->worker[i]);
	for (unsigned i = 0; i < pool->ports; i++) {
		free(pool->port[i].touched);
		free(pool->port[i].list);
	}
	sem_destroy(&pool->acknowledged);
	free(pool->port);
	free(pool->self);
	free(pool->worker);
	free(pool);
}

void worker_pool_upper(struct worker_pool *pool, unsigned acceptor, struct acceptor_upper *out)
{
	*out = (struct acceptor_upper){.deliver = shard_deliver,
				       .send_failed = shard_send_failed,
				       .flush = shard_flush,
				       .ctx = &pool->port[acceptor]};
}

void worker_pool_reconfigure(struct worker_pool *pool, const struct config *c)
{
	pool->config = c;
	for (unsigned i = 0; i < pool->count; i++)
		worker_pool_post(pool->worker[i], &pool->worker[i]->reconfigure);
	for (unsigned i = 0; i < pool->count; i++)
		while (sem_wait(&pool->acknowledged) < 0 && errno == EINTR)
			;
}

struct store_env *worker_pool_calls(const struct worker_pool *pool, unsigned i)
{
	return i < pool->count ? pool->worker[i]->calls : NULL;
}

unsigned worker_pool_count(const struct worker_pool *pool)
{
	return pool->count;
}

unsigned worker_pool_depth(const struct worker_pool *pool, unsigned i)
{
	return mailbox_depth(&pool->worker[i]->mailbox);
}

bool worker_pool_alive(const struct worker_pool *pool, unsigned i, msec_t now)
{
	return thread_alive(&pool->worker[i]->thread, now);
}
