#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "worker/worker_p.h"

#define SHARD_FAILURE_PERCENT 200      /* of the queue limit, for news of failures: they end things */
#define SHARD_WEIGHT          64       /* a flush counts for 1/64 of the averages */
#define SHARD_SCALE           1024     /* fixed point of the average of packets */
#define SHARD_SHARE           2        /* an acceptor plays workers for at most 1/2 of its time */
#define SHARD_BATCH           16       /* packets: a larger batch goes to the workers' own threads */
#define SHARD_GAP_MAX         10000000 /* ns: a longer silence counts as this */
#define SHARD_COST_MAX        1000000  /* ns: a packet that took longer was not at work all the time */

unsigned shard_worker(struct slice call_id, unsigned workers)
{
	/* The upper half, scaled: without a division, and from other bits than hash tables use. */
	return workers == 1 ? 0 : (unsigned)((hash_slice(call_id) >> 32) * workers >> 32);
}

/* The item is the worker's after this: `i` says whose. */
static int shard_post(struct shard_port *port, unsigned i, struct mailbox_item *it, unsigned percent)
{
	int rc = mailbox_post(&port->pool->worker[i]->mailbox, it, percent);
	if (rc < 0)
		return rc;
	if (!port->touched[i]) {
		port->touched[i] = true;
		port->list[port->count++] = i;
	}
	return 0;
}

int shard_deliver(void *ctx, struct packet *p, unsigned percent)
{
	struct shard_port *port = ctx;
	unsigned i = shard_worker(sip_slice(p->msg, p->msg->call_id), port->pool->count);
	p->item.kind = WORKER_ITEM_PACKET;
	int rc = shard_post(port, i, &p->item, percent);
	if (rc < 0)
		return rc;
	port->posted++;
	count(CNT_MAILBOX_POSTED);
	return 0;
}

void shard_send_failed(void *ctx, const struct addr *remote, struct slice quoted)
{
	struct shard_port *port = ctx;
	/* Only the branch in the quoted bytes tells whose it was: every worker looks into its table. */
	for (unsigned i = 0; i < port->pool->count; i++) {
		struct worker_failure *f = worker_failure_create(remote, quoted);
		if (f && shard_post(port, i, &f->item, SHARD_FAILURE_PERCENT) < 0)
			free(f);
	}
}

/* Whether to play the workers for this batch. Below the share, waking threads costs more than the work; above it the
 * workers must run beside us. The share is what playing all would take, so that it does not change with the
 * decision. */
static bool shard_lends(struct shard_port *port, nsec_t now)
{
	nsec_t gap = now - port->last < SHARD_GAP_MAX ? now - port->last : SHARD_GAP_MAX;
	port->last = now;
	port->interval += gap - port->interval / SHARD_WEIGHT;
	port->packets += (uint64_t)port->posted * SHARD_SCALE - port->packets / SHARD_WEIGHT;
	uint64_t busy = port->packets / SHARD_SCALE * (port->cost / SHARD_WEIGHT);
	return port->posted <= SHARD_BATCH && busy * SHARD_SHARE <= port->interval;
}

static void shard_lend(struct shard_port *port, nsec_t start)
{
	for (unsigned n = 0; n < port->count; n++)
		worker_lend(port->pool->worker[port->list[n]]);
	if (port->posted) {
		nsec_t each = (clock_mono_ns() - start) / port->posted;
		if (each > SHARD_COST_MAX)
			each = SHARD_COST_MAX;
		port->cost += each - port->cost / SHARD_WEIGHT;
	}
}

static void shard_wake(struct shard_port *port)
{
	/* Slowly forgotten, so that it is measured again some time: it may have been a stall. */
	port->cost -= port->cost / (SHARD_WEIGHT * SHARD_WEIGHT);
	for (unsigned n = 0; n < port->count; n++)
		if (mailbox_wake(&port->pool->worker[port->list[n]]->mailbox))
			count(CNT_MAILBOX_WAKES);
}

void shard_flush(void *ctx)
{
	struct shard_port *port = ctx;
	if (!port->count)
		return;
	nsec_t now = clock_mono_ns();
	if (shard_lends(port, now))
		shard_lend(port, now);
	else
		shard_wake(port);
	for (unsigned n = 0; n < port->count; n++)
		port->touched[port->list[n]] = false;
	port->count = 0;
	port->posted = 0;
}
