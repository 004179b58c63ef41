/* What is bounded: calls being set up, drain; and reconfiguration while calls are under way. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define CONF_MAX H_CONF_ONE "timers { max_inflight = 2 }\ndrain { retry_after = 7s }\n"

static void refused(struct harness *h, const char *call_id)
{
	H_REQ(h, .call_id = call_id);
	h_take_response(h, H_CALLER, 100);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 503);
	const char *after = h_hdr(h, m, "Retry-After", 0);
	assert_non_null(after);
	assert_true(atoi(after) > 0);
	h_ack(h, &(struct h_req){.call_id = call_id}, m);
	h_expect_silence(h);
}

static void test_max_inflight(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_MAX);
	const struct sip_msg *one = H_CALL(h, H_A, .call_id = "one");
	const struct sip_msg *two = H_CALL(h, H_A, .call_id = "two");
	assert_int_equal(h_shared(h)->inflight, 2);
	for (int i = 0; i < 5; i++)
		refused(h, h_keepf(h, "more-%d", i));
	assert_int_equal(h_shared(h)->inflight, 2);
	/* what goes on all the same */
	H_REQ(h, .call_id = "one"); /* a copy */
	h_expect_response(h, H_CALLER, 100);
	H_REP(h, one, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, .call_id = "two", .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .call_id = "other", .method = "MESSAGE");
	h_expect_request(h, H_A, "MESSAGE");
	h_expect_silence(h);
	refused(h, "still");
	/* and a place that is free is free */
	H_REP(h, one, 200);
	h_expect_response(h, H_CALLER, 200);
	assert_int_equal(h_shared(h)->inflight, 1);
	H_CALL(h, H_A, .call_id = "three");
	refused(h, "again");
	H_REP(h, two, 100);
	h_forget(h);
	H_REP(h, two, 487);
	h_expect_response(h, H_CALLER, 487);
	h_forget(h);
	H_CALL(h, H_A, .call_id = "four");
	h_stop(h);
}

/* In-dialog requests pass, a re-INVITE too. */
static void test_in_dialog_passes(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_MAX);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 200);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_CALL(h, H_A, .call_id = "one");
	H_CALL(h, H_A, .call_id = "two");
	refused(h, "three");
	H_REQ(h, .method = "ACK", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob",
	      .branch = "z9hG4bK-ack", .extra = route);
	h_expect_request(h, H_A, "ACK");
	H_CALL(h, H_A, .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob", .cseq = 2, .extra = route);
	H_REQ(h, .method = "BYE", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob", .cseq = 3,
	      .extra = route);
	h_expect_request(h, H_A, "BYE");
	h_expect_silence(h);
	h_stop(h);
}

/* The count comes back to nothing by every way that a call can end. */
static void test_inflight_returns(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A, .call_id = "a");
	H_REP(h, m, 486);
	m = H_CALL(h, H_A, .call_id = "b");
	h_undeliverable(h, m);
	H_CALL(h, H_A, .call_id = "c"); /* Timer B */
	m = H_CALL(h, H_A, .call_id = "d");
	H_REP(h, m, 180); /* Timer C, then nothing */
	H_REQ(h, .call_id = "e", .ruri = "sip:x@elsewhere.test");
	H_REQ(h, .call_id = "f", .max_forwards = "0");
	assert_int_equal(h_shared(h)->inflight, 2);
	h_run(h, 400000);
	h_assert_idle(h);
	h_stop(h);
}

static void test_drain(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_MAX);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	h_shared(h)->draining = 1;
	H_REQ(h, .call_id = "new");
	h_take_response(h, H_CALLER, 100);
	const struct sip_msg *no = h_expect_response(h, H_CALLER, 503);
	h_assert_hdr(h, no, "Retry-After", "7");
	h_ack(h, &(struct h_req){.call_id = "new"}, no);
	h_expect_silence(h);
	/* what is under way ends well */
	H_REQ(h);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, m, 200);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_REQ(h, .method = "ACK", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob",
	      .branch = "z9hG4bK-ack", .extra = route);
	h_expect_request(h, H_A, "ACK");
	H_REQ(h, .method = "BYE", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob", .cseq = 2,
	      .extra = route);
	H_REP(h, h_expect_request(h, H_A, "BYE"), 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	/* and undrain */
	h_shared(h)->draining = 0;
	H_CALL(h, H_A, .call_id = "later");
	h_stop(h);
}

static void test_cancel_while_draining(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_MAX);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	h_shared(h)->draining = 1;
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	H_REP(h, m, 487);
	h_expect_response(h, H_CALLER, 487);
	h_stop(h);
}

/* max_transactions: a refusal, never a crash; and the room comes back. */
static void test_max_transactions(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE "timers { max_transactions = 100 }\n");
	unsigned passed = 0, refused_count = 0;
	for (int i = 0; i < 200; i++) {
		H_REQ(h, .method = "MESSAGE", .call_id = h_keepf(h, "m-%d", i));
		if (h_take_request(h, H_A, "MESSAGE"))
			passed++;
		else if (h_take_response(h, H_CALLER, 503))
			refused_count++;
		h_expect_silence(h);
	}
	assert_in_range(passed, 40, 100);
	assert_int_equal(passed + refused_count, 200);
	h_run(h, 100000);
	H_REQ(h, .method = "MESSAGE", .call_id = "later");
	h_expect_request(h, H_A, "MESSAGE");
	h_stop(h);
}

/* A call is finished by what it was decided with; a new one sees the new configuration. */
static void test_reconfigure(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("serial"));
	struct harness *other =
		h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.99\"} }\n"
				 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m = H_CALL(h, H_A);
	h_swap_config(h, other);
	H_REP(h, m, 503);
	h_expect_request(h, H_A, "ACK");
	m = h_expect_request(h, H_B, "INVITE");
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_CALL(h, "192.0.2.99:5060", .call_id = "new");
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 300000);
	h_swap_config(h, other);
	h_stop(other);
	h_stop(h);
}

/* A thousand calls at once, each ended in one of the ways: nothing stays behind. */
static void test_many_calls(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("round-robin"));
	for (unsigned i = 0; i < 1000; i++) {
		const char *call = h_keepf(h, "many-%u", i);
		H_REQ(h, .call_id = call);
		h_expect_response(h, H_CALLER, 100);
		const struct sip_msg *m = h_take_request(h, NULL, "INVITE");
		assert_non_null(m);
		if (i % 5 != 4)
			H_REP(h, m, 180);
		if (i % 5 == 0)
			H_REP(h, m, 200);
		else if (i % 5 == 1)
			H_REP(h, m, 603);
		else if (i % 5 == 2)
			H_REQ(h, .call_id = call, .method = "CANCEL");
		h_forget(h);
	}
	assert_int_equal(h_shared(h)->inflight, 600);
	h_run(h, 1000000);
	h_assert_idle(h);
	h_stop(h);
}

/* Stopped in the middle of everything. */
static void test_destroy_under_way(void **state)
{
	(void)state;
	struct harness *h =
		h_start(H_CONF_THREE("parallel") "route \"dns\" { domain = \"dns.test\" dns = true }\n");
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	H_REQ(h, .method = "CANCEL");
	H_REQ(h, .call_id = "2", .ruri = "sip:x@dns.test");
	H_REQ(h, .call_id = "3", .method = "MESSAGE", .ruri = "sip:x@dns.test");
	H_REQ(h, .call_id = "4", .method = "CANCEL", .ruri = "sip:x@dns.test");
	H_REQ(h, .call_id = "5", .method = "MESSAGE");
	H_CALL(h, H_A, .call_id = "6");
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_inflight),          cmocka_unit_test(test_in_dialog_passes),
		cmocka_unit_test(test_inflight_returns),      cmocka_unit_test(test_drain),
		cmocka_unit_test(test_cancel_while_draining), cmocka_unit_test(test_max_transactions),
		cmocka_unit_test(test_reconfigure),           cmocka_unit_test(test_many_calls),
		cmocka_unit_test(test_destroy_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
