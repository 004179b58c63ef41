/* Connections found by number and by peer, and their limits. */
#include "test_conn.h"

/* --- one for a peer --- */

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
	conn_say(d, "d");
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

/* --- limits --- */

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
	conn_say(c, "back");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_max_connections),
		cmocka_unit_test(test_limit_of_network),
		cmocka_unit_test(test_alias),
		cmocka_unit_test(test_each),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
