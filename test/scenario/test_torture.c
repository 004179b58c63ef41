/* The messages of torture/, one test each: what the proxy does with every trap of RFC 4475 and RFC 5118. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef TORTURE_DIR
#define TORTURE_DIR "test/scenario/torture/"
#endif

#define CONF                                                                                   \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21;lr\"} }\n"                       \
		 "route \"name\" { domain = \"torture.example\" gateway = \"gw\" }\n"          \
		 "route \"v6\" { domain = \"[2001:db8::77]\" gateway = \"gw\" }\n"             \
		 "route \"v6 port\" { domain = \"[2001:db8::77:5070]\" gateway = \"gw\" }\n"   \
		 "route \"v6 two\" { domain = \"[2001:db8::192.0.2.77]\" gateway = \"gw\" }\n" \
		 "route \"v6 three\" { user = \"^three$\" gateway = \"gw\" }\n"

enum torture_action { FORWARD, REPLY, DROP, PASS, ABSORB, CONTAIN };

struct torture {
	const char *file, *rfc;
	enum torture_action action;
	unsigned status;
	const char *has, *has_not;
	const char *trap;
};

static const struct torture TORTURES[] = {
#define TORTURE(file, rfc, action, status, has, has_not, trap) {file, rfc, action, status, has, has_not, trap},
#include "torture/expect.def"
};
#define TORTURE_COUNT (sizeof(TORTURES) / sizeof(TORTURES[0]))

static struct slice file_read(const char *name)
{
	static char room[SIP_MESSAGE_MAX];
	char path[256];
	snprintf(path, sizeof(path), TORTURE_DIR "%s.sip", name);
	FILE *f = fopen(path, "rb");
	if (!f)
		fail_msg("%s cannot be read", path);
	size_t len = fread(room, 1, sizeof(room) - 1, f);
	room[len] = 0;
	fclose(f);
	return slice_make(room, len);
}

static void check_text(const struct torture *t, const struct sip_msg *m)
{
	if (t->has && !h_has(m, t->has))
		fail_msg("'%s' is not in:\n%.*s", t->has, (int)m->len, m->buf);
	if (t->has_not && h_has(m, t->has_not))
		fail_msg("'%s' is in:\n%.*s", t->has_not, (int)m->len, m->buf);
}

static void forward(struct harness *h, const struct torture *t, struct slice bytes)
{
	assert_true(h_recv_bytes(h, H_CALLER, bytes));
	h_take_response(h, NULL, 100);
	const struct sip_msg *m = h_take_request(h, NULL, NULL);
	if (!m)
		fail_msg("not forwarded: %s (%s), but:\n%s", t->trap, t->rfc, h_pending(h));
	assert_string_equal(h_sent_to(h, m), H_A);
	h_assert_forwarded(h, bytes, m, true);
	check_text(t, m);
	h_expect_silence(h);
}

static void reply(struct harness *h, const struct torture *t, struct slice bytes)
{
	assert_true(h_recv_bytes(h, H_CALLER, bytes));
	const struct sip_msg *m = h_expect_response(h, H_CALLER, t->status);
	check_text(t, m);
	if (t->status == 420)
		assert_int_equal(h_hdr_count(m, "Unsupported") > 0, 1);
	if (!m->error) /* else it repeats a To that cannot be read */
		assert_true(m->to_tag.len > 0);
	h_expect_silence(h);
}

/* The response in `bytes` with its topmost Via replaced, in memory that lives as long as the harness. */
static struct slice with_via(struct harness *h, struct slice bytes, const struct sip_msg *req)
{
	static char room[SIP_MESSAGE_MAX];
	const char *via = strstr(bytes.p, "\r\nVia: ") + 2, *end = strstr(via, "\r\n");
	int n = snprintf(room, sizeof(room), "%.*sVia: %s%.*s", (int)(via - bytes.p), bytes.p,
			 h_hdr(h, req, "Via", 0), (int)(bytes.p + bytes.len - end), end);
	return slice_make(room, (size_t)n);
}

static void response(struct harness *h, const struct torture *t, struct slice bytes)
{
	/* one that nothing waits for */
	if (h_recv_bytes(h, H_A, bytes))
		h_expect_silence(h);
	const char *call_id = h_keepf(h, "%s-7731@mountain.example", t->file);
	const struct sip_msg *invite = H_CALL(h, H_A, .ruri = "sip:greta@torture.example", .call_id = call_id,
					      .branch = h_keepf(h, "z9hG4bK-%s", t->file), .cseq = 3107);
	struct slice answer = with_via(h, bytes, invite);
	h_recv_bytes(h, H_A, answer);
	const struct sip_msg *m = h_take_response(h, H_CALLER, t->status);
	if (t->action == PASS && !m)
		fail_msg("not passed on: %s (%s)", t->trap, t->rfc);
	if (t->action == ABSORB && m)
		fail_msg("passed on: %s (%s)", t->trap, t->rfc);
	if (m) {
		h_assert_passed(h, answer, m);
		check_text(t, m);
	}
	h_expect_silence(h);
}

static void test_message(void **state)
{
	const struct torture *t = *state;
	struct slice bytes = file_read(t->file);
	struct harness *h = h_start(CONF);
	switch (t->action) {
	case FORWARD: forward(h, t, bytes); break;
	case REPLY: reply(h, t, bytes); break;
	case DROP:
		h_recv_bytes(h, H_CALLER, bytes);
		h_expect_silence(h);
		assert_int_equal(h_slots_held(h), 0);
		break;
	case PASS:
	case ABSORB:
	case CONTAIN: response(h, t, bytes); break;
	}
	/* and all of it can be torn down whatever is still under way */
	h_run(h, 100);
	h_stop(h);
}

/* Each message cut short at every length: nothing that is sent may be unsound, and nothing may break. */
static void test_cut(void **state)
{
	const struct torture *t = *state;
	struct slice bytes = file_read(t->file);
	struct harness *h = h_start(CONF);
	for (size_t n = 0; n < bytes.len; n += n < 700 ? 1 : 37) {
		h_recv_bytes(h, H_CALLER, slice_make(bytes.p, n));
		h_forget(h);
	}
	h_stop(h);
}

/* Two requests that carry only the magic cookie as a branch are two (RFC 4475 3.2.1). */
static void test_bare_branch_is_none(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@torture.example", .branch = "z9hG4bK",
	      .call_id = "one");
	const struct sip_msg *one = h_expect_request(h, H_A, "MESSAGE");
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@torture.example", .branch = "z9hG4bK",
	      .call_id = "two");
	const struct sip_msg *two = h_expect_request(h, H_A, "MESSAGE");
	assert_string_not_equal(h_branch(h, one), h_branch(h, two));
	/* and a copy of the first is a copy */
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@torture.example", .branch = "z9hG4bK",
	      .call_id = "one");
	h_expect_silence(h);
	h_stop(h);
}

/* A Via with the broadcast address never makes us send there, neither by itself nor by maddr (RFC 4475 3.3.10). */
static void test_never_to_broadcast(void **state)
{
	(void)state;
	struct harness *h = h_start(CONF);
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@torture.example", .via = "255.255.255.255",
	      .call_id = "b1");
	H_REP(h, h_expect_request(h, H_A, "MESSAGE"), 200);
	h_expect_response(h, H_CALLER, 200);
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@elsewhere.example", .via = "255.255.255.255",
	      .call_id = "b2");
	h_expect_response(h, H_CALLER, 403);
	H_REQ(h, .method = "MESSAGE", .ruri = "sip:greta@elsewhere.example",
	      .via = "pc7.example;maddr=255.255.255.255", .call_id = "b3");
	for (const struct sip_msg *m; (m = h_take_response(h, NULL, 0)) != NULL;)
		assert_string_equal(h_sent_to(h, m), H_CALLER);
	h_expect_silence(h);
	h_stop(h);
}

int main(void)
{
	struct CMUnitTest tests[2 * TORTURE_COUNT + 2];
	size_t n = 0;
	for (size_t i = 0; i < TORTURE_COUNT; i++)
		tests[n++] =
			(struct CMUnitTest){TORTURES[i].file, test_message, NULL, NULL, (void *)&TORTURES[i]};
	for (size_t i = 0; i < TORTURE_COUNT; i++)
		tests[n++] = (struct CMUnitTest){"cut short", test_cut, NULL, NULL, (void *)&TORTURES[i]};
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_bare_branch_is_none);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_never_to_broadcast);
	return _cmocka_run_group_tests("torture", tests, n, NULL, NULL);
}
