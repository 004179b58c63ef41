/* Digest credentials: the examples of RFC 7616, and what may not pass for credentials. */
#include <errno.h>

#include "sip/auth.h"
#include "unit.h"

#define NONCE  "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
#define CNONCE "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
#define BODY   "v=0\r\ns=-\r\n"

static const char *const good[SIP_AUTH_ALGORITHMS] = {
	[SIP_AUTH_SHA256] = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	[SIP_AUTH_MD5] = "8ca523f5e9506fed4657c9700eebdbec",
};
static const char *const good_int[SIP_AUTH_ALGORITHMS] = {
	[SIP_AUTH_SHA256] = "a049e41ec639121324116c218c2bb265159f14997dc9dc9d67e5b610accb78d0",
	[SIP_AUTH_MD5] = "6e76c71925fb055e62e516d4f7df43f4",
};
static const char *const good_empty[SIP_AUTH_ALGORITHMS] = {
	[SIP_AUTH_SHA256] = "322f218d701da7c7ef51e3ba6fa2551a2bf36425e1218fc1508c6bf65cbd4448",
	[SIP_AUTH_MD5] = "35ec75c6389a8fd8412c13222b3affe8",
};

static struct sip_auth rfc(const char *qop, const char *response)
{
	return (struct sip_auth){.username = SLICE_LIT("Mufasa"),
				 .realm = SLICE_LIT("http-auth@example.org"),
				 .nonce = SLICE_LIT(NONCE),
				 .uri = SLICE_LIT("/dir/index.html"),
				 .cnonce = SLICE_LIT(CNONCE),
				 .nc = SLICE_LIT("00000001"),
				 .qop = slice_str(qop),
				 .response = slice_str(response)};
}

static void ha1_of(enum sip_auth_algorithm a, unsigned char *out)
{
	assert_int_equal(sip_auth_ha1(a, SLICE_LIT("Mufasa"), SLICE_LIT("http-auth@example.org"),
				      SLICE_LIT("Circle of Life"), out),
			 0);
}

/* RFC 7616 3.9.1 */
static void test_examples(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIP_AUTH_ALGORITHMS; i++) {
		enum sip_auth_algorithm a = (enum sip_auth_algorithm)i;
		unsigned char ha1[SIP_AUTH_HASH_MAX] = {0};
		struct sip_auth c = rfc("auth", good[i]);
		ha1_of(a, ha1);
		assert_true(sip_auth_verify(a, ha1, &c, SLICE_LIT("GET"), SLICE_LIT("whatever")));
		assert_false(sip_auth_verify(a, ha1, &c, SLICE_LIT("POST"), SLICE_NONE));
		c = rfc("auth-int", good_int[i]);
		assert_true(sip_auth_verify(a, ha1, &c, SLICE_LIT("POST"), SLICE_LIT(BODY)));
		assert_false(sip_auth_verify(a, ha1, &c, SLICE_LIT("POST"), SLICE_LIT(BODY "x")));
		assert_false(sip_auth_verify(a, ha1, &c, SLICE_LIT("POST"), SLICE_NONE));
		c = rfc("auth-int", good_empty[i]);
		assert_true(sip_auth_verify(a, ha1, &c, SLICE_LIT("POST"), SLICE_NONE));
	}
}

/* Every part counts. */
static void test_each_part(void **state)
{
	(void)state;
	unsigned char ha1[SIP_AUTH_HASH_MAX] = {0};
	const struct sip_auth c = rfc("auth", good[SIP_AUTH_SHA256]);
	struct sip_auth x;
	ha1_of(SIP_AUTH_SHA256, ha1);
#define OTHER(field, text)         \
	x = c;                     \
	x.field = SLICE_LIT(text); \
	assert_false(sip_auth_verify(SIP_AUTH_SHA256, ha1, &x, SLICE_LIT("GET"), SLICE_NONE))
	OTHER(nonce, "7ypf");
	OTHER(uri, "/dir/index.htm");
	OTHER(nc, "00000002");
	OTHER(cnonce, "f2");
	OTHER(qop, "auth-int");
	OTHER(response, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c0");
	OTHER(response, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c");
	OTHER(response, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1a");
	OTHER(response, "g53927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
	OTHER(response, "8ca523f5e9506fed4657c9700eebdbec");
	OTHER(response, "");
#undef OTHER
	/* upper case digits are digits */
	x = c;
	x.response = SLICE_LIT("753927FA0E85D155564E2E272A28D1802CA10DAF4496794697CF8DB5856CB6C1");
	assert_true(sip_auth_verify(SIP_AUTH_SHA256, ha1, &x, SLICE_LIT("GET"), SLICE_NONE));
	ha1[31] ^= 1;
	assert_false(sip_auth_verify(SIP_AUTH_SHA256, ha1, &c, SLICE_LIT("GET"), SLICE_NONE));
}

/* RFC 3261 22.4 and 25.1: any order, any white space, folded lines, quotes or none. */
static void test_parse(void **state)
{
	(void)state;
	struct sip_auth c;
	assert_int_equal(
		sip_auth_parse(
			SLICE_LIT("dIGEST username=\"al\\\"ice, b=c\" ,\r\n\trealm = \"a.test\",nonce=\"\","
				  "URI=\"sip:a.test;x=y\",Response=abc,algorithm=SHA-256,cnonce=\"\\\\\","
				  "opaque=\"o\",qop=auth,nc=00000001,unknown=\"x,y=z\",more=1"),
			&c),
		0);
	unit_assert_slice(c.username, "al\\\"ice, b=c");
	unit_assert_slice(c.realm, "a.test");
	unit_assert_slice(c.nonce, "");
	unit_assert_slice(c.uri, "sip:a.test;x=y");
	unit_assert_slice(c.response, "abc");
	unit_assert_slice(c.algorithm, "SHA-256");
	unit_assert_slice(c.cnonce, "\\\\");
	unit_assert_slice(c.opaque, "o");
	unit_assert_slice(c.qop, "auth");
	unit_assert_slice(c.nc, "00000001");
}

static void test_parse_traps(void **state)
{
	(void)state;
	static const char *const broken[] = {
		"Digest",
		"Digest ",
		"Digest username",
		"Digest username=\"a",
		"Digest username=\"a\\",
		"Digest username=\"a\\\"",
		"Digest username=\"a\" realm=\"b\"",
		"Digest =\"a\"",
		"Digest username=\"a\",",
		"Digest ,username=\"a\"",
		"Digest username=\"a\"x,realm=b",
		"Digest username=\"a\",username=\"b\"",
		"Digest username=\"\",username=\"b\"",
		"Digest nc=,NC=00000001",
		"Digest a=b=c",
	};
	struct sip_auth c;
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		/* in a block of its own size, for the sanitizer */
		size_t n = strlen(broken[i]);
		char *exact = malloc(n);
		assert_non_null(exact);
		memcpy(exact, broken[i], n);
		if (sip_auth_parse(slice_make(exact, n), &c) != -EBADMSG)
			fail_msg("'%s' was taken", broken[i]);
		free(exact);
	}
	assert_int_equal(sip_auth_parse(SLICE_LIT("Basic QWxhZGRpbg=="), &c), -EPROTONOSUPPORT);
	assert_int_equal(sip_auth_parse(SLICE_LIT("Digestive username=\"a\""), &c), -EPROTONOSUPPORT);
	assert_int_equal(sip_auth_parse(SLICE_NONE, &c), -EPROTONOSUPPORT);
}

/* Any bytes at all are read within their bounds. */
static void test_parse_random(void **state)
{
	(void)state;
	static const char alphabet[] = "Digest =\",\\ \r\n\tusernamc";
	uint64_t seed = 7;
	struct sip_auth c;
	for (unsigned i = 0; i < 20000; i++) {
		size_t n = unit_random(&seed) % 40;
		char *p = malloc(7 + n);
		assert_non_null(p);
		memcpy(p, "Digest ", 7);
		for (size_t j = 0; j < n; j++)
			p[7 + j] = alphabet[unit_random(&seed) % (sizeof(alphabet) - 1)];
		if (sip_auth_parse(slice_make(p, 7 + n), &c) == 0)
			assert_true(!c.username.p ||
				    (c.username.p >= p && c.username.p + c.username.len <= p + 7 + n));
		free(p);
	}
}

static void test_algorithms(void **state)
{
	(void)state;
	enum sip_auth_algorithm a;
	assert_int_equal(sip_auth_algorithm(SLICE_LIT("sha-256"), &a), 0);
	assert_int_equal(a, SIP_AUTH_SHA256);
	assert_int_equal(sip_auth_algorithm(SLICE_LIT("md5"), &a), 0);
	assert_int_equal(a, SIP_AUTH_MD5);
	assert_int_equal(sip_auth_algorithm(SLICE_NONE, &a), 0);
	assert_int_equal(a, SIP_AUTH_MD5);
	assert_int_equal(sip_auth_algorithm(SLICE_LIT("MD5-sess"), &a), -EPROTONOSUPPORT);
	assert_int_equal(sip_auth_algorithm(SLICE_LIT("SHA-512-256"), &a), -EPROTONOSUPPORT);
	unit_assert_slice(sip_auth_algorithm_name(SIP_AUTH_SHA256), "SHA-256");
	unit_assert_slice(sip_auth_algorithm_name(SIP_AUTH_MD5), "MD5");
	assert_int_equal(sip_auth_hash_len(SIP_AUTH_SHA256), 32);
	assert_int_equal(sip_auth_hash_len(SIP_AUTH_MD5), 16);
}

static void test_hex(void **state)
{
	(void)state;
	unsigned char raw[3] = {1, 2, 3};
	char text[6];
	assert_true(sip_unhex(SLICE_LIT("00fFA9"), raw, 3));
	assert_memory_equal(raw, "\x00\xff\xa9", 3);
	sip_hex(raw, 3, text);
	assert_memory_equal(text, "00ffa9", 6);
	assert_false(sip_unhex(SLICE_LIT("00ffa"), raw, 3));
	assert_false(sip_unhex(SLICE_LIT("00ffa900"), raw, 3));
	assert_false(sip_unhex(SLICE_LIT("00ffag"), raw, 3));
	assert_false(sip_unhex(SLICE_LIT("00 fa9"), raw, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),     cmocka_unit_test(test_each_part),
		cmocka_unit_test(test_parse),        cmocka_unit_test(test_parse_traps),
		cmocka_unit_test(test_parse_random), cmocka_unit_test(test_algorithms),
		cmocka_unit_test(test_hex),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
