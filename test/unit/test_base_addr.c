#include <arpa/inet.h>
#include <errno.h>

#include "base/addr.h"
#include "unit.h"

static const char *str(const struct addr *a)
{
	static char t[ADDR_STRLEN];
	return addr_str(a, t);
}

static struct addr parse(const char *text)
{
	struct addr a = {0};

	if (addr_parse(slice_str(text), &a) < 0)
		fail_msg("refused: %s", text);
	return a;
}

static void test_addr_parse(void **state)
{
	static const struct {
		const char *text, *out;
	} good[] = {
		{"192.0.2.1:5060", "192.0.2.1:5060"},
		{"0.0.0.0:0", "0.0.0.0:0"},
		{"255.255.255.255:65535", "255.255.255.255:65535"},
		{"[2001:db8::1]:5060", "[2001:db8::1]:5060"},
		{"[2001:DB8:0:0:0:0:0:1]:1", "[2001:db8::1]:1"},
		{"[::]:5061", "[::]:5061"},
		{"[::ffff:192.0.2.7]:5", "192.0.2.7:5"},
		{"[fe80::1%7]:5060", "[fe80::1%7]:5060"},
		{"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
		 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	};
	static const char *const bad[] = {
		"",
		":",
		":5060",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:65536",
		"192.0.2.1:-1",
		"192.0.2.1:+1",
		"192.0.2.256:1",
		"192.0.2:1",
		"192.0.2.1.1:1",
		"192.0.02.1:1",
		"1920.2.1.1:1",
		".0.2.1.1:1",
		"192.0.2.:1",
		" 192.0.2.1:1",
		"a.b.c.d:1",
		"2001:db8::1:5060",
		"[2001:db8::1]",
		"[2001:db8::1]5060",
		"[2001:db8::1:5060",
		"[]:5060",
		"[192.0.2.1]:5060",
		"[::1%1]:5060",
		"[fe80::1%]:5060",
		"[fe80::1%0]:5060",
		"[fe80::1%no-such-if]:5060",
		"[fe80::1%a-name-longer-than-any]:1",
		"[:::1]:1",
		"example.com:5060",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct addr a = parse(good[i].text);
		assert_string_equal(str(&a), good[i].out);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct addr a = {.family = 1234};
		if (addr_parse(slice_str(bad[i]), &a) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(a.family, 1234);
	}
	{
		struct addr a = {.family = 1234};
		assert_int_equal(addr_parse(SLICE_LIT("[::1\0]:5060"), &a), -EINVAL);
		assert_int_equal(addr_parse(SLICE_LIT("192.0.2.\0001:5060"), &a), -EINVAL);
	}
}

static void test_addr_parse_ip(void **state)
{
	struct addr a;
	char t[64];
	struct buf b;

	(void)state;
	assert_int_equal(addr_parse_ip(SLICE_LIT("[2001:db8::1]"), 5060, &a), 0);
	assert_string_equal(str(&a), "[2001:db8::1]:5060");
	assert_int_equal(addr_parse_ip(SLICE_LIT("2001:db8::1"), 5061, &a), 0);
	assert_string_equal(str(&a), "[2001:db8::1]:5061");
	assert_int_equal(addr_parse_ip(SLICE_LIT("198.51.100.20"), 0, &a), 0);
	buf_init(&b, t, sizeof(t));
	addr_format_ip(&a, &b);
	unit_assert_slice(buf_view(&b), "198.51.100.20");
	/* A peer's text has no say in which interface we use. */
	assert_int_equal(addr_parse_ip(SLICE_LIT("fe80::1%1"), 0, &a), -EINVAL);
	assert_int_equal(addr_parse_ip(SLICE_LIT("example.com"), 0, &a), -EINVAL);
	assert_int_equal(addr_parse_ip(SLICE_NONE, 0, &a), -EINVAL);
	a = parse("[fe80::1%3]:5060");
	buf_init(&b, t, sizeof(t));
	addr_format_ip(&a, &b);
	unit_assert_slice(buf_view(&b), "[fe80::1]");
	a = (struct addr){0};
	assert_string_equal(str(&a), "none:0");
}

static void test_addr_sockaddr(void **state)
{
	static const char *const texts[] = {"192.0.2.1:5060", "[2001:db8::1]:5060", "[fe80::1%9]:7"};
	struct sockaddr_storage ss;
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_scope_id = 4};
	struct addr a, b;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		a = parse(texts[i]);
		assert_int_equal(addr_to_sockaddr(&a, &ss), a.family == AF_INET ? sizeof(struct sockaddr_in)
										: sizeof(struct sockaddr_in6));
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, &b), 0);
		assert_true(addr_eq(&a, &b));
	}
	inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&in6, &a), 0);
	assert_string_equal(str(&a), "192.0.2.1:9");
	b = parse("192.0.2.1:9");
	assert_true(addr_eq(&a, &b));
	ss.ss_family = AF_UNIX;
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, &a), -EAFNOSUPPORT);
	assert_true(addr_eq(&a, &b));
}

static void test_addr_compare(void **state)
{
	struct addr a = parse("192.0.2.1:1"), b = parse("192.0.2.1:2"), c = parse("192.0.2.2:1"), d;

	(void)state;
	assert_false(addr_eq(&a, &b));
	assert_true(addr_eq_ip(&a, &b));
	assert_false(addr_eq_ip(&a, &c));
	a = parse("[fe80::1%1]:1");
	b = parse("[fe80::1%2]:1");
	assert_false(addr_eq(&a, &b));
	/* The same sixteen bytes in another family. */
	a = parse("32.1.13.184:1");
	b = parse("[2001:db8::]:1");
	assert_false(addr_eq(&a, &b));
	a = parse("0.0.0.0:5060");
	b = parse("[::]:5060");
	c = parse("0.0.0.1:5060");
	d = (struct addr){0};
	assert_true(addr_is_any(&a) && addr_is_any(&b));
	assert_false(addr_is_any(&c) || addr_is_any(&d));
	a = parse("127.3.2.1:1");
	b = parse("[::1]:1");
	c = parse("128.0.0.1:1");
	assert_true(addr_is_loopback(&a) && addr_is_loopback(&b));
	assert_false(addr_is_loopback(&c) || addr_is_loopback(&d));
}

static bool in_net(const char *net, const char *ip)
{
	struct addr_net n;
	struct addr a;

	if (addr_net_parse(slice_str(net), &n) < 0)
		fail_msg("refused: %s", net);
	assert_int_equal(addr_parse_ip(slice_str(ip), 5060, &a), 0);
	return addr_net_has(&n, &a);
}

static void test_addr_net(void **state)
{
	static const char *const bad[] = {"",        "192.0.2.0/33",   "192.0.2.0/",   "192.0.2.0/x",
					  "/24",     "2001:db8::/129", "192.0.2/24",   "192.0.2.0/24/",
					  "host/24", "192.0.2.0/-1",   "192.0.2.0 /8", "::ffff:0.0.0.0/95"};
	struct addr_net n = {.bits = 99};

	(void)state;
	assert_true(in_net("192.0.2.0/24", "192.0.2.255"));
	assert_false(in_net("192.0.2.0/24", "192.0.3.0"));
	assert_true(in_net("192.0.2.77/24", "192.0.2.1"));
	assert_true(in_net("192.0.2.128/25", "192.0.2.129"));
	assert_false(in_net("192.0.2.128/25", "192.0.2.127"));
	assert_true(in_net("10.32.0.0/11", "10.63.255.255"));
	assert_false(in_net("10.32.0.0/11", "10.64.0.0"));
	assert_true(in_net("0.0.0.0/0", "203.0.113.1"));
	assert_false(in_net("0.0.0.0/0", "2001:db8::1"));
	assert_true(in_net("192.0.2.1", "192.0.2.1"));
	assert_false(in_net("192.0.2.1", "192.0.2.0"));
	assert_true(in_net("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(in_net("2001:db8::/33", "2001:db8:8000::1"));
	assert_true(in_net("[2001:db8::1]", "2001:db8::1"));
	assert_false(in_net("2001:db8::1/128", "2001:db8::2"));
	assert_true(in_net("::/0", "fe80::1"));
	assert_true(in_net("::ffff:192.0.2.0/120", "192.0.2.9"));
	assert_false(in_net("::ffff:192.0.2.0/120", "192.0.3.9"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (addr_net_parse(slice_str(bad[i]), &n) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(n.bits, 99);
	}
	n = (struct addr_net){0};
	assert_false(addr_net_has(&n, &(struct addr){0}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_parse),    cmocka_unit_test(test_addr_parse_ip),
		cmocka_unit_test(test_addr_sockaddr), cmocka_unit_test(test_addr_compare),
		cmocka_unit_test(test_addr_net),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
