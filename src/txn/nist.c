/* Non-INVITE server transaction: RFC 3261 17.2.2, RFC 4320. */
#include "txn_p.h"

static void nist_start(struct txn *t)
{
	t->deadline = *t->tb->now + (txn_is_reliable(t) ? 0 : txn_quiet_time(&t->tm));
}

static int nist_provisional(struct txn *t, const struct txn_input *in)
{
	int r = txn_keep(t, in->bytes);

	txn_send(t, in->bytes);
	return r;
}

static int nist_complete(struct txn *t, const struct txn_input *in)
{
	bool reliable = txn_is_reliable(t);
	int r = 0;

	if (reliable)
		txn_drop(t);
	else
		r = txn_keep(t, in->bytes);
	txn_timer_end(t, TXN_EV_TIMER_J, reliable ? 0 : txn_64t1(t));
	txn_send(t, in->bytes);
	return r;
}

/* clang-format off */
static const struct txn_row nist_rows[TXN_STATE_COUNT][TXN_EV_COUNT] = {
	ROW(TRYING, REQUEST, txn_act_absorb, TRYING),                  /* there is no answer yet */
	ROW(TRYING, EARLY, txn_act_refuse, TRYING),                    /* no 101 to 199, and no early 100 (RFC 4320) */
	ROW(TRYING, 1XX, nist_provisional, PROCEEDING),                /* sent and kept */
	ROW(TRYING, 2XX, nist_complete, COMPLETED),                    /* sent and kept, Timer J set */
	ROW(TRYING, 3XX, nist_complete, COMPLETED),                    /* sent and kept, Timer J set */
	ROW(TRYING, ERROR, txn_act_error, TERMINATED),                 /* nobody to answer */
	ROW(TRYING, ABANDON, txn_act_ignore, TERMINATED),              /* the user will not answer (RFC 4320) */
	ROW(PROCEEDING, REQUEST, txn_act_repeat_response, PROCEEDING), /* the 100 again */
	ROW(PROCEEDING, EARLY, txn_act_refuse, PROCEEDING),            /* no 101 to 199 (RFC 4320) */
	ROW(PROCEEDING, 1XX, nist_provisional, PROCEEDING),            /* sent and kept */
	ROW(PROCEEDING, 2XX, nist_complete, COMPLETED),                /* sent and kept, Timer J set */
	ROW(PROCEEDING, 3XX, nist_complete, COMPLETED),                /* sent and kept, Timer J set */
	ROW(PROCEEDING, ERROR, txn_act_error, TERMINATED),             /* nobody to answer */
	ROW(PROCEEDING, ABANDON, txn_act_ignore, TERMINATED),          /* the user will not answer (RFC 4320) */
	ROW(COMPLETED, REQUEST, txn_act_repeat_response, COMPLETED),   /* the final response again */
	ROW(COMPLETED, EARLY, txn_act_refuse, COMPLETED),              /* too late */
	ROW(COMPLETED, 1XX, txn_act_refuse, COMPLETED),                /* too late */
	ROW(COMPLETED, 2XX, txn_act_refuse, COMPLETED),                /* too late */
	ROW(COMPLETED, 3XX, txn_act_refuse, COMPLETED),                /* too late */
	ROW(COMPLETED, TIMER_J, txn_act_ignore, TERMINATED),           /* the request will not come again */
	ROW(COMPLETED, ERROR, txn_act_error, TERMINATED),              /* nobody to answer */
	ROW(COMPLETED, ABANDON, txn_act_ignore, COMPLETED),            /* there is a final response */
};
/* clang-format on */

const struct txn_machine txn_nist = {nist_rows, nist_start, TXN_TRYING};
