#include "test_transport.h"
#include "worker/worker.h"

static void test_same_for_a_call(void **state)
{
	(void)state;
	for (unsigned workers = 1; workers <= 64; workers++) {
		unsigned i = shard_worker(SLICE_LIT("a84b4c76e66710@pc33.example.com"), workers);
		assert_in_range(i, 0, workers - 1);
		assert_int_equal(i, shard_worker(SLICE_LIT("a84b4c76e66710@pc33.example.com"), workers));
	}
	assert_int_equal(shard_worker(SLICE_LIT("x"), 1), 0);
}

/* Call-IDs as SIPp makes them, that differ in a digit only. */
static void test_even(void **state)
{
	enum { CALLS = 60000 };
	(void)state;
	for (unsigned workers = 2; workers <= 12; workers++) {
		unsigned count[12] = {0};
		for (unsigned i = 0; i < CALLS; i++) {
			char id[64];
			int n = snprintf(id, sizeof(id), "%u-31337@127.0.0.1", i);
			count[shard_worker(slice_make(id, (size_t)n), workers)]++;
		}
		for (unsigned i = 0; i < workers; i++)
			assert_in_range(count[i], CALLS / workers * 9 / 10, CALLS / workers * 11 / 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_for_a_call), cmocka_unit_test(test_even)};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
