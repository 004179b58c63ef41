#include "test_transport.h"
#include "transport/outbox.h"

struct fixture {
	struct test_config t;
	struct udp *u;
	struct outbox *o;
	/* what came through `failed` */
	unsigned failures;
	struct addr remote;
	int error;
	size_t len;
};

static void failed(void *ctx, const struct addr *remote, struct slice bytes, int error)
{
	struct fixture *f = ctx;
	f->failures++;
	f->remote = *remote;
	f->error = error;
	f->len = bytes.len;
}

static void fixture_open(struct fixture *f, unsigned acceptors, const char *a, const char *b)
{
	const char *ip[] = {a, b};
	char err[200];
	memset(f, 0, sizeof(*f));
	test_config_init(&f->t, acceptors, b ? 2 : 1, ip);
	assert_int_equal(udp_open(&f->t.config, &f->u, err, sizeof(err)), 0);
	assert_int_equal(outbox_create(f->u, NULL, &(struct outbox_upper){failed, f}, &f->o), 0);
}

static void fixture_close(struct fixture *f)
{
	outbox_destroy(f->o);
	udp_close(f->u);
}

static struct flow flow_to(const struct addr *to, unsigned listener, unsigned acceptor)
{
	return (struct flow){.proto = FLOW_UDP,
			     .listener = (uint16_t)listener,
			     .acceptor = (uint8_t)acceptor,
			     .remote = *to};
}

static void send_number(struct fixture *f, const struct flow *to, unsigned n)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "INVITE %u", n);
	outbox_send(f->o, to, slice_make(text, (size_t)len));
}

/* Two listeners, two peers, interleaved: each peer gets its messages from its listener, in order; nothing leaves
 * early. */
static void test_order(void **state)
{
	struct fixture f;
	struct addr a, b, from;
	char text[64], expect[64];
	int pa = peer_open("127.0.0.1", &a), pb = peer_open("127.0.0.1", &b);
	(void)state;
	fixture_open(&f, 2, "127.0.0.1", "127.0.0.1");
	struct flow fa = flow_to(&a, 0, 1), fb = flow_to(&b, 1, 0);
	for (unsigned i = 0; i < 100; i++) {
		send_number(&f, &fa, i);
		send_number(&f, &fb, 1000 + i);
	}
	assert_int_equal(outbox_queued(f.o), 200);
	assert_true(peer_is_empty(pa) && peer_is_empty(pb));
	assert_int_equal(outbox_flush(f.o, 0), 200);
	assert_int_equal(outbox_queued(f.o), 0);
	for (unsigned i = 0; i < 100; i++) {
		peer_receive(pa, text, sizeof(text), &from);
		snprintf(expect, sizeof(expect), "INVITE %u", i);
		assert_string_equal(text, expect);
		assert_true(addr_eq(&from, &f.u->bound[0]));
		peer_receive(pb, text, sizeof(text), &from);
		snprintf(expect, sizeof(expect), "INVITE %u", 1000 + i);
		assert_string_equal(text, expect);
		assert_true(addr_eq(&from, &f.u->bound[1]));
	}
	assert_int_equal(outbox_flush(f.o, 0), 0);
	assert_true(peer_is_empty(pa) && peer_is_empty(pb));
	assert_int_equal(f.failures, 0);
	fixture_close(&f);
	close(pa);
	close(pb);
}

/* The middle one cannot be sent: those around it can. */
static void test_failure_in_the_middle(void **state)
{
	static char huge[65536];
	struct fixture f;
	struct addr a;
	char text[64];
	uint64_t dropped = counters_sum(CNT_DROP_SEND);
	int pa = peer_open("127.0.0.1", &a);
	(void)state;
	fixture_open(&f, 1, "127.0.0.1", NULL);
	struct flow fa = flow_to(&a, 0, 0);
	send_number(&f, &fa, 1);
	outbox_send(f.o, &fa, slice_make(huge, sizeof(huge))); /* EMSGSIZE: more than UDP can carry */
	send_number(&f, &fa, 2);
	assert_int_equal(outbox_flush(f.o, 0), 2);
	peer_receive(pa, text, sizeof(text), NULL);
	assert_string_equal(text, "INVITE 1");
	peer_receive(pa, text, sizeof(text), NULL);
	assert_string_equal(text, "INVITE 2");
	assert_int_equal(f.failures, 1);
	assert_int_equal(f.error, -EMSGSIZE);
	assert_int_equal(f.len, sizeof(huge));
	assert_true(addr_eq(&f.remote, &a));
	assert_int_equal(counters_sum(CNT_DROP_SEND) - dropped, 1);
	fixture_close(&f);
	close(pa);
}

/* The ICMP error of one datagram comes back on the next send; that one must not be lost, nor blamed. */
static void test_error_of_an_earlier_one(void **state)
{
	struct fixture f;
	struct addr a, gone;
	char text[64];
	int pa = peer_open("127.0.0.1", &a);
	int pg = peer_open("127.0.0.1", &gone);
	(void)state;
	close(pg);
	fixture_open(&f, 1, "127.0.0.1", NULL);
	struct flow fa = flow_to(&a, 0, 0), fg = flow_to(&gone, 0, 0);
	for (unsigned i = 0; i < 5; i++) {
		send_number(&f, &fg, 100);
		send_number(&f, &fa, i);
	}
	assert_int_equal(outbox_flush(f.o, 0), 10);
	assert_int_equal(f.failures, 0);
	for (unsigned i = 0; i < 5; i++) {
		peer_receive(pa, text, sizeof(text), NULL);
		assert_int_equal(text[7], '0' + (char)i);
	}
	fixture_close(&f);
	close(pa);
}

static void test_no_socket(void **state)
{
	struct fixture f;
	struct addr six = test_addr("::1", 9), four = test_addr("127.0.0.1", 9);
	(void)state;
	fixture_open(&f, 1, "127.0.0.1", NULL);
	struct flow to = flow_to(&six, 0, 0);
	send_number(&f, &to, 1);
	assert_int_equal(f.error, -EAFNOSUPPORT);
	to = flow_to(&four, 7, 0);
	send_number(&f, &to, 1);
	assert_int_equal(f.error, -EPROTONOSUPPORT);
	to = flow_to(&four, 0, 0);
	to.proto = FLOW_TCP;
	assert_int_equal(outbox_send(f.o, &to, SLICE_LIT("x")), -ENOTCONN); /* that is for the proxy to mend */
	assert_int_equal(f.failures, 2);
	assert_int_equal(outbox_queued(f.o), 0);
	fixture_close(&f);
}

/* Far more than a chunk and a common batch: all leaves in order, and the room goes back. What exceeds the bound is
 * dropped. */
static void test_large_batch(void **state)
{
	static char body[60000];
	struct fixture f;
	struct addr a;
	char text[64];
	uint64_t dropped = counters_sum(CNT_DROP_SEND);
	int pa = peer_open("127.0.0.1", &a);
	unsigned queued = 0;
	(void)state;
	fixture_open(&f, 1, "127.0.0.1", NULL);
	struct flow fa = flow_to(&a, 0, 0);
	for (unsigned i = 0; i < 400; i++)
		outbox_send(f.o, &fa, slice_make(body, sizeof(body)));
	queued = outbox_queued(f.o);
	assert_int_equal(queued, OUTBOX_BYTES_MAX / sizeof(body));
	assert_int_equal(counters_sum(CNT_DROP_SEND) - dropped, 400 - queued);
	outbox_flush(f.o, 0);
	assert_int_equal(outbox_queued(f.o), 0);
	outbox_send(f.o, &fa, slice_make(body, OUTBOX_CHUNK + 1)); /* never fits; not even looked at */
	assert_int_equal(outbox_queued(f.o), 0);
	close(pa);
	pa = peer_open("127.0.0.1", &a);
	fa = flow_to(&a, 0, 0);
	for (unsigned i = 0; i < 300; i++)
		send_number(&f, &fa, i);
	assert_int_equal(outbox_flush(f.o, 0), 300);
	for (unsigned i = 0; i < 300; i++) {
		char expect[64];
		peer_receive(pa, text, sizeof(text), NULL);
		snprintf(expect, sizeof(expect), "INVITE %u", i);
		assert_string_equal(text, expect);
	}
	fixture_close(&f);
	close(pa);
}

/* From a wildcard socket, an answer leaves with the address that was asked. */
static void test_source_address(void **state)
{
	struct fixture f;
	struct addr a, from;
	char text[64];
	int pa = peer_open("127.0.0.1", &a);
	(void)state;
	fixture_open(&f, 1, "0.0.0.0", "127.0.0.1");
	struct flow to = flow_to(&a, 0, 0);
	to.local = test_addr("127.0.0.42", f.u->bound[0].port);
	send_number(&f, &to, 1);
	to.listener = 1; /* bound to 127.0.0.1: stays what it is */
	send_number(&f, &to, 2);
	assert_int_equal(outbox_flush(f.o, 0), 2);
	peer_receive(pa, text, sizeof(text), &from);
	assert_true(addr_eq(&from, &to.local));
	peer_receive(pa, text, sizeof(text), &from);
	assert_true(addr_eq(&from, &f.u->bound[1]));
	fixture_close(&f);
	close(pa);
}

static void test_counted(void **state)
{
	struct fixture f;
	struct addr a;
	uint64_t invites = counters_sum(CNT_OUT_UDP_INVITE), ok = counters_sum(CNT_OUT_UDP_2XX);
	int pa = peer_open("127.0.0.1", &a);
	(void)state;
	fixture_open(&f, 1, "127.0.0.1", NULL);
	struct flow fa = flow_to(&a, 0, 0);
	outbox_send(f.o, &fa, SLICE_LIT("INVITE sip:b SIP/2.0\r\n"));
	outbox_send(f.o, &fa, SLICE_LIT("SIP/2.0 200 OK\r\n"));
	outbox_flush(f.o, 0);
	assert_int_equal(counters_sum(CNT_OUT_UDP_INVITE) - invites, 1);
	assert_int_equal(counters_sum(CNT_OUT_UDP_2XX) - ok, 1);
	fixture_close(&f);
	close(pa);
}

static struct udp *oom_udp;

static void outbox_body(void)
{
	struct addr a = test_addr("127.0.0.1", 9);
	struct flow to = flow_to(&a, 0, 0);
	struct fixture f = {0};
	if (outbox_create(oom_udp, NULL, &(struct outbox_upper){failed, &f}, &f.o) < 0) {
		assert_true(alloc_failed());
		return;
	}
	for (unsigned i = 0; i < 300; i++)
		send_number(&f, &to, i);
	assert_true(outbox_queued(f.o) == 300 || alloc_failed());
	outbox_destroy(f.o); /* with a full queue */
}

static void test_oom(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, 1, "127.0.0.1", NULL);
	oom_udp = f.u;
	UNIT_OOM(outbox_body);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_failure_in_the_middle),
		cmocka_unit_test(test_error_of_an_earlier_one),
		cmocka_unit_test(test_no_socket),
		cmocka_unit_test(test_large_batch),
		cmocka_unit_test(test_source_address),
		cmocka_unit_test(test_counted),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
