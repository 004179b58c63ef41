/* The sending side of a connection, and what its peer has acknowledged. */
#include "test_conn.h"

/* --- sending --- */

#define SENDERS 4
#define EACH    2000

struct sender {
	pthread_t id;
	struct conn *c;
	unsigned number;
};

static void *send_many(void *arg)
{
	struct sender *s = arg;
	for (unsigned i = 0; i < EACH; i++) {
		char text[32];
		struct iovec v[2];
		snprintf(text, sizeof(text), "%u:%07u:", s->number, i);
		v[0] = (struct iovec){text, 5};
		v[1] = (struct iovec){text + 5, 5};
		conn_send(s->c, v, 2, clock_mono_ms());
	}
	return NULL;
}

/* Several threads on one connection: each call's bytes stay together, each thread's calls in their order. */
static void test_order(void **state)
{
	struct fixture x;
	struct sender s[SENDERS];
	unsigned next[SENDERS] = {0};
	int peer;
	(void)state;
	fixture_open(&x, NULL);
	for (unsigned round = 0; round < 2; round++) {
		struct conn *c =
			round ? connected(&x, &peer) : connect_to(&x, &x.peer); /* also while it connects */
		memset(next, 0, sizeof(next));
		for (unsigned i = 0; i < SENDERS; i++) {
			s[i] = (struct sender){.c = c, .number = i};
			pthread_create(&s[i].id, NULL, send_many, &s[i]);
		}
		if (!round)
			peer = peer_accept(x.listen);
		for (unsigned i = 0; i < SENDERS * EACH; i++) {
			char text[11] = "";
			unsigned who, number;
			peer_read(peer, text, 10);
			assert_int_equal(sscanf(text, "%u:%u:", &who, &number), 2);
			assert_true(who < SENDERS);
			assert_int_equal(number, next[who]++);
		}
		for (unsigned i = 0; i < SENDERS; i++)
			pthread_join(s[i].id, NULL);
		conn_close(c, CONN_ADMIN);
		conn_put(c);
		close(peer);
	}
	fixture_close(&x);
}

/* A peer that does not read for a while gets all of it, by a writer that ends then. */
static void test_backlog(void **state)
{
	struct fixture x;
	int peer;
	static char sink[sizeof(block)];
	(void)state;
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7 + i / 256);
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	size_t n = fill(c);
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	assert_true(counters_sum(CNT_CONN_QUEUED) > 0);
	conn_say(c, "last");
	for (; n; n -= sizeof(block)) {
		peer_read(peer, sink, sizeof(sink));
		assert_memory_equal(sink, block, sizeof(sink));
	}
	peer_expect(peer, "last");
	await_gauge(CNT_WRITERS, 0);
	assert_int_equal(counters_sum(CNT_CONN_QUEUED), 0);
	conn_say(c, "direct again");
	assert_int_equal(counters_sum(CNT_WRITERS), 0);
	peer_expect(peer, "direct again");
	conn_put(c);
	close(peer);
	fixture_close(&x);
}

static void test_queue_limit(void **state)
{
	struct fixture x;
	struct watcher w;
	int peer;
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	watch(&w, c);
	fill(c);
	msec_t start = clock_mono_ms();
	for (unsigned i = 0; i < 5; i++) /* 256 kB are allowed */
		send_block(c);
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_QUEUE_LIMIT);
	assert_true(clock_mono_ms() - start < 2000);
	await_gauge(CNT_WRITERS, 0);
	conn_put(c);
	await_gauge(CNT_CONN_TCP_OUT_CLOSED, 0);
	assert_int_equal(counters_sum(CNT_CONN_QUEUED), 0);
	close(peer);
	/* Also while it connects. */
	c = connect_to(&x, &x.peer);
	pthread_mutex_lock(&c->lock);
	c->draining = true; /* as if its writer were slow */
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < 5; i++)
		send_block(c);
	assert_int_equal(cause_of(c), CONN_QUEUE_LIMIT);
	assert_int_equal(conn_drain(c), -EPIPE);
	conn_put(c);
	fixture_close(&x);
	watcher_deinit(&w);
}

static void set_write_timeout(struct config_stream *o)
{
	o->write_timeout = 300;
	o->queue_limit = 20000000;
}

static void test_write_timeout(void **state)
{
	struct fixture x;
	struct watcher w;
	static char sink[sizeof(block)];
	int peer;
	(void)state;
	fixture_open(&x, set_write_timeout);
	struct conn *c = connected(&x, &peer);
	watch(&w, c);
	fill(c);
	for (unsigned i = 0; i < 200; i++) /* so much that reading all of it takes longer than the timeout */
		send_block(c);
	msec_t start = clock_mono_ms();
	while (clock_mono_ms() < start + 700) { /* slow, but alive: stays */
		assert_true(has_backlog(c));
		for (unsigned i = 0; i < 4; i++)
			peer_read(peer, sink, sizeof(sink));
		test_sleep(80);
	}
	assert_null(mailbox_take(&w.box));
	start = clock_mono_ms();
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_WRITE_TIMEOUT);
	assert_in_range(clock_mono_ms() - start, 100, 2000);
	await_gauge(CNT_WRITERS, 0);
	conn_put(c);
	/* What the kernel held for it is gone as well: a reset, not an orphan that waits for minutes. */
	await_gauge(CNT_CONN_TCP_OUT_CLOSED, 0);
	ssize_t n;
	while ((n = recv(peer, sink, sizeof(sink), 0)) > 0)
		;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	close(peer);
	fixture_close(&x);
	watcher_deinit(&w);
}

/* Nobody who sends waits, whatever the peer does. */
static void test_never_blocks(void **state)
{
	struct fixture x;
	int peer;
	nsec_t worst = 0;
	(void)state;
	fixture_open(&x, set_write_timeout);
	struct conn *c = connected(&x, &peer);
	for (unsigned i = 0; i < 100; i++) {
		nsec_t start = clock_mono_ns();
		send_block(c);
		nsec_t took = clock_mono_ns() - start;
		if (took > worst)
			worst = took;
	}
	assert_true(worst < 200000000);
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	close(peer);
	fixture_close(&x);
}

/* conn_finish: what is queued leaves, then the end. */
static void test_finish(void **state)
{
	struct fixture x;
	static char sink[sizeof(block)];
	int peer;
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	size_t n = fill(c);
	conn_say(c, "last");
	conn_finish(c);
	conn_finish(c);
	conn_say(c, "never");
	struct conn *fresh = connect_to(&x, &x.peer); /* for what comes now */
	assert_ptr_not_equal(fresh, c);
	conn_close(fresh, CONN_ADMIN);
	conn_put(fresh);
	for (; n; n -= sizeof(block))
		peer_read(peer, sink, sizeof(sink));
	peer_expect(peer, "last");
	peer_expect_end(peer);
	close(peer);
	conn_put(c);
	c = connected(&x, &peer);
	conn_finish(c);
	peer_expect_end(peer);
	close(peer);
	conn_put(c);
	fixture_close(&x);
}

/* --- what was acknowledged --- */

static void test_marks(void **state)
{
	struct conn_profile profile = {0};
	struct conn c = {.profile = &profile};
	(void)state;
	set_marks(&profile.options);
	assert_true(marks_acked(&c, 1000, 0)); /* nothing was sent */
	marks_note(&c, 1000, 500);
	assert_true(marks_acked(&c, 999, 0)); /* not yet */
	assert_false(marks_acked(&c, 1000, 499));
	assert_true(marks_acked(&c, 1000, 500));
	marks_note(&c, 1050, 700); /* of the same mark */
	assert_false(marks_acked(&c, 1000, 699));
	assert_true(marks_acked(&c, 1060, 700));
	marks_note(&c, 1100, 900); /* the next one */
	assert_true(marks_acked(&c, 1099, 700));
	assert_false(marks_acked(&c, 1100, 899));
	/* Two timeouts back, however many there are. */
	for (unsigned i = 2; i < 100; i++) {
		marks_note(&c, 1000 + 100 * i, 900 + i);
		assert_false(marks_acked(&c, 1000 + 100 * i, 899 + i));
		assert_true(marks_acked(&c, 1000 + 100 * i, 900 + i));
		if (i >= 9) {
			assert_false(marks_acked(&c, 1000 + 100 * (i - 7), 899 + i - 7));
			assert_true(marks_acked(&c, 1000 + 100 * (i - 7), 900 + i - 7));
			assert_true(marks_acked(&c, 1000 + 100 * (i - 8), 0)); /* forgotten */
		}
	}
}

static void test_acked(void **state)
{
	struct fixture x;
	static char sink[sizeof(block)];
	int peer;
	(void)state;
	fixture_open(&x, set_marks);
	struct conn *c = connect_to(&x, &x.peer);
	msec_t before = clock_mono_ms();
	assert_true(conn_acked(c, before)); /* nothing was sent */
	test_sleep(2);
	pthread_mutex_lock(&c->lock);
	c->draining = true; /* as if its writer were slow to connect */
	pthread_mutex_unlock(&c->lock);
	conn_say(c, "hi");
	msec_t now = clock_mono_ms();
	assert_false(conn_acked(c, now));
	assert_true(conn_acked(c, before));
	writer_start(c);
	peer = peer_accept(x.listen);
	peer_expect(peer, "hi");
	await_gauge(CNT_WRITERS, 0);
	assert_true(conn_acked(c, now));
	/* The peer's window closes: neither what is in the kernel nor what is behind it is acknowledged. */
	test_sleep(150);
	msec_t start = clock_mono_ms();
	size_t n = fill(c);
	assert_false(conn_acked(c, clock_mono_ms()));
	assert_true(conn_acked(c, start - 1));
	for (; n; n -= sizeof(block))
		peer_read(peer, sink, sizeof(sink));
	await_gauge(CNT_WRITERS, 0);
	for (unsigned i = 0; i < 1000 && !conn_acked(c, clock_mono_ms()); i++)
		test_sleep(1);
	assert_true(conn_acked(c, clock_mono_ms()));
	conn_close(c, CONN_ADMIN);
	assert_true(conn_acked(c, clock_mono_ms()));
	conn_put(c);
	close(peer);
	fixture_close(&x);
}

static void set_no_span(struct config_stream *o)
{
	o->ack_timeout = 1;
}

struct prober {
	pthread_t id;
	struct conn *c;
	_Atomic msec_t since; /* 0: do not ask; UINT64_MAX: end */
	_Atomic unsigned missed, asked;
};

static void *probe(void *arg)
{
	struct prober *p = arg;
	msec_t since;
	while ((since = atomic_load(&p->since)) != UINT64_MAX) {
		if (!since)
			continue;
		if (!conn_acked(p->c, since))
			atomic_fetch_add(&p->missed, 1);
		atomic_fetch_add(&p->asked, 1);
	}
	return NULL;
}

/* What has been acknowledged stays so, also while more is being written. */
static void test_acked_while_writing(void **state)
{
	struct fixture x;
	static char sink[20000];
	struct prober p = {0};
	int peer;
	(void)state;
	fixture_open(&x, set_no_span);
	p.c = connected(&x, &peer);
	pthread_create(&p.id, NULL, probe, &p);
	for (unsigned i = 0; i < 80; i++) {
		struct iovec v = {block, sizeof(sink)};
		msec_t now = clock_mono_ms();
		conn_send(p.c, &v, 1, now);
		peer_read(peer, sink, sizeof(sink));
		setsockopt(peer, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
		test_sleep(17); /* the next has a mark of its own */
		atomic_store(&p.since, now);
	}
	atomic_store(&p.since, UINT64_MAX);
	pthread_join(p.id, NULL);
	assert_true(p.asked > 0);
	assert_int_equal(p.missed, 0);
	conn_put(p.c);
	close(peer);
	fixture_close(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_queue_limit),
		cmocka_unit_test(test_write_timeout),
		cmocka_unit_test(test_never_blocks),
		cmocka_unit_test(test_finish),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_acked),
		cmocka_unit_test(test_acked_while_writing),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
