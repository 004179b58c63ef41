/* Workers: each owns a shard of the Call-IDs, and with it a proxy, its timers and its outbox. A worker's loop is: drain the
 * mailbox, decide, run expired timers, commit, send.
 *
 * Order of life, all by main:
 *   udp_open, worker_pool_create, acceptor_create (upper from worker_pool_upper), worker_pool_start, acceptor_start …
 *   acceptor_stop, worker_pool_stop, resolver_destroy, streams_stop, worker_pool_destroy, acceptor_destroy,
 *   streams_close, udp_close. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "proxy/proxy.h"
#include "transport/acceptor.h"

#define WORKER_BATCH 256 /* mailbox items taken at once */

enum worker_item {
	WORKER_ITEM_PACKET,      /* struct packet */
	WORKER_ITEM_SEND_FAILED, /* struct worker_failure, private to the worker */
	WORKER_ITEM_RESOLVED,    /* struct resolver_answer */
	WORKER_ITEM_CONN_LOST,   /* struct conn_lost */
	WORKER_ITEM_RECONFIGURE,
	WORKER_ITEM_STOP,
};

/* What a worker runs: main fills it with proxy_create, proxy_destroy … (a test with its own, and its own struct proxy).
 * create and destroy are called on the main thread while the worker does not run, all else on the worker: by one thread
 * at a time, which is its own or, while that one has nothing to do, an acceptor that plays the worker for a batch
 * (src/worker/README.md). So nothing of a core may be thread-local. */
struct worker_core {
	int (*create)(const struct proxy_env *env, struct proxy **out);
	void (*destroy)(struct proxy *p);
	void (*receive)(struct proxy *p, struct packet *pk);
	void (*resolved)(struct proxy *p, const struct resolver_answer *a);
	void (*send_failed)(struct proxy *p, const struct addr *remote, struct slice quoted);
	void (*conn_lost)(struct proxy *p, uint64_t conn);
	void (*reconfigure)(struct proxy *p, const struct config *c);
	/* Makes the state changes of the batch durable before anything of it is sent; may be NULL. */
	void (*commit)(struct proxy *p);
	/* After the last batch; may be NULL. */
	void (*flush)(struct proxy *p);
};

struct worker_pool_config {
	/* workers, acceptors, mailbox_limit; outlives the pool or is replaced by reconfigure */
	const struct config *config;
	const unsigned char *secret; /* STORE_SECRET_LEN bytes; used during worker_pool_create only */
	struct proxy_shared *shared; /* outlives the pool */
	struct resolver *resolver;   /* outlives the workers' threads; NULL: names cannot be resolved */
	const struct udp *udp;       /* outlives the pool */
	struct streams *streams;     /* outlives the pool; NULL: UDP only */
	struct store *store;         /* outlives the pool; NULL: no registrar, and nothing is kept of calls */
	struct digest *digest;       /* with `store`; outlives the pool */
	const struct worker_core *core; /* outlives the pool */
};

struct worker_pool;

/* Main. Makes config->workers workers without their threads. 0 or -errno. */
int worker_pool_create(const struct worker_pool_config *c, struct worker_pool **out);
/* Main, before worker_pool_start. Gives the workers back what an earlier run has stored of its calls. Records that
 * cannot be read are left out, counted and logged. 0, or -errno: the store cannot be read at all. */
int worker_pool_recover(struct worker_pool *pool);
/* Main. Starts the threads hf-worker-N. 0, or -errno: none runs. */
int worker_pool_start(struct worker_pool *pool);
/* Main, after acceptor_stop: each worker works off what is in its mailbox, then ends; waits for all. */
void worker_pool_stop(struct worker_pool *pool);
/* Main, after the resolver is gone, before acceptor_destroy. Stops first if needed. NULL does nothing. */
void worker_pool_destroy(struct worker_pool *pool);

/* Main. The upcalls for acceptor number `acceptor` (< config->acceptors). */
void worker_pool_upper(struct worker_pool *pool, unsigned acceptor, struct acceptor_upper *out);

/* Main, while the workers run. Hands each the new configuration and waits until none uses the old one. The numbers of
 * workers and acceptors and the mailbox limit stay as they were at start. */
void worker_pool_reconfigure(struct worker_pool *pool, const struct config *c);

/* Any thread: the environment that keeps the calls of worker i; NULL: none. */
struct store_env *worker_pool_calls(const struct worker_pool *pool, unsigned i);

unsigned worker_pool_count(const struct worker_pool *pool); /* any thread */
/* any thread: items in a worker's mailbox */
unsigned worker_pool_depth(const struct worker_pool *pool, unsigned i);
/* any thread; now: clock_mono_ms */
bool worker_pool_alive(const struct worker_pool *pool, unsigned i, msec_t now);

/* Any thread. Which of `workers` owns a Call-ID; the same for the life of the process. */
unsigned shard_worker(struct slice call_id, unsigned workers);

#endif
