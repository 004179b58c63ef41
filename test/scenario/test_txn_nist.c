/* Non-INVITE server transaction: every row of its table, every timer at its time. */
#include <errno.h>

#include "txn_fake.h"

static struct txn *options(enum flow_proto proto)
{
	struct txn *t = fake_server(REQ(.method = "OPTIONS"), proto);

	assert_int_equal(txn_kind(t), TXN_NIST);
	assert_int_equal(txn_state(t), TXN_TRYING);
	assert_int_equal(counters_sum(CNT_TXN_NIST_TRYING), 1);
	fake_expect("");
	return t;
}

static void again(struct txn *t)
{
	fake_again(t, REQ(.method = "OPTIONS"), FLOW_UDP);
}

static void completed(struct txn *t, const char *repeated)
{
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	assert_int_equal(counters_sum(CNT_TXN_NIST_COMPLETED), 1);
	fake_mark();
	again(t);
	fake_expect(repeated);
	uint64_t late = counters_sum(CNT_DROP_LATE_RESPONSE);
	assert_int_equal(fake_respond(t, 100), -EALREADY);
	assert_int_equal(fake_respond(t, 183), -EALREADY);
	assert_int_equal(fake_respond(t, 200), -EALREADY);
	assert_int_equal(fake_respond(t, 404), -EALREADY);
	assert_int_equal(counters_sum(CNT_DROP_LATE_RESPONSE) - late, 4);
	txn_server_abandon(t);
	fake_advance(31999);
	fake_expect("");
	fake_advance(10);
	fake_expect("32000gone");
	assert_null(txn_server_find(fake.tb, REQ(.method = "OPTIONS"), false));
}

static void test_finals_and_timer_j(void **state)
{
	(void)state;
	struct txn *t = options(FLOW_UDP);
	again(t);
	fake_expect("");
	assert_int_equal(counters_sum(CNT_ABSORBED_TXN), 1);
	assert_int_equal(fake_respond(t, 200), 0);
	fake_expect("0>200");
	completed(t, "0>200");
	assert_int_equal(counters_sum(CNT_ABSORBED_TXN), 2);
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_RESPONSE), 1);

	fake_mark();
	t = options(FLOW_UDP);
	assert_int_equal(fake_respond(t, 404), 0);
	fake_expect("0>404");
	completed(t, "0>404");
}

/* RFC 4320 4.1 */
static void test_no_early_100(void **state)
{
	(void)state;
	struct txn *t = options(FLOW_UDP);

	assert_int_equal(txn_quiet_time(&fake_timers), 3500);
	assert_int_equal(fake_respond(t, 100), -EALREADY);
	fake_advance(3499);
	assert_int_equal(fake_respond(t, 100), -EALREADY);
	assert_int_equal(fake_respond(t, 183), -EALREADY);
	fake_advance(1);
	assert_int_equal(fake_respond(t, 183), -EALREADY);
	fake_expect("");
	assert_int_equal(fake_respond(t, 100), 0);
	fake_expect("3500>100");
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
	assert_int_equal(counters_sum(CNT_TXN_NIST_PROCEEDING), 1);
	assert_int_equal(fake_respond(t, 180), -EALREADY);
	again(t);
	fake_expect("3500>100");
	assert_int_equal(fake_respond(t, 100), 0);
	fake_expect("3500>100");
	fake_respond(t, 200);
	fake_expect("3500>200");
	completed(t, "0>200");

	fake_mark();
	t = options(FLOW_UDP);
	fake_advance(4000);
	fake_respond(t, 100);
	fake_respond(t, 603);
	fake_expect("4000>100 4000>603");
	completed(t, "0>603");
}

static void test_reliable_ends_at_once(void **state)
{
	(void)state;
	struct txn *t = options(FLOW_TCP);

	/* Over a reliable transport a 100 may go at any time. */
	assert_int_equal(fake_respond(t, 100), 0);
	assert_int_equal(fake_respond(t, 200), 0);
	fake_expect("0>100 0>200 0gone");
	assert_int_equal(fake_respond(options(FLOW_TLS), 500), 0);
	fake_expect("0>500 0gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_error_and_abandon(void **state)
{
	(void)state;
	txn_server_error(options(FLOW_UDP));
	fake_expect("0error 0gone");
	txn_server_abandon(options(FLOW_UDP));
	fake_expect("0gone");
	fake_advance(0);
	for (int i = 0; i < 2; i++) {
		fake_mark();
		struct txn *t = options(FLOW_UDP);
		fake_advance(3500);
		fake_respond(t, 100);
		if (i)
			txn_server_abandon(t);
		else
			txn_server_error(t);
		fake_expect(i ? "3500>100 3500gone" : "3500>100 3500error 3500gone");
	}
	fake_mark();
	struct txn *t = options(FLOW_UDP);
	fake_respond(t, 200);
	txn_server_error(t);
	fake_expect("0>200 0error 0gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_no_timer_before_the_answer(void **state)
{
	(void)state;
	struct txn *t = options(FLOW_UDP);

	fake_advance(300000);
	fake_expect("");
	assert_int_equal(txn_state(t), TXN_TRYING);
}

/* A user that keeps nothing: answers and forgets. */
static void test_without_owner(void **state)
{
	(void)state;
	_Atomic uint64_t slot = 9;
	struct flow f = fake_flow(FLOW_UDP);
	struct txn *t;

	assert_int_equal(txn_server_create(fake.tb, REQ(.method = "OPTIONS"), &f, NULL, &slot, &t), 0);
	fake_respond(t, 200);
	assert_int_equal(slot, 0);
	again(t);
	fake_advance(33000);
	fake_expect("0>200 0>200");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_every_row(void **state)
{
	(void)state;
	fake_all_rows(TXN_NIST, &txn_nist);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_finals_and_timer_j),         FAKE_TEST(test_no_early_100),
		FAKE_TEST(test_reliable_ends_at_once),      FAKE_TEST(test_error_and_abandon),
		FAKE_TEST(test_no_timer_before_the_answer), FAKE_TEST(test_without_owner),
		cmocka_unit_test(test_every_row),
	};
	return cmocka_run_group_tests_name("txn_nist", tests, NULL, NULL);
}
