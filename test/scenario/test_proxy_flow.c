/* Flows: route tokens that lead back over a peer's own connection (RFC 5626 5.3), and targets that are a flow. */
#include <errno.h>
#include <stdio.h>

#include "stream.h"

#include "../../src/proxy/proxy_p.h"

#define CALLER_ADDR "192.0.2.10:40000"

struct dialog {
	uint64_t conn;            /* of the caller */
	const char *callee_route; /* Route lines of the callee's requests */
	const char *caller_route;
};

/* A caller on a connection, behind a NAT: its Contact leads nowhere. */
static struct dialog establish(struct harness *h, const char *from)
{
	struct dialog d = {.conn = h_conn_open(h, from)};
	const struct sip_msg *m =
		H_CALL(h, H_A, .conn = d.conn, .ruri = "sip:bob@192.0.2.21", .via = "10.0.0.7");
	d.callee_route = h_route_set(h, m);
	H_REP(h, m, 200);
	d.caller_route = h_route_set(h, h_expect_response(h, h_conn_remote(h, d.conn), 200));
	h_expect_silence(h);
	return d;
}

/* The callee's request in the dialog. */
#define CALLEE(h, d, meth, ...)                                                                          \
	H_REQ(h, .from = H_A, .method = (meth), .from_hdr = "<sip:bob@example.test>", .from_tag = "bob", \
	      .to_hdr = "<sip:alice@caller.test>", .to_tag = "alice", .extra = (d).callee_route, __VA_ARGS__)

static void test_back_over_the_callers_connection(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tcp:" CALLER_ADDR);
	assert_non_null(strstr(d.callee_route, "<sip:hff"));
	assert_null(strstr(d.callee_route, "<sip:hfr"));
	CALLEE(h, d, "BYE", .ruri = "sip:alice@10.0.0.7:5060;transport=tcp");
	const struct sip_msg *m = h_expect_request(h, CALLER_ADDR, "BYE");
	assert_true(h_sent_conn(h, m) == d.conn);
	assert_string_equal(h_ruri(h, m), "sip:alice@10.0.0.7:5060;transport=tcp");
	assert_null(h_hdr(h, m, "Route", 0));
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TCP 192.0.2.1:5060"));
	H_REP(h, m, 200);
	h_expect_response(h, H_A, 200);
	/* The caller's own go the other way: the callee has no flow, its URI leads to it. */
	H_REQ(h, .conn = d.conn, .method = "BYE", .ruri = "sip:callee@192.0.2.21", .to_tag = "bob", .cseq = 3,
	      .extra = d.caller_route, .via = "10.0.0.7");
	m = h_expect_request(h, H_A, "BYE");
	assert_int_equal(h_sent_conn(h, m), 0);
	H_REP(h, m, 200);
	h_expect_response(h, CALLER_ADDR, 200);
	/* ACK to the 2xx of a re-INVITE of the callee's: without a transaction, over the same connection */
	CALLEE(h, d, "ACK", .ruri = "sip:alice@10.0.0.7;transport=tcp", .branch = "z9hG4bK-ack");
	assert_true(h_sent_conn(h, h_expect_request(h, CALLER_ADDR, "ACK")) == d.conn);
	assert_int_equal(h_conns_opened(h), 0);
	h_expect_silence(h);
	h_stop(h);
}

struct udp_caller {
	const char *from, *vias, *contact;
	const char *bye; /* where the callee's BYE goes */
};

/* Over UDP a NAT is seen by the addresses that the caller believes to have. */
static void test_back_through_a_nat(void **state)
{
	(void)state;
	static const struct udp_caller all[] = {
		/* behind a NAT */
		{"203.0.113.9:31234", "10.0.0.7:5060;rport", "10.0.0.7:5060", "203.0.113.9:31234"},
		{"203.0.113.9:31234", "10.0.0.7:5060", "10.0.0.7", "203.0.113.9:31234"},
		{"203.0.113.9:31234", "203.0.113.9:5060;rport", "203.0.113.9:5060", "203.0.113.9:31234"},
		/* its Contact is where it is */
		{"203.0.113.9:31234", "10.0.0.7:5060;rport", "203.0.113.9:31234", "203.0.113.9:31234"},
		/* not behind one: it sends from another port than it listens on, or takes requests elsewhere */
		{"203.0.113.9:31234", "203.0.113.9:5060", "203.0.113.9:5060", "203.0.113.9:5060"},
		{"203.0.113.9:5060", "203.0.113.9:5060;rport", "203.0.113.10:5060", "203.0.113.10:5060"},
		{"203.0.113.9:5060", "sbc.example.org;rport", "203.0.113.10:5060", "203.0.113.10:5060"},
		/* it came through another proxy, which has its own ways */
		{"203.0.113.9:5062", "203.0.113.8:5062;branch=z9hG4bK-up, SIP/2.0/UDP 10.0.0.7", "203.0.113.10",
		 "203.0.113.10:5060"},
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct udp_caller *c = &all[i];
		struct harness *h = s_start();
		h_recv(h, c->from,
		       "INVITE sip:bob@192.0.2.21 SIP/2.0\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-1\n"
		       "From: <sip:alice@caller.test>;tag=alice\nTo: <sip:bob@example.test>\nCall-ID: call-1\n"
		       "CSeq: 1 INVITE\nContact: \"Alice\" <sip:alice@%s>\nContent-Length: 0\n\n",
		       c->vias, c->contact);
		const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
		struct dialog d = {.callee_route = h_route_set(h, m)};
		H_REP(h, m, 200);
		h_forget(h);
		CALLEE(h, d, "BYE", .ruri = h_keepf(h, "sip:alice@%s", c->contact));
		m = h_expect_request(h, c->bye, "BYE");
		assert_null(h_hdr(h, m, "Route", 0));
		h_expect_silence(h);
		h_stop(h);
	}
}

static void test_tls_and_a_restart(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tls:" CALLER_ADDR);
	CALLEE(h, d, "BYE", .ruri = "sip:alice@10.0.0.7:5061;transport=tls");
	const struct sip_msg *m = h_expect_request(h, CALLER_ADDR, "BYE");
	assert_true(h_sent_conn(h, m) == d.conn);
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TLS 192.0.2.1:5061"));
	/* The proxy that starts afterwards knows no such connection, and goes by the URI. */
	struct harness *after = s_start();
	CALLEE(after, d, "BYE", .ruri = "sip:alice@192.0.2.10:5070;transport=tcp");
	m = h_expect_request(after, "192.0.2.10:5070", "BYE");
	assert_int_equal(h_conns_opened(after), 1);
	h_stop(after);
	h_stop(h);
}

static void test_dead_connection(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tcp:" CALLER_ADDR);
	h_conn_lose(h, d.conn);
	/* by the Request-URI */
	CALLEE(h, d, "BYE", .ruri = "sip:alice@192.0.2.10:5070;transport=tcp", .cseq = 2);
	h_expect_request(h, "192.0.2.10:5070", "BYE");
	CALLEE(h, d, "BYE", .ruri = "sip:alice@home.test", .cseq = 3);
	h_resolved(h, h_expect_resolve(h, "home.test"), 0, "192.0.2.44:5060");
	h_expect_request(h, "192.0.2.44:5060", "BYE");
	/* which leads nowhere either */
	CALLEE(h, d, "BYE", .ruri = "sip:alice@home.test", .cseq = 4);
	h_resolved(h, h_expect_resolve(h, "home.test"), -ENOENT, NULL);
	h_expect_response(h, H_A, 430);
	CALLEE(h, d, "BYE", .ruri = "sip:alice@192.0.2.10;transport=sctp", .cseq = 5);
	h_expect_response(h, H_A, 430);
	CALLEE(h, d, "ACK", .ruri = "sip:alice@192.0.2.10:5071;transport=tcp", .branch = "z9hG4bK-ack");
	h_expect_request(h, "192.0.2.10:5071", "ACK");
	h_expect_silence(h);
	h_stop(h);
	/* It dies with the request on it. */
	h = s_start();
	d = establish(h, "tcp:192.0.2.10:40001");
	CALLEE(h, d, "BYE", .ruri = "sip:alice@10.0.0.7;transport=tcp", .cseq = 6);
	h_expect_request(h, "192.0.2.10:40001", "BYE");
	h_conn_lose(h, d.conn);
	h_expect_response(h, H_A, 500);
	h_expect_silence(h);
	h_stop(h);
}

/* A PBX with one connection, by which two of its users have registered: what one of them says to the other comes over
 * it and goes back over it. */
static void test_back_over_the_same(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tcp:" CALLER_ADDR);
	CALLEE(h, d, "BYE", .conn = d.conn, .ruri = "sip:alice@10.0.0.7;transport=tcp");
	const struct sip_msg *m = h_expect_request(h, CALLER_ADDR, "BYE");
	assert_true(h_sent_conn(h, m) == d.conn);
	h_expect_silence(h);
	h_stop(h);
}

struct relayed {
	const char *vias; /* of a request that a proxy sends over its connection */
	const char *record_route;
	bool stays; /* the proxy is in the dialog, and so its connection is the way back */
};

/* A proxy that does not record a route is not in the dialog: what its connection says is not for the caller. */
static void test_proxy_out_of_the_dialog(void **state)
{
	(void)state;
	static const struct relayed all[] = {
		{"192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.10", "", false},
		{"192.0.2.30;branch=z9hG4bK-p\nVia: SIP/2.0/UDP 192.0.2.10", "", false},
		{"192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.10", "<sip:192.0.2.30;lr;transport=tcp>",
		 true},
		{"10.0.0.30;branch=z9hG4bK-p, SIP/2.0/UDP 10.0.0.10", "<sip:10.0.0.30;lr;transport=tcp>", true},
		{"p.test;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.10", "<sip:10.0.0.30;lr;transport=tcp>", true},
		{"192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.10", "<sip:p.test;lr;transport=tcp>", true},
		/* another before it is */
		{"192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.10", "<sip:192.0.2.31;lr>", false},
		/* or we ourselves, and the request is a spiral */
		{"192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.1", "<sip:hfrAAAAAAAAAAAA@192.0.2.1;lr>",
		 false},
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct relayed *c = &all[i];
		struct harness *h = s_start();
		uint64_t conn = h_conn_open(h, "tcp:192.0.2.30:40000");
		H_REQ(h, .conn = conn, .ruri = "sip:bob@192.0.2.21", .via = c->vias,
		      .extra = c->record_route[0] ? h_keepf(h, "Record-Route: %s\n", c->record_route) : "");
		const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
		const char *rr = h_hdr(h, m, "Record-Route", 0);
		if ((strstr(rr, "<sip:hff") != NULL) != c->stays)
			fail_msg("%u: %s", i, rr);
		h_stop(h);
	}
}

/* A request passes us, a proxy that stays out of the dialog, and us again: all of our Record-Routes come back at once,
 * and the last one knows the caller's connection. */
static void test_spiral(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tcp:" CALLER_ADDR), spiral = d;
	const char *second = strchr(d.callee_route, '\n') + 1;
	char *first =
		h_keepf(h, "Record-%.*sRecord-%s", (int)(second - d.callee_route), d.callee_route, second);

	H_REQ(h, .from = "192.0.2.30:5060", .ruri = "sip:bob@192.0.2.22;transport=tcp",
	      .via = "192.0.2.30;branch=z9hG4bK-p, SIP/2.0/UDP 192.0.2.1:5060", .extra = first);
	const struct sip_msg *m = h_expect_request(h, H_B, "INVITE");
	assert_int_equal(h_hdr_count(m, "Record-Route"), 4);
	spiral.callee_route = h_route_set(h, m);
	H_REP(h, m, 200);
	h_forget(h);
	CALLEE(h, spiral, "BYE", .ruri = "sip:alice@10.0.0.7;transport=tcp");
	m = h_expect_request(h, CALLER_ADDR, "BYE");
	assert_true(h_sent_conn(h, m) == d.conn);
	assert_null(h_hdr(h, m, "Route", 0));
	h_expect_silence(h);
	h_stop(h);
}

/* A token with another dialog's flow, or one changed on the way, is no token at all. */
static void test_forged(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct dialog d = establish(h, "tcp:" CALLER_ADDR);
	CALLEE(h, d, "BYE", .ruri = "sip:alice@10.0.0.7;transport=tcp", .call_id = "stolen");
	h_expect_request(h, "10.0.0.7:5060",
			 "BYE"); /* the route with dns = true lets anybody do that, by the URI */
	const char *at = strchr(d.callee_route, '@');
	for (const char *p = strstr(d.callee_route, "sip:hff") + 7; p < at; p++) {
		struct dialog forged = d;
		char *text = h_keepf(h, "%.*s\n", (int)strcspn(d.callee_route, "\n"), d.callee_route);
		text[p - d.callee_route] = *p == 'x' ? 'y' : 'x';
		forged.callee_route = text;
		CALLEE(h, forged, "BYE", .ruri = "sip:alice@10.0.0.7;transport=tcp",
		       .cseq = 100 + (unsigned)(at - p));
		h_expect_request(h, "10.0.0.7:5060", "BYE");
	}
	h_expect_silence(h);
	h_stop(h);
}

/* --- targets that are a flow, as the registrar has them --- */

static void send_to(struct harness *h, const char *method, const struct target *targets, unsigned count)
{
	static struct target_set set;
	struct sip_msg_room room;
	struct plan plan;
	char text[1024], scratch[1024];
	struct proxy *p = h_proxy(h);
	int n = snprintf(
		text, sizeof(text),
		"%s sip:bob@local.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKf\r\n"
		"Max-Forwards: 70\r\nFrom: <sip:alice@caller.test>;tag=alice\r\nTo: <sip:bob@local.test>\r\n"
		"Call-ID: flows\r\nCSeq: 1 %s\r\nContent-Length: 0\r\n\r\n",
		method, method);
	struct flow source = {.listener = S_UDP};
	addr_parse(slice_str(H_CALLER), &source.remote);
	assert_int_equal(sip_msg_parse(&room, text, (size_t)n, false), 0);
	struct packet *pk = packet_create(&room.msg, &source, 0);
	assert_int_equal(plan_make(p, pk, &plan, scratch, sizeof(scratch)), 0);
	set.count = count;
	for (unsigned i = 0; i < count; i++)
		set.target[i] = targets[i];
	if (strcmp(method, "ACK") == 0)
		stateless_forward(p, pk, &plan, 1, &set);
	else
		context_start(p, pk, &plan, 1, &set);
	h_take_response(h, H_CALLER, 100);
}

static struct target conn_target(uint64_t conn, uint16_t listener)
{
	return (struct target){.ruri = SLICE_LIT("sip:bob@10.0.0.9;transport=tcp"),
			       .has_flow = true,
			       .flow = {.proto = FLOW_TCP, .listener = listener, .conn = conn}};
}

static void test_registered_connection(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t phone = h_conn_open(h, "tls:192.0.2.20:40000");
	struct target t = conn_target(phone, S_TLS);
	send_to(h, "INVITE", &t, 1);
	const struct sip_msg *m = h_expect_request(h, "192.0.2.20:40000", "INVITE");
	assert_true(h_sent_conn(h, m) == phone);
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TLS 192.0.2.1:5061"));
	assert_string_equal(h_ruri(h, m), "sip:bob@10.0.0.9;transport=tcp");
	assert_non_null(strstr(h_hdr(h, m, "Record-Route", 0), "hff"));
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, m, 200);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	/* The caller's BYE goes over the callee's connection. */
	H_REQ(h, .method = "BYE", .ruri = "sip:bob@10.0.0.9;transport=tcp", .call_id = "flows", .to_tag = "bob",
	      .cseq = 2, .extra = route);
	assert_true(h_sent_conn(h, h_expect_request(h, "192.0.2.20:40000", "BYE")) == phone);
	/* Dead: 430, and what is left is tried. */
	h_conn_lose(h, phone);
	h_expect_response(h, H_CALLER, 500); /* the BYE's */
	h_stop(h);

	h = s_start();
	uint64_t one = h_conn_open(h, "tcp:192.0.2.20:40000"), two = h_conn_open(h, "tcp:192.0.2.20:40001");
	struct target both[] = {conn_target(one, S_TCP), conn_target(two, S_TCP)};
	h_conn_cut(h, one);
	send_to(h, "INVITE", both, 2);
	assert_int_equal(counters_sum(CNT_BRANCH_CONN_LOST), 1);
	m = h_expect_request(h, "192.0.2.20:40001", "INVITE");
	h_conn_lose(h, two); /* while it is under way: as any transport error, but the 430 says more */
	h_expect_response(h, H_CALLER, 430);
	h_expect_silence(h);
	send_to(h, "ACK", both, 1);
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_DROP_SEND), 1);
	h_stop(h);
}

/* A phone behind a NAT: by the listener that it has registered at, to where its packets came from. */
static void test_registered_datagrams(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct target t = {
		.ruri = SLICE_LIT("sip:bob@10.0.0.9"), .has_flow = true, .flow = {.listener = S_UDP}};
	addr_parse(SLICE_LIT("192.0.2.20:33333"), &t.flow.remote);
	send_to(h, "INVITE", &t, 1);
	const struct sip_msg *m = h_expect_request(h, "192.0.2.20:33333", "INVITE");
	assert_int_equal(h_sent_conn(h, m), 0);
	H_REP(h, m, 200);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	assert_non_null(strstr(route, "<sip:hff"));
	H_REQ(h, .method = "BYE", .ruri = "sip:bob@10.0.0.9", .call_id = "flows", .to_tag = "bob", .cseq = 2,
	      .extra = route);
	m = h_expect_request(h, "192.0.2.20:33333", "BYE");
	assert_string_equal(h_ruri(h, m), "sip:bob@10.0.0.9");
	/* from there it is the other's, who has no flow */
	H_REQ(h, .from = "192.0.2.20:33333", .method = "BYE", .ruri = "sip:alice@192.0.2.10",
	      .call_id = "flows", .from_tag = "bob", .to_tag = "alice", .cseq = 1, .extra = route);
	h_expect_request(h, H_CALLER, "BYE");
	h_expect_silence(h);
	/* what cannot be: another configuration's listener, or one of another kind or family */
	struct target bad[] = {t, t, conn_target(h_conn_open(h, "tcp:192.0.2.20:40000"), S_TLS)};
	bad[0].flow.listener = 17;
	bad[1].flow.listener = S_TCP;
	send_to(h, "MESSAGE", bad, 3);
	h_expect_response(h, H_CALLER, 430);
	h_expect_silence(h);
	h_stop(h);
}

static void test_registered_and_sips(void **state)
{
	(void)state;
	struct harness *h = s_start();
	struct target t = conn_target(h_conn_open(h, "tcp:192.0.2.20:40000"), S_TCP);
	t.ruri = SLICE_LIT("sips:bob@10.0.0.9");
	send_to(h, "INVITE", &t, 1);
	h_expect_response(h, H_CALLER, 480);
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_back_over_the_callers_connection),
		cmocka_unit_test(test_back_through_a_nat),
		cmocka_unit_test(test_tls_and_a_restart),
		cmocka_unit_test(test_dead_connection),
		cmocka_unit_test(test_back_over_the_same),
		cmocka_unit_test(test_proxy_out_of_the_dialog),
		cmocka_unit_test(test_spiral),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_registered_connection),
		cmocka_unit_test(test_registered_datagrams),
		cmocka_unit_test(test_registered_and_sips),
	};
	return cmocka_run_group_tests_name("proxy_flow", tests, NULL, NULL);
}
