/* Requests and responses over TCP and TLS: what they look like, and which connection they take. */
#include "stream.h"

static void test_out_over_tcp(void **state)
{
	(void)state;
	struct harness *h = s_start();
	/* a datagram needs no Content-Length, a stream does */
	h_recv(h, H_CALLER,
	       "INVITE sip:bob@192.0.2.21;transport=tcp SIP/2.0\n"
	       "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-1\nFrom: <sip:a@b>;tag=alice\nTo: "
	       "<sip:bob@to.test>\n"
	       "Call-ID: one\nCSeq: 1 INVITE\nMax-Forwards: 70\n\nv=0\n");
	h_expect_response(h, H_CALLER, 100);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TCP 192.0.2.1:5060;branch="));
	h_assert_hdr(h, m, "Content-Length", "5");
	assert_int_equal(h_hdr_count(m, "Content-Length"), 1);
	assert_int_equal(h_sent_listener(h, m), S_TCP);
	assert_int_equal(h_hdr_count(m, "Record-Route"), 2); /* RFC 5658: a way in on each side */
	s_assert_ends(s_record_route(h, m, 0), "@192.0.2.1:5060;transport=tcp;lr");
	s_assert_ends(s_record_route(h, m, 1), "@192.0.2.1:5060;lr");
	uint64_t conn = h_sent_conn(h, m);
	assert_true(conn != 0);
	H_REP(h, m, 200);
	m = h_expect_response(h, H_CALLER, 200);
	const char *callers = h_route_set(h, m);
	/* The ACK and the BYE change sides by the two routes, and go over the connection that is there. */
	H_REQ(h, .method = "ACK", .ruri = "sip:callee@192.0.2.21;transport=tcp", .call_id = "one",
	      .to_tag = "bob", .extra = callers, .from_hdr = "<sip:a@b>");
	m = h_expect_request(h, H_A, "ACK");
	assert_true(h_sent_conn(h, m) == conn);
	assert_null(h_hdr(h, m, "Route", 0));
	H_REQ(h, .method = "BYE", .ruri = "sip:callee@192.0.2.21;transport=tcp", .call_id = "one",
	      .to_tag = "bob", .cseq = 2, .extra = callers, .from_hdr = "<sip:a@b>");
	m = h_expect_request(h, H_A, "BYE");
	assert_true(h_sent_conn(h, m) == conn);
	assert_null(h_hdr(h, m, "Route", 0));
	H_CALL(h, H_A, .ruri = "sip:x@192.0.2.21;transport=tcp", .call_id = "two");
	assert_int_equal(h_conns_opened(h), 1);
	h_expect_silence(h);
	h_stop(h);
}

static void test_in_over_tcp(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t caller = h_conn_open(h, "tcp:192.0.2.10:40000");
	const struct sip_msg *m =
		H_CALL(h, H_A, .conn = caller, .ruri = "sip:bob@192.0.2.21", .via = "192.0.2.10");
	assert_int_equal(h_sent_conn(h, m), 0);
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/UDP 192.0.2.1:5060"));
	s_assert_ends(s_record_route(h, m, 0), "@192.0.2.1:5060;lr");
	s_assert_ends(s_record_route(h, m, 1), "@192.0.2.1:5060;transport=tcp;lr");
	/* what comes without Content-Length leaves with one; 401: kept until the best is known, too */
	h_recv(h, H_A,
	       "SIP/2.0 183 Progress\nVia: %s\nVia: SIP/2.0/TCP 192.0.2.10;branch=z9hG4bK-call-1-1\n"
	       "From: <sip:alice@caller.test>;tag=alice\nTo: <sip:bob@example.test>;tag=bob\n"
	       "Call-ID: call-1\nCSeq: 1 INVITE\n\nv=1\n",
	       s_via(h, m));
	m = h_expect_response(h, "192.0.2.10:40000", 183);
	assert_true(h_sent_conn(h, m) == caller);
	h_assert_hdr(h, m, "Content-Length", "5");
	assert_int_equal(h_hdr_count(m, "Via"), 1);
	assert_int_equal(h_conns_opened(h), 0);
	h_expect_silence(h);
	h_stop(h);
}

static void test_tls_and_its_names(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *m = H_CALL(h, "192.0.2.21:5061", .ruri = "sip:bob@192.0.2.21;transport=tls");
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TLS 192.0.2.1:5061;branch="));
	s_assert_ends(s_record_route(h, m, 0), "@192.0.2.1:5061;transport=tls;lr");
	assert_string_equal(h_conn_name(h, h_sent_conn(h, m)), "192.0.2.21");
	/* A name: RFC 5922 wants the URI's, whatever the DNS made of it. */
	H_REQ(h, .ruri = "sips:bob@to.test", .call_id = "named");
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "to.test"), 0, "tls:192.0.2.21:5061 tls:192.0.2.22:5071");
	m = h_expect_request(h, "192.0.2.21:5061", "INVITE");
	assert_string_equal(h_conn_name(h, h_sent_conn(h, m)), "to.test");
	assert_int_equal(h_conns_opened(h), 2); /* the other is not good for this name */
	assert_true(strncmp(s_record_route(h, m, 0), "sips:", 5) == 0);
	s_assert_ends(s_record_route(h, m, 0), "@192.0.2.1:5061;lr");
	assert_true(strncmp(s_record_route(h, m, 1), "sip:", 4) == 0); /* the caller's side is UDP */
	/* the second hop is for the same name */
	h_conn_lose(h, h_sent_conn(h, m));
	m = h_expect_request(h, "192.0.2.22:5071", "INVITE");
	assert_string_equal(h_conn_name(h, h_sent_conn(h, m)), "to.test");
	h_expect_silence(h);
	h_stop(h);
}

/* RFC 5630: what asks for TLS goes by TLS or not at all. */
static void test_sips(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t caller = h_conn_open(h, "tls:192.0.2.10:40000");
	/* the gateway has no TLS */
	H_REQ(h, .conn = caller, .ruri = "sips:bob@example.test", .call_id = "no");
	h_expect_response(h, "192.0.2.10:40000", 480);
	h_retarget(h, 1, "sip:192.0.2.22;transport=tls");
	const struct sip_msg *m =
		H_CALL(h, "192.0.2.22:5061", .conn = caller, .ruri = "sips:bob@example.test", .call_id = "one");
	assert_string_equal(h_ruri(h, m), "sips:bob@192.0.2.22;transport=tls");
	assert_int_equal(h_hdr_count(m, "Record-Route"), 1); /* the same listener on both sides */
	assert_true(strncmp(s_record_route(h, m, 0), "sips:", 5) == 0);
	h_retarget(h, 0, "sips:192.0.2.21:5071");
	m = H_CALL(h, "192.0.2.21:5071", .conn = caller, .ruri = "sips:bob@example.test", .call_id = "two");
	assert_string_equal(h_ruri(h, m), "sips:bob@192.0.2.21:5071");
	/* as a next hop without TLS it would be the Route that leads astray */
	h_retarget(h, 0, "sip:192.0.2.21;lr");
	h_retarget(h, 1, "sip:192.0.2.22;lr;transport=tcp");
	H_REQ(h, .conn = caller, .ruri = "sips:bob@example.test", .call_id = "three");
	h_expect_response(h, "192.0.2.10:40000", 100);
	h_expect_response(h, "192.0.2.10:40000", 480);
	H_REQ(h, .conn = caller, .ruri = "sips:192.0.2.21;transport=udp", .call_id = "never");
	h_expect_response(h, "192.0.2.10:40000", 100);
	h_expect_response(h, "192.0.2.10:40000", 480);
	h_retarget(h, 0, "sips:192.0.2.21;lr");
	m = H_CALL(h, "192.0.2.21:5061", .conn = caller, .ruri = "sip:bob@example.test", .call_id = "four");
	h_assert_hdr(h, m, "Route", "<sips:192.0.2.21;lr>");
	assert_true(strncmp(s_record_route(h, m, 0), "sips:", 5) == 0); /* for the Route's sake (16.6 step 4) */
	h_expect_silence(h);
	h_stop(h);
}

/* A URI is ours whatever its transport, and with its default port. */
static void test_our_own_uris(void **state)
{
	(void)state;
	struct harness *h = s_start();
	static const char *const ours[] = {
		"sip:192.0.2.1",
		"sip:192.0.2.1;transport=tcp",
		"sip:192.0.2.1:5060;transport=tcp",
		"sip:192.0.2.1;transport=tls",
		"sips:192.0.2.1",
		"sips:192.0.2.1:5061",
	};
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		H_REQ(h, .method = "OPTIONS", .ruri = ours[i], .call_id = h_keepf(h, "o%zu", i));
		h_expect_response(h, H_CALLER, 200);
	}
	H_REQ(h, .method = "OPTIONS", .ruri = "sip:192.0.2.1:5070", .call_id = "other");
	h_expect_request(h, "192.0.2.1:5070", "OPTIONS");
	h_expect_silence(h);
	h_stop(h);
}

/* Of two Record-Routes the second says which of our sockets the request leaves by: the transport is part of it. */
static void test_second_route_names_the_listener(void **state)
{
	(void)state;
	struct harness *h = h_start_on(S_CONF, "udp:192.0.2.1:5060 tcp:192.0.2.1:5070 udp:192.0.2.1:5070");
	const struct sip_msg *m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21");
	assert_int_equal(h_sent_listener(h, m), 0);
	const char *uri = s_record_route(h, m, 0);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	const char *user = h_keepf(h, "%.*s", (int)strcspn(uri, "@"), uri);
	H_REQ(h, .method = "BYE", .ruri = "sip:callee@192.0.2.21", .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: <%s;lr>, <%s@192.0.2.1:5070;lr>\n", uri, user));
	m = h_expect_request(h, H_A, "BYE");
	assert_int_equal(h_sent_listener(h, m), 2);
	h_expect_silence(h);
	h_stop(h);
}

/* RFC 3261 18.2.2: the caller's connection is gone when the answer comes. */
static void test_response_finds_another_way(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t caller = h_conn_open(h, "tcp:192.0.2.10:40000");
	const struct sip_msg *m =
		H_CALL(h, H_A, .conn = caller, .ruri = "sip:bob@192.0.2.21", .via = "pc.test:5070");
	h_conn_lose(h, caller);
	H_REP(h, m, 180);
	const struct sip_msg *r =
		h_expect_response(h, "192.0.2.10:5070", 180); /* the source, at the sent-by port */
	uint64_t again = h_sent_conn(h, r);
	assert_true(again && again != caller);
	H_REP(h, m, 200);
	r = h_expect_response(h, "192.0.2.10:5070", 200);
	assert_true(h_sent_conn(h, r) == again);
	assert_int_equal(h_conns_opened(h), 1);
	/* A 2xx again is the transaction user's, and goes the same way; and so does what has no transaction. */
	H_REP(h, m, 200);
	h_expect_response(h, "192.0.2.10:5070", 200);
	uint64_t tls = h_conn_open(h, "tls:192.0.2.11:40000");
	h_conn_cut(h, tls);
	H_REQ(h, .conn = tls, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "tls",
	      .via = "phone.test");
	r = h_expect_response(h, "192.0.2.11:5061", 200); /* the default port */
	assert_string_equal(h_conn_name(h, h_sent_conn(h, r)), "phone.test");
	h_expect_silence(h);
	/* no way at all: dropped and counted */
	assert_int_equal(counters_sum(CNT_DROP_SEND), 0);
	h_conn_refuse(h, "192.0.2.12:5060");
	uint64_t other = h_conn_open(h, "tcp:192.0.2.12:40000");
	h_conn_cut(h, other);
	H_REQ(h, .conn = other, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "lost",
	      .via = "x.test");
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_DROP_SEND), 1);
	h_stop(h);
}

static void test_retransmission_moves_it(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t first = h_conn_open(h, "tcp:192.0.2.10:40000"),
		 second = h_conn_open(h, "tcp:192.0.2.10:40001");
	const struct sip_msg *m = H_CALL(h, H_A, .conn = first, .ruri = "sip:bob@192.0.2.21", .via = "pc.test");
	h_conn_lose(h, first);
	H_REQ(h, .conn = second, .ruri = "sip:bob@192.0.2.21", .via = "pc.test");
	h_expect_response(h, "192.0.2.10:40001", 100); /* the last one again */
	H_REP(h, m, 180);
	assert_true(h_sent_conn(h, h_expect_response(h, "192.0.2.10:40001", 180)) == second);
	H_REP(h, m, 200);
	assert_true(h_sent_conn(h, h_expect_response(h, "192.0.2.10:40001", 200)) == second);
	H_REP(h, m, 200);
	assert_true(h_sent_conn(h, h_expect_response(h, "192.0.2.10:40001", 200)) == second);
	assert_int_equal(h_conns_opened(h), 0);
	h_expect_silence(h);
	h_stop(h);
}

static void test_alias(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t tcp = h_conn_open(h, "tcp:192.0.2.10:40000"), tls = h_conn_open(h, "tls:192.0.2.11:40000");
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "1",
	      .via = "192.0.2.10:5070;alias");
	assert_string_equal(h_aliases(h), "1:5070/");
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "2",
	      .via = "192.0.2.10;rport;alias");
	assert_string_equal(h_aliases(h), "1:5070/ 1:5060/");
	/* another's address, or a name that nobody vouches for: not over TCP */
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "3",
	      .via = "192.0.2.99;alias");
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "4",
	      .via = "pbx.test;alias");
	/* not asked for */
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "5",
	      .via = "192.0.2.10");
	H_REQ(h, .conn = tcp, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "6",
	      .via = "192.0.2.10;aliased;x=alias");
	H_REQ(h, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "7", .via = "192.0.2.10;alias");
	assert_string_equal(h_aliases(h), "1:5070/ 1:5060/");
	H_REQ(h, .conn = tls, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "8",
	      .via = "pbx.test;alias");
	H_REQ(h, .conn = tls, .method = "OPTIONS", .ruri = "sip:192.0.2.1", .call_id = "9",
	      .via = "pbx.test:5071;alias");
	assert_string_equal(h_aliases(h), "1:5070/ 1:5060/ 2:5061/pbx.test 2:5071/pbx.test");
	h_stop(h);
}

/* RFC 3261 18.1.1 */
static void test_large_requests(void **state)
{
	(void)state;
	struct harness *h = s_start();
	char body[1200];
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = 0;
	const struct sip_msg *m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body);
	assert_true(h_sent_conn(h, m) != 0);
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TCP 192.0.2.1:5060"));
	H_REP(h, m, 486);
	assert_true(h_sent_conn(h, h_expect_request(h, H_A, "ACK")) != 0);
	h_expect_response(h, H_CALLER, 486);
	/* small, or asked for */
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body + 800, .call_id = "small");
	assert_int_equal(h_sent_conn(h, m), 0);
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21;transport=udp", .body = body, .call_id = "asked");
	assert_int_equal(h_sent_conn(h, m), 0);
	/* No connection can be made: over UDP, as another branch, at the same address. */
	h_conn_lose(h, 1);
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body, .call_id = "refused");
	h_conn_lose(h, h_sent_conn(h, m));
	const struct sip_msg *u = h_expect_request(h, H_A, "INVITE");
	assert_int_equal(h_sent_conn(h, u), 0);
	assert_non_null(strstr(s_via(h, u), "SIP/2.0/UDP 192.0.2.1:5060"));
	assert_string_not_equal(h_branch(h, m), h_branch(h, u));
	H_REP(h, u, 200);
	h_expect_response(h, H_CALLER, 200);
	/* It swallows the SYN: the same, after ack_timeout. */
	h_conn_silent(h, H_A, true);
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body, .call_id = "swallowed");
	assert_true(h_sent_conn(h, m) != 0);
	h_run(h, 2100);
	u = h_expect_request(h, H_A, "INVITE");
	assert_int_equal(h_sent_conn(h, u), 0);
	H_REP(h, u, 200);
	h_expect_response(h, H_CALLER, 200);
	h_conn_silent(h, H_A, false);
	/* It cannot even be begun. */
	h_conn_refuse(h, H_B);
	m = H_CALL(h, H_B, .ruri = "sip:bob@192.0.2.22", .body = body, .call_id = "none");
	assert_int_equal(h_sent_conn(h, m), 0);
	h_expect_silence(h);
	h_stop(h);
}

/* Once the peer has been heard over TCP, what goes wrong there is not mended by UDP. */
static void test_large_and_heard(void **state)
{
	(void)state;
	struct harness *h = s_start();
	char body[1400];
	memset(body, 'x', sizeof(body) - 1);
	body[sizeof(body) - 1] = 0;
	const struct sip_msg *m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body, .call_id = "one");
	H_REP(h, m, 100);
	h_conn_lose(h, h_sent_conn(h, m));
	h_expect_response(h, H_CALLER, 500);
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body, .call_id = "two");
	H_REP(h, m, 503);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 500);
	m = H_CALL(h, H_A, .ruri = "sip:bob@192.0.2.21", .body = body, .call_id = "three");
	h_run(h, 32100);
	h_expect_response(h, H_CALLER, 408);
	h_forget(h);
	/* of several addresses each gets both chances, in order */
	H_REQ(h, .ruri = "sip:bob@to.test", .body = body, .call_id = "four");
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "to.test"), 0, "192.0.2.21:5060 192.0.2.22:5060");
	m = h_expect_request(h, H_A, "INVITE");
	h_conn_lose(h, h_sent_conn(h, m));
	m = h_expect_request(h, H_A, "INVITE");
	assert_int_equal(h_sent_conn(h, m), 0);
	h_undeliverable(h, m);
	m = h_expect_request(h, H_B, "INVITE");
	h_conn_lose(h, h_sent_conn(h, m));
	m = h_expect_request(h, H_B, "INVITE");
	assert_int_equal(h_sent_conn(h, m), 0);
	h_undeliverable(h, m);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_over_tcp),
		cmocka_unit_test(test_in_over_tcp),
		cmocka_unit_test(test_tls_and_its_names),
		cmocka_unit_test(test_sips),
		cmocka_unit_test(test_our_own_uris),
		cmocka_unit_test(test_second_route_names_the_listener),
		cmocka_unit_test(test_response_finds_another_way),
		cmocka_unit_test(test_retransmission_moves_it),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_large_requests),
		cmocka_unit_test(test_large_and_heard),
	};
	return cmocka_run_group_tests_name("proxy_stream", tests, NULL, NULL);
}
