/* The same for calls with several branches, at once or one after the other. */
#include "recover.h"

static void test_two_branches_answered(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	h_restart(h);
	H_REP(h, m[1], 200);
	h_expect_response(h, H_CALLER, 200);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m[0]);
	H_REP(h, m[0], 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	finish();
}

/* The 200 and the others' end in the first batch, before the calls that were read have done anything. */
static void test_two_branches_answered_in_the_first_batch(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	h_crash(h);
	h_up(h);
	H_REP(h, m[1], 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, WHEEL_TICK_MS);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m[0]);
	H_REP(h, m[0], 487);
	h_expect_request(h, H_A, "ACK");
	finish();
}

static void test_two_branches_late_2xx(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	H_REP(h, m[1], 200);
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	h_restart(h);
	assert_int_equal(h_copies(h, cancel), 1);
	H_REP(h, m[0], 200, .to_tag = "other"); /* it crossed the CANCEL */
	h_expect_response(h, H_CALLER, 200);
	h_restart(h);
	H_REP(h, m[0], 200, .to_tag = "other");
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, m[1], 200);
	h_expect_response(h, H_CALLER, 200);
	finish();
}

static void test_two_branches_6xx(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	h_restart(h);
	H_REP(h, m[0], 603);
	h_expect_request(h, H_A, "ACK");
	assert_cancel_of(h_expect_request(h, H_B, "CANCEL"), m[1]);
	h_restart(h); /* the best response is kept */
	H_REP(h, m[1], 487);
	h_expect_request(h, H_B, "ACK");
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 603));
	finish();
}

static void test_two_branches_cancelled(void **state)
{
	(void)state;
	const struct sip_msg *m[3];
	two_ringing(m);
	h_restart(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	assert_cancel_of(h_expect_request(h, H_A, "CANCEL"), m[0]);
	assert_cancel_of(h_expect_request(h, H_B, "CANCEL"), m[1]);
	h_expect_silence(h);
	H_REP(h, m[0], 487);
	h_expect_request(h, H_A, "ACK");
	h_restart(h);
	H_REP(h, m[1], 487);
	h_expect_request(h, H_B, "ACK");
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	finish();
}

/* The challenges of all branches go into one response (16.7 step 7). */
static void test_challenges(void **state)
{
	(void)state;
	begin(H_CONF_THREE("parallel"));
	const struct sip_msg *m[3] = {H_CALL(h, H_A), h_expect_request(h, H_B, "INVITE"),
				      h_expect_request(h, H_C, "INVITE")};
	H_REP(h, m[0], 401, .extra = "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\n");
	H_REP(h, m[1], 407, .extra = "Proxy-Authenticate: Digest realm=\"b\", nonce=\"2\"\n");
	h_forget(h);
	h_restart(h);
	H_REP(h, m[2], 407, .extra = "Proxy-Authenticate: Digest realm=\"c\", nonce=\"3\"\n");
	h_expect_request(h, H_C, "ACK");
	const struct sip_msg *final = h_take_response(h, H_CALLER, 0);
	assert_non_null(final);
	assert_int_equal(h_hdr_count(final, "WWW-Authenticate") + h_hdr_count(final, "Proxy-Authenticate"), 3);
	h_ack(h, &(struct h_req){0}, final);
	finish();
}

static void test_serial(void **state)
{
	(void)state;
	begin(H_CONF_THREE("serial"));
	const struct sip_msg *a = H_CALL(h, H_A);
	h_restart(h);
	H_REP(h, a, 503);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	assert_string_not_equal(h_branch(h, a), h_branch(h, b));
	H_REP(h, b, 180);
	h_expect_response(h, H_CALLER, 180);
	h_restart(h);
	H_REP(h, b, 500);
	h_expect_request(h, H_B, "ACK");
	const struct sip_msg *c = h_expect_request(h, H_C, "INVITE");
	h_restart(h);
	answered(c);
	finish();
}

/* Down for so long that the caller has gone: nobody else is rung for him. */
static void test_serial_long_ago(void **state)
{
	(void)state;
	begin(H_CONF_THREE("serial"));
	H_CALL(h, H_A);
	h_crash(h);
	h_down(h, 3600000);
	h_up(h);
	h_run(h, 40000);
	assert_null(h_take_request(h, H_B, NULL));
	h_forget(h);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_branches_answered),
		cmocka_unit_test(test_two_branches_answered_in_the_first_batch),
		cmocka_unit_test(test_two_branches_late_2xx),
		cmocka_unit_test(test_two_branches_6xx),
		cmocka_unit_test(test_two_branches_cancelled),
		cmocka_unit_test(test_challenges),
		cmocka_unit_test(test_serial),
		cmocka_unit_test(test_serial_long_ago),
	};
	return cmocka_run_group_tests_name("proxy recover fork", tests, NULL, NULL);
}
