/* Target sets of more than one: the gateway policies, and the choice of the response (RFC 3261 16.6, 16.7). */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define PARALLEL H_CONF_THREE("parallel")
#define SERIAL   H_CONF_THREE("serial")
#define CONF_TWO(policy)                                                                                      \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21\", \"sip:192.0.2.22\"} policy = " policy " }\n" \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"

struct three {
	const struct sip_msg *a, *b, *c;
};

static struct three fork_three(struct harness *h)
{
	struct three t;
	t.a = H_CALL(h, H_A);
	t.b = h_expect_request(h, H_B, "INVITE");
	t.c = h_expect_request(h, H_C, "INVITE");
	h_expect_silence(h);
	return t;
}

static void final(struct harness *h, const struct sip_msg *req, unsigned status)
{
	H_REP(h, req, status, .to_tag = h_keepf(h, "tag-%s-%u", h_sent_to(h, req), status));
	if (status >= 300)
		h_expect_request(h, h_sent_to(h, req), "ACK");
}

static void test_parallel(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	assert_string_not_equal(h_branch(h, t.a), h_branch(h, t.b));
	assert_string_not_equal(h_branch(h, t.b), h_branch(h, t.c));
	assert_string_equal(h_ruri(h, t.c), "sip:bob@192.0.2.23");
	/* RFC 5393 5.3.3: what the branches get together is no more than there was */
	int sum = 0;
	const struct sip_msg *all[] = {t.a, t.b, t.c};
	for (int i = 0; i < 3; i++) {
		const char *breadth = h_hdr(h, all[i], "Max-Breadth", 0);
		assert_non_null(breadth);
		assert_true(atoi(breadth) >= 1);
		sum += atoi(breadth);
	}
	assert_true(sum <= 60);
	h_stop(h);
}

static void test_first_ok_wins(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 180, .to_tag = "a");
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, t.b, 180, .to_tag = "b");
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, t.c, 100);
	h_expect_silence(h);
	H_REP(h, t.b, 200, .to_tag = "b");
	assert_true(h_has(h_expect_response(h, H_CALLER, 200), "tag=b"));
	/* 16.7 step 10: the others are cancelled */
	const struct sip_msg *ca = h_expect_request(h, H_A, "CANCEL"), *cc = h_expect_request(h, H_C, "CANCEL");
	assert_string_equal(h_branch(h, ca), h_branch(h, t.a));
	assert_string_equal(h_branch(h, cc), h_branch(h, t.c));
	h_expect_silence(h);
	H_REP(h, ca, 200);
	H_REP(h, cc, 200);
	final(h, t.a, 487);
	final(h, t.c, 487);
	h_expect_silence(h);
	h_run(h, 200000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* 16.7 step 5: every 2xx goes back at once, also those that crossed the CANCEL. */
static void test_every_ok_goes_back(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	final(h, t.a, 200);
	h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 200));
	h_expect_silence(h); /* no provisional came from the others: their CANCELs wait (9.1) */
	final(h, t.c, 200);
	h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 200));
	H_REP(h, t.b, 180);
	h_take_response(h, H_CALLER, 180); /* may go or not */
	h_expect_request(h, H_B, "CANCEL");
	final(h, t.b, 200);
	h_assert_passed(h, h_last_received(h), h_expect_response(h, H_CALLER, 200));
	h_expect_silence(h);
	h_stop(h);
}

/* A final response other than 2xx and 6xx waits for the rest (16.7 step 5 and 6). */
static void test_waits_for_all(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	final(h, t.a, 486);
	h_expect_silence(h);
	final(h, t.b, 404);
	h_expect_silence(h);
	final(h, t.c, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

static unsigned best_of(unsigned a, unsigned b, unsigned c)
{
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	final(h, t.a, a);
	final(h, t.b, b);
	final(h, t.c, c);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 0);
	unsigned status = m->status;
	h_ack(h, &(struct h_req){0}, m);
	h_expect_silence(h);
	h_run(h, 40000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
	return status;
}

/* 16.7 step 6: 6xx before all, then the lowest class; in 4xx those that help the caller to ask again. */
static void test_best_response(void **state)
{
	(void)state;
	assert_int_equal(best_of(486, 603, 404), 603);
	assert_int_equal(best_of(600, 300, 404), 600);
	assert_int_equal(best_of(500, 302, 404), 302);
	assert_int_equal(best_of(404, 500, 302), 302);
	assert_int_equal(best_of(500, 486, 580), 486);
	assert_int_equal(best_of(503, 486, 503), 486);
	assert_int_equal(best_of(503, 503, 503), 500);
	assert_int_equal(best_of(503, 501, 503), 501);
	assert_int_equal(best_of(404, 407, 486), 407);
	assert_int_equal(best_of(486, 404, 401), 401);
	assert_int_equal(best_of(415, 404, 486), 415);
	assert_int_equal(best_of(404, 420, 486), 420);
	assert_int_equal(best_of(404, 486, 484), 484);
}

/* 408 of our own (Timer B) counts like one received; a real 4xx says more. */
static void test_timeout_among_others(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_TWO("parallel"));
	const struct sip_msg *a = H_CALL(h, H_A);
	h_expect_request(h, H_B, "INVITE");
	final(h, a, 503);
	h_run(h, 32100);
	h_expect_response(h, H_CALLER, 408);
	h_expect_silence(h);
	h_stop(h);
}

/* 16.7 step 5 and 10: a 6xx cancels the rest, and goes back when all have ended; a 2xx that crosses still wins. */
static void test_global_failure(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, t.b, 180);
	h_expect_response(h, H_CALLER, 180);
	final(h, t.c, 603);
	h_expect_request(h, H_A, "CANCEL");
	h_expect_request(h, H_B, "CANCEL");
	h_expect_silence(h);
	final(h, t.a, 487);
	h_expect_silence(h);
	final(h, t.b, 487);
	h_expect_response(h, H_CALLER, 603);
	h_expect_silence(h);
	h_stop(h);
}

/* 16.7 step 5: after a 6xx nothing new is begun, also not another address of a target whose CANCEL went wrong. */
static void test_nothing_after_global_failure(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct harness *h = h_start(
			H_LISTEN
			"gateway \"gw\" { target = {\"sip:two.test\", \"sip:192.0.2.22\"} policy = parallel }\n"
			"route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
		const struct sip_msg *b = H_CALL(h, H_B);
		h_resolved(h, h_expect_resolve(h, "two.test"), 0, "192.0.2.21:5060 192.0.2.23:5060");
		const struct sip_msg *a = h_expect_request(h, H_A, "INVITE");
		H_REP(h, a, 180);
		h_expect_response(h, H_CALLER, 180);
		final(h, b, 603);
		h_expect_request(h, H_A, "CANCEL");
		if (i == 0)
			final(h, a, 503);
		else
			h_run(h, 32100);
		h_expect_response(h, H_CALLER, 603);
		h_expect_silence(h);
		h_stop(h);
	}
}

static void test_ok_beats_global_failure(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 180);
	H_REP(h, t.b, 180);
	h_forget(h);
	final(h, t.c, 603);
	h_expect_request(h, H_A, "CANCEL");
	h_expect_request(h, H_B, "CANCEL");
	final(h, t.a, 200);
	h_expect_response(h, H_CALLER, 200);
	final(h, t.b, 487);
	h_expect_silence(h);
	h_stop(h);
}

/* 16.7 step 7: all challenges of 401 and 407 go into the one that is chosen. */
static void test_challenges(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 401, .extra = "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\n");
	H_REP(h, t.b, 407,
	      .extra = "Proxy-Authenticate: Digest realm=\"b\", nonce=\"2\"\n"
		       "Proxy-Authenticate: Digest realm=\"b2\", nonce=\"3\"\n");
	H_REP(h, t.c, 401, .extra = "WWW-Authenticate: Digest realm=\"c\",\n  nonce=\"4\"\n");
	const struct sip_msg *m = h_take_response(h, H_CALLER, 401);
	if (!m)
		m = h_expect_response(h, H_CALLER, 407);
	assert_int_equal(h_hdr_count(m, "WWW-Authenticate"), 2);
	assert_int_equal(h_hdr_count(m, "Proxy-Authenticate"), 2);
	assert_true(h_has(m, "realm=\"a\", nonce=\"1\""));
	assert_true(h_has(m, "realm=\"b\", nonce=\"2\""));
	assert_true(h_has(m, "realm=\"b2\", nonce=\"3\""));
	assert_true(h_has(m, "nonce=\"4\""));
	h_stop(h);
}

static void test_challenges_among_others(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 407, .extra = "Proxy-Authenticate: Digest realm=\"a\", nonce=\"1\"\n");
	final(h, t.b, 404);
	H_REP(h, t.c, 603);
	/* 6xx is chosen: no challenge belongs into it */
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 603);
	assert_int_equal(h_hdr_count(m, "Proxy-Authenticate"), 0);
	h_stop(h);
}

/* --- serial --- */

/* More challenges than a message has room for: the caller gets those of the best one. */
static void test_challenges_too_many(void **state)
{
	(void)state;
	static char body[62000];
	struct harness *h = h_start(CONF_TWO("parallel"));
	const struct sip_msg *a = H_CALL(h, H_A), *b = h_expect_request(h, H_B, "INVITE");
	memset(body, 'x', sizeof(body) - 1);
	H_REP(h, a, 401, .extra = "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\n", .body = body);
	H_REP(h, b, 401,
	      .extra = h_keepf(h, "WWW-Authenticate: Digest realm=\"b\", nonce=\"%.8000s\"\n", body));
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 401);
	assert_true(h_has(m, "realm=\"a\""));
	h_ack(h, &(struct h_req){0}, m);
	h_run(h, 40000);
	h_assert_idle(h);
	h_stop(h);
}

static void test_serial_fails_over(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	const struct sip_msg *a = H_CALL(h, H_A);
	h_expect_silence(h);
	final(h, a, 503);
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	h_expect_silence(h);
	assert_string_not_equal(h_branch(h, a), h_branch(h, b));
	h_undeliverable(h, b);
	const struct sip_msg *c = h_expect_request(h, H_C, "INVITE");
	assert_string_equal(h_ruri(h, c), "sip:bob@192.0.2.23");
	h_expect_silence(h);
	H_REP(h, c, 180);
	h_expect_response(h, H_CALLER, 180);
	final(h, c, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

static void test_serial_timeout(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	const struct sip_msg *a = H_CALL(h, H_A);
	h_run(h, 32100);
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	h_expect_silence(h);
	/* the first wakes up: RFC 6026, its transaction is gone */
	H_REP(h, a, 200);
	h_expect_silence(h);
	final(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_stop(h);
}

static void test_serial_all_fail(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	const struct sip_msg *m = H_CALL(h, H_A);
	final(h, m, 503);
	m = h_expect_request(h, H_B, "INVITE");
	final(h, m, 503);
	m = h_expect_request(h, H_C, "INVITE");
	final(h, m, 503);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_stop(h);
}

/* 16.7 step 5: after a 6xx nobody else is asked. */
static void test_serial_stops_at_global_failure(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	final(h, H_CALL(h, H_A), 603);
	h_expect_response(h, H_CALLER, 603);
	h_expect_silence(h);
	h_stop(h);
}

static void test_serial_timer_c(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	const struct sip_msg *a = H_CALL(h, H_A);
	H_REP(h, a, 180);
	h_expect_response(h, H_CALLER, 180);
	h_run(h, 181100);
	h_expect_request(h, H_A, "CANCEL");
	final(h, a, 487);
	/* 16.8: the caller has not given up, so the search goes on */
	h_expect_request(h, H_B, "INVITE");
	h_expect_silence(h);
	h_stop(h);
}

static void test_serial_other_methods(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *a = h_expect_request(h, H_A, "MESSAGE");
	H_REP(h, a, 503);
	const struct sip_msg *b = h_expect_request(h, H_B, "MESSAGE");
	h_undeliverable(h, b);
	const struct sip_msg *c = h_expect_request(h, H_C, "MESSAGE");
	H_REP(h, c, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

/* When Timer F has fired, so has the caller's: another target would only get what the caller has given up, and maybe
 * sent anew. */
static void test_serial_other_methods_timeout(void **state)
{
	(void)state;
	struct harness *h = h_start(SERIAL);
	H_REQ(h, .method = "MESSAGE");
	h_expect_request(h, H_A, "MESSAGE");
	h_run(h, 120000);
	h_take_response(h, H_CALLER, 100);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
	h = h_start(
		"listen \"udp:192.0.2.1:5060\" { }\nroute \"all\" { domain = \"example.test\" dns = true }\n");
	H_REQ(h, .method = "MESSAGE");
	h_resolved(h, h_expect_resolve(h, "example.test"), 0, "192.0.2.21:5060 192.0.2.22:5060");
	h_expect_request(h, H_A, "MESSAGE");
	h_run(h, 120000);
	h_take_response(h, H_CALLER, 100);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* --- spreading --- */

static const char *where(struct harness *h, const char *call_id)
{
	H_REQ(h, .method = "MESSAGE", .call_id = call_id);
	const struct sip_msg *m = h_take_request(h, NULL, "MESSAGE");
	assert_non_null(m);
	H_REP(h, m, 200);
	h_forget(h);
	return h_sent_to(h, m);
}

static void test_round_robin(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("round-robin"));
	const char *first = where(h, "r0"), *second = where(h, "r1"), *third = where(h, "r2");
	assert_string_not_equal(first, second);
	assert_string_not_equal(second, third);
	assert_string_not_equal(first, third);
	for (int i = 0; i < 30; i += 3) {
		assert_string_equal(where(h, h_keepf(h, "r%d", i + 3)), first);
		assert_string_equal(where(h, h_keepf(h, "r%d", i + 4)), second);
		assert_string_equal(where(h, h_keepf(h, "r%d", i + 5)), third);
	}
	h_stop(h);
}

/* Whichever comes first, the others are there for failover, each once. */
static void failover_order(const char *conf)
{
	struct harness *h = h_start(conf);
	H_REQ(h);
	h_expect_response(h, H_CALLER, 100);
	unsigned seen = 0;
	for (int i = 0; i < 3; i++) {
		const struct sip_msg *m = h_take_request(h, NULL, "INVITE");
		assert_non_null(m);
		const char *to = h_sent_to(h, m);
		seen |= strcmp(to, H_A) == 0 ? 1 : strcmp(to, H_B) == 0 ? 2 : 4;
		assert_null(h_take_request(h, NULL, "INVITE"));
		final(h, m, 503);
	}
	assert_int_equal(seen, 7);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_stop(h);
}

static void test_failover_of_each_policy(void **state)
{
	(void)state;
	failover_order(H_CONF_THREE("serial"));
	failover_order(H_CONF_THREE("round-robin"));
	failover_order(H_CONF_THREE("random"));
	failover_order(H_CONF_THREE("hash"));
	failover_order(H_CONF_THREE("weight"));
}

static void test_hash(void **state)
{
	(void)state;
	struct harness *h = h_start(H_CONF_THREE("hash"));
	unsigned seen = 0;
	for (int i = 0; i < 40; i++) {
		const char *call = h_keepf(h, "hash-%d", i);
		const char *to = where(h, call);
		/* the same Call-ID again, as another transaction */
		H_REQ(h, .method = "MESSAGE", .call_id = call, .cseq = 2);
		assert_string_equal(h_sent_to(h, h_take_request(h, NULL, "MESSAGE")), to);
		h_forget(h);
		seen |= strcmp(to, H_A) == 0 ? 1 : strcmp(to, H_B) == 0 ? 2 : 4;
	}
	assert_int_equal(seen, 7);
	h_stop(h);
}

static void test_weight(void **state)
{
	(void)state;
	struct harness *h = h_start(H_LISTEN "gateway \"gw\" { target = {\"<sip:192.0.2.21>;weight=3\", "
					     "\"<sip:192.0.2.22>;weight=1\"} policy = weight }\n"
					     "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n");
	unsigned a = 0;
	for (int i = 0; i < 800; i++)
		a += strcmp(where(h, h_keepf(h, "w%d", i)), H_A) == 0;
	/* 600 expected; 12 is the standard deviation */
	assert_in_range(a, 540, 660);
	h_stop(h);
}

static void test_random(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_TWO("random"));
	unsigned a = 0;
	for (int i = 0; i < 400; i++)
		a += strcmp(where(h, h_keepf(h, "r%d", i)), H_A) == 0;
	assert_in_range(a, 140, 260);
	h_stop(h);
}

/* A CANCEL finds the branches of whatever policy. */
static void test_cancel_of_a_fork(void **state)
{
	(void)state;
	struct harness *h = h_start(PARALLEL);
	struct three t = fork_three(h);
	H_REP(h, t.a, 180);
	h_expect_response(h, H_CALLER, 180);
	final(h, t.b, 486);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_A, "CANCEL");
	h_expect_silence(h); /* b has ended, c has said nothing yet */
	H_REP(h, t.c, 100);
	h_expect_request(h, H_C, "CANCEL");
	final(h, t.a, 487);
	h_expect_silence(h);
	final(h, t.c, 487);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 0);
	assert_true(m->status == 487 || m->status == 486);
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parallel),
		cmocka_unit_test(test_first_ok_wins),
		cmocka_unit_test(test_every_ok_goes_back),
		cmocka_unit_test(test_waits_for_all),
		cmocka_unit_test(test_best_response),
		cmocka_unit_test(test_timeout_among_others),
		cmocka_unit_test(test_global_failure),
		cmocka_unit_test(test_nothing_after_global_failure),
		cmocka_unit_test(test_ok_beats_global_failure),
		cmocka_unit_test(test_challenges),
		cmocka_unit_test(test_challenges_among_others),
		cmocka_unit_test(test_challenges_too_many),
		cmocka_unit_test(test_serial_fails_over),
		cmocka_unit_test(test_serial_timeout),
		cmocka_unit_test(test_serial_all_fail),
		cmocka_unit_test(test_serial_stops_at_global_failure),
		cmocka_unit_test(test_serial_timer_c),
		cmocka_unit_test(test_serial_other_methods),
		cmocka_unit_test(test_serial_other_methods_timeout),
		cmocka_unit_test(test_round_robin),
		cmocka_unit_test(test_failover_of_each_policy),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_weight),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_cancel_of_a_fork),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
