/* INVITE client transaction: RFC 3261 17.1.1, RFC 6026 7.2. */
#include "txn_p.h"

#include "base/counters.h"
#include "sip/build.h"

#define TIMER_D_MIN 32000u /* ms, 17.1.1.2 */

static void ict_start(struct txn *t)
{
	txn_send_kept(t);
	if (!txn_is_reliable(t))
		txn_timer_start(t, TXN_EV_TIMER_B, txn_64t1(t), TXN_EV_TIMER_A, t->tm.t1);
	else if (t->interval)
		txn_timer_start(t, TXN_EV_TIMER_B, txn_64t1(t), TXN_EV_ACK_TIMEOUT, t->interval);
	else
		txn_timer_end(t, TXN_EV_TIMER_B, txn_64t1(t));
}

static int ict_repeat(struct txn *t, const struct txn_input *in)
{
	(void)in;
	txn_send_kept(t);
	count(CNT_RETRANSMITTED_REQUEST);
	txn_timer_again(t, 2 * t->interval);
	return 0;
}

static int ict_proceed(struct txn *t, const struct txn_input *in)
{
	txn_timer_none(t);
	return txn_act_pass_1xx(t, in);
}

static int ict_accept(struct txn *t, const struct txn_input *in)
{
	txn_drop(t);
	txn_timer_end(t, TXN_EV_TIMER_M, txn_64t1(t));
	return txn_act_pass(t, in);
}

/* The ACK of 17.1.1.3 takes the place of the request. */
static void ict_acknowledge(struct txn *t, const struct sip_msg *response)
{
	struct txn_table *tb = t->tb;
	long n = -1;

	if (t->kept && sip_msg_parse(&tb->room, t->kept, t->kept_len, false) == 0)
		n = sip_ack_build(&tb->room.msg, response, tb->scratch, sizeof(tb->scratch));
	txn_drop(t);
	if (n < 0)
		return;
	struct slice ack = slice_make(tb->scratch, (size_t)n);
	if (!txn_is_reliable(t))
		txn_keep(t, ack); /* without memory a repeated response gets no second ACK */
	txn_send(t, ack);
}

static int ict_complete(struct txn *t, const struct txn_input *in)
{
	uint32_t d = txn_64t1(t);

	ict_acknowledge(t, in->msg);
	txn_timer_end(t, TXN_EV_TIMER_D, txn_is_reliable(t) ? 0 : d > TIMER_D_MIN ? d : TIMER_D_MIN);
	return txn_act_pass(t, in);
}

static int ict_ack_again(struct txn *t, const struct txn_input *in)
{
	(void)in;
	if (txn_send_kept(t))
		count(CNT_RETRANSMITTED_REQUEST);
	return 0;
}

/* clang-format off */
static const struct txn_row ict_rows[TXN_STATE_COUNT][TXN_EV_COUNT] = {
	ROW(CALLING, TIMER_A, ict_repeat, CALLING),             /* the INVITE again, Timer A doubled */
	ROW(CALLING, ACK_TIMEOUT, txn_act_ack_timeout, CALLING), /* reliable: the user is told if the peer has not acknowledged it */
	ROW(CALLING, TIMER_B, txn_act_timeout, TERMINATED),     /* no response in 64*T1 */
	ROW(CALLING, 1XX, ict_proceed, PROCEEDING),             /* Timers A and B end; Timer C is the proxy's */
	ROW(CALLING, 2XX, ict_accept, ACCEPTED),                /* request dropped, Timer M set (RFC 6026) */
	ROW(CALLING, 3XX, ict_complete, COMPLETED),             /* ACK sent and kept in place of the request, Timer D set */
	ROW(CALLING, ERROR, txn_act_error, TERMINATED),         /* not delivered */
	ROW(CALLING, ABANDON, txn_act_ignore, TERMINATED),      /* the user gave up */
	ROW(PROCEEDING, 1XX, txn_act_pass_1xx, PROCEEDING),     /* passed on, but a second 100 */
	ROW(PROCEEDING, 2XX, ict_accept, ACCEPTED),             /* request dropped, Timer M set (RFC 6026) */
	ROW(PROCEEDING, 3XX, ict_complete, COMPLETED),          /* ACK sent and kept in place of the request, Timer D set */
	ROW(PROCEEDING, ERROR, txn_act_error, TERMINATED),      /* the peer went away */
	ROW(PROCEEDING, ABANDON, txn_act_ignore, TERMINATED),   /* the user gave up: 64*T1 after a CANCEL (9.1) */
	ROW(COMPLETED, 1XX, txn_act_ignore, COMPLETED),         /* overtaken */
	ROW(COMPLETED, 2XX, txn_act_pass, COMPLETED),           /* of another branch downstream; a proxy must pass it on (16.7) */
	ROW(COMPLETED, 3XX, ict_ack_again, COMPLETED),          /* the response came again: the same ACK again */
	ROW(COMPLETED, TIMER_D, txn_act_ignore, TERMINATED),    /* nothing more will come */
	ROW(COMPLETED, ERROR, txn_act_ignore, COMPLETED),       /* the ACK may be asked for again */
	ROW(COMPLETED, ABANDON, txn_act_ignore, COMPLETED),     /* there is a final response */
	ROW(ACCEPTED, 1XX, txn_act_ignore, ACCEPTED),           /* overtaken */
	ROW(ACCEPTED, 2XX, txn_act_pass, ACCEPTED),             /* again, or of another branch: each goes to the user (RFC 6026) */
	ROW(ACCEPTED, 3XX, txn_act_ignore, ACCEPTED),           /* a 2xx has won */
	ROW(ACCEPTED, TIMER_M, txn_act_ignore, TERMINATED),     /* later 2xx are strays */
	ROW(ACCEPTED, ERROR, txn_act_ignore, ACCEPTED),         /* nothing of ours is under way */
	ROW(ACCEPTED, ABANDON, txn_act_ignore, ACCEPTED),       /* there is a final response */
};
/* clang-format on */

const struct txn_machine txn_ict = {ict_rows, ict_start, TXN_CALLING};
