#include <sys/resource.h>

#include "test_stream.h"

#define MESSAGE_MAX 70000

static struct packet *take(struct stream_fixture *f, unsigned i)
{
	upper_await(&f->up, &f->up.flushed, i + 1);
	return f->up.taken[i];
}

static const char *options(char buf[static 1000], const char *call_id)
{
	return test_message(buf, 1000, "OPTIONS sip:b@example.com SIP/2.0", call_id, "", "1 OPTIONS");
}

static void say_options(int fd, const char *call_id)
{
	char text[1000];
	peer_say(fd, options(text, call_id));
}

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

static void test_delivered(void **state)
{
	struct stream_fixture f;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr self;
	uint64_t in = counters_sum(CNT_IN_TCP_OPTIONS), accepted = counters_sum(CNT_CONN_ACCEPTED);
	nsec_t before = clock_wall_ns();
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	say_options(fd, "one");
	const struct packet *p = take(&f, 0);
	upper_assert_call_id(p, "one");
	getsockname(fd, (struct sockaddr *)&ss, &len);
	addr_from_sockaddr((struct sockaddr *)&ss, &self);
	assert_int_equal(p->flow.proto, FLOW_TCP);
	assert_int_equal(p->flow.listener, 0);
	assert_int_equal(p->flow.acceptor, 0);
	assert_true(addr_eq(&p->flow.remote, &self));
	assert_true(addr_eq(&p->flow.local, &f.at));
	assert_true(p->received >= before && p->received <= clock_wall_ns());
	assert_null(p->inflight);
	assert_int_equal(f.up.percent[0], 100);
	assert_int_equal(counters_sum(CNT_IN_TCP_OPTIONS) - in, 1);
	assert_int_equal(counters_sum(CNT_CONN_ACCEPTED) - accepted, 1);
	assert_int_equal(counters_sum(CNT_CONN_TCP_IN_OPEN), 1);
	struct conn *c = streams_get(f.s, p->flow.conn);
	assert_non_null(c);
	assert_true(conn_inbound(c));
	assert_true(addr_eq(conn_remote(c), &self));
	assert_null(c->in);
	conn_put(c);
	/* Copies are for the transactions to recognise: TCP does not make any. */
	say_options(fd, "one");
	upper_assert_call_id(take(&f, 1), "one");
	close(fd);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	await_forgotten(f.s, p->flow.conn);
	stream_stop(&f);
}

static void test_wildcard_and_ipv6(void **state)
{
	static const char *const any[] = {"0.0.0.0", "::"}, *const to[] = {"127.0.0.42", "::1"};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct stream_fixture f;
		stream_prepare(&f, 1);
		stream_listener(&f, FLOW_TCP, any[i]);
		stream_start(&f);
		struct addr at = test_addr(to[i], f.at.port);
		int fd = peer_connect(&at);
		say_options(fd, "any");
		assert_true(addr_eq(&take(&f, 0)->flow.local, &at));
		close(fd);
		stream_stop(&f);
	}
}

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

/* --- time --- */

static void set_message_timeout(struct config_stream *o)
{
	o->message_timeout = 150;
}

static void test_message_timeout(void **state)
{
	struct stream_fixture f;
	char text[1000];
	uint64_t closed = counters_sum(CNT_CLOSED_MESSAGE_TIMEOUT);
	(void)state;
	stream_open(&f, set_message_timeout);
	int half = peer_connect(&f.at), slow = peer_connect(&f.at), idle = peer_connect(&f.at);
	options(text, "half");
	peer_write(half, text, 50);
	peer_say(idle, "\r\n"); /* half a ping is no message */
	msec_t start = clock_mono_ms();
	/* A byte now and then does not help. */
	for (unsigned i = 0; clock_mono_ms() < start + 2000; i++) {
		if (send(slow, text + i, 1, MSG_NOSIGNAL) < 0)
			break;
		test_sleep(20);
	}
	assert_in_range(clock_mono_ms() - start, 150, 1500);
	peer_expect_end(half);
	await_count(CNT_CLOSED_MESSAGE_TIMEOUT, closed + 2);
	say_options(idle, "idle");
	upper_assert_call_id(take(&f, 0), "idle");
	/* Each message has its own time. */
	for (unsigned i = 0; i < 6; i++) {
		peer_write(idle, text, 50);
		test_sleep(40);
		peer_say(idle, text + 50);
		upper_assert_call_id(take(&f, i + 1), "half");
	}
	assert_int_equal(counters_sum(CNT_CLOSED_MESSAGE_TIMEOUT), closed + 2);
	close(half);
	close(slow);
	close(idle);
	stream_stop(&f);
}

static void set_idle_timeout(struct config_stream *o)
{
	o->idle_timeout = 200;
}

static void test_idle_timeout(void **state)
{
	struct stream_fixture f;
	uint64_t closed = counters_sum(CNT_CLOSED_IDLE);
	(void)state;
	stream_open(&f, set_idle_timeout);
	msec_t start = clock_mono_ms();
	int idle = peer_connect(&f.at), busy = peer_connect(&f.at);
	for (unsigned i = 0; i < 8; i++) {
		say_options(busy, "busy");
		take(&f, i);
		test_sleep(50);
	}
	peer_expect_end(idle);
	assert_int_equal(counters_sum(CNT_CLOSED_IDLE) - closed, 1);
	peer_expect_end(busy);
	assert_true(clock_mono_ms() - start >= 550);
	await_count(CNT_CLOSED_IDLE, closed + 2);
	close(idle);
	close(busy);
	stream_stop(&f);
}

static void set_crlf(struct config_stream *o)
{
	o->crlf_interval = 100;
}

static void test_crlf_interval(void **state)
{
	struct stream_fixture f;
	uint64_t out = counters_sum(CNT_PING_OUT), in = counters_sum(CNT_PONG_IN);
	uint64_t pinged = counters_sum(CNT_PING_IN);
	(void)state;
	stream_open(&f, set_crlf);
	msec_t start = clock_mono_ms();
	int fd = peer_connect(&f.at);
	peer_expect(fd, "\r\n\r\n");
	assert_true(clock_mono_ms() - start >= 90);
	peer_say(fd, "\r\n"); /* the pong */
	await_count(CNT_PONG_IN, in + 1);
	peer_expect(fd, "\r\n\r\n");
	peer_say(fd, "\r");
	peer_say(fd, "\n");
	await_count(CNT_PONG_IN, in + 2);
	/* No answer: pinged on. */
	peer_expect(fd, "\r\n\r\n\r\n\r\n\r\n\r\n");
	assert_int_equal(counters_sum(CNT_PONG_IN), in + 2);
	/* With the next message right behind. */
	peer_say(fd, "\r\n");
	say_options(fd, "alive");
	upper_assert_call_id(take(&f, 0), "alive");
	await_count(CNT_PONG_IN, in + 3);
	assert_int_equal(counters_sum(CNT_PING_IN), pinged); /* two pongs are no ping */
	assert_true(counters_sum(CNT_PING_OUT) - out >= 5);
	assert_int_equal(counters_sum(CNT_CONN_TCP_IN_OPEN), 1);
	close(fd);
	stream_stop(&f);
}

/* --- TCP_USER_TIMEOUT --- */

static void set_keepalive(struct config_stream *o)
{
	o->keepalive_idle = 1000;
}

static unsigned user_timeout(const struct conn *c)
{
	unsigned ms = 0;
	socklen_t len = sizeof(ms);
	assert_int_equal(getsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len), 0);
	return ms;
}

static void send_text(struct conn *c, const char *text)
{
	struct iovec v = {(void *)(uintptr_t)text, strlen(text)};
	conn_send(c, &v, 1, clock_mono_ms());
}

/* Set while bytes are under way, taken off soon after, though the peer says nothing. */
static void test_disarmed(void **state)
{
	struct stream_fixture f;
	(void)state;
	stream_open(&f, set_keepalive);
	int fd = peer_connect(&f.at);
	say_options(fd, "x");
	struct conn *c = streams_get(f.s, take(&f, 0)->flow.conn);
	assert_int_equal(user_timeout(c), 0);
	for (unsigned i = 0; i < 2; i++) {
		send_text(c, "hello");
		assert_int_equal(user_timeout(c), 20000);
		peer_expect(fd, "hello");
		msec_t limit = clock_mono_ms() + 950;
		while (user_timeout(c)) {
			assert_true(clock_mono_ms() < limit);
			test_sleep(5);
		}
	}
	conn_put(c);
	close(fd);
	stream_stop(&f);
}

/* As long as the peer's kernel has not taken all, it stays. */
static void test_not_disarmed(void **state)
{
	struct stream_fixture f;
	static char block[200000];
	(void)state;
	stream_open(&f, set_keepalive);
	int fd = peer_connect(&f.at);
	say_options(fd, "x");
	struct conn *c = streams_get(f.s, take(&f, 0)->flow.conn);
	memset(block, 'x', sizeof(block));
	struct iovec v = {block, sizeof(block)};
	while (tcp_unacked(c->fd) == 0) /* until its window is closed */
		conn_send(c, &v, 1, clock_mono_ms());
	test_sleep(1300);
	assert_true(tcp_unacked(c->fd) > 0);
	assert_int_equal(user_timeout(c), 20000);
	conn_put(c);
	close(fd);
	stream_stop(&f);
}

/* --- limits --- */

static void set_limits(struct config_stream *o)
{
	o->max_connections = 5;
	o->max_connections_per_address = 3;
}

static int peer_from(struct stream_fixture *f, const char *ip)
{
	struct addr from = test_addr(ip, 0);
	return peer_connect_from(&f->at, &from);
}

static void test_limits(void **state)
{
	struct stream_fixture f;
	uint64_t address = counters_sum(CNT_CONN_REFUSED_ADDRESS), limit = counters_sum(CNT_CONN_REFUSED_LIMIT);
	int fd[6];
	(void)state;
	stream_open(&f, set_limits);
	for (unsigned i = 0; i < 3; i++)
		fd[i] = peer_from(&f, "127.0.0.1");
	await_gauge(CNT_CONN_TCP_IN_OPEN, 3);
	fd[3] = peer_from(&f, "127.0.0.1");
	peer_expect_end(fd[3]);
	close(fd[3]);
	assert_int_equal(counters_sum(CNT_CONN_REFUSED_ADDRESS) - address, 1);
	fd[3] = peer_from(&f, "127.0.0.2");
	fd[4] = peer_from(&f, "127.0.0.2");
	await_gauge(CNT_CONN_TCP_IN_OPEN, 5);
	fd[5] = peer_from(&f, "127.0.0.2");
	peer_expect_end(fd[5]);
	close(fd[5]);
	assert_int_equal(counters_sum(CNT_CONN_REFUSED_LIMIT) - limit, 1);
	/* Room again. */
	close(fd[0]);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 4);
	fd[0] = peer_from(&f, "127.0.0.1");
	await_gauge(CNT_CONN_TCP_IN_OPEN, 5);
	for (unsigned i = 0; i < 5; i++)
		close(fd[i]);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	stream_stop(&f);
}

/* Without descriptors accepting pauses, what exists goes on, and those that wait are taken later. */
static void test_descriptors(void **state)
{
	enum { HELD = 200 };
	struct stream_fixture f;
	struct rlimit before, now;
	int held[HELD], n = 0;
	uint64_t pauses = counters_sum(CNT_ACCEPT_PAUSES);
	(void)state;
	stream_open(&f, NULL);
	int first = peer_connect(&f.at);
	say_options(first, "first");
	take(&f, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&f.at, &ss);
	int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	getrlimit(RLIMIT_NOFILE, &before);
	now = before;
	now.rlim_cur = (rlim_t)waiting + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	while (n < HELD && (held[n] = dup(waiting)) >= 0) /* holes below the limit */
		n++;
	assert_int_equal(errno, EMFILE);
	assert_int_equal(connect(waiting, (struct sockaddr *)&ss, len), 0);
	await_count(CNT_ACCEPT_PAUSES, pauses + 2);
	say_options(first, "second");
	upper_assert_call_id(take(&f, 1), "second");
	assert_int_equal(counters_sum(CNT_CONN_TCP_IN_OPEN), 1);
	assert_in_range(counters_sum(CNT_ACCEPT_PAUSES) - pauses, 2, 10);
	setrlimit(RLIMIT_NOFILE, &before);
	say_options(waiting, "third");
	upper_assert_call_id(take(&f, 2), "third");
	while (n)
		close(held[--n]);
	close(waiting);
	close(first);
	stream_stop(&f);
}

/* --- the end --- */

static void test_peer_ends(void **state)
{
	struct stream_fixture f;
	char text[1000];
	uint64_t peer = counters_sum(CNT_CLOSED_PEER), reset = counters_sum(CNT_CLOSED_RESET);
	(void)state;
	stream_open(&f, NULL);
	/* The last words of who closes are heard. */
	int fd = peer_connect(&f.at);
	say_options(fd, "bye");
	close(fd);
	upper_assert_call_id(take(&f, 0), "bye");
	await_count(CNT_CLOSED_PEER, peer + 1);
	/* Half-closed is closed. */
	fd = peer_connect(&f.at);
	say_options(fd, "half");
	shutdown(fd, SHUT_WR);
	upper_assert_call_id(take(&f, 1), "half");
	peer_expect_end(fd);
	close(fd);
	await_count(CNT_CLOSED_PEER, peer + 2);
	/* In the middle of a message. */
	fd = peer_connect(&f.at);
	peer_write(fd, options(text, "middle"), 40);
	close(fd);
	await_count(CNT_CLOSED_PEER, peer + 3);
	fd = peer_connect(&f.at);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 1);
	peer_reset(fd);
	await_count(CNT_CLOSED_RESET, reset + 1);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	await_gauge(CNT_CONN_TCP_IN_CLOSED, 0);
	stream_stop(&f);
}

static void test_closed_by_us(void **state)
{
	struct stream_fixture f;
	uint64_t admin = counters_sum(CNT_CLOSED_ADMIN);
	(void)state;
	stream_open(&f, NULL);
	int fd = peer_connect(&f.at);
	say_options(fd, "x");
	struct conn *c = streams_get(f.s, take(&f, 0)->flow.conn);
	conn_close(c, CONN_ADMIN);
	conn_close(c, CONN_IDLE);
	peer_expect_end(fd);
	assert_int_equal(counters_sum(CNT_CLOSED_ADMIN) - admin, 1);
	await_forgotten(f.s, conn_id(c));
	send_text(c, "into the void");
	conn_put(c);
	await_gauge(CNT_CONN_TCP_IN_CLOSED, 0);
	close(fd);
	stream_stop(&f);
}

/* Connections in every state when the process ends. */
static void test_shutdown(void **state)
{
	struct stream_fixture f;
	char text[1000];
	int fd[20];
	(void)state;
	stream_prepare(&f, 2);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_start(&f);
	for (unsigned i = 0; i < 20; i++) {
		fd[i] = peer_connect(&f.at);
		if (i % 2)
			peer_write(fd[i], options(text, "x"), 100);
	}
	await_gauge(CNT_CONN_TCP_IN_OPEN, 20);
	uint64_t closed = counters_sum(CNT_CLOSED_SHUTDOWN);
	stream_stop(&f);
	assert_int_equal(counters_sum(CNT_CLOSED_SHUTDOWN) - closed, 20);
	for (unsigned i = 0; i < 20; i++)
		close(fd[i]);
}

/* --- together with others --- */

/* Two acceptors, each with its share of the connections. */
static void test_acceptors(void **state)
{
	enum { PEERS = 64 };
	struct stream_fixture f;
	unsigned by[2] = {0};
	int fd[PEERS];
	char id[32];
	(void)state;
	stream_prepare(&f, 2);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_start(&f);
	for (unsigned i = 0; i < PEERS; i++) {
		fd[i] = peer_connect(&f.at);
		snprintf(id, sizeof(id), "a-%u", i);
		say_options(fd[i], id);
	}
	take(&f, PEERS - 1);
	for (unsigned i = 0; i < PEERS; i++)
		by[f.up.taken[i]->flow.acceptor]++;
	assert_true(by[0] > 0 && by[1] > 0);
	for (unsigned i = 0; i < PEERS; i++)
		close(fd[i]);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	stream_stop(&f);
}

/* While datagrams keep the acceptor from sleeping, connections have their turn, and the other way round. */
static void test_beside_udp(void **state)
{
	enum { FLOOD = 3000, EVERY = 100, WINDOW = 30 };
	struct stream_fixture f;
	struct addr self, udp;
	char text[1000], id[32];
	unsigned streams = 0;
	(void)state;
	stream_prepare(&f, 1);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_listener(&f, FLOW_UDP, "127.0.0.1");
	stream_start(&f);
	acceptor_reconfigure(f.a[0], 200, 7);
	udp = f.u->bound[1];
	int peer = peer_open("127.0.0.1", &self), fd = -1;
	for (unsigned i = 0; i < FLOOD; i++) {
		snprintf(id, sizeof(id), "udp-%u", i);
		peer_text(peer, &udp, options(text, id));
		if (i % EVERY == 0) {
			if (i % (5 * EVERY) == 0) { /* accepted in between, too */
				if (fd >= 0)
					close(fd);
				fd = peer_connect(&f.at);
			}
			say_options(fd, "stream");
			streams++;
		}
		if (i >= WINDOW) /* no more than the socket has room for */
			upper_await(&f.up, &f.up.flushed, i + streams - WINDOW);
	}
	take(&f, FLOOD + streams - 1);
	for (unsigned i = 0; i < FLOOD + streams; i++)
		if (f.up.taken[i]->flow.proto == FLOW_TCP)
			streams--;
	assert_int_equal(streams, 0);
	close(fd);
	close(peer);
	stream_stop(&f);
}

struct flood {
	pthread_t id;
	int fd;
	struct addr to;
	_Atomic bool end;
};

static void *flood(void *arg)
{
	struct flood *fl = arg;
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&fl->to, &ss);
	while (!atomic_load(&fl->end))
		sendto(fl->fd, "\r\n", 2, 0, (struct sockaddr *)&ss, len);
	return NULL;
}

/* Datagrams without an end, and nobody connected yet: who comes is accepted all the same. */
static void test_accept_beside_flood(void **state)
{
	struct stream_fixture f;
	struct flood fl = {0};
	struct addr self;
	uint64_t seen = counters_sum(CNT_DROP_KEEPALIVE);
	(void)state;
	stream_prepare(&f, 1);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_listener(&f, FLOW_UDP, "127.0.0.1");
	stream_start(&f);
	acceptor_reconfigure(f.a[0], 200, 7);
	fl.fd = peer_open("127.0.0.1", &self);
	fl.to = f.u->bound[1];
	pthread_create(&fl.id, NULL, flood, &fl);
	await_count(CNT_DROP_KEEPALIVE, seen + 10000);
	for (unsigned i = 0; i < 5; i++) {
		int fd = peer_connect(&f.at);
		say_options(fd, "stream");
		take(&f, i);
		close(fd);
		await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
	}
	atomic_store(&fl.end, true);
	pthread_join(fl.id, NULL);
	close(fl.fd);
	stream_stop(&f);
}

/* Each allocation of the acceptor's side fails once: the connection ends, nothing else. */
static struct stream_fixture *oom_fixture;

static void stream_body(void)
{
	struct stream_fixture *f = oom_fixture;
	char text[1000], c;
	int fd = peer_connect(&f->at);
	options(text, "memory");
	peer_write(fd, text, 20);
	test_sleep(2); /* most often in two reads, so that the start is kept */
	send(fd, text + 20, strlen(text) - 20, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	recv(fd, &c, 1, 0);
	close(fd);
	await_gauge(CNT_CONN_TCP_IN_OPEN, 0);
}

static struct udp *oom_udp;
static struct streams *oom_streams;

static void acceptor_body(void)
{
	struct upper up = {0};
	struct acceptor_config c = {.udp = oom_udp,
				    .streams = oom_streams,
				    .upper = {upper_deliver, upper_send_failed, upper_flush, &up}};
	struct acceptor *a;
	if (acceptor_create(&c, &a) < 0)
		assert_true(alloc_failed());
	else
		acceptor_destroy(a);
}

static void test_oom(void **state)
{
	struct stream_fixture f;
	(void)state;
	stream_open(&f, NULL);
	oom_fixture = &f;
	UNIT_OOM(stream_body);
	acceptor_stop(f.a[0]);
	oom_udp = f.u;
	oom_streams = f.s;
	UNIT_OOM(acceptor_body);
	stream_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivered),
		cmocka_unit_test(test_wildcard_and_ipv6),
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
		cmocka_unit_test(test_message_timeout),
		cmocka_unit_test(test_idle_timeout),
		cmocka_unit_test(test_crlf_interval),
		cmocka_unit_test(test_disarmed),
		cmocka_unit_test(test_not_disarmed),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_peer_ends),
		cmocka_unit_test(test_closed_by_us),
		cmocka_unit_test(test_shutdown),
		cmocka_unit_test(test_acceptors),
		cmocka_unit_test(test_beside_udp),
		cmocka_unit_test(test_accept_beside_flood),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
