/* The threads of connections that cannot progress: how many there are, and that they are used again. */
#include "test_conn.h"

static unsigned parked(struct streams *s)
{
	pthread_mutex_lock(&s->writers_lock);
	unsigned n = s->parked_count;
	pthread_mutex_unlock(&s->writers_lock);
	return n;
}

static void await_parked(struct streams *s, unsigned want)
{
	for (msec_t end = clock_mono_ms() + 5000; parked(s) != want && clock_mono_ms() < end;)
		test_sleep(1);
	assert_int_equal(parked(s), want);
}

/* A writer's thread does the next connection's work as well, and does not wait for it forever. */
static void test_writer_again(void **state)
{
	struct fixture x;
	struct addr at;
	int peer, full[8], l = peer_listen("127.0.0.1", 0, &at);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);
	(void)state;
	fixture_open(&x, NULL);
	for (unsigned i = 0; i < 8; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(full[i], (struct sockaddr *)&ss, len);
	}
	struct conn *c = connected(&x, &peer), *hung;
	await_parked(x.f.s, 1);
	hung = connect_to(&x, &at);
	conn_say(hung, "hello?");
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	assert_int_equal(parked(x.f.s), 0); /* it has the work */
	conn_close(hung, CONN_ADMIN);
	await_gauge(CNT_WRITERS, 0);
	await_parked(x.f.s, 1); /* no other thread was made: two would wait now */
	await_parked(x.f.s, 0);
	conn_put(hung);
	conn_put(c);
	for (unsigned i = 0; i < 8; i++)
		close(full[i]);
	close(l);
	close(peer);
	fixture_close(&x);
}

/* More connections that wait than there may be writers. */
static void test_max_writers(void **state)
{
	struct stream_fixture f;
	struct addr at;
	struct conn *c[8];
	int full[8], l = peer_listen("127.0.0.1", 0, &at);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);
	uint64_t refused = counters_sum(CNT_CONN_REFUSED_WRITERS);
	unsigned lost = 0;
	(void)state;
	stream_prepare(&f, 1);
	f.t.config.writers = 3;
	stream_listener(&f, FLOW_TCP, "0.0.0.0");
	stream_start(&f);
	for (unsigned i = 0; i < 8; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(full[i], (struct sockaddr *)&ss, len);
	}
	for (unsigned i = 0; i < 8; i++) {
		char ip[20];
		snprintf(ip, sizeof(ip), "127.0.1.%u", i);
		struct conn_hop hop = {.proto = FLOW_TCP, .remote = i < 3 ? at : test_addr(ip, at.port)};
		uint64_t id;
		hop.remote.port = at.port;
		if (i > 0 && i < 3)
			snprintf(ip, sizeof(ip), "x"); /* the same hop: the same connection */
		assert_int_equal(streams_connect(f.s, &hop, &id), 0);
		c[i] = streams_get(f.s, id);
		assert_non_null(c[i]);
	}
	conn_say(c[0], "x"); /* hangs */
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	pthread_mutex_lock(&f.s->writers_lock);
	f.s->writers += 2; /* as if two more hung */
	pthread_mutex_unlock(&f.s->writers_lock);
	for (unsigned i = 3; i < 8; i++) {
		conn_say(c[i], "x");
		lost += cause_of(c[i]) == CONN_LIMIT;
	}
	assert_int_equal(lost, 5);
	assert_int_equal(counters_sum(CNT_CONN_REFUSED_WRITERS) - refused, 5);
	pthread_mutex_lock(&f.s->writers_lock);
	f.s->writers -= 2;
	pthread_mutex_unlock(&f.s->writers_lock);
	for (unsigned i = 0; i < 8; i++) {
		conn_put(c[i]);
		close(full[i]);
	}
	close(l);
	stream_stop(&f); /* ends the one that hangs */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_max_writers),
		cmocka_unit_test(test_writer_again),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
