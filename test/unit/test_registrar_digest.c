/* Digest authentication against users in a store: nonces that expire, counts that are used once, guessing that gets slower. */
#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/hash.h"
#include "digest_client.h"
#include "registrar/digest_p.h"
#include "registrar/users_p.h"
#include "registrar_store.h"

#define REALM "local.test"

static const unsigned char SECRET[STORE_SECRET_LEN] = "a secret of thirty-two bytes...";
static const struct digest_realm www = {.name = {REALM, sizeof(REALM) - 1}};
static const struct digest_realm proxy = {.name = {REALM, sizeof(REALM) - 1}, .proxy = true};
static struct digest *d;
static struct sip_msg_room room;
static struct addr source;
static uint64_t now;

static int put(const char *name, const char *realm, const char *password)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	int rc = users_put(t, slice_str(name), slice_str(realm), slice_str(password));
	if (rc)
		store_abort(t);
	else
		assert_int_equal(store_commit(t), 0);
	store_read_end(reader);
	return rc;
}

static int setup(void **state)
{
	(void)state;
	hash_init(42);
	store_setup(8u << 20);
	assert_int_equal(digest_create(SECRET, &d), 0);
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.10:5060"), &source), 0);
	now = clock_wall_ns() / 1000000u + 10;
	assert_int_equal(put("alice", REALM, "secret"), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	digest_destroy(d);
	return store_teardown();
}

/* The nonce of a fresh challenge. */
static const char *nonce_at(uint64_t when, char out[static 128])
{
	char text[1024];
	struct buf b;
	buf_init(&b, text, sizeof(text) - 1);
	digest_challenge(d, &source, &www, false, when, &b);
	text[b.len] = 0;
	const char *p = strstr(text, "nonce=\"");
	assert_non_null(p);
	assert_int_equal(sscanf(p, "nonce=\"%100[^\"]", out), 1);
	return out;
}

static const struct sip_msg *request(const char *header, const char *value, const char *body)
{
	static char text[4096];
	int n = snprintf(text, sizeof(text),
			 "REGISTER sip:" REALM " SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\n"
			 "Max-Forwards: 70\r\nFrom: <sip:alice@" REALM ">;tag=a\r\nTo: <sip:alice@" REALM
			 ">\r\n"
			 "Call-ID: c\r\nCSeq: 1 REGISTER\r\n%s: %s\r\nContent-Length: %zu\r\n\r\n%s",
			 header, value, strlen(body), body);
	assert_int_equal(sip_msg_parse(&room, text, (size_t)n, false), 0);
	assert_int_equal(room.msg.error, 0);
	return &room.msg;
}

static struct digest_user user;

static enum digest_result check_value(const char *value, const char *body)
{
	enum digest_result r = digest_check(d, reader, request("Authorization", value, body), &www, now, &user);
	store_read_end(reader);
	return r;
}

static enum digest_result check(const struct digest_client *c)
{
	char value[1024];
	digest_answer(c, value);
	return check_value(value, c->body ? c->body : "");
}

static struct digest_client client(const char *nonce)
{
	return (struct digest_client){.user = "alice",
				      .realm = REALM,
				      .password = "secret",
				      .method = "REGISTER",
				      .uri = "sip:" REALM,
				      .nonce = nonce,
				      .sha256 = true};
}

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

/* Which counts of a nonce were used before a restart is not known. That is not told by the clock, which may have been ahead when we
 * were started. */
static void test_runs(void **state)
{
	(void)state;
	char nonce[128];
	struct digest *before = d;
	nonce_at(now, nonce);
	assert_int_equal(digest_create(SECRET, &d), 0);
	struct digest_client c = client(nonce);
	assert_int_equal(check(&c), DIGEST_STALE);
	now -= 7200000;
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	digest_destroy(before);
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

/* RFC 7616 5.12: what was heard on the wire is no use again. */
static void test_replay(void **state)
{
	(void)state;
	char nonce[128];
	struct digest_client c = client(nonce_at(now, nonce));
	c.nc = 5;
	assert_int_equal(check(&c), DIGEST_OK);
	assert_int_equal(check(&c), DIGEST_STALE);
	c.nc = 4;
	assert_int_equal(check(&c), DIGEST_STALE);
	c.nc = 6;
	assert_int_equal(check(&c), DIGEST_OK);
	now += DIGEST_NONCE_LIFE;
	assert_int_equal(check(&c), DIGEST_STALE);
	assert_int_equal(counters_sum(CNT_AUTH_STALE), 3);
	/* a count that the table cannot hold */
	c = client(nonce_at(now, nonce));
	c.nc = 0x100000;
	assert_int_equal(check(&c), DIGEST_STALE);
}

/* One user who takes nonce after nonce fills the table: others get in with new ones all the same, and no count counts twice. */
static void test_replay_full(void **state)
{
	(void)state;
	enum { MANY = 3 * TABLE_WAYS };
	struct replay *r = &d->replay;
	char text[MANY][12];
	unsigned used = 0;
	uint64_t set = 0, t = now;
	for (unsigned i = 0; used < MANY; i++) {
		char name[12];
		int n = snprintf(name, sizeof(name), "n%u", i);
		uint64_t h = hash_bytes(name, (size_t)n, hash_seed ^ 1);
		if (i == 0)
			set = h & (REPLAY_SETS - 1);
		if ((h & (REPLAY_SETS - 1)) != set)
			continue;
		memcpy(text[used++], name, sizeof(name));
		t += 20000; /* so that the oldest is known */
		assert_true(replay_use(r, slice_str(name), t - 100, 1, t));
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_false(replay_use(r, slice_str(text[i]), now + 20000 * (i + 1) - 100, 1, t));
	/* in the table still, or fallen out of it: good with another count, or no more */
	assert_true(replay_use(r, slice_str(text[MANY - 1]), t - 100, 2, t));
	assert_false(replay_use(r, slice_str(text[0]), now + 19900, 2, t));
	/* there is room without loss once all are stale anyway */
	t += DIGEST_NONCE_LIFE + 60000;
	assert_true(replay_use(r, slice_str(text[0]), t - 100, 1, t));
	assert_true(replay_use(r, slice_str(text[1]), t - 100, 1, t));
	/* the clock set back: one attempt fails, then it goes on */
	for (unsigned i = 2; i < MANY; i++)
		assert_true(replay_use(r, slice_str(text[i]), t + 100 * i - 1, 1, t + 100 * i));
	t -= 7200000;
	replay_use(r, slice_str(text[0]), t, 1, t);
	assert_true(replay_use(r, slice_str(text[1]), t + 1, 1, t + 1));
}

static struct {
	pthread_barrier_t barrier;
	atomic_uint taken[4000];
} race;

static void *race_run(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 4000; i++) {
		char name[16];
		int n = snprintf(name, sizeof(name), "nonce%u", i);
		pthread_barrier_wait(&race.barrier);
		if (replay_use(&d->replay, slice_make(name, (size_t)n), now, 1, now))
			atomic_fetch_add(&race.taken[i], 1);
	}
	return NULL;
}

/* The same credentials at two workers at once count once at the most. */
static void test_replay_race(void **state)
{
	(void)state;
	pthread_t t[2];
	memset(&race, 0, sizeof(race));
	pthread_barrier_init(&race.barrier, NULL, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, race_run, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&race.barrier);
	for (unsigned i = 0; i < 4000; i++)
		assert_true(atomic_load(&race.taken[i]) <= 1);
}

/* Who guesses waits longer and longer, even with the right password; in the end it is forgotten. */
static void test_delays(void **state)
{
	(void)state;
	static const uint32_t want[] = {0, 0, 500, 1000, 2000, 4000, 8000, 16000, 16000, 16000};
	char nonce[128];
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		struct digest_client c = client(nonce_at(now, nonce));
		c.password = "guess";
		assert_int_equal(check(&c), DIGEST_WRONG);
		assert_int_equal(user.delay, want[i]);
		if (!want[i])
			continue;
		c = client(nonce_at(now, nonce));
		assert_int_equal(check(&c), DIGEST_WRONG);
		assert_in_range(user.delay, want[i] - 16, want[i]);
		now += want[i] / 2;
		assert_int_equal(check(&c), DIGEST_WRONG);
		assert_in_range(user.delay, want[i] / 2 - 16, want[i] / 2 + 16);
		now += want[i] / 2 + 16;
	}
	assert_int_equal(counters_sum(CNT_AUTH_WRONG), 10);
	assert_int_equal(counters_sum(CNT_AUTH_DELAYED), 16);
	/* others at other places are not concerned */
	struct addr here = source;
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.11:5060"), &source), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	c.password = "guess";
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 0);
	source = here;
	/* the port is no other place */
	source.port = 7;
	c = client(nonce_at(now, nonce));
	c.password = "guess";
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 16000);
	now += 16016;
	/* the right one ends it */
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	c.password = "guess", c.nc = 2;
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 0);
}

/* A datagram's source is soon forged: who answers a nonce of his own in the name of a telephone, and from its address, shuts out himself. */
static void test_delays_of_a_forger(void **state)
{
	(void)state;
	char nonce[128], own[128];
	struct addr phone = source;
	assert_int_equal(addr_parse(SLICE_LIT("203.0.113.66:5060"), &source), 0);
	nonce_at(now, own);
	source = phone;
	struct digest_client c = client(own);
	c.password = "guess";
	for (c.nc = 1; c.nc < 6; c.nc++)
		assert_int_equal(check(&c), DIGEST_WRONG);
	assert_true(user.delay > 0);
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	/* and not another one by another nonce of his */
	c = client(own);
	assert_int_equal(check(&c), DIGEST_WRONG);
}

static void test_delays_forgotten(void **state)
{
	(void)state;
	char nonce[128];
	for (unsigned i = 0; i < 5; i++) {
		struct digest_client c = client(nonce_at(now, nonce));
		c.password = "guess";
		assert_int_equal(check(&c), DIGEST_WRONG);
		now += user.delay + 16;
	}
	now += 600000;
	struct digest_client c = client(nonce_at(now, nonce));
	c.password = "guess";
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 0);
}

/* Many names from one place are guessing too; an IPv6 host has many addresses. */
static void test_delays_of_a_source(void **state)
{
	(void)state;
	char nonce[128], name[16], from[64];
	unsigned delayed = 0;
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		snprintf(from, sizeof(from), "[2001:db8::%x]:5060", i + 1);
		assert_int_equal(addr_parse(slice_str(from), &source), 0);
		struct digest_client c = client(nonce_at(now, nonce));
		c.user = name;
		assert_int_equal(check(&c), DIGEST_WRONG);
		delayed += user.delay != 0;
		assert_true(user.delay != 0 || i < 50);
		now += user.delay + 16;
	}
	assert_int_equal(delayed, 10);
	assert_int_equal(addr_parse(SLICE_LIT("[2001:db8:0:1::1]:5060"), &source), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
}

/* One telephone with an old password does not shut out those behind the same NAT that are known there; who is not known there waits. */
static void test_delays_spare_the_known(void **state)
{
	(void)state;
	char nonce[128], name[16];
	struct digest_client c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		struct digest_client wrong = client(nonce_at(now, nonce));
		wrong.user = name;
		assert_int_equal(check(&wrong), DIGEST_WRONG);
		now += i < 59 ? user.delay + 16 : 16;
	}
	assert_true(user.delay > 0);
	struct digest_client stranger = client(nonce_at(now, nonce));
	stranger.user = "stranger";
	assert_int_equal(check(&stranger), DIGEST_WRONG);
	assert_true(user.delay > 0);
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	/* its own failures count as before, and it stays known */
	for (unsigned i = 0; i < 3; i++) {
		c = client(nonce_at(now, nonce));
		c.password = "guess";
		assert_int_equal(check(&c), DIGEST_WRONG);
		assert_int_equal(user.delay, i < 2 ? 0 : 500);
	}
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_WRONG);
	now += 516;
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_OK);
	/* for a day */
	now += 86400000;
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "other%u", i);
		struct digest_client wrong = client(nonce_at(now, nonce));
		wrong.user = name;
		assert_int_equal(check(&wrong), DIGEST_WRONG);
		now += i < 59 ? user.delay + 16 : 16;
	}
	c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_WRONG);
}

/* However small the clock's value, an empty slot is taken before one that counts. */
static void test_failures_keep(void **state)
{
	(void)state;
	struct failures *f = &d->failures;
	uint64_t early = (uint64_t)16 << 32; /* the slot's time begins again at 0 */
	char name[16], first[16] = "";
	uint64_t set = 0;
	unsigned found = 0;
	for (unsigned i = 0; found < TABLE_WAYS; i++) {
		int n = snprintf(name, sizeof(name), "u%u", i);
		const uint64_t origin = 5;
		uint64_t h = hash_bytes(&origin, sizeof(origin), hash_seed ^ 2);
		h = hash_bytes(name, (size_t)n, h) & (FAILURES_SETS - 1);
		if (found && h != set)
			continue;
		set = h;
		if (!found)
			memcpy(first, name, sizeof(first));
		for (unsigned j = 0; j < 4; j++)
			failures_note(f, origin, slice_str(name), early + 160 * found);
		found++;
	}
	assert_true(failures_due(f, 5, slice_str(first), early + 480) > 0);
}

/* A name that does not exist is told by nothing from a wrong password. */
static void test_unknown_user(void **state)
{
	(void)state;
	char nonce[128];
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "nobody";
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 500);
	/* nor can a hash of zeros be guessed */
	unsigned char zero[SIP_AUTH_HASH_MAX] = {0}, right[SIP_AUTH_HASH_MAX];
	assert_int_equal(
		sip_auth_ha1(SIP_AUTH_MD5, SLICE_LIT("nobody"), SLICE_LIT(REALM), SLICE_LIT("secret"), right),
		0);
	assert_true(memcmp(zero, right, 16) != 0);
}

/* --- users --- */

static char listed[512];

static void list_one(void *ctx, struct slice name, struct slice realm)
{
	(void)ctx;
	size_t n = strlen(listed);
	snprintf(listed + n, sizeof(listed) - n, SLICE_FMT "@" SLICE_FMT " ", SLICE_ARG(name),
		 SLICE_ARG(realm));
}

static int del(const char *name, const char *realm)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	int rc = users_del(t, slice_str(name), slice_str(realm));
	if (rc)
		store_abort(t);
	else
		assert_int_equal(store_commit(t), 0);
	store_read_end(reader);
	return rc;
}

static bool exists(const char *name, const char *realm)
{
	bool yes = false;
	assert_int_equal(users_exist(reader, slice_str(name), slice_str(realm), &yes), 0);
	store_read_end(reader);
	return yes;
}

static void test_users(void **state)
{
	(void)state;
	char nonce[128];
	assert_int_equal(put("bob", "Local.TEST", "one"), 0);
	assert_int_equal(put("bob", "other.test", "two"), 0);
	assert_true(exists("bob", "local.test"));
	assert_true(exists("bob", "LOCAL.test"));
	assert_false(exists("Bob", "local.test"));
	assert_false(exists("bo", "blocal.test"));
	assert_int_equal(users_each(reader, list_one, NULL), 3);
	assert_string_equal(listed, "alice@local.test bob@local.test bob@other.test ");
	store_read_end(reader);
	/* the hash is of the realm as we send it, whatever the administrator typed */
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "bob", c.password = "one";
	assert_int_equal(check(&c), DIGEST_OK);
	/* a new password */
	assert_int_equal(put("bob", REALM, "three"), 0);
	c.nc = 2;
	assert_int_equal(check(&c), DIGEST_WRONG);
	c.password = "three", c.nc = 3;
	assert_int_equal(check(&c), DIGEST_OK);
	assert_int_equal(del("bob", "LOCAL.TEST"), 0);
	assert_int_equal(del("bob", REALM), -ENOENT);
	assert_false(exists("bob", REALM));
	assert_true(exists("bob", "other.test"));
	c.nc = 4;
	assert_int_equal(check(&c), DIGEST_WRONG);
	/* names that no header can carry, or that would stand for another name's hash */
	char longest[600];
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(put("", REALM, "p"), -EINVAL);
	assert_int_equal(put("a", "", "p"), -EINVAL);
	assert_int_equal(put("a:b", REALM, "p"), -EINVAL);
	assert_int_equal(put("a\"b", REALM, "p"), -EINVAL);
	assert_int_equal(put(longest, REALM, "p"), -EINVAL);
	assert_int_equal(del(longest, REALM), -ENOENT);
	assert_false(exists(longest, REALM));
}

/* The store has hashes and no password. */
static void test_users_no_password(void **state)
{
	(void)state;
	struct slice value;
	assert_int_equal(put("carol", REALM, "xyzzyplughxyzzyplugh"), 0);
	assert_int_equal(store_read_begin(reader), 0);
	assert_int_equal(store_read(reader, STORE_USERS, SLICE_LIT("carol\0" REALM), &value), 0);
	assert_int_equal(value.len, 1 + USERS_HASHES);
	assert_null(memmem(value.p, value.len, "xyzzy", 5));
	store_read_end(reader);
}

/* A user whose record is of another format is an error of ours, not a wrong password. */
static void test_users_damaged(void **state)
{
	(void)state;
	char nonce[128];
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(store_put(t, STORE_USERS, SLICE_LIT("alice\0" REALM), SLICE_LIT("\x7fwhatever")), 0);
	assert_int_equal(store_commit(t), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_ERROR);
}

static void test_parts_of_names(void **state)
{
	(void)state;
	char nonce[128], value[1024];
	/* escapes of the quoted string are undone before the name is looked up */
	assert_int_equal(put("do\\main", REALM, "p"), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "do\\main", c.password = "p";
	digest_answer(&c, value);
	char *p = strstr(value, "do\\main"), escaped[1100];
	snprintf(escaped, sizeof(escaped), "%.*sdo\\\\main%s", (int)(p - value), value, p + 7);
	assert_int_equal(check_value(escaped, ""), DIGEST_OK);
	unit_assert_slice(user.name, "do\\main");
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
		T(test_challenge),
		T(test_right),
		T(test_algorithm),
		T(test_integrity),
		T(test_none),
		T(test_malformed),
		T(test_expiry),
		T(test_runs),
		T(test_forged),
		T(test_replay),
		T(test_replay_full),
		T(test_replay_race),
		T(test_delays),
		T(test_delays_of_a_forger),
		T(test_delays_forgotten),
		T(test_delays_of_a_source),
		T(test_delays_spare_the_known),
		T(test_failures_keep),
		T(test_unknown_user),
		T(test_users),
		T(test_users_no_password),
		T(test_users_damaged),
		T(test_parts_of_names),
		T(test_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
