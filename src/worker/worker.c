#include "worker/worker_p.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/counters.h"
#include "transport/local.h"

#define WORKER_FAILURE_PERCENT 200     /* of the queue limit, for its own outbox's failures */
#define WORKER_SLACK           24      /* ms that timers may be late when the load that runs them stops */
#define WORKER_LENT_OFTEN      8       /* batches between two wake-ups of its own thread that count as load */
#define WORKER_ROUNDS          4       /* batches that a lender runs on end */
#define WORKER_NAP             1000000 /* ns, while another plays the worker whose timers we woke for */

struct worker_failure *worker_failure_create(const struct addr *remote, struct slice quoted)
{
	size_t n = quoted.len < ACCEPTOR_QUOTE_MAX ? quoted.len : ACCEPTOR_QUOTE_MAX;
	struct worker_failure *f = malloc(sizeof(*f) + n);
	if (!f)
		return NULL;
	f->item.kind = WORKER_ITEM_SEND_FAILED;
	f->remote = *remote;
	f->len = (unsigned)n;
	if (n)
		memcpy(f->quoted, quoted.p, n);
	return f;
}

/* --- what the proxy and the outbox call --- */

int worker_send(void *ctx, const struct flow *to, struct slice bytes)
{
	struct worker *w = ctx;
	return outbox_send(w->outbox, to, bytes);
}

/* The connection's end is to be told to us, once for all of its branches. */
static int worker_watch(struct worker *w, struct flow *to, uint32_t *ack_timeout)
{
	struct conn *c = w->pool->streams ? streams_get(w->pool->streams, to->conn) : NULL;
	if (!c)
		return -ENOTCONN;
	int rc = conn_watch(c, &w->mailbox, WORKER_ITEM_CONN_LOST);
	*ack_timeout = conn_ack_timeout(c);
	to->proto = (uint8_t)conn_proto(c);
	to->remote = *conn_remote(c);
	conn_put(c);
	return rc;
}

int worker_connect(void *ctx, struct flow *to, struct slice name, uint32_t *ack_timeout)
{
	struct worker *w = ctx;
	struct conn_hop hop = {.proto = (enum flow_proto)to->proto,
			       .listener = to->listener,
			       .remote = to->remote,
			       .name = name};
	struct flow found = *to;
	int rc = w->pool->streams ? streams_connect(w->pool->streams, &hop, &found.conn) : -EPROTONOSUPPORT;
	if (!rc)
		rc = worker_watch(w, &found, ack_timeout);
	if (!rc)
		to->conn = found.conn;
	return rc;
}

int worker_attach(void *ctx, struct flow *to, uint32_t *ack_timeout)
{
	return worker_watch(ctx, to, ack_timeout);
}

bool worker_acked(void *ctx, const struct flow *to, msec_t since)
{
	struct worker *w = ctx;
	struct conn *c = w->pool->streams ? streams_get(w->pool->streams, to->conn) : NULL;
	if (!c)
		return true; /* its end is told by a conn_lost of its own */
	bool acked = conn_acked(c, since);
	conn_put(c);
	return acked;
}

void worker_hangup(void *ctx, const struct flow *to)
{
	struct worker *w = ctx;
	struct conn *c = w->pool->streams ? streams_get(w->pool->streams, to->conn) : NULL;
	if (!c)
		return;
	conn_close(c, CONN_UNRESPONSIVE);
	conn_put(c);
}

void worker_alias(void *ctx, const struct flow *from, uint16_t port, struct slice name)
{
	struct worker *w = ctx;
	struct conn *c = w->pool->streams ? streams_get(w->pool->streams, from->conn) : NULL;
	if (!c)
		return;
	conn_alias(c, port, name);
	conn_put(c);
}

int worker_resolve(void *ctx, const struct sip_uri *uri, uint64_t ref)
{
	struct worker *w = ctx;
	if (!w->pool->resolver)
		return -ENOSYS;
	return resolver_ask(w->pool->resolver, uri, &w->mailbox, WORKER_ITEM_RESOLVED, ref);
}

int worker_source(void *ctx, unsigned listener, const struct addr *dest, struct addr *out)
{
	const struct worker *w = ctx;
	const struct addr *bound = worker_pool_bound(w->pool, listener);
	return bound ? local_source(bound, dest, out) : -EINVAL;
}

bool worker_mine(void *ctx, struct slice call_id)
{
	const struct worker *w = ctx;
	return shard_worker(call_id, w->pool->count) == w->index;
}

/* In the middle of a flush: what the proxy makes of it belongs to the next batch, with its own commit. */
void worker_send_failed(void *ctx, const struct addr *remote, struct slice bytes, int error)
{
	struct worker *w = ctx;
	struct worker_failure *f = worker_failure_create(remote, bytes);
	(void)error;
	if (f && mailbox_post(&w->mailbox, &f->item, WORKER_FAILURE_PERCENT) < 0)
		free(f);
}

/* --- the loop --- */

void worker_item_drop(struct mailbox_item *it)
{
	switch ((enum worker_item)it->kind) {
	case WORKER_ITEM_PACKET: packet_destroy((struct packet *)it); break;
	case WORKER_ITEM_SEND_FAILED:
	case WORKER_ITEM_RESOLVED:
	case WORKER_ITEM_CONN_LOST: free(it); break;
	case WORKER_ITEM_RECONFIGURE:
	case WORKER_ITEM_STOP: break; /* embedded in the worker */
	}
}

_Static_assert(offsetof(struct packet, item) == 0, "an item is the start of what it is");
_Static_assert(offsetof(struct worker_failure, item) == 0, "an item is the start of what it is");
_Static_assert(offsetof(struct resolver_answer, item) == 0, "an item is the start of what it is");
_Static_assert(offsetof(struct conn_lost, item) == 0, "an item is the start of what it is");

static void worker_item(struct worker *w, struct mailbox_item *it)
{
	const struct worker_core *core = w->pool->core;
	switch ((enum worker_item)it->kind) {
	case WORKER_ITEM_PACKET: core->receive(w->proxy, (struct packet *)it); return;
	case WORKER_ITEM_SEND_FAILED: {
		const struct worker_failure *f = (const struct worker_failure *)it;
		core->send_failed(w->proxy, &f->remote, slice_make(f->quoted, f->len));
		break;
	}
	case WORKER_ITEM_RESOLVED: core->resolved(w->proxy, (const struct resolver_answer *)it); break;
	case WORKER_ITEM_CONN_LOST: core->conn_lost(w->proxy, ((const struct conn_lost *)it)->conn); break;
	case WORKER_ITEM_RECONFIGURE:
		core->reconfigure(w->proxy, w->pool->config);
		sem_post(&w->pool->acknowledged);
		return;
	case WORKER_ITEM_STOP: w->stopping = true; return;
	}
	worker_item_drop(it);
}

static void worker_prefetch(const struct mailbox_item *it)
{
	const char *p = (const char *)it;
	if (it->kind != WORKER_ITEM_PACKET)
		return;
	for (unsigned i = 0; i < 6; i++) /* the packet and the start of its message */
		__builtin_prefetch(p + 64 * i);
}

static unsigned worker_drain(struct worker *w, struct mailbox_item *batch[WORKER_BATCH])
{
	unsigned n = 0;
	while (n < WORKER_BATCH && (batch[n] = mailbox_take(&w->mailbox)) != NULL)
		n++;
	return n;
}

/* One wall-clock reading for all: they left together. */
static void worker_latency(const nsec_t *received, unsigned n)
{
	nsec_t now = n ? clock_wall_ns() : 0;
	for (unsigned i = 0; i < n; i++)
		count_latency(now > received[i] ? now - received[i]
						: 0); /* the wall clock may have been set back */
}

/* Drain, decide, timers, commit, send: in this order, whatever else changes. Returns how many items there were. */
static unsigned worker_batch(struct worker *w)
{
	struct mailbox_item *batch[WORKER_BATCH];
	nsec_t received[WORKER_BATCH]; /* a packet may be gone when it has been decided on */
	unsigned n, packets = 0;

	n = worker_drain(w, batch);
	w->now = clock_mono_ms();

	for (unsigned i = 0; i < n; i++) {
		if (i + 1 < n)
			worker_prefetch(batch[i + 1]);
		if (batch[i]->kind == WORKER_ITEM_PACKET)
			received[packets++] = ((const struct packet *)batch[i])->received;
		worker_item(w, batch[i]);
	}
	wheel_run(&w->wheel, w->now);

	if (w->pool->core->commit)
		w->pool->core->commit(w->proxy);

	outbox_flush(w->outbox, w->now);
	worker_latency(received, packets);
	if (n)
		count(CNT_WORKER_BATCHES);
	return n;
}

/* --- who plays the worker --- */

static bool worker_claim(struct worker *w)
{
	unsigned nobody = 0;
	return atomic_compare_exchange_strong(&w->played, &nobody, 1);
}

/* True if something was posted meanwhile: whoever posted it may have found the worker played and left it to us. (Either
 * he sees the store, or we see his item: both sides write first and then read, with a full barrier in between.) */
static bool worker_release(struct worker *w)
{
	atomic_store(&w->played, 0);
	return atomic_load(&w->mailbox.depth) > 0;
}

void worker_lend(struct worker *w)
{
	bool late, more = true;
	for (unsigned round = 0; more && worker_claim(w); round++) {
		worker_batch(w);
		w->lent++;
		/* Its own thread sleeps by the timers that it knew. Once is enough to tell it. */
		msec_t next = wheel_next(&w->wheel);
		late = next != UINT64_MAX && next + WORKER_SLACK < w->planned;
		if (late)
			w->planned = 0;
		more = worker_release(w);
		/* What goes on and on is its own thread's: we have sockets to read. */
		if ((late || (more && round + 1 == WORKER_ROUNDS)) && mailbox_wake(&w->mailbox))
			count(CNT_MAILBOX_WAKES);
		if (round + 1 == WORKER_ROUNDS)
			return;
	}
}

/* The worker's own thread, which plays it and has nothing to do: sleeps, while others may play it, until it plays
 * again. */
static void worker_rest(struct worker *w)
{
	const struct timespec nap = {.tv_nsec = WORKER_NAP};
	msec_t now = clock_mono_ms(), wake = wheel_next(&w->wheel);
	nsec_t timeout = UINT64_MAX;

	/* Under load the lenders run the timers, and waking for each tick would be in vain. */
	if (wake != UINT64_MAX && w->lent >= WORKER_LENT_OFTEN)
		wake += WORKER_SLACK;
	w->lent = 0;
	w->planned = wake;
	if (wake != UINT64_MAX)
		timeout = wake > now ? (wake - now) * 1000000u : 0;
	if (!mailbox_doze(&w->mailbox))
		return;
	thread_sleep(&w->thread, wake);
	mailbox_sleep(&w->mailbox, worker_release(w) ? 0 : timeout);
	thread_beat(&w->thread, clock_mono_ms()); /* awake: from here on a stall is one */
	while (!worker_claim(w)) {
		thread_beat(&w->thread, clock_mono_ms());
		nanosleep(&nap, NULL);
	}
}

void worker_main(void *arg)
{
	struct worker *w = arg;
	/* Its thread begins as its player, and ends as such: before and after, nobody else can be. */
	for (;;) {
		unsigned n = worker_batch(w);
		thread_beat(&w->thread, w->now);
		if (mailbox_depth(&w->mailbox)) {
			if (!n)
				sched_yield(); /* a producer has lost its CPU in the middle of posting */
			continue;
		}
		if (w->stopping)
			break;
		worker_rest(w);
	}
}
