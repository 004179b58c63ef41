/* The inside of workers and their pool. */
#ifndef WORKER_WORKER_P_H
#define WORKER_WORKER_P_H

#include <semaphore.h>

#include "base/wheel.h"
#include "transport/outbox.h"
#include "transport/thread.h"
#include "worker/worker.h"

/* Whoever plays the worker owns all that is the worker's. That is its own thread, except while this has nothing to do
 * and sleeps: then an acceptor that has posted something plays it for a batch (worker_lend), which saves waking a
 * thread. */
struct worker {
	struct mailbox mailbox;  /* any thread posts, the worker takes */
	_Atomic unsigned played; /* atomic: 1: a thread plays the worker; whoever made it 1 makes it 0 */
	struct thread thread;
	struct worker_pool *pool;        /* const */
	unsigned index;                  /* const */
	struct mailbox_item stop;        /* main posts it once */
	struct mailbox_item reconfigure; /* main: under way until the pool's `acknowledged` is posted */
	/* The worker's, that is its player's; main's while its thread does not run. */
	msec_t planned; /* when its own thread is going to wake for timers */
	unsigned lent;  /* batches that acceptors have run since then */
	struct wheel wheel;
	msec_t now; /* time of the batch */
	struct proxy *proxy;
	struct store_env *calls; /* const; NULL: nothing is kept */
	struct outbox *outbox;
	bool stopping;
};

/* The upcalls' context of one acceptor. */
struct shard_port {
	struct worker_pool *pool; /* const */
	bool *touched;            /* acceptor: [workers], those to be woken at the end of the batch */
	unsigned *list;           /* acceptor: the same, listed */
	unsigned count;           /* acceptor */
	unsigned posted;          /* acceptor: packets, since the last flush */
	/* acceptor: moving averages, by which it decides whether to play workers itself */
	nsec_t last;       /* when it flushed last */
	uint64_t interval; /* ns between flushes, * SHARD_WEIGHT */
	uint64_t packets;  /* per flush, * SHARD_SCALE * SHARD_WEIGHT */
	uint64_t cost;     /* ns that a packet takes when we play its worker, * SHARD_WEIGHT */
};

struct worker_pool {
	struct worker **worker;         /* const: [count] */
	unsigned count;                 /* const */
	struct shard_port *port;        /* const pointer: [ports] */
	unsigned ports;                 /* const */
	const struct worker_core *core; /* const */
	struct resolver *resolver;      /* const */
	const struct udp *udp;          /* const */
	struct streams *streams;        /* const; NULL: UDP only */
	struct store *store;            /* const; NULL: none */
	struct digest *digest;          /* const */
	bool keeps_calls;               /* const: store.transactions */
	struct addr *self;              /* const: [self_count], how our sockets are reached */
	unsigned self_count;            /* const */
	const struct config *config;    /* main; workers read it on WORKER_ITEM_RECONFIGURE */
	sem_t acknowledged;             /* workers post it for each reconfigure */
};

/* "A datagram to `remote` could not be delivered", on its way to a worker. */
struct worker_failure {
	struct mailbox_item item;
	struct addr remote;
	unsigned len; /* bytes */
	char quoted[];
};

/* Any thread. At most ACCEPTOR_QUOTE_MAX bytes are kept. NULL: no memory. */
struct worker_failure *worker_failure_create(const struct addr *remote, struct slice quoted);

/* worker.c: the thread. */
void worker_main(void *arg);
/* An acceptor, after posting: plays the worker for what is in its mailbox, if nobody plays it. Else whoever plays it
 * finds what was posted. */
void worker_lend(struct worker *w);
/* The worker, or main when it does not run. Frees an item that nobody has looked at. */
void worker_item_drop(struct mailbox_item *it);

/* worker.c: what the proxy and the outbox call; ctx: struct worker. */
int worker_send(void *ctx, const struct flow *to, struct slice bytes);
int worker_connect(void *ctx, struct flow *to, struct slice name, uint32_t *ack_timeout);
int worker_attach(void *ctx, struct flow *to, uint32_t *ack_timeout);
bool worker_acked(void *ctx, const struct flow *to, msec_t since);
void worker_hangup(void *ctx, const struct flow *to);
void worker_alias(void *ctx, const struct flow *from, uint16_t port, struct slice name);
int worker_resolve(void *ctx, const struct sip_uri *uri, uint64_t ref);
int worker_source(void *ctx, unsigned listener, const struct addr *dest, struct addr *out);
bool worker_mine(void *ctx, struct slice call_id);
void worker_send_failed(void *ctx, const struct addr *remote, struct slice bytes, int error);

/* pool.c: the address that a listener is bound to; NULL: no such. */
const struct addr *worker_pool_bound(const struct worker_pool *pool, unsigned listener);

/* shard.c: struct acceptor_upper; ctx: struct shard_port. */
int shard_deliver(void *ctx, struct packet *p, unsigned percent);
void shard_send_failed(void *ctx, const struct addr *remote, struct slice quoted);
void shard_flush(void *ctx);

#endif
