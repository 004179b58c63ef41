#include "test_transport.h"
#include "transport/local.h"

static void test_open(void **state)
{
	static const char *const ip[] = {"127.0.0.1", "::1", "0.0.0.0", "::"};
	struct test_config t;
	struct udp *u;
	char err[200] = "";
	(void)state;
	test_config_init(&t, 2, 4, ip);
	t.listen[1].proto = FLOW_TCP;
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	assert_int_equal(u->listeners, 4);
	for (unsigned i = 0; i < 4; i++) {
		const struct udp_socket *a = udp_socket(u, i, 0), *b = udp_socket(u, i, 1);
		if (i == 1) {
			assert_null(a);
			assert_int_equal(u->bound[i].family, 0);
			continue;
		}
		assert_true(a && b && a->fd != b->fd);
		assert_int_equal(a->family, i == 3 ? AF_INET6 : AF_INET);
		assert_int_equal(a->wildcard, i >= 2);
		assert_int_equal(a->listener, i);
		assert_int_equal(b->acceptor, 1);
		assert_int_not_equal(u->bound[i].port, 0);
		assert_ptr_equal(udp_socket(u, i, 9), a);
	}
	assert_null(udp_socket(u, 4, 0));
	udp_close(u);
	udp_close(NULL);
}

static void test_in_use(void **state)
{
	static const char *const ip[] = {"127.0.0.1"};
	struct test_config t;
	struct udp *u = NULL, *second = NULL;
	char err[200] = "", expect[200];
	(void)state;
	test_config_init(&t, 1, 1, ip);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	t.listen[0].addr.port = u->bound[0].port;
	/* The first has SO_REUSEPORT: only the probe tells that the port is taken. */
	assert_int_equal(udp_open(&t.config, &second, err, sizeof(err)), -EADDRINUSE);
	snprintf(expect, sizeof(expect), "listen %s: Address already in use", t.name[0]);
	assert_string_equal(err, expect);
	assert_null(second);
	udp_close(u);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	udp_close(u);
}

static void test_twice_and_overlap(void **state)
{
	static const char *const ip[] = {"127.0.0.1", "127.0.0.1"};
	struct test_config t;
	struct udp *u = NULL;
	char err[200];
	(void)state;
	test_config_init(&t, 1, 2, ip);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	t.listen[0].addr.port = t.listen[1].addr.port = u->bound[0].port;
	udp_close(u);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), -EADDRINUSE);
	/* A wildcard and an address of ours may share the port. */
	memset(t.listen[1].addr.ip, 0, sizeof(t.listen[1].addr.ip));
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	udp_close(u);
}

static void test_not_ours(void **state)
{
	static const char *const ip[] = {"192.0.2.1"};
	struct test_config t;
	struct udp *u = NULL;
	char err[200];
	(void)state;
	test_config_init(&t, 1, 1, ip);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), -EADDRNOTAVAIL);
	assert_non_null(strstr(err, "listen udp:192.0.2.1:0: "));
}

static void open_body(void)
{
	static const char *const ip[] = {"127.0.0.1"};
	struct test_config t;
	struct udp *u;
	char err[200];
	test_config_init(&t, 1, 1, ip);
	if (udp_open(&t.config, &u, err, sizeof(err)) < 0)
		assert_true(alloc_failed());
	else
		udp_close(u);
}

static void test_open_oom(void **state)
{
	(void)state;
	UNIT_OOM(open_body);
}

static void test_local_source(void **state)
{
	struct addr bound = test_addr("127.0.0.1", 5060), any = test_addr("0.0.0.0", 5062),
		    any6 = test_addr("::", 5063);
	struct addr far = test_addr("127.0.0.9", 9), far6 = test_addr("::1", 9), out;
	(void)state;
	assert_int_equal(local_source(&bound, &far, &out), 0);
	assert_true(addr_eq(&out, &bound));
	assert_int_equal(local_source(&any, &far, &out), 0);
	assert_true(addr_is_loopback(&out));
	assert_int_equal(out.port, 5062);
	assert_int_equal(local_source(&any, &far6, &out), -EAFNOSUPPORT);
	if (local_source(&any6, &far6, &out) == 0) {
		assert_true(addr_is_loopback(&out));
		assert_int_equal(out.port, 5063);
	}
}

static void test_local_list(void **state)
{
	struct addr bound = test_addr("127.0.0.1", 5060), any = test_addr("0.0.0.0", 5062), out[64];
	bool found = false;
	int n;
	(void)state;
	assert_int_equal(local_list(&bound, out, 64), 1);
	assert_true(addr_eq(&out[0], &bound));
	assert_int_equal(local_list(&bound, out, 0), 0);
	n = local_list(&any, out, 64);
	assert_in_range(n, 1, 64);
	for (int i = 0; i < n; i++) {
		assert_int_equal(out[i].family, AF_INET);
		assert_int_equal(out[i].port, 5062);
		found |= addr_is_loopback(&out[i]);
	}
	assert_true(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_in_use),
		cmocka_unit_test(test_twice_and_overlap),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_open_oom),
		cmocka_unit_test(test_local_source),
		cmocka_unit_test(test_local_list),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
