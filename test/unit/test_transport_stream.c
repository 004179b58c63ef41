/* The reading side of connections: taken over, read, given up. */
#include "test_stream_options.h"

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
	conn_say(c, "into the void");
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
		cmocka_unit_test(test_delivered), cmocka_unit_test(test_wildcard_and_ipv6),
		cmocka_unit_test(test_peer_ends), cmocka_unit_test(test_closed_by_us),
		cmocka_unit_test(test_shutdown),  cmocka_unit_test(test_beside_udp),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
