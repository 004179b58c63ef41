/* The life of connections: opened, watched, closed, by many threads at once and without memory. */
#include "test_conn.h"

/* --- opening --- */

static void test_connect(void **state)
{
	struct fixture x;
	int peer;
	uint64_t opened = counters_sum(CNT_CONN_OPENED);
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connect_to(&x, &x.peer);
	assert_int_equal(counters_sum(CNT_CONN_TCP_OUT_CONNECTING), 1);
	assert_int_equal(counters_sum(CNT_WRITERS), 0); /* nothing happens before there is something to send */
	conn_say(c, "one ");
	conn_say(c, "two ");
	peer = peer_accept(x.listen);
	peer_expect(peer, "one two ");
	conn_say(c, "three");
	peer_expect(peer, "three");
	await_gauge(CNT_WRITERS, 0);
	assert_int_equal(counters_sum(CNT_CONN_TCP_OUT_OPEN), 1);
	assert_int_equal(counters_sum(CNT_CONN_OPENED) - opened, 1);
	assert_false(conn_inbound(c));
	assert_int_equal(conn_proto(c), FLOW_TCP);
	assert_int_equal(conn_ack_timeout(c), 2000);
	assert_true(addr_eq(conn_remote(c), &x.peer));
	/* What the peer says comes as over any connection. */
	char text[1000];
	peer_say(peer, test_message(text, sizeof(text), "SIP/2.0 200 OK", "answer", ";tag=2", "1 INVITE"));
	upper_await(&x.f.up, &x.f.up.flushed, 1);
	const struct flow *flow = &x.f.up.taken[0]->flow;
	assert_int_equal(flow->conn, conn_id(c));
	assert_int_equal(flow->proto, FLOW_TCP);
	assert_true(addr_eq(&flow->remote, &x.peer));
	assert_true(addr_eq_ip(&flow->local, &x.f.at));
	close(peer);
	await_gauge(CNT_CONN_TCP_OUT_OPEN, 0);
	conn_put(c);
	fixture_close(&x);
}

static void test_connect_errors(void **state)
{
	struct fixture x;
	uint64_t id;
	(void)state;
	fixture_open(&x, NULL);
	struct conn_hop hop = {.proto = FLOW_TLS, .remote = x.peer};
	assert_int_equal(streams_connect(x.f.s, &hop, &id), -EPROTONOSUPPORT);
	hop = (struct conn_hop){.proto = FLOW_TCP, .listener = 1, .remote = x.peer};
	assert_int_equal(streams_connect(x.f.s, &hop, &id), -EPROTONOSUPPORT);
	hop = (struct conn_hop){.proto = FLOW_UDP, .remote = x.peer};
	assert_int_equal(streams_connect(x.f.s, &hop, &id), -EPROTONOSUPPORT);
	assert_null(streams_get(x.f.s, 0));
	assert_null(streams_get(x.f.s, 1));
	fixture_close(&x);
}

static void test_refused(void **state)
{
	struct fixture x;
	struct watcher w, late;
	uint64_t refused = counters_sum(CNT_CLOSED_REFUSED);
	(void)state;
	fixture_open(&x, NULL);
	close(x.listen);
	struct conn *c = connect_to(&x, &x.peer);
	watch(&w, c);
	assert_int_equal(conn_watch(c, &w.box, KIND_LOST), 0); /* a second watch does nothing */
	conn_say(c, "nobody there");
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_REFUSED);
	watch(&late, c); /* at once */
	assert_int_equal(await_lost(&late, conn_id(c)), CONN_REFUSED);
	assert_int_equal(counters_sum(CNT_CLOSED_REFUSED) - refused, 1);
	await_forgotten(x.f.s, conn_id(c));
	conn_say(c, "still nobody");
	await_gauge(CNT_WRITERS, 0);
	conn_put(c);
	x.listen = dup(0);
	fixture_close(&x);
	watcher_deinit(&w);
	watcher_deinit(&late);
}

static void set_connect_timeout(struct config_stream *o)
{
	o->connect_timeout = 200;
}

/* A listener whose backlog is full drops SYNs, as a dead host does. */
static void test_connect_timeout(void **state)
{
	struct fixture x;
	struct watcher w;
	struct addr at;
	int full[8], l = peer_listen("127.0.0.1", 0, &at);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);
	(void)state;
	fixture_open(&x, set_connect_timeout);
	for (unsigned i = 0; i < 8; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(full[i], (struct sockaddr *)&ss, len);
	}
	msec_t start = clock_mono_ms();
	struct conn *c = connect_to(&x, &at);
	watch(&w, c);
	conn_say(c, "hello?");
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_CONNECT_TIMEOUT);
	assert_in_range(clock_mono_ms() - start, 200, 2000);
	conn_put(c);
	/* Closed by somebody else while it connects: at once. */
	c = connect_to(&x, &at);
	conn_say(c, "hello?");
	start = clock_mono_ms();
	test_sleep(20);
	conn_close(c, CONN_ADMIN);
	await_gauge(CNT_WRITERS, 0);
	assert_true(clock_mono_ms() - start < 150);
	assert_int_equal(cause_of(c), CONN_ADMIN);
	conn_put(c);
	for (unsigned i = 0; i < 8; i++)
		close(full[i]);
	close(l);
	fixture_close(&x);
	watcher_deinit(&w);
}

/* --- told, stopped, stormed --- */

/* Several watchers, each told once, whoever ends it. */
static void test_watchers(void **state)
{
	struct fixture x;
	struct watcher w[3];
	int peer;
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	for (unsigned i = 0; i < 3; i++)
		watch(&w[i], c);
	peer_reset(peer);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(await_lost(&w[i], conn_id(c)), CONN_RESET);
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	fixture_close(&x);
	for (unsigned i = 0; i < 3; i++)
		watcher_deinit(&w[i]);
}

/* At the end of the process: open, connecting, with a backlog. */
static void test_stop(void **state)
{
	struct fixture x;
	struct watcher w[3];
	struct addr at;
	struct conn *c[3];
	int peer[2], full[8], l = peer_listen("127.0.0.1", 0, &at);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&at, &ss);
	(void)state;
	fixture_open(&x, NULL);
	for (unsigned i = 0; i < 8; i++) {
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(full[i], (struct sockaddr *)&ss, len);
	}
	c[0] = connected(&x, &peer[0]);
	fill(c[0]);
	c[1] = connect_to(&x, &at);
	conn_say(c[1], "hello?");
	struct addr second;
	int l2 = peer_listen("127.0.0.1", 4, &second);
	c[2] = connect_to(&x, &second);
	conn_say(c[2], "x");
	peer[1] = peer_accept(l2);
	for (unsigned i = 0; i < 3; i++)
		watch(&w[i], c[i]);
	msec_t start = clock_mono_ms();
	acceptor_stop(x.f.a[0]);
	alloc_fail_at(1); /* it needs no memory */
	streams_stop(x.f.s);
	assert_false(alloc_failed());
	alloc_fail_off();
	assert_true(clock_mono_ms() - start < 1000);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(await_lost(&w[i], conn_id(c[i])), CONN_SHUTDOWN);
		conn_put(c[i]);
	}
	struct conn_hop hop = {.proto = FLOW_TCP, .remote = x.peer};
	uint64_t id;
	assert_int_equal(streams_connect(x.f.s, &hop, &id), -ENOBUFS);
	fixture_close(&x);
	for (unsigned i = 0; i < 3; i++)
		watcher_deinit(&w[i]);
	for (unsigned i = 0; i < 8; i++)
		close(full[i]);
	close(peer[0]);
	close(peer[1]);
	close(l);
	close(l2);
}

/* Many threads that connect, send and close the same hops. */
static struct fixture *storm_fixture;
static struct addr storm_peer[4];

static void *storm(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	for (unsigned i = 0; i < 300; i++) {
		uint64_t r = unit_random(&seed);
		struct conn_hop hop = {.proto = FLOW_TCP, .remote = storm_peer[r % 4]};
		uint64_t id;
		if (streams_connect(storm_fixture->f.s, &hop, &id) < 0)
			continue;
		struct conn *c = streams_get(storm_fixture->f.s, id);
		if (!c)
			continue;
		conn_say(c, "storm");
		if (r / 4 % 4 == 0)
			conn_close(c, CONN_ADMIN);
		conn_acked(c, clock_mono_ms());
		conn_put(c);
	}
	return NULL;
}

static _Atomic bool sink_end;

/* Takes every connection and what it says; resets some. */
static void *sink(void *arg)
{
	struct pollfd p[4 + 512];
	unsigned n = 4, count = 0;
	const int *listen = arg;
	char buf[4096];
	for (unsigned i = 0; i < 4; i++)
		p[i] = (struct pollfd){.fd = listen[i], .events = POLLIN};
	while (!atomic_load(&sink_end)) {
		poll(p, n, 10);
		for (unsigned i = 4; i < n; i++) {
			if (!p[i].revents)
				continue;
			ssize_t r = recv(p[i].fd, buf, sizeof(buf), MSG_DONTWAIT);
			if (r > 0 && ++count % 7)
				continue;
			if (r > 0)
				peer_reset(p[i].fd);
			else
				close(p[i].fd);
			p[i--] = p[--n];
		}
		for (unsigned i = 0; i < 4; i++) {
			int fd = p[i].revents && n < 4 + 512 ? accept4(p[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;
			if (fd >= 0)
				p[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
	}
	while (n > 4)
		close(p[--n].fd);
	return NULL;
}

static void test_storm(void **state)
{
	struct fixture x;
	pthread_t id[6], drain;
	int l[4];
	(void)state;
	fixture_open(&x, NULL);
	storm_fixture = &x;
	atomic_store(&sink_end, false);
	for (unsigned i = 0; i < 4; i++)
		l[i] = peer_listen("127.0.0.1", 64, &storm_peer[i]);
	pthread_create(&drain, NULL, sink, l);
	for (unsigned i = 0; i < 6; i++)
		pthread_create(&id[i], NULL, storm, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < 6; i++)
		pthread_join(id[i], NULL);
	atomic_store(&sink_end, true);
	pthread_join(drain, NULL);
	for (unsigned i = 0; i < 4; i++)
		close(l[i]);
	fixture_close(&x);
}

/* --- memory --- */

static struct fixture *oom_fixture;

static void conn_body(void)
{
	struct fixture *x = oom_fixture;
	struct conn_hop hop = {.proto = FLOW_TCP, .remote = x->peer};
	struct mailbox box;
	struct mailbox_item *it;
	uint64_t id;
	if (streams_connect(x->f.s, &hop, &id) < 0) {
		assert_true(alloc_failed());
		return;
	}
	struct conn *c = streams_get(x->f.s, id);
	mailbox_init(&box, 10);
	if (conn_watch(c, &box, KIND_LOST) < 0)
		assert_true(alloc_failed());
	conn_say(c, "hello");
	conn_say(c, "world");
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	await_gauge(CNT_WRITERS, 0); /* it may be the one who tells */
	while ((it = mailbox_take(&box)))
		free(it);
	mailbox_deinit(&box);
}

static void test_oom(void **state)
{
	struct fixture x;
	(void)state;
	fixture_open(&x, NULL);
	oom_fixture = &x;
	UNIT_OOM(conn_body);
	fixture_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect),  cmocka_unit_test(test_connect_errors),
		cmocka_unit_test(test_refused),  cmocka_unit_test(test_connect_timeout),
		cmocka_unit_test(test_watchers), cmocka_unit_test(test_stop),
		cmocka_unit_test(test_storm),    cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
