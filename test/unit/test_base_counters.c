#include <pthread.h>

#include "base/counters.h"
#include "unit.h"

#define THREADS 4
#define ROUNDS  10000

static void *thread_main(void *arg)
{
	struct counters *c = arg ? counters_create() : NULL;

	counters_use(c);
	if (c)
		assert_ptr_equal(counters_mine(), c);
	for (unsigned i = 0; i < ROUNDS; i++) {
		count(CNT_BRANCHES);
		count_add(CNT_INFLIGHT, 3);
		count_sub(CNT_INFLIGHT, 2);
		count_generated(503);
		count_latency(60000);
	}
	return NULL;
}

/* Threads with blocks and threads without one, read while they count. */
static void test_counters_threads(void **state)
{
	static uint64_t generated[COUNTERS_CODES];
	uint64_t buckets[COUNTERS_LATENCY_BUCKETS], sum, last = 0;
	pthread_t t[THREADS];

	(void)state;
	counters_reset_all();
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, thread_main, i % 2 ? state : NULL), 0);
	while (last < THREADS * ROUNDS) {
		uint64_t now = counters_sum(CNT_BRANCHES);
		assert_true(now >= last && now <= THREADS * ROUNDS);
		last = now;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(counters_sum(CNT_INFLIGHT), THREADS * ROUNDS);
	counters_sum_generated(generated);
	assert_int_equal(generated[503], THREADS * ROUNDS);
	assert_int_equal(generated[500], 0);
	counters_sum_latency(buckets, &sum);
	assert_int_equal(buckets[2], THREADS * ROUNDS);
	assert_true(sum == UINT64_C(60000) * THREADS * ROUNDS);
	counters_reset_all();
	assert_int_equal(counters_sum(CNT_BRANCHES), 0);
}

/* A gauge may go up in one thread and down in another. */
static void test_counters_gauge(void **state)
{
	struct counters *a = counters_create(), *b = counters_create();

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal((uintptr_t)a % 64, 0);
	counters_use(a);
	count_add(CNT_INFLIGHT, 5);
	counters_use(b);
	count_sub(CNT_INFLIGHT, 3);
	assert_int_equal(counters_sum(CNT_INFLIGHT), 2);
	counters_use(NULL);
	count_sub(CNT_INFLIGHT, 2);
	assert_int_equal(counters_sum(CNT_INFLIGHT), 0);
	counters_reset_all();
	assert_null(counters_tls);
}

static void test_counters_latency(void **state)
{
	static const uint32_t bounds[] = COUNTERS_LATENCY_BOUNDS;
	uint64_t buckets[COUNTERS_LATENCY_BUCKETS], sum, total = 0;

	(void)state;
	counters_reset_all();
	counters_use(counters_create());
	for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS - 1; i++) {
		uint64_t ns = bounds[i] * UINT64_C(1000);
		count_latency(ns);     /* still in the bucket that ends here */
		count_latency(ns + 1); /* in the next */
		total += 2 * ns + 1;
	}
	count_latency(0);
	counters_sum_latency(buckets, &sum);
	for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS - 1; i++)
		assert_int_equal(buckets[i], 2);
	assert_int_equal(buckets[COUNTERS_LATENCY_BUCKETS - 1], 1);
	assert_true(sum == total);
	counters_reset_all();
}

static void test_counters_codes(void **state)
{
	static uint64_t generated[COUNTERS_CODES];

	(void)state;
	counters_reset_all();
	count_generated(100);
	count_generated(699);
	count_generated(700); /* no such code: kept apart, at 0 */
	count_generated(4000000000u);
	counters_sum_generated(generated);
	assert_int_equal(generated[100], 1);
	assert_int_equal(generated[699], 1);
	assert_int_equal(generated[0], 2);
	counters_reset_all();
}

static void oom_body(void)
{
	struct counters *c = counters_create();

	UNIT_NEED(c);
	counters_use(c);
	count(CNT_BRANCHES);
	assert_int_equal(counters_sum(CNT_BRANCHES), 1);
	counters_reset_all();
}

static void test_counters_oom(void **state)
{
	(void)state;
	counters_reset_all();
	UNIT_OOM(oom_body);
}

/* What stands in the table makes valid metrics: names and labels in their alphabets, no row twice, the rows of a
 * metric together and of one type, with help in the first. */
static void test_counters_table(void **state)
{
	static const struct {
		const char *type, *name, *labels, *help;
	} rows[] = {
#define COUNTER(id, type, name, labels, help) {#type, name, labels, help},
#include "base/counters.def"
	};

	(void)state;
	for (size_t i = 0; i < CNT_COUNT; i++) {
		bool first = i == 0 || strcmp(rows[i].name, rows[i - 1].name) != 0;
		assert_int_equal(strspn(rows[i].name, "abcdefghijklmnopqrstuvwxyz_"), strlen(rows[i].name));
		if (strcmp(rows[i].type, "counter") == 0)
			assert_non_null(strstr(rows[i].name, "_total"));
		else
			assert_string_equal(rows[i].type, "gauge");
		if (first)
			assert_true(rows[i].help[0]);
		else
			assert_string_equal(rows[i].type, rows[i - 1].type);
		for (size_t j = 0; j < i; j++) {
			if (strcmp(rows[i].name, rows[j].name) != 0)
				continue;
			if (first)
				fail_msg("the rows of %s do not stand together", rows[i].name);
			if (strcmp(rows[i].labels, rows[j].labels) == 0)
				fail_msg("%s{%s} stands there twice", rows[i].name, rows[i].labels);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_threads), cmocka_unit_test(test_counters_gauge),
		cmocka_unit_test(test_counters_latency), cmocka_unit_test(test_counters_codes),
		cmocka_unit_test(test_counters_oom),     cmocka_unit_test(test_counters_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
