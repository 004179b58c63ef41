/* Non-INVITE client transaction: RFC 3261 17.1.2. */
#include "txn_p.h"

#include "base/counters.h"

static void nict_start(struct txn *t)
{
	txn_send_kept(t);
	if (!txn_is_reliable(t))
		txn_timer_start(t, TXN_EV_TIMER_F, txn_64t1(t), TXN_EV_TIMER_E, t->tm.t1);
	else if (t->interval)
		txn_timer_start(t, TXN_EV_TIMER_F, txn_64t1(t), TXN_EV_ACK_TIMEOUT, t->interval);
	else
		txn_timer_end(t, TXN_EV_TIMER_F, txn_64t1(t));
}

static void nict_send_again(struct txn *t, uint32_t interval)
{
	txn_send_kept(t);
	count(CNT_RETRANSMITTED_REQUEST);
	txn_timer_again(t, interval);
}

static int nict_repeat(struct txn *t, const struct txn_input *in)
{
	uint32_t twice = 2 * t->interval;

	(void)in;
	nict_send_again(t, twice < t->tm.t2 ? twice : t->tm.t2);
	return 0;
}

static int nict_repeat_slowly(struct txn *t, const struct txn_input *in)
{
	(void)in;
	nict_send_again(t, t->tm.t2);
	return 0;
}

static int nict_complete(struct txn *t, const struct txn_input *in)
{
	txn_drop(t);
	txn_timer_end(t, TXN_EV_TIMER_K, txn_is_reliable(t) ? 0 : t->tm.t4);
	return txn_act_pass(t, in);
}

/* clang-format off */
static const struct txn_row nict_rows[TXN_STATE_COUNT][TXN_EV_COUNT] = {
	ROW(TRYING, TIMER_E, nict_repeat, TRYING),                /* the request again, Timer E doubled up to T2 */
	ROW(TRYING, ACK_TIMEOUT, txn_act_ack_timeout, TRYING),    /* reliable: the user is told if the peer has not acknowledged it */
	ROW(TRYING, TIMER_F, txn_act_timeout, TERMINATED),        /* no response in 64*T1 */
	ROW(TRYING, 1XX, txn_act_pass_1xx, PROCEEDING),           /* Timers E and F go on */
	ROW(TRYING, 2XX, nict_complete, COMPLETED),               /* request dropped, Timer K set */
	ROW(TRYING, 3XX, nict_complete, COMPLETED),               /* request dropped, Timer K set */
	ROW(TRYING, ERROR, txn_act_error, TERMINATED),            /* not delivered */
	ROW(TRYING, ABANDON, txn_act_ignore, TERMINATED),         /* the user gave up */
	ROW(PROCEEDING, TIMER_E, nict_repeat_slowly, PROCEEDING), /* the request again, Timer E at T2 */
	ROW(PROCEEDING, ACK_TIMEOUT, txn_act_answered, PROCEEDING), /* it arrived: there was a response */
	ROW(PROCEEDING, TIMER_F, txn_act_timeout, TERMINATED),    /* no final response in 64*T1 */
	ROW(PROCEEDING, 1XX, txn_act_pass_1xx, PROCEEDING),       /* passed on, but a second 100 */
	ROW(PROCEEDING, 2XX, nict_complete, COMPLETED),           /* request dropped, Timer K set */
	ROW(PROCEEDING, 3XX, nict_complete, COMPLETED),           /* request dropped, Timer K set */
	ROW(PROCEEDING, ERROR, txn_act_error, TERMINATED),        /* not delivered */
	ROW(PROCEEDING, ABANDON, txn_act_ignore, TERMINATED),     /* the user gave up */
	ROW(COMPLETED, 1XX, txn_act_ignore, COMPLETED),           /* overtaken */
	ROW(COMPLETED, 2XX, txn_act_ignore, COMPLETED),           /* came again */
	ROW(COMPLETED, 3XX, txn_act_ignore, COMPLETED),           /* came again */
	ROW(COMPLETED, TIMER_K, txn_act_ignore, TERMINATED),      /* nothing more will come */
	ROW(COMPLETED, ERROR, txn_act_ignore, COMPLETED),         /* of a copy; the answer is here */
	ROW(COMPLETED, ABANDON, txn_act_ignore, COMPLETED),       /* there is a final response */
};
/* clang-format on */

const struct txn_machine txn_nict = {nict_rows, nict_start, TXN_TRYING};
