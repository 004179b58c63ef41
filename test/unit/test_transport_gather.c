#include "transport/gather_p.h"
#include "unit.h"

#define US UINT64_C(1000) /* ns */

static void test_first_message(void **state)
{
	struct gather g = {0};
	(void)state;
	gather_note(&g, UINT64_C(5000000000), 1);
	assert_false(gather_pays(&g, 200 * US));
}

static nsec_t steady(struct gather *g, nsec_t now, nsec_t gap, unsigned n, unsigned batches)
{
	for (unsigned i = 0; i < batches; i++)
		gather_note(g, now += gap, n);
	return now;
}

static void test_rates(void **state)
{
	struct gather g = {0};
	nsec_t now = UINT64_C(1000000000);
	(void)state;
	/* 80,000 a second: 16 in 200 µs. */
	now = steady(&g, now, 25 * US / 2, 1, 100);
	assert_true(gather_pays(&g, 200 * US));
	assert_false(gather_pays(&g, 80 * US));
	/* 20,000 a second: four in 200 µs. */
	now = steady(&g, now, 50 * US, 1, 100);
	assert_false(gather_pays(&g, 200 * US));
	assert_true(gather_pays(&g, 500 * US));
	/* Batches of 16 are 80,000 again. */
	now = steady(&g, now, 200 * US, 16, 100);
	assert_true(gather_pays(&g, 200 * US));
	/* One message after a silence. */
	gather_note(&g, now + UINT64_C(60000000000), 1);
	assert_false(gather_pays(&g, 200 * US));
}

static void test_clock_standing_still(void **state)
{
	struct gather g = {0};
	(void)state;
	steady(&g, 1000, 0, 64, 10000);
	assert_true(gather_pays(&g, 200 * US));
	gather_note(&g, 500, 1); /* backwards counts as no time */
	assert_true(gather_pays(&g, 200 * US));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_message),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_clock_standing_still),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
