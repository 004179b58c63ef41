/* Route and Record-Route: RFC 3261 16.4, 16.6 steps 4 and 6, 16.12; and no way through for a stranger. */
#include "harness.h"

#include <string.h>

struct dialog {
	const char *caller_route; /* Route lines of the caller's requests */
	const char *callee_route; /* of the callee's */
	const char *uri;          /* our Record-Route's URI, without brackets */
};

static struct dialog establish(struct harness *h)
{
	struct dialog d;
	const struct sip_msg *m = H_CALL(h, H_A);
	d.callee_route = h_route_set(h, m);
	const char *rr = h_hdr(h, m, "Record-Route", 0);
	d.uri = h_keepf(h, "%.*s", (int)strcspn(rr + 1, ">"), rr + 1);
	H_REP(h, m, 200);
	d.caller_route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	h_expect_silence(h);
	return d;
}

#define CALLEE_URI "sip:callee@192.0.2.21:5060"

static void test_ack_of_ok(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	for (int i = 0; i < 2; i++) { /* each copy, without a transaction */
		H_REQ(h, .method = "ACK", .ruri = CALLEE_URI, .to_tag = "bob", .branch = "z9hG4bK-ack",
		      .extra = d.caller_route, .body = "v=0\n");
		const struct sip_msg *ack = h_expect_request(h, H_A, "ACK");
		h_assert_forwarded(h, h_last_received(h), ack, true);
		assert_null(h_hdr(h, ack, "Route", 0));
		assert_int_equal(h_hdr_count(ack, "Record-Route"), 0);
		h_assert_hdr(h, ack, "Max-Forwards", "69");
	}
	h_expect_silence(h);
	h_run(h, 100000);
	h_expect_silence(h);
	h_stop(h);
}

static void test_requests_of_both_sides(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2, .extra = d.caller_route);
	const struct sip_msg *m = h_expect_request(h, H_A, "INFO");
	assert_null(h_hdr(h, m, "Route", 0));
	assert_string_equal(h_ruri(h, m), CALLEE_URI);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .from = H_A, .method = "BYE", .ruri = "sip:contact@192.0.2.10:5060",
	      .from_hdr = "<sip:bob@example.test>", .from_tag = "bob", .to_hdr = "<sip:alice@caller.test>",
	      .to_tag = "alice", .extra = d.callee_route);
	m = h_expect_request(h, H_CALLER, "BYE");
	assert_string_equal(h_ruri(h, m), "sip:contact@192.0.2.10:5060");
	H_REP(h, m, 200);
	h_expect_response(h, H_A, 200);
	h_expect_silence(h);
	h_stop(h);
}

/* A re-INVITE is a call of its own to us, with all timers; and it forks nowhere. */
static void test_reinvite(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	const struct sip_msg *m =
		H_CALL(h, H_A, .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2, .extra = d.caller_route);
	assert_string_equal(h_ruri(h, m), CALLEE_URI);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, .method = "CANCEL", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2, .extra = d.caller_route);
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 487);
	h_expect_silence(h);
	h_stop(h);
}

/* The token is good for its own dialog, and over a restart. */
static void test_after_a_restart(void **state)
{
	(void)state;
	struct harness *before = h_start(H_CONF_ONE);
	struct dialog d = establish(before);
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2, .extra = d.caller_route);
	h_expect_request(h, H_A, "BYE");
	h_stop(h);
	h_stop(before);
}

static void test_no_open_relay(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	/* no Route, or one that leads past us */
	H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2);
	h_expect_response(h, H_CALLER, 403);
	H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 3,
	      .extra = "Route: <sip:192.0.2.1;lr>\n");
	h_expect_response(h, H_CALLER, 403);
	H_REQ(h, .ruri = "sip:bob@example.test", .call_id = "past", .extra = "Route: <sip:203.0.113.5;lr>\n");
	h_take_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 403);
	H_REQ(h, .ruri = "sip:bob@example.test", .call_id = "through",
	      .extra = "Route: <sip:192.0.2.1;lr>, <sip:203.0.113.5;lr>\n");
	h_take_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 403);
	/* another Call-ID */
	H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .to_tag = "bob", .call_id = "stolen",
	      .extra = d.caller_route);
	h_expect_response(h, H_CALLER, 403);
	/* neither tag is the caller's */
	H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .from_tag = "mallory", .to_tag = "bob", .cseq = 4,
	      .extra = d.caller_route);
	h_expect_response(h, H_CALLER, 403);
	/* outside a dialog */
	H_REQ(h, .method = "INVITE", .ruri = "sip:x@203.0.113.5", .cseq = 5, .extra = d.caller_route);
	h_take_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 403);
	/* each character of the token changed */
	const char *at = strchr(d.caller_route, '@');
	assert_non_null(at);
	for (const char *p = strstr(d.caller_route, "sip:") + 4; p < at; p++) {
		char *forged = h_keepf(h, "%s", d.caller_route);
		forged[p - d.caller_route] = *p == 'x' ? 'y' : 'x';
		H_REQ(h, .method = "BYE", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 100 + (unsigned)(at - p),
		      .extra = forged);
		h_expect_response(h, H_CALLER, 403);
	}
	assert_null(h_take_request(h, NULL, NULL));
	h_stop(h);
}

/* An ACK is never answered, and one without a way through goes nowhere. */
static void test_stray_ack(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "ACK", .ruri = CALLEE_URI, .to_tag = "bob");
	H_REQ(h, .method = "ACK", .ruri = "sip:bob@local.test", .to_tag = "bob", .call_id = "b");
	H_REQ(h, .method = "ACK", .ruri = "sip:192.0.2.1", .to_tag = "bob", .call_id = "c");
	H_REQ(h, .method = "ACK", .ruri = "strange:thing", .to_tag = "bob", .call_id = "d");
	H_REQ(h, .method = "ACK", .ruri = CALLEE_URI, .to_tag = "bob", .call_id = "e", .max_forwards = "0");
	H_REQ(h, .method = "ACK", .to_tag = "bob", .call_id = "f", .max_forwards = "0");
	H_REQ(h, .method = "ACK", .to_tag = "bob", .call_id = "g", .extra = "Proxy-Require: nothing-known\n");
	assert_null(h_take_response(h, NULL, 0));
	assert_null(h_take_response(h, NULL, 100));
	h_forget(h); /* the last may go on, its Proxy-Require is not for it (RFC 3261 8.2.2.3) */
	assert_int_equal(h_slots_held(h), 0);
	h_stop(h);
}

/* 16.4: an outbound proxy's Route without a token is taken off, and the request routed like any other. */
static void test_route_to_us(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A, .extra = "Route: <sip:192.0.2.1:5060;lr>\n");
	assert_null(h_hdr(h, m, "Route", 0));
	h_assert_forwarded(h, h_last_received(h), m, false);
	m = H_CALL(h, H_A, .call_id = "call-2", .extra = "Route: \"us\" <sip:192.0.2.1;lr>;x=y\n");
	assert_null(h_hdr(h, m, "Route", 0));
	h_stop(h);
}

/* A user agent whose outbound proxy is given by the domain's name puts that into a Route. */
static void test_route_to_domain(void **state)
{
	(void)state;
	static const char *const ours[] = {"<sip:Local.Test;lr>", "<sip:local.test:5060;lr>",
					   "<sip:local.test.>", "<sip:local.test;lr>, <sip:192.0.2.1;lr>"};
	static const char *const others[] = {
		"<sip:local.test:5080;lr>", "<sip:sub.local.test;lr>", "<sip:bob@local.test;lr>",
		"<sip:local.test;lr>, <sip:203.0.113.5;lr>", "<sip:203.0.113.5;lr>, <sip:local.test;lr>"};
	struct harness *h = h_start(H_CONF_ONE);
	for (unsigned i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		const struct sip_msg *m = H_CALL(h, H_A, .call_id = h_keepf(h, "ours-%u", i),
						 .extra = h_keepf(h, "Route: %s\n", ours[i]));
		assert_null(h_hdr(h, m, "Route", 0));
		h_assert_forwarded(h, h_last_received(h), m, false);
	}
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		H_REQ(h, .call_id = h_keepf(h, "others-%u", i), .extra = h_keepf(h, "Route: %s\n", others[i]));
		h_expect_response(h, H_CALLER, 403);
	}
	h_expect_silence(h);
	h_stop(h);
}

/* 16.6 step 6: a loose router after us. */
static void test_next_is_loose(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: <%s>, <sip:192.0.2.22;lr>\nRoute: <sip:192.0.2.23;lr>\n", d.uri));
	const struct sip_msg *m = h_expect_request(h, H_B, "INFO");
	assert_string_equal(h_ruri(h, m), CALLEE_URI);
	assert_int_equal(h_hdr_count(m, "Route"), 2);
	h_assert_hdr(h, m, "Route", "<sip:192.0.2.22;lr>");
	assert_string_equal(h_hdr(h, m, "Route", 1), "<sip:192.0.2.23;lr>");
	h_stop(h);
}

/* 16.6 step 6: a strict router after us gets its own URI as Request-URI, and the real one as the last Route. */
static void test_next_is_strict(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: <%s>\nRoute: <sip:192.0.2.22>\nRoute: <sip:192.0.2.23;lr>\n", d.uri));
	const struct sip_msg *m = h_expect_request(h, H_B, "INFO");
	assert_string_equal(h_ruri(h, m), "sip:192.0.2.22");
	assert_int_equal(h_hdr_count(m, "Route"), 2);
	h_assert_hdr(h, m, "Route", "<sip:192.0.2.23;lr>");
	assert_string_equal(h_hdr(h, m, "Route", 1), "<" CALLEE_URI ">");
	h_stop(h);
}

static void test_next_is_strict_and_last(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: <%s>,<sip:192.0.2.22>\n", d.uri));
	const struct sip_msg *m = h_expect_request(h, H_B, "INFO");
	assert_string_equal(h_ruri(h, m), "sip:192.0.2.22");
	assert_int_equal(h_hdr_count(m, "Route"), 1);
	h_assert_hdr(h, m, "Route", "<" CALLEE_URI ">");
	h_stop(h);
}

/* 16.4: a strict router before us has put our own URI into the Request-URI; the real one is the last Route. */
static void test_previous_is_strict(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = d.uri, .to_tag = "bob", .cseq = 2,
	      .extra = "Route: <" CALLEE_URI ">\n");
	const struct sip_msg *m = h_expect_request(h, H_A, "INFO");
	assert_string_equal(h_ruri(h, m), CALLEE_URI);
	assert_int_equal(h_hdr_count(m, "Route"), 0);
	/* with another hop between */
	H_REQ(h, .method = "INFO", .ruri = d.uri, .to_tag = "bob", .cseq = 3,
	      .extra = "Route: <sip:192.0.2.22;lr>, <" CALLEE_URI ">\n");
	m = h_expect_request(h, H_B, "INFO");
	assert_string_equal(h_ruri(h, m), CALLEE_URI);
	assert_int_equal(h_hdr_count(m, "Route"), 1);
	h_assert_hdr(h, m, "Route", "<sip:192.0.2.22;lr>");
	/* strict on both sides */
	H_REQ(h, .method = "INFO", .ruri = d.uri, .to_tag = "bob", .cseq = 4,
	      .extra = "Route: <sip:192.0.2.22>, <" CALLEE_URI ">\n");
	m = h_expect_request(h, H_B, "INFO");
	assert_string_equal(h_ruri(h, m), "sip:192.0.2.22");
	h_assert_hdr(h, m, "Route", "<" CALLEE_URI ">");
	/* and the token is looked at there too */
	H_REQ(h, .method = "INFO", .ruri = d.uri, .to_tag = "bob", .call_id = "stolen",
	      .extra = "Route: <" CALLEE_URI ">\n");
	h_expect_response(h, H_CALLER, 403);
	h_expect_silence(h);
	h_stop(h);
}

/* 16.12.1.2: an element that is on the way twice. */
static void test_two_of_ours(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	struct dialog d = establish(h);
	H_REQ(h, .method = "INFO", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: <%s>, <%s>\n", d.uri, d.uri));
	const struct sip_msg *m = h_expect_request(h, H_A, "INFO");
	assert_int_equal(h_hdr_count(m, "Route"), 0);
	h_expect_silence(h);
	h_stop(h);
}

/* RFC 5658: between two address families there are two of ours; each side's requests leave by the socket that suits. */
static void test_two_families(void **state)
{
	(void)state;
	struct harness *h = h_start("listen \"udp:192.0.2.1:5060\" { }\nlisten \"udp:[2001:db8::1]:5062\" { }\n"
				    "gateway \"gw\" { target = {\"sip:[2001:db8::21]\"} }\n"
				    "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m = H_CALL(h, "[2001:db8::21]:5060");
	const char *callee_route = h_route_set(h, m);
	H_REP(h, m, 200);
	const char *caller_route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_REQ(h, .method = "INFO", .ruri = "sip:callee@[2001:db8::21]:5060", .to_tag = "bob", .cseq = 2,
	      .extra = caller_route);
	m = h_expect_request(h, "[2001:db8::21]:5060", "INFO");
	assert_int_equal(h_hdr_count(m, "Route"), 0);
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), " [2001:db8::1]:5062;"));
	assert_int_equal(h_sent_listener(h, m), 1);
	H_REP(h, m, 200);
	assert_int_equal(h_sent_listener(h, h_expect_response(h, H_CALLER, 200)), 0);
	H_REQ(h, .from = "[2001:db8::21]:5060", .method = "BYE", .ruri = "sip:contact@192.0.2.10:5060",
	      .from_tag = "bob", .to_tag = "alice", .extra = callee_route);
	m = h_expect_request(h, H_CALLER, "BYE");
	assert_int_equal(h_hdr_count(m, "Route"), 0);
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), " 192.0.2.1:5060;"));
	assert_int_equal(h_sent_listener(h, m), 0);
	h_expect_silence(h);
	h_stop(h);
}

/* A Route that cannot be read. */
static void test_bad_route(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	static const char *const BAD[] = {"Route: <sip:192.0.2.1;lr\n", "Route: sip:\n", "Route: <>\n",
					  "Route: ,\n", "Route: <tel:+49>\n"};
	for (size_t i = 0; i < sizeof(BAD) / sizeof(BAD[0]); i++) {
		H_REQ(h, .method = "MESSAGE", .call_id = h_keepf(h, "bad-%zu", i), .extra = BAD[i]);
		const struct sip_msg *m = h_expect_response(h, H_CALLER, 0);
		assert_true(m->status == 400 || m->status == 403 || m->status == 416);
		h_expect_silence(h);
	}
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ack_of_ok),
		cmocka_unit_test(test_requests_of_both_sides),
		cmocka_unit_test(test_reinvite),
		cmocka_unit_test(test_after_a_restart),
		cmocka_unit_test(test_no_open_relay),
		cmocka_unit_test(test_stray_ack),
		cmocka_unit_test(test_route_to_us),
		cmocka_unit_test(test_route_to_domain),
		cmocka_unit_test(test_next_is_loose),
		cmocka_unit_test(test_next_is_strict),
		cmocka_unit_test(test_next_is_strict_and_last),
		cmocka_unit_test(test_previous_is_strict),
		cmocka_unit_test(test_two_of_ours),
		cmocka_unit_test(test_two_families),
		cmocka_unit_test(test_bad_route),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
