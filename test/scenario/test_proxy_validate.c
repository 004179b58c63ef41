/* What is refused, and with what: RFC 3261 16.3, the route section's own conditions, and requests for the proxy
 * itself. */
#include "harness.h"

#include <string.h>

#define CONF                                                                                                  \
	H_LISTEN "domain \"local.test\" { }\n"                                                                \
		 "gateway \"a\" { target = {\"sip:192.0.2.21\"} }\n"                                          \
		 "gateway \"b\" { target = {\"sip:192.0.2.22\"} }\n"                                          \
		 "route \"no\" { method = {\"PUBLISH\"} reject = \"489 Not Here\" }\n"                        \
		 "route \"phone\" { domain = \"Example.Test\" user = \"^\\\\+?[0-9]+$\" gateway = \"a\" }\n"  \
		 "route \"lab\" { domain = \"example.test\" from = {\"198.51.100.0/24\"} gateway = \"a\" }\n" \
		 "route \"rest\" { domain = \"example.test\" method = {\"MESSAGE\", \"INVITE\"} gateway = "   \
		 "\"b\" }\n"

static unsigned answer(struct harness *h, const struct h_req *r)
{
	h_request(h, r);
	h_take_response(h, NULL, 100);
	const struct sip_msg *m = h_take_response(h, r->from ? r->from : H_CALLER, 0);
	if (!m)
		fail_msg("no answer to %s", r->ruri);
	assert_true(m->to_tag.len > 0);
	assert_null(h_take_request(h, NULL, NULL));
	unsigned status = m->status;
	if (!r->method || strcmp(r->method, "INVITE") == 0) {
		h_ack(h, r, m);
		h_expect_silence(h);
	}
	h_expect_silence(h);
	return status;
}
#define ANSWER(...) answer(h, &(struct h_req){__VA_ARGS__})

static void test_statuses(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	assert_int_equal(ANSWER(.ruri = "strange:thing", .call_id = "1"), 416);
	assert_int_equal(ANSWER(.ruri = "http://example.test/", .method = "MESSAGE", .call_id = "2"), 416);
	assert_int_equal(ANSWER(.ruri = "sip:bob@elsewhere.test", .call_id = "3"), 403);
	assert_int_equal(
		ANSWER(.ruri = "sip:bob@elsewhere.test", .method = "BYE", .to_tag = "b", .call_id = "4"), 403);
	assert_int_equal(ANSWER(.ruri = "sip:bob@local.test", .call_id = "5"), 480);
	assert_int_equal(ANSWER(.method = "PUBLISH", .call_id = "6"), 489);
	assert_int_equal(ANSWER(.extra = "Proxy-Require: x-foo\n", .call_id = "7"), 420);
	assert_int_equal(ANSWER(.method = "OPTIONS", .ruri = "sip:bob@example.test", .call_id = "8"), 403);
	assert_int_equal(h_slots_held(h), 0);
	h_run(h, 70000);
	h_assert_idle(h);
	h_stop(h);
}

static void test_unsupported_is_named(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_REQ(h, .method = "MESSAGE",
	      .extra = "Require: a-require\nProxy-Require: x-foo , x-bar\nProxy-Require: x-baz\n");
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 420);
	assert_true(sip_msg_has_token(m, SIP_HDR_UNSUPPORTED, SLICE_LIT("x-foo")));
	assert_true(sip_msg_has_token(m, SIP_HDR_UNSUPPORTED, SLICE_LIT("x-bar")));
	assert_true(sip_msg_has_token(m, SIP_HDR_UNSUPPORTED, SLICE_LIT("x-baz")));
	assert_false(h_has(m, "a-require"));
	h_expect_silence(h);
	h_stop(h);
}

/* 420 is not for ACK and CANCEL (8.2.2.3). */
static void test_require_of_cancel(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_forget(h);
	H_REQ(h, .method = "CANCEL", .extra = "Proxy-Require: x-foo\n");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	h_stop(h);
}

static void test_routes_in_order(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_CALL(h, H_A, .ruri = "sip:+4930@example.test", .call_id = "1");
	H_CALL(h, H_A, .ruri = "sip:110@EXAMPLE.test:5060;user=phone", .call_id = "2");
	H_CALL(h, H_B, .ruri = "sip:11o@example.test", .call_id = "3");
	H_CALL(h, H_A, .ruri = "sip:bob@example.test", .from = "198.51.100.7:5060", .call_id = "4");
	H_CALL(h, H_B, .ruri = "sip:bob@example.test", .from = "198.51.101.7:5060", .call_id = "5");
	H_CALL(h, H_B, .ruri = "sip:example.test", .call_id = "6");
	H_REQ(h, .ruri = "sips:bob@example.test", .call_id = "7"); /* which has no gateway with TLS */
	h_expect_response(h, H_CALLER, 480);
	h_expect_silence(h);
	h_stop(h);
}

static void test_reject_has_its_reason(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_REQ(h, .method = "PUBLISH");
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 489);
	assert_true(slice_eq(sip_slice(m, m->reason), SLICE_LIT("Not Here")));
	h_stop(h);
}

/* The answer carries what 8.2.6 says, and is repeated for copies with the same tag. */
static void test_answer_is_sound(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	for (int i = 0; i < 2; i++) {
		H_REQ(h, .ruri = "sip:bob@elsewhere.test",
		      .extra = "Via: SIP/2.0/TCP deep.test;branch=z9hG4bK-d\n");
		h_take_response(h, H_CALLER, 100);
		const struct sip_msg *m = h_expect_response(h, H_CALLER, 403);
		assert_int_equal(h_hdr_count(m, "Via"), 2);
		assert_string_equal(h_hdr(h, m, "Via", 1), "SIP/2.0/TCP deep.test;branch=z9hG4bK-d");
		h_assert_hdr(h, m, "From", "<sip:alice@caller.test>;tag=alice");
		h_assert_hdr(h, m, "Call-ID", "call-1");
		h_assert_hdr(h, m, "CSeq", "1 INVITE");
		h_assert_hdr(h, m, "Content-Length", "0");
		static char tag[128];
		struct slice s = sip_slice(m, m->to_tag);
		if (i)
			assert_true(slice_eq(s, slice_str(tag)));
		else
			memcpy(tag, s.p, s.len);
	}
	h_expect_silence(h);
	h_stop(h);
}

static void test_malformed(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	static const struct {
		const char *line, *more;
		unsigned status;
	} BAD[] = {
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: x MESSAGE\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 1 INVITE\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 4294967296 MESSAGE\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 1 MESSAGE\nContent-Length: 4\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 1 MESSAGE\nContent-Length: abc\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 1 MESSAGE\nMax-Forwards: many\n", 400},
		{"MESSAGE sip:bob@example.test SIP/2.0", "CSeq: 1 MESSAGE\nTo: <sip:x@y.test>\n", 400},
		{"MESSAGE sip: SIP/2.0", "CSeq: 1 MESSAGE\n", 400},
		{"MESSAGE sip:@ SIP/2.0", "CSeq: 1 MESSAGE\n", 400},
		{"MESSAGE sip:bob@example.test:99999 SIP/2.0", "CSeq: 1 MESSAGE\n", 400},
		{"MESSAGE sip:bob@example.test SIP/3.0", "CSeq: 1 MESSAGE\n", 505},
	};
	for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
		char *rest =
			h_keepf(h,
				"Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-%zu\nFrom: <sip:a@b.test>;tag=1\n"
				"To: <sip:b@c.test>\nCall-ID: bad-%zu\n",
				i, i);
		h_recv(h, H_CALLER, "%s\n%s%s\n", BAD[i].line, rest, BAD[i].more);
		const struct sip_msg *m = h_take_response(h, H_CALLER, 0);
		if (!m || m->status != BAD[i].status)
			fail_msg("%s, %s: %u, not %u", BAD[i].line, BAD[i].more, m ? m->status : 0,
				 BAD[i].status);
		h_expect_silence(h);
	}
	h_assert_idle(h);
	h_stop(h);
}

/* An INVITE that is refused without a transaction: the ACK for it must find nobody. */
static void test_ack_of_malformed(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_REQ(h, .max_forwards = "x");
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 400);
	h_ack(h, &(struct h_req){0}, m);
	h_expect_silence(h);
	h_run(h, 40000);
	h_expect_silence(h);
	h_stop(h);
}

/* Section 11: for the proxy itself. */
static void test_options_to_us(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	static const char *const URIS[] = {"sip:192.0.2.1", "sip:192.0.2.1:5060",
					   "sip:192.0.2.1:5060;transport=udp", "sip:local.test"};
	for (size_t i = 0; i < sizeof(URIS) / sizeof(URIS[0]); i++) {
		H_REQ(h, .method = "OPTIONS", .ruri = URIS[i], .call_id = h_keepf(h, "o-%zu", i),
		      .max_forwards = i == 1 ? "0" : "70");
		const struct sip_msg *m = h_take_response(h, H_CALLER, 200);
		if (!m)
			fail_msg("no 200 to OPTIONS %s", URIS[i]);
		assert_true(m->to_tag.len > 0);
		h_expect_silence(h);
	}
	assert_int_equal(h_slots_held(h), 0);
	h_stop(h);
}

/* An INVITE for the proxy itself has nobody to go to. */
static void test_invite_to_us(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	unsigned status = ANSWER(.ruri = "sip:192.0.2.1", .call_id = "1");
	assert_in_range(status, 400, 699);
	status = ANSWER(.ruri = "sip:bob@192.0.2.1:5060", .method = "MESSAGE", .call_id = "2");
	assert_in_range(status, 400, 699);
	h_stop(h);
}

/* Nobody may make us the middle of a ring: a target that leads to ourselves. */
static void test_route_to_ourselves(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"us\" { target = {\"sip:192.0.2.1;lr\"} }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"us\" }\n");
	H_REQ(h);
	const struct sip_msg *m = h_take_request(h, H_PROXY, "INVITE");
	for (int i = 0; m;
	     i++) { /* sent to ourselves: then it must end as a loop, as soon as it comes the same way again */
		assert_true(i < 3);
		h_recv_bytes(h, H_PROXY, slice_make(m->buf, m->len));
		m = h_take_request(h, H_PROXY, "INVITE");
	}
	h_take_response(h, NULL, 482);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_unsupported_is_named),
		cmocka_unit_test(test_require_of_cancel),
		cmocka_unit_test(test_routes_in_order),
		cmocka_unit_test(test_reject_has_its_reason),
		cmocka_unit_test(test_answer_is_sound),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_ack_of_malformed),
		cmocka_unit_test(test_options_to_us),
		cmocka_unit_test(test_invite_to_us),
		cmocka_unit_test(test_route_to_ourselves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
