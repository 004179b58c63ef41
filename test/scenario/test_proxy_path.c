/* An edge proxy: phones that register at a server behind us, and how that server reaches them (RFC 3327, RFC 5626
 * 5). */
#include <stdio.h>
#include <string.h>

#include "recover.h"

#define CONF                                                                               \
	"listen \"udp:192.0.2.1:5060\" { }\n"                                              \
	"listen \"udp:192.0.2.1:5061\" { }\n"                                              \
	"listen \"udp:192.0.2.1:5062\" { }\n"                                              \
	"domain \"local.test\" { }\n"                                                      \
	"gateway \"registrar\" { target = {\"sip:192.0.2.21;lr\"} }\n"                     \
	"route \"phones\" { domain = \"reg.test\" gateway = \"registrar\" path = true }\n" \
	"route \"plain\" { domain = \"plain.test\" gateway = \"registrar\" }\n"
#define ON    "udp:192.0.2.1:5060 tcp:192.0.2.1:5060 tls:192.0.2.1:5061"
#define PHONE "192.0.2.20:33333"
#define URI   "sip:bob@10.0.0.7:5060" /* what it has for a Contact: behind its NAT */

/* A phone, as the proxy sees it. */
struct phone {
	uint64_t conn;     /* 0: over UDP */
	const char *route; /* its Path, as a Route line */
};

static unsigned registers;

/* What the registrar gets of a phone's REGISTER. */
static const struct sip_msg *registered(uint64_t conn, const char *ruri, const char *extra)
{
	H_REQ(h, .from = PHONE, .conn = conn, .method = "REGISTER", .ruri = ruri, .via = "10.0.0.7:5060;rport",
	      .from_hdr = "<sip:bob@reg.test>", .to_hdr = "<sip:bob@reg.test>", .call_id = "reg",
	      .cseq = ++registers, .extra = extra);
	return h_expect_request(h, H_A, "REGISTER");
}

static struct phone phone_at(const char *from)
{
	struct phone phone = {.conn = from ? h_conn_open(h, from) : 0};
	const struct sip_msg *m = registered(phone.conn, "sip:reg.test", "Contact: <" URI ">\n");
	phone.route = h_keepf(h, "Route: %s\n", h_hdr(h, m, "Path", 0));
	H_REP(h, m, 200, .extra = "Contact: <" URI ">;expires=60\nRequire: outbound\nFlow-Timer: 30\n");
	h_assert_passed(h, h_last_received(h), h_expect_response(h, PHONE, 200));
	h_expect_silence(h);
	return phone;
}

/* From the registrar to a phone, whoever calls: here it is even who would have to authenticate. */
#define TO_URI(phone, meth, uri, ...)                                                                \
	H_REQ(h, .from = H_A, .method = (meth), .ruri = (uri), .from_hdr = "<sip:carol@local.test>", \
	      .extra = (phone).route, __VA_ARGS__)
#define TO_PHONE(phone, meth, ...) TO_URI(phone, meth, URI, __VA_ARGS__)

static const struct sip_msg *at_phone(const struct phone *phone, const char *method)
{
	const struct sip_msg *m = h_expect_request(h, PHONE, method);
	assert_true(h_sent_conn(h, m) == phone->conn);
	assert_string_equal(h_ruri(h, m), URI);
	assert_null(h_hdr(h, m, "Route", 0));
	return m;
}

static void assert_path(const struct sip_msg *m, const char *scheme, const char *end)
{
	const char *path = h_hdr(h, m, "Path", 0);
	assert_non_null(path);
	const char *at = strchr(path, '@');
	if (!at || strcmp(at, end) != 0 || strncmp(path, scheme, strlen(scheme)) != 0 ||
	    strncmp(path + strlen(scheme), "hfp", 3) != 0)
		fail_msg("%s", path);
}

/* --- the REGISTER --- */

static void test_register(void **state)
{
	(void)state;
	static const char *const from[] = {NULL, "tcp:" PHONE, "tls:" PHONE};
	for (unsigned i = 0; i < 3; i++) {
		begin_on(CONF, ON);
		uint64_t conn = from[i] ? h_conn_open(h, from[i]) : 0;
		const struct sip_msg *m = registered(conn, "sip:reg.test", "Contact: <" URI ">\n");
		assert_path(m, "<sip:", "@192.0.2.1:5060;lr>");
		assert_int_equal(h_hdr_count(m, "Path"), 1);
		assert_null(h_hdr(h, m, "Record-Route", 0));
		/* above what is there */
		m = registered(conn, "sip:reg.test", "Supported: path\nPath: <sip:inner.test;lr>\n");
		assert_path(m, "<sip:", "@192.0.2.1:5060;lr>");
		assert_string_equal(h_hdr(h, m, "Path", 1), "<sip:inner.test;lr>");
		/* by the side that the registrar is on */
		h_retarget(h, 0, "sip:192.0.2.21;transport=tcp;lr");
		m = registered(conn, "sip:reg.test", "");
		assert_path(m, "<sip:", "@192.0.2.1:5060;transport=tcp;lr>");
		h_retarget(h, 0, "sips:192.0.2.21:5060;lr");
		m = registered(conn, "sips:reg.test", "");
		assert_path(m, "<sips:", "@192.0.2.1:5061;lr>");
		h_forget(h);
		h_stop(h);
	}
}

/* Both of us do outbound (RFC 5626 5.1). */
static void test_outbound(void **state)
{
	(void)state;
	static const struct {
		const char *extra;
		bool ob;
	} all[] = {
		{"Supported: path, outbound\nContact: <" URI ">;+sip.instance=\"<urn:uuid:1>\";reg-id=1\n",
		 true},
		{"k: outbound\nm: <sip:other@10.0.0.7>, <" URI ">;reg-id=1;+sip.instance=\"<urn:uuid:1>\"\n",
		 true},
		{"Supported: path\nContact: <" URI ">;+sip.instance=\"<urn:uuid:1>\";reg-id=1\n", false},
		{"Supported: path, outbound\nContact: <" URI ">;+sip.instance=\"<urn:uuid:1>\"\n", false},
		{"Supported: path, outbound\nContact: <" URI ";reg-id=1>\n", false},
		{"Supported: path, outbound\nContact: *\nExpires: 0\n", false},
		{"Supported: path, outbound\n", false},
	};
	begin_on(CONF, ON);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		assert_path(registered(0, "sip:reg.test", all[i].extra),
			    "<sip:", all[i].ob ? "@192.0.2.1:5060;lr;ob>" : "@192.0.2.1:5060;lr>");
	h_forget(h);
	h_stop(h);
}

/* Another proxy's REGISTER, another method, another route: as they are. */
static void test_no_path(void **state)
{
	(void)state;
	static const char *const vias[] = {
		"192.0.2.20;branch=z9hG4bK-p, SIP/2.0/UDP 10.0.0.7",
		"192.0.2.20;branch=z9hG4bK-q\nVia: SIP/2.0/UDP 10.0.0.7",
	};
	begin_on(CONF, ON);
	for (unsigned i = 0; i < 2; i++) {
		H_REQ(h, .from = PHONE, .method = "REGISTER", .ruri = "sip:reg.test", .via = vias[i],
		      .cseq = 1 + i, .extra = "Path: <sip:inner.test;lr>\n");
		h_assert_forwarded(h, h_last_received(h), h_expect_request(h, H_A, "REGISTER"), true);
	}
	H_REQ(h, .from = PHONE, .method = "REGISTER", .ruri = "sip:plain.test", .cseq = 3);
	h_assert_forwarded(h, h_last_received(h), h_expect_request(h, H_A, "REGISTER"), true);
	H_REQ(h, .from = PHONE, .method = "MESSAGE", .ruri = "sip:alice@reg.test", .cseq = 4);
	h_assert_forwarded(h, h_last_received(h), h_expect_request(h, H_A, "MESSAGE"), true);
	h_stop(h);
}

/* --- to the phone --- */

static void test_requests(void **state)
{
	(void)state;
	static const char *const from[] = {NULL, "tcp:" PHONE, "tls:" PHONE};
	static const char *const via[] = {"SIP/2.0/UDP 192.0.2.1:5060", "SIP/2.0/TCP 192.0.2.1:5060",
					  "SIP/2.0/TLS 192.0.2.1:5061"};
	static const char *const method[] = {"MESSAGE", "NOTIFY", "OPTIONS", "SUBSCRIBE", "REFER"};

	for (unsigned i = 0; i < 3; i++) {
		begin_on(CONF, ON);
		struct phone phone = phone_at(from[i]);
		for (unsigned j = 0; j < sizeof(method) / sizeof(method[0]); j++) {
			TO_PHONE(phone, method[j], .cseq = 10 + j);
			const struct sip_msg *m = at_phone(&phone, method[j]);
			assert_int_equal(strncmp(h_hdr(h, m, "Via", 0), via[i], strlen(via[i])), 0);
			H_REP(h, m, 200);
			h_expect_response(h, H_A, 200);
		}
		/* whose Contact names none, and is ours by its host */
		H_REQ(h, .from = H_A, .method = "OPTIONS", .ruri = "sip:local.test", .extra = phone.route,
		      .cseq = 20);
		H_REP(h, h_expect_request(h, PHONE, "OPTIONS"), 200);
		h_expect_response(h, H_A, 200);
		assert_int_equal(h_resolves(h), 0);
		assert_int_equal(h_conns_opened(h), 0);
		finish();
	}
}

static void test_call(void **state)
{
	(void)state;
	static const char *const from[] = {NULL, "tcp:" PHONE};

	for (unsigned i = 0; i < 2; i++) {
		begin_on(CONF, ON);
		struct phone phone = phone_at(from[i]);
		TO_PHONE(phone, "INVITE", .cseq = 1);
		const struct sip_msg *m = at_phone(&phone, "INVITE");
		h_expect_response(h, H_A, 100);
		assert_non_null(strstr(h_hdr(h, m, "Record-Route", 0), "<sip:hff"));
		const char *callee = h_route_set(h, m);
		H_REP(h, m, 200); /* Contact: <sip:callee@PHONE> */
		const char *caller = h_route_set(h, h_expect_response(h, H_A, 200));
		/* inside the dialog, by what was recorded */
		H_REQ(h, .from = H_A, .method = "ACK", .ruri = URI, .to_tag = "bob", .extra = caller,
		      .branch = "z9hG4bK-ack");
		at_phone(&phone, "ACK");
		H_REQ(h, .from = H_A, .ruri = "sip:callee@" PHONE, .to_tag = "bob", .cseq = 2, .extra = caller);
		m = h_expect_request(h, PHONE, "INVITE");
		assert_true(h_sent_conn(h, m) == phone.conn);
		H_REP(h, m, 488);
		h_forget(h);
		/* and nobody goes on from there to anybody */
		H_REQ(h, .from = H_A, .ruri = "sip:victim@192.0.2.66", .to_tag = "bob", .cseq = 3,
		      .extra = caller);
		h_expect_response(h, H_A, 403);
		H_REQ(h, .from = PHONE, .conn = phone.conn, .method = "BYE", .ruri = "sip:carol@192.0.2.21",
		      .from_tag = "bob", .to_tag = "alice", .via = "10.0.0.7:5060;rport", .extra = callee);
		H_REP(h, h_expect_request(h, H_A, "BYE"), 200);
		h_expect_response(h, PHONE, 200);
		finish();
	}
}

static void test_cancel(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone phone = phone_at("tcp:" PHONE);
	TO_PHONE(phone, "INVITE", .cseq = 1);
	const struct sip_msg *m = at_phone(&phone, "INVITE");
	H_REP(h, m, 180);
	h_expect_response(h, H_A, 180);
	TO_PHONE(phone, "CANCEL", .cseq = 1);
	H_REP(h, at_phone(&phone, "CANCEL"), 200);
	H_REP(h, m, 487);
	at_phone(&phone, "ACK");
	h_expect_response(h, H_A, 487);
	TO_PHONE(phone, "ACK", .to_tag = "bob");
	h_forget(h);
	finish();
}

/* What the run before has forwarded, and has no record of. */
static void test_stateless(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone udp = phone_at(NULL), tcp = phone_at("tcp:" PHONE);
	TO_PHONE(udp, "CANCEL", .cseq = 1);
	at_phone(&udp, "CANCEL");
	TO_PHONE(udp, "ACK", .to_tag = "bob", .branch = "z9hG4bK-ack");
	at_phone(&udp, "ACK");
	TO_PHONE(tcp, "CANCEL", .cseq = 1);
	at_phone(&tcp, "CANCEL");
	TO_PHONE(tcp, "ACK", .to_tag = "bob", .branch = "z9hG4bK-ack");
	at_phone(&tcp, "ACK");
	h_restart(h);
	TO_PHONE(udp, "CANCEL", .cseq = 1);
	at_phone(&udp, "CANCEL");
	TO_PHONE(udp, "ACK", .to_tag = "bob", .branch = "z9hG4bK-ack");
	at_phone(&udp, "ACK");
	h_expect_silence(h);
	TO_PHONE(tcp, "CANCEL", .cseq = 1);
	TO_PHONE(tcp, "ACK", .to_tag = "bob", .branch = "z9hG4bK-ack");
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_DROP_SEND), 2);
	assert_int_equal(h_conns_opened(h), 0);
	finish();
}

/* --- the flow is gone --- */

static void test_flow_gone(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone phone = phone_at("tcp:" PHONE);
	h_conn_lose(h, phone.conn);
	TO_URI(phone, "MESSAGE", "sip:bob@192.0.2.20:5070;transport=tcp", .cseq = 1);
	h_expect_response(h, H_A, 430);
	TO_URI(phone, "INVITE", "sip:bob@home.test", .cseq = 2);
	h_expect_response(h, H_A, 100);
	h_expect_response(h, H_A, 430);
	assert_int_equal(counters_sum(CNT_BRANCH_CONN_LOST), 2);
	/* its new one has a Path of its own, and the old stays what it was */
	struct phone again = phone_at("tcp:192.0.2.20:33333");
	TO_PHONE(phone, "MESSAGE", .cseq = 3);
	h_expect_response(h, H_A, 430);
	TO_PHONE(again, "MESSAGE", .cseq = 4);
	at_phone(&again, "MESSAGE");
	/* with the request on it */
	h_conn_lose(h, again.conn);
	h_expect_response(h, H_A, 430);
	assert_int_equal(h_resolves(h), 0);
	assert_int_equal(h_conns_opened(h), 0);
	TO_PHONE(phone, "ACK", .cseq = 2, .to_tag = "x");
	h_forget(h);
	finish();
}

static void test_restart(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone udp = phone_at(NULL), tcp = phone_at("tcp:" PHONE), tls = phone_at("tls:" PHONE);
	h_restart(h);
	TO_URI(tcp, "MESSAGE", "sip:bob@192.0.2.20:5070;transport=tcp", .cseq = 1);
	h_expect_response(h, H_A, 430);
	TO_PHONE(tls, "MESSAGE", .cseq = 2);
	h_expect_response(h, H_A, 430);
	TO_PHONE(udp, "MESSAGE", .cseq = 3);
	H_REP(h, at_phone(&udp, "MESSAGE"), 200);
	h_expect_response(h, H_A, 200);
	assert_int_equal(h_conns_opened(h), 0);
	finish();
}

/* A call that nobody has answered yet: the registrar hears that the way is gone, and may try another. */
static void test_restart_in_a_call(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone phone = phone_at("tcp:" PHONE);
	TO_PHONE(phone, "INVITE", .cseq = 1);
	at_phone(&phone, "INVITE");
	h_expect_response(h, H_A, 100);
	h_restart(h);
	h_expect_response(h, H_A, 430);
	TO_PHONE(phone, "ACK", .to_tag = "x");
	h_forget(h);
	assert_int_equal(h_conns_opened(h), 0);
	finish();
}

/* --- what it is not good for --- */

static void forbidden(const char *method, const char *ruri, const char *to_tag, const char *route)
{
	static unsigned n = 100;

	H_REQ(h, .from = H_A, .method = method, .ruri = ruri, .to_tag = to_tag, .cseq = ++n, .extra = route);
	h_expect_response(h, H_A, 403);
	h_expect_silence(h);
}

static void test_further_route(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone udp = phone_at(NULL), tcp = phone_at("tcp:" PHONE);
	const char *path = h_keepf(h, "%.*s", (int)strcspn(udp.route, "\n"), udp.route);
	static const char *const more[] = {"<sip:192.0.2.66;lr>", "<sip:192.0.2.1;lr>", "<sip:local.test;lr>"};
	for (unsigned i = 0; i < 3; i++) {
		forbidden("MESSAGE", URI, NULL, h_keepf(h, "%s, %s\n", path, more[i]));
		forbidden("BYE", URI, "bob", h_keepf(h, "%s\nRoute: %s\n", path, more[i]));
		/* not even where a section would let it through */
		forbidden("MESSAGE", "sip:a@reg.test", NULL, h_keepf(h, "%s, %s\n", path, more[i]));
	}
	forbidden("MESSAGE", URI, NULL, h_keepf(h, "%s\n%s", path, tcp.route));
	assert_int_equal(counters_sum(CNT_REFUSED_RELAY), 10);
	/* as the Request-URI it is nobody */
	H_REQ(h, .from = H_A, .method = "MESSAGE", .cseq = 99,
	      .ruri = h_keepf(h, "%.*s", (int)strcspn(path + 8, ">"), path + 8));
	h_expect_response(h, H_A, 404);
	finish();
}

static void test_forged(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone phone = phone_at(NULL);
	const char *at = strchr(phone.route, '@'), *token = strstr(phone.route, "hfp");
	for (const char *p = token + 3; p < at; p++) {
		char *text = h_keepf(h, "%s", phone.route);
		text[p - phone.route] = *p == 'x' ? 'y' : 'x';
		forbidden("MESSAGE", URI, NULL, text);
		forbidden("INVITE", "sip:a@reg.test", "bob", text);
		h_forget(h);
		forbidden("MESSAGE", URI, NULL, h_keepf(h, "%.*s%s", (int)(p - phone.route), phone.route, at));
	}
	finish();
}

/* Inside a dialog the Record-Route counts; a Path has no part in it, and the dialog's rules none in a Path. */
static void test_dialogs(void **state)
{
	(void)state;
	begin_on(CONF, ON);
	struct phone phone = phone_at(NULL);
	H_REQ(h, .ruri = "sip:bob@reg.test");
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	H_REP(h, m, 200, .extra = "Contact: <sip:bob@192.0.2.21>\n");
	h_expect_response(h, H_CALLER, 100);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_REQ(h, .method = "BYE", .ruri = "sip:bob@192.0.2.21", .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "%s%s", route, phone.route));
	h_expect_request(h, H_A, "BYE");
	/* in a dialog that did not pass here */
	TO_PHONE(phone, "NOTIFY", .to_tag = "bob", .call_id = "theirs");
	at_phone(&phone, "NOTIFY");
	TO_PHONE(phone, "INVITE", .to_tag = "bob", .call_id = "theirs", .cseq = 2);
	at_phone(&phone, "INVITE");
	h_forget(h);
	h_stop(h);
}

/* RFC 5626 5.3.2: from the phone itself it is only taken off. */
static void test_outgoing(void **state)
{
	(void)state;
	static const char *const from[] = {NULL, "tcp:" PHONE};

	for (unsigned i = 0; i < 2; i++) {
		begin_on(CONF, ON);
		struct phone phone = phone_at(from[i]);
		H_REQ(h, .from = PHONE, .conn = phone.conn, .method = "MESSAGE", .ruri = "sip:a@plain.test",
		      .extra = phone.route);
		const struct sip_msg *m = h_expect_request(h, H_A, "MESSAGE");
		assert_string_equal(h_ruri(h, m), "sip:a@plain.test");
		assert_int_equal(h_hdr_count(m, "Route"), 1); /* the gateway's */
		assert_null(strstr(h_hdr(h, m, "Route", 0), "hfp"));
		H_REP(h, m, 200);
		h_expect_response(h, PHONE, 200);
		H_REQ(h, .from = PHONE, .conn = phone.conn, .method = "MESSAGE", .ruri = "sip:a@192.0.2.66",
		      .extra = phone.route, .cseq = 2);
		h_expect_response(h, PHONE, 403);
		finish();
	}
}

/* --- one phone calls another, by way of the server --- */

static void test_phone_to_phone(void **state)
{
	(void)state;
	static const char *const record[] = {"Record-Route: <sip:192.0.2.21;lr>\n", ""};

	for (unsigned i = 0; i < 2; i++) {
		begin_on(CONF, ON);
		struct phone bob = phone_at("tcp:" PHONE);
		uint64_t alice = h_conn_open(h, "tcp:192.0.2.10:40000");
		H_REQ(h, .conn = alice, .ruri = "sip:bob@reg.test", .via = "10.0.0.8");
		const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
		h_expect_response(h, "192.0.2.10:40000", 100);
		/* The server sends it on. */
		const char *via = h_hdr(h, m, "Via", 0);
		H_REQ(h, .from = H_A, .ruri = URI,
		      .via = h_keepf(h, "192.0.2.21;branch=z9hG4bK-server\nVia: %s\nVia: %s", via,
				     "SIP/2.0/TCP 10.0.0.8;branch=z9hG4bK-call-1-1"),
		      .extra = h_keepf(h, "%s%sRecord-Route: %s\n", bob.route, record[i],
				       h_hdr(h, m, "Record-Route", 0)));
		const struct sip_msg *at = at_phone(&bob, "INVITE");
		const char *callee = h_route_set(h, at);
		h_expect_response(h, H_A, 100);
		H_REP(h, at, 200, .extra = "Contact: <" URI ">\n");
		const char *caller = h_route_set(h, h_expect_response(h, H_A, 200));
		/* bob says something; it comes to the server if that is in the dialog, and to alice's connection at
		 * last */
		H_REQ(h, .conn = bob.conn, .method = "INFO", .ruri = "sip:alice@10.0.0.8;transport=tcp",
		      .from_tag = "bob", .to_tag = "alice", .via = "10.0.0.7", .extra = callee);
		m = h_expect_request(h, i ? "192.0.2.10:40000" : H_A, "INFO");
		assert_true(i == 0 || h_sent_conn(h, m) == alice);
		/* and alice */
		H_REQ(h, .conn = alice, .method = "INFO", .ruri = URI, .to_tag = "bob", .cseq = 2,
		      .via = "10.0.0.8", .extra = caller);
		m = h_expect_request(h, i ? PHONE : H_A, "INFO");
		assert_true(i == 0 || h_sent_conn(h, m) == bob.conn);
		h_forget(h);
		h_stop(h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),       cmocka_unit_test(test_outbound),
		cmocka_unit_test(test_no_path),        cmocka_unit_test(test_requests),
		cmocka_unit_test(test_call),           cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_stateless),      cmocka_unit_test(test_flow_gone),
		cmocka_unit_test(test_restart),        cmocka_unit_test(test_restart_in_a_call),
		cmocka_unit_test(test_further_route),  cmocka_unit_test(test_forged),
		cmocka_unit_test(test_dialogs),        cmocka_unit_test(test_outgoing),
		cmocka_unit_test(test_phone_to_phone),
	};
	return cmocka_run_group_tests_name("proxy_path", tests, NULL, NULL);
}
