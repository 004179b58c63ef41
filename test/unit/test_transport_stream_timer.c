/* All that a connection may be late with, and when TCP_USER_TIMEOUT is set. */
#include "test_stream_options.h"

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
		conn_say(c, "hello");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message_timeout), cmocka_unit_test(test_idle_timeout),
		cmocka_unit_test(test_crlf_interval),   cmocka_unit_test(test_disarmed),
		cmocka_unit_test(test_not_disarmed),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
