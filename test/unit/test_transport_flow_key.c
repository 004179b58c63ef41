/* Flows as bytes: what goes in comes out, and what is no key is refused. */
#include "unit.h"

#include <errno.h>

#include "transport/flow_key.h"

static struct flow flow_of(enum flow_proto proto, const char *remote, uint64_t conn)
{
	struct flow f = {.proto = (uint8_t)proto, .listener = 40000, .conn = conn};
	if (remote)
		assert_int_equal(addr_parse(slice_str(remote), &f.remote), 0);
	return f;
}

static size_t there_and_back(const struct flow *f, struct flow *out)
{
	char text[2 * FLOW_KEY_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	flow_key_put(f, &b);
	size_t len = b.len;
	buf_lit(&b, "rest");
	assert_false(b.full);
	assert_true(len <= FLOW_KEY_MAX);
	struct slice rest = buf_view(&b);
	assert_int_equal(flow_key_get(&rest, out), 0);
	assert_true(slice_eq(rest, SLICE_LIT("rest")));
	/* one byte is missing */
	for (size_t n = 0; n < len; n++) {
		struct flow untouched = {.listener = 77};
		struct slice part = slice_make(text, n);
		assert_int_equal(flow_key_get(&part, &untouched), -EBADMSG);
		assert_int_equal(part.len, n);
		assert_int_equal(untouched.listener, 77);
	}
	return len;
}

static void test_round_trip(void **state)
{
	(void)state;
	struct flow f, out;

	assert_int_equal(there_and_back(NULL, &out), 1);
	assert_true(flow_is_none(&out));
	f = (struct flow){0};
	assert_int_equal(there_and_back(&f, &out), 1);
	f = flow_of(FLOW_TCP, "192.0.2.1:5060", 0); /* a stream without its connection is no way */
	assert_int_equal(there_and_back(&f, &out), 1);

	f = flow_of(FLOW_TLS, "192.0.2.1:5060", UINT64_MAX);
	assert_int_equal(there_and_back(&f, &out), 11);
	assert_true(out.conn == UINT64_MAX);
	assert_int_equal(out.listener, 40000);
	assert_true(flow_is_reliable(&out));
	assert_true(flow_eq(&f, &out));

	f = flow_of(FLOW_UDP, "192.0.2.1:65535", 0);
	assert_int_equal(there_and_back(&f, &out), 9);
	assert_true(addr_eq(&out.remote, &f.remote));
	assert_int_equal(out.listener, 40000);
	assert_true(flow_eq(&f, &out));

	f = flow_of(FLOW_UDP, "[fe80::1%7]:5060", 0);
	assert_int_equal(there_and_back(&f, &out), FLOW_KEY_MAX);
	assert_true(addr_eq(&out.remote, &f.remote));
	assert_int_equal(out.remote.scope, f.remote.scope);
	assert_true(flow_eq(&f, &out));
}

static void test_refused(void **state)
{
	(void)state;
	char text[FLOW_KEY_MAX] = {0};
	struct flow out;

	for (int type = FLOW_KEY_V6 + 1; type < 256; type++) {
		text[0] = (char)type;
		struct slice s = slice_make(text, sizeof(text));
		assert_int_equal(flow_key_get(&s, &out), -EBADMSG);
	}
	text[0] = FLOW_KEY_CONN; /* number 0 */
	struct slice s = slice_make(text, sizeof(text));
	assert_int_equal(flow_key_get(&s, &out), -EBADMSG);
}

static void test_equal(void **state)
{
	(void)state;
	struct flow a = flow_of(FLOW_UDP, "192.0.2.1:5060", 0), b = a;

	assert_true(flow_eq(&a, &b));
	b.acceptor = 3;
	assert_true(flow_eq(&a, &b));
	b.listener++;
	assert_false(flow_eq(&a, &b));
	b = flow_of(FLOW_UDP, "192.0.2.1:5061", 0);
	assert_false(flow_eq(&a, &b));
	b = flow_of(FLOW_TCP, "192.0.2.1:5060", 5);
	assert_false(flow_eq(&a, &b));
	a = flow_of(FLOW_TLS, NULL, 5); /* a connection is its number */
	assert_true(flow_eq(&a, &b));
	a.conn = 6;
	assert_false(flow_eq(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_equal),
	};
	return cmocka_run_group_tests_name("transport_flow_key", tests, NULL, NULL);
}
