/* Non-INVITE client transaction: every row of its table, every timer at its time. */
#include "txn_fake.h"

static const struct sip_msg *reply(unsigned status)
{
	return fake_reply(status, "z9hG4bKone", "BYE");
}

static struct txn *bye(enum flow_proto proto)
{
	struct txn *t = fake_client(REQ(.method = "BYE"), proto);

	assert_int_equal(txn_kind(t), TXN_NICT);
	assert_int_equal(txn_state(t), TXN_TRYING);
	assert_int_equal(counters_sum(CNT_TXN_NICT_TRYING), 1);
	fake_expect("0>BYE");
	return t;
}

static void test_timer_e_and_f_in_trying(void **state)
{
	(void)state;
	struct txn *t = bye(FLOW_UDP);

	assert_true(txn_request_bytes(t).len > 100);
	fake_advance(31990);
	fake_expect("500>BYE 1500>BYE 3500>BYE 7500>BYE 11500>BYE 15500>BYE 19500>BYE 23500>BYE 27500>BYE "
		    "31500>BYE");
	fake_advance(20);
	fake_expect("32000timeout 32000gone");
	assert_int_equal(counters_sum(CNT_TXN_TIMEOUT), 1);
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_REQUEST), 10);
}

static void test_timer_e_and_f_in_proceeding(void **state)
{
	(void)state;
	struct txn *t = bye(FLOW_UDP);

	fake_advance(600);
	fake_receive(t, reply(100));
	fake_receive(t, reply(100));
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
	assert_true(txn_request_bytes(t).len > 100);
	fake_advance(31390);
	/* The timer that runs goes on; from then on it is T2. */
	fake_expect(
		"500>BYE 600:100 1500>BYE 5500>BYE 9500>BYE 13500>BYE 17500>BYE 21500>BYE 25500>BYE 29500>BYE");
	fake_advance(20);
	fake_expect("32000timeout 32000gone");
}

static void test_reliable_runs_only_timer_f(void **state)
{
	(void)state;
	bye(FLOW_TCP);
	fake_advance(33000);
	fake_expect("32000timeout 32000gone");
	fake_mark();
	fake_receive(bye(FLOW_TCP), reply(100));
	fake_advance(33000);
	fake_expect("0:100 32000timeout 32000gone");
}

static void completed(struct txn *t)
{
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	assert_int_equal(counters_sum(CNT_TXN_NICT_COMPLETED), 1);
	assert_int_equal(txn_request_bytes(t).len, 0);
	assert_null(t->kept);
	fake_mark();
	fake_receive(t, reply(100));
	fake_receive(t, reply(200));
	fake_receive(t, reply(481));
	txn_client_error(t);
	txn_client_abandon(t);
	fake_expect("");
	fake_advance(4999);
	fake_expect("");
	fake_advance(10);
	fake_expect("5000gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_finals(void **state)
{
	(void)state;
	struct txn *t = bye(FLOW_UDP);
	fake_receive(t, reply(200));
	fake_expect("0:200");
	completed(t);

	fake_mark();
	t = bye(FLOW_UDP);
	fake_receive(t, reply(481));
	fake_expect("0:481");
	completed(t);

	fake_mark();
	t = bye(FLOW_UDP);
	fake_receive(t, reply(180));
	fake_receive(t, reply(183));
	fake_receive(t, reply(200));
	fake_expect("0:180 0:183 0:200");
	completed(t);

	fake_mark();
	t = bye(FLOW_UDP);
	fake_receive(t, reply(100));
	fake_receive(t, reply(500));
	fake_expect("0:100 0:500");
	completed(t);
}

static void test_final_over_reliable_ends_at_once(void **state)
{
	(void)state;
	fake_receive(bye(FLOW_TCP), reply(200));
	fake_expect("0:200 0gone");
	struct txn *t = bye(FLOW_TLS);
	fake_receive(t, reply(100));
	fake_receive(t, reply(404));
	fake_expect("0:100 0:404 0gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_error_and_abandon(void **state)
{
	(void)state;
	txn_client_error(bye(FLOW_UDP));
	fake_expect("0error 0gone");
	txn_client_abandon(bye(FLOW_UDP));
	fake_expect("0gone");
	struct txn *t = bye(FLOW_UDP);
	fake_receive(t, reply(100));
	txn_client_error(t);
	fake_expect("0:100 0error 0gone");
	t = bye(FLOW_UDP);
	fake_receive(t, reply(100));
	txn_client_abandon(t);
	fake_expect("0:100 0gone");
	fake_advance(40000);
	fake_expect("");
}

static void hook_abandon(struct txn *t, const char *what, unsigned status)
{
	(void)status;
	if (strcmp(what, "response") == 0) {
		txn_set_owner(t, NULL);
		txn_client_abandon(t);
	}
}

static void test_user_inside_upcalls(void **state)
{
	(void)state;
	fake.hook = hook_abandon;
	fake_receive(bye(FLOW_UDP), reply(100));
	fake_expect("0:100");
	assert_int_equal(txn_table_count(fake.tb), 0);
	fake_receive(bye(FLOW_TCP), reply(200));
	fake_expect("0:200");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_ack_timeout(void **state)
{
	(void)state;
	fake.ack_timeout = 2000;
	struct txn *t = bye(FLOW_TCP);

	fake_advance(33000);
	fake_expect("2000unacked 32000timeout 32000gone");
	assert_int_equal(fake.asked, 1);
	fake_mark();
	t = bye(FLOW_TCP);
	fake_advance(1000);
	fake_receive(t, reply(100)); /* it arrived, and Timer F goes on */
	fake_advance(33000);
	fake_expect("1000:100 32000timeout 32000gone");
	assert_int_equal(fake.asked, 1);
	fake_mark();
	t = bye(FLOW_TCP);
	fake_advance(2010);
	fake_receive(t, reply(200));
	fake_expect("2000unacked 2010:200 2010gone");
}

static void test_every_row(void **state)
{
	(void)state;
	fake_all_rows(TXN_NICT, &txn_nict);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_timer_e_and_f_in_trying),
		FAKE_TEST(test_timer_e_and_f_in_proceeding),
		FAKE_TEST(test_reliable_runs_only_timer_f),
		FAKE_TEST(test_finals),
		FAKE_TEST(test_final_over_reliable_ends_at_once),
		FAKE_TEST(test_error_and_abandon),
		FAKE_TEST(test_user_inside_upcalls),
		FAKE_TEST(test_ack_timeout),
		cmocka_unit_test(test_every_row),
	};
	return cmocka_run_group_tests_name("txn_nict", tests, NULL, NULL);
}
