/* The same over connections, which end with the process; and the records of dialogs, and a store that cannot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "recover.h"

#define CALLER "192.0.2.10:40000"
#define PHONE  "192.0.2.21:41000"
#define TCP_CONF                                                                 \
	"listen \"tcp:127.0.0.1:5060\" { }\nlisten \"udp:192.0.2.1:5060\" { }\n" \
	"domain \"local.test\" { authenticate = false }\n"                       \
	"gateway \"gw\" { target = {\"sip:192.0.2.21;transport=tcp\"} }\n"       \
	"route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"
#define TCP_ON "tcp:192.0.2.1:5060 udp:192.0.2.1:5060"
#define BOB    .to_hdr = "<sip:bob@local.test>", .ruri = "sip:bob@local.test"

/* --- the caller's side --- */

static void test_caller_comes_back(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	h_retarget(h, 0, "sip:192.0.2.21");
	struct h_req r = {.conn = h_conn_open(h, "tcp:" CALLER), .via = "192.0.2.10:5060"};
	const struct sip_msg *m = h_call(h, H_A, &r);
	H_REP(h, m, 180);
	h_expect_response(h, CALLER, 180);
	h_restart(h);
	uint64_t again = h_conn_open(h, "tcp:192.0.2.10:40001");
	H_REQ(h, .conn = again, .via = "192.0.2.10:5060", .method = "CANCEL");
	assert_int_equal(h_sent_conn(h, h_expect_response(h, NULL, 200)), again);
	H_REP(h, h_expect_request(h, H_A, "CANCEL"), 200);
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	assert_int_equal(h_sent_conn(h, h_expect_response(h, NULL, 487)), again);
	H_REQ(h, .conn = again, .via = "192.0.2.10:5060", .method = "ACK", .to_tag = "bob");
	finish();
}

/* Where nobody has come back the response goes where the Via says (18.2.2). */
static void test_caller_is_called_back(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	h_retarget(h, 0, "sip:192.0.2.21");
	struct h_req r = {.conn = h_conn_open(h, "tcp:" CALLER), .via = "192.0.2.10:5060"};
	const struct sip_msg *m = h_call(h, H_A, &r);
	h_restart(h);
	H_REP(h, m, 200);
	assert_true(h_sent_conn(h, h_expect_response(h, "192.0.2.10:5060", 200)) != r.conn);
	finish();
}

/* A failure that was committed, and not sent or not read. */
static void test_caller_has_not_got_the_failure(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	h_retarget(h, 0, "sip:192.0.2.21");
	struct h_req r = {.conn = h_conn_open(h, "tcp:" CALLER), .via = "192.0.2.10:5060"};
	const struct sip_msg *m = h_call(h, H_A, &r);
	h_batch_begin(h);
	H_REP(h, m, 486);
	h_crash_unsent(h);
	h_up(h);
	h_run(h, WHEEL_TICK_MS);
	const struct sip_msg *final = h_expect_response(h, "192.0.2.10:5060", 486);
	uint64_t conn = h_sent_conn(h, final);
	H_REQ(h, .conn = conn, .via = "192.0.2.10:5060", .method = "ACK", .to_tag = "bob");
	h_restart(h);
	h_expect_silence(h); /* now it has been acknowledged */
	finish();
}

/* --- the callee's side --- */

static void test_callee_gets_it_again(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	const struct sip_msg *m = H_CALL(h, H_A);
	uint64_t old = h_sent_conn(h, m);
	assert_true(old);
	h_restart(h);
	assert_int_equal(h_copies(h, m), 1); /* the same bytes, the same branch */
	assert_int_equal(h_conns_opened(h), 2);
	h_run(h, 5000);
	assert_int_equal(h_copies(h, m), 1);
	H_REP(h, m, 200, .conn = old + 1);
	h_expect_response(h, H_CALLER, 200);
	finish();
}

/* It is not there any more: what ack_timeout finds out without a restart it finds out after one. */
static void test_callee_is_silent(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	H_CALL(h, H_A);
	h_conn_silent(h, H_A, true);
	h_restart(h);
	h_run(h, 2000 + 50);
	const struct sip_msg *final = h_take_response(h, H_CALLER, 0);
	assert_non_null(final);
	h_ack(h, &(struct h_req){0}, final);
	finish();
}

static void test_callee_cannot_be_reached(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	H_CALL(h, H_A);
	h_conn_refuse(h, H_A);
	h_restart(h);
	const struct sip_msg *final = h_take_response(h, H_CALLER, 0);
	assert_non_null(final);
	assert_int_equal(final->status, 500);
	h_ack(h, &(struct h_req){0}, final);
	finish();
}

/* While it rings nothing is to be sent, so no connection is made; the CANCEL makes one. */
static void test_callee_rings(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	const struct sip_msg *m = H_CALL(h, H_A);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_restart(h);
	h_run(h, 10000);
	assert_int_equal(h_copies(h, m), 0);
	assert_int_equal(h_conns_opened(h), 1);
	H_REQ(h, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 2 * WHEEL_TICK_MS);
	const struct sip_msg *cancel = h_expect_request(h, H_A, "CANCEL");
	assert_string_equal(h_branch(h, cancel), h_branch(h, m));
	H_REP(h, cancel, 200);
	H_REP(h, m, 487, .conn = h_sent_conn(h, cancel));
	h_expect_request(h, H_A, "ACK");
	h_ack(h, &(struct h_req){0}, h_expect_response(h, H_CALLER, 487));
	finish();
}

static uint64_t phone(const char *from, const char *lines)
{
	uint64_t conn = h_conn_open(h, h_keepf(h, "tcp:%s", from));
	assert_int_equal(H_REGISTER(h, .conn = conn, .lines = lines)->status, 200);
	return conn;
}

#define CONTACT "Contact: <sip:bob@192.0.2.21:5070;transport=tcp>\n"
#define INSTANCE                                                                               \
	"Supported: outbound, path\nContact: <sip:bob@192.0.2.21:%u;transport=tcp>;reg-id=%u;" \
	"+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"\n"

/* A registered phone is reached over the connection that it has opened since. */
static void phone_comes_back(const char *first, const char *second)
{
	begin_on(TCP_CONF, TCP_ON);
	phone(PHONE, first);
	const struct sip_msg *m = H_CALL(h, PHONE, BOB);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	h_restart(h);
	H_REQ(h, BOB, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 2000);
	h_expect_silence(h); /* not back yet */
	uint64_t now = phone("192.0.2.21:41001", second);
	h_run(h, 600);
	const struct sip_msg *cancel = h_expect_request(h, "192.0.2.21:41001", "CANCEL");
	assert_int_equal(h_sent_conn(h, cancel), now);
	assert_string_equal(h_branch(h, cancel), h_branch(h, m));
	H_REP(h, cancel, 200);
	H_REP(h, m, 487, .conn = now);
	h_expect_request(h, "192.0.2.21:41001", "ACK");
	h_ack(h, &(struct h_req){BOB}, h_expect_response(h, H_CALLER, 487));
	finish();
}

static void test_phone_comes_back(void **state)
{
	(void)state;
	phone_comes_back(CONTACT, CONTACT);
}

static void test_instance_comes_back(void **state)
{
	(void)state;
	char one[256], two[256];
	snprintf(one, sizeof(one), INSTANCE, 5070, 1);
	snprintf(two, sizeof(two), INSTANCE, 5071, 1); /* with another address */
	phone_comes_back(one, two);
}

static void test_phone_before_the_first_response(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	phone(PHONE, CONTACT);
	const struct sip_msg *m = H_CALL(h, PHONE, BOB);
	h_restart(h);
	h_run(h, 1000);
	h_expect_silence(h);
	phone("192.0.2.21:41001", CONTACT);
	h_run(h, 600);
	const struct sip_msg *again = h_expect_request(h, "192.0.2.21:41001", "INVITE");
	assert_true(slice_eq(slice_make(m->buf, m->len), slice_make(again->buf, again->len)));
	H_REP(h, again, 200);
	h_expect_response(h, H_CALLER, 200);
	finish();
}

/* Nor is a target that was not tried yet lost with its connection. */
static void test_phone_is_next(void **state)
{
	(void)state;
	begin_on(TCP_CONF, TCP_ON);
	H_REGISTER(h, .from = H_B, .call_id = "b", .lines = "Contact: <sip:bob@" H_B ">;q=1\n");
	uint64_t conn = h_conn_open(h, "tcp:" PHONE);
	assert_int_equal(
		H_REGISTER(h, .conn = conn, .lines = "Contact: <sip:bob@192.0.2.21:5070;transport=tcp>;q=0.5\n")
			->status,
		200);
	const struct sip_msg *m = H_CALL(h, H_B, BOB);
	h_restart(h);
	phone("192.0.2.21:41001", "Contact: <sip:bob@192.0.2.21:5070;transport=tcp>;q=0.5\n");
	H_REP(h, m, 486);
	h_expect_request(h, H_B, "ACK");
	H_REP(h, h_expect_request(h, "192.0.2.21:41001", "INVITE"), 200);
	h_expect_response(h, H_CALLER, 200);
	finish();
}

/* The second flow of an instance is no second phone. */
static void test_alternate_stays_one(void **state)
{
	(void)state;
	char line[256];
	begin_on(TCP_CONF, TCP_ON);
	H_REGISTER(h, .from = H_B, .call_id = "b", .lines = "Contact: <sip:bob@" H_B ">;q=1\n");
	for (unsigned i = 0; i < 2; i++) {
		snprintf(line, sizeof(line), INSTANCE, 5070, i + 1);
		line[strlen(line) - 1] = 0;
		phone(i ? "192.0.2.21:41001" : PHONE, h_keepf(h, "%s;q=0.5\n", line));
	}
	assert_int_equal(h_bindings(h, "bob"), 3);
	const struct sip_msg *m = H_CALL(h, H_B, BOB);
	h_restart(h);
	snprintf(line, sizeof(line), INSTANCE, 5070, 2);
	line[strlen(line) - 1] = 0;
	phone("192.0.2.21:41002", h_keepf(h, "%s;q=0.5\n", line));
	H_REP(h, m, 486);
	h_expect_request(h, H_B, "ACK");
	const struct sip_msg *only = h_expect_request(h, NULL, "INVITE");
	h_expect_silence(h);
	H_REP(h, only, 200);
	h_expect_response(h, H_CALLER, 200);
	finish();
}

/* --- the configuration has changed meanwhile --- */

static void test_other_listeners(void **state)
{
	(void)state;
	struct harness *other = h_start_on("listen \"udp:127.0.0.1:5060\" { }\n", "udp:192.0.2.1:5060");
	begin_on(TCP_CONF, TCP_ON);
	h_retarget(h, 0, "sip:192.0.2.21");
	const struct sip_msg *m = H_CALL(h, H_A); /* over listener 1 */
	uint64_t conn = h_conn_open(h, "tcp:" CALLER);
	H_REQ(h, .conn = conn, .via = "192.0.2.10:5060", .call_id = "tcp");
	h_forget(h);
	h_crash(h);
	h_take_config(h, other);
	assert_int_equal(h_up_some(h), 1); /* the other's caller cannot be reached any more */
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	h_forget(h);
	h_stop(h);
	h_stop(other);
}

/* --- dialogs --- */

static uint64_t dialogs(void)
{
	return counters_sum(CNT_DIALOGS);
}

static const struct sip_msg *confirmed(const char *call_id, const char *extra)
{
	const struct sip_msg *m = H_CALL(h, H_A, .call_id = call_id);
	H_REP(h, m, 200, .extra = extra);
	return h_expect_response(h, H_CALLER, 200);
}

static void bye(const struct sip_msg *ok, const char *call_id)
{
	H_REQ(h, .method = "BYE", .call_id = call_id, .cseq = 2, .to_tag = "bob", .ruri = "sip:bob@" H_A,
	      .extra = h_route_set(h, ok));
	H_REP(h, h_expect_request(h, H_A, "BYE"), 200);
	h_expect_response(h, H_CALLER, 200);
}

static void test_dialogs(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	uint64_t before = dialogs();
	const struct sip_msg *one = confirmed("one", NULL);
	confirmed("two", NULL);
	assert_int_equal(dialogs() - before, 2);
	assert_int_equal(h_records(h, STORE_DIALOGS), 2);
	h_run(h, 60000); /* the transactions are over, the calls are not */
	h_forget(h);
	assert_int_equal(h_records(h, STORE_CALLS), 0);
	h_crash(h);
	counters_reset_all(); /* a new process has new counters */
	h_up(h);
	assert_int_equal(dialogs(), 2);
	bye(one, "one");
	h_run(h, 150); /* an end alone makes no commit at once */
	assert_int_equal(dialogs(), 1);
	assert_int_equal(h_records(h, STORE_DIALOGS), 1);
	h_run(h, 43200000 + 120000); /* 12 hours */
	assert_int_equal(dialogs(), 0);
	assert_int_equal(h_records(h, STORE_DIALOGS), 0);
	finish();
}

/* Ends alone wait for the next commit, or for one that gathers them; before the process ends they are stored. */
static void test_ends_gather(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	const struct sip_msg *ok[3];
	static const char *const id[] = {"one", "two", "three"};
	for (unsigned i = 0; i < 3; i++)
		ok[i] = confirmed(id[i], NULL);
	uint64_t commits = counters_sum(CNT_STORE_COMMITS);
	bye(ok[0], "one");
	bye(ok[1], "two");
	assert_int_equal(h_records(h, STORE_DIALOGS), 3);
	assert_int_equal(counters_sum(CNT_STORE_COMMITS), commits);
	h_run(h, 150);
	assert_int_equal(h_records(h, STORE_DIALOGS), 1);
	assert_int_equal(counters_sum(CNT_STORE_COMMITS), commits + 1);
	bye(ok[2], "three");
	H_CALL(h, H_A, .call_id = "four");
	assert_int_equal(h_records(h, STORE_DIALOGS), 0); /* with the new call's commit */
	ok[0] = confirmed("five", NULL);
	bye(ok[0], "five");
	assert_int_equal(h_records(h, STORE_DIALOGS), 1);
	proxy_flush(h_proxy(h));
	assert_int_equal(h_records(h, STORE_DIALOGS), 0);
	h_forget(h);
	h_stop(h);
}

static void test_dialog_of_a_session_timer(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	const struct sip_msg *ok = confirmed("one", "Session-Expires: 1800;refresher=uac\n");
	h_run(h, 3500000);
	h_forget(h);
	assert_int_equal(dialogs(), 1);
	/* an UPDATE refreshes it (RFC 4028 7.4) */
	H_REQ(h, .method = "UPDATE", .call_id = "one", .cseq = 2, .to_tag = "bob", .ruri = "sip:bob@" H_A,
	      .extra = h_route_set(h, ok));
	H_REP(h, h_expect_request(h, H_A, "UPDATE"), 200, .extra = "Session-Expires: 1800;refresher=uac\n");
	h_expect_response(h, H_CALLER, 200);
	h_run(h, 3000000);
	assert_int_equal(dialogs(), 1);
	h_run(h, 700000);
	assert_int_equal(dialogs(), 0);
	finish();
}

static void test_dialog_once(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	const struct sip_msg *m = H_CALL(h, H_A);
	for (int i = 0; i < 3; i++) {
		H_REP(h, m, 200);
		h_expect_response(h, H_CALLER, 200);
	}
	assert_int_equal(dialogs(), 1);
	H_REP(h, m, 200, .to_tag = "forked"); /* another dialog */
	const struct sip_msg *ok = h_expect_response(h, H_CALLER, 200);
	assert_int_equal(dialogs(), 2);
	bye(ok, "call-1");
	h_run(h, 150);
	assert_int_equal(dialogs(), 1);
	H_REP(h, m, 200); /* late copies make no dialog again */
	h_expect_response(h, H_CALLER, 200);
	assert_int_equal(dialogs(), 1);
	h_forget(h);
	h_stop(h);
}

/* --- a store that cannot --- */

/* Full: calls go on, and what has ended goes once there is room. */
static void test_store_full(void **state)
{
	(void)state;
	char id[32];
	unsigned n = 0;
	counters_reset_all();
	h = h_start_calls(H_CONF_ONE, NULL, 1 << 20);
	const struct sip_msg *first = H_CALL(h, H_A, .call_id = "first");
	while (!counters_sum(CNT_STORE_FAILED)) {
		assert_true(n < 5000);
		snprintf(id, sizeof(id), "fill-%u", n++);
		H_CALL(h, H_A, .call_id = id);
	}
	unsigned full = h_records(h, STORE_CALLS);
	assert_in_range(full, 100, n);
	const struct sip_msg *last = H_CALL(h, H_A, .call_id = "last"); /* goes on without */
	H_REP(h, last, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 486);
	H_REP(h, first, 486);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 486);
	h_run(h, 120000);
	h_forget(h);
	h_assert_idle(h);
	assert_int_equal(h_records(h, STORE_CALLS), 0);
	H_CALL(h, H_A, .call_id = "after");
	assert_int_equal(h_records(h, STORE_CALLS), 1);
	h_forget(h);
	h_stop(h);
}

static void test_damaged_and_newer(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	H_CALL(h, H_A);
	struct slice r = h_record(h, 0);
	char *copy = h_keepf(h, "%*s", (int)r.len, "");
	h_crash(h);
	h_up(h);
	/* cut short at every byte, and each byte changed */
	for (size_t i = 0; i < r.len; i++) {
		memcpy(copy, r.p, r.len);
		assert_int_not_equal(h_restore(h, 1, slice_make(copy, i), false), 0);
	}
	copy[0]++;
	assert_int_equal(h_restore(h, 1, slice_make(copy, r.len), false), -EPROTONOSUPPORT);
	/* the whole one is there already */
	assert_int_equal(h_restore(h, 1, r, true), -EEXIST);
	assert_int_equal(proxy_contexts(h_proxy(h)), 1);
	h_forget(h);
	h_stop(h);
}

/* Another worker's, after their number has changed: written here with the first batch. */
static void test_moved(void **state)
{
	(void)state;
	begin_on(H_CONF_ONE, NULL);
	H_CALL(h, H_A);
	struct slice r = h_record(h, 0);
	h_crash(h);
	struct harness *to = h_start_calls(H_CONF_ONE, NULL, 0);
	assert_int_equal(h_restore(to, 7, r, true), 0);
	assert_int_equal(h_records(to, STORE_CALLS), 0);
	h_run(to, WHEEL_TICK_MS);
	assert_int_equal(h_records(to, STORE_CALLS), 1);
	h_run(to, 600);
	H_REP(to, h_expect_request(to, H_A, "INVITE"), 200);
	h_expect_response(to, H_CALLER, 200);
	h_forget(to);
	h_stop(to);
	h_up(h);
	h_forget(h);
	h_stop(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_caller_comes_back),
		cmocka_unit_test(test_caller_is_called_back),
		cmocka_unit_test(test_caller_has_not_got_the_failure),
		cmocka_unit_test(test_callee_gets_it_again),
		cmocka_unit_test(test_callee_is_silent),
		cmocka_unit_test(test_callee_cannot_be_reached),
		cmocka_unit_test(test_callee_rings),
		cmocka_unit_test(test_phone_comes_back),
		cmocka_unit_test(test_instance_comes_back),
		cmocka_unit_test(test_phone_before_the_first_response),
		cmocka_unit_test(test_phone_is_next),
		cmocka_unit_test(test_alternate_stays_one),
		cmocka_unit_test(test_other_listeners),
		cmocka_unit_test(test_dialogs),
		cmocka_unit_test(test_dialog_of_a_session_timer),
		cmocka_unit_test(test_ends_gather),
		cmocka_unit_test(test_dialog_once),
		cmocka_unit_test(test_store_full),
		cmocka_unit_test(test_damaged_and_newer),
		cmocka_unit_test(test_moved),
	};
	return cmocka_run_group_tests_name("proxy recover: connections, dialogs, store", tests, NULL, NULL);
}
