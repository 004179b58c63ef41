#include <unistd.h>

#include "base/wheel.h"
#include "unit.h"

#define TIMERS   400
#define DAY      (24 * 3600 * UINT64_C(1000))          /* ms */
#define EPOCH_MS ((UINT64_C(1) << 32) * WHEEL_TICK_MS) /* where the levels end */

/* The model: a flat table that is searched. */
struct model {
	struct timer *t; /* allocated, so that a use after its end is seen by the address sanitizer */
	msec_t fires;    /* the earliest run that must fire it; 0: the next one */
	unsigned set_in; /* the run in which it was set */
	bool set;
};

static struct {
	struct wheel w;
	struct model m[TIMERS];
	msec_t now;
	unsigned run; /* number of the run, 0 before the first */
	bool running;
	unsigned fired; /* in this run */
	msec_t latest;  /* tick time of the latest fired */
	uint64_t seed;
} f;

static msec_t round_up(msec_t when)
{
	return (when + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS * WHEEL_TICK_MS;
}

static unsigned pick(unsigned n)
{
	return (unsigned)(unit_random(&f.seed) % n);
}

static msec_t random_span(void)
{
	static const msec_t span[] = {1, 9, 60, 600, 2100, 40000, 600000, DAY, 10 * DAY, 500 * DAY};

	return unit_random(&f.seed) % span[pick(sizeof(span) / sizeof(span[0]))];
}

static timer_fn on_timer;

static void model_set(unsigned i)
{
	struct model *m = &f.m[i];
	msec_t when = pick(20) == 0 ? f.now - random_span() % (f.now + 1) : f.now + random_span();

	if (!m->t) {
		m->t = malloc(sizeof(*m->t));
		assert_non_null(m->t);
		timer_init(m->t, on_timer);
	}
	timer_set(&f.w, m->t, when);
	assert_true(timer_is_set(m->t));
	m->fires = when <= f.now ? 0 : round_up(when);
	m->set = true;
	m->set_in = f.running ? f.run : f.run - 1;
}

static void model_stop(unsigned i)
{
	struct model *m = &f.m[i];

	if (!m->t)
		return;
	timer_stop(&f.w, m->t);
	assert_false(timer_is_set(m->t));
	m->set = false;
	if (pick(2)) {
		free(m->t);
		m->t = NULL;
	}
}

static void on_timer(struct timer *t, msec_t now)
{
	unsigned i = 0;

	while (i < TIMERS && f.m[i].t != t)
		i++;
	assert_in_range(i, 0, TIMERS - 1);
	assert_true(f.m[i].set);
	assert_false(timer_is_set(t));
	assert_true(now == f.now);
	assert_true(t->when <= now);
	assert_true(f.m[i].fires <= now);
	assert_true(f.m[i].set_in != f.run);
	assert_true(f.m[i].fires >= f.latest);
	f.latest = f.m[i].fires;
	f.m[i].set = false;
	f.fired++;
	switch (pick(5)) {
	case 0: model_set(i); break;
	case 1: model_set(pick(TIMERS)); break;
	case 2: model_stop(pick(TIMERS)); break;
	case 3: model_stop(i); break;
	default: break;
	}
}

static void model_check(void)
{
	msec_t first = UINT64_MAX, next = wheel_next(&f.w);
	uint64_t n = 0;

	for (unsigned i = 0; i < TIMERS; i++) {
		if (!f.m[i].set)
			continue;
		n++;
		/* Whatever was due before this run has fired in it. */
		if (f.m[i].set_in != f.run)
			assert_true(f.m[i].fires > f.now);
		if (f.m[i].fires < first)
			first = f.m[i].fires;
	}
	assert_int_equal(f.w.count, n);
	if (first == 0)
		assert_true(next <= f.now);
	else if (first == UINT64_MAX)
		assert_true(next == UINT64_MAX);
	else
		assert_true(next > f.now && next <= first);
	if (first != 0 && first / (256 * WHEEL_TICK_MS) == (f.now / WHEEL_TICK_MS + 1) / 256)
		assert_true(next == first);
}

static void model_run(msec_t now)
{
	unsigned n;

	f.now = now;
	f.run++;
	f.running = true;
	f.fired = 0;
	f.latest = 0;
	n = wheel_run(&f.w, now);
	f.running = false;
	assert_int_equal(n, f.fired);
	model_check();
}

static void model_random(msec_t start, uint64_t seed, unsigned steps)
{
	memset(&f, 0, sizeof(f));
	f.seed = seed;
	f.now = start;
	f.run = 1;
	wheel_init(&f.w, start);
	for (unsigned i = 0; i < steps; i++) {
		unsigned changes = pick(8);
		while (changes--)
			pick(4) ? model_set(pick(TIMERS)) : model_stop(pick(TIMERS));
		switch (pick(4)) {
		case 0: model_run(f.now); break;
		case 1: {
			msec_t next = wheel_next(&f.w);
			if (next > f.now && next != UINT64_MAX)
				model_run(next);
			break;
		}
		default: model_run(f.now + random_span()); break;
		}
	}
	for (unsigned i = 0; i < TIMERS; i++) {
		if (f.m[i].t)
			timer_stop(&f.w, f.m[i].t);
		free(f.m[i].t);
	}
	assert_int_equal(f.w.count, 0);
	assert_true(wheel_next(&f.w) == UINT64_MAX);
}

static void test_wheel_random(void **state)
{
	static const msec_t starts[] = {
		0, 1, 7, 8, 2047, 2048, 123456789, EPOCH_MS - 20000, EPOCH_MS - 1, 3 * EPOCH_MS - 9};

	(void)state;
	for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		model_random(starts[i], i, 3000);
}

static unsigned fires;

static void count_fire(struct timer *t, msec_t now)
{
	assert_true(now >= t->when);
	fires++;
}

/* A worker that sleeps until wheel_next is on time, and is not woken often for nothing. */
static void test_wheel_sleep(void **state)
{
	static const msec_t spans[] = {1, 8, 500, 2000, 4000, 32000, 181000, DAY, 300 * DAY, 1000 * DAY};
	static struct wheel w;
	struct timer t;

	(void)state;
	for (unsigned i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		msec_t now = 1700000001, when = now + spans[i];
		unsigned runs = 0;
		fires = 0;
		wheel_init(&w, now);
		timer_init(&t, count_fire);
		timer_set(&w, &t, when);
		while (wheel_next(&w) != UINT64_MAX) {
			assert_int_equal(fires, 0);
			assert_true(wheel_next(&w) > now);
			now = wheel_next(&w);
			wheel_run(&w, now);
			runs++;
		}
		assert_int_equal(fires, 1);
		assert_true(now >= when && now < when + WHEEL_TICK_MS);
		assert_in_range(runs, 1, WHEEL_LEVELS + 3);
	}
}

static void test_wheel_past(void **state)
{
	static struct wheel w;
	struct timer t[3];

	(void)state;
	fires = 0;
	wheel_init(&w, 1003);
	for (int i = 0; i < 3; i++)
		timer_init(&t[i], count_fire);
	timer_set(&w, &t[0], 0);
	timer_set(&w, &t[1], 1003);
	timer_set(&w, &t[2], 1004);
	assert_true(wheel_next(&w) <= 1003);
	assert_int_equal(wheel_run(&w, 1003), 2);
	assert_false(timer_is_set(&t[0]) || timer_is_set(&t[1]));
	assert_int_equal(wheel_next(&w), 1008);
	assert_int_equal(wheel_run(&w, 1007), 0);
	assert_int_equal(wheel_run(&w, 1008), 1);
	assert_int_equal(fires, 3);
	/* Moved from the past to the future, and a stop of what is not set. */
	timer_set(&w, &t[0], 5);
	timer_set(&w, &t[0], 2000);
	timer_stop(&w, &t[1]);
	assert_int_equal(wheel_run(&w, 1999), 0);
	assert_int_equal(wheel_run(&w, 2000), 1);
	/* The end of time: never, and no overflow on the way. */
	timer_set(&w, &t[0], UINT64_MAX);
	assert_int_equal(wheel_run(&w, 2 * EPOCH_MS), 0);
	assert_true(wheel_next(&w) > 2 * EPOCH_MS);
	timer_stop(&w, &t[0]);
	assert_int_equal(w.count, 0);
}

static struct {
	struct wheel w;
	struct timer t[3];
} same;

static void stop_others(struct timer *t, msec_t now)
{
	(void)now;
	fires++;
	for (int i = 0; i < 3; i++)
		if (&same.t[i] != t)
			timer_stop(&same.w, &same.t[i]);
	memset(&same.t[1], 0xee, sizeof(same.t[1])); /* as good as freed */
}

static void test_wheel_stop_in_run(void **state)
{
	(void)state;
	fires = 0;
	wheel_init(&same.w, 0);
	for (int i = 0; i < 3; i++) {
		timer_init(&same.t[i], stop_others);
		timer_set(&same.w, &same.t[i], 100);
	}
	assert_int_equal(wheel_run(&same.w, 200), 1);
	assert_int_equal(fires, 1);
	assert_int_equal(same.w.count, 0);
	assert_true(wheel_next(&same.w) == UINT64_MAX);
}

static void again(struct timer *t, msec_t now)
{
	fires++;
	timer_set(&same.w, t, now);
}

static void test_wheel_rearm_ends(void **state)
{
	(void)state;
	fires = 0;
	wheel_init(&same.w, 0);
	timer_init(&same.t[0], again);
	timer_set(&same.w, &same.t[0], 8);
	assert_int_equal(wheel_run(&same.w, 80), 1);
	assert_int_equal(wheel_run(&same.w, 80), 1);
	assert_int_equal(fires, 2);
	timer_stop(&same.w, &same.t[0]);
}

/* Each of these gaps, walked tick by tick, would take minutes. */
static void test_wheel_gaps(void **state)
{
	static struct wheel w;
	struct timer t;
	msec_t now = 5;

	(void)state;
	alarm(60);
	fires = 0;
	wheel_init(&w, now);
	timer_init(&t, count_fire);
	for (unsigned i = 0; i < 1000; i++) {
		timer_set(&w, &t, now + 12345 * DAY);
		now += 12344 * DAY;
		assert_int_equal(wheel_run(&w, now), 0);
		now += 2 * DAY;
		assert_int_equal(wheel_run(&w, now), 1);
		now += 12344 * DAY;
		assert_int_equal(wheel_run(&w, now), 0);
	}
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wheel_random),     cmocka_unit_test(test_wheel_sleep),
		cmocka_unit_test(test_wheel_past),       cmocka_unit_test(test_wheel_stop_in_run),
		cmocka_unit_test(test_wheel_rearm_ends), cmocka_unit_test(test_wheel_gaps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
