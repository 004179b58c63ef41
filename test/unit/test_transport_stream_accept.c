/* Accepting: limits, the pause without descriptors, a share for each acceptor. */
#include <sys/resource.h>

#include "test_stream_options.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_acceptors),
		cmocka_unit_test(test_accept_beside_flood),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
