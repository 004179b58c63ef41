/* Connections that end, and peers that do not acknowledge: what becomes of the branches (RFC 3261 16.7, 16.9). */
#include "proxy/gateway.h"
#include "stream.h"

static void test_lost_before_an_answer(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *a = H_CALL(h, H_A);
	uint64_t conn = h_sent_conn(h, a);
	const struct sip_msg *other = H_CALL(h, H_A, .call_id = "other");
	assert_true(h_sent_conn(h, other) == conn);
	h_conn_lose(h, conn);
	/* both hear of it at once, and the next target is tried */
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	h_expect_request(h, H_B, "INVITE");
	assert_int_equal(counters_sum(CNT_BRANCH_CONN_LOST), 2);
	assert_int_equal(counters_sum(CNT_BRANCH_TRANSPORT), 0);
	h_conn_lose(h, h_sent_conn(h, b));
	h_expect_response(h, H_CALLER, 500);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	h_run(h, 100000);
	h_assert_idle(h);
	h_stop(h);
}

static void test_lost_while_ringing(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *a = H_CALL(h, H_A);
	H_REP(h, a, 180);
	h_expect_response(h, H_CALLER, 180);
	h_conn_lose(h, h_sent_conn(h, a));
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_conn_lose(h, h_sent_conn(h, b)); /* it has done its work */
	h_expect_silence(h);
	/* other requests */
	H_REQ(h, .method = "MESSAGE", .call_id = "m");
	a = h_expect_request(h, H_A, "MESSAGE");
	h_conn_lose(h, h_sent_conn(h, a));
	b = h_expect_request(h, H_B, "MESSAGE");
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

/* The CANCEL and the ACK of what has gone: nothing to be done, nothing to hang. */
static void test_cancel_and_ack_on_the_dead(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *a = H_CALL(h, H_A);
	H_REP(h, a, 180);
	h_expect_response(h, H_CALLER, 180);
	h_conn_cut(h, h_sent_conn(h, a)); /* the news are still on their way */
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	assert_int_equal(counters_sum(CNT_DROP_SEND), 1);
	h_conn_news(h);
	h_expect_response(h, H_CALLER, 500); /* nobody said 487 */
	h_expect_silence(h);
	a = H_CALL(h, H_A, .call_id = "two");
	uint64_t conn = h_sent_conn(h, a);
	h_conn_cut(h, conn);
	H_REP(h, a, 486); /* came before the end */
	h_expect_response(h, H_CALLER, 486);
	assert_int_equal(counters_sum(CNT_DROP_SEND), 2); /* the ACK */
	h_conn_news(h);
	h_expect_silence(h);
	h_stop(h);
}

/* The peer's host is silent: the next target after ack_timeout, while the first may still come. */
static const struct sip_msg *unacked(struct harness *h, const struct sip_msg **b)
{
	h_conn_silent(h, H_A, true);
	const struct sip_msg *a = H_CALL(h, H_A);
	h_run(h, 1900);
	h_expect_silence(h);
	h_run(h, 200);
	*b = h_expect_request(h, H_B, "INVITE");
	assert_int_equal(counters_sum(CNT_BRANCH_ACK_TIMEOUT), 1);
	h_expect_silence(h);
	return a;
}

static void test_unacked(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b;
	unacked(h, &b);
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 100000); /* Timer B of the first has nothing to tell */
	h_expect_silence(h);
	assert_int_equal(counters_sum(CNT_BRANCH_TIMEOUT), 0);
	h_assert_idle(h);
	/* neither: the caller knows after twice ack_timeout */
	h_conn_silent(h, H_B, true);
	H_CALL(h, H_A, .call_id = "two");
	h_run(h, 2100);
	h_expect_request(h, H_B, "INVITE");
	h_run(h, 2100);
	h_expect_response(h, H_CALLER, 500);
	h_expect_silence(h);
	/* acknowledged, and yet no answer: that takes Timer B */
	h_conn_silent(h, H_A, false);
	H_CALL(h, H_A, .call_id = "three");
	h_run(h, 31000);
	h_expect_silence(h);
	h_run(h, 1100);
	h_expect_request(h, H_B, "INVITE");
	h_stop(h);
}

static void test_late_provisional_is_cancelled(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, a, 180); /* its phone rings, and nobody would answer for it */
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_string_equal(h_branch(h, cancel), h_branch(h, a));
	h_expect_silence(h);
	H_REP(h, a, 180); /* once */
	h_expect_silence(h);
	H_REP(h, cancel, 200);
	H_REP(h, a, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	h_run(h, 100000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

/* The phone that is cancelled says nothing any more: the context does not live for ever. */
static void test_late_and_then_silent(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	H_REP(h, b, 486);
	h_expect_request(h, H_B, "ACK");
	h_expect_response(h, H_CALLER, 486);
	H_REP(h, a, 100);
	h_expect_request(h, H_A, "CANCEL");
	h_run(h, 100000);
	h_expect_silence(h);
	h_assert_idle(h);
	h_stop(h);
}

static void test_late_2xx(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, a, 200, .to_tag = "late"); /* 16.7 step 5: every 2xx */
	const struct sip_msg *r = h_expect_response(h, H_CALLER, 200);
	assert_non_null(strstr(h_hdr(h, r, "To", 0), "tag=late"));
	h_expect_silence(h);
	h_stop(h);
	/* before the other has one: it wins, and the other is cancelled */
	h = s_start();
	a = unacked(h, &b);
	H_REP(h, b, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, a, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_request(h, H_B, "CANCEL");
	h_expect_silence(h);
	h_stop(h);
}

static void test_late_final(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	H_REP(h, b, 404);
	h_expect_request(h, H_B, "ACK");
	h_expect_response(h, H_CALLER, 404);
	H_REP(h, a, 486); /* absorbed */
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	h_stop(h);
	/* in time, it counts */
	h = s_start();
	a = unacked(h, &b);
	H_REP(h, a, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	H_REP(h, b, 503);
	h_expect_request(h, H_B, "ACK");
	h_expect_response(h, H_CALLER, 486);
	h_expect_silence(h);
	h_stop(h);
}

/* The caller has had its answer, and has changed its connection when a 2xx comes after all. */
static void test_late_2xx_to_one_who_moved(void **state)
{
	(void)state;
	struct harness *h = s_start();
	uint64_t first = h_conn_open(h, "tcp:192.0.2.10:40000"),
		 second = h_conn_open(h, "tcp:192.0.2.10:40001");
	h_conn_silent(h, H_A, true);
	const struct sip_msg *a = H_CALL(h, H_A, .conn = first, .via = "pc.test");
	h_run(h, 2100);
	const struct sip_msg *b = h_expect_request(h, H_B, "INVITE");
	H_REP(h, b, 404);
	h_expect_request(h, H_B, "ACK");
	h_expect_response(h, "192.0.2.10:40000", 404);
	h_conn_lose(h, first);
	H_REQ(h, .conn = second, .via = "pc.test");
	h_expect_response(h, "192.0.2.10:40001", 404);
	H_REP(h, a, 200);
	const struct sip_msg *r = h_expect_response(h, "192.0.2.10:40001", 200);
	assert_true(h_sent_conn(h, r) == second);
	h_expect_silence(h);
	h_stop(h);
}

/* The context is still interested: the branch counts again, beside the one that was started in its place. */
static void test_late_and_welcome(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	H_REP(h, a, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, b, 482); /* RFC 3261 8.2.2.2: the same call again */
	h_expect_request(h, H_B, "ACK");
	h_expect_silence(h);
	H_REP(h, a, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
	/* it fails after all */
	h = s_start();
	a = unacked(h, &b);
	H_REP(h, a, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REP(h, b, 404);
	h_expect_request(h, H_B, "ACK");
	h_conn_lose(h, h_sent_conn(h, a));
	h_expect_response(h, H_CALLER, 404);
	h_expect_silence(h);
	h_stop(h);
	/* the caller cancels both */
	h = s_start();
	a = unacked(h, &b);
	H_REP(h, a, 180);
	H_REP(h, b, 180);
	h_expect_response(h, H_CALLER, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, h_expect_request(h, H_A, "CANCEL"), 200);
	H_REP(h, h_expect_request(h, H_B, "CANCEL"), 200);
	H_REP(h, a, 487);
	H_REP(h, b, 487);
	h_expect_response(h, H_CALLER, 487);
	h_stop(h);
}

/* The caller hangs up before the peer has acknowledged anything. */
static void test_cancelled_while_unacked(void **state)
{
	(void)state;
	struct harness *h = s_start();
	h_conn_silent(h, H_A, true);
	const struct sip_msg *a = H_CALL(h, H_A);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 2100);
	h_expect_response(h, H_CALLER, 487); /* no other target is tried */
	h_expect_silence(h);
	H_REP(h, a, 180);
	h_expect_request(h, H_A, "CANCEL");
	H_REP(h, a, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_silence(h);
	h_stop(h);
}

static void test_unacked_then_lost(void **state)
{
	(void)state;
	struct harness *h = s_start();
	const struct sip_msg *b, *a = unacked(h, &b);
	h_conn_lose(h, h_sent_conn(h, a));
	assert_int_equal(counters_sum(CNT_BRANCH_CONN_LOST), 0); /* it has been counted */
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_expect_silence(h);
	h_stop(h);
}

/* Non-INVITE: the next one, and a late answer is nobody's. */
static void test_unacked_message(void **state)
{
	(void)state;
	struct harness *h = s_start();
	h_conn_silent(h, H_A, true);
	H_REQ(h, .method = "MESSAGE");
	const struct sip_msg *a = h_expect_request(h, H_A, "MESSAGE");
	h_run(h, 2100);
	const struct sip_msg *b = h_expect_request(h, H_B, "MESSAGE");
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, a, 200);
	h_expect_silence(h);
	h_assert_idle(h);
	/* late, and in time */
	H_REQ(h, .method = "MESSAGE", .call_id = "2");
	a = h_expect_request(h, H_A, "MESSAGE");
	h_run(h, 2100);
	b = h_expect_request(h, H_B, "MESSAGE");
	H_REP(h, a, 202);
	h_expect_response(h, H_CALLER, 202);
	H_REP(h, b, 200);
	h_expect_silence(h);
	h_stop(h);
}

static void test_no_connection_to_be_had(void **state)
{
	(void)state;
	struct harness *h = s_start();
	h_conn_refuse(h, H_A);
	const struct sip_msg *b = H_CALL(h, H_B);
	H_REP(h, b, 200);
	h_expect_response(h, H_CALLER, 200);
	h_conn_refuse(h, H_B);
	H_REQ(h, .call_id = "two");
	h_expect_response(h, H_CALLER, 100);
	h_expect_response(h, H_CALLER, 500);
	H_REQ(h, .call_id = "three", .ruri = "sip:x@to.test;transport=tcp");
	h_expect_response(h, H_CALLER, 100);
	h_resolved(h, h_expect_resolve(h, "to.test"), 0,
		   "tcp:192.0.2.21:5060 tcp:192.0.2.22:5060 tcp:192.0.2.23:5060");
	h_expect_request(h, H_C, "INVITE");
	h_expect_silence(h);
	h_stop(h);
}

/* Probes over TCP: a connection that ends, or a peer that does not acknowledge, is a target that does not answer. */
static void test_probes(void **state)
{
	(void)state;
	struct harness *h = h_start_on("listen \"udp:192.0.2.1:5060\" { }\n"
				       "gateway \"gw\" { target = {\"sip:192.0.2.21\"} probe_interval = 10s "
				       "probe_timeout = 5s }\n"
				       "route \"all\" { gateway = \"gw\" }\n",
				       "tcp:192.0.2.1:5060"); /* which then is what a plain URI means */
	h_run(h, 10);
	const struct sip_msg *m = h_expect_request(h, H_A, "OPTIONS");
	assert_non_null(strstr(s_via(h, m), "SIP/2.0/TCP 192.0.2.1:5060"));
	const struct gateway_state *s = &h_shared(h)->states->state[0];
	H_REP(h, m, 200);
	assert_int_equal(s->down, 0);
	h_run(h, 10020);
	m = h_expect_request(h, H_A, "OPTIONS");
	h_conn_lose(h, h_sent_conn(h, m));
	assert_int_equal(s->down, 1);
	h_run(h, 10020);
	H_REP(h, h_expect_request(h, H_A, "OPTIONS"), 200);
	assert_int_equal(s->down, 0);
	h_conn_silent(h, H_A, true);
	h_run(h, 10020);
	m = h_expect_request(h, H_A, "OPTIONS");
	h_run(h, 2100);
	assert_int_equal(s->down, 1);
	h_conn_silent(h, H_A, false);
	h_run(h, 7940);
	H_REP(h, h_expect_request(h, H_A, "OPTIONS"), 200); /* the next one is on time */
	assert_int_equal(s->down, 0);
	h_conn_refuse(h, H_A);
	h_conn_lose(h, h_sent_conn(h, m));
	h_run(h, 10020);
	assert_int_equal(s->down, 1);
	h_expect_silence(h);
	h_stop(h);
}

/* An answered probe lingers for copies of the answer (Timer K), and the next one does not wait for that. */
static void test_probes_often(void **state)
{
	(void)state;
	struct harness *h =
		h_start(H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21\"} probe_interval = 2s }\n"
				 "route \"all\" { gateway = \"gw\" }\n");
	h_run(h, 10);
	for (unsigned i = 0; i < 4; i++) {
		const struct sip_msg *m = h_expect_request(h, H_A, "OPTIONS");
		H_REP(h, m, 200);
		H_REP(h, m, 200);
		h_run(h, 2020);
	}
	assert_int_equal(h_shared(h)->states->state[0].probes, 4);
	h_run(h, 3000); /* and then no answer */
	assert_int_equal(h_shared(h)->states->state[0].down, 1);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_before_an_answer),
		cmocka_unit_test(test_lost_while_ringing),
		cmocka_unit_test(test_cancel_and_ack_on_the_dead),
		cmocka_unit_test(test_unacked),
		cmocka_unit_test(test_late_provisional_is_cancelled),
		cmocka_unit_test(test_late_and_then_silent),
		cmocka_unit_test(test_late_2xx),
		cmocka_unit_test(test_late_final),
		cmocka_unit_test(test_late_2xx_to_one_who_moved),
		cmocka_unit_test(test_late_and_welcome),
		cmocka_unit_test(test_cancelled_while_unacked),
		cmocka_unit_test(test_unacked_then_lost),
		cmocka_unit_test(test_unacked_message),
		cmocka_unit_test(test_no_connection_to_be_had),
		cmocka_unit_test(test_probes),
		cmocka_unit_test(test_probes_often),
	};
	return cmocka_run_group_tests_name("proxy_lost", tests, NULL, NULL);
}
