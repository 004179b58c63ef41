/* One transaction table under a fake clock and transport. What happens is written down as text, one word an event, with
 * the milliseconds since fake_mark: "500>INVITE" and "0>486" were sent, "0:180" went up as a response, and "timeout",
 * "error", "unacked" and "gone" did. fake_expect compares and forgets; a timer may be late by one tick of the wheel. */
#ifndef TEST_SCENARIO_TXN_FAKE_H
#define TEST_SCENARIO_TXN_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/counters.h"
#include "txn/txn_p.h"

#define CRLF "\r\n"

struct fake {
	msec_t now, mark;
	struct wheel wheel;
	struct txn_table *tb;
	char log[16384];
	size_t log_len;
	char last[8192]; /* the bytes sent last */
	size_t last_len;
	struct flow last_to;
	unsigned gone;
	bool acked;         /* what the transport says */
	msec_t acked_since; /* … and was asked */
	unsigned asked;
	uint32_t ack_timeout;                                           /* of the client transactions made */
	uint64_t conn;                                                  /* of flows that are not UDP; 0: 7 */
	const struct txn *owned;                                        /* what the last upcall was about */
	void (*hook)(struct txn *t, const char *what, unsigned status); /* runs inside each upcall */
	struct sip_msg_room room[4];
	char text[4][8192];
	unsigned next_room;
};

static struct fake fake;
static txn_hits fake_hits; /* over all tests of the program */
static int fake_owner;     /* the owner that fake_* give */

static void fake_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void fake_log(const char *fmt, ...)
{
	char word[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(word, sizeof(word), fmt, ap);
	va_end(ap);
	if (fake.log_len + 100 < sizeof(fake.log))
		fake.log_len +=
			(size_t)snprintf(fake.log + fake.log_len, 100, "%s%llu%s", fake.log_len ? " " : "",
					 (unsigned long long)(fake.now - fake.mark), word);
}

static void fake_send(void *ctx, const struct flow *to, struct slice bytes)
{
	char first[16] = "";

	assert_ptr_equal(ctx, &fake);
	fake.last_to = *to;
	fake.last_len = bytes.len < sizeof(fake.last) ? bytes.len : sizeof(fake.last);
	memcpy(fake.last, bytes.p, fake.last_len);
	if (fake.last_len > 12 && memcmp(fake.last, "SIP/2.0 ", 8) == 0)
		memcpy(first, fake.last + 8, 3);
	else
		for (size_t i = 0; i < fake.last_len && i < sizeof(first) - 1 && fake.last[i] != ' '; i++)
			first[i] = fake.last[i];
	fake_log(">%s", first);
}

static void fake_up(void *owner, struct txn *t, const char *what, unsigned status)
{
	assert_non_null(owner);
	fake.owned = t;
	if (fake.hook)
		fake.hook(t, what, status);
}

static void fake_response(void *owner, struct txn *t, const struct sip_msg *m)
{
	fake_log(":%u", m->status);
	fake_up(owner, t, "response", m->status);
}

static void fake_timeout(void *owner, struct txn *t)
{
	fake_log("timeout");
	fake_up(owner, t, "timeout", 0);
}

static void fake_error(void *owner, struct txn *t)
{
	fake_log("error");
	fake_up(owner, t, "error", 0);
}

static void fake_unacked(void *owner, struct txn *t)
{
	fake_log("unacked");
	fake_up(owner, t, "unacked", 0);
}

static bool fake_acked(void *ctx, const struct flow *to, msec_t since)
{
	assert_ptr_equal(ctx, &fake);
	assert_true(to->conn != 0);
	fake.acked_since = since;
	fake.asked++;
	return fake.acked;
}

static void fake_gone(void *owner, struct txn *t)
{
	fake_log("gone");
	fake.gone++;
	assert_int_equal(txn_state(t), TXN_TERMINATED);
	assert_null(txn_owner(t));
	fake_up(owner, t, "gone", 0);
}

static const struct txn_user fake_user = {fake_response, fake_timeout, fake_error, fake_unacked, fake_gone};
static const struct txn_timers fake_timers = {500, 4000, 5000};

static void fake_create(unsigned max)
{
	struct txn_lower lower = {fake_send, fake_acked, &fake};

	memset(&fake, 0, sizeof(fake));
	fake.now = fake.mark = 1000003; /* on no tick */
	wheel_init(&fake.wheel, fake.now);
	counters_reset_all();
	assert_int_equal(
		txn_table_create(&fake_timers, &fake_user, &lower, &fake.wheel, &fake.now, max, &fake.tb), 0);
	fake.tb->hits = &fake_hits;
}

static uint64_t fake_gauges(void)
{
	uint64_t sum = 0;

	for (unsigned id = CNT_TXN_ICT_CALLING; id <= CNT_TXN_NIST_COMPLETED; id++)
		sum += counters_sum(id);
	return sum;
}

static void fake_destroy(void)
{
	assert_int_equal(fake_gauges(), txn_table_count(fake.tb));
	txn_table_destroy(fake.tb);
	assert_int_equal(fake_gauges(), 0);
	assert_int_equal(fake.wheel.count, 0);
}

static int fake_setup(void **state)
{
	(void)state;
	fake_create(100000);
	return 0;
}

static int fake_teardown(void **state)
{
	(void)state;
	fake_destroy();
	return 0;
}

#define FAKE_TEST(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)

static inline void fake_mark(void)
{
	fake.mark = fake.now;
	fake.log_len = 0;
	fake.log[0] = 0;
}

static inline void fake_advance(unsigned ms)
{
	while (ms--) {
		fake.now++;
		wheel_run(&fake.wheel, fake.now);
	}
}

/* Every word, in order, at its time or at most a tick later. The log is empty afterwards. */
static void fake_expect_at(const char *want, const char *file, int line)
{
	const char *w = want, *g = fake.log;

	fake.log[fake.log_len] = 0;
	for (;;) {
		char *we, *ge;
		while (*w == ' ')
			w++;
		while (*g == ' ')
			g++;
		if (!*w && !*g)
			break;
		unsigned long long wt = strtoull(w, &we, 10), gt = strtoull(g, &ge, 10);
		size_t wn = strcspn(we, " "), gn = strcspn(ge, " ");
		if (!*w || !*g || gt < wt || gt > wt + WHEEL_TICK_MS || wn != gn || memcmp(we, ge, wn) != 0) {
			print_error("expected: %s\n     got: %s\n", want, fake.log);
			_fail(file, line);
		}
		w = we + wn;
		g = ge + gn;
	}
	fake.log_len = 0;
	fake.log[0] = 0;
}
#define fake_expect(want) fake_expect_at(want, __FILE__, __LINE__)

static inline struct flow fake_flow(enum flow_proto proto)
{
	struct flow f = {.proto = (uint8_t)proto, .conn = proto == FLOW_UDP ? 0 : fake.conn ? fake.conn : 7};

	addr_parse(slice_str("192.0.2.10:5060"), &f.remote);
	return f;
}

/* Parsed; valid until four more were made. */
static const struct sip_msg *fake_parse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const struct sip_msg *fake_parse(const char *fmt, ...)
{
	unsigned i = fake.next_room++ % 4;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(fake.text[i], sizeof(fake.text[i]), fmt, ap);
	va_end(ap);
	assert_int_equal(sip_msg_parse(&fake.room[i], fake.text[i], (size_t)n, false), 0);
	assert_int_equal(fake.room[i].msg.error, 0);
	return &fake.room[i].msg;
}

/* A request; what is not given has a default. */
struct fake_req {
	const char *method, *uri, *via, *to_tag, *from_tag, *call_id, *cseq_method, *extra;
	unsigned cseq;
};

static inline const char *fake_or(const char *s, const char *d)
{
	return s ? s : d;
}

static inline const struct sip_msg *fake_request(struct fake_req r)
{
	const char *method = fake_or(r.method, "INVITE");

	return fake_parse("%s %s SIP/2.0" CRLF "Via: %s" CRLF "From: <sip:a@example.com>;tag=%s" CRLF
			  "To: <sip:b@example.com>%s%s" CRLF "Call-ID: %s" CRLF "CSeq: %u %s" CRLF
			  "Max-Forwards: 70" CRLF "%sContent-Length: 0" CRLF CRLF,
			  method, fake_or(r.uri, "sip:b@example.com"),
			  fake_or(r.via, "SIP/2.0/UDP pc.example.com:5062;branch=z9hG4bKone"),
			  fake_or(r.from_tag, "f1"), r.to_tag ? ";tag=" : "", fake_or(r.to_tag, ""),
			  fake_or(r.call_id, "c1@example.com"), r.cseq ? r.cseq : 1,
			  fake_or(r.cseq_method, method), fake_or(r.extra, ""));
}
#define REQ(...) fake_request((struct fake_req){__VA_ARGS__})

/* A response of ours or theirs to the request above. */
#define FAKE_REPLY_TEXT                                                               \
	"SIP/2.0 %u Text" CRLF "Via: SIP/2.0/UDP pc.example.com:5062;branch=%s" CRLF  \
	"From: <sip:a@example.com>;tag=f1" CRLF "To: <sip:b@example.com>;tag=t1" CRLF \
	"Call-ID: c1@example.com" CRLF "CSeq: 1 %s" CRLF "Content-Length: 0" CRLF CRLF

static inline const struct sip_msg *fake_reply(unsigned status, const char *branch, const char *method)
{
	return fake_parse(FAKE_REPLY_TEXT, status, branch, method);
}

/* Sends a response through a server transaction. */
static inline int fake_respond(struct txn *t, unsigned status)
{
	char text[512];
	int n = snprintf(text, sizeof(text), FAKE_REPLY_TEXT, status, "z9hG4bKone", "INVITE");

	return txn_server_respond(t, status, slice_make(text, (size_t)n));
}

static inline struct txn *fake_server(const struct sip_msg *m, enum flow_proto proto)
{
	struct flow f = fake_flow(proto);
	struct txn *t;

	assert_null(txn_server_find(fake.tb, m, false));
	assert_int_equal(txn_server_create(fake.tb, m, &f, &fake_owner, NULL, &t), 0);
	assert_ptr_equal(txn_server_find(fake.tb, m, false), t);
	return t;
}

/* A client transaction for the request; its branch is that of the top Via. */
static inline struct txn *fake_client(const struct sip_msg *m, enum flow_proto proto)
{
	struct txn_client_args a = {
		.bytes = slice_make(m->buf, m->len),
		.branch = sip_slice(m, m->via.branch),
		.method = m->method,
		.method_name = sip_slice(m, m->method_name),
		.flow = fake_flow(proto),
		.ack_timeout = fake.ack_timeout,
		.owner = &fake_owner,
	};
	struct txn *t;

	assert_int_equal(txn_client_create(fake.tb, &a, &t), 0);
	return t;
}

/* The response finds t and goes into it. */
static inline void fake_receive(struct txn *t, const struct sip_msg *m)
{
	assert_ptr_equal(txn_client_find(fake.tb, m), t);
	txn_client_receive(t, m);
}

/* The request finds t and goes into it. */
static inline void fake_again(struct txn *t, const struct sip_msg *m, enum flow_proto proto)
{
	struct flow f = fake_flow(proto);

	assert_ptr_equal(txn_server_find(fake.tb, m, false), t);
	txn_server_receive(t, m, &f);
}

/* Every row of the machine ran at least once in this program. */
static inline void fake_all_rows(enum txn_kind kind, const struct txn_machine *machine)
{
	unsigned rows = 0, missed = 0;

	for (unsigned s = 0; s < TXN_STATE_COUNT; s++) {
		for (unsigned e = 0; e < TXN_EV_COUNT; e++) {
			if (!machine->row[s][e].act)
				continue;
			rows++;
			if (fake_hits[kind][s][e])
				continue;
			missed++;
			print_error("%s: state %s, event %u never came\n", txn_kind_name(kind),
				    txn_state_name(s), e);
		}
	}
	assert_true(rows > 10);
	assert_int_equal(missed, 0);
}

#endif
