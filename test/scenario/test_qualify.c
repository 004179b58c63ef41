/* Whether registered phones are there: OPTIONS to each, keepalives through NATs, what has expired, connections that
 * ended unnoticed. */
#include "base/counters.h"
#include "harness.h"

#define CONF(options)                                                            \
	"listen \"udp:192.0.2.1:5060\" { }\nlisten \"tcp:127.0.0.1:5060\" { }\n" \
	"domain \"local.test\" { authenticate = false " options " }\n"
#define ON       "udp:192.0.2.1:5060 tcp:192.0.2.1:5060"
#define INTERVAL 10000 /* ms */
#define TIMEOUT  3000
#define QUALIFY  "qualify_interval = 10s qualify_timeout = 3s"
#define BOB      .to_hdr = "<sip:bob@local.test>", .ruri = "sip:bob@local.test"

static struct harness *h;

static void start(const char *conf)
{
	counters_reset_all();
	h = h_start_calls(conf, ON, 0);
}

static int teardown(void **state)
{
	(void)state;
	if (h)
		h_stop(h);
	h = NULL;
	return 0;
}

static void at(const char *from, const char *params)
{
	assert_int_equal(H_REGISTER(h, .from = from, .call_id = from,
				    .lines = h_keepf(h, "Contact: <sip:bob@%s>%s\n", from, params))
				 ->status,
			 200);
}

/* The next OPTIONS to there, as soon as it leaves; it comes within two intervals. */
static const struct sip_msg *asked(const char *to)
{
	for (unsigned ms = 0; ms < 2 * INTERVAL; ms += 100) {
		const struct sip_msg *m = h_take_request(h, to, "OPTIONS");
		if (m)
			return m;
		h_run(h, 100);
	}
	fail_msg("nobody asked %s", to);
	return NULL;
}

/* The phone there answers what it is asked meanwhile. */
static void run_with(const char *phone, msec_t ms)
{
	for (msec_t end = h_now(h) + ms; h_now(h) < end; h_run(h, 100)) {
		const struct sip_msg *m = h_take_request(h, phone, "OPTIONS");
		if (m)
			H_REP(h, m, 200);
	}
}

static void test_reachable(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	at(H_A, "");
	const struct sip_msg *m = asked(H_A);
	assert_string_equal(h_ruri(h, m), "sip:bob@" H_A);
	h_assert_hdr(h, m, "To", "<sip:bob@" H_A ">");
	h_assert_hdr(h, m, "Max-Forwards", "70");
	/* any answer of the phone shows that it is there */
	H_REP(h, m, 486);
	assert_int_equal(counters_sum(CNT_QUALIFY_OK), 1);
	assert_int_equal(counters_sum(CNT_QUALIFY_FAILED), 0);
	/* and again, once an interval */
	for (unsigned i = 0; i < 20; i++)
		H_REP(h, asked(H_A), 200);
	msec_t begun = h_now(h);
	for (unsigned i = 0; i < 10; i++)
		H_REP(h, asked(H_A), 200);
	assert_in_range(h_now(h) - begun, 10 * INTERVAL - 2000, 10 * INTERVAL + 2000);
	assert_int_equal(counters_sum(CNT_QUALIFY_SENT), 31);
	assert_int_equal(counters_sum(CNT_QUALIFY_OK), 31);
	H_CALL(h, H_A, BOB);
}

/* One that is silent is not tried as long as another is there; when it answers it is. */
static void test_unreachable(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	at(H_A, ";q=0.9");
	at(H_B, ";q=0.5");
	run_with(H_B, INTERVAL + 2 * TIMEOUT);
	assert_in_range(counters_sum(CNT_QUALIFY_FAILED), 1, 2);
	assert_true(counters_sum(CNT_QUALIFY_OK) > 0);
	h_forget(h);
	const struct sip_msg *invite = H_CALL(h, H_B, BOB);
	assert_null(h_take_request(h, H_A, "INVITE"));
	H_REP(h, invite, 486);
	h_expect_response(h, H_CALLER, 486);
	h_forget(h);
	H_REP(h, asked(H_A), 200);
	h_run(h, 100);
	H_CALL(h, H_A, BOB, .call_id = "second");
}

/* A proxy on the way that answers for it says the same. When nobody is reachable, all are tried: the state may be
 * old. */
static void test_nobody_reachable(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	at(H_A, "");
	H_REP(h, asked(H_A), 408);
	assert_int_equal(counters_sum(CNT_QUALIFY_FAILED), 1);
	h_run(h, 100);
	H_CALL(h, H_A, BOB);
	h_forget(h);
	/* registering shows that it is there */
	at(H_B, "");
	at(H_A, "");
	H_CALL(h, H_A, BOB, .call_id = "second");
	h_expect_request(h, H_B, "INVITE");
}

/* It registers while its answer is waited for. */
static void test_registers_meanwhile(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	at(H_A, ";q=0.9");
	at(H_B, ";q=0.1");
	asked(H_A);
	h_run(h, TIMEOUT / 2);
	at(H_A, ";q=0.9");
	h_run(h, TIMEOUT / 2 + 100);
	assert_in_range(counters_sum(CNT_QUALIFY_FAILED), 1, 2);
	h_forget(h);
	H_CALL(h, H_A, BOB);
}

static void test_undeliverable(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	at(H_A, "");
	h_undeliverable(h, asked(H_A));
	assert_int_equal(counters_sum(CNT_QUALIFY_FAILED), 1);
}

/* Many are asked one after the other, not in a burst. */
static void test_spread(void **state)
{
	(void)state;
	enum { PHONES = 500 };
	start(CONF(QUALIFY));
	for (unsigned i = 0; i < PHONES; i++)
		assert_int_equal(
			H_REGISTER(h, .name = h_keepf(h, "u%u", i), .from = H_C,
				   .lines = h_keepf(h, "Contact: <sip:u%u@192.0.2.%u>\n", i, 1 + i % 250))
				->status,
			200);
	h_run(h, INTERVAL);
	h_forget(h);
	unsigned before = (unsigned)counters_sum(CNT_QUALIFY_SENT), most = 0;
	for (unsigned s = 0; s < 3 * INTERVAL / 1000; s++) {
		unsigned had = (unsigned)counters_sum(CNT_QUALIFY_SENT);
		h_run(h, 1000);
		h_forget(h);
		unsigned sent = (unsigned)counters_sum(CNT_QUALIFY_SENT) - had;
		if (sent > most)
			most = sent;
	}
	/* 50 a second would be even. */
	assert_true(most < 100);
	assert_in_range(counters_sum(CNT_QUALIFY_SENT) - before, 2 * PHONES, 4 * PHONES);
}

/* Over a connection: who does not answer there is gone, and so are its connection and what is bound to it. */
static void test_connection(void **state)
{
	(void)state;
	start(CONF(QUALIFY));
	uint64_t conn = h_conn_open(h, "tcp:192.0.2.30:40000");
	H_REGISTER(h, .conn = conn, .lines = "Contact: <sip:bob@10.0.0.1:5060;transport=tcp>\n");
	const struct sip_msg *m = asked("192.0.2.30:40000");
	assert_int_equal(h_sent_conn(h, m), conn);
	H_REP(h, m, 200, .conn = conn);
	assert_int_equal(h_bindings(h, "bob"), 1);
	m = asked("192.0.2.30:40000");
	h_run(h, TIMEOUT + 100);
	h_conn_news(h);
	assert_int_equal(h_bindings(h, "bob"), 0);
	assert_int_equal(counters_sum(CNT_QUALIFY_FAILED), 1);
}

/* As after a crash: nobody tells of the end of a connection that is of an earlier run. */
static void test_forgotten_connection(void **state)
{
	(void)state;
	start(CONF(""));
	uint64_t conn = h_conn_open(h, "tcp:192.0.2.30:40000");
	H_REGISTER(h, .conn = conn, .lines = "Contact: <sip:bob@10.0.0.1:5060;transport=tcp>\n");
	h_restart(h);
	assert_int_equal(h_bindings(h, "bob"), 1);
	h_run(h, 61000);
	assert_int_equal(h_bindings(h, "bob"), 0);
}

static void test_expiry(void **state)
{
	(void)state;
	start(CONF(""));
	at(H_A, ";expires=60");
	assert_int_equal(H_REGISTER(h, .name = "alice", .from = H_B,
				    .lines = "Contact: <sip:alice@192.0.2.22>;expires=600\n"
					     "Contact: <sip:alice@192.0.2.23>;expires=60\n")
				 ->status,
			 200);
	h_run(h, 59000);
	assert_int_equal(h_registered(h), 2);
	assert_int_equal(counters_sum(CNT_BINDINGS_EXPIRED), 0);
	h_run(h, 35000);
	assert_int_equal(h_registered(h), 1);
	assert_int_equal(h_bindings(h, "alice"), 1);
	assert_int_equal(counters_sum(CNT_BINDINGS_EXPIRED), 2);
	h_run(h, 600000);
	assert_int_equal(h_registered(h), 0);
}

static void test_nat_keepalive(void **state)
{
	(void)state;
	start(CONF("nat_keepalive = 20s"));
	at(H_A, "");
	h_run(h, 100000);
	assert_int_equal(h_keepalives(h), 0); /* it is where it says */
	H_REGISTER(h, .name = "alice", .from = "192.0.2.30:40000", .lines = "Contact: <sip:alice@10.0.0.1>\n");
	h_run(h, 100000);
	assert_in_range(h_keepalives(h), 4, 6);
	h_expect_silence(h);
}

/* Without qualify_interval nobody is asked; and when the proxy ends, what is under way does. */
static void test_off_and_end(void **state)
{
	(void)state;
	start(CONF(""));
	at(H_A, "");
	h_run(h, 100000);
	h_expect_silence(h);
	h_stop(h);
	start(CONF(QUALIFY));
	at(H_A, "");
	asked(H_A);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_reachable, teardown),
		cmocka_unit_test_teardown(test_unreachable, teardown),
		cmocka_unit_test_teardown(test_nobody_reachable, teardown),
		cmocka_unit_test_teardown(test_registers_meanwhile, teardown),
		cmocka_unit_test_teardown(test_undeliverable, teardown),
		cmocka_unit_test_teardown(test_spread, teardown),
		cmocka_unit_test_teardown(test_connection, teardown),
		cmocka_unit_test_teardown(test_forgotten_connection, teardown),
		cmocka_unit_test_teardown(test_expiry, teardown),
		cmocka_unit_test_teardown(test_nat_keepalive, teardown),
		cmocka_unit_test_teardown(test_off_and_end, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
