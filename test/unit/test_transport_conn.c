#include <sys/resource.h>

#include "test_stream.h"
#include "transport/inherit.h"

/* --- fixture: one acceptor, one TCP listener whose address connections leave from, a peer that listens --- */

struct fixture {
	struct stream_fixture f;
	int listen;
	struct addr peer; /* where it listens */
};

static void fixture_open(struct fixture *x, void (*set)(struct config_stream *o))
{
	stream_open(&x->f, set);
	x->listen = peer_listen("127.0.0.1", 64, &x->peer);
}

static void fixture_close(struct fixture *x)
{
	close(x->listen);
	stream_stop(&x->f);
}

static struct conn *connect_to(struct fixture *x, const struct addr *to)
{
	struct conn_hop hop = {.proto = FLOW_TCP, .remote = *to};
	uint64_t id;
	assert_int_equal(streams_connect(x->f.s, &hop, &id), 0);
	struct conn *c = streams_get(x->f.s, id);
	assert_non_null(c);
	assert_int_equal(conn_id(c), id);
	return c;
}

static void say(struct conn *c, const char *text)
{
	struct iovec v = {(void *)(uintptr_t)text, strlen(text)};
	conn_send(c, &v, 1, clock_mono_ms());
}

/* Connected, and "hi" has come through. */
static struct conn *connected(struct fixture *x, int *peer)
{
	struct conn *c = connect_to(x, &x->peer);
	say(c, "hi");
	*peer = peer_accept(x->listen);
	peer_expect(*peer, "hi");
	await_gauge(CNT_WRITERS, 0);
	return c;
}

static enum conn_cause cause_of(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	assert_int_equal(c->state, CONN_CLOSED);
	enum conn_cause cause = (enum conn_cause)c->cause;
	pthread_mutex_unlock(&c->lock);
	return cause;
}

/* --- watchers --- */

#define KIND_LOST 77

struct watcher {
	struct mailbox box;
};

static void watch(struct watcher *w, struct conn *c)
{
	mailbox_init(&w->box, 10);
	assert_int_equal(conn_watch(c, &w->box, KIND_LOST), 0);
}

/* The one item, which must come. */
static enum conn_cause await_lost(struct watcher *w, uint64_t id)
{
	struct mailbox_item *it;
	msec_t limit = clock_mono_ms() + WAIT_MS;
	while (!(it = mailbox_take(&w->box))) {
		assert_true(clock_mono_ms() < limit);
		mailbox_wait(&w->box, 100000000);
	}
	struct conn_lost *l = (struct conn_lost *)it;
	assert_int_equal(it->kind, KIND_LOST);
	assert_int_equal(l->conn, id);
	enum conn_cause cause = l->cause;
	free(l);
	return cause;
}

/* When nobody is left who could tell. */
static void watcher_deinit(struct watcher *w)
{
	assert_null(mailbox_take(&w->box)); /* told once */
	mailbox_deinit(&w->box);
}

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
	say(c, "one ");
	say(c, "two ");
	peer = peer_accept(x.listen);
	peer_expect(peer, "one two ");
	say(c, "three");
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

static void test_reuse(void **state)
{
	struct fixture x;
	int peer, other;
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer), *same = connect_to(&x, &x.peer);
	assert_ptr_equal(same, c);
	conn_put(same);
	/* Another port is another hop. */
	struct addr at;
	int second = peer_listen("127.0.0.1", 4, &at);
	struct conn *d = connect_to(&x, &at);
	assert_ptr_not_equal(d, c);
	say(d, "d");
	other = peer_accept(second);
	peer_expect(other, "d");
	/* A closed one is not used again. */
	uint64_t id = conn_id(c);
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	c = connected(&x, &peer);
	assert_int_not_equal(conn_id(c), id);
	conn_put(c);
	conn_put(d);
	close(peer);
	close(other);
	close(second);
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
	say(c, "nobody there");
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_REFUSED);
	watch(&late, c); /* at once */
	assert_int_equal(await_lost(&late, conn_id(c)), CONN_REFUSED);
	assert_int_equal(counters_sum(CNT_CLOSED_REFUSED) - refused, 1);
	await_forgotten(x.f.s, conn_id(c));
	say(c, "still nobody");
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
	say(hung, "hello?");
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
	say(c, "hello?");
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	assert_int_equal(await_lost(&w, conn_id(c)), CONN_CONNECT_TIMEOUT);
	assert_in_range(clock_mono_ms() - start, 200, 2000);
	conn_put(c);
	/* Closed by somebody else while it connects: at once. */
	c = connect_to(&x, &at);
	say(c, "hello?");
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

static void set_max_two(struct config_stream *o)
{
	o->max_connections = 2;
}

static void test_max_connections(void **state)
{
	struct fixture x;
	struct conn_hop hop = {.proto = FLOW_TCP};
	uint64_t id[3], refused = counters_sum(CNT_CONN_REFUSED_LIMIT);
	(void)state;
	fixture_open(&x, set_max_two);
	for (unsigned i = 0; i < 2; i++) {
		hop.remote = test_addr("127.0.0.1", (uint16_t)(1000 + i));
		assert_int_equal(streams_connect(x.f.s, &hop, &id[i]), 0);
	}
	hop.remote = x.peer;
	assert_int_equal(streams_connect(x.f.s, &hop, &id[2]), -ENOBUFS);
	assert_int_equal(counters_sum(CNT_CONN_REFUSED_LIMIT) - refused, 1);
	struct conn *c = streams_get(x.f.s, id[0]);
	conn_close(c, CONN_ADMIN);
	conn_put(c); /* the last reference: its place is free */
	assert_int_equal(streams_connect(x.f.s, &hop, &id[2]), 0);
	fixture_close(&x);
}

/* An IPv6 host has a /64 to call from: its addresses count as one. */
static void test_limit_of_network(void **state)
{
	static const char *const ip[] = {"2001:db8:0:1::1", "2001:db8:0:1:a::2", "2001:db8:0:1::3",
					 "2001:db8:0:2::1"};
	static const struct config_stream o = {.max_connections = 10, .max_connections_per_address = 2};
	struct stream_fixture f;
	struct addr a[4];
	(void)state;
	stream_prepare(&f, 1);
	stream_listener(&f, FLOW_TCP, "0.0.0.0");
	stream_start(&f);
	for (unsigned i = 0; i < 4; i++) {
		a[i] = test_addr(ip[i], 5060);
		assert_int_equal(conn_table_admit(f.s, 0, &o, &a[i], true), i != 2);
	}
	conn_table_leave(f.s, 0, &a[0], true);
	assert_true(conn_table_admit(f.s, 0, &o, &a[2], true));
	for (unsigned i = 1; i < 4; i++)
		conn_table_leave(f.s, 0, &a[i], true);
	stream_stop(&f);
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
	say(c[0], "x"); /* hangs */
	assert_int_equal(counters_sum(CNT_WRITERS), 1);
	pthread_mutex_lock(&f.s->writers_lock);
	f.s->writers += 2; /* as if two more hung */
	pthread_mutex_unlock(&f.s->writers_lock);
	for (unsigned i = 3; i < 8; i++) {
		say(c[i], "x");
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

static char block[65536];

static void send_block(struct conn *c)
{
	struct iovec v = {block, sizeof(block)};
	conn_send(c, &v, 1, clock_mono_ms());
}

static bool has_backlog(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	bool has = c->queued > 0;
	pthread_mutex_unlock(&c->lock);
	return has;
}

static size_t fill(struct conn *c)
{
	size_t n = 0;
	while (!has_backlog(c)) {
		send_block(c);
		n += sizeof(block);
	}
	return n;
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
	say(c, "last");
	for (; n; n -= sizeof(block)) {
		peer_read(peer, sink, sizeof(sink));
		assert_memory_equal(sink, block, sizeof(sink));
	}
	peer_expect(peer, "last");
	await_gauge(CNT_WRITERS, 0);
	assert_int_equal(counters_sum(CNT_CONN_QUEUED), 0);
	say(c, "direct again");
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
	say(c, "last");
	conn_finish(c);
	conn_finish(c);
	say(c, "never");
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

static void set_marks(struct config_stream *o)
{
	o->ack_timeout = 400; /* marks are 100 ms apart */
}

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
	say(c, "hi");
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

/* --- of an earlier process --- */

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
	say(c, "hi");
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

/* --- RFC 5923 --- */

static void test_alias(void **state)
{
	struct fixture x;
	char text[1000];
	(void)state;
	fixture_open(&x, NULL);
	int fd = peer_connect(&x.f.at);
	peer_say(fd, test_message(text, sizeof(text), "OPTIONS sip:b SIP/2.0", "alias", "", "1 OPTIONS"));
	upper_await(&x.f.up, &x.f.up.flushed, 1);
	struct conn *c = streams_get(x.f.s, x.f.up.taken[0]->flow.conn);
	struct addr hop = test_addr("127.0.0.1", 5099);
	conn_alias(c, 5099, SLICE_NONE);
	struct conn *d = connect_to(&x, &hop);
	assert_ptr_equal(c, d);
	conn_put(d);
	say(c, "back");
	peer_expect(fd, "back");
	/* One that is there already is left. */
	int second = peer_connect(&x.f.at);
	peer_say(second, test_message(text, sizeof(text), "OPTIONS sip:b SIP/2.0", "two", "", "1 OPTIONS"));
	upper_await(&x.f.up, &x.f.up.flushed, 2);
	struct conn *e = streams_get(x.f.s, x.f.up.taken[1]->flow.conn);
	conn_alias(e, 5099, SLICE_NONE);
	d = connect_to(&x, &hop);
	assert_ptr_equal(c, d);
	conn_put(d);
	/* When it ends, the hop is free. */
	conn_close(c, CONN_ADMIN);
	conn_put(c);
	d = connect_to(&x, &hop);
	assert_false(conn_inbound(d));
	conn_put(d);
	conn_put(e);
	close(fd);
	close(second);
	fixture_close(&x);
}

/* --- all of them --- */

struct seen {
	unsigned n, inbound, closed;
	bool close;
};

static void see(void *ctx, struct conn *c, const struct conn_info *i)
{
	struct seen *s = ctx;
	s->n++;
	s->inbound += i->inbound;
	assert_int_equal(i->id, conn_id(c));
	assert_int_equal(i->proto, FLOW_TCP);
	assert_int_equal(i->state, CONN_OPEN);
	assert_int_equal(i->queued, 0);
	assert_true(i->opened > 0);
	assert_int_equal(i->local.family, AF_INET);
	assert_true(addr_eq(&i->remote, conn_remote(c)));
	if (s->close)
		conn_close(c, CONN_ADMIN);
}

static void test_each(void **state)
{
	enum { IN = 150 };
	struct fixture x;
	struct seen s = {0};
	int peer, fd[IN];
	(void)state;
	fixture_open(&x, NULL);
	struct conn *c = connected(&x, &peer);
	for (unsigned i = 0; i < IN; i++)
		fd[i] = peer_connect(&x.f.at);
	await_gauge(CNT_CONN_TCP_IN_OPEN, IN);
	streams_each(x.f.s, see, &s);
	assert_int_equal(s.n, IN + 1);
	assert_int_equal(s.inbound, IN);
	s = (struct seen){.close = true};
	streams_each(x.f.s, see, &s);
	assert_int_equal(s.n, IN + 1);
	conn_put(c);
	await_gauge(CNT_CONN_TCP_IN_CLOSED, 0);
	await_gauge(CNT_CONN_TCP_OUT_CLOSED, 0);
	s = (struct seen){0};
	streams_each(x.f.s, see, &s);
	assert_int_equal(s.n, 0);
	for (unsigned i = 0; i < IN; i++)
		peer_expect_end(fd[i]);
	for (unsigned i = 0; i < IN; i++)
		close(fd[i]);
	close(peer);
	fixture_close(&x);
}

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
	say(c[1], "hello?");
	struct addr second;
	int l2 = peer_listen("127.0.0.1", 4, &second);
	c[2] = connect_to(&x, &second);
	say(c[2], "x");
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
		say(c, "storm");
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
	say(c, "hello");
	say(c, "world");
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
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_connect_errors),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_connect_timeout),
		cmocka_unit_test(test_max_connections),
		cmocka_unit_test(test_limit_of_network),
		cmocka_unit_test(test_max_writers),
		cmocka_unit_test(test_writer_again),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_queue_limit),
		cmocka_unit_test(test_write_timeout),
		cmocka_unit_test(test_never_blocks),
		cmocka_unit_test(test_finish),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_acked),
		cmocka_unit_test(test_acked_while_writing),
		cmocka_unit_test(test_inherited_acked),
		cmocka_unit_test(test_inherited_half_ping),
		cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_inherited_too_large),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_watchers),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_storm),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
