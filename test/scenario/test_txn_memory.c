/* Transactions when memory runs out: the folder's code compiled here with allocations that fail on demand. */
#include <errno.h>
#include <stdlib.h>

static int fail_after = -1; /* allocations that still succeed; negative: all */

static int fail_now(void)
{
	return fail_after >= 0 && fail_after-- == 0;
}

static void *fail_malloc(size_t n)
{
	return fail_now() ? NULL : malloc(n);
}

static void *fail_calloc(size_t n, size_t size)
{
	return fail_now() ? NULL : calloc(n, size);
}

static void *fail_realloc(void *p, size_t n)
{
	return fail_now() ? NULL : realloc(p, n);
}

/* The fake clock and transport come first: they allocate as ever. */
#include "txn_fake.h"

#define malloc  fail_malloc
#define calloc  fail_calloc
#define realloc fail_realloc
#include "txn/ict.c"
#include "txn/ist.c"
#include "txn/match.c"
#include "txn/nict.c"
#include "txn/nist.c"
#include "txn/table.c"
#include "txn/timer.c"
#include "txn/txn.c"
#undef malloc
#undef calloc
#undef realloc

static int teardown(void **state)
{
	fail_after = -1;
	return fake_teardown(state);
}

#define MEMORY_TEST(f) cmocka_unit_test_setup_teardown(f, fake_setup, teardown)

static void test_table_create(void **state)
{
	(void)state;
	struct txn_lower lower = {fake_send, fake_acked, &fake};
	struct txn_table *tb = NULL;

	for (int n = 0; n < 2; n++) {
		fail_after = n;
		assert_int_equal(
			txn_table_create(&fake_timers, &fake_user, &lower, &fake.wheel, &fake.now, 10, &tb),
			-ENOMEM);
		assert_null(tb);
	}
	fail_after = -1;
}

static void test_create(void **state)
{
	(void)state;
	struct flow f = fake_flow(FLOW_UDP);
	_Atomic uint64_t slot = 3;
	struct txn *t = NULL;

	fail_after = 0;
	assert_int_equal(txn_server_create(fake.tb, REQ(), &f, &fake_owner, &slot, &t), -ENOMEM);
	assert_int_equal(slot, 3);
	const struct sip_msg *m = REQ();
	struct txn_client_args a = {.bytes = slice_make(m->buf, m->len),
				    .branch = sip_slice(m, m->via.branch),
				    .method = SIP_METHOD_INVITE,
				    .flow = f,
				    .owner = &fake_owner};
	for (int n = 0; n < 2; n++) {
		fail_after = n;
		assert_int_equal(txn_client_create(fake.tb, &a, &t), -ENOMEM);
	}
	assert_null(t);
	assert_int_equal(txn_table_count(fake.tb), 0);
	assert_int_equal(fake_gauges(), 0);
	fake_expect("");
}

static void test_respond(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(), FLOW_UDP);

	fake_respond(t, 100);
	fail_after = 0;
	assert_int_equal(fake_respond(t, 180), -ENOMEM);
	fake_expect("0>100 0>180");
	fake_again(t, REQ(), FLOW_UDP); /* nothing to repeat */
	fake_expect("");
	fail_after = 0;
	assert_int_equal(fake_respond(t, 486), -ENOMEM);
	assert_int_equal(txn_state(t), TXN_COMPLETED);
	fake_again(t, REQ(), FLOW_UDP);
	fake_advance(31000);
	fake_expect("0>486"); /* Timer G has nothing to repeat */
	fake_again(t, REQ(.method = "ACK"), FLOW_UDP);
	fake_advance(5010);
	fake_expect("36000gone");

	t = fake_server(REQ(.method = "OPTIONS"), FLOW_UDP);
	fail_after = 0;
	assert_int_equal(fake_respond(t, 200), -ENOMEM);
	fake_mark();
	fake_again(t, REQ(.method = "OPTIONS"), FLOW_UDP);
	fake_advance(33000);
	fake_expect("32000gone");
}

/* Without the response kept, any To tag will do. */
static void test_rfc2543_ack(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(.via = "SIP/2.0/UDP h"), FLOW_UDP);

	fail_after = 0;
	assert_int_equal(fake_respond(t, 486), -ENOMEM);
	fake_again(t, REQ(.via = "SIP/2.0/UDP h", .method = "ACK", .to_tag = "any"), FLOW_UDP);
	assert_int_equal(txn_state(t), TXN_CONFIRMED);
	fake_again(t, REQ(.via = "SIP/2.0/UDP h", .method = "ACK", .to_tag = "any"), FLOW_UDP);
	fake_expect("0>486");
}

static void test_ack(void **state)
{
	(void)state;
	struct txn *t = fake_client(REQ(), FLOW_UDP);

	fail_after = 0;
	fake_receive(t, fake_reply(486, "z9hG4bKone", "INVITE"));
	fake_receive(t, fake_reply(486, "z9hG4bKone", "INVITE"));
	fake_advance(33000);
	fake_expect("0>INVITE 0>ACK 0:486 32000gone");
}

/* The table cannot grow: longer chains, nothing lost. */
static void test_no_growth(void **state)
{
	(void)state;
	static struct txn *t[2000];
	char via[64];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(via, sizeof(via), "SIP/2.0/UDP h;branch=z9hG4bK%u", i);
		fail_after = 1; /* the transaction itself is made */
		t[i] = fake_server(REQ(.via = via), FLOW_UDP);
	}
	assert_int_equal(fake.tb->cap, 256);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(via, sizeof(via), "SIP/2.0/UDP h;branch=z9hG4bK%u", i);
		assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = via), false), t[i]);
	}
	fail_after = -1;
	for (unsigned i = 0; i < 2000; i++)
		txn_server_abandon(t[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEMORY_TEST(test_table_create), MEMORY_TEST(test_create), MEMORY_TEST(test_respond),
		MEMORY_TEST(test_rfc2543_ack),  MEMORY_TEST(test_ack),    MEMORY_TEST(test_no_growth),
	};
	return cmocka_run_group_tests_name("txn_memory", tests, NULL, NULL);
}
