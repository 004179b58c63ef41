/* The counts of a nonce are good for once. */
#include <pthread.h>

#include "base/clock.h"
#include "registrar/digest_p.h"
#include "registrar_digest.h"

/* Which counts of a nonce were used before a restart is not known. That is not told by the clock, which may have been
 * ahead when we were started. */
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

/* One user who takes nonce after nonce fills the table: others get in with new ones all the same, and no count counts
 * twice. */
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_runs),
		T(test_replay),
		T(test_replay_full),
		T(test_replay_race),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
