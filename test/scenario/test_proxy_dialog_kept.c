/* What the record of a confirmed call permits: a request that begins something inside it leads to where its other side
 * is, and nowhere else. */
#include "harness.h"

#include <string.h>

#include "base/counters.h"

#define CALLEE_URI  "sip:callee@192.0.2.21:5060"
#define CALLER_URI  "sip:contact@192.0.2.10:5060"
#define ELSEWHERE   "203.0.113.5:5060"
#define OTHER_PROXY "192.0.2.22:5060"

static struct harness *h;
static unsigned cseq;

struct dialog {
	const char *caller_route, *callee_route; /* Route lines of each side's requests */
};

static void begin(void)
{
	counters_reset_all();
	h = h_start_calls(H_CONF_ONE, NULL, 0);
	cseq = 1;
}

static void finish(void)
{
	h_forget(h);
	h_stop(h);
}

static struct dialog answer(const struct sip_msg *m, const char *extra)
{
	struct dialog d = {.callee_route = h_route_set(h, m)};
	H_REP(h, m, 200, .extra = extra);
	d.caller_route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	return d;
}

static struct dialog establish(void)
{
	return answer(H_CALL(h, H_A), NULL);
}

static void caller_asks(const char *method, const char *ruri, const char *route)
{
	H_REQ(h, .method = method, .ruri = ruri, .to_tag = "bob", .cseq = ++cseq, .extra = route);
}

static void callee_asks(const char *method, const char *ruri, const char *route)
{
	H_REQ(h, .from = H_A, .method = method, .ruri = ruri, .from_hdr = "<sip:bob@example.test>",
	      .from_tag = "bob", .to_hdr = "<sip:alice@caller.test>", .to_tag = "alice", .cseq = ++cseq,
	      .extra = route);
}

static void passes(const char *method, const char *to, const char *back)
{
	const struct sip_msg *m = h_expect_request(h, to, method);
	h_take_response(h, back, 100);
	H_REP(h, m, 488);
	if (strcmp(method, "INVITE") == 0)
		h_expect_request(h, to, "ACK");
	h_expect_response(h, back, 488);
}

static void refused(const char *back)
{
	h_take_response(h, back, 100);
	h_expect_response(h, back, 403);
	h_expect_silence(h);
}

static void caller_may(const char *ruri, const char *route, const char *to)
{
	caller_asks("INVITE", ruri, route);
	passes("INVITE", to, H_CALLER);
}

static void caller_may_not(const char *method, const char *ruri, const char *route)
{
	caller_asks(method, ruri, route);
	refused(H_CALLER);
}

static void test_leads_to_the_other_side(void **state)
{
	(void)state;
	static const char *const methods[] = {"INVITE", "MESSAGE", "REFER", "PUBLISH"};
	static const char *const others[] = {
		"sip:callee@" ELSEWHERE,
		"sip:other@192.0.2.21:5060",
		"sip:callee@192.0.2.21:5070",
		"sip:callee@192.0.2.21",
		"sips:callee@192.0.2.21:5060",
		CALLEE_URI ";maddr=203.0.113.5",
		"sip:192.0.2.21:5060",
		"tel:+4930123",
		CALLER_URI, /* his own */
	};
	begin();
	struct dialog d = establish();
	for (unsigned i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		caller_asks(methods[i], CALLEE_URI, d.caller_route);
		passes(methods[i], H_A, H_CALLER);
		callee_asks(methods[i], CALLER_URI, d.callee_route);
		passes(methods[i], H_CALLER, H_A);
		caller_may_not(methods[i], "sip:callee@" ELSEWHERE, d.caller_route);
		callee_asks(methods[i], "sip:contact@" ELSEWHERE, d.callee_route);
		refused(H_A);
	}
	uint64_t before = counters_sum(CNT_REFUSED_RELAY);
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		caller_may_not("INVITE", others[i], d.caller_route);
	assert_int_equal(counters_sum(CNT_REFUSED_RELAY) - before, sizeof(others) / sizeof(others[0]));
	/* the same place, written in another way */
	caller_may("sip:c%61llee@192.0.2.21:5060;ob", d.caller_route, H_A);
	/* what begins nothing goes along the route as ever */
	caller_asks("INFO", "sip:callee@192.0.2.22:5060", d.caller_route);
	passes("INFO", OTHER_PROXY, H_CALLER);
	finish();
}

/* An early dialog's token, a subscription's, or that of a call which is over begin nothing. */
static void test_only_a_confirmed_call(void **state)
{
	(void)state;
	begin();
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	const char *route = h_route_set(h, h_expect_response(h, H_CALLER, 180));
	caller_may_not("INVITE", CALLEE_URI, route);
	caller_may_not("INVITE", "sip:callee@" ELSEWHERE, route);
	caller_asks("UPDATE", CALLEE_URI, route);
	passes("UPDATE", H_A, H_CALLER);
	route = answer(m, NULL).caller_route;
	caller_may(CALLEE_URI, route, H_A);
	caller_asks("BYE", CALLEE_URI, route);
	passes("BYE", H_A, H_CALLER);
	h_run(h, 150); /* an end alone makes no commit at once */
	caller_may_not("INVITE", CALLEE_URI, route);

	H_REQ(h, .method = "SUBSCRIBE", .call_id = "sub", .extra = "Event: presence\n");
	m = h_expect_request(h, H_A, "SUBSCRIBE");
	H_REP(h, m, 200);
	route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_REQ(h, .call_id = "sub", .ruri = "sip:callee@" ELSEWHERE, .to_tag = "bob", .cseq = 2, .extra = route);
	refused(H_CALLER);
	finish();
}

/* Whoever is let through by a `route` section needs no dialog. */
static void test_a_route_permits_too(void **state)
{
	(void)state;
	begin();
	struct dialog d = establish();
	caller_may("sip:bob@example.test", d.caller_route, H_A);
	finish();
}

/* A proxy behind us is on the way; one that a caller has made up is so for nobody but those who call back. */
static void test_proxies_on_the_way(void **state)
{
	(void)state;
	begin();
	struct dialog d = answer(H_CALL(h, H_A, .extra = "Record-Route: <sip:" ELSEWHERE ";lr>\n"), NULL);
	caller_may(CALLEE_URI, d.caller_route + strlen("Route: <sip:" ELSEWHERE ";lr>\n"), H_A);
	const char *ours = strstr(d.callee_route, "Route: "); /* the first line */
	size_t len = strcspn(ours, "\n") + 1;
	const char *forged = h_keepf(h, "%.*sRoute: <sip:" ELSEWHERE ";lr>\n", (int)len, ours);
	caller_may_not("INVITE", CALLEE_URI, forged);
	callee_asks("INVITE", CALLER_URI, d.callee_route);
	passes("INVITE", ELSEWHERE, H_A);
	/* without lr it would become the Request-URI (16.6 step 6) */
	caller_may_not("INVITE", CALLEE_URI,
		       h_keepf(h, "%.*sRoute: <sip:premium@" ELSEWHERE ">\n", (int)len, ours));
	h_forget(h);

	const struct sip_msg *m = H_CALL(h, H_A, .call_id = "behind");
	const char *mine = h_hdr(h, m, "Record-Route", 0);
	H_REP(h, m, 200, .extra = "Record-Route: <sip:" OTHER_PROXY ";lr>\n");
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .call_id = "behind", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 2,
	      .extra = h_keepf(h, "Route: %s, <sip:" OTHER_PROXY ";lr>\n", mine));
	passes("INVITE", OTHER_PROXY, H_CALLER);
	H_REQ(h, .call_id = "behind", .ruri = CALLEE_URI, .to_tag = "bob", .cseq = 3,
	      .extra = h_keepf(h, "Route: %s, <sip:192.0.2.23;lr>\n", mine));
	refused(H_CALLER);
	finish();
}

/* 12.2: a target is what its side said last, in an INVITE or an UPDATE that was accepted. */
static void test_targets_move(void **state)
{
	(void)state;
	begin();
	struct dialog d = establish();
	H_REQ(h, .from = H_A, .method = "UPDATE", .ruri = CALLER_URI, .from_hdr = "<sip:bob@example.test>",
	      .from_tag = "bob", .to_hdr = "<sip:alice@caller.test>", .to_tag = "alice", .cseq = 7,
	      .extra = h_keepf(h, "%sContact: <sip:callee@" H_B ">\n", d.callee_route));
	H_REP(h, h_expect_request(h, H_CALLER, "UPDATE"),
	      200); /* from sip:callee@H_CALLER, as the harness has it */
	h_expect_response(h, H_A, 200);
	caller_may("sip:callee@" H_B, d.caller_route, H_B);
	caller_may_not("INVITE", CALLEE_URI, d.caller_route);
	callee_asks("INVITE", "sip:callee@" H_CALLER, d.callee_route);
	passes("INVITE", H_CALLER, H_A);
	/* one that is refused moves nothing */
	H_REQ(h, .from = H_A, .method = "UPDATE", .ruri = "sip:callee@" H_CALLER,
	      .from_hdr = "<sip:bob@example.test>", .from_tag = "bob", .to_hdr = "<sip:alice@caller.test>",
	      .to_tag = "alice", .cseq = 40,
	      .extra = h_keepf(h, "%sContact: <sip:callee@" ELSEWHERE ">\n", d.callee_route));
	passes("UPDATE", H_CALLER, H_A);
	caller_may_not("INVITE", "sip:callee@" ELSEWHERE, d.caller_route);
	caller_may("sip:callee@" H_B, d.caller_route, H_B);
	finish();
}

static void test_after_a_restart(void **state)
{
	(void)state;
	begin();
	struct dialog d = establish();
	h_run(h, 60000);
	h_forget(h);
	h_crash(h);
	h_up(h);
	caller_may(CALLEE_URI, d.caller_route, H_A);
	caller_may_not("INVITE", "sip:callee@" ELSEWHERE, d.caller_route);
	finish();
}

/* The record need not be in the store yet. */
static void test_within_a_batch(void **state)
{
	(void)state;
	begin();
	const struct sip_msg *m = H_CALL(h, H_A);
	const char *route = h_route_set(h, m);
	h_batch_begin(h);
	H_REP(h, m, 200);
	callee_asks("INVITE", CALLER_URI, route);
	callee_asks("INVITE", "sip:contact@" ELSEWHERE, route);
	h_batch_end(h);
	h_expect_response(h, H_CALLER, 200);
	h_take_response(h, H_A, 100);
	h_take_response(h, H_A, 100);
	h_expect_request(h, H_CALLER, "INVITE");
	h_expect_response(h, H_A, 403);
	finish();
}

/* Two ways through us (a spiral): each time one part of the way is known, and all of it is permitted. */
static void test_spiral(void **state)
{
	(void)state;
	begin();
	const struct sip_msg *m = H_CALL(h, H_A);
	const char *first = h_hdr(h, m, "Record-Route", 0), *via = h_hdr(h, m, "Via", 0);
	/* The proxy at H_A sends it back through us, to somebody else. */
	h_recv(h, H_A,
	       "INVITE sip:carol@example.test SIP/2.0\nVia: SIP/2.0/UDP "
	       "192.0.2.21:5060;branch=z9hG4bKspiral\nVia: %s\n"
	       "Via: %s\nRecord-Route: <sip:192.0.2.21:5060;lr>\nRecord-Route: %s\nMax-Forwards: 68\nFrom: "
	       "%s\nTo: %s\n"
	       "Call-ID: call-1\nCSeq: 1 INVITE\nContact: <" CALLER_URI ">\nContent-Length: 0\n\n",
	       via, h_hdr(h, m, "Via", 1), first, h_hdr(h, m, "From", 0), h_hdr(h, m, "To", 0));
	h_take_response(h, H_A, 100);
	const struct sip_msg *second = h_expect_request(h, H_A, "INVITE");
	const char *all = h_route_set(h, second);
	H_REP(h, second, 200);
	const struct sip_msg *ok = h_expect_response(h, H_A, 200);
	const char *text = h_keepf(h, "%.*s", (int)ok->len, ok->buf);
	const char *below = strstr(text, "Via: SIP/2.0/UDP 192.0.2.1"); /* as the proxy at H_A sends it on */
	assert_non_null(below);
	h_recv(h, H_A, "SIP/2.0 200 OK\n%s", h_keepf(h, "%s", below));
	const char *caller_route = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	caller_asks("INVITE", CALLEE_URI, caller_route);
	m = h_expect_request(h, H_A, "INVITE"); /* to the proxy in the middle */
	h_assert_hdr(h, m, "Route", "<sip:192.0.2.21:5060;lr>");
	h_forget(h);
	callee_asks("INVITE", CALLER_URI, all);
	m = h_expect_request(h, H_A, "INVITE");
	h_assert_hdr(h, m, "Route", "<sip:192.0.2.21:5060;lr>");
	finish();
}

/* Of calls that a full store could not take nobody knows: theirs go on. */
static void test_full_store(void **state)
{
	(void)state;
	unsigned n = 0;
	counters_reset_all();
	h = h_start_calls(H_CONF_ONE, NULL, 1 << 20);
	cseq = 1;
	while (!counters_sum(CNT_STORE_FAILED)) {
		assert_true(++n < 5000);
		H_CALL(h, H_A, .call_id = h_keepf(h, "fill-%u", n));
	}
	struct dialog d = establish();
	assert_int_equal(h_records(h, STORE_DIALOGS), 0);
	caller_may(CALLEE_URI, d.caller_route, H_A);
	finish();
}

/* Nor of one whose record another version has written. */
static void test_record_of_another_version(void **state)
{
	(void)state;
	struct store_txn *t;
	struct store_cursor *c;
	struct slice key, value;
	char copy[64];

	begin();
	struct dialog d = establish();
	assert_int_equal(store_begin(h_calls(h), &t), 0);
	assert_int_equal(store_walk_txn(t, STORE_DIALOGS, &c), 0);
	assert_int_equal(store_seek(c, SLICE_NONE, &key, &value), 0);
	assert_in_range(key.len, 1, sizeof(copy));
	memcpy(copy, key.p, key.len);
	key.p = copy;
	store_walk_end(c);
	assert_int_equal(store_put(t, STORE_DIALOGS, key, SLICE_LIT("\xff something else")), 0);
	assert_int_equal(store_commit(t), 0);
	caller_may(CALLEE_URI, d.caller_route, H_A);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leads_to_the_other_side),
		cmocka_unit_test(test_only_a_confirmed_call),
		cmocka_unit_test(test_a_route_permits_too),
		cmocka_unit_test(test_proxies_on_the_way),
		cmocka_unit_test(test_targets_move),
		cmocka_unit_test(test_after_a_restart),
		cmocka_unit_test(test_within_a_batch),
		cmocka_unit_test(test_spiral),
		cmocka_unit_test(test_full_store),
		cmocka_unit_test(test_record_of_another_version),
	};
	return cmocka_run_group_tests_name("proxy: what a confirmed call permits", tests, NULL, NULL);
}
