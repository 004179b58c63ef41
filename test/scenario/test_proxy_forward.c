/* Requests on their way out: RFC 3261 16.6, and where their responses go (18.2, RFC 3581). */
#include "harness.h"

#include <errno.h>
#include <string.h>

#define CONF_LR                                                          \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21;lr\"} }\n" \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"

static void test_invite_goes_out(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .extra = "Subject: nothing  to change \nx-Odd:a,b ,, c\n", .body = "v=0\n");
	const struct sip_msg *trying = h_expect_response(h, H_CALLER, 100);
	assert_int_equal(trying->to_tag.len, 0);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	h_assert_forwarded(h, h_last_received(h), m, false);
	assert_string_equal(h_ruri(h, m), "sip:bob@192.0.2.21");
	h_assert_hdr(h, m, "Max-Forwards", "69");
	assert_int_equal(h_hdr_count(m, "Max-Forwards"), 1);
	assert_int_equal(h_hdr_count(m, "Via"), 2);
	assert_int_equal(strncmp(h_branch(h, m), "z9hG4bK", 7), 0);
	assert_true(strncmp(h_hdr(h, m, "Via", 0), "SIP/2.0/UDP 192.0.2.1:5060;", 27) == 0);
	assert_null(h_hdr(h, m, "Route", 0));
	h_expect_silence(h);
	h_stop(h);
}

static void test_record_route(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A, .extra = "Record-Route: <sip:edge.caller.test;lr>\n");
	const char *rr = h_hdr(h, m, "Record-Route", 0);
	assert_non_null(rr);
	assert_non_null(strstr(rr, "192.0.2.1"));
	assert_non_null(strstr(rr, ";lr"));
	assert_true(rr[0] == '<' && strchr(rr, '>') != NULL);
	/* above what was there (16.6 step 4) */
	h_assert_hdr(h, m, "Record-Route", rr);
	assert_string_equal(h_hdr(h, m, "Record-Route", 1), "<sip:edge.caller.test;lr>");
	h_stop(h);
}

static void test_max_forwards_is_added(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A, .max_forwards = "");
	h_assert_hdr(h, m, "Max-Forwards", "70");
	m = H_CALL(h, H_A, .max_forwards = "1", .call_id = "call-2");
	h_assert_hdr(h, m, "Max-Forwards", "0");
	m = H_CALL(h, H_A, .max_forwards = "255", .call_id = "call-3");
	h_assert_hdr(h, m, "Max-Forwards", "254");
	h_stop(h);
}

/* A target with ;lr keeps the Request-URI and gets a Route. */
static void test_loose_target(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	const struct sip_msg *m = H_CALL(h, H_A, .ruri = "sip:+49@example.test;user=phone");
	assert_string_equal(h_ruri(h, m), "sip:+49@example.test;user=phone");
	assert_int_equal(h_hdr_count(m, "Route"), 1);
	assert_non_null(strstr(h_hdr(h, m, "Route", 0), "sip:192.0.2.21"));
	assert_non_null(strstr(h_hdr(h, m, "Route", 0), ";lr>"));
	h_assert_forwarded(h, h_last_received(h), m, true);
	h_stop(h);
}

static void test_target_with_user(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:operator@192.0.2.21:5080\"} }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m = H_CALL(h, "192.0.2.21:5080");
	assert_string_equal(h_ruri(h, m), "sip:operator@192.0.2.21:5080");
	h_stop(h);
}

static void test_any_method(void **state)
{
	(void)state;
	static const char *const METHODS[] = {"BYE",     "REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH",
					      "INFO",    "REFER",    "MESSAGE",   "UPDATE", "PRACK",
					      "OPTIONS", "iNVITE",   "X-NEW"};
	struct harness *h = h_start(H_CONF_ONE);
	for (size_t i = 0; i < sizeof(METHODS) / sizeof(METHODS[0]); i++) {
		const char *call = h_keepf(h, "method-%zu", i);
		H_REQ(h, .method = METHODS[i], .call_id = call);
		const struct sip_msg *m = h_expect_request(h, H_A, METHODS[i]);
		h_assert_forwarded(h, h_last_received(h), m, false);
		h_expect_silence(h); /* no 100 at once (RFC 4320 4.1) */
		H_REP(h, m, 200);
		h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 200));
	}
	h_expect_silence(h);
	assert_int_equal(h_slots_held(h), 0);
	h_stop(h);
}

static void test_branches_differ(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *a = H_CALL(h, H_A, .call_id = "one");
	const struct sip_msg *b = H_CALL(h, H_A, .call_id = "two");
	const struct sip_msg *c = H_CALL(h, H_A, .call_id = "one", .cseq = 2);
	assert_string_not_equal(h_branch(h, a), h_branch(h, b));
	assert_string_not_equal(h_branch(h, a), h_branch(h, c));
	h_stop(h);
}

/* RFC 3581: rport asks for the source port, and the answer goes there. */
static void test_rport(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .from = "192.0.2.10:5099", .via = "10.1.1.1:5060;rport;x=1");
	h_expect_response(h, "192.0.2.10:5099", 100);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	const char *via = h_hdr(h, m, "Via", 1);
	assert_non_null(strstr(via, ";received=192.0.2.10"));
	assert_non_null(strstr(via, ";rport=5099"));
	assert_non_null(strstr(via, ";x=1"));
	h_assert_forwarded(h, h_last_received(h), m, false);
	H_REP(h, m, 180);
	m = h_expect_response(h, "192.0.2.10:5099", 180);
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), ";rport=5099"));
	h_expect_silence(h);
	h_stop(h);
}

/* 18.2.1 and 18.2.2: without rport the answer goes to the source address and the sent-by port. */
static void test_received(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .from = "192.0.2.10:5099", .via = "pc7.caller.test:5070", .call_id = "named");
	h_expect_response(h, "192.0.2.10:5070", 100);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	assert_non_null(strstr(h_hdr(h, m, "Via", 1), ";received=192.0.2.10"));
	assert_null(strstr(h_hdr(h, m, "Via", 1), "rport"));
	H_REQ(h, .from = "192.0.2.10:5099", .via = "pc7.caller.test", .call_id = "no-port");
	h_expect_response(h, "192.0.2.10:5060", 100);
	h_expect_request(h, H_A, "INVITE");
	/* the address is right already */
	m = H_CALL(h, H_A, .via = "192.0.2.10", .call_id = "right");
	assert_null(strstr(h_hdr(h, m, "Via", 1), "received"));
	/* a received that the sender wrote itself is not believed, and not doubled */
	m = H_CALL(h, H_A, .via = "pc7.caller.test;received=203.0.113.9", .call_id = "forged");
	assert_null(strstr(h_hdr(h, m, "Via", 1), "203.0.113.9"));
	assert_non_null(strstr(h_hdr(h, m, "Via", 1), ";received=192.0.2.10"));
	h_stop(h);
}

static void test_maddr(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .via = "192.0.2.10:5072;maddr=192.0.2.66");
	h_expect_response(h, "192.0.2.66:5072", 100);
	h_expect_request(h, H_A, "INVITE");
	h_expect_silence(h);
	h_stop(h);
}

static void test_ipv6(void **state)
{
	(void)state;
	struct harness *h = h_start("listen \"udp:192.0.2.1:5060\" { }\nlisten \"udp:[2001:db8::1]:5060\" { }\n"
				    "gateway \"gw\" { target = {\"sip:[2001:db8::21]:5062\"} }\n"
				    "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m =
		H_CALL(h, "[2001:db8::21]:5062", .from = "[2001:db8::10]:5060", .call_id = "six");
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), "SIP/2.0/UDP [2001:db8::1]:5060;"));
	assert_string_equal(h_ruri(h, m), "sip:bob@[2001:db8::21]:5062");
	H_REP(h, m, 180);
	h_expect_response(h, "[2001:db8::10]:5060", 180);
	/* from one family to the other: each side sees an address that it can reach */
	m = H_CALL(h, "[2001:db8::21]:5062", .call_id = "four-to-six");
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), "SIP/2.0/UDP [2001:db8::1]:5060;"));
	/* RFC 5658: one Record-Route for each side, the outgoing one on top */
	assert_non_null(strstr(h_hdr(h, m, "Record-Route", 0), "@[2001:db8::1]:5060;"));
	assert_non_null(strstr(h_hdr(h, m, "Record-Route", 1), "@192.0.2.1:5060;"));
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_expect_silence(h);
	h_stop(h);
}

static void test_advertise(void **state)
{
	(void)state;
	struct harness *h = h_start("listen \"udp:192.0.2.1:5060\" { advertise = \"sip.example.test:5099\" }\n"
				    "gateway \"gw\" { target = {\"sip:192.0.2.21\"} }\n"
				    "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	const struct sip_msg *m = H_CALL(h, H_A);
	assert_non_null(strstr(h_hdr(h, m, "Via", 0), "SIP/2.0/UDP sip.example.test:5099;"));
	assert_non_null(strstr(h_hdr(h, m, "Record-Route", 0), "@sip.example.test:5099;"));
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_stop(h);
}

/* 17.1.1.2: T1, doubling, until Timer B; the copies are the same bytes. */
static void test_retransmission_out(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_run(h, 490);
	assert_int_equal(h_copies(h, m), 0);
	h_run(h, 20);
	assert_int_equal(h_copies(h, m), 1);
	h_run(h, 1020);
	assert_int_equal(h_copies(h, m), 2);
	h_run(h, 30200);
	assert_int_equal(h_copies(h, m), 6);
	h_stop(h);
}

static void test_provisional_stops_retransmission(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	h_run(h, 600);
	H_REP(h, m, 100);
	h_run(h, 10000);
	assert_int_equal(h_copies(h, m), 1);
	h_expect_silence(h); /* the 100 is ours alone (16.7 step 4) */
	h_stop(h);
}

/* A copy of the INVITE gets the last response again, and rings nobody twice (17.2.1). */
static void test_retransmission_in(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_expect_silence(h);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 180);
	h_expect_silence(h);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h); /* RFC 6026: Accepted absorbs it; the callee repeats its 200 */
	assert_null(h_take_request(h, NULL, NULL));
	h_forget(h);
	assert_int_equal(h_slots_held(h), 0);
	h_stop(h);
}

static void test_retransmission_in_of_other(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_ONE);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *m = h_expect_request(h, H_A, "MESSAGE");
	H_REQ(h, .method = "MESSAGE");
	h_expect_silence(h);
	H_REP(h, m, 202);
	h_expect_response(h, H_CALLER, 202);
	H_REQ(h, .method = "MESSAGE");
	h_expect_response(h, H_CALLER, 202);
	h_expect_silence(h);
	h_run(h, 33000); /* Timer J */
	H_REQ(h, .method = "MESSAGE");
	h_expect_request(h, H_A, "MESSAGE");
	h_stop(h);
}

/* RFC 3263: a name is looked up; the context stands before, so that copies and a CANCEL find it. */
static void test_name_target(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:gw.carrier.test\"} }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	assert_int_equal(h_resolves(h), 1);
	uint64_t ref = h_expect_resolve(h, "gw.carrier.test");
	h_expect_silence(h);
	h_resolved(h, ref, 0, "192.0.2.21:5060 192.0.2.22:5060");
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	assert_string_equal(h_ruri(h, m), "sip:bob@gw.carrier.test");
	/* the same answer again is no answer */
	h_resolved(h, ref, 0, "192.0.2.23:5060");
	h_expect_silence(h);
	/* RFC 3263 4.3: the next hop after a failure, under a branch of its own */
	H_REP(h, m, 503);
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *n = h_expect_request(h, H_B, "INVITE");
	assert_string_not_equal(h_branch(h, m), h_branch(h, n));
	assert_string_equal(h_ruri(h, n), "sip:bob@gw.carrier.test");
	H_REP(h, n, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

static void test_name_unknown(void **state)
{
	(void)state;
	struct harness *h =
		h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:gone.test\", \"sip:192.0.2.22\"} }\n"
				 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "gone.test"), -ENOENT, NULL);
	h_expect_request(h, H_B, "INVITE");
	h_expect_silence(h);
	h_stop(h);
}

static void test_name_unknown_alone(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "route \"all\" { domain = \"example.test\" dns = true }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "example.test"), -ETIMEDOUT, NULL);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 0);
	assert_true(m->status >= 400 && m->status < 600 && m->status != 503);
	h_expect_silence(h);
	h_stop(h);
}

/* dns = true: to where the Request-URI leads, unchanged. */
static void test_dns_route(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "route \"all\" { domain = \"example.test\" dns = true }\n"
					     "route \"ip\" { domain = \"192.0.2.22\" dns = true }\n");
	H_REQ(h, .ruri = "sip:bob@example.test;a=b");
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "example.test"), 0, "192.0.2.21:5070");
	assert_string_equal(h_ruri(h, h_expect_request(h, "192.0.2.21:5070", "INVITE")),
			    "sip:bob@example.test;a=b");
	/* an address needs no look-up */
	const struct sip_msg *m =
		H_CALL(h, "192.0.2.22:5077", .ruri = "sip:bob@192.0.2.22:5077", .call_id = "ip");
	assert_string_equal(h_ruri(h, m), "sip:bob@192.0.2.22:5077");
	assert_int_equal(h_resolves(h), 0);
	h_stop(h);
}

static void test_late_answer_is_ignored(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "route \"all\" { domain = \"example.test\" dns = true }\n");
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	uint64_t ref = h_expect_resolve(h, "example.test");
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	h_resolved(h, ref, 0, "192.0.2.21:5060");
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invite_goes_out),
		cmocka_unit_test(test_record_route),
		cmocka_unit_test(test_max_forwards_is_added),
		cmocka_unit_test(test_loose_target),
		cmocka_unit_test(test_target_with_user),
		cmocka_unit_test(test_any_method),
		cmocka_unit_test(test_branches_differ),
		cmocka_unit_test(test_rport),
		cmocka_unit_test(test_received),
		cmocka_unit_test(test_maddr),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_advertise),
		cmocka_unit_test(test_retransmission_out),
		cmocka_unit_test(test_provisional_stops_retransmission),
		cmocka_unit_test(test_retransmission_in),
		cmocka_unit_test(test_retransmission_in_of_other),
		cmocka_unit_test(test_name_target),
		cmocka_unit_test(test_name_unknown),
		cmocka_unit_test(test_name_unknown_alone),
		cmocka_unit_test(test_dns_route),
		cmocka_unit_test(test_late_answer_is_ignored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
