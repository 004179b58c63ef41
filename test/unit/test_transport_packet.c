#include <pthread.h>

#include "test_transport.h"
#include "transport/packet_p.h"

static struct sip_msg_room room;

static const struct sip_msg *parse(const char *text)
{
	assert_int_equal(sip_msg_parse(&room, text, strlen(text), false), 0);
	assert_int_equal(room.msg.error, 0);
	return &room.msg;
}

static void test_packet(void **state)
{
	char text[1000];
	_Atomic uint64_t slot = 5;
	struct flow f = {.proto = FLOW_UDP, .listener = 3, .remote = test_addr("192.0.2.7", 99)};
	struct packet *p;
	(void)state;
	test_message(text, sizeof(text), "INVITE sip:b@example.com SIP/2.0", "abc", "", "1 INVITE");
	p = packet_create(parse(text), &f, 42);
	assert_non_null(p);
	memset(text, 'x', sizeof(text)); /* the packet has bytes of its own */
	assert_true(p->received == 42);
	assert_int_equal(p->flow.listener, 3);
	assert_true(addr_eq(&p->flow.remote, &f.remote));
	unit_assert_slice(sip_slice(p->msg, p->msg->call_id), "abc");
	assert_null(p->inflight);
	p->inflight = &slot;
	packet_destroy(p);
	assert_int_equal(slot, 0);
	packet_destroy(NULL);
}

static void packet_body(void)
{
	char text[1000];
	struct flow f = {0};
	test_message(text, sizeof(text), "INVITE sip:b@example.com SIP/2.0", "abc", "", "1 INVITE");
	struct packet *p = packet_create(parse(text), &f, 42);
	UNIT_NEED(p);
	packet_destroy(p);
}

static void test_packet_oom(void **state)
{
	struct pool pool;
	(void)state;
	UNIT_OOM(packet_body);
	pool_init(&pool);
	packet_use_pool(&pool);
	UNIT_OOM(packet_body);
	packet_use_pool(NULL);
	pool_deinit(&pool);
}

static void test_pool_reuse(void **state)
{
	struct pool pool;
	(void)state;
	pool_init(&pool);
	char *a = pool_get(&pool, 100), *b = pool_get(&pool, 3000), *big = pool_get(&pool, 100000);
	assert_true(a && b && big);
	memset(a, 1, 100);
	memset(b, 2, 3000);
	memset(big, 3, 100000);
	assert_int_equal((uintptr_t)a % 16, 0);
	pool_put(a);
	pool_put(b);
	pool_put(big);
	assert_ptr_equal(pool_get(&pool, 2000), a);
	assert_ptr_equal(pool_get(&pool, 4000), b);
	pool_put(a);
	pool_put(b);
	pool_deinit(&pool);
}

/* What a burst has taken goes back to malloc; the pool keeps its bound. */
static void test_pool_bound(void **state)
{
	enum { BURST = 4 * POOL_IDLE_MAX };
	static void *block[BURST];
	struct pool pool;
	(void)state;
	pool_init(&pool);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < BURST; i++)
			assert_non_null(block[i] = pool_get(&pool, 500));
		for (unsigned i = 0; i < BURST; i++)
			pool_put(block[i]);
		unsigned kept = 0;
		for (const struct pool_block *b = pool.class[0].returned; b; b = b->next)
			kept++;
		for (const struct pool_block *b = pool.class[0].free; b; b = b->next)
			kept++;
		assert_in_range(kept, 1, POOL_IDLE_MAX);
	}
	pool_deinit(&pool);
}

/* Two threads give back what a third makes. */
#define PASSED 20000
static _Atomic(void *) handover[64];
static _Atomic unsigned given;

static void *giver(void *arg)
{
	(void)arg;
	while (atomic_load(&given) < PASSED) {
		for (unsigned i = 0; i < 64; i++) {
			void *p = atomic_exchange(&handover[i], NULL);
			if (p) {
				pool_put(p);
				atomic_fetch_add(&given, 1);
			}
		}
		sched_yield();
	}
	return NULL;
}

static void test_pool_threads(void **state)
{
	struct pool pool;
	pthread_t id[2];
	unsigned made = 0;
	(void)state;
	pool_init(&pool);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&id[i], NULL, giver, NULL), 0);
	while (made < PASSED) {
		for (unsigned i = 0; i < 64 && made < PASSED; i++) {
			if (atomic_load(&handover[i]))
				continue;
			unsigned *p = pool_get(&pool, 1000);
			assert_non_null(p);
			*p = made++;
			atomic_store(&handover[i], p);
		}
		sched_yield();
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(id[i], NULL);
	assert_int_equal(given, PASSED);
	pool_deinit(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packet),       cmocka_unit_test(test_packet_oom),
		cmocka_unit_test(test_pool_reuse),   cmocka_unit_test(test_pool_bound),
		cmocka_unit_test(test_pool_threads),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
