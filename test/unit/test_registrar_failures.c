/* Guessing passwords gets slower, for whoever guesses and for nobody else. */
#include "registrar/digest_p.h"
#include "registrar_digest.h"

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

/* A datagram's source is soon forged: who answers a nonce of his own in the name of a telephone, and from its address,
 * shuts out himself. */
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

/* One telephone with an old password does not shut out those behind the same NAT that are known there; who is not known
 * there waits. */
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_delays),
		T(test_delays_of_a_forger),
		T(test_delays_forgotten),
		T(test_delays_of_a_source),
		T(test_delays_spare_the_known),
		T(test_failures_keep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
