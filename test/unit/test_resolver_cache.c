/* The cache, with a time of its own. */
#include <errno.h>

#include "resolver/cache_p.h"
#include "unit.h"

static void put(struct cache *c, enum rr_type type, const char *name, int error, uint32_t ttl, msec_t now)
{
	struct rr_set *s = rr_set_create(type, name, error, 1);
	assert_non_null(s);
	s->ttl = ttl;
	cache_put(c, s, now);
	rr_set_unref(s);
}

static void test_ttl(void **state)
{
	(void)state;
	struct cache *c = cache_create(10);
	put(c, RR_ADDR, "a.test", 0, 30, 1000);
	put(c, RR_SRV, "a.test", 0, 7200, 1000);
	put(c, RR_ADDR, "b.test", -ENOENT, 600, 1000);
	put(c, RR_ADDR, "c.test", 0, 0, 1000);
	assert_int_equal(cache_count(c), 3);
	assert_null(cache_get(c, RR_ADDR, "c.test", 1000));
	assert_null(cache_get(c, RR_NAPTR, "a.test", 1000));
	assert_non_null(cache_get(c, RR_ADDR, "a.test", 30999));
	assert_int_equal(cache_get(c, RR_ADDR, "b.test", 5999)->error, -ENOENT);
	assert_null(cache_get(c, RR_ADDR, "b.test", 6000));
	assert_null(cache_get(c, RR_ADDR, "a.test", 31000));
	assert_non_null(cache_get(c, RR_SRV, "a.test", 1000 + 3599999));
	assert_null(cache_get(c, RR_SRV, "a.test", 1000 + 3600000)); /* an hour at the most */
	assert_int_equal(cache_count(c), 0);
	cache_destroy(c);
}

static void test_replace(void **state)
{
	(void)state;
	struct cache *c = cache_create(2);
	put(c, RR_ADDR, "a.test", -EIO, 0, 0);
	put(c, RR_ADDR, "a.test", 0, 60, 100);
	assert_int_equal(cache_count(c), 1);
	assert_int_equal(cache_get(c, RR_ADDR, "a.test", 59000)->error, 0);
	put(c, RR_ADDR, "a.test", 0, 0, 59000); /* must not be kept, and what was there is out of date */
	assert_null(cache_get(c, RR_ADDR, "a.test", 59000));
	cache_destroy(c);
}

static void test_least_recently_used(void **state)
{
	(void)state;
	char name[32];
	struct cache *c = cache_create(100);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		put(c, RR_ADDR, name, 0, 60, 0);
	}
	assert_non_null(cache_get(c, RR_ADDR, "n0.test", 1));
	for (int i = 100; i < 150; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		put(c, RR_ADDR, name, 0, 60, 2);
		assert_int_equal(cache_count(c), 100);
	}
	for (int i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		bool there = cache_get(c, RR_ADDR, name, 3) != NULL;
		assert_int_equal(there, i == 0 || i > 50);
	}
	cache_destroy(c);
}

static void test_off(void **state)
{
	(void)state;
	struct cache *c = cache_create(0);
	put(c, RR_ADDR, "a.test", 0, 60, 0);
	assert_null(cache_get(c, RR_ADDR, "a.test", 0));
	assert_int_equal(cache_count(c), 0);
	cache_destroy(c);
}

/* Against a plain array that does the same, slowly. */
static void test_random(void **state)
{
	(void)state;
	enum { NAMES = 40, LIMIT = 16 };
	struct {
		msec_t until;
		unsigned used;
	} model[NAMES] = {0};
	unsigned seed = 11, clock = 0;
	msec_t now = 0;
	struct cache *c = cache_create(LIMIT);
	for (int step = 0; step < 50000; step++) {
		char name[32];
		int i = rand_r(&seed) % NAMES;
		snprintf(name, sizeof(name), "n%d.test", i);
		now += (msec_t)(rand_r(&seed) % 200);
		if (rand_r(&seed) % 3) {
			bool there = cache_get(c, RR_SRV, name, now) != NULL;
			assert_int_equal(there, model[i].used && now < model[i].until);
			model[i].used = there ? ++clock : 0;
			continue;
		}
		uint32_t ttl = (uint32_t)rand_r(&seed) % 5;
		put(c, RR_SRV, name, 0, ttl, now);
		model[i].used = 0;
		if (!ttl)
			continue;
		int count = 0, oldest = -1;
		for (int k = 0; k < NAMES; k++) {
			count += model[k].used != 0;
			if (model[k].used && (oldest < 0 || model[k].used < model[oldest].used))
				oldest = k;
		}
		if (count == LIMIT)
			model[oldest].used = 0;
		model[i].used = ++clock;
		model[i].until = now + ttl * 1000;
	}
	cache_destroy(c);
}

static void oom_body(void)
{
	struct cache *c = cache_create(3);
	UNIT_NEED(c);
	struct rr_set *s = rr_set_create(RR_ADDR, "a.test", 0, 1);
	if (s) {
		s->ttl = 60;
		cache_put(c, s, 0); /* takes no memory: it was made with the cache */
		assert_ptr_equal(cache_get(c, RR_ADDR, "a.test", 0), s);
		rr_set_unref(s);
	} else {
		assert_true(alloc_failed());
	}
	cache_destroy(c);
}

static void test_no_memory(void **state)
{
	(void)state;
	UNIT_OOM(oom_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_least_recently_used),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
