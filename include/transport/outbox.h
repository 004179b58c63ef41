/* An outbox: what a worker has decided to send and may send only after its commit. Belongs to one worker. Nothing in
 * it ever blocks: a datagram that the kernel does not take after a few tries is dropped and counted. */
#ifndef TRANSPORT_OUTBOX_H
#define TRANSPORT_OUTBOX_H

#include "base/flow.h"
#include "transport/conn.h"
#include "transport/udp.h"

#define OUTBOX_CHUNK     (256 * 1024) /* bytes; one is kept, more are made for a large batch and freed after it */
#define OUTBOX_BYTES_MAX (16 * 1024 * 1024) /* queued at once; beyond it messages are dropped (CNT_DROP_SEND) */

struct outbox_upper {
	/* A message could not be sent: `error` is a negative errno. Called from outbox_flush (and outbox_send for a
	 * flow without a socket); must not call outbox_send or outbox_flush. `bytes` are valid during the call. */
	void (*failed)(void *ctx, const struct addr *remote, struct slice bytes, int error);
	void *ctx;
};

struct outbox;

/* Main. `udp` and `streams` (NULL: UDP only) outlive it. 0 or -ENOMEM. */
int outbox_create(const struct udp *udp, struct streams *streams, const struct outbox_upper *up,
		  struct outbox **out);
void outbox_destroy(struct outbox *o); /* what is queued is dropped; NULL does nothing */

/* Worker. Copies the bytes into the queue. Leaves by the socket of to->listener and to->acceptor, from to->local where
 * that is set and the socket is bound to no address of its own; or over the connection to->conn. 0, or -ENOTCONN: that
 * is gone, and nothing was queued. */
int outbox_send(struct outbox *o, const struct flow *to, struct slice bytes);

/* Worker, after the commit. Sends all, in order for each socket and connection, and empties the queue. `now`: the
 * batch's time. Returns how many were taken by the kernel. */
unsigned outbox_flush(struct outbox *o, msec_t now);

unsigned outbox_queued(const struct outbox *o); /* messages */

#endif
