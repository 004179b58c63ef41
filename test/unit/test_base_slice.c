#include <errno.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/slice.h"
#include "unit.h"

static void test_slice_compare(void **state)
{
	(void)state;
	assert_true(slice_eq(SLICE_NONE, SLICE_LIT("")));
	assert_true(slice_eq(SLICE_LIT("a\0b"), slice_make("a\0b", 3)));
	assert_false(slice_eq(SLICE_LIT("a\0b"), SLICE_LIT("a\0c")));
	assert_false(slice_eq(SLICE_LIT("a"), SLICE_LIT("A")));
	assert_false(slice_eq(SLICE_LIT("a"), SLICE_LIT("ab")));
	assert_true(slice_ieq(SLICE_LIT("Call-ID"), SLICE_LIT("cALL-id")));
	/* '@' and '`', '[' and '{' differ in the bit that letters' cases differ in. */
	assert_false(slice_ieq(SLICE_LIT("@["), SLICE_LIT("`{")));
	assert_false(slice_ieq(SLICE_LIT("\xc4"), SLICE_LIT("\xe4")));
	assert_int_equal(slice_str(NULL).len, 0);
}

static void test_slice_trim(void **state)
{
	(void)state;
	unit_assert_slice(slice_trim(SLICE_LIT(" \t\r\n a b \r\n\t")), "a b");
	assert_int_equal(slice_trim(SLICE_LIT(" \r\n ")).len, 0);
	assert_int_equal(slice_trim(SLICE_NONE).len, 0);
}

static void test_slice_u64(void **state)
{
	uint64_t v = 7;

	(void)state;
	assert_true(slice_u64(SLICE_LIT("0018446744073709551615"), UINT64_MAX, &v));
	assert_true(v == UINT64_MAX);
	v = 7;
	assert_false(slice_u64(SLICE_LIT("18446744073709551616"), UINT64_MAX, &v));
	assert_false(slice_u64(SLICE_LIT("256"), 255, &v));
	assert_false(slice_u64(SLICE_LIT(""), 255, &v));
	assert_false(slice_u64(SLICE_LIT("-1"), 255, &v));
	assert_false(slice_u64(SLICE_LIT("1 "), 255, &v));
	assert_int_equal(v, 7);
	assert_true(slice_u64(SLICE_LIT("255"), 255, &v));
	assert_int_equal(v, 255);
}

static void test_buf_bounds(void **state)
{
	char room[8];
	struct buf b;

	(void)state;
	buf_init(&b, room, 6);
	room[6] = 'X';
	buf_lit(&b, "abc");
	buf_char(&b, 'd');
	assert_false(b.full);
	buf_lit(&b, "efg");
	assert_true(b.full);
	unit_assert_slice(buf_view(&b), "abcd");
	b.full = false;
	buf_u64(&b, 42);
	assert_false(b.full);
	unit_assert_slice(buf_view(&b), "abcd42");
	buf_slice(&b, SLICE_NONE);
	assert_false(b.full);
	buf_char(&b, 'x');
	assert_true(b.full);
	assert_int_equal(room[6], 'X');
}

static void test_buf_u64(void **state)
{
	char room[64];
	struct buf b;

	(void)state;
	buf_init(&b, room, sizeof(room));
	buf_u64(&b, 0);
	buf_char(&b, ' ');
	buf_u64(&b, UINT64_MAX);
	unit_assert_slice(buf_view(&b), "0 18446744073709551615");
}

static void test_buf_printf(void **state)
{
	static char big[3000], text[2000];
	char room[8];
	struct buf b;

	(void)state;
	buf_init(&b, room, 6);
	room[6] = 'X';
	buf_printf(&b, "%d", 12);
	buf_printf(&b, "%s", "");
	unit_assert_slice(buf_view(&b), "12");
	/* Exactly to the end, where vsnprintf has no room for its NUL. */
	buf_printf(&b, "%s-%d", "ab", 3);
	assert_false(b.full);
	unit_assert_slice(buf_view(&b), "12ab-3");
	assert_int_equal(room[6], 'X');
	buf_printf(&b, "%s", "");
	assert_false(b.full);
	buf_printf(&b, "%c", 'x');
	assert_true(b.full);

	buf_init(&b, room, 6);
	buf_printf(&b, "%s", "1234567");
	assert_true(b.full);
	assert_int_equal(b.len, 0);

	memset(text, 'a', sizeof(text) - 1);
	buf_init(&b, big, sizeof(big));
	buf_printf(&b, "%s", text);
	assert_false(b.full);
	unit_assert_slice(buf_view(&b), text);
}

static void test_hash(void **state)
{
	uint64_t a, b;

	(void)state;
	hash_init(1);
	a = hash_slice(SLICE_LIT("call@host"));
	assert_true(a == hash_bytes("call@host", 9, 1));
	assert_true(a == hash_slice(slice_make("call@host!", 9)));
	assert_true(a != hash_slice(SLICE_LIT("call@hosu")));
	hash_init(2);
	b = hash_slice(SLICE_LIT("call@host"));
	assert_true(a != b);
	assert_true(hash_join(a, b) != hash_join(b, a));
	assert_true(hash_slice(SLICE_NONE) == hash_slice(SLICE_LIT("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slice_compare), cmocka_unit_test(test_slice_trim),
		cmocka_unit_test(test_slice_u64),     cmocka_unit_test(test_buf_bounds),
		cmocka_unit_test(test_buf_u64),       cmocka_unit_test(test_buf_printf),
		cmocka_unit_test(test_hash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
