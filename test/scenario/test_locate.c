/* Where a user is: targets from registrations, their order and their ways (RFC 3261 16.5 and 16.6, RFC 3327, RFC 5626
 * 5.3). */
#include <errno.h>

#include "base/counters.h"
#include "harness.h"

#define CONF                                                                     \
	"listen \"udp:192.0.2.1:5060\" { }\nlisten \"tcp:127.0.0.1:5060\" { }\n" \
	"domain \"local.test\" { authenticate = false }\n"                       \
	"domain \"closed.test\" { }\n"
#define ON  "udp:192.0.2.1:5060 tcp:192.0.2.1:5060"
#define BOB .to_hdr = "<sip:bob@local.test>", .ruri = "sip:bob@local.test"

static struct harness *h;

static int setup(void **state)
{
	(void)state;
	counters_reset_all();
	h = h_start_store(CONF, ON, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	h_stop(h);
	return 0;
}

static void bound(const char *lines)
{
	assert_int_equal(H_REGISTER(h, .from = "192.0.2.90:5060", .lines = lines)->status, 200);
}

/* Contacts where they say they are: each registers itself. */
static void at(const char *from, const char *params)
{
	assert_int_equal(H_REGISTER(h, .from = from, .call_id = from,
				    .lines = h_keepf(h, "Contact: <sip:bob@%s>%s\n", from, params))
				 ->status,
			 200);
}

static void test_one(void **state)
{
	(void)state;
	at(H_A, "");
	const struct sip_msg *m = H_CALL(h, H_A, BOB);
	assert_string_equal(h_ruri(h, m), "sip:bob@" H_A);
	h_assert_hdr(h, m, "To", "<sip:bob@local.test>");
	assert_int_equal(h_hdr_count(m, "Route"), 0);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	/* escapes and the domain's case are one address (19.1.4) */
	H_CALL(h, H_A, .call_id = "2", .ruri = "sip:%62ob@LOCAL.test;x=y");
}

/* A contact by a name that does not exist: bob does, and is not there. 404 would say that he does not. */
static void test_lost_name(void **state)
{
	(void)state;
	bound("Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK-below\nContact: <sip:bob@gone.test>\n");
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "gone.test"), -ENOENT, NULL);
	h_expect_response(h, H_CALLER, 480);
	h_expect_silence(h);
}

static void test_nobody(void **state)
{
	(void)state;
	/* anybody may be a user of an open domain, so he is only not there */
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 480);
	/* the closed one's users are known */
	h_user(h, "carol", "closed.test", "secret");
	H_REQ(h, .call_id = "2", .ruri = "sip:carol@closed.test");
	h_expect_response(h, H_CALLER, 480);
	H_REQ(h, .call_id = "3", .ruri = "sip:c%61rol@Closed.Test");
	h_expect_response(h, H_CALLER, 480);
	H_REQ(h, .call_id = "4", .ruri = "sip:nobody@closed.test");
	h_expect_response(h, H_CALLER, 404);
	H_REQ(h, .call_id = "5", .ruri = h_keepf(h, "sip:%0300u@closed.test", 1));
	h_expect_response(h, H_CALLER, 404);
	H_REQ(h, .call_id = "6", .ruri = "sip:closed.test");
	h_expect_response(h, H_CALLER, 404);
	h_expect_silence(h);
}

static void test_parallel(void **state)
{
	(void)state;
	at(H_A, ";q=0.5");
	at(H_B, ";q=0.5");
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 100);
	const struct sip_msg *a = h_expect_request(h, H_A, "INVITE"), *b = h_expect_request(h, H_B, "INVITE");
	H_REP(h, a, 180, .to_tag = "a");
	H_REP(h, b, 180, .to_tag = "b");
	H_REP(h, b, 200, .to_tag = "b");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	/* the share of the breadth (RFC 5393 5.3.3) */
	h_assert_hdr(h, a, "Max-Breadth", "30");
}

static void test_serial(void **state)
{
	(void)state;
	at(H_B, ";q=0.2");
	at(H_A, ";q=0.9");
	at(H_C, ";q=0.2");
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 100);
	const struct sip_msg *m = h_expect_request(h, H_A, "INVITE");
	h_expect_silence(h);
	/* busy or not: the next are other phones */
	H_REP(h, m, 486, .to_tag = "a");
	h_expect_request(h, H_A, "ACK");
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE"), *c = h_expect_request(h, H_C, "INVITE");
	H_REP(h, b, 404, .to_tag = "b");
	H_REP(h, c, 480, .to_tag = "c");
	assert_true(h_take_response(h, H_CALLER, 0) != NULL);
	/* a 6xx ends it (16.7 step 5) */
	h_forget(h);
	H_REQ(h, BOB, .call_id = "2");
	h_expect_response(h, H_CALLER, 100);
	H_REP(h, h_expect_request(h, H_A, "INVITE"), 603);
	h_expect_response(h, H_CALLER, 603);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
}

static void test_serial_cancel(void **state)
{
	(void)state;
	at(H_A, ";q=0.9");
	at(H_B, ";q=0.2");
	const struct sip_msg *m = H_CALL(h, H_A, BOB);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, BOB, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 487);
	h_expect_silence(h);
}

/* Behind a NAT: the datagram goes to where the REGISTER came from, on the socket that it came to. */
static void test_nat(void **state)
{
	(void)state;
	bound("Contact: <sip:bob@10.0.0.7:5062>\n");
	const struct sip_msg *m = H_CALL(h, "192.0.2.90:5060", BOB);
	assert_string_equal(h_ruri(h, m), "sip:bob@10.0.0.7:5062");
	H_REP(h, m, 200);
	m = h_expect_response(h, H_CALLER, 200);
	/* and the dialog's requests, too */
	H_REQ(h, .to_hdr = "<sip:bob@local.test>", .ruri = "sip:bob@10.0.0.7:5062", .method = "BYE",
	      .to_tag = "bob", .cseq = 2, .extra = h_route_set(h, m));
	h_expect_request(h, "192.0.2.90:5060", "BYE");
}

/* RFC 3327 5.4 */
static void test_path(void **state)
{
	(void)state;
	bound("Contact: <sip:bob@10.0.0.7>\nPath: <sip:edge@192.0.2.22;lr>,<sip:192.0.2.23;lr>\nSupported: "
	      "path\n");
	const struct sip_msg *m = H_CALL(h, H_B, BOB);
	assert_string_equal(h_ruri(h, m), "sip:bob@10.0.0.7");
	h_assert_hdr(h, m, "Route", "<sip:edge@192.0.2.22;lr>, <sip:192.0.2.23;lr>");
}

/* 19.1.1: what a Contact may have and a Request-URI may not. */
static void test_ruri(void **state)
{
	(void)state;
	bound("Contact: <sip:bob@192.0.2.90;method=MESSAGE;x=y?Subject=a&Route=%3Csip:192.0.2.99%3E>\n");
	const struct sip_msg *m = H_CALL(h, "192.0.2.90:5060", BOB);
	assert_string_equal(h_ruri(h, m), "sip:bob@192.0.2.90;x=y");
	/* still found by its dead datagram, and listed as it was registered */
	assert_string_equal(h_binding(h, "bob", 0),
			    "sip:bob@192.0.2.90;method=MESSAGE;x=y?Subject=a&Route=%3Csip:192.0.2.99%3E");
}

/* A contact that is no SIP URI is nowhere to go to, and harms nobody. */
static void test_other_scheme(void **state)
{
	(void)state;
	at(H_A, ";q=0.1");
	const struct sip_msg *m =
		H_REGISTER(h, .from = H_B, .call_id = "mail", .lines = "Contact: <mailto:bob@local.test>\n");
	if (m->status == 200) {
		m = H_CALL(h, H_A, BOB);
		assert_string_equal(h_ruri(h, m), "sip:bob@" H_A);
	} else
		assert_int_equal(m->status, 400);
}

/* --- connections and outbound --- */

#define OB(n) \
	"Contact: <sip:bob@10.0.0.7;ob>;+sip.instance=\"<urn:uuid:1>\";reg-id=" n "\nSupported: outbound\n"

static void test_conn(void **state)
{
	(void)state;
	uint64_t conn = h_conn_open(h, "tcp:192.0.2.30:40000");
	H_REGISTER(h, .conn = conn, .lines = "Contact: <sip:bob@10.0.0.1;transport=tcp>\n");
	const struct sip_msg *m = H_CALL(h, "192.0.2.30:40000", BOB);
	assert_int_equal(h_sent_conn(h, m), conn);
	assert_int_equal(h_conns_opened(h), 0);
	h_conn_lose(h, conn);
	h_forget(h);
	H_REQ(h, BOB, .call_id = "2");
	h_expect_response(h, H_CALLER, 480);
}

/* Dead, and the registrar does not know it yet: an outbound flow is all there is (430 within, 480 to the caller);
 * others are looked for by their URI. */
static void test_conn_dead(void **state)
{
	(void)state;
	uint64_t conn = h_conn_open(h, "tcp:192.0.2.30:40000");
	H_REGISTER(h, .conn = conn, .lines = OB("1"));
	h_conn_cut(h, conn);
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 480);
	h_expect_silence(h);
	h_conn_news(h);
	assert_int_equal(h_bindings(h, "bob"), 0);
	conn = h_conn_open(h, "tcp:192.0.2.30:40000");
	H_REGISTER(h, .conn = conn, .lines = "Contact: <sip:bob@192.0.2.30:5070>\n");
	h_conn_cut(h, conn);
	H_REQ(h, BOB, .call_id = "2");
	h_expect_response(h, H_CALLER, 100);
	h_expect_request(h, "192.0.2.30:5070", "INVITE");
}

/* The flows of an instance: the newest, and the next only when that one fails. */
static void test_instance(void **state)
{
	(void)state;
	uint64_t one = h_conn_open(h, "tcp:192.0.2.30:40000"), two = h_conn_open(h, "tcp:192.0.2.30:40001");
	H_REGISTER(h, .conn = one, .lines = OB("1"));
	struct timespec ms = {0, 3000000};
	nanosleep(&ms, NULL); /* the order of the wall clock is what is tested */
	H_REGISTER(h, .conn = two, .lines = OB("2"));
	assert_int_equal(h_bindings(h, "bob"), 2);
	const struct sip_msg *m = H_CALL(h, "192.0.2.30:40001", BOB);
	assert_int_equal(h_sent_conn(h, m), two);
	h_expect_silence(h);
	/* the answer of the phone is the phone's, whatever flow it came by */
	H_REP(h, m, 486);
	h_expect_request(h, "192.0.2.30:40001", "ACK");
	h_expect_response(h, H_CALLER, 486);
	h_expect_silence(h);
	/* a dead flow: the other */
	h_conn_cut(h, two);
	m = H_CALL(h, "192.0.2.30:40000", BOB, .call_id = "2");
	assert_int_equal(h_sent_conn(h, m), one);
	/* both dead */
	h_conn_cut(h, one);
	H_REQ(h, BOB, .call_id = "3");
	h_expect_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 480);
	h_expect_silence(h);
}

/* The flow dies with the INVITE on it. */
static void test_instance_dies(void **state)
{
	(void)state;
	uint64_t one = h_conn_open(h, "tcp:192.0.2.30:40000"), two = h_conn_open(h, "tcp:192.0.2.30:40001");
	H_REGISTER(h, .conn = one, .lines = OB("1"));
	struct timespec ms = {0, 3000000};
	nanosleep(&ms, NULL);
	H_REGISTER(h, .conn = two, .lines = OB("2"));
	H_CALL(h, "192.0.2.30:40001", BOB);
	h_conn_lose(h, two);
	const struct sip_msg *m = h_expect_request(h, "192.0.2.30:40000", "INVITE");
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	assert_int_equal(h_bindings(h, "bob"), 1);
}

/* RFC 5626 5.3: an edge proxy says 430 of its flow. */
static void test_430(void **state)
{
	(void)state;
	H_REGISTER(h, .from = H_A, .lines = OB("1") "Path: <sip:192.0.2.21;lr;ob>\n");
	struct timespec ms = {0, 3000000};
	nanosleep(&ms, NULL);
	H_REGISTER(h, .from = H_B, .lines = OB("2") "Path: <sip:192.0.2.22;lr;ob>\n");
	const struct sip_msg *m = H_CALL(h, H_B, BOB);
	H_REP(h, m, 430);
	h_expect_request(h, H_B, "ACK");
	m = h_expect_request(h, H_A, "INVITE");
	assert_null(h_take_response(h, H_CALLER, 430));
	H_REP(h, m, 430);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 480); /* to the caller it is a phone that cannot be reached */
}

/* An instance's other flow does not drag a less wanted contact into its group. */
static void test_instance_and_q(void **state)
{
	(void)state;
	uint64_t one = h_conn_open(h, "tcp:192.0.2.30:40000"), two = h_conn_open(h, "tcp:192.0.2.30:40001");
	H_REGISTER(h, .conn = one,
		   .lines = "Contact: "
			    "<sip:bob@10.0.0.7;ob>;q=0.9;+sip.instance=\"<urn:uuid:1>\";reg-id=1\nSupported: "
			    "outbound\n");
	H_REGISTER(h, .conn = two,
		   .lines = "Contact: "
			    "<sip:bob@10.0.0.7;ob>;q=0.5;+sip.instance=\"<urn:uuid:1>\";reg-id=2\nSupported: "
			    "outbound\n");
	at(H_A, ";q=0.5");
	const struct sip_msg *m = H_CALL(h, "192.0.2.30:40000", BOB);
	h_expect_silence(h);
	H_REP(h, m, 486);
	h_expect_request(h, "192.0.2.30:40000", "ACK");
	h_expect_request(h, H_A, "INVITE");
	h_expect_silence(h);
}

/* Two instances in parallel, each with a spare flow. */
static void test_instances(void **state)
{
	(void)state;
	uint64_t c[4];
	struct timespec ms = {0, 3000000};
	for (unsigned i = 0; i < 4; i++) {
		c[i] = h_conn_open(h, h_keepf(h, "tcp:192.0.2.3%u:40000", i));
		H_REGISTER(
			h, .conn = c[i],
			.lines = h_keepf(
				h,
				"Contact: "
				"<sip:bob@10.0.0.7;ob>;+sip.instance=\"<urn:uuid:%u>\";reg-id=%u\nSupported: "
				"outbound\n",
				i % 2, i / 2 + 1));
		nanosleep(&ms, NULL);
	}
	H_REQ(h, BOB);
	h_expect_response(h, H_CALLER, 100);
	const struct sip_msg *m2 = h_expect_request(h, "192.0.2.32:40000", "INVITE");
	h_expect_request(h, "192.0.2.33:40000", "INVITE");
	h_expect_silence(h);
	h_assert_hdr(h, m2, "Max-Breadth", "30");
	h_conn_lose(h, c[2]);
	const struct sip_msg *m0 = h_expect_request(h, "192.0.2.30:40000", "INVITE");
	H_REP(h, m0, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h); /* the other has not rung yet: its CANCEL waits */
}

/* As many as an address may have, and one user agent asks for little breadth (RFC 5393 5.3.3). */
static void test_breadth(void **state)
{
	(void)state;
	at(H_A, ";q=0.9");
	at(H_B, ";q=0.5");
	at(H_C, ";q=0.1");
	/* one after another, breadth is no matter */
	const struct sip_msg *m = H_CALL(h, H_A, BOB, .extra = "Max-Breadth: 1\n");
	h_assert_hdr(h, m, "Max-Breadth", "1");
	H_REP(h, m, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_request(h, H_B, "INVITE");
	h_forget(h);
	/* at once, there must be enough for the widest group: not for all of them together */
	at("192.0.2.24:5060", ";q=0.5");
	m = H_CALL(h, H_A, BOB, .call_id = "2", .extra = "Max-Breadth: 2\n");
	H_REP(h, m, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_request(h, H_B, "INVITE");
	h_expect_request(h, "192.0.2.24:5060", "INVITE");
	h_forget(h);
	H_REQ(h, BOB, .call_id = "3", .extra = "Max-Breadth: 1\n");
	h_expect_response(h, H_CALLER, 440);
}

/* --- RFC 5393: contacts that point back here --- */

static void user(const char *name, unsigned contacts, bool serial)
{
	static const char *const other[] = {"alice", "bob"};
	char *lines = h_keepf(h, "%s", "");
	for (unsigned i = 0; i < contacts; i++)
		lines = h_keepf(h, "%sContact: <sip:%s@local.test;n=%u>%s\n", lines, other[i % 2], i,
				serial ? h_keepf(h, ";q=0.%u", 9 - i) : "");
	/* by a proxy, so that they are reached by their URIs */
	lines = h_keepf(h, "%sVia: SIP/2.0/UDP 192.0.2.90;branch=z9hG4bKq%s\n", lines, name);
	assert_int_equal(H_REGISTER(h, .name = name, .from = "192.0.2.90:5060", .lines = lines)->status, 200);
}

/* What the proxy sends to itself comes back to it, until nothing more does or the limit is reached. Returns how many
 * messages. */
static unsigned pump(unsigned limit)
{
	const struct sip_msg *m;
	unsigned n = 0;
	for (;;) {
		while (h_resolves(h))
			h_resolved(h, h_expect_resolve(h, "local.test"), 0, H_PROXY);
		m = h_take_request(h, H_PROXY, NULL);
		if (!m)
			m = h_take_response(h, H_PROXY, 0);
		if (!m)
			m = h_take_response(h, H_PROXY, 100);
		if (!m || n++ == limit)
			return n;
		h_recv_bytes(h, H_PROXY, slice_make(m->buf, m->len));
	}
}

#define ATTACK_MAX 4000 /* messages */

static void attack(const char *method, unsigned contacts, bool serial)
{
	user("alice", contacts, serial);
	user("bob", contacts, serial);
	h_forget(h);
	msec_t begin = h_now(h);
	H_REQ(h, BOB, .method = method);
	unsigned n = pump(ATTACK_MAX);
	if (n > ATTACK_MAX)
		fail_msg("%s, %u contacts %s: more than %u messages", method, contacts,
			 serial ? "serial" : "parallel", n - 1);
	for (unsigned i = 0; i < 20; i++) {
		h_run(h, 100);
		n += pump(ATTACK_MAX);
	}
	print_message("%s, %u contacts, %s: %u messages\n", method, contacts, serial ? "serial" : "parallel",
		      n);
	if (n > ATTACK_MAX)
		fail_msg("%s: more than %u messages", method, n);
	/* ACK and CANCEL go by without a transaction, and so without an answer of ours. */
	if (strcmp(method, "ACK") != 0 && strcmp(method, "CANCEL") != 0) {
		const struct sip_msg *m = h_take_response(h, H_CALLER, 0);
		if (!m)
			fail_msg("no final response");
		assert_true(h_sent_at(h, m) - begin <= 2000);
		assert_true(m->status >= 400);
	}
}

static void test_attack_parallel(void **state)
{
	(void)state;
	attack("INVITE", 2, false);
}

static void test_attack_parallel_many(void **state)
{
	(void)state;
	attack("INVITE", 10, false);
}

static void test_attack_serial(void **state)
{
	(void)state;
	attack("INVITE", 2, true);
}

static void test_attack_serial_many(void **state)
{
	(void)state;
	attack("INVITE", 10, true);
}

static void test_attack_message(void **state)
{
	(void)state;
	attack("MESSAGE", 10, false);
}

static void test_attack_ack(void **state)
{
	(void)state;
	attack("ACK", 10, false);
}

static void test_attack_cancel(void **state)
{
	(void)state;
	attack("CANCEL", 10, false);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_one),
		T(test_lost_name),
		T(test_nobody),
		T(test_parallel),
		T(test_serial),
		T(test_serial_cancel),
		T(test_nat),
		T(test_path),
		T(test_ruri),
		T(test_other_scheme),
		T(test_conn),
		T(test_conn_dead),
		T(test_instance),
		T(test_instance_dies),
		T(test_430),
		T(test_instance_and_q),
		T(test_instances),
		T(test_breadth),
		T(test_attack_parallel),
		T(test_attack_parallel_many),
		T(test_attack_serial),
		T(test_attack_serial_many),
		T(test_attack_message),
		T(test_attack_ack),
		T(test_attack_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
