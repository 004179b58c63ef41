/* Loops, and what bounds a request's way: RFC 3261 16.3, RFC 5393. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

/* Targets that leave the Request-URI alone, so that a message can come back as it was. */
#define CONF_LR                                                          \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21;lr\"} }\n" \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"
#define CONF_FORK                                                                                           \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21\", \"sip:192.0.2.22\"} policy = parallel }\n" \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"

/* What we sent, as a proxy at `from` sends it back to us: its Via on top, our Route taken off, hops counted, the
 * Request-URI perhaps another. */
static void comes_back(struct harness *h, const char *from, const struct sip_msg *m, const char *ruri)
{
	char *lines = h_keepf(h, "%s", "");
	for (unsigned i = 0; i < m->hdr_count; i++) {
		const struct sip_hdr *x = &m->hdrs[i];
		if (x->id == SIP_HDR_ROUTE || x->id == SIP_HDR_MAX_FORWARDS)
			continue;
		lines = h_keepf(h, "%s%.*s", lines, (int)(x->end - x->off), m->buf + x->off);
	}
	struct slice method = sip_slice(m, m->method_name), body = sip_slice(m, m->body);
	h_recv(h, from,
	       SLICE_FMT
	       " %s SIP/2.0\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-back-%s\nMax-Forwards: %d\n%s\n" SLICE_FMT,
	       SLICE_ARG(method), ruri, from, h_branch(h, m) + 7, m->max_forwards - 1, lines, SLICE_ARG(body));
}

static void test_loop(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	const struct sip_msg *m = H_CALL(h, H_A);
	comes_back(h, H_A, m, "sip:bob@example.test");
	h_expect_response(h, H_A, 482);
	h_expect_silence(h);
	assert_int_equal(proxy_contexts(h_proxy(h)), 1);
	/* the one who looped it answers that; it is no 2xx and no 6xx, and goes back to the caller */
	H_REP(h, m, 482);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 482);
	h_expect_silence(h);
	h_stop(h);
}

static void test_loop_of_another_method(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	H_REQ(h, .method = "SUBSCRIBE");
	const struct sip_msg *m = h_expect_request(h, H_A, "SUBSCRIBE");
	comes_back(h, H_A, m, "sip:bob@example.test");
	h_expect_response(h, H_A, 482);
	h_expect_silence(h);
	h_stop(h);
}

/* RFC 3261 16.3 step 4: with another Request-URI it is a spiral, and allowed. */
static void test_spiral(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	const struct sip_msg *m = H_CALL(h, H_A);
	comes_back(h, H_A, m, "sip:carol@example.test");
	h_expect_response(h, H_A, 100);
	const struct sip_msg *second = h_expect_request(h, H_A, "INVITE");
	assert_string_not_equal(h_branch(h, m), h_branch(h, second));
	assert_int_equal(h_hdr_count(second, "Via"), 4);
	/* and back once more to one of the two: a loop behind two others */
	comes_back(h, H_A, second, "sip:bob@example.test");
	h_expect_response(h, H_A, 482);
	h_expect_silence(h);
	/* the responses find their way through both contexts */
	H_REP(h, second, 200);
	const struct sip_msg *ok = h_expect_response(h, H_A, 200);
	assert_int_equal(h_hdr_count(ok, "Via"), 3);
	h_stop(h);
}

/* A Via that looks like ours but was not made by us is no sign of a loop. */
static void test_forged_via_is_no_loop(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	const struct sip_msg *m = H_CALL(h, H_A);
	char *branch = h_keepf(h, "%s", h_branch(h, m));
	size_t last = strlen(branch) - 1;
	branch[last] = branch[last] == 'A' ? 'B' : 'A';
	branch[last - 8] = branch[last - 8] == 'A' ? 'B' : 'A';
	H_REQ(h, .call_id = "call-2",
	      .extra = h_keepf(h, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=%s\n", branch));
	h_expect_response(h, H_CALLER, 100);
	h_expect_request(h, H_A, "INVITE");
	h_expect_silence(h);
	h_stop(h);
}

/* A loop without end stops at 482 long before the hops run out, whatever the fork. */
static void test_loop_ends(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	const struct sip_msg *m = H_CALL(h, H_A);
	unsigned rounds = 0;
	while (m && rounds < 70) {
		rounds++;
		comes_back(h, H_A, m, "sip:bob@example.test");
		m = h_take_request(h, H_A, "INVITE");
	}
	assert_int_equal(rounds, 1);
	h_stop(h);
}

static void test_max_forwards_zero(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_LR);
	H_REQ(h, .max_forwards = "0");
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 483);
	assert_true(m->to_tag.len > 0);
	h_ack(h, &(struct h_req){.max_forwards = "0"}, m);
	h_expect_silence(h);
	H_REQ(h, .method = "MESSAGE", .max_forwards = "0", .call_id = "call-2");
	h_expect_response(h, H_CALLER, 483);
	h_expect_silence(h);
	/* 16.3 step 3: an OPTIONS may be answered for us, if it is not forwarded */
	H_REQ(h, .method = "OPTIONS", .max_forwards = "0", .call_id = "call-3");
	assert_null(h_take_request(h, NULL, NULL));
	assert_non_null(h_take_response(h, H_CALLER, 0));
	h_stop(h);
}

/* RFC 5393 5.3.3.1 */
static void test_breadth_is_added(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_FORK);
	const struct sip_msg *a = H_CALL(h, H_A), *b = h_expect_request(h, H_B, "INVITE");
	int x = atoi(h_hdr(h, a, "Max-Breadth", 0)), y = atoi(h_hdr(h, b, "Max-Breadth", 0));
	assert_true(x >= 1 && y >= 1 && x + y <= 60);
	h_stop(h);
}

static void test_breadth_is_shared(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_FORK);
	const struct sip_msg *a = H_CALL(h, H_A, .extra = "Max-Breadth: 7\n"),
			     *b = h_expect_request(h, H_B, "INVITE");
	int x = atoi(h_hdr(h, a, "Max-Breadth", 0)), y = atoi(h_hdr(h, b, "Max-Breadth", 0));
	assert_int_equal(h_hdr_count(a, "Max-Breadth"), 1);
	assert_true(x >= 1 && y >= 1 && x + y <= 7);
	h_stop(h);
}

/* 5.3.3.2: too little for all at once: 440, or one after the other. */
static void test_breadth_is_too_small(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_FORK);
	H_REQ(h, .extra = "Max-Breadth: 1\n");
	h_take_response(h, H_CALLER, 100);
	const struct sip_msg *m = h_take_request(h, NULL, "INVITE");
	if (!m) {
		h_expect_response(h, H_CALLER, 440);
		h_expect_silence(h);
		h_stop(h);
		return;
	}
	h_assert_hdr(h, m, "Max-Breadth", "1");
	h_expect_silence(h);
	H_REP(h, m, 486);
	h_expect_request(h, h_sent_to(h, m), "ACK");
	const struct sip_msg *next =
		h_expect_request(h, strcmp(h_sent_to(h, m), H_A) == 0 ? H_B : H_A, "INVITE");
	h_assert_hdr(h, next, "Max-Breadth", "1");
	h_expect_silence(h);
	h_stop(h);
}

static void test_breadth_zero(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF_FORK);
	H_REQ(h, .extra = "Max-Breadth: 0\n");
	h_take_response(h, H_CALLER, 100);
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 440));
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loop),
		cmocka_unit_test(test_loop_of_another_method),
		cmocka_unit_test(test_spiral),
		cmocka_unit_test(test_forged_via_is_no_loop),
		cmocka_unit_test(test_loop_ends),
		cmocka_unit_test(test_max_forwards_zero),
		cmocka_unit_test(test_breadth_is_added),
		cmocka_unit_test(test_breadth_is_shared),
		cmocka_unit_test(test_breadth_is_too_small),
		cmocka_unit_test(test_breadth_zero),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
