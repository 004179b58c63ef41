/* CANCEL in every state of its INVITE: RFC 3261 9.1, 9.2, 16.10. */
#include "harness.h"

#include <string.h>

static void test_before_any_provisional(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL");
	h_assert_hdr(h, h_expect_response(h, H_CALLER, 200), "CSeq", "1 CANCEL");
	h_expect_silence(h); /* 9.1: not before the callee has said that it has the INVITE */
	h_run(h, 1000);
	assert_int_equal(h_copies(h, m), 1); /* the INVITE goes on being repeated meanwhile */
	h_expect_silence(h);
	H_REP(h, m, 100);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_string_equal(h_branch(h, cancel), h_branch(h, m));
	assert_string_equal(h_ruri(h, cancel), h_ruri(h, m));
	assert_int_equal(h_hdr_count(cancel, "Via"), 1);
	h_assert_hdr(h, cancel, "CSeq", "1 CANCEL");
	h_assert_hdr(h, cancel, "Call-ID", "call-1");
	h_assert_hdr(h, cancel, "From", "<sip:alice@caller.test>;tag=alice");
	h_assert_hdr(h, cancel, "To", "<sip:bob@example.test>");
	H_REP(h, cancel, 200);
	h_expect_silence(h); /* a 200 to a CANCEL is hop by hop */
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 487);
	h_assert_hdr(h, final, "CSeq", "1 INVITE");
	h_ack(h, &(struct h_req){0}, final);
	h_expect_silence(h);
	h_run(h, 70000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

static void test_after_ringing(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	h_expect_silence(h);
	/* a copy is answered again, and nothing else */
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 487);
	h_expect_silence(h);
	h_stop(h);
}

/* The CANCEL downstream is a transaction of its own: it is repeated until answered. */
static void test_is_repeated(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	h_run(h, 1600);
	assert_int_equal(h_copies(h, cancel), 2);
	H_REP(h, cancel, 200);
	h_run(h, 10000);
	assert_int_equal(h_copies(h, cancel), 2);
	h_expect_silence(h);
	h_stop(h);
}

static void test_crossed_by_ok(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	H_REP(h, m, 200);
	h_assert_hdr(h, h_expect_response(h, H_CALLER, 200), "CSeq", "1 INVITE");
	H_REP(h, cancel, 481);
	h_expect_silence(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 200000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

static void test_waiting_crossed_by_final(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, m, 486); /* before any provisional: nothing is left to cancel */
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 486);
	h_expect_silence(h);
	h_stop(h);
}

/* 9.2: after the final response a CANCEL changes nothing, and is answered all the same. */
static void test_after_final(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 486);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *busy = h_expect_response(h, H_CALLER, 486);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_ack(h, &(struct h_req){0}, busy);
	h_expect_silence(h);
	h_stop(h);
}

static void test_after_ok(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

/* 9.1: 64*T1 after the CANCEL the branch is given up. */
static void test_callee_is_silent(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	h_run(h, 31900);
	h_expect_silence(h);
	h_run(h, 200);
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 0);
	assert_true(final->status == 487 || final->status == 408);
	h_ack(h, &(struct h_req){0}, final);
	h_run(h, 70000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* The callee never answers the INVITE at all: Timer B ends it, no CANCEL ever leaves. */
static void test_waiting_until_timer_b(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 32100);
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 0);
	assert_true(final->status == 487 || final->status == 408);
	h_expect_silence(h);
	h_stop(h);
}

static void test_stops_a_serial_search(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("serial"));
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	H_REP(h, m, 503); /* not a 487, but nobody else may be asked now */
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 0);
	assert_true(final->status >= 400);
	h_expect_silence(h);
	h_run(h, 40000);
	assert_null(h_take_request(h, NULL, "INVITE"));
	h_stop(h);
}

static void test_stops_a_waiting_search(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("serial"));
	H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 32100); /* Timer B of the first branch */
	h_expect_response(h, H_CALLER, 0);
	h_expect_silence(h);
	h_stop(h);
}

/* While a name is being looked up there is nobody to cancel: 487 at once. */
static void test_during_a_look_up(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "route \"all\" { domain = \"example.test\" dns = true }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	uint64_t ref = h_expect_resolve(h, "example.test");
	H_REQ(h, .method = "CANCEL");
	h_assert_hdr(h, h_expect_response(h, H_CALLER, 200), "CSeq", "1 CANCEL");
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	h_resolved(h, ref, 0, "192.0.2.21:5060");
	h_expect_silence(h);
	h_run(h, 70000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* The tags of a 200 to the CANCEL and of what we answer to the INVITE are the same (9.2). */
static void test_same_to_tag(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "route \"all\" { domain = \"example.test\" dns = true }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	H_REQ(h, .method = "CANCEL");
	const struct sip_msg *ok = h_expect_response(h, H_CALLER, 200),
			     *end = h_expect_response(h, H_CALLER, 487);
	assert_true(ok->to_tag.len > 0);
	assert_true(slice_eq(sip_slice(ok, ok->to_tag), sip_slice(end, end->to_tag)));
	h_stop(h);
}

/* 16.10: a CANCEL that matches nothing is forwarded without a transaction by the same routing; and so that it matches
 * there, under the branch that its INVITE had (16.11): also after a restart. */
static void test_unknown_is_forwarded(void **state)
{
	(void)state;
	struct harness *before = h_start(H_CONF_ONE);
	const struct sip_msg *invite = H_CALL(before, H_A);
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "CANCEL");
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	h_expect_silence(h); /* no answer of ours */
	assert_string_equal(h_branch(h, cancel), h_branch(before, invite));
	assert_string_equal(h_ruri(h, cancel), h_ruri(before, invite));
	h_assert_hdr(h, cancel, "Max-Forwards", "69");
	assert_int_equal(h_hdr_count(cancel, "Via"), 2);
	h_run(h, 40000);
	assert_int_equal(h_copies(h, cancel), 0);
	h_expect_silence(h);
	assert_int_equal(h_slots_held(h), 0);
	/* and each copy is forwarded the same way */
	H_REQ(h, .method = "CANCEL");
	const struct sip_msg *again = h_expect_request(h, H_A, "CANCEL");
	assert_string_equal(h_branch(h, again), h_branch(h, cancel));
	h_stop(h);
	h_stop(before);
}

static void test_unknown_without_route(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "CANCEL", .ruri = "sip:bob@elsewhere.test");
	assert_null(h_take_request(h, NULL, NULL));
	const struct sip_msg *m = h_take_response(h, H_CALLER, 0);
	if (m)
		assert_true(m->status == 403 || m->status == 481);
	h_expect_silence(h);
	h_stop(h);
}

/* A CANCEL of somebody who does not know the branch finds nothing. */
static void test_of_another_branch(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL", .branch = "z9hG4bK-another");
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_string_not_equal(h_branch(h, cancel), h_branch(h, m));
	h_forget(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	/* 17.2.3: the same branch from another sent-by is another transaction */
	m = H_CALL(h, H_A, .call_id = "call-2");
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL", .call_id = "call-2", .via = "192.0.2.99:5060");
	cancel = h_take_request(h, H_A, "CANCEL");
	if (cancel)
		assert_string_not_equal(h_branch(h, cancel), h_branch(h, m));
	h_stop(h);
}

/* 22.1, 9.1: what the INVITE needed for its way and its credentials goes along. */
static void test_carries_route(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21;lr\"} }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m =
		H_CALL(h, H_A, .extra = "Require: x-thing\nProxy-Authorization: Digest x=\"y\"\n");
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	h_assert_hdr(h, cancel, "Route", h_hdr(h, m, "Route", 0));
	assert_int_equal(h_hdr_count(cancel, "Require"), 0);
	assert_int_equal(h_hdr_count(cancel, "Contact"), 0);
	h_stop(h);
}

/* 9.1: only an INVITE can be cancelled; a CANCEL for another request changes nothing. */
static void test_of_another_method(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *m = h_expect_request(h, H_A, "MESSAGE");
	H_REQ(h, .method = "CANCEL");
	h_forget(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_stop(h);
}

/* RFC 3326: phones that stop ringing learn why, and whether to list a missed call. */
static void test_reason(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("parallel"));
	const struct sip_msg *a, *b;

	for (unsigned status = 200; status <= 603; status += 403) {
		const char *id = status == 200 ? "ok" : "decline";
		a = H_CALL(h, H_A, .call_id = id);
		b = h_expect_request(h, H_B, "INVITE");
		H_REP(h, a, 180);
		H_REP(h, b, status);
		h_assert_hdr(h, h_expect_request(h, H_A, "CANCEL"), "Reason",
			     status == 200 ? "SIP;cause=200;text=\"Call completed elsewhere\""
					   : "SIP;cause=603");
		H_REP(h, a, 487);
		h_forget(h);
	}
	/* the caller's own reason goes on; without one there is none */
	a = H_CALL(h, H_A, .call_id = "theirs");
	H_REP(h, a, 180);
	H_REQ(h, .method = "CANCEL", .call_id = "theirs", .extra = "Reason: Q.850;cause=16;text=\"bye\"\n");
	h_assert_hdr(h, h_expect_request(h, H_A, "CANCEL"), "Reason", "Q.850;cause=16;text=\"bye\"");
	h_forget(h);
	a = H_CALL(h, H_A, .call_id = "none");
	H_REP(h, a, 180);
	H_REQ(h, .method = "CANCEL", .call_id = "none");
	assert_int_equal(h_hdr_count(h_expect_request(h, H_A, "CANCEL"), "Reason"), 0);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_any_provisional),
		cmocka_unit_test(test_after_ringing),
		cmocka_unit_test(test_is_repeated),
		cmocka_unit_test(test_crossed_by_ok),
		cmocka_unit_test(test_waiting_crossed_by_final),
		cmocka_unit_test(test_after_final),
		cmocka_unit_test(test_after_ok),
		cmocka_unit_test(test_callee_is_silent),
		cmocka_unit_test(test_waiting_until_timer_b),
		cmocka_unit_test(test_stops_a_serial_search),
		cmocka_unit_test(test_stops_a_waiting_search),
		cmocka_unit_test(test_during_a_look_up),
		cmocka_unit_test(test_same_to_tag),
		cmocka_unit_test(test_unknown_is_forwarded),
		cmocka_unit_test(test_unknown_without_route),
		cmocka_unit_test(test_of_another_branch),
		cmocka_unit_test(test_carries_route),
		cmocka_unit_test(test_of_another_method),
		cmocka_unit_test(test_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
