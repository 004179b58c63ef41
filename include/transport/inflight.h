/* The in-flight filter of an acceptor: which requests are queued at, or being worked on by, their worker and have
 * not been answered yet. A copy of one of them is recognised from its raw bytes and its source, before anything
 * is parsed. Only a hint: what it forgets, the transaction layer still absorbs.
 *
 * The acceptor alone looks up and enters; the worker that holds a slot (packet.h) sets it back to 0. */
#ifndef TRANSPORT_INFLIGHT_H
#define TRANSPORT_INFLIGHT_H

#include <stdatomic.h>

#include "base/addr.h"

/* A set is one cache line, so a look-up touches one. 8,192 sets of 8 keys hold 65,536 unanswered requests in 512 kB per
 * acceptor. An INVITE stays in it until its 100 (a fraction of a millisecond, unless a name must be looked up), another
 * request until its final response. When a set is full (CNT_INFLIGHT_FULL) the request passes without a
 * slot, which costs a transaction look-up per copy and nothing else; so it need not grow with
 * timers.max_inflight. */
#define INFLIGHT_WAYS 8
#define INFLIGHT_SETS 8192

struct inflight {
	_Atomic uint64_t *slot; /* INFLIGHT_SETS * INFLIGHT_WAYS; acceptor writes keys, workers write 0 */
};

int inflight_init(struct inflight *f); /* 0, -ENOMEM */
/* When no worker holds a slot any more. */
void inflight_deinit(struct inflight *f);

/* The key of a datagram, never 0. */
uint64_t inflight_key(struct slice datagram, const struct addr *source, unsigned listener);

/* Acceptor. True if a request with this key is under way. */
bool inflight_has(const struct inflight *f, uint64_t key);
/* Acceptor. Enters a key that is not there and returns its slot; NULL: the set is full. */
_Atomic uint64_t *inflight_enter(struct inflight *f, uint64_t key);

#endif
