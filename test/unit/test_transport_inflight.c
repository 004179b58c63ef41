#include "test_transport.h"
#include "transport/inflight.h"
#include "transport/packet.h"

static void test_key(void **state)
{
	struct addr a = test_addr("192.0.2.1", 5060), b = test_addr("192.0.2.1", 5061),
		    c = test_addr("::1", 5060);
	struct slice s = SLICE_LIT("OPTIONS sip:x SIP/2.0"), t = SLICE_LIT("OPTIONS sip:y SIP/2.0");
	uint64_t k = inflight_key(s, &a, 0);
	(void)state;
	assert_int_not_equal(k, 0);
	assert_true(k == inflight_key(s, &a, 0));
	assert_true(k != inflight_key(t, &a, 0));
	assert_true(k != inflight_key(s, &b, 0));
	assert_true(k != inflight_key(s, &c, 0));
	assert_true(k != inflight_key(s, &a, 1));
}

static void test_enter_and_release(void **state)
{
	struct inflight f;
	_Atomic uint64_t *slot, *other;
	(void)state;
	assert_int_equal(inflight_init(&f), 0);
	assert_false(inflight_has(&f, 77));
	slot = inflight_enter(&f, 77);
	assert_non_null(slot);
	assert_true(inflight_has(&f, 77));
	other = inflight_enter(&f, 78);
	assert_ptr_not_equal(slot, other);
	inflight_release(&slot);
	assert_null(slot);
	inflight_release(&slot); /* nothing to release */
	assert_false(inflight_has(&f, 77));
	assert_true(inflight_has(&f, 78));
	inflight_deinit(&f);
}

static void test_full_set(void **state)
{
	struct inflight f;
	_Atomic uint64_t *slot[INFLIGHT_WAYS];
	(void)state;
	assert_int_equal(inflight_init(&f), 0);
	for (uint64_t i = 0; i < INFLIGHT_WAYS; i++) {
		slot[i] = inflight_enter(&f, 5 + (i + 1) * INFLIGHT_SETS);
		assert_non_null(slot[i]);
		assert_int_equal(((uintptr_t)slot[i] & ~(uintptr_t)63), (uintptr_t)slot[0] & ~(uintptr_t)63);
	}
	assert_null(inflight_enter(&f, 5));
	assert_non_null(inflight_enter(&f, 6)); /* another set */
	inflight_release(&slot[3]);
	assert_non_null(inflight_enter(&f, 5));
	assert_true(inflight_has(&f, 5));
	assert_false(inflight_has(&f, 5 + 4 * INFLIGHT_SETS));
	inflight_deinit(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_enter_and_release),
		cmocka_unit_test(test_full_set),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
