/* A mailbox: the one way from a thread to another. Many producers, one consumer; enqueueing is wait-free
 * (liburcu's wfcqueue). It counts what it holds and refuses what would exceed its bound; the caller
 * of mailbox_post answers for what was refused. ThreadSanitizer sees the hand-over. */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <urcu/wfcqueue.h>

#include "base/clock.h"

struct mailbox_item {
	struct cds_wfcq_node node; /* producer until posted, then consumer */
	unsigned kind;             /* const after posting; the receiving layer's numbers */
};

/* The sleep and wake protocol. `state` is IDLE (0), ASLEEP (1) or WOKEN (2).
 *   consumer, in mailbox_wait:  state: IDLE -> ASLEEP; full barrier; if empty: futex_wait(state == ASLEEP); state = IDLE
 *   producer, in mailbox_post:  enqueue; full barrier; return state == ASLEEP
 *   producer, in mailbox_wake:  old = exchange(state, WOKEN); if old == ASLEEP: futex_wake
 * No wake-up is lost. Each side writes its own word before the barrier and reads the other's after it, so that at
 * least one of them sees the other: either the consumer finds the item and does not sleep, or the post finds ASLEEP
 * and returns 1. In the second case state leaves ASLEEP before the futex_wake (by this producer's mailbox_wake or by
 * somebody else's), and the kernel compares it with ASLEEP under its own lock: a consumer on its way into
 * futex_wait returns at once, one that is in it is woken. An item posted while the consumer is between "found
 * empty" and ASLEEP is found by the check after the barrier. A producer may post several items and wake once, if
 * any of the posts returned 1: an item whose post returned 0 was there before state became ASLEEP the next time, and
 * the check that follows ASLEEP finds it. A wake that finds nobody asleep stays as WOKEN until the next mailbox_wait,
 * which then returns at once; so a flag that is set before mailbox_wake is seen as well. */
struct mailbox {
	struct cds_wfcq_tail tail __attribute__((aligned(64)));   /* producers */
	struct __cds_wfcq_head head __attribute__((aligned(64))); /* consumer */
	unsigned taken;                                           /* consumer: not yet subtracted from depth */
	unsigned taken_max;                                       /* const */
	unsigned limit;                                           /* const */
	_Atomic unsigned depth
		__attribute__((aligned(64))); /* atomic: posted, not yet taken; see mailbox_depth */
	_Atomic unsigned state;               /* atomic: futex word; see above */
};

void mailbox_init(struct mailbox *m, unsigned limit);
/* Consumer, when no producer is left. What is still in it is the caller's to take first. */
void mailbox_deinit(struct mailbox *m);

/* Any thread. Posts unless `depth` has reached limit * factor_percent / 100 (pass 100 for new work, more for
 * what must still pass under load); then returns -ENOBUFS and the item stays the caller's. On success the item
 * is the consumer's, and 1 says that the consumer needs a mailbox_wake (0: it does not). One
 * producer's items are taken in the order in which it posted them. */
int mailbox_post(struct mailbox *m, struct mailbox_item *it, unsigned factor_percent);

/* Any thread. Posts beyond the limit: for what its producer bounds otherwise (one result per look-up asked for).
 * Returns 0 or 1 as mailbox_post does. */
int mailbox_post_always(struct mailbox *m, struct mailbox_item *it);

/* Any thread, after a post that returned 1, or to end the present or next mailbox_wait for another reason. A
 * system call only if the consumer sleeps. True if it made one. */
bool mailbox_wake(struct mailbox *m);

/* Consumer. The oldest item, or NULL: there is none, or its producer was stopped in the middle of posting it (then
 * mailbox_wait does not sleep, and the caller comes back). */
struct mailbox_item *mailbox_take(struct mailbox *m);

/* Consumer. Sleeps until an item is there, a wake, a signal, or `timeout` (ns from now; UINT64_MAX: none) has passed.
 * Returns at once when the mailbox is not empty. */
void mailbox_wait(struct mailbox *m, nsec_t timeout);

/* The halves of mailbox_wait, for a consumer whose part passes between threads. mailbox_doze, by the consumer: true if
 * it is to call mailbox_sleep next; posts return 1 from here on, and in between another thread may become the consumer.
 * False: something is there, or a wake came. mailbox_sleep touches nothing that is the consumer's. */
bool mailbox_doze(struct mailbox *m);
void mailbox_sleep(struct mailbox *m, nsec_t timeout);

/* Any thread. Never less than what is there. The consumer subtracts what it took when it has found the
 * mailbox empty, or after limit / 64 items (32 at the most), so that it may be more by so many. */
static inline unsigned mailbox_depth(const struct mailbox *m)
{
	return atomic_load_explicit(&m->depth, memory_order_relaxed);
}

#endif
