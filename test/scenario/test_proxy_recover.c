/* The proxy ends in the middle of a call and begins again on the same store: for every step of a call, the callee sees
 * no second INVITE but copies on the same branch, and the caller exactly one final response. */
#include <string.h>

#include "recover.h"

/* --- before and after 100 --- */

static void test_before_anything(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	h_batch_begin(h);
	H_REQ(h);
	h_crash(h);
	assert_int_equal(h_up(h), 0);
	h_expect_silence(h);
	/* nobody has seen anything: its copy is the first */
	answered(H_CALL(h, H_A));
	finish();
}

static void test_committed_and_not_sent(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	h_batch_begin(h);
	H_REQ(h);
	h_crash_unsent(h);
	assert_int_equal(h_up(h), 1);
	h_expect_silence(h);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_expect_silence(h);
	h_run(h, 520);
	answered(h_expect_request(h, H_A, "INVITE")); /* by Timer A */
	finish();
}

static void test_after_100(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	assert_int_equal(h_restart(h), 1);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_run(h, 2000);
	assert_in_range(h_copies(h, m), 1, 3); /* on the same branch, byte for byte */
	h_expect_silence(h);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	answered(m);
	finish();
}

static void test_after_100_refused(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_restart(h);
	refused(m, H_A, 486);
	finish();
}

/* Timer B began with the INVITE, not with the restart. */
static void test_timer_b(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	H_CALL(h, H_A);
	h_run(h, 10000);
	h_crash(h);
	h_down(h, 5000);
	h_up(h);
	h_run(h, 16900);
	h_expect_silence(h);
	h_run(h, 200);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 408));
	finish();
}

static void test_timer_b_was_due(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	H_CALL(h, H_A);
	h_crash(h);
	h_down(h, 40000);
	h_up(h);
	h_run(h, WHEEL_TICK_MS);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 408));
	finish();
}

/* --- ringing --- */

static void test_ringing_then_answered(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	assert_int_equal(h_restart(h), 1);
	h_run(h, 10000);
	assert_int_equal(h_copies(h, m), 0);
	h_expect_silence(h);
	H_REQ(h); /* the copy gets the last response and rings nobody */
	h_expect_response(h, H_CALLER, 180);
	h_expect_silence(h);
	H_REP(h, m, 183);
	h_expect_response(h, H_CALLER, 183);
	answered(m);
	finish();
}

static void test_ringing_then_cancelled(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	h_restart(h);
	H_REQ(h, .method = "CANCEL");
	h_assert_hdr(h, h_expect_response(h, H_CALLER, 200), "CSeq", "1 CANCEL");
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_cancel_of(cancel, m);
	H_REP(h, cancel, 200);
	refused(m, H_A, 487);
	finish();
}

/* In the first batch, before the calls that were read have done anything. */
static void test_cancel_in_the_first_batch(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	h_crash(h);
	h_up(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, WHEEL_TICK_MS);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m);
	refused(m, H_A, 487);
	finish();
}

/* A CANCEL that waited for a provisional response waits on. */
static void test_cancel_that_waits(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL", .extra = "Reason: SIP;cause=600\n");
	h_expect_response(h, H_CALLER, 200);
	h_restart(h);
	h_expect_silence(h);
	H_REP(h, m, 180);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_cancel_of(cancel, m);
	h_assert_hdr(h, cancel, "Reason", "SIP;cause=600");
	h_expect_response(h, H_CALLER, 180);
	refused(m, H_A, 487);
	finish();
}

static void test_after_cancel(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	H_REQ(h, .method = "CANCEL", .extra = "Reason: SIP;cause=600\n");
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	h_restart(h);
	assert_int_equal(h_copies(h, cancel), 1); /* it may not have left, or not arrived */
	h_expect_silence(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	H_REP(h, cancel, 200);
	refused(m, H_A, 487);
	finish();
}

/* No 487 comes: after 64*T1 it is ours. */
static void test_after_cancel_nothing(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	ringing(H_A);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	H_REP(h, cancel, 200);
	h_crash(h);
	h_down(h, 10000);
	h_up(h);
	h_run(h, 21900);
	h_expect_silence(h);
	h_run(h, 200);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	finish();
}

static void test_timer_c(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	h_run(h, 100000);
	h_crash(h);
	h_down(h, 30000);
	h_up(h);
	h_run(h, 50900);
	h_expect_silence(h);
	h_run(h, 200);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m);
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	finish();
}

static void test_timer_c_was_due(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	h_crash(h);
	h_down(h, 190000);
	h_up(h);
	h_run(h, WHEEL_TICK_MS);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m);
	h_run(h, 64 * 500 + 100);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 408));
	finish();
}

/* --- after a final response --- */

static void test_failure_without_ack(void **state)
{
	(void)state;
	static const unsigned status[] = {486, 487, 603};
	for (unsigned i = 0; i < 3; i++) {
		begin(H_CONF_ONE);
		const struct sip_msg *m = ringing(H_A);
		if (status[i] == 487) {
			H_REQ(h, .method = "CANCEL");
			h_expect_response(h, H_CALLER, 200);
			h_expect_request(h, H_A, "CANCEL");
		}
		H_REP(h, m, status[i]);
		const struct sip_msg *ack = h_expect_request(h, H_A, "ACK");
		const struct sip_msg *final = h_expect_response(h, H_CALLER, status[i]);
		assert_int_equal(h_restart(h), 1);
		h_run(h, 1000);
		assert_in_range(h_copies(h, final), 1, 2); /* Timer G */
		H_REQ(h);
		const struct sip_msg *again = h_expect_response(h, H_CALLER, status[i]);
		assert_true(slice_eq(slice_make(again->buf, again->len), slice_make(final->buf, final->len)));
		H_REP(h, m, status[i]);
		const struct sip_msg *ack2 = h_expect_request(h, H_A, "ACK");
		assert_true(slice_eq(slice_make(ack->buf, ack->len), slice_make(ack2->buf, ack2->len)));
		h_ack(h, &(struct h_req){0}, final);
		unsigned copies = h_copies(h, final);
		/* and once more, now that it is confirmed */
		h_restart(h);
		h_ack(h, &(struct h_req){0}, final);
		H_REQ(h);
		h_run(h, 2000);
		assert_int_equal(h_copies(h, final), copies);
		finish();
	}
}

static void test_after_200(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = ringing(H_A);
	H_REP(h, m, 200);
	const struct sip_msg *ok = h_expect_response(h, H_CALLER, 200);
	const char *routes = h_route_set(h, ok);
	assert_int_equal(h_restart(h), 1);
	H_REQ(h); /* absorbed: the 2xx is the callee's to repeat */
	h_expect_silence(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .method = "ACK", .branch = "z9hG4bK-ack", .ruri = "sip:bob@" H_A, .to_tag = "bob",
	      .extra = routes);
	h_expect_request(h, H_A, "ACK");
	finish();
}

/* --- what waits for others --- */

static void test_look_up(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	h_retarget(h, 0, "sip:callee.test");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	uint64_t old = h_expect_resolve(h, "callee.test");
	h_restart(h);
	h_resolved(h, old + 100, 0, H_B); /* of nobody's */
	h_expect_silence(h);
	h_resolved(h, h_expect_resolve(h, "callee.test"), 0, H_A " " H_B);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	h_restart(h);
	assert_int_equal(h_resolves(h), 0);
	H_REP(h, m, 503); /* the other address of the same name */
	h_expect_request(h, H_A, "ACK");
	answered(h_expect_request(h, H_B, "INVITE"));
	finish();
}

static void test_look_up_cancelled(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	h_retarget(h, 0, "sip:callee.test");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_crash(h);
	h_up(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, WHEEL_TICK_MS);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	assert_int_equal(h_resolves(h), 0);
	finish();
}

/* --- non-INVITE --- */

static void test_strays(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *m = h_expect_request(h, H_A, "MESSAGE");
	h_restart(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	assert_int_equal(counters_sum(CNT_STRAY_FORWARDED), 1);
	/* a copy of the request goes out on the same branch */
	H_REQ(h, .method = "MESSAGE");
	assert_string_equal(h_branch(h, h_expect_request(h, H_A, "MESSAGE")), h_branch(h, m));
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 40000);
	H_REP(h, m, 200);
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_DROP_STRAY_RESPONSE), 1);
	finish();
}

static void test_strays_of_others(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	h_restart(h);
	h_recv(h, H_A,
	       "SIP/2.0 200 OK\nVia: SIP/2.0/UDP " H_PROXY ";branch=z9hG4bKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
	       "Via: SIP/2.0/UDP " H_CALLER ";branch=z9hG4bK-1\nFrom: <sip:a@b>;tag=1\nTo: <sip:c@d>;tag=2\n"
	       "Call-ID: x\nCSeq: 1 MESSAGE\nContent-Length: 0\n\n");
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_DROP_STRAY_RESPONSE), 1);
	finish();
}

/* --- over and over --- */

static void test_at_every_step(void **state)
{
	(void)state;
	begin(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	for (int i = 0; i < 3; i++)
		h_restart(h);
	H_REP(h, m, 100);
	h_restart(h);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	for (int i = 0; i < 3; i++)
		h_restart(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_restart(h);
	h_restart(h);
	assert_in_range(h_copies(h, m), 0, 4);
	finish();
}

/* A record that was read and is written again is the same. */
static void test_record_is_the_same(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	struct slice before = h_record(h, 0);
	h_crash(h);
	h_up(h);
	H_REQ(h); /* touched, and changed in nothing */
	h_expect_response(h, H_CALLER, 180);
	struct slice after = h_record(h, 0);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.p, after.p, before.len);
	assert_int_equal(h_records(h, STORE_CALLS), 1);
	h_forget(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_anything),
		cmocka_unit_test(test_committed_and_not_sent),
		cmocka_unit_test(test_after_100),
		cmocka_unit_test(test_after_100_refused),
		cmocka_unit_test(test_timer_b),
		cmocka_unit_test(test_timer_b_was_due),
		cmocka_unit_test(test_ringing_then_answered),
		cmocka_unit_test(test_ringing_then_cancelled),
		cmocka_unit_test(test_cancel_in_the_first_batch),
		cmocka_unit_test(test_cancel_that_waits),
		cmocka_unit_test(test_after_cancel),
		cmocka_unit_test(test_after_cancel_nothing),
		cmocka_unit_test(test_timer_c),
		cmocka_unit_test(test_timer_c_was_due),
		cmocka_unit_test(test_failure_without_ack),
		cmocka_unit_test(test_after_200),
		cmocka_unit_test(test_look_up),
		cmocka_unit_test(test_look_up_cancelled),
		cmocka_unit_test(test_strays),
		cmocka_unit_test(test_strays_of_others),
		cmocka_unit_test(test_at_every_step),
		cmocka_unit_test(test_record_is_the_same),
	};
	return cmocka_run_group_tests_name("proxy recover", tests, NULL, NULL);
}
