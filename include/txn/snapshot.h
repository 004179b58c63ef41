/* A transaction as bytes, and back: for the store. Worker. */
#ifndef TXN_SNAPSHOT_H
#define TXN_SNAPSHOT_H

#include "base/pack.h"
#include "txn/txn.h"

/* How the times of a record relate to those of this run: deadlines are kept by the wall clock. */
struct txn_clock {
	msec_t mono;   /* now, by the worker's clock */
	uint64_t wall; /* now, ms */
};

uint64_t txn_clock_wall(const struct txn_clock *k, msec_t mono); /* UINT64_MAX stays */
msec_t txn_clock_mono(const struct txn_clock *k, uint64_t wall); /* what is past is now */

void flow_pack(const struct flow *f, struct buf *b);
void flow_unpack(struct unpack *u, struct flow *f);

/* Appends t: its key, state, what it keeps, its flow and its timers. */
void txn_snapshot(const struct txn *t, const struct txn_clock *k, struct buf *b);

/* Makes it again, without sending anything; what is overdue fires at the next run of the wheel, and nothing lives
 * longer than its timers let it, however the wall clock has been set. 0; -EBADMSG: no such bytes, or of another kind;
 * -EEXIST: it is there already; -ENOBUFS, -ENOMEM. */
int txn_restore(struct txn_table *tb, struct unpack *u, enum txn_kind kind, const struct txn_clock *k,
		void *owner, struct txn **out);

/* The transaction goes on over another flow: its connection ended with the run before. */
void txn_set_flow(struct txn *t, const struct flow *f);
/* What was sent over a stream that is gone may not have arrived: the request that waits for its first response, the
 * failure that waits for its ACK are sent again, over the flow that the transaction has now. Nothing in other states,
 * and nothing over UDP, which repeats by itself. */
void txn_client_resume(struct txn *t, uint32_t ack_timeout); /* ms */
bool txn_server_resumes(const struct txn *t);                /* whether the next would do anything */
void txn_server_resume(struct txn *t);

#endif
