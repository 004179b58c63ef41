/* From the bytes of a connection to messages, whatever pieces they come in; and what is answered to bad ones. */
#include "test_stream_options.h"

#define MESSAGE_MAX 70000

/* A message whose body is `body` bytes long. */
static size_t large(char *buf, const char *call_id, size_t body)
{
	int n = snprintf(
		buf, MESSAGE_MAX,
		"MESSAGE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK%s\r\n"
		"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: %s\r\n"
		"CSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Type: text/plain\r\nContent-Length: "
		"%zu\r\n\r\n",
		call_id, call_id, body);
	for (size_t i = 0; i < body; i++)
		buf[(size_t)n + i] = "\r\n\r\nOPTIONS"[i % 11];
	return (size_t)n + body;
}

/* --- what comes in --- */

static void test_bytes_one_by_one(void **state)
{
	struct stream_fixture f;
	char text[MESSAGE_MAX];
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	size_t n = large(text, "slow", 100);
	for (size_t i = 0; i < n; i++)
		peer_write(fd, text + i, 1);
	const struct packet *p = take(&f, 0);
	upper_assert_call_id(p, "slow");
	assert_int_equal(p->msg->body.len, 100);
	assert_memory_equal(p->msg->buf, text, n);
	struct conn *c = streams_get(f.s, p->flow.conn);
	say_options(fd, "next");
	upper_assert_call_id(take(&f, 1), "next");
	acceptor_stop(f.a[0]);
	assert_null(c->in);
	conn_put(c);
	close(fd);
	stream_stop(&f);
}

/* More than one read takes, in one piece, with line ends between messages. */
static void test_many_in_a_segment(void **state)
{
	enum { MANY = 500 };
	struct stream_fixture f;
	char id[32], one[1000], *all = malloc(MANY * 1000);
	size_t n = 0;
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "many-%u", i);
		n += (size_t)sprintf(all + n, "%s%s", i % 3 ? "" : "\r\n", options(one, id));
	}
	peer_write(fd, all, n);
	take(&f, MANY - 1);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "many-%u", i);
		upper_assert_call_id(f.up.taken[i], id);
	}
	free(all);
	close(fd);
	stream_stop(&f);
}

/* Whatever the pieces are, the same comes out. */
static void test_random_pieces(void **state)
{
	enum { ROUNDS = 40, EACH = 12 };
	struct stream_fixture f;
	static char all[EACH * MESSAGE_MAX];
	uint64_t seed = 4711;
	unsigned expected = 0;
	(void)state;
	stream_open(&f, NULL);
	for (unsigned r = 0; r < ROUNDS; r++) {
		size_t n = 0, sizes[EACH], pings = 0;
		unsigned messages = 0;
		int fd = peer_connect(&f.at);
		for (unsigned i = 0; i < EACH; i++) {
			uint64_t what = unit_random(&seed) % 8;
			if (what == 0) {
				n += (size_t)sprintf(all + n, "\r\n\r\n");
				pings++;
				continue;
			}
			char id[32];
			snprintf(id, sizeof(id), "p-%u-%u", r, i);
			size_t body = what == 1 ? unit_random(&seed) % 60000 : unit_random(&seed) % 300;
			sizes[messages++] = large(all + n, id, body);
			n += sizes[messages - 1];
		}
		unsigned most = r % 2 ? 20000 : 700;
		for (size_t at = 0; at < n;) {
			size_t piece = 1 + unit_random(&seed) % most;
			if (piece > n - at)
				piece = n - at;
			peer_write(fd, all + at, piece);
			at += piece;
		}
		for (unsigned i = 0; i < messages; i++)
			assert_int_equal(take(&f, expected + i)->msg->len, sizes[i]);
		expected += messages;
		for (; pings; pings--)
			peer_expect(fd, "\r\n");
		close(fd);
	}
	stream_stop(&f);
}

/* A large message, and what follows it in the same read. */
static void test_large(void **state)
{
	struct stream_fixture f;
	static char text[2 * MESSAGE_MAX];
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	size_t n = large(text, "large", 65000);
	assert_true(n <= 65536);
	options(text + n, "behind");
	uint64_t calls = counters_sum(CNT_CONN_READ_CALLS);
	peer_write(fd, text, 10);
	await_count(CNT_CONN_READ_CALLS, calls + 1);
	peer_write(fd, text + 10, n - 10 + strlen(text + n));
	assert_int_equal(take(&f, 0)->msg->len, n);
	upper_assert_call_id(take(&f, 1), "behind");
	close(fd);
	stream_stop(&f);
}

static void test_line_ends_before(void **state)
{
	struct stream_fixture f;
	uint64_t pings = counters_sum(CNT_PING_IN), pongs = counters_sum(CNT_PONG_IN);
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	peer_say(fd, "\r\n");
	say_options(fd, "crlf");
	upper_assert_call_id(take(&f, 0), "crlf");
	uint64_t calls = counters_sum(CNT_CONN_READ_CALLS);
	peer_say(fd, "\r\n");
	await_count(CNT_CONN_READ_CALLS, calls + 1);
	say_options(fd, "later");
	upper_assert_call_id(take(&f, 1), "later");
	assert_int_equal(counters_sum(CNT_PING_IN), pings);
	assert_int_equal(counters_sum(CNT_PONG_IN), pongs); /* nobody has asked for one */
	assert_true(peer_is_empty(fd));
	close(fd);
	stream_stop(&f);
}

static void test_ping(void **state)
{
	static const char *const pieces[][4] = {
		{"\r\n\r\n"}, {"\r\n", "\r\n"}, {"\r", "\n\r\n"}, {"\r\n\r", "\n"}, {"\r", "\n", "\r", "\n"}};
	struct stream_fixture f;
	uint64_t in = counters_sum(CNT_PING_IN), out = counters_sum(CNT_PONG_OUT);
	unsigned n = sizeof(pieces) / sizeof(pieces[0]);
	char text[1100] = "\r\n\r\n";
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned k = 0; k < 4 && pieces[i][k]; k++) {
			uint64_t calls = counters_sum(CNT_CONN_READ_CALLS);
			peer_say(fd, pieces[i][k]);
			await_count(CNT_CONN_READ_CALLS, calls + 1);
		}
		peer_expect(fd, "\r\n");
	}
	/* Before and behind a message. */
	options(text + 4, "between");
	strcat(text, "\r\n\r\n");
	peer_say(fd, text);
	peer_expect(fd, "\r\n\r\n");
	upper_assert_call_id(take(&f, 0), "between");
	assert_int_equal(counters_sum(CNT_PING_IN) - in, n + 2);
	assert_int_equal(counters_sum(CNT_PONG_OUT) - out, n + 2);
	assert_true(peer_is_empty(fd));
	/* So many at once that not all are worth an answer: no harm either. */
	char many[4000];
	for (unsigned i = 0; i < sizeof(many); i++)
		many[i] = i % 2 ? '\n' : '\r';
	peer_write(fd, many, sizeof(many));
	await_count(CNT_PING_IN, in + n + 2 + sizeof(many) / 4);
	peer_expect(fd, "\r\n\r\n");
	say_options(fd, "alive");
	upper_assert_call_id(take(&f, 1), "alive");
	close(fd);
	stream_stop(&f);
}

/* --- what is wrong with it --- */

#define HEAD(start, end)                                                                                 \
	(start "\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=1\r\n" \
	       "To: <sip:b@example.com>\r\nCall-ID: wrong\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n" end)

static void test_bad_length(void **state)
{
	static const char *const bad[] = {
		HEAD("OPTIONS sip:b SIP/2.0", "\r\n"),
		HEAD("OPTIONS sip:b SIP/2.0", "Content-Length: x\r\n\r\n"),
		HEAD("OPTIONS sip:b SIP/2.0", "Content-Length: -1\r\n\r\n"),
		HEAD("OPTIONS sip:b SIP/2.0", "Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc"),
		HEAD("OPTIONS sip:b SIP/2.0", "Content-Length: 99999999999\r\n\r\n"),
	};
	struct stream_fixture f;
	char text[2000];
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL), refused = counters_sum(CNT_REFUSED_MALFORMED);
	unsigned n = sizeof(bad) / sizeof(bad[0]);
	(void)state;
	stream_open(&f, NULL);
	for (unsigned i = 0; i < n; i++) {
		int fd = peer_connect(&f.at);
		peer_say(fd, bad[i]);
		/* More behind it would reset the answer away if nobody read it. */
		peer_say(fd, bad[i]);
		peer_rest(fd, text, sizeof(text));
		assert_memory_equal(text, "SIP/2.0 400 ", 12);
		assert_non_null(strstr(text, "\r\nCall-ID: wrong\r\n"));
		assert_null(strstr(text + 1, "SIP/2.0 400")); /* one answer */
		close(fd);
		await_count(CNT_CLOSED_PROTOCOL, closed + i + 1);
	}
	assert_int_equal(counters_sum(CNT_REFUSED_MALFORMED) - refused, n);
	assert_int_equal(f.up.count, 0);
	stream_stop(&f);
}

/* The peer does not close: we do, after CONN_LINGER. */
static void test_linger(void **state)
{
	struct stream_fixture f;
	char text[2000];
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	peer_say(fd, HEAD("OPTIONS sip:b SIP/2.0", "\r\n"));
	peer_rest(fd, text, sizeof(text));
	assert_memory_equal(text, "SIP/2.0 400 ", 12);
	assert_int_equal(counters_sum(CNT_CONN_TCP_IN_OPEN), 1);
	say_options(fd, "discarded");
	await_count(CNT_CLOSED_PROTOCOL, closed + 1);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	assert_int_equal(f.up.count, 0);
	close(fd);
	stream_stop(&f);
}

/* What cannot be answered ends at once. */
static void test_bad_length_unanswerable(void **state)
{
	static const char *const bad[] = {
		"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKx\r\n\r\n",
		HEAD("ACK sip:b SIP/2.0", "\r\n"),
		"OPTIONS sip:b SIP/2.0\r\nCall-ID: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", /* TLS to the TCP port */
		"\rx",
		"\r\n\r\rx",
	};
	struct stream_fixture f;
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	stream_open(&f, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = peer_connect(&f.at);
		peer_say(fd, bad[i]);
		peer_expect_end(fd);
		close(fd);
		await_count(CNT_CLOSED_PROTOCOL, closed + i + 1);
	}
	assert_int_equal(f.up.count, 0);
	stream_stop(&f);
}

static void set_small(struct config_stream *o)
{
	o->max_message = 2000;
}

static void test_too_large(void **state)
{
	struct stream_fixture f;
	char text[MESSAGE_MAX], answer[2000];
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	stream_open(&f, set_small);
	int fd = peer_connect(&f.at);
	size_t n = large(text, "fits", 0), fits = 2000 - n - 4;
	n = large(text, "fits", fits);
	peer_write(fd, text, n);
	upper_assert_call_id(take(&f, 0), "fits");
	/* Announced, whole or not: refused by its header. */
	n = large(text, "large", 2001);
	for (unsigned part = 0; part < 2; part++) {
		peer_write(fd, text, part ? n : 1000);
		peer_rest(fd, answer, sizeof(answer));
		assert_memory_equal(answer, "SIP/2.0 513 ", 12);
		assert_non_null(strstr(answer, "\r\nCall-ID: large\r\n"));
		close(fd);
		await_count(CNT_CLOSED_PROTOCOL, closed + part + 1);
		fd = peer_connect(&f.at);
	}
	/* An endless header has nothing that an answer could be made of. */
	peer_say(fd, "OPTIONS sip:b SIP/2.0\r\nX: ");
	for (unsigned i = 0; i < 30; i++)
		send(fd, text, 100, MSG_NOSIGNAL);
	peer_expect_end(fd);
	close(fd);
	await_count(CNT_CLOSED_PROTOCOL, closed + 3);
	stream_stop(&f);
}

/* Its frame is sound: the connection goes on. */
static void test_malformed_answered(void **state)
{
	struct stream_fixture f;
	char text[1000], answer[1000];
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	peer_say(fd,
		 test_message(text, sizeof(text), "INVITE sip:b@example.com SIP/2.0", "bad", "", "1 OPTIONS"));
	say_options(fd, "good");
	upper_assert_call_id(take(&f, 0), "good");
	answer[peer_some(fd, answer, sizeof(answer) - 1)] = '\0';
	assert_memory_equal(answer, "SIP/2.0 400 ", 12);
	assert_non_null(strstr(answer, "\r\nCall-ID: bad\r\n"));
	close(fd);
	stream_stop(&f);
}

static void test_overload(void **state)
{
	struct stream_fixture f;
	char answer[1000];
	uint64_t refused = counters_sum(CNT_REFUSED_MAILBOX), out = counters_sum(CNT_OUT_TCP_5XX);
	(void)state;
	stream_open(&f, NULL);
	f.up.refuse = true; /* before anything is sent */
	int fd = peer_connect(&f.at);
	say_options(fd, "full");
	answer[peer_some(fd, answer, sizeof(answer) - 1)] = '\0';
	assert_memory_equal(answer, "SIP/2.0 503 ", 12);
	assert_non_null(strstr(answer, "\r\nRetry-After: 7\r\n"));
	assert_int_equal(counters_sum(CNT_REFUSED_MAILBOX) - refused, 1);
	assert_int_equal(counters_sum(CNT_OUT_TCP_5XX) - out, 1);
	close(fd);
	stream_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_one_by_one),
		cmocka_unit_test(test_many_in_a_segment),
		cmocka_unit_test(test_random_pieces),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_line_ends_before),
		cmocka_unit_test(test_ping),
		cmocka_unit_test(test_bad_length),
		cmocka_unit_test(test_linger),
		cmocka_unit_test(test_bad_length_unanswerable),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_malformed_answered),
		cmocka_unit_test(test_overload),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
