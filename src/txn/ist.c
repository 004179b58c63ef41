/* INVITE server transaction: RFC 3261 17.2.1, RFC 6026 7.1. The 100 is the proxy's: it sends one at once. */
#include <errno.h>

#include "txn_p.h"

#include "base/counters.h"

static int ist_provisional(struct txn *t, const struct txn_input *in)
{
	int r = txn_keep(t, in->bytes);

	txn_send(t, in->bytes);
	return r;
}

/* An RFC 2543 client's ACK is known by the To tag of the response that it acknowledges. */
static void ist_note_tag(struct txn *t)
{
	struct sip_msg_room *room = &t->tb->room;

	t->tag_off = t->tag_len = 0;
	if (!t->kept || sip_msg_parse(room, t->kept, t->kept_len, false) || room->msg.to_tag.len > UINT16_MAX)
		return;
	t->tag_off = (uint32_t)(room->msg.buf - t->kept) + room->msg.to_tag.off;
	t->tag_len = (uint16_t)room->msg.to_tag.len;
}

static int ist_complete(struct txn *t, const struct txn_input *in)
{
	int r = txn_keep(t, in->bytes);

	if (t->legacy)
		ist_note_tag(t);
	if (txn_is_reliable(t))
		txn_timer_end(t, TXN_EV_TIMER_H, txn_64t1(t));
	else
		txn_timer_start(t, TXN_EV_TIMER_H, txn_64t1(t), TXN_EV_TIMER_G, t->tm.t1);
	txn_send(t, in->bytes);
	return r;
}

static int ist_accept(struct txn *t, const struct txn_input *in)
{
	txn_drop(t);
	txn_timer_end(t, TXN_EV_TIMER_L, txn_64t1(t));
	txn_send(t, in->bytes);
	return 0;
}

static int ist_send_2xx(struct txn *t, const struct txn_input *in)
{
	txn_send(t, in->bytes);
	return 0;
}

static int ist_repeat(struct txn *t, const struct txn_input *in)
{
	uint32_t twice = 2 * t->interval;

	(void)in;
	if (txn_send_kept(t))
		count(CNT_RETRANSMITTED_RESPONSE);
	txn_timer_again(t, twice < t->tm.t2 ? twice : t->tm.t2);
	return 0;
}

static int ist_confirm(struct txn *t, const struct txn_input *in)
{
	(void)in;
	if (!t->legacy) /* whose tag is in it */
		txn_drop(t);
	txn_timer_end(t, TXN_EV_TIMER_I, txn_is_reliable(t) ? 0 : t->tm.t4);
	return 0;
}

static int ist_no_ack(struct txn *t, const struct txn_input *in)
{
	(void)t, (void)in;
	count(CNT_TXN_NO_ACK);
	return 0;
}

/* clang-format off */
static const struct txn_row ist_rows[TXN_STATE_COUNT][TXN_EV_COUNT] = {
	ROW(PROCEEDING, REQUEST, txn_act_repeat_response, PROCEEDING), /* the last provisional again, if there was one */
	ROW(PROCEEDING, ACK, txn_act_ignore, PROCEEDING),              /* of nothing that was sent */
	ROW(PROCEEDING, 1XX, ist_provisional, PROCEEDING),             /* sent and kept */
	ROW(PROCEEDING, 2XX, ist_accept, ACCEPTED),                    /* sent, nothing kept, Timer L set (RFC 6026) */
	ROW(PROCEEDING, 3XX, ist_complete, COMPLETED),                 /* sent and kept, Timers G (UDP) and H set */
	ROW(PROCEEDING, ERROR, txn_act_error, PROCEEDING),             /* the user is told (RFC 6026) */
	ROW(PROCEEDING, ABANDON, txn_act_ignore, TERMINATED),          /* the user will not answer */
	ROW(COMPLETED, REQUEST, txn_act_repeat_response, COMPLETED),   /* the final response again */
	ROW(COMPLETED, ACK, ist_confirm, CONFIRMED),                   /* response dropped, Timer I set */
	ROW(COMPLETED, TIMER_G, ist_repeat, COMPLETED),                /* the final response again, Timer G doubled up to T2 */
	ROW(COMPLETED, TIMER_H, ist_no_ack, TERMINATED),               /* no ACK in 64*T1 */
	ROW(COMPLETED, 1XX, txn_act_refuse, COMPLETED),                /* too late */
	ROW(COMPLETED, 2XX, txn_act_refuse, COMPLETED),                /* too late: send it without the transaction (16.7) */
	ROW(COMPLETED, 3XX, txn_act_refuse, COMPLETED),                /* too late */
	ROW(COMPLETED, ERROR, txn_act_error, COMPLETED),               /* the user is told (RFC 6026) */
	ROW(COMPLETED, ABANDON, txn_act_ignore, COMPLETED),            /* there is a final response */
	ROW(CONFIRMED, REQUEST, txn_act_absorb, CONFIRMED),            /* overtaken by its ACK */
	ROW(CONFIRMED, ACK, txn_act_ignore, CONFIRMED),                /* came again: what this state is for */
	ROW(CONFIRMED, TIMER_I, txn_act_ignore, TERMINATED),           /* no more ACKs will come */
	ROW(CONFIRMED, 1XX, txn_act_refuse, CONFIRMED),                /* too late */
	ROW(CONFIRMED, 2XX, txn_act_refuse, CONFIRMED),                /* too late: send it without the transaction (16.7) */
	ROW(CONFIRMED, 3XX, txn_act_refuse, CONFIRMED),                /* too late */
	ROW(CONFIRMED, ERROR, txn_act_ignore, CONFIRMED),              /* of a copy; the client has the response */
	ROW(CONFIRMED, ABANDON, txn_act_ignore, CONFIRMED),            /* there is a final response */
	ROW(ACCEPTED, REQUEST, txn_act_absorb, ACCEPTED),              /* nothing is sent: the 2xx is the callee's to repeat (RFC 6026) */
	ROW(ACCEPTED, ACK, txn_act_ignore, ACCEPTED),                  /* the user's: txn_server_find does not find us for it */
	ROW(ACCEPTED, 1XX, txn_act_refuse, ACCEPTED),                  /* too late */
	ROW(ACCEPTED, 2XX, ist_send_2xx, ACCEPTED),                    /* again, or of another branch: each is sent (RFC 6026) */
	ROW(ACCEPTED, 3XX, txn_act_refuse, ACCEPTED),                  /* too late */
	ROW(ACCEPTED, TIMER_L, txn_act_ignore, TERMINATED),            /* the INVITE will not come again */
	ROW(ACCEPTED, ERROR, txn_act_error, ACCEPTED),                 /* the user is told (RFC 6026) */
	ROW(ACCEPTED, ABANDON, txn_act_ignore, ACCEPTED),              /* there is a final response */
};
/* clang-format on */

const struct txn_machine txn_ist = {ist_rows, NULL, TXN_PROCEEDING};
