/* INVITE server transaction: every row of its table, every timer at its time. */
#include <errno.h>

#include "txn_fake.h"

static struct txn *invite(enum flow_proto proto)
{
	struct txn *t = fake_server(REQ(), proto);

	assert_int_equal(txn_kind(t), TXN_IST);
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
	assert_int_equal(counters_sum(CNT_TXN_IST_PROCEEDING), 1);
	assert_int_equal(txn_request_bytes(t).len, 0);
	fake_expect("");
	return t;
}

static const struct sip_msg *ack(void)
{
	return REQ(.method = "ACK", .to_tag = "t1");
}

static void test_proceeding_repeats_the_last_provisional(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_again(t, REQ(), FLOW_UDP);
	fake_expect("");
	assert_int_equal(fake_respond(t, 100), 0);
	fake_again(t, REQ(), FLOW_UDP);
	fake_expect("0>100 0>100");
	assert_int_equal(fake_respond(t, 180), 0);
	fake_advance(200000);
	fake_expect("0>180");
	fake_again(t, REQ(), FLOW_UDP);
	fake_again(t, ack(), FLOW_UDP);
	fake_expect("200000>180");
	assert_int_equal(counters_sum(CNT_ABSORBED_TXN), 3);
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_RESPONSE), 2);
	txn_server_error(t);
	fake_expect("200000error");
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
}

static void test_final_timers_g_and_h(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_respond(t, 180);
	assert_int_equal(fake_respond(t, 486), 0);
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	assert_int_equal(counters_sum(CNT_TXN_IST_COMPLETED), 1);
	fake_advance(31990);
	fake_expect("0>180 0>486 500>486 1500>486 3500>486 7500>486 11500>486 15500>486 19500>486 23500>486 "
		    "27500>486 31500>486");
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_RESPONSE), 10);
	fake_advance(20);
	fake_expect("32000gone");
	assert_int_equal(counters_sum(CNT_TXN_NO_ACK), 1);
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_final_over_reliable_runs_only_timer_h(void **state)
{
	(void)state;
	fake_respond(invite(FLOW_TCP), 486);
	fake_advance(33000);
	fake_expect("0>486 32000gone");
	assert_int_equal(counters_sum(CNT_TXN_NO_ACK), 1);
}

static void refused(struct txn *t)
{
	uint64_t before = counters_sum(CNT_DROP_LATE_RESPONSE);
	enum txn_state s = txn_state(t);

	assert_int_equal(fake_respond(t, 180), -EALREADY);
	assert_int_equal(fake_respond(t, 404), -EALREADY);
	if (s != TXN_ACCEPTED)
		assert_int_equal(fake_respond(t, 200), -EALREADY);
	txn_server_abandon(t);
	assert_int_equal(txn_state(t), s);
	assert_int_equal(counters_sum(CNT_DROP_LATE_RESPONSE) - before, s == TXN_ACCEPTED ? 2 : 3);
	fake_expect("");
}

static void test_completed_confirmed_timer_i(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_respond(t, 487);
	fake_advance(600);
	fake_expect("0>487 500>487");
	fake_again(t, REQ(), FLOW_UDP);
	fake_expect("600>487");
	txn_server_error(t);
	fake_expect("600error");
	refused(t);
	fake_mark();
	fake_again(t, ack(), FLOW_UDP);
	assert_int_equal(txn_state(t), TXN_CONFIRMED);
	assert_int_equal(counters_sum(CNT_TXN_IST_CONFIRMED), 1);
	assert_null(t->kept);
	fake_again(t, ack(), FLOW_UDP);
	uint64_t absorbed = counters_sum(CNT_ABSORBED_TXN);
	fake_again(t, REQ(), FLOW_UDP);
	assert_int_equal(counters_sum(CNT_ABSORBED_TXN), absorbed + 1);
	txn_server_error(t);
	refused(t);
	fake_advance(4999);
	fake_expect("");
	fake_advance(10);
	fake_expect("5000gone");
	assert_null(txn_server_find(fake.tb, ack(), false));
	assert_int_equal(counters_sum(CNT_TXN_NO_ACK), 0);
}

static void test_ack_over_reliable_ends_at_once(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_TCP);

	fake_respond(t, 487);
	fake_again(t, ack(), FLOW_TCP);
	fake_expect("0>487 0gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_accepted_timer_l(void **state)
{
	(void)state;
	for (int proto = FLOW_UDP; proto <= FLOW_TCP; proto++) {
		struct txn *t = invite(proto);

		fake_mark();
		fake_respond(t, 180);
		assert_int_equal(fake_respond(t, 200), 0);
		assert_int_equal(txn_state(t), TXN_ACCEPTED);
		assert_int_equal(counters_sum(CNT_TXN_IST_ACCEPTED), 1);
		assert_null(t->kept);
		/* The INVITE is absorbed, the 2xx is not repeated by us; another one may follow. */
		uint64_t absorbed = counters_sum(CNT_ABSORBED_TXN);
		fake_again(t, REQ(), proto);
		assert_int_equal(counters_sum(CNT_ABSORBED_TXN), absorbed + 1);
		fake_expect("0>180 0>200");
		assert_int_equal(fake_respond(t, 200), 0);
		fake_expect("0>200");
		refused(t);
		/* The ACK is the user's. */
		assert_null(txn_server_find(fake.tb, ack(), false));
		struct flow f = fake_flow(proto);
		txn_server_receive(t, ack(), &f);
		assert_int_equal(txn_state(t), TXN_ACCEPTED);
		txn_server_error(t);
		fake_expect("0error");
		fake_advance(31999);
		fake_expect("");
		fake_advance(10);
		fake_expect("32000gone");
	}
}

static void test_slot(void **state)
{
	(void)state;
	_Atomic uint64_t slot = 5;
	struct flow f = fake_flow(FLOW_UDP);
	struct txn *t;

	assert_int_equal(txn_server_create(fake.tb, REQ(), &f, NULL, &slot, &t), 0);
	assert_int_equal(slot, 5);
	fake_again(t, REQ(), FLOW_UDP);
	assert_int_equal(slot, 5);
	fake_respond(t, 100);
	assert_int_equal(slot, 0);
	slot = 6; /* somebody else's by now */
	fake_respond(t, 486);
	assert_int_equal(slot, 6);
	fake_advance(33000);
	assert_int_equal(slot, 6);

	assert_int_equal(txn_server_create(fake.tb, REQ(), &f, NULL, &slot, &t), 0);
	txn_server_abandon(t);
	assert_int_equal(slot, 0);
}

static void test_retransmission_over_another_flow(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);
	struct flow f = fake_flow(FLOW_UDP);

	f.remote.port = 5099;
	fake_respond(t, 180);
	txn_server_receive(t, REQ(), &f);
	assert_int_equal(fake.last_to.remote.port, 5099);
	assert_int_equal(txn_flow(t)->remote.port, 5099);
	fake_respond(t, 486);
	fake_again(t, ack(), FLOW_UDP);
	assert_int_equal(txn_flow(t)->remote.port, 5099);
	fake_expect("0>180 0>180 0>486");
}

static void test_cancel_finds_the_invite(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);
	const struct sip_msg *cancel = REQ(.method = "CANCEL");

	assert_null(txn_server_find(fake.tb, cancel, false));
	assert_ptr_equal(txn_server_find(fake.tb, cancel, true), t);
	struct txn *c = fake_server(cancel, FLOW_UDP);
	assert_int_equal(txn_kind(c), TXN_NIST);
	assert_ptr_equal(txn_server_find(fake.tb, cancel, true), t);
	txn_server_abandon(t);
	fake_expect("0gone");
	assert_null(txn_server_find(fake.tb, cancel, true));
}

/* The user answers, ends and makes transactions inside upcalls. */
static void hook_reenter(struct txn *t, const char *what, unsigned status)
{
	(void)status;
	if (strcmp(what, "error") == 0) {
		assert_int_equal(fake_respond(t, 500), 0);
		fake_again(t, ack(), FLOW_TCP);
	}
	if (strcmp(what, "gone") == 0) {
		assert_int_equal(fake_respond(t, 200), -EALREADY);
		fake.hook = NULL;
		fake_server(REQ(), FLOW_UDP);
	}
}

static void test_user_inside_upcalls(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_TCP);

	fake.hook = hook_reenter;
	txn_server_error(t);
	fake_expect("0error 0>500 0gone");
	assert_int_equal(txn_table_count(fake.tb), 1);
	assert_non_null(txn_server_find(fake.tb, REQ(), false));
}

static void test_every_row(void **state)
{
	(void)state;
	fake_all_rows(TXN_IST, &txn_ist);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_proceeding_repeats_the_last_provisional),
		FAKE_TEST(test_final_timers_g_and_h),
		FAKE_TEST(test_final_over_reliable_runs_only_timer_h),
		FAKE_TEST(test_completed_confirmed_timer_i),
		FAKE_TEST(test_ack_over_reliable_ends_at_once),
		FAKE_TEST(test_accepted_timer_l),
		FAKE_TEST(test_slot),
		FAKE_TEST(test_retransmission_over_another_flow),
		FAKE_TEST(test_cancel_finds_the_invite),
		FAKE_TEST(test_user_inside_upcalls),
		cmocka_unit_test(test_every_row),
	};
	return cmocka_run_group_tests_name("txn_ist", tests, NULL, NULL);
}
