/* The timer of a transaction. No state runs more than a deadline (B, D, F, H to M) and a retransmission timer (A, E, G;
 * over a reliable transport ack_timeout has its place) at a time, so one wheel timer serves both: it stands at the
 * earlier of the two. */
#include "txn_p.h"

static struct txn *txn_of(struct timer *tm)
{
	return container_of(tm, struct txn, timer);
}

void txn_timer_end(struct txn *t, enum txn_event ev, uint32_t ms)
{
	t->end_ev = (uint8_t)ev;
	t->deadline = *t->tb->now + ms;
	t->due = ms == 0;
	if (t->due)
		timer_stop(t->tb->wheel, &t->timer);
	else
		timer_set(t->tb->wheel, &t->timer, t->deadline);
}

void txn_timer_start(struct txn *t, enum txn_event end, uint32_t end_ms, enum txn_event again,
		     uint32_t again_ms)
{
	msec_t first = *t->tb->now + again_ms;

	t->end_ev = (uint8_t)end;
	t->again_ev = (uint8_t)again;
	t->deadline = *t->tb->now + end_ms;
	t->interval = again_ms;
	timer_set(t->tb->wheel, &t->timer, first < t->deadline ? first : t->deadline);
}

void txn_timer_again(struct txn *t, uint32_t interval)
{
	/* From when it was due, so that ticks do not add up; but never a burst after a stall. */
	msec_t now = *t->tb->now, next = t->timer.when + interval;

	if (next <= now)
		next = now + interval;
	t->interval = interval;
	timer_set(t->tb->wheel, &t->timer, next < t->deadline ? next : t->deadline);
}

void txn_timer_no_more(struct txn *t)
{
	timer_set(t->tb->wheel, &t->timer, t->deadline);
}

void txn_timer_none(struct txn *t)
{
	timer_stop(t->tb->wheel, &t->timer);
	t->deadline = UINT64_MAX;
	t->due = false;
}

void txn_timer_fired(struct timer *tm, msec_t now)
{
	struct txn *t = txn_of(tm);
	struct txn_table *tb = t->tb;

	(void)now;
	txn_enter(tb);
	txn_event(t, tm->when >= t->deadline ? t->end_ev : t->again_ev, NULL);
	txn_leave(tb);
}
