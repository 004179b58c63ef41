/* Connections of an earlier process, and those that are left to the next. */
#include "test_conn.h"
#include "transport/inherit.h"

/* A connection as that leaves it: `sent` bytes of its own have come through. */
static int inheritable(struct fixture *x, size_t sent, int *peer)
{
	static char sink[sizeof(block)];
	int fd = peer_connect_from(&x->peer, NULL);
	*peer = peer_accept(x->listen);
	while (sent) {
		ssize_t n = send(fd, block, sent < sizeof(block) ? sent : sizeof(block), MSG_NOSIGNAL);
		assert_true(n > 0);
		peer_read(*peer, sink, (size_t)n);
		sent -= (size_t)n;
	}
	return fd;
}

/* What the earlier process has sent does not count for what this one sends. */
static void test_inherited_acked(void **state)
{
	struct fixture x;
	int peer;
	(void)state;
	fixture_open(&x, set_marks);
	struct inherited_conn e = {
		.id = 4711, .bound = x.f.at, .remote = x.peer, .fd = inheritable(&x, 10000000, &peer)};
	struct conn *c = conn_inherit(x.f.s, 0, &e);
	stream_adopt(conn_ref(c));
	conn_say(c, "hi");
	peer_expect(peer, "hi");
	for (unsigned i = 0; i < 1000 && !conn_acked(c, clock_mono_ms()); i++)
		test_sleep(1);
	assert_true(conn_acked(c, clock_mono_ms()));
	struct iovec v = {block, sizeof(block)};
	while (tcp_unacked(c->fd) == 0) /* until the peer's window is closed */
		conn_send(c, &v, 1, clock_mono_ms());
	assert_false(conn_acked(c, clock_mono_ms()));
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	close(peer);
	fixture_close(&x);
}

static void export_one(void *ctx, const struct inherited_conn *c)
{
	struct inherited_conn *e = ctx;
	assert_int_equal(e->fd, -1); /* there is one */
	*e = *c;
	e->fd = dup(c->fd);
	assert_null(e->in);
	assert_null(e->queue);
}

/* Half a ping came before, the rest after. */
static void test_inherited_half_ping(void **state)
{
	static const char *const half[] = {"\r", "\r\n", "\r\n\r"}, *const rest[] = {"\n\r\n", "\r\n", "\n"};
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct fixture x, y;
		struct inherited_conn e = {.fd = -1};
		fixture_open(&x, NULL);
		fixture_open(&y, NULL);
		uint64_t calls = counters_sum(CNT_CONN_READ_CALLS);
		int fd = peer_connect(&x.f.at);
		peer_say(fd, half[i]);
		await_count(CNT_CONN_READ_CALLS, calls + 1);
		acceptor_stop(x.f.a[0]);
		streams_export(x.f.s, 100, export_one, &e);
		e.bound = y.f.at;
		struct inheritance in = {.conn = &e, .conns = 1};
		assert_int_equal(streams_import(y.f.s, &in), 1);
		peer_say(fd, rest[i]);
		peer_expect(fd, "\r\n");
		close(fd);
		await_gauge(CNT_CONN_TCP_IN_OPEN, 1);   /* what the first still counts */
		await_gauge(CNT_CONN_TCP_IN_CLOSED, 0); /* the second has let go of it */
		fixture_close(&x);
		fixture_close(&y);
	}
}

static void export_queue(void *ctx, const struct inherited_conn *c)
{
	*(size_t *)ctx += c->queue_len;
}

static size_t queued_of(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	size_t n = c->queued;
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* A writer whose peer does not read leaves when the process does, and its queue is handed over. */
static void test_leaving(void **state)
{
	struct fixture x;
	size_t queued = 0;
	int peer;
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	do {
		while (queued_of(c) < sizeof(block))
			send_block(c);
		test_sleep(50); /* the peer's kernel may still take some */
	} while (queued_of(c) < sizeof(block));
	acceptor_stop(x.f.a[0]);
	msec_t start = clock_mono_ms();
	streams_export(x.f.s, 2000, export_queue, &queued);
	assert_in_range(clock_mono_ms() - start, 2000, 3900); /* the second grace is not needed */
	assert_int_equal(counters_sum(CNT_WRITERS), 0);
	assert_true(queued > 0);
	assert_int_equal(queued, c->queued);
	conn_put(c);
	close(peer);
	fixture_close(&x);
}

static void set_small(struct config_stream *o)
{
	o->max_message = 2000;
}

/* It allowed larger messages: the start of one is more than a whole one may be now. */
static void test_inherited_too_large(void **state)
{
	struct fixture x;
	int peer;
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	fixture_open(&x, set_small);
	struct inherited_conn e = {
		.id = 4711, .bound = x.f.at, .remote = x.peer, .fd = inheritable(&x, 0, &peer)};
	struct conn *c = conn_inherit(x.f.s, 0, &e);
	c->in = malloc(3000);
	c->in_len = c->in_cap = 3000;
	memset(c->in, 'x', c->in_len);
	c->in_since = clock_mono_ms();
	stream_adopt(c);
	peer_write(peer, block, 5000);
	peer_expect_end(peer);
	await_count(CNT_CLOSED_PROTOCOL, closed + 1);
	close(peer);
	fixture_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inherited_acked),
		cmocka_unit_test(test_inherited_half_ping),
		cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_inherited_too_large),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
