/* INVITE client transaction: every row of its table, every timer at its time. */
#include "txn_fake.h"

#define BRANCH "z9hG4bKone"

static const struct sip_msg *reply(unsigned status)
{
	return fake_reply(status, BRANCH, "INVITE");
}

static struct txn *invite(enum flow_proto proto)
{
	struct txn *t = fake_client(REQ(.extra = "Route: <sip:r.example.com;lr>" CRLF), proto);

	assert_int_equal(txn_kind(t), TXN_ICT);
	assert_int_equal(txn_state(t), TXN_CALLING);
	assert_int_equal(counters_sum(CNT_TXN_ICT_CALLING), 1);
	fake_expect("0>INVITE");
	return t;
}

static void test_timer_a_and_b(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	assert_true(txn_request_bytes(t).len > 100);
	fake_advance(31999);
	fake_expect("500>INVITE 1500>INVITE 3500>INVITE 7500>INVITE 15500>INVITE 31500>INVITE");
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_REQUEST), 6);
	fake_advance(20);
	fake_expect("32000timeout 32000gone");
	assert_int_equal(counters_sum(CNT_TXN_TIMEOUT), 1);
	assert_int_equal(txn_table_count(fake.tb), 0);
	fake_advance(40000);
	fake_expect("");
}

static void test_reliable_runs_no_timer_a(void **state)
{
	(void)state;
	invite(FLOW_TCP);
	fake_advance(33000);
	fake_expect("32000timeout 32000gone");
}

static void test_other_timer_values(void **state)
{
	(void)state;
	struct txn_timers quick = {80, 160, 240};
	invite(FLOW_UDP);
	txn_table_set_timers(fake.tb, &quick);
	struct txn *later = fake_client(REQ(.via = "SIP/2.0/UDP h;branch=z9hG4bKlater"), FLOW_UDP);
	fake_expect("0>INVITE");
	fake_advance(700);
	/* The first one has kept its own T1. */
	fake_expect("80>INVITE 240>INVITE 500>INVITE 560>INVITE");
	txn_client_abandon(later);
	fake_expect("700gone");
}

static void test_provisional_stops_both(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_advance(600);
	fake_receive(t, reply(100));
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
	fake_receive(t, reply(100));
	fake_receive(t, reply(180));
	fake_receive(t, reply(180));
	fake_receive(t, reply(183));
	fake_expect("500>INVITE 600:100 600:180 600:180 600:183");
	fake_advance(300000);
	fake_expect("");
	assert_int_equal(txn_state(t), TXN_PROCEEDING);
	assert_true(txn_request_bytes(t).len > 100);
	assert_int_equal(counters_sum(CNT_TXN_ICT_CALLING), 0);
	assert_int_equal(counters_sum(CNT_TXN_ICT_PROCEEDING), 1);
}

static void accepted(struct txn *t)
{
	assert_int_equal(txn_state(t), TXN_ACCEPTED);
	assert_int_equal(txn_request_bytes(t).len, 0);
	assert_null(t->kept);
	assert_int_equal(counters_sum(CNT_TXN_ICT_ACCEPTED), 1);
	fake_mark();
	/* RFC 6026: every 2xx goes up, nothing else matters any more. */
	fake_receive(t, reply(200));
	fake_receive(t, reply(180));
	fake_receive(t, reply(486));
	txn_client_error(t);
	txn_client_abandon(t);
	fake_expect("0:200");
	fake_advance(31990);
	fake_receive(t, reply(202));
	fake_expect("31990:202");
	fake_advance(20);
	fake_expect("32000gone");
	assert_null(txn_client_find(fake.tb, reply(200)));
}

static void test_2xx_in_calling(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_receive(t, reply(200));
	fake_expect("0:200");
	accepted(t);
}

static void test_2xx_in_proceeding(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_TCP);

	fake_receive(t, reply(183));
	fake_receive(t, reply(200));
	fake_expect("0:183 0:200");
	accepted(t); /* Timer M runs over reliable transports too */
}

static bool last_has(const char *text)
{
	return memmem(fake.last, fake.last_len, text, strlen(text)) != NULL;
}

static void completed(struct txn *t)
{
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	assert_int_equal(counters_sum(CNT_TXN_ICT_COMPLETED), 1);
	assert_int_equal(txn_request_bytes(t).len, 0);
	/* 17.1.1.3 */
	assert_true(last_has("ACK sip:b@example.com SIP/2.0" CRLF));
	assert_true(last_has("branch=" BRANCH));
	assert_true(last_has("tag=t1"));
	assert_true(last_has("CSeq: 1 ACK" CRLF));
	assert_true(last_has("Route: <sip:r.example.com;lr>" CRLF));
	fake_mark();
	fake_advance(100);
	fake_receive(t, reply(486));
	fake_receive(t, reply(503));
	fake_receive(t, reply(180));
	txn_client_error(t);
	txn_client_abandon(t);
	fake_expect("100>ACK 100>ACK");
	assert_int_equal(counters_sum(CNT_RETRANSMITTED_REQUEST), 2);
	/* The 2xx of another branch downstream is still passed on (16.7). */
	fake_receive(t, reply(200));
	fake_expect("100:200");
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	fake_advance(31890);
	fake_expect("");
	fake_advance(20);
	fake_expect("32000gone");
}

static void test_final_in_calling(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_receive(t, reply(486));
	fake_expect("0>ACK 0:486");
	completed(t);
}

static void test_final_in_proceeding(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	fake_receive(t, reply(180));
	fake_receive(t, reply(603));
	fake_expect("0:180 0>ACK 0:603");
	completed(t);
}

static void test_final_over_reliable_ends_at_once(void **state)
{
	(void)state;
	invite(FLOW_TLS);
	struct txn *t = txn_client_find(fake.tb, reply(404));
	fake_receive(t, reply(404));
	fake_expect("0>ACK 0:404 0gone");
	assert_int_equal(txn_table_count(fake.tb), 0);
	assert_int_equal(fake.last_to.proto, FLOW_TLS);
}

static void test_timer_d_is_never_short(void **state)
{
	(void)state;
	struct txn_timers quick = {10, 40, 50}, slow = {1000, 4000, 5000};

	txn_table_set_timers(fake.tb, &quick);
	fake_receive(invite(FLOW_UDP), reply(404));
	fake_advance(40000);
	fake_expect("0>ACK 0:404 32000gone");
	txn_table_set_timers(fake.tb, &slow);
	fake_mark();
	fake_receive(invite(FLOW_UDP), reply(404));
	fake_advance(70000);
	fake_expect("0>ACK 0:404 64000gone");
}

static void test_error_and_abandon(void **state)
{
	(void)state;
	txn_client_error(invite(FLOW_UDP));
	fake_expect("0error 0gone");
	txn_client_abandon(invite(FLOW_UDP));
	fake_expect("0gone");

	struct txn *t = invite(FLOW_UDP);
	fake_receive(t, reply(180));
	txn_client_error(t);
	fake_expect("0:180 0error 0gone");
	t = invite(FLOW_UDP);
	fake_receive(t, reply(180));
	txn_client_abandon(t);
	fake_expect("0:180 0gone");
	fake_advance(40000);
	fake_expect("");
}

static void test_no_owner_no_upcalls(void **state)
{
	(void)state;
	struct txn *t = invite(FLOW_UDP);

	assert_ptr_equal(txn_owner(t), &fake_owner);
	txn_set_owner(t, NULL);
	fake_receive(t, reply(180));
	fake_receive(t, reply(486));
	fake_advance(33000);
	fake_expect("0>ACK");
	t = fake_client(REQ(), FLOW_UDP);
	txn_set_owner(t, NULL);
	txn_client_error(t);
	fake_expect("33000>INVITE");
	t = fake_client(REQ(), FLOW_TCP);
	txn_set_owner(t, NULL);
	fake_mark();
	fake_advance(33000);
	fake_expect("");
	assert_int_equal(txn_table_count(fake.tb), 0);
}

static void test_stalled_worker_sends_no_burst(void **state)
{
	(void)state;
	invite(FLOW_UDP);
	fake.now += 6000;
	wheel_run(&fake.wheel, fake.now);
	fake_expect("6000>INVITE");
	fake_advance(1100);
	fake_expect("7000>INVITE");
}

/* What the user may do inside an upcall. */
static struct txn *hook_other;

static void hook_reenter(struct txn *t, const char *what, unsigned status)
{
	if (strcmp(what, "response") == 0 && status == 183)
		txn_client_abandon(t);
	if (strcmp(what, "response") == 0 && status == 404) {
		txn_client_error(t); /* nothing: there is a final response */
		txn_client_abandon(hook_other);
		fake_client(REQ(.via = "SIP/2.0/UDP h;branch=z9hG4bKnext"), FLOW_UDP);
	}
	if (strcmp(what, "timeout") == 0) {
		txn_client_abandon(t);
		txn_client_error(t);
		assert_null(txn_client_find(fake.tb, reply(200)));
	}
}

static void test_user_inside_upcalls(void **state)
{
	(void)state;
	fake.hook = hook_reenter;
	struct txn *t = invite(FLOW_UDP);
	fake_receive(t, reply(183));
	fake_expect("0:183 0gone");

	hook_other = invite(FLOW_TCP);
	t = fake_client(REQ(.via = "SIP/2.0/TCP h;branch=z9hG4bKtwo"), FLOW_TCP);
	fake_receive(t, fake_reply(404, "z9hG4bKtwo", "INVITE"));
	fake_expect("0>INVITE 0>ACK 0:404 0gone 0>INVITE 0gone");
	assert_int_equal(txn_table_count(fake.tb), 1);
	txn_client_abandon(txn_client_find(fake.tb, fake_reply(100, "z9hG4bKnext", "INVITE")));
	fake_expect("0gone");

	invite(FLOW_TCP);
	fake_advance(32010);
	fake_expect("32000timeout 32000gone");
	assert_int_equal(fake.gone, 5);
}

/* Over TCP the peer's kernel says whether the request has arrived. */
static void test_ack_timeout(void **state)
{
	(void)state;
	fake.ack_timeout = 2000;
	struct txn *t = invite(FLOW_TCP);

	fake_advance(1990);
	fake_expect("");
	fake_advance(20);
	fake_expect("2000unacked"); /* once; the transaction goes on */
	assert_true(fake.acked_since == fake.mark);
	fake_advance(29000);
	fake_expect("");
	assert_int_equal(fake.asked, 1);
	fake_receive(t, reply(180));
	fake_advance(60000);
	fake_expect("31010:180");
	txn_client_error(t);
	fake_mark();
	fake.acked = true; /* it was */
	fake.asked = 0;
	invite(FLOW_TCP);
	fake_advance(33000);
	fake_expect("32000timeout 32000gone");
	assert_int_equal(fake.asked, 1);
	/* a response says it as well */
	fake_mark();
	fake.acked = false;
	fake.asked = 0;
	t = invite(FLOW_TCP);
	fake_advance(1000);
	fake_receive(t, reply(100));
	fake_advance(60000);
	fake_expect("1000:100");
	txn_client_abandon(t);
	fake_expect("61000gone");
	/* beyond Timer B it is of no use; without an owner nobody wants to know; over UDP it means nothing */
	fake_mark();
	fake.ack_timeout = 40000;
	invite(FLOW_TCP);
	fake_advance(60000);
	fake_expect("32000timeout 32000gone");
	fake_mark();
	fake.ack_timeout = 2000;
	txn_set_owner(invite(FLOW_TCP), NULL);
	fake_advance(33000);
	fake_mark();
	txn_client_abandon(invite(FLOW_UDP));
	fake_advance(5000);
	fake_expect("0gone");
	assert_int_equal(fake.asked, 0);
}

static void abandon_hook(struct txn *t, const char *what, unsigned status)
{
	(void)status;
	if (strcmp(what, "unacked") == 0)
		txn_client_abandon(t);
}

static void test_abandoned_when_unacked(void **state)
{
	(void)state;
	fake.ack_timeout = 2000;
	fake.hook = abandon_hook;
	invite(FLOW_TCP);
	fake_advance(60000);
	fake_expect("2000unacked 2000gone");
}

static void test_every_row(void **state)
{
	(void)state;
	fake_all_rows(TXN_ICT, &txn_ict);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_timer_a_and_b),
		FAKE_TEST(test_reliable_runs_no_timer_a),
		FAKE_TEST(test_other_timer_values),
		FAKE_TEST(test_provisional_stops_both),
		FAKE_TEST(test_2xx_in_calling),
		FAKE_TEST(test_2xx_in_proceeding),
		FAKE_TEST(test_final_in_calling),
		FAKE_TEST(test_final_in_proceeding),
		FAKE_TEST(test_final_over_reliable_ends_at_once),
		FAKE_TEST(test_timer_d_is_never_short),
		FAKE_TEST(test_error_and_abandon),
		FAKE_TEST(test_no_owner_no_upcalls),
		FAKE_TEST(test_stalled_worker_sends_no_burst),
		FAKE_TEST(test_user_inside_upcalls),
		FAKE_TEST(test_ack_timeout),
		FAKE_TEST(test_abandoned_when_unacked),
		cmocka_unit_test(test_every_row),
	};
	return cmocka_run_group_tests_name("txn_ict", tests, NULL, NULL);
}
