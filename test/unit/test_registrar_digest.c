/* Digest authentication against users in a store: challenges, credentials, nonces that expire. */
#include <errno.h>

#include "registrar_digest.h"

/* RFC 8760 2.4: the stronger first; the realm in lower case, whatever the configuration says. */
static void test_challenge(void **state)
{
	(void)state;
	char text[1024];
	struct buf b;
	buf_init(&b, text, sizeof(text) - 1);
	digest_challenge(d, &source, &(struct digest_realm){.name = SLICE_LIT("Local.TEST"), .proxy = true},
			 true, now, &b);
	text[b.len] = 0;
	const char *sha = strstr(text, "Proxy-Authenticate: Digest realm=\"local.test\", nonce=\"");
	assert_ptr_equal(sha, text);
	const char *second = strstr(text + 1, "Proxy-Authenticate: Digest ");
	assert_non_null(second);
	const char *a = strstr(text, "algorithm=SHA-256"), *m = strstr(text, "algorithm=MD5");
	assert_true(a && m && a < second && second < m);
	assert_non_null(strstr(second, "qop=\"auth,auth-int\""));
	assert_non_null(strstr(second, "stale=true\r\n"));
	buf_init(&b, text, sizeof(text) - 1);
	digest_challenge(d, &source, &www, false, now, &b);
	text[b.len] = 0;
	assert_ptr_equal(strstr(text, "WWW-Authenticate: Digest "), text);
	assert_null(strstr(text, "stale"));
	/* the longest domain fits what the proxy has for it */
	char realm[253];
	memset(realm, 'a', sizeof(realm));
	buf_init(&b, text, sizeof(text));
	digest_challenge(d, &source, &(struct digest_realm){.name = {realm, sizeof(realm)}, .proxy = true},
			 true, now, &b);
	assert_false(b.full);
	assert_true(b.len > 0);
}

static void test_right(void **state)
{
	(void)state;
	char nonce[128];
	static const char *const qop[] = {"auth", "auth-int"};
	for (unsigned sha = 0; sha < 2; sha++)
		for (unsigned q = 0; q < 2; q++) {
			struct digest_client c = client(nonce_at(now, nonce));
			c.sha256 = sha;
			c.qop = qop[q];
			c.body = "v=0\r\n";
			assert_int_equal(check(&c), DIGEST_OK);
			unit_assert_slice(user.name, "alice");
			assert_int_equal(user.delay, 0);
			/* counts go up */
			c.nc = 2;
			assert_int_equal(check(&c), DIGEST_OK);
		}
	assert_int_equal(counters_sum(CNT_AUTH_OK), 8);
}

/* What is not offered is not taken. */
static void test_algorithm(void **state)
{
	(void)state;
	for (unsigned md5 = 0; md5 < 2; md5++) {
		struct digest_realm realm = {.name = SLICE_LIT(REALM),
					     .algorithm = md5 ? ALGORITHM_MD5 : ALGORITHM_SHA256};
		char text[1024], nonce[128], value[1024];
		struct buf b;
		buf_init(&b, text, sizeof(text) - 1);
		digest_challenge(d, &source, &realm, false, now, &b);
		text[b.len] = 0;
		assert_true((strstr(text, "algorithm=MD5") != NULL) == md5);
		assert_true((strstr(text, "algorithm=SHA-256") != NULL) == !md5);
		for (unsigned sha = 0; sha < 2; sha++) {
			struct digest_client c = client(nonce_at(now, nonce));
			c.sha256 = sha;
			digest_answer(&c, value);
			assert_int_equal(digest_check(d, reader, request("Authorization", value, ""), &realm,
						      now, &user),
					 sha == md5 ? DIGEST_NONE : DIGEST_OK);
			store_read_end(reader);
		}
	}
}

/* auth-int covers the body. */
static void test_integrity(void **state)
{
	(void)state;
	char nonce[128], value[1024];
	struct digest_client c = client(nonce_at(now, nonce));
	c.qop = "auth-int";
	c.body = "v=0\r\n";
	digest_answer(&c, value);
	assert_int_equal(check_value(value, "v=1\r\n"), DIGEST_WRONG);
}

static void test_none(void **state)
{
	(void)state;
	char nonce[128], value[1024];
	struct digest_client c = client(nonce_at(now, nonce));
	digest_answer(&c, value);
	/* in the other header, of another scheme, another realm, another algorithm */
	assert_int_equal(digest_check(d, reader, request("Proxy-Authorization", value, ""), &www, now, &user),
			 DIGEST_NONE);
	assert_int_equal(check_value("Basic QWxhZGRpbg==", ""), DIGEST_NONE);
	c.realm = "other.test";
	assert_int_equal(check(&c), DIGEST_NONE);
	assert_int_equal(
		check_value(
			"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
			"response=\"00\", algorithm=SHA-512-256, cnonce=\"c\", qop=auth, nc=00000001",
			""),
		DIGEST_NONE);
	/* ours is found behind another realm's, and for the proxy */
	char two[2100];
	c.realm = "other.test";
	digest_answer(&c, value);
	char mine[1024];
	c = client(nonce);
	digest_answer(&c, mine);
	snprintf(two, sizeof(two), "%s\r\nAuthorization: %s", value, mine);
	assert_int_equal(check_value(two, ""), DIGEST_OK);
	c.nc = 2;
	digest_answer(&c, mine);
	assert_int_equal(digest_check(d, reader, request("Proxy-Authorization", mine, ""), &proxy, now, &user),
			 DIGEST_OK);
	assert_int_equal(counters_sum(CNT_AUTH_WRONG), 0);
}

static void test_malformed(void **state)
{
	(void)state;
	static const char *const broken[] = {
		"Digest username=\"alice",
		"Digest realm=\"local.test\"",
		/* without qop (RFC 2069), which would need no count */
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\"",
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=1",
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=00000000",
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=0000000g",
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=conf, nc=00000001",
		"Digest username=\"\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=00000001",
		/* for another resource (22.4) */
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:other.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=00000001",
		"Digest username=\"alice\", realm=\"local.test\", nonce=\"x\", uri=\"sip:bob@local.test\", "
		"response=\"00\", "
		"cnonce=\"c\", qop=auth, nc=00000001",
	};
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		if (check_value(broken[i], "") != DIGEST_MALFORMED)
			fail_msg("not malformed: %s", broken[i]);
	char longest[700];
	snprintf(longest, sizeof(longest),
		 "Digest username=\"%0300d\", realm=\"local.test\", nonce=\"x\", uri=\"sip:local.test\", "
		 "response=\"00\", "
		 "cnonce=\"c\", qop=auth, nc=00000001",
		 1);
	assert_int_equal(check_value(longest, ""), DIGEST_MALFORMED);
}

static void test_expiry(void **state)
{
	(void)state;
	char nonce[128];
	struct digest_client c = client(nonce_at(now, nonce));
	now += DIGEST_NONCE_LIFE;
	assert_int_equal(check(&c), DIGEST_OK);
	now += 1;
	c.nc = 2;
	assert_int_equal(check(&c), DIGEST_STALE);
	/* nothing is said of the password that an old nonce was used with */
	c.password = "guess";
	assert_int_equal(check(&c), DIGEST_STALE);
	assert_int_equal(user.delay, 0);
	assert_int_equal(counters_sum(CNT_AUTH_WRONG), 0);
	/* from the future */
	c = client(nonce_at(now + 60000, nonce));
	assert_int_equal(check(&c), DIGEST_STALE);
}

/* A nonce of another realm, one that was changed, one that was never given. */
static void test_forged(void **state)
{
	(void)state;
	char nonce[128], text[1024];
	struct digest_client c = client(nonce_at(now, nonce));
	for (size_t i = 0; i < strlen(nonce); i++) {
		char was = nonce[i];
		nonce[i] = was == '0' ? '1' : '0';
		assert_int_equal(check(&c), DIGEST_STALE);
		nonce[i] = was;
	}
	struct buf b;
	buf_init(&b, text, sizeof(text) - 1);
	digest_challenge(d, &source, &(struct digest_realm){.name = SLICE_LIT("other.test")}, false, now, &b);
	text[b.len] = 0;
	assert_int_equal(sscanf(strstr(text, "nonce=\""), "nonce=\"%100[^\"]", nonce), 1);
	c.nonce = nonce;
	assert_int_equal(check(&c), DIGEST_STALE);
	c.nonce = "00";
	assert_int_equal(check(&c), DIGEST_STALE);
	/* with another secret: another proxy's */
	struct digest *other;
	static const unsigned char secret[STORE_SECRET_LEN] = "another";
	assert_int_equal(digest_create(secret, &other), 0);
	struct digest *mine = d;
	d = other;
	nonce_at(now, nonce);
	d = mine;
	c.nonce = nonce;
	assert_int_equal(check(&c), DIGEST_STALE);
	digest_destroy(other);
}

static void oom(void)
{
	struct digest *x = NULL;
	int rc = digest_create(SECRET, &x);
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		assert_null(x);
		return;
	}
	digest_destroy(x);
}

static void test_memory(void **state)
{
	(void)state;
	UNIT_OOM(oom);
	digest_destroy(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_challenge), T(test_right),  T(test_algorithm), T(test_integrity), T(test_none),
		T(test_malformed), T(test_expiry), T(test_forged),    T(test_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
