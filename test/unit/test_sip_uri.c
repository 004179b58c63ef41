#include <errno.h>
#include <time.h>

#include "sip/uri.h"
#include "unit.h"

static void test_parts(void **state)
{
	static const struct {
		const char *text;
		enum sip_scheme scheme;
		const char *user, *password, *host;
		unsigned port;
		const char *params, *headers;
	} row[] = {
		{"sip:h", SIP_SCHEME_SIP, "", "", "h", 0, "", ""},
		{"SIP:a@h.example:5070", SIP_SCHEME_SIP, "a", "", "h.example", 5070, "", ""},
		{"sips:a:p%3Aw@h", SIP_SCHEME_SIPS, "a", "p%3Aw", "h", 0, "", ""},
		{"sip:a:@h", SIP_SCHEME_SIP, "a", "", "h", 0, "", ""},
		{"sip:a@[2001:db8::1]:5;transport=tcp;lr?x=y&z=", SIP_SCHEME_SIP, "a", "", "[2001:db8::1]", 5,
		 ";transport=tcp;lr", "x=y&z="},
		{"sip:a@h?x=y", SIP_SCHEME_SIP, "a", "", "h", 0, "", "x=y"},
		{"sip:a;b?c/d,e=f&g+h$i@h", SIP_SCHEME_SIP, "a;b?c/d,e=f&g+h$i", "", "h", 0, "", ""},
		{"sip:*21#@h", SIP_SCHEME_SIP, "*21#", "", "h", 0, "", ""},
		{"sip:h;maddr=[::1];a=b%20c", SIP_SCHEME_SIP, "", "", "h", 0, ";maddr=[::1];a=b%20c", ""},
		{"sip:h;t=abc==", SIP_SCHEME_SIP, "", "", "h", 0, ";t=abc==", ""},
		{"sip:under_score.example", SIP_SCHEME_SIP, "", "", "under_score.example", 0, "", ""},
		{"tel:+1-201.555(01)23;phone-context=x", SIP_SCHEME_TEL, "+1-201.555(01)23", "", "", 0,
		 ";phone-context=x", ""},
		{"TEL:*30#", SIP_SCHEME_TEL, "*30#", "", "", 0, "", ""},
	};
	struct sip_uri u;

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		if (sip_uri_parse(slice_str(row[i].text), &u))
			fail_msg("refused: %s", row[i].text);
		assert_int_equal(u.scheme, row[i].scheme);
		unit_assert_slice(u.whole, row[i].text);
		unit_assert_slice(u.user, row[i].user);
		unit_assert_slice(u.password, row[i].password);
		unit_assert_slice(u.host, row[i].host);
		assert_int_equal(u.port, row[i].port);
		unit_assert_slice(u.params, row[i].params);
		unit_assert_slice(u.headers, row[i].headers);
		assert_int_equal(u.has_user, strchr(row[i].text, '@') != NULL);
	}
	assert_int_equal(sip_uri_parse(SLICE_LIT("soap.beep://h:1/x?y"), &u), 0);
	assert_int_equal(u.scheme, SIP_SCHEME_OTHER);
	unit_assert_slice(u.scheme_text, "soap.beep");
	unit_assert_slice(u.opaque, "//h:1/x?y");
}

static void test_refused(void **state)
{
	static const char *const row[] = {
		"",
		":",
		"sip",
		"sip:",
		"sip:@h",
		"sip:a@",
		"sip:a@@h",
		"sip:a@b@c",
		"sip: h",
		"sip:h ",
		"sip:a b@h",
		"<sip:h>",
		"sip:h>",
		"sip:\"a\"@h",
		"sip:h:",
		"sip:h:0",
		"sip:h:65536",
		"sip:h:x",
		"sip:h:50 60",
		"sip:2001:db8::1",
		"sip:[2001:db8::1",
		"sip:[]",
		"sip:[x]",
		"sip:[::1]x",
		"sip:[2001:db8::1]::5060",
		"sip:a%4@h",
		"sip:a%zz@h",
		"sip:h;",
		"sip:h;;a",
		"sip:h;=a",
		"sip:h;a=",
		"sip:h;a=%1",
		"sip:h?",
		"sip:h/path",
		"sip:h;a=\"b\"",
		"tel:",
		"tel:+",
		"tel:+a",
		"tel:-",
		"tel:12x",
		"tel:12;",
		"1x:y",
		"x y:z",
		"x:",
		"x:a b",
		"x:a\tb",
		"sip:a\x01@h",
	};
	struct sip_uri u = {.port = 77};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (sip_uri_parse(slice_str(row[i]), &u) != -EBADMSG)
			fail_msg("accepted: %s", row[i]);
	assert_int_equal(u.port, 77); /* written only on success */
}

static bool equal(const char *a, const char *b)
{
	struct sip_uri x, y;

	if (sip_uri_parse(slice_str(a), &x) || sip_uri_parse(slice_str(b), &y))
		fail_msg("refused: %s or %s", a, b);
	assert_int_equal(sip_uri_equal(&x, &y), sip_uri_equal(&y, &x));
	return sip_uri_equal(&x, &y);
}

static void test_equal(void **state)
{
	static const char *const same[][2] = {
		{"sip:ann@left.example", "SIP:ann@LEFT.Example"},
		{"sip:%61nn@left.example", "sip:a%6En@left.example"},
		{"sip:ann@left.example;transport=tcp", "sip:ann@left.example;Transport=TCP"},
		{"sip:ann@left.example;a=1;b=2", "sip:ann@left.example;b=2;a=1"},
		{"sip:ann@left.example;a=1", "sip:ann@left.example;b=2"},
		{"sip:ann@left.example", "sip:ann@left.example;lr"},
		{"sip:ann@left.example;a=%41", "sip:ann@left.example;a=a"},
		{"sip:left.example?subject=x&to=sip:b%40c", "sip:left.example?to=sip:b%40c&Subject=x"},
		{"sip:left.example;method=INFO;transport=tcp?a=1",
		 "sip:left.example;transport=tcp;method=INFO?a=1"},
		{"tel:+1", "tel:+1"},
		{"urn:x", "urn:x"},
	};
	static const char *const other[][2] = {
		{"sip:ann@left.example", "sip:Ann@left.example"},
		{"sip:ann@left.example", "sips:ann@left.example"},
		{"sip:ann@left.example", "sip:left.example"},
		{"sip:ann@left.example", "sip:ann:pw@left.example"},
		{"sip:ann:pw@left.example", "sip:ann:PW@left.example"},
		{"sip:ann@left.example", "sip:ann@left.example:5060"},
		{"sip:ann@left.example", "sip:ann@left.example:5061"},
		{"sip:ann@left.example", "sip:ann@left.example;transport=udp"},
		{"sip:ann@left.example", "sip:ann@left.example;maddr=192.0.2.1"},
		{"sip:ann@left.example", "sip:ann@left.example;user=ip"},
		{"sip:ann@left.example", "sip:ann@left.example;ttl=1"},
		{"sip:ann@left.example", "sip:ann@left.example;method=INVITE"},
		{"sip:ann@left.example;a=1", "sip:ann@left.example;a=2"},
		{"sip:ann@left.example;a", "sip:ann@left.example;a=2"},
		{"sip:ann@left.example", "sip:ann@left.example?a=1"},
		{"sip:left.example?a=1&a=2", "sip:left.example?a=1&a=1"},
		{"sip:left.example?a=1&a=2", "sip:left.example?a=1"},
		{"sip:a%3Bb@left.example", "sip:a;b@left.example"},
		{"sip:ann@left.example", "sip:ann@192.0.2.1"},
		{"tel:+1", "tel:+01"},
		{"urn:x", "urn:X"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if (!equal(same[i][0], same[i][1]))
			fail_msg("differ: %s %s", same[i][0], same[i][1]);
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		if (equal(other[i][0], other[i][1]))
			fail_msg("equal: %s %s", other[i][0], other[i][1]);
}

/* Bounded work for any number of parameters. */
static void test_equal_many(void **state)
{
	static char a[60000], b[60000];
	size_t n;

	(void)state;
	n = (size_t)sprintf(a, "sip:h");
	while (n < 50000)
		n += (size_t)sprintf(a + n, ";p=1");
	strcpy(b, a);
	assert_true(equal(a, b));
	strcat(b, ";q");
	assert_false(equal(a, b));
}

/* CPU time of comparing two URIs of `count` parameters with names of `len` characters, in opposite order; ns. */
static uint64_t compare_time(unsigned count, int len)
{
	char a[2048], b[2048];
	size_t n = (size_t)sprintf(a, "sip:h"), k = (size_t)sprintf(b, "sip:h");
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < count; i++) {
		n += (size_t)sprintf(a + n, ";%0*x", len, i);
		k += (size_t)sprintf(b + k, ";%0*x", len, count - 1 - i);
	}
	for (unsigned i = 0; i < 20; i++) {
		struct timespec from, to;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (unsigned r = 0; r < 10; r++)
			assert_true(equal(a, b));
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		uint64_t ns = (uint64_t)(to.tv_sec - from.tv_sec) * 1000000000u + (uint64_t)to.tv_nsec -
			      (uint64_t)from.tv_nsec;
		least = ns < least ? ns : least;
	}
	return least;
}

/* As long, but of many parameters: no square of their number. A registrar compares every contact with every other. */
static void test_equal_linear(void **state)
{
	(void)state;
	assert_in_range(compare_time(64, 13), 0, 4 * compare_time(4, 223));
}

static void test_unescape(void **state)
{
	char out[16];
	struct buf b;

	(void)state;
	buf_init(&b, out, sizeof(out));
	sip_unescape(SLICE_LIT("a%41%6a%00%4%zz%"), &b);
	assert_int_equal(b.len, 10);
	assert_memory_equal(out, "aAj\0%4%zz%", 10);
	buf_init(&b, out, 2);
	sip_unescape(SLICE_LIT("abc"), &b);
	assert_true(b.full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),        cmocka_unit_test(test_refused),
		cmocka_unit_test(test_equal),        cmocka_unit_test(test_equal_many),
		cmocka_unit_test(test_equal_linear), cmocka_unit_test(test_unescape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
