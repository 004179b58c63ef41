/* Responses on their way back: RFC 3261 16.7 for one branch, the proxy's own timers, and ACK. */
#include "harness.h"

#include <string.h>

static void test_whole_call(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 100);
	h_expect_silence(h);
	H_REP(h, m, 180, .extra = "x-unknown:  kept\n");
	h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 180));
	H_REP(h, m, 183, .body = "v=0\n");
	h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 183));
	H_REP(h, m, 200, .body = "v=0\n");
	const struct sip_msg *ok = h_expect_response(h, H_CALLER, 200);
	h_assert_passed(h, h_last_received(h), ok);
	h_expect_silence(h); /* we do not ACK a 2xx */
	const char *route = h_route_set(h, ok);
	H_REQ(h, .method = "ACK", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob",
	      .branch = "z9hG4bK-ack", .extra = route);
	const struct sip_msg *ack = h_expect_request(h, H_A, "ACK");
	assert_string_equal(h_ruri(h, ack), "sip:callee@192.0.2.21:5060");
	H_REQ(h, .method = "BYE", .ruri = "sip:callee@192.0.2.21:5060", .to_tag = "bob", .cseq = 2,
	      .extra = route);
	const struct sip_msg *bye = h_expect_request(h, H_A, "BYE");
	H_REP(h, bye, 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 200000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* RFC 6026: every copy of a 2xx goes back, and stops when Timer M has passed. */
static void test_ok_again(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	for (int i = 0; i < 4; i++) {
		H_REP(h, m, 200);
		h_expect_response(h, H_CALLER, 200);
		h_expect_silence(h);
		h_run(h, 500);
	}
	h_run(h, 33000);
	H_REP(h, m, 200); /* RFC 6026 7.3: a stray response */
	h_expect_silence(h);
	h_stop(h);
}

static void test_ok_of_two_callees(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE); /* somebody behind us forked */
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180, .to_tag = "bob-1");
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, m, 180, .to_tag = "bob-2");
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, m, 200, .to_tag = "bob-1");
	assert_true(h_has(h_expect_response(h, H_CALLER, 200), "tag=bob-1"));
	H_REP(h, m, 200, .to_tag = "bob-2");
	assert_true(h_has(h_expect_response(h, H_CALLER, 200), "tag=bob-2"));
	h_expect_silence(h);
	h_stop(h);
}

/* Final responses other than 2xx are hop by hop: we ACK, the caller's ACK ends at us (16.7 step 10, 17.1.1.3). */
static void test_final_is_acked(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 486);
	const struct sip_msg *ack = h_expect_request(h, H_A, "ACK");
	assert_string_equal(h_branch(h, ack), h_branch(h, m));
	assert_string_equal(h_ruri(h, ack), h_ruri(h, m));
	assert_int_equal(h_hdr_count(ack, "Via"), 1);
	assert_true(h_has(ack, "tag=bob"));
	h_assert_hdr(h, ack, "CSeq", "1 ACK");
	const struct sip_msg *busy = h_expect_response(h, H_CALLER, 486);
	h_expect_silence(h);
	/* a copy is acknowledged again, and not passed on again */
	H_REP(h, m, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	h_run(h, 600); /* Timer G */
	assert_int_equal(h_copies(h, busy), 1);
	h_ack(h, &(struct h_req){0}, busy);
	h_expect_silence(h);
	h_run(h, 40000);
	assert_int_equal(h_copies(h, busy), 1);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

static void test_final_without_ack(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 404);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 404);
	h_run(h, 32000 + 16);
	assert_int_equal(h_copies(h, final), 10); /* 0.5, 1.5, 3.5, then each 4 s up to Timer H */
	h_run(h, 40000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* 16.7 step 6: a 503 would say that we are overloaded. */
static void test_503_becomes_500(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 503, .extra = "Retry-After: 9\n");
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_stop(h);
}

static void test_transport_error_is_503(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_undeliverable(h, m);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	/* and again, for nobody */
	h_undeliverable(h, m);
	h_expect_silence(h);
	h_stop(h);
}

/* After a final response an ICMP error is none of anybody's business; the caller's death neither. */
static void test_transport_error_late(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	const struct sip_msg *ringing = h_expect_response(h, H_CALLER, 180);
	h_undeliverable(h, ringing);
	h_expect_silence(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_undeliverable(h, m);
	h_expect_silence(h);
	h_stop(h);
}

/* A forged ICMP error cannot end a branch of another destination. */
static void test_transport_error_of_another(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	struct addr other;
	assert_int_equal(addr_parse(SLICE_LIT(H_C), &other), 0);
	proxy_send_failed(h_proxy(h), &other, slice_make(m->buf, m->len));
	h_expect_silence(h);
	proxy_send_failed(h_proxy(h), &other, SLICE_LIT("INVITE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch="));
	proxy_send_failed(h_proxy(h), &other, SLICE_NONE);
	h_expect_silence(h);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_stop(h);
}

/* What the caller wrote into the Request-URI does not hide whose request it was. */
static void test_transport_error_of_odd_uri(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21;lr\"} }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	h_undeliverable(h, H_CALL(h, H_A, .ruri = "sip:bob@example.test;branch=z9hG4bK-mine"));
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_stop(h);
}

/* A CANCEL or an ACK that is not delivered ends nothing: the INVITE's own timers do. */
static void test_transport_error_of_cancel_and_ack(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_undeliverable(h, h_expect_request(h, H_A, "CANCEL"));
	h_expect_silence(h);
	H_REP(h, m, 487);
	const struct sip_msg *ack = h_expect_request(h, H_A, "ACK");
	h_undeliverable(h, ack);
	h_undeliverable(h, h_expect_response(h, H_CALLER, 487));
	h_expect_silence(h);
	h_run(h, 70000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* Timer B: 64*T1 without any response; then 408 (17.1.1.2, 16.7). */
static void test_timer_b(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_CALL(h, H_A);
	h_run(h, 31990);
	h_expect_silence(h);
	h_run(h, 30);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 408);
	h_ack(h, &(struct h_req){0}, m);
	h_expect_silence(h);
	h_run(h, 200000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* RFC 4320 4.2: no 408 for what is not an INVITE, and the caller's own Timer F has run out anyway. */
static void test_timer_f(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *m = h_expect_request(h, H_A, "MESSAGE");
	h_run(h, 60000);
	assert_int_equal(h_copies(h, m), 10); /* Timer E: 0.5, 1.5, 3.5, 7.5, then each 4 s */
	const struct sip_msg *trying = h_take_response(h, H_CALLER, 100);
	if (trying) /* RFC 4320 4.1: not before Timer E would have reached T2 */
		assert_true(h_sent_at(h, trying) >= h_sent_at(h, m) + 3500);
	h_expect_silence(h);
	h_run(h, 60000);
	h_assert_idle(h);
	h_stop(h);
}

/* 16.8: Timer C after a provisional: CANCEL; each of 101 to 199 starts it anew, a 100 does not (16.7 step 2). */
static void test_timer_c(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_run(h, 180000);
	H_REP(h, m, 183);
	h_expect_response(h, H_CALLER, 183);
	h_run(h, 180000);
	H_REP(h, m, 100);
	h_expect_silence(h);
	h_run(h, 1100);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_string_equal(h_branch(h, cancel), h_branch(h, m));
	H_REP(h, cancel, 200);
	h_expect_silence(h);
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 0);
	assert_true(final->status == 487 || final->status == 408);
	h_expect_silence(h);
	h_stop(h);
}

static void test_timer_c_configured(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE "timers { c = 3m }\n");
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	h_run(h, 179900);
	h_expect_silence(h);
	h_run(h, 200);
	h_expect_request(h, H_A, "CANCEL");
	h_stop(h);
}

/* The callee is silent after the CANCEL: 64*T1 later the branch is given up (9.1), and the caller gets its answer. */
static void test_timer_c_and_nothing(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	h_run(h, 181100);
	h_expect_request(h, H_A, "CANCEL");
	h_run(h, 32100);
	const struct sip_msg *final = h_expect_response(h, H_CALLER, 0);
	assert_true(final->status == 487 || final->status == 408);
	h_ack(h, &(struct h_req){0}, final);
	h_run(h, 60000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

static void test_stray_responses(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	h_recv(h, H_A,
	       "SIP/2.0 200 OK\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-never-made\n"
	       "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-x\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2\n"
	       "Call-ID: stray\nCSeq: 1 INVITE\nContent-Length: 0\n\n");
	h_expect_silence(h);
	/* our branch, another method */
	const struct sip_msg *m = H_CALL(h, H_A);
	h_recv(h, H_A,
	       "SIP/2.0 200 OK\nVia: %s\nVia: %s\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2\n"
	       "Call-ID: call-1\nCSeq: 1 BYE\nContent-Length: 0\n\n",
	       h_hdr(h, m, "Via", 0), h_hdr(h, m, "Via", 1));
	h_expect_silence(h);
	/* a Via that is not ours under our branch (16.7 step 1 is by branch; 18.1.2 by sent-by) */
	h_recv(h, H_A,
	       "SIP/2.0 180 Ringing\nVia: SIP/2.0/UDP 203.0.113.1;branch=%s\nVia: %s\nFrom: <sip:a@b>;tag=1\n"
	       "To: <sip:b@c>;tag=2\nCall-ID: call-1\nCSeq: 1 BYE\nContent-Length: 0\n\n",
	       h_branch(h, m), h_hdr(h, m, "Via", 1));
	h_expect_silence(h);
	h_stop(h);
}

/* A response in which nothing but our Via stands is for us (16.7 step 3): nowhere to send it. */
static void test_response_without_second_via(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_recv(h, H_A,
	       "SIP/2.0 180 Ringing\nVia: %s\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2\n"
	       "Call-ID: call-1\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
	       h_hdr(h, m, "Via", 0));
	h_expect_silence(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_stop(h);
}

/* The same with a final one: the caller's transaction must not wait for ever. */
static void test_final_without_second_via(void **state)
{
	(void)state;
	static const unsigned CODES[] = {200, 401, 408, 486, 503, 603};
	struct harness *h = h_start(H_CONF_ONE);
	for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++) {
		const char *call = h_keepf(h, "bare-%u", CODES[i]);
		const struct sip_msg *m = H_CALL(h, H_A, .call_id = call);
		h_recv(h, H_A,
		       "SIP/2.0 %u Whatever\nVia: %s\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2\n"
		       "Call-ID: %s\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
		       CODES[i], h_hdr(h, m, "Via", 0), call);
		h_ack(h, &(struct h_req){.call_id = call}, h_expect_response(h, H_CALLER, 502));
		if (CODES[i] >= 300)
			h_expect_request(h, H_A, "ACK");
		h_expect_silence(h);
	}
	h_run(h, 40000);
	h_assert_idle(h);
	h_stop(h);
}

/* Both Vias in one line, as some elements write them. */
static void test_joined_vias(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_recv(h, H_A,
	       "SIP/2.0 180 Ringing\nv: %s , %s\nFrom: <sip:a@b>;tag=1\nTo: <sip:b@c>;tag=2\n"
	       "Call-ID: call-1\nCSeq: 1 INVITE\nContent-Length: 0\n\n",
	       h_hdr(h, m, "Via", 0), h_hdr(h, m, "Via", 1));
	const struct sip_msg *r = h_expect_response(h, H_CALLER, 180);
	assert_int_equal(h_hdr_count(r, "Via"), 1);
	assert_string_equal(h_hdr(h, r, "Via", 0), h_hdr(h, m, "Via", 1));
	h_stop(h);
}

static void test_redirect_and_global_failure(void **state)
{
	(void)state;
	static const unsigned CODES[] = {300, 302, 400, 401, 407, 420, 480, 487, 488, 500, 504, 600, 603, 699};
	struct harness *h = h_start(H_CONF_ONE);
	for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++) {
		const char *call = h_keepf(h, "code-%u", CODES[i]);
		const struct sip_msg *m = H_CALL(h, H_A, .call_id = call);
		H_REP(h, m, CODES[i], .extra = "Contact: <sip:elsewhere@203.0.113.4>\n");
		h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, CODES[i]));
		h_expect_request(h, H_A, "ACK");
		h_expect_silence(h);
	}
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_call),
		cmocka_unit_test(test_ok_again),
		cmocka_unit_test(test_ok_of_two_callees),
		cmocka_unit_test(test_final_is_acked),
		cmocka_unit_test(test_final_without_ack),
		cmocka_unit_test(test_503_becomes_500),
		cmocka_unit_test(test_transport_error_is_503),
		cmocka_unit_test(test_transport_error_late),
		cmocka_unit_test(test_transport_error_of_another),
		cmocka_unit_test(test_transport_error_of_cancel_and_ack),
		cmocka_unit_test(test_transport_error_of_odd_uri),
		cmocka_unit_test(test_timer_b),
		cmocka_unit_test(test_timer_f),
		cmocka_unit_test(test_timer_c),
		cmocka_unit_test(test_timer_c_configured),
		cmocka_unit_test(test_timer_c_and_nothing),
		cmocka_unit_test(test_stray_responses),
		cmocka_unit_test(test_response_without_second_via),
		cmocka_unit_test(test_final_without_second_via),
		cmocka_unit_test(test_joined_vias),
		cmocka_unit_test(test_redirect_and_global_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
