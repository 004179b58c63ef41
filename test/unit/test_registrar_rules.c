/* The registrar's rules (RFC 3261 10.3, RFC 3327, RFC 5626) over a real store. */
#include <errno.h>

#include "base/hash.h"
#include "registrar/registrar.h"
#include "registrar_store.h"

#define NOW 1700000000000u /* ms */
#define AOR "bob@local.test"

static struct config_domain domain;
static struct flow flow;
static struct sip_msg_room room;
static struct registrar_answer answer;
static char extra[REGISTRAR_EXTRA_MAX + 1];
static struct binding_set set;
static uint64_t now;
static const char *call_id, *via;
static unsigned cseq;

static void from(const char *remote, uint64_t conn)
{
	flow = (struct flow){.proto = conn ? FLOW_TCP : FLOW_UDP, .conn = conn};
	assert_int_equal(addr_parse(slice_str(remote), &flow.remote), 0);
}

static int setup(void **state)
{
	(void)state;
	hash_init(42);
	store_setup(16u << 20);
	domain = (struct config_domain){.name = "local.test",
					.default_expires = 3600000,
					.min_expires = 60000,
					.max_expires = 86400000,
					.max_contacts = 10,
					.flow_timer = 120000,
					.unbind = true};
	from("192.0.2.10:5060", 0);
	now = NOW;
	call_id = "call-1";
	via = "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	cseq = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return store_teardown();
}

static const struct sip_msg *parse(const char *lines)
{
	static char text[60000], wire[64000];
	int n = snprintf(text, sizeof(text),
			 "REGISTER sip:local.test SIP/2.0\n%sMax-Forwards: 70\n"
			 "From: <sip:bob@local.test>;tag=a\nTo: <sip:bob@local.test>\nCall-ID: %s\n"
			 "CSeq: %u REGISTER\n%sContent-Length: 0\n\n",
			 via, call_id, cseq, lines);
	assert_in_range(n, 1, sizeof(text) - 1);
	size_t len = 0;
	for (int i = 0; i < n; i++) {
		if (text[i] == '\n')
			wire[len++] = '\r';
		wire[len++] = text[i];
	}
	assert_int_equal(sip_msg_parse(&room, wire, len, false), 0);
	assert_int_equal(room.msg.error, 0);
	return &room.msg;
}

static struct registrar_args args(const char *lines)
{
	return (struct registrar_args){
		.m = parse(lines), .flow = &flow, .domain = &domain, .aor = SLICE_LIT(AOR), .now = now};
}

/* A REGISTER with these lines, and the next CSeq; returns the status. */
static unsigned reg(const char *lines)
{
	struct store_txn *t = NULL;
	cseq++;
	struct registrar_args a = args(lines);
	assert_int_equal(store_begin(env, &t), 0);
	answer = (struct registrar_answer){0};
	buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
	registrar_apply(t, &a, &answer);
	if (answer.changed) {
		assert_int_equal(answer.status, 200);
		assert_int_equal(store_commit(t), 0);
	} else
		store_abort(t);
	extra[answer.extra.len] = 0;
	return answer.status;
}

static unsigned load(void)
{
	store_read_end(reader);
	assert_int_equal(store_read_begin(reader), 0);
	assert_int_equal(location_find(reader, SLICE_LIT(AOR), now, &set), 0);
	return set.count;
}

static bool has(const char *line)
{
	char *want = NULL;
	bool found;
	assert_true(asprintf(&want, "%s\r\n", line) > 0);
	const char *p = strstr(extra, want);
	found = p && (p == extra || p[-1] == '\n');
	free(want);
	return found;
}

#define assert_line(line)                                           \
	do                                                          \
		if (!has(line))                                     \
			fail_msg("no '%s' in:\n%s", (line), extra); \
	while (0)

static unsigned lines_of(const char *name)
{
	unsigned n = 0;
	for (const char *p = extra; (p = strstr(p, name)) != NULL; p += strlen(name))
		n += p == extra || p[-1] == '\n';
	return n;
}

/* --- RFC 3261 10.3 --- */

static void test_one(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: \"Bob\" <sip:bob@192.0.2.10:5060;ob>;Expires=120;x=\"a;b\"\nUser-Agent: "
			     "phone/1\n"),
			 200);
	assert_true(answer.changed);
	assert_false(answer.attach);
	assert_line("Contact: <sip:bob@192.0.2.10:5060;ob>;x=\"a;b\";expires=120");
	assert_int_equal(lines_of("Contact:"), 1);
	assert_int_equal(load(), 1);
	const struct binding *b = &set.b[0];
	unit_assert_slice(b->contact, "sip:bob@192.0.2.10:5060;ob");
	unit_assert_slice(b->call_id, "call-1");
	unit_assert_slice(b->user_agent, "phone/1");
	assert_int_equal(b->cseq, 1);
	assert_int_equal(b->q, 1000);
	assert_int_equal(b->expires, NOW + 120000);
	assert_int_equal(b->updated, NOW);
	assert_false(b->use_flow);
	assert_true(addr_eq(&b->flow.remote, &flow.remote));
	/* time passes: it is listed with what is left, rounded up, then it is gone */
	now += 119001;
	assert_int_equal(reg(""), 200);
	assert_false(answer.changed);
	assert_line("Contact: <sip:bob@192.0.2.10:5060;ob>;x=\"a;b\";expires=1");
	now += 999;
	assert_int_equal(reg(""), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(load(), 0);
}

static void test_several(void **state)
{
	(void)state;
	assert_int_equal(
		reg("Contact: <sip:a@192.0.2.10>;q=0.5, <sip:b@192.0.2.10>;q=1.0\nm: sip:c@192.0.2.10;q=0.123\n"
		    "Contact: <sip:d@192.0.2.10>;q=0\n"
		    "Expires: 300\n"),
		200);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.500;expires=300");
	assert_line("Contact: <sip:b@192.0.2.10>;expires=300");
	assert_line("Contact: <sip:c@192.0.2.10>;q=0.123;expires=300");
	assert_line("Contact: <sip:d@192.0.2.10>;q=0.000;expires=300");
	assert_int_equal(load(), 4);
	assert_int_equal(set.b[2].q, 123);
	/* a refresh of one leaves the others alone, and lists them all */
	now += 10000;
	assert_int_equal(reg("Contact: <sip:b@192.0.2.10>;expires=600;q=0.9\n"), 200);
	assert_int_equal(lines_of("Contact:"), 4);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.500;expires=290");
	assert_line("Contact: <sip:b@192.0.2.10>;q=0.900;expires=600");
	assert_int_equal(load(), 4);
	/* one goes */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(lines_of("Contact:"), 3);
	/* one goes that is not there */
	assert_int_equal(reg("Contact: <sip:zz@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 3);
}

static void test_q(void **state)
{
	(void)state;
	static const char *const bad[] = {"1.1", "0.1234", "-1", "2", "1.001", "0,5", "x", ".5", "00.5"};
	char line[128];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:b@192.0.2.10>;q=%s\n", bad[i]);
		unsigned status = reg(line);
		/* a comma ends the value: what follows is a Contact that is none */
		if (status != 400)
			fail_msg("q=%s: %u", bad[i], status);
	}
	assert_int_equal(load(), 0);
	static const char *const good[] = {"1", "1.", "1.0", "1.000", "0", "0.", "0.001", "0.99"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:b%zu@192.0.2.10>;q=%s\n", i, good[i]);
		assert_int_equal(reg(line), 200);
	}
	assert_int_equal(load(), 8);
	assert_int_equal(set.b[6].q, 1);
	assert_int_equal(set.b[7].q, 990);
}

static void test_star(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>, <sip:b@192.0.2.10>\n"), 200);
	/* 10.2.2: only with Expires: 0, and alone */
	assert_int_equal(reg("Contact: *\n"), 400);
	assert_int_equal(reg("Contact: *\nExpires: 1\n"), 400);
	assert_int_equal(reg("Contact: *, <sip:a@192.0.2.10>\nExpires: 0\n"), 400);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nContact: *\nExpires: 0\n"), 400);
	assert_int_equal(reg("Contact: *;expires=0\n"), 400);
	assert_int_equal(load(), 2);
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(load(), 0);
	assert_int_equal(store_count(env, STORE_LOCATION), 0);
	/* of nobody */
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
}

static void test_star_late(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	cseq = 0;
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 500); /* of the same Call-ID, not newer */
	assert_int_equal(load(), 1);
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

static void test_expires(void **state)
{
	(void)state;
	/* the default, the header, the parameter over it; a parameter that is broken counts as the default */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=3600");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=100\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=100");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=200");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=soon\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=3600");
	/* shortened */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=4294967295\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=86400");
	/* 10.3 step 7: too brief */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=59\n"), 423);
	assert_line("Min-Expires: 60");
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(reg("Contact: <sip:z@192.0.2.10>;expires=100, <sip:a@192.0.2.10>;expires=1\n"), 423);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 86400000);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=60\n"), 200);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

static void test_order(void **state)
{
	(void)state;
	cseq = 9;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=600\n"), 200);
	/* older, or the same number again: nothing of it */
	cseq = 9;
	assert_int_equal(reg("Contact: <sip:new@192.0.2.10>, <sip:a@192.0.2.10>;expires=700\n"), 500);
	cseq = 5;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 500);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 600000);
	/* another Call-ID: whatever its number */
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=800\n"), 200);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 800000);
	/* a fetch has no order */
	cseq = 0;
	assert_int_equal(reg(""), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=800");
}

/* One REGISTER that names a contact twice is one that says it twice, not one that is late. */
static void test_twice(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=100, <sip:A2@192.0.2.10>, "
			     "<sip:a@192.0.2.10;x>;expires=200\n"),
			 200);
	assert_int_equal(load(), 2);
	assert_int_equal(set.b[0].expires, NOW + 200000);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0, <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 1);
}

/* 19.1.4 */
static void test_comparison(void **state)
{
	(void)state;
	static const char *const same[] = {"sip:%61lice@192.0.2.10;Transport=UDP",
					   "SIP:alice@192.0.2.10;transport=udp",
					   "sip:alice@192.0.2.10;transport=udp;newparam=5"};
	static const char *const other[] = {"sip:Alice@192.0.2.10;transport=udp",
					    "sips:alice@192.0.2.10;transport=udp",
					    "sip:alice@192.0.2.10:5060;transport=udp", "sip:alice@192.0.2.10",
					    "sip:alice@192.0.2.11;transport=udp"};
	char line[128];
	assert_int_equal(reg("Contact: <sip:alice@192.0.2.10;transport=udp>\n"), 200);
	uint64_t number = (load(), set.b[0].number);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <%s>\n", same[i]);
		assert_int_equal(reg(line), 200);
		if (load() != 1)
			fail_msg("another one: %s", same[i]);
		unit_assert_slice(set.b[0].contact, same[i]);
		assert_int_equal(set.b[0].number, number);
	}
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <%s>\n", other[i]);
		assert_int_equal(reg(line), 200);
		if (load() != i + 2)
			fail_msg("the same: %s", other[i]);
	}
}

static void test_fetch(void **state)
{
	(void)state;
	assert_int_equal(reg(""), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;q=0.3\n"), 200);
	struct registrar_args a = args("");
	assert_true(registrar_is_fetch(a.m));
	store_read_end(reader);
	assert_int_equal(store_read_begin(reader), 0);
	answer = (struct registrar_answer){0};
	buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
	registrar_fetch(reader, &a, &answer);
	extra[answer.extra.len] = 0;
	assert_int_equal(answer.status, 200);
	assert_false(answer.changed);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.300;expires=3600");
	assert_false(registrar_is_fetch(parse("Contact: *\n")));
	/* a Contact line without one asks for nothing either, or is refused; it removes nothing */
	unsigned status = reg("Contact:\n");
	assert_true(status == 200 || status == 400);
	assert_int_equal(load(), 1);
}

static void test_max_contacts(void **state)
{
	(void)state;
	domain.max_contacts = 2;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>, <sip:b@192.0.2.10>\n"), 200);
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>\n"), 403);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=90, <sip:c@192.0.2.10>\n"), 403);
	assert_int_equal(load(), 2);
	assert_int_equal(set.b[0].expires, NOW + 3600000);
	/* a refresh, or one for another, is not one more */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=90\n"), 200);
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>, <sip:b@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 2);
	unit_assert_slice(set.b[1].contact, "sip:c@192.0.2.10");
	/* what has expired makes room */
	now += 90000;
	assert_int_equal(reg("Contact: <sip:d@192.0.2.10>\n"), 200);
	assert_int_equal(load(), 2);
}

/* More in one request than any address may have. */
static void test_max_bindings(void **state)
{
	(void)state;
	static char lines[8192];
	size_t n = 0;
	domain.max_contacts = LOCATION_BINDINGS_MAX;
	for (unsigned i = 0; i < LOCATION_BINDINGS_MAX; i++)
		n += (size_t)snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:u%u@192.0.2.10>\n", i);
	assert_int_equal(reg(lines), 200);
	assert_int_equal(lines_of("Contact:"), LOCATION_BINDINGS_MAX);
	assert_int_equal(load(), LOCATION_BINDINGS_MAX);
	snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:more@192.0.2.10>\n");
	assert_int_equal(reg(lines), 403);
	assert_int_equal(reg("Contact: <sip:more@192.0.2.10>\n"), 403);
	assert_int_equal(load(), LOCATION_BINDINGS_MAX);
}

/* What does not fit into an answer is not stored either. */
static void test_answer_too_long(void **state)
{
	(void)state;
	static char lines[60000];
	size_t n = 0;
	domain.max_contacts = LOCATION_BINDINGS_MAX;
	for (unsigned i = 0; i < 40; i++)
		n += (size_t)snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:u%u@192.0.2.10;x=%0900u>\n",
				      i, 1);
	assert_int_equal(reg(lines), 500);
	assert_int_equal(answer.extra.len, 0);
	assert_int_equal(load(), 0);
}

/* --- bad contacts: 400, and nothing of the request is done --- */

static void test_broken(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"<sip:@192.0.2.10>",
		"<sip:b@>",
		"<sip:b@192.0.2.10",
		"<192.0.2.10>",
		"<sip:b@192.0.2.10:99999>",
		"<sip:b@[::1>",
		"\"Bob <sip:b@192.0.2.10>",
		"sip:b>ob@192.0.2.10",
		"<sip:b@192.0.2.10>;q=7",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=0",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=2147483648",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=x",
	};
	char line[256];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:good@192.0.2.10>, %s\n", bad[i]);
		unsigned status = reg(line);
		if (status != 400)
			fail_msg("%s: %u", bad[i], status);
		assert_false(answer.changed);
		assert_int_equal(lines_of("Contact:"), 0);
	}
	static char long_line[4000];
	snprintf(long_line, sizeof(long_line), "Contact: <sip:%01100d@192.0.2.10>\n", 1);
	assert_int_equal(reg(long_line), 400);
	snprintf(long_line, sizeof(long_line), "Contact: <sip:b@192.0.2.10>;+sip.instance=\"<%01100d>\"\n", 1);
	assert_int_equal(reg(long_line), 400);
	assert_int_equal(load(), 0);
	/* parameters that are kept have their bounds */
	static char many[20000];
	size_t n = (size_t)snprintf(many, sizeof(many), "Contact: <sip:b@192.0.2.10>");
	for (unsigned i = 0; i < 500; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n, ";parameter%u=value", i);
	snprintf(many + n, sizeof(many) - n, "\n");
	assert_int_equal(reg(many), 400);
	assert_int_equal(load(), 0);
}

/* What is given back in a Contact header is a Contact header. */
static void test_echo(void **state)
{
	(void)state;
	static const char *const odd[] = {
		"<sip:b@192.0.2.10>;a=\"x\n y\";b",
		"<sip:b@192.0.2.10>;a=\"\\\"\"",
		"<sip:b@192.0.2.10>;a=b c",
		"<sip:b@192.0.2.10>;;a",
		"<sip:b@192.0.2.10>;a=\"open",
		"<sip:b@192.0.2.10>;+sip.instance=\"a\\\"b\"",
		"<sip:b@192.0.2.10>;+sip.instance=\"<a>b\"",
		"<sip:b@192.0.2.10>;+sip.instance=x>y",
		"<sip:b@192.0.2.10?Route=%3Csip:x%3E>",
		"sip:b@192.0.2.10;a=b",
	};
	char line[256];
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		static char answered[4096];
		struct sip_values it = {0};
		struct sip_nameaddr na;
		struct sip_uri uri;
		struct slice v;
		unsigned n = 0;
		snprintf(line, sizeof(line), "Contact: %s\n", odd[i]);
		unsigned status = reg(line);
		if (status == 400)
			continue;
		assert_int_equal(status, 200);
		int len = snprintf(
			answered, sizeof(answered),
			"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK\r\nFrom: <sip:a@b>;tag=x\r\n"
			"To: <sip:a@b>;tag=y\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n%sContent-Length: 0\r\n\r\n",
			extra);
		assert_int_equal(sip_msg_parse(&room, answered, (size_t)len, false), 0);
		if (room.msg.error)
			fail_msg("%s gives\n%s", odd[i], extra);
		while (sip_values_next(&room.msg, SIP_HDR_CONTACT, &it, &v)) {
			n++;
			if (sip_nameaddr_parse(v, &na) || sip_uri_parse(na.uri, &uri) ||
			    !sip_param_get(na.params, SLICE_LIT("expires"), NULL))
				fail_msg("%s gives\n%s", odd[i], extra);
		}
		if (n != 1)
			fail_msg("%s gives\n%s", odd[i], extra);
		assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	}
}

static void test_require(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nRequire: path, foo\nRequire: outbound, bar\n"), 420);
	assert_line("Unsupported: foo, bar");
	assert_int_equal(load(), 0);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nRequire: Path\n"), 200);
}

/* --- RFC 3327 --- */

static void test_path(void **state)
{
	(void)state;
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\nPath: <sip:p1.test;lr>, <sip:p2.test;lr;ob>\nPath: "
			     "\"x\" <sip:p3.test;lr>;y\n"),
			 200);
	assert_line("Path: <sip:p1.test;lr>, <sip:p2.test;lr;ob>, \"x\" <sip:p3.test;lr>;y");
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].path, "<sip:p1.test;lr>, <sip:p2.test;lr;ob>, \"x\" <sip:p3.test;lr>;y");
	assert_false(set.b[0].use_flow);
	assert_int_equal(reg("Contact: <sip:b@10.0.0.1>\nPath: sip:p1.test;lr\n"), 400);
	assert_int_equal(reg("Contact: <sip:b@10.0.0.1>\nPath: <p1.test>\n"), 400);
	static char line[3000];
	snprintf(line, sizeof(line), "Contact: <sip:b@10.0.0.1>\nPath: <sip:%01100d@p1.test;lr>\n", 1);
	assert_int_equal(reg(line), 400);
	assert_int_equal(load(), 1);
	/* a refresh without one has none */
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\n"), 200);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].path.len, 0);
}

/* --- ways to a contact --- */

static void test_flow(void **state)
{
	(void)state;
	/* UDP from another place than it says: through a NAT */
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\n"), 200);
	load();
	assert_true(set.b[0].use_flow);
	assert_false(answer.attach);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10:5062>, <sip:b@phone.test>, <sip:c@192.0.2.10>\n"),
			 200);
	load();
	assert_true(set.b[1].use_flow);
	assert_true(set.b[2].use_flow);
	assert_false(set.b[3].use_flow);
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	/* a connection: whatever it says */
	from("192.0.2.10:5060", 77);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_true(answer.attach);
	load();
	assert_true(set.b[0].use_flow && set.b[0].unbind);
	assert_int_equal(set.b[0].flow.conn, 77);
	assert_true(location_has_conn(reader, 77));
	/* going, it depends on nothing */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_false(answer.attach);
	domain.unbind = false;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	load();
	assert_true(set.b[0].use_flow);
	assert_false(location_has_conn(reader, 77));
	/* through another proxy the way back is not ours */
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:p@10.0.0.1>\n"), 200);
	load();
	assert_false(set.b[1].use_flow);
}

/* The newest way counts. */
static void test_newer_conn(void **state)
{
	(void)state;
	struct store_txn *t;
	from("192.0.2.10:40000", 1);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	from("192.0.2.10:40001", 2);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(location_drop_conn(t, 1), 0);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].flow.conn, 2);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(location_drop_conn(t, 2), 1);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(load(), 0);
}

/* --- RFC 5626 --- */

#define INSTANCE ";+sip.instance=\"<urn:uuid:1>\""

static void test_outbound(void **state)
{
	(void)state;
	from("192.0.2.10:40000", 1);
	assert_int_equal(
		reg("Contact: <sip:a@192.0.2.10;ob>" INSTANCE ";reg-id=1\nSupported: path, outbound\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10;ob>;+sip.instance=\"<urn:uuid:1>\";reg-id=1;expires=3600");
	assert_line("Require: outbound");
	assert_line("Flow-Timer: 120");
	load();
	assert_true(set.b[0].outbound && set.b[0].use_flow);
	unit_assert_slice(set.b[0].instance, "urn:uuid:1");
	assert_int_equal(set.b[0].reg_id, 1);
	/* the same flow number from elsewhere with another URI and Call-ID: in the place of the old one */
	from("192.0.2.10:41000", 2);
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>" INSTANCE ";reg-id=1\nSupported: outbound\n"),
			 200);
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].contact, "sip:other@192.0.2.99");
	assert_int_equal(set.b[0].flow.conn, 2);
	/* another flow, another instance, and one without: beside it */
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>" INSTANCE ";reg-id=2\nSupported: outbound\n"),
			 200);
	assert_int_equal(
		reg("Contact: <sip:other@192.0.2.99>;+sip.instance=\"<urn:uuid:2>\";reg-id=1\nSupported: "
		    "outbound\n"),
		200);
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>\n"), 200);
	assert_false(has("Require: outbound"));
	assert_int_equal(load(), 4);
	/* and each goes alone */
	assert_int_equal(
		reg("Contact: <sip:x@192.0.2.99>" INSTANCE ";reg-id=2;expires=0\nSupported: outbound\n"), 200);
	assert_int_equal(load(), 3);
	assert_int_equal(set.b[0].reg_id, 1);
	/* order counts for them too */
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 500);
	/* off */
	domain.flow_timer = 0;
	cseq = 50;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 200);
	assert_false(has("Flow-Timer: 0"));
	assert_line("Require: outbound");
}

static void test_outbound_refused(void **state)
{
	(void)state;
	/* section 6: several in one request */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1, <sip:b@192.0.2.10>" INSTANCE
			     ";reg-id=2\nSupported: outbound\n"),
			 400);
	assert_int_equal(load(), 0);
	/* a first hop that cannot */
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 439);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"
			     "Path: <sip:p2.test;lr;ob>, <sip:p1.test;lr>\n"),
			 439);
	assert_int_equal(load(), 0);
	/* and one that can: the last of the Path is the first hop */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"
			     "Path: <sip:p2.test;lr>, <sip:p1.test;lr;ob>\n"),
			 200);
	assert_line("Require: outbound");
	load();
	assert_true(set.b[0].outbound);
	assert_false(set.b[0].use_flow); /* the Path is the way */
	/* who does not ask for outbound gets none, through whatever proxy */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=5\n"), 200);
	assert_false(has("Require: outbound"));
	/* a reg-id without an instance means nothing */
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>;reg-id=5\nSupported: outbound\n"), 200);
	assert_false(has("Require: outbound"));
	assert_line("Contact: <sip:c@192.0.2.10>;expires=3600");
}

/* Over UDP too: the flow is the source's address. */
static void test_outbound_udp(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 200);
	load();
	assert_true(set.b[0].use_flow && set.b[0].outbound);
	assert_false(answer.attach);
}

/* --- a store that cannot --- */

static void test_damaged(void **state)
{
	(void)state;
	struct store_txn *t;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	char key[64];
	uint64_t h = hash_bytes(AOR, strlen(AOR), 0);
	int n = snprintf(key, sizeof(key), "%c%c" AOR, (char)(h >> 8), (char)h);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, slice_make(key, (size_t)n), SLICE_LIT("junk")), 0);
	assert_int_equal(store_commit(t), 0);
	/* it counts as none, and is replaced */
	assert_int_equal(reg("Contact: <sip:b@192.0.2.10>\n"), 200);
	assert_int_equal(load(), 1);
}

static void body_oom(void)
{
	static char lines[3000];
	struct store_txn *t = NULL;
	alloc_fail_off();
	snprintf(lines, sizeof(lines),
		 "Contact: <sip:%0900d@192.0.2.10>\nContact: <sip:b%0900d@192.0.2.10>;x=%0900d\n", 1, 2, 3);
	cseq++;
	struct registrar_args a = args(lines);
	answer = (struct registrar_answer){0};
	buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
	assert_int_equal(store_begin(env, &t), 0);
	alloc_fail_at(1);
	registrar_apply(t, &a, &answer);
	alloc_fail_off();
	assert_true(alloc_failed());
	assert_int_equal(answer.status, 500);
	assert_false(answer.changed);
	assert_int_equal(answer.extra.len, 0);
	/* what others do in the same transaction is not spoiled by it */
	assert_int_equal(store_commit(t), 0);
}

/* A record that is too large for the stack needs memory. */
static void test_memory(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	body_oom();
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].contact, "sip:a@192.0.2.10");
}

/* The map is full: 500, an error that the caller can tell, and what was there is there. */
static void test_full(void **state)
{
	(void)state;
	static char lines[1200];
	unsigned status = 200, n;
	store_teardown();
	store_setup(1u << 20);
	domain.max_contacts = 64;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	for (n = 0; status == 200 && n < 5000; n++) {
		char aor[32];
		struct store_txn *t = NULL;
		snprintf(lines, sizeof(lines), "Contact: <sip:%0900d@192.0.2.10>\n", 1);
		snprintf(aor, sizeof(aor), "u%u@local.test", n);
		struct registrar_args a = args(lines);
		a.aor = slice_str(aor);
		answer = (struct registrar_answer){0};
		buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
		assert_int_equal(store_begin(env, &t), 0);
		registrar_apply(t, &a, &answer);
		status = answer.status;
		if (answer.changed) {
			int rc = store_commit(t);
			assert_true(rc == 0 || rc == -ENOSPC);
			status = rc ? 500 : status;
		} else {
			assert_int_equal(answer.error, -ENOSPC);
			store_abort(t);
		}
	}
	assert_int_equal(status, 500);
	assert_true(n > 10);
	assert_int_equal(load(), 1);
	/* removing makes room again */
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_one),
		T(test_several),
		T(test_q),
		T(test_star),
		T(test_star_late),
		T(test_expires),
		T(test_order),
		T(test_twice),
		T(test_comparison),
		T(test_fetch),
		T(test_max_contacts),
		T(test_max_bindings),
		T(test_answer_too_long),
		T(test_broken),
		T(test_echo),
		T(test_require),
		T(test_path),
		T(test_flow),
		T(test_newer_conn),
		T(test_outbound),
		T(test_outbound_refused),
		T(test_outbound_udp),
		T(test_damaged),
		T(test_memory),
		T(test_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
