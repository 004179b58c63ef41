/* Numbers with units. */
#include "config/unit_p.h"
#include "test_config_p.h"

struct unit_case {
	const char *text;
	uint64_t value;
};

static void check(const struct unit *u, const struct unit_case *good, size_t n, const char *const *bad)
{
	uint64_t v;

	for (size_t i = 0; i < n; i++) {
		v = 1;
		if (unit_parse(u, good[i].text, &v) != 0)
			fail_msg("refused: %s", good[i].text);
		if (v != good[i].value)
			fail_msg("%s is %llu", good[i].text, (unsigned long long)v);
	}
	for (; *bad; bad++) {
		v = 77;
		if (unit_parse(u, *bad, &v) != -EINVAL)
			fail_msg("accepted: %s", *bad);
		assert_true(v == 77);
	}
}

static void test_duration(void **state)
{
	static const struct unit_case good[] = {
		{"500ms", 500},    {"30s", 30000},
		{"5m", 300000},    {"1h", 3600000},
		{"2d", 172800000}, {"0", 0},
		{"0s", 0},         {"00", 0},
		{"007ms", 7},      {"18446744073709551615ms", UINT64_MAX},
	};
	static const char *const bad[] = {"",
					  "5",
					  "s",
					  "ms",
					  "5 s",
					  " 5s",
					  "5s ",
					  "-5s",
					  "+5s",
					  "1.5s",
					  "5us",
					  "5S ",
					  "5x",
					  "0x",
					  "5ss",
					  "18446744073709551615s",
					  "18446744073709551616ms",
					  NULL};

	(void)state;
	check(unit_duration, good, sizeof(good) / sizeof(good[0]), bad);
}

static void test_micros(void **state)
{
	static const struct unit_case good[] = {
		{"200us", 200}, {"1ms", 1000}, {"2s", 2000000}, {"0", 0}, {"0us", 0}};
	static const char *const bad[] = {"",  "5", "us", "1m", "1h", "200", "0.2ms", "18446744073709551615ms",
					  NULL};

	(void)state;
	check(unit_micros, good, sizeof(good) / sizeof(good[0]), bad);
}

static void test_size(void **state)
{
	static const struct unit_case good[] = {
		{"0", 0},           {"1", 1},           {"65536", 65536},
		{"64k", 65536},     {"64K", 65536},     {"4m", 4u << 20},
		{"4g", 4ull << 30}, {"1t", 1ull << 40}, {"16777215t", 16777215ull << 40}};
	static const char *const bad[] = {"", "k", "4kb", "4 k", "-1", "1e3", "0x10", "16777216t", NULL};

	(void)state;
	check(unit_size, good, sizeof(good) / sizeof(good[0]), bad);
}

/* Each prints by the largest unit that divides it, and reads back. */
static void test_print(void **state)
{
	static const char *const lines[] = {
		"    t1               = 1s\n",   "    c                = 4m\n",
		"gather        = 1500us\n",      "    timeout     = 0ms\n",
		"    retry_after = 90s\n",       "    map_size     = 1536m\n",
		"    receive_buffer = 100000\n", "    t2               = 4500ms\n",
	};
	struct config *c = NULL;
	char *text = NULL;
	size_t len;
	FILE *f;

	(void)state;
	assert_int_equal(load("gather = 1500us\ntimers { t1 = 1000ms t2 = 4500ms c = 240s }\n"
			      "drain { timeout = 0 retry_after = 90s }\nstore { map_size = 1610612736 }\n"
			      "listen \"udp:127.0.0.1:1\" { receive_buffer = 100000 }\n",
			      NULL, &c),
			 0);
	f = open_memstream(&text, &len);
	assert_non_null(f);
	config_print(c, f);
	assert_int_equal(fclose(f), 0);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (!strstr(text, lines[i]))
			fail_msg("missing: %s in\n%s", lines[i], text);
	free(text);
	config_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_micros),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_print),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
