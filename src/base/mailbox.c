#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define MAILBOX_TSAN 1
#else
/* liburcu's inline variants. Under ThreadSanitizer its library does the accesses to the links instead, out of the
 * sanitizer's sight, and the hand-over of an item is told to it by name. */
#define MAILBOX_TSAN 0
#define _LGPL_SOURCE
#endif

#include "base/mailbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <urcu/arch.h>

#define TAKE_SPINS 64 /* waits for a producer that is between its two stores, about as long as those take */

enum { IDLE, ASLEEP, WOKEN };

#if MAILBOX_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#else
#define __tsan_acquire(addr) ((void)(addr))
#define __tsan_release(addr) ((void)(addr))
#endif

void mailbox_init(struct mailbox *m, unsigned limit)
{
	*m = (struct mailbox){.limit = limit, .taken_max = limit / 64 > 32 ? 32 : limit / 64};
	__cds_wfcq_init(&m->head, &m->tail);
}

void mailbox_deinit(struct mailbox *m)
{
	*m = (struct mailbox){0};
}

static int mailbox_enqueue(struct mailbox *m, struct mailbox_item *it)
{
	cds_wfcq_node_init(&it->node);
	__tsan_release(&it->node);
	/* A full barrier; from here on the item may be gone. */
	cds_wfcq_enqueue(&m->head, &m->tail, &it->node);
	return atomic_load(&m->state) == ASLEEP;
}

int mailbox_post(struct mailbox *m, struct mailbox_item *it, unsigned factor_percent)
{
	uint64_t bound = (uint64_t)m->limit * factor_percent / 100;

	/* Refusing must stay cheap when there is a lot to refuse: look before adding. */
	if (mailbox_depth(m) >= bound)
		return -ENOBUFS;
	if (atomic_fetch_add_explicit(&m->depth, 1, memory_order_relaxed) >= bound) {
		atomic_fetch_sub_explicit(&m->depth, 1, memory_order_relaxed);
		return -ENOBUFS;
	}
	return mailbox_enqueue(m, it);
}

int mailbox_post_always(struct mailbox *m, struct mailbox_item *it)
{
	atomic_fetch_add_explicit(&m->depth, 1, memory_order_relaxed);
	return mailbox_enqueue(m, it);
}

static long mailbox_futex(struct mailbox *m, int op, unsigned value, const struct timespec *timeout)
{
	return syscall(SYS_futex, &m->state, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

bool mailbox_wake(struct mailbox *m)
{
	if (atomic_exchange(&m->state, WOKEN) != ASLEEP)
		return false;
	mailbox_futex(m, FUTEX_WAKE, 1, NULL);
	return true;
}

static void mailbox_settle(struct mailbox *m)
{
	if (m->taken) {
		atomic_fetch_sub_explicit(&m->depth, m->taken, memory_order_relaxed);
		m->taken = 0;
	}
}

struct mailbox_item *mailbox_take(struct mailbox *m)
{
	struct cds_wfcq_node *node = __cds_wfcq_dequeue_nonblocking(&m->head, &m->tail);

	for (unsigned i = 0; node == CDS_WFCQ_WOULDBLOCK && i < TAKE_SPINS; i++) {
		caa_cpu_relax();
		node = __cds_wfcq_dequeue_nonblocking(&m->head, &m->tail);
	}
	if (node == CDS_WFCQ_WOULDBLOCK) {
		/* The producer lost its CPU, and may be waiting for ours. */
		sched_yield();
		node = __cds_wfcq_dequeue_nonblocking(&m->head, &m->tail);
	}
	if (!node || node == CDS_WFCQ_WOULDBLOCK) {
		mailbox_settle(m);
		return NULL;
	}
	__tsan_acquire(node);
	if (++m->taken >= m->taken_max)
		mailbox_settle(m);
	return caa_container_of(node, struct mailbox_item, node);
}

bool mailbox_doze(struct mailbox *m)
{
	unsigned idle = IDLE;

	mailbox_settle(m);
	if (!cds_wfcq_empty(&m->head, &m->tail)) {
		/* A first item without a link to it is one that its producer has not finished posting, because it
		 * lost its CPU: it may need ours. */
		struct cds_wfcq_node *first = __cds_wfcq_first_nonblocking(&m->head, &m->tail);
		if (first == CDS_WFCQ_WOULDBLOCK)
			sched_yield();
		return false;
	}
	if (atomic_compare_exchange_strong(&m->state, &idle, ASLEEP)) {
		cmm_smp_mb();
		if (cds_wfcq_empty(&m->head, &m->tail))
			return true;
	}
	atomic_exchange(&m->state, IDLE);
	return false;
}

void mailbox_sleep(struct mailbox *m, nsec_t timeout)
{
	if (timeout) {
		struct timespec ts = {.tv_sec = (time_t)(timeout / 1000000000u),
				      .tv_nsec = (long)(timeout % 1000000000u)};
		mailbox_futex(m, FUTEX_WAIT, ASLEEP, timeout == UINT64_MAX ? NULL : &ts);
	}
	atomic_exchange(&m->state, IDLE);
}

void mailbox_wait(struct mailbox *m, nsec_t timeout)
{
	if (mailbox_doze(m))
		mailbox_sleep(m, timeout);
}
