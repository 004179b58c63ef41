/* REGISTERs applied to the bindings of bob@local.test in a real store, and what was answered. */
#ifndef TEST_REGISTRAR_RULES_H
#define TEST_REGISTRAR_RULES_H

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

static inline void from(const char *remote, uint64_t conn)
{
	flow = (struct flow){.proto = conn ? FLOW_TCP : FLOW_UDP, .conn = conn};
	assert_int_equal(addr_parse(slice_str(remote), &flow.remote), 0);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	(void)state;
	return store_teardown();
}

static inline const struct sip_msg *parse(const char *lines)
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

static inline struct registrar_args args(const char *lines)
{
	return (struct registrar_args){
		.m = parse(lines), .flow = &flow, .domain = &domain, .aor = SLICE_LIT(AOR), .now = now};
}

/* A REGISTER with these lines, and the next CSeq; returns the status. */
static inline unsigned reg(const char *lines)
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

static inline unsigned load(void)
{
	store_read_end(reader);
	assert_int_equal(store_read_begin(reader), 0);
	assert_int_equal(location_find(reader, SLICE_LIT(AOR), now, &set), 0);
	return set.count;
}

static inline bool has(const char *line)
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

static inline unsigned lines_of(const char *name)
{
	unsigned n = 0;
	for (const char *p = extra; (p = strstr(p, name)) != NULL; p += strlen(name))
		n += p == extra || p[-1] == '\n';
	return n;
}

#endif
