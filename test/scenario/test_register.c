/* Users register and call: digest authentication, who may be whom, what a REGISTER leaves behind. */
#include "base/counters.h"
#include "harness.h"

#define CONF                                                                     \
	"listen \"udp:192.0.2.1:5060\" { }\nlisten \"tcp:127.0.0.1:5060\" { }\n" \
	"domain \"Local.Test\" { }\n"                                            \
	"gateway \"gw\" { target = {\"sip:192.0.2.23\"} }\n"                     \
	"route \"out\" { domain = \"example.test\" authenticate = true gateway = \"gw\" }\n"
#define ON "udp:192.0.2.1:5060 tcp:192.0.2.1:5060"

static struct harness *h;

static int setup(void **state)
{
	(void)state;
	counters_reset_all();
	h = h_start_store(CONF, ON, 0);
	h_user(h, "alice", "local.test", "secret");
	h_user(h, "bob", "local.test", "secret");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (h)
		h_stop(h);
	h = NULL;
	return 0;
}

#define AS_ALICE .from_hdr = "<sip:alice@local.test>"
#define TO_BOB   .to_hdr = "<sip:bob@local.test>", .ruri = "sip:bob@local.test"

/* --- REGISTER --- */

static void test_register(void **state)
{
	(void)state;
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test",
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>",
	      .extra = "Contact: <sip:bob@192.0.2.21>\n");
	const struct sip_msg *m = h_expect_response(h, H_A, 401);
	assert_int_equal(h_hdr_count(m, "WWW-Authenticate"), 2);
	assert_non_null(strstr(h_hdr(h, m, "WWW-Authenticate", 0), "realm=\"local.test\""));
	assert_int_equal(h_hdr_count(m, "Contact"), 0);
	h_expect_silence(h);
	assert_int_equal(h_slots_held(h), 0);
	m = H_REGISTER(h, .lines = "Contact: <sip:bob@192.0.2.21>;expires=600\n");
	assert_int_equal(m->status, 200);
	h_assert_hdr(h, m, "Contact", "<sip:bob@192.0.2.21>;expires=600");
	assert_int_equal(h_bindings(h, "bob"), 1);
	assert_int_equal(counters_sum(CNT_REGISTER_OK), 1);
	/* a fetch needs a password, too */
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = "fetch",
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>");
	assert_int_equal(h_expect_response(h, H_A, 401)->status, 401);
	m = H_REGISTER(h, .lines = "");
	h_assert_hdr(h, m, "Contact", "<sip:bob@192.0.2.21>;expires=600");
}

/* The 200 leaves after the commit, and a copy of the request gets it again. */
static void test_commit(void **state)
{
	(void)state;
	H_REGISTER(h, .lines = "");
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = "c",
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>");
	const char *line = H_CRED(h, h_expect_response(h, H_A, 401), .name = "bob", .password = "secret",
				  .method = "REGISTER", .ruri = "sip:local.test");
	const struct h_req r = {.from = H_A,
				.method = "REGISTER",
				.ruri = "sip:local.test",
				.from_hdr = "<sip:bob@local.test>",
				.to_hdr = "<sip:bob@local.test>",
				.call_id = "c",
				.cseq = 2,
				.extra = h_keepf(h, "Contact: <sip:bob@192.0.2.21>\n%s", line)};
	h_batch_begin(h);
	h_request(h, &r);
	h_expect_silence(h);
	assert_int_equal(h_bindings(h, "bob"), 0);
	/* a copy within the batch finds the transaction */
	h_request(h, &r);
	h_expect_silence(h);
	h_batch_end(h);
	const struct sip_msg *ok = h_expect_response(h, H_A, 200);
	assert_int_equal(h_bindings(h, "bob"), 1);
	h_expect_silence(h);
	/* and one behind it gets the same, though its nonce-count is used up */
	h_request(h, &r);
	const struct sip_msg *again = h_expect_response(h, H_A, 200);
	assert_int_equal(again->len, ok->len);
	assert_memory_equal(again->buf, ok->buf, ok->len);
	assert_int_equal(counters_sum(CNT_REGISTER_OK), 2);
	h_run(h, 40000);
	assert_int_equal(h_slots_held(h), 0);
}

/* Several in one batch: each its own answer, in one transaction. */
static void test_batch(void **state)
{
	(void)state;
	struct harness *open = h_start_store(
		"listen \"udp:192.0.2.1:5060\" { }\ndomain \"local.test\" { authenticate = false }\n", NULL, 0);
	h_batch_begin(open);
	H_REGISTER(open, .name = "alice", .from = H_A);
	H_REGISTER(open, .name = "bob", .from = H_B);
	H_REGISTER(open, .name = "bob", .from = H_B, .lines = "Contact: <sip:x@192.0.2.22>;expires=5\n",
		   .call_id = "x");
	H_REGISTER(open, .name = "bob", .from = H_C, .call_id = "y");
	H_REGISTER(open, .name = "bob", .from = H_C, .lines = "", .call_id = "z");
	h_expect_silence(open);
	h_batch_end(open);
	h_expect_response(open, H_A, 200);
	h_expect_response(open, H_B, 200);
	h_assert_hdr(open, h_expect_response(open, H_B, 423), "Min-Expires", "60");
	assert_int_equal(h_hdr_count(h_expect_response(open, H_C, 200), "Contact"), 2);
	assert_int_equal(h_hdr_count(h_expect_response(open, H_C, 200), "Contact"), 2);
	assert_int_equal(h_bindings(open, "alice"), 1);
	assert_int_equal(h_bindings(open, "bob"), 2);
	h_stop(open);
}

static void test_md5(void **state)
{
	(void)state;
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = "c",
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>");
	const char *line = H_CRED(h, h_expect_response(h, H_A, 401), .name = "bob", .password = "secret",
				  .md5 = true, .method = "REGISTER", .ruri = "sip:local.test");
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = "c", .cseq = 2,
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>", .extra = line);
	h_expect_response(h, H_A, 200);
	/* the same credentials once more, on another request: stale, and no attempt at guessing */
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = "c", .cseq = 3,
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>", .extra = line);
	assert_true(h_has(h_expect_response(h, H_A, 401), "stale=true"));
}

/* A user registers as itself only. */
static void test_identity(void **state)
{
	(void)state;
	static const char *const who[][2] = {
		{"<sip:alice@local.test>", "<sip:bob@local.test>"},
		{"<sip:bob@local.test>", "<sip:alice@local.test>"},
		{"<sip:bob@elsewhere.test>", "<sip:bob@local.test>"},
		{"<sip:bob@local.test>", "<sip:bob@elsewhere.test>"},
		{"<sip:local.test>", "<sip:bob@local.test>"},
	};
	for (unsigned i = 0; i < sizeof(who) / sizeof(who[0]); i++) {
		const char *id = h_keepf(h, "c%u", i);
		const struct h_req r = {.from = H_A,
					.method = "REGISTER",
					.ruri = "sip:local.test",
					.from_hdr = who[i][0],
					.to_hdr = who[i][1],
					.call_id = id};
		h_request(h, &r);
		struct h_req again = r;
		again.cseq = 2;
		again.extra =
			h_keepf(h, "Contact: <sip:x@192.0.2.21>\n%s",
				H_CRED(h, h_expect_response(h, H_A, 401), .name = "bob", .password = "secret",
				       .method = "REGISTER", .ruri = "sip:local.test"));
		h_request(h, &again);
		h_expect_response(h, H_A, 403);
	}
	assert_int_equal(h_bindings(h, "bob"), 0);
	assert_int_equal(h_bindings(h, "alice"), 0);
	assert_int_equal(counters_sum(CNT_REFUSED_IDENTITY), 5);
}

/* Without authentication anybody may, but an address needs a user, in that domain. */
static void test_address(void **state)
{
	(void)state;
	struct harness *open = h_start_store(
		"listen \"udp:192.0.2.1:5060\" { }\ndomain \"local.test\" { authenticate = false }\n", NULL, 0);
	static const char *const bad[] = {"<sip:local.test>", "<sip:bob@other.test>", "<tel:+1>"};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		H_REQ(open, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .to_hdr = bad[i],
		      .call_id = h_keepf(open, "c%u", i), .extra = "Contact: <sip:x@192.0.2.21>\n");
		h_expect_response(open, H_A, 404);
	}
	/* 10.3 step 5: escapes in the user, case of the domain */
	H_REQ(open, .from = H_A, .method = "REGISTER", .ruri = "sip:LOCAL.test",
	      .to_hdr = "<sip:b%6Fb@Local.TEST>", .extra = "Contact: <sip:x@192.0.2.21>\n");
	h_expect_response(open, H_A, 200);
	assert_int_equal(h_bindings(open, "bob"), 1);
	h_stop(open);
}

/* --- calls --- */

static void test_call(void **state)
{
	(void)state;
	H_REGISTER(h, .name = "bob");
	H_REQ(h, AS_ALICE, TO_BOB);
	const struct sip_msg *m = h_expect_response(h, H_CALLER, 407);
	assert_int_equal(h_hdr_count(m, "Proxy-Authenticate"), 2);
	h_expect_silence(h); /* no 100: there is no transaction */
	h_ack(h, &(struct h_req){AS_ALICE, TO_BOB}, m);
	h_expect_silence(h);
	const char *line = H_CRED(h, m, .name = "alice", .password = "secret", .method = "INVITE",
				  .ruri = "sip:bob@local.test", .qop = "auth-int", .body = "v=0\n");
	/* line ends of the body are the harness's */
	line = H_CRED(h, m, .name = "alice", .password = "secret", .method = "INVITE",
		      .ruri = "sip:bob@local.test");
	m = H_CALL(h, H_A, AS_ALICE, TO_BOB, .cseq = 2, .extra = line);
	assert_string_equal(h_ruri(h, m), "sip:bob@" H_A);
	H_REP(h, m, 200);
	m = h_expect_response(h, H_CALLER, 200);
	/* inside the dialog our own route set is enough */
	const char *routes = h_route_set(h, m);
	H_REQ(h, AS_ALICE, .to_hdr = "<sip:bob@local.test>", .ruri = "sip:callee@" H_A, .method = "ACK",
	      .to_tag = "bob", .cseq = 2, .branch = "z9hG4bK-ack", .extra = routes);
	h_expect_request(h, H_A, "ACK");
	H_REQ(h, AS_ALICE, .to_hdr = "<sip:bob@local.test>", .ruri = "sip:callee@" H_A, .method = "BYE",
	      .to_tag = "bob", .cseq = 3, .extra = routes);
	H_REP(h, h_expect_request(h, H_A, "BYE"), 200);
	h_expect_response(h, H_CALLER, 200);
}

/* 22.3: credentials for our realm are for us; those for another go on. */
static void test_credentials_end_here(void **state)
{
	(void)state;
	static const char other[] =
		"Proxy-Authorization: Digest username=\"alice\", realm=\"other.test\", nonce=\"1\", "
		"uri=\"sip:bob@local.test\", response=\"0\"\n";
	H_REGISTER(h, .name = "bob");
	H_REQ(h, AS_ALICE, TO_BOB);
	const char *line = H_CRED(h, h_expect_response(h, H_CALLER, 407), .name = "alice", .password = "secret",
				  .method = "INVITE", .ruri = "sip:bob@local.test");
	const struct sip_msg *m = H_CALL(h, H_A, AS_ALICE, TO_BOB, .cseq = 2,
					 .extra = h_keepf(h, "%sX-One: 1\n%sX-Two: 2\n", line, other));
	assert_int_equal(h_hdr_count(m, "Proxy-Authorization"), 1);
	assert_true(h_has(m, "realm=\"other.test\""));
	h_assert_hdr(h, m, "X-One", "1");
	h_assert_hdr(h, m, "X-Two", "2");
	H_REP(h, m, 200);
	/* the ACK has them too, for it cannot be challenged */
	const char *routes = h_route_set(h, h_expect_response(h, H_CALLER, 200));
	H_REQ(h, AS_ALICE, .to_hdr = "<sip:bob@local.test>", .ruri = "sip:callee@" H_A, .method = "ACK",
	      .to_tag = "bob", .cseq = 2, .branch = "z9hG4bK-ack", .extra = h_keepf(h, "%s%s", routes, line));
	assert_int_equal(h_hdr_count(h_expect_request(h, H_A, "ACK"), "Proxy-Authorization"), 0);
}

/* 22.1: CANCEL and ACK are never challenged, whatever they belong to. */
static void test_never_challenged(void **state)
{
	(void)state;
	H_REGISTER(h, .name = "bob");
	H_REQ(h, AS_ALICE, TO_BOB, .method = "ACK", .call_id = "a");
	H_REQ(h, AS_ALICE, TO_BOB, .method = "CANCEL", .call_id = "b");
	assert_null(h_take_response(h, H_CALLER, 407));
	assert_null(h_take_response(h, H_CALLER, 401));
	h_forget(h);
	/* a call under way is cancelled without a password */
	H_REQ(h, AS_ALICE, TO_BOB);
	const char *line = H_CRED(h, h_expect_response(h, H_CALLER, 407), .name = "alice", .password = "secret",
				  .method = "INVITE", .ruri = "sip:bob@local.test");
	const struct sip_msg *m = H_CALL(h, H_A, AS_ALICE, TO_BOB, .cseq = 2, .extra = line);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	H_REQ(h, AS_ALICE, TO_BOB, .cseq = 2, .method = "CANCEL");
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, h_expect_request(h, H_A, "CANCEL"), 200);
	H_REP(h, m, 487);
	h_expect_request(h, H_A, "ACK");
	h_expect_response(h, H_CALLER, 487);
}

/* Who is not one of ours is not asked who he is; who says to be one of ours is, wherever he calls. */
static void test_callers(void **state)
{
	(void)state;
	H_REGISTER(h, .name = "bob");
	/* a stranger calls bob */
	H_CALL(h, H_A, TO_BOB);
	h_forget(h);
	/* a stranger calls out by a route for our users */
	H_REQ(h, .call_id = "out");
	h_expect_response(h, H_CALLER, 403);
	assert_int_equal(counters_sum(CNT_REFUSED_IDENTITY), 1);
	/* alice does */
	H_REQ(h, AS_ALICE, .call_id = "out2");
	const char *line = H_CRED(h, h_expect_response(h, H_CALLER, 407), .name = "alice", .password = "secret",
				  .method = "INVITE", .ruri = "sip:bob@example.test");
	H_CALL(h, H_C, AS_ALICE, .call_id = "out2", .cseq = 2, .extra = line);
	h_forget(h);
	/* bob with alice's name */
	H_REQ(h, AS_ALICE, .call_id = "out3");
	line = H_CRED(h, h_expect_response(h, H_CALLER, 407), .name = "bob", .password = "secret",
		      .method = "INVITE", .ruri = "sip:bob@example.test");
	H_REQ(h, AS_ALICE, .call_id = "out3", .cseq = 2, .extra = line);
	h_expect_response(h, H_CALLER, 403);
	/* other methods, too */
	H_REQ(h, AS_ALICE, TO_BOB, .call_id = "out4", .method = "MESSAGE");
	h_expect_response(h, H_CALLER, 407);
}

/* Who registers with, calls from and to another name of the domain is the same user. */
static void test_alias(void **state)
{
	(void)state;
	struct harness *t = h_start_store("listen \"udp:192.0.2.1:5060\" { }\n"
					  "domain \"other.test\" { }\n"
					  "domain \"local.test\" { alias = {\"192.0.2.1\", Sip.Local.Test} }\n",
					  NULL, 0);
	h_user(t, "bob", "local.test", "secret");
	for (unsigned i = 0; i < 2; i++) {
		const char *line = "";
		for (unsigned cseq = 1; cseq <= 2; cseq++) {
			const char *to = i ? "<sip:bob@sip.LOCAL.test>" : "<sip:bob@192.0.2.1>";
			H_REQ(t, .from = H_A, .method = "REGISTER",
			      .ruri = i ? "sip:sip.local.test" : "sip:192.0.2.1", .from_hdr = to, .to_hdr = to,
			      .call_id = i ? "name" : "address", .cseq = cseq,
			      .extra = h_keepf(t, "Contact: <sip:bob%u@192.0.2.21>\n%s", i, line));
			const struct sip_msg *m = h_take_response(t, H_A, 0);
			assert_int_equal(m->status, cseq == 1 ? 401 : 200);
			if (cseq == 1)
				line = H_CRED(t, m, .name = "bob", .password = "secret", .method = "REGISTER",
					      .ruri = i ? "sip:sip.local.test" : "sip:192.0.2.1");
		}
	}
	assert_int_equal(h_bindings(t, "bob"), 2);
	/* a carrier knows the address only */
	H_CALL(t, H_A, .ruri = "sip:bob@192.0.2.1", .to_hdr = "<sip:bob@192.0.2.1>", .call_id = "in");
	h_forget(t);
	/* its users are ours: they show it, also under that name */
	H_REQ(t, .from_hdr = "<sip:bob@192.0.2.1>", TO_BOB, .call_id = "out");
	assert_non_null(strstr(h_hdr(t, h_expect_response(t, H_CALLER, 407), "Proxy-Authenticate", 0),
			       "realm=\"local.test\""));
	h_stop(t);
}

/* A PBX that calls with its users' names; whoever registers there shows who he is all the same. */
static void test_trusted(void **state)
{
	(void)state;
	struct harness *t = h_start_store(
		"listen \"udp:192.0.2.1:5060\" { }\n"
		"domain \"local.test\" { trusted = {192.0.2.64/26, \"192.0.2.30\"} }\n"
		"gateway \"gw\" { target = {\"sip:192.0.2.23\"} }\n"
		"route \"out\" { domain = \"example.test\" authenticate = true gateway = \"gw\" }\n",
		NULL, 0);
	h_user(t, "bob", "local.test", "secret");
	H_REGISTER(t, .name = "bob");
	H_CALL(t, H_A, AS_ALICE, TO_BOB, .from = "192.0.2.30:5060", .call_id = "1");
	H_CALL(t, H_C, AS_ALICE, .from = "192.0.2.70:5060", .call_id = "2");
	h_forget(t);
	H_REQ(t, AS_ALICE, TO_BOB, .from = "192.0.2.31:5060", .call_id = "3");
	h_expect_response(t, "192.0.2.31:5060", 407);
	H_REQ(t, .from = "192.0.2.30:5060", .method = "REGISTER", .ruri = "sip:local.test",
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>", .call_id = "4");
	h_expect_response(t, "192.0.2.30:5060", 401);
	h_stop(t);
}

static void test_malformed(void **state)
{
	(void)state;
	H_REQ(h, AS_ALICE, TO_BOB, .extra = "Proxy-Authorization: Digest username=\"alice\n");
	h_expect_response(h, H_CALLER, 400);
	H_REQ(h, AS_ALICE, TO_BOB, .call_id = "2",
	      .extra = "Proxy-Authorization: Digest realm=\"local.test\"\n");
	h_expect_response(h, H_CALLER, 400);
}

/* --- guessing --- */

static void wrong(const char *id, unsigned i)
{
	const char *call = h_keepf(h, "%s-%u", id, i);
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = call,
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>");
	const char *line = H_CRED(h, h_expect_response(h, H_A, 401), .name = "bob", .password = "guess",
				  .method = "REGISTER", .ruri = "sip:local.test");
	H_REQ(h, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .call_id = call, .cseq = 2,
	      .from_hdr = "<sip:bob@local.test>", .to_hdr = "<sip:bob@local.test>", .extra = line);
}

static void test_held_back(void **state)
{
	(void)state;
	wrong("w", 0);
	h_expect_response(h, H_A, 401);
	wrong("w", 1);
	h_expect_response(h, H_A, 401);
	assert_int_equal(h_slots_held(h), 0);
	wrong("w", 2);
	h_expect_silence(h);
	assert_int_equal(h_slots_held(h), 1); /* copies are absorbed before they come here */
	h_run(h, 400);
	h_expect_silence(h);
	h_run(h, 200);
	assert_false(h_has(h_expect_response(h, H_A, 401), "stale"));
	assert_int_equal(h_slots_held(h), 0);
	assert_int_equal(h_bindings(h, "bob"), 0);
}

/* However many come: each at most HELD_MAX of them wait, the rest is dropped, and all that wait end. */
static void test_held_bounded(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1030; i++)
		wrong("w", i);
	assert_int_equal(counters_sum(CNT_DROP_AUTH), 1030 - 2 - 1024);
	h_forget(h);
	assert_int_equal(h_slots_held(h), 1024);
	h_run(h, 17000);
	assert_int_equal(h_slots_held(h), 0);
	unsigned n = 0;
	while (h_take_response(h, H_A, 401))
		n++;
	assert_int_equal(n, 1024);
}

/* The proxy ends with answers still to be given. */
static void test_held_at_the_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		wrong("w", i);
	h_stop(h);
	h = NULL;
}

/* --- connections --- */

static void test_conn_lost(void **state)
{
	(void)state;
	uint64_t one = h_conn_open(h, "tcp:192.0.2.30:40000"), two = h_conn_open(h, "tcp:192.0.2.30:40001");
	H_REGISTER(h, .conn = one, .lines = "Contact: <sip:bob@10.0.0.1>\n");
	assert_int_equal(h_bindings(h, "bob"), 1);
	H_REGISTER(h, .name = "alice", .conn = one);
	h_conn_lose(h, one);
	assert_int_equal(h_bindings(h, "bob"), 0);
	assert_int_equal(h_bindings(h, "alice"), 0);
	assert_int_equal(counters_sum(CNT_BINDINGS_UNBOUND), 2);
	/* one that moved to a newer connection stays */
	uint64_t three = h_conn_open(h, "tcp:192.0.2.30:40002");
	H_REGISTER(h, .conn = two, .lines = "Contact: <sip:bob@10.0.0.1>\n");
	H_REGISTER(h, .conn = three, .lines = "Contact: <sip:bob@10.0.0.1>\n");
	h_conn_lose(h, two);
	assert_int_equal(h_bindings(h, "bob"), 1);
	/* the older one's death and the newer one's REGISTER in one batch, whichever is first */
	uint64_t four = h_conn_open(h, "tcp:192.0.2.30:40003");
	H_REGISTER(h, .conn = four, .lines = "");
	h_batch_begin(h);
	h_conn_lose(h, three);
	h_batch_end(h);
	assert_int_equal(h_bindings(h, "bob"), 0);
}

/* The REGISTER and the end of its connection in one batch. */
static void test_conn_lost_at_once(void **state)
{
	(void)state;
	struct harness *open =
		h_start_store("listen \"udp:192.0.2.1:5060\" { }\nlisten \"tcp:127.0.0.1:5060\" { }\n"
			      "domain \"local.test\" { authenticate = false }\n",
			      ON, 0);
	uint64_t conn = h_conn_open(open, "tcp:192.0.2.30:40000");
	h_batch_begin(open);
	H_REGISTER(open, .conn = conn);
	h_conn_lose(open, conn);
	h_batch_end(open);
	assert_int_equal(h_bindings(open, "bob"), 0);
	h_forget(open);
	/* dead before the REGISTER is looked at: nobody waits for an answer, nothing is bound */
	conn = h_conn_open(open, "tcp:192.0.2.30:40001");
	h_conn_cut(open, conn);
	h_batch_begin(open);
	H_REGISTER(open, .conn = conn);
	h_batch_end(open);
	h_conn_news(open);
	assert_int_equal(h_bindings(open, "bob"), 0);
	h_expect_silence(open);
	assert_int_equal(h_slots_held(open), 0);
	h_stop(open);
}

static void test_unbind_off(void **state)
{
	(void)state;
	struct harness *open =
		h_start_store("listen \"udp:192.0.2.1:5060\" { }\nlisten \"tcp:127.0.0.1:5060\" { }\n"
			      "domain \"local.test\" { authenticate = false unbind = false }\n",
			      ON, 0);
	uint64_t conn = h_conn_open(open, "tcp:192.0.2.21:40000");
	H_REGISTER(open, .conn = conn, .lines = "Contact: <sip:bob@192.0.2.21;transport=tcp>\n");
	h_conn_lose(open, conn);
	assert_int_equal(h_bindings(open, "bob"), 1);
	/* then its URI is the way */
	H_CALL(open, "192.0.2.21:5060", TO_BOB);
	h_stop(open);
}

/* --- a full store --- */

static void test_full(void **state)
{
	(void)state;
	struct harness *f = h_start_store(
		"listen \"udp:192.0.2.1:5060\" { }\ndomain \"local.test\" { authenticate = false }\n", NULL,
		1 << 20);
	const struct sip_msg *m;
	unsigned n = 0;
	H_REGISTER(f, .name = "bob");
	do {
		m = H_REGISTER(f, .name = h_keepf(f, "u%u", n),
			       .lines = h_keepf(f, "Contact: <sip:%0900u@192.0.2.22>\n", n));
		n++;
	} while (m->status == 200 && n < 5000);
	assert_int_equal(m->status, 500);
	assert_int_equal(counters_sum(CNT_REGISTER_FAILED), 1);
	assert_int_equal(counters_sum(CNT_STORE_FAILED), 1);
	assert_int_equal(counters_sum(CNT_REGISTER_OK), n);
	/* calls go on */
	m = H_CALL(f, H_A, TO_BOB);
	H_REP(f, m, 200);
	h_expect_response(f, H_CALLER, 200);
	/* and who is there may go */
	assert_int_equal(H_REGISTER(f, .name = "bob", .lines = "Contact: *\nExpires: 0\n")->status, 200);
	/* several in a batch share its fate */
	for (;; n++) {
		m = H_REGISTER(f, .name = h_keepf(f, "u%u", n),
			       .lines = h_keepf(f, "Contact: <sip:%0900u@192.0.2.22>\n", n));
		if (m->status != 200)
			break;
	}
	h_forget(f);
	h_batch_begin(f);
	for (unsigned i = 0; i < 20; i++)
		H_REGISTER(f, .name = h_keepf(f, "v%u", i),
			   .lines = h_keepf(f, "Contact: <sip:%0900u@192.0.2.22>\n", i));
	h_batch_end(f);
	for (unsigned i = 0; i < 20; i++)
		h_expect_response(f, H_A, 500);
	h_expect_silence(f);
	assert_int_equal(h_bindings(f, "v0"), 0);
	h_stop(f);
}

/* An answer that cannot be built leaves no transaction behind for ever. */
static void test_no_answer(void **state)
{
	(void)state;
	struct harness *o = h_start_store("listen \"udp:192.0.2.1:5060\" { }\ndomain \"local.test\" { "
					  "authenticate = false max_contacts = 64 }\n",
					  NULL, 0);
	char *lines = h_keepf(o, "%s", "");
	for (unsigned i = 0; i < 31; i++)
		lines = h_keepf(o, "%sContact: <sip:%0900u@192.0.2.21>\n", lines, i);
	assert_int_equal(H_REGISTER(o, .lines = lines)->status, 200);
	H_REQ(o, .from = H_A, .method = "REGISTER", .ruri = "sip:local.test", .to_hdr = "<sip:bob@local.test>",
	      .extra = h_keepf(o, "Via: SIP/2.0/UDP x;branch=z9hG4bK;x=%060000u\n", 1));
	h_run(o, 40000);
	assert_int_equal(h_slots_held(o), 0);
	h_stop(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_register),
		T(test_commit),
		T(test_batch),
		T(test_md5),
		T(test_identity),
		T(test_address),
		T(test_call),
		T(test_credentials_end_here),
		T(test_never_challenged),
		T(test_callers),
		T(test_trusted),
		T(test_alias),
		T(test_malformed),
		T(test_held_back),
		T(test_held_bounded),
		T(test_held_at_the_end),
		T(test_conn_lost),
		T(test_conn_lost_at_once),
		T(test_unbind_off),
		T(test_full),
		T(test_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
