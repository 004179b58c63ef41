#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "base/mailbox.h"
#include "unit.h"

#define PRODUCERS 4
#define STRESS_NS UINT64_C(400000000)   /* how long a stress goes on */
#define LOST_NS   UINT64_C(20000000000) /* a consumer that sleeps so long has lost a wake-up */

enum { KIND_DATA, KIND_END };

struct parcel {
	struct mailbox_item item;
	unsigned producer;
	unsigned number;
};

static struct mailbox_item *new_parcel(unsigned producer, unsigned number, unsigned kind)
{
	struct parcel *p = malloc(sizeof(*p));

	assert_non_null(p);
	p->item.kind = kind;
	p->producer = producer;
	p->number = number;
	return &p->item;
}

static struct parcel *parcel(struct mailbox_item *it)
{
	return caa_container_of(it, struct parcel, item);
}

static void test_mailbox_order(void **state)
{
	struct mailbox m;
	struct mailbox_item *it;

	(void)state;
	mailbox_init(&m, 10);
	assert_null(mailbox_take(&m));
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(mailbox_post(&m, new_parcel(0, i, KIND_DATA), 100), 0);
	assert_int_equal(mailbox_depth(&m), 5);
	mailbox_wait(&m, UINT64_MAX); /* returns: it is not empty */
	for (unsigned i = 0; i < 5; i++) {
		it = mailbox_take(&m);
		assert_non_null(it);
		assert_int_equal(parcel(it)->number, i);
		free(parcel(it));
	}
	assert_null(mailbox_take(&m));
	assert_int_equal(mailbox_depth(&m), 0);
	mailbox_deinit(&m);
}

static void test_mailbox_bound(void **state)
{
	struct mailbox m;
	struct mailbox_item a[7] = {0};

	(void)state;
	mailbox_init(&m, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(mailbox_post(&m, &a[i], 100), 0);
	assert_int_equal(mailbox_post(&m, &a[4], 100), -ENOBUFS);
	assert_int_equal(mailbox_post(&m, &a[4], 125), 0);
	assert_int_equal(mailbox_post(&m, &a[5], 125), -ENOBUFS);
	assert_int_equal(mailbox_post_always(&m, &a[5]), 0);
	assert_int_equal(mailbox_depth(&m), 6);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(mailbox_take(&m), &a[i]);
	assert_int_equal(mailbox_depth(&m), 3);
	assert_int_equal(mailbox_post(&m, &a[6], 50), -ENOBUFS);
	assert_int_equal(mailbox_post(&m, &a[6], 100), 0);
	while (mailbox_take(&m))
		;
	assert_int_equal(mailbox_depth(&m), 0);
	mailbox_deinit(&m);
}

/* A large mailbox subtracts in lots, and is exact again when it is empty. */
static void test_mailbox_depth(void **state)
{
	static struct mailbox_item a[100];
	struct mailbox m;

	(void)state;
	mailbox_init(&m, 6400);
	for (int i = 0; i < 100; i++)
		assert_int_equal(mailbox_post(&m, &a[i], 100), 0);
	for (int i = 0; i < 90; i++) {
		assert_ptr_equal(mailbox_take(&m), &a[i]);
		assert_in_range(mailbox_depth(&m), 100 - i - 1, 100 - i - 1 + 32);
	}
	while (mailbox_take(&m))
		;
	assert_int_equal(mailbox_depth(&m), 0);
	mailbox_deinit(&m);
}

static void test_mailbox_timeout(void **state)
{
	struct mailbox m;
	nsec_t start;

	(void)state;
	mailbox_init(&m, 4);
	start = clock_mono_ns();
	mailbox_wait(&m, 2000000);
	assert_true(clock_mono_ns() - start >= 2000000);
	mailbox_wait(&m, 0);
	/* A wake that came before the wait ends it, once. */
	assert_false(mailbox_wake(&m));
	assert_false(mailbox_wake(&m));
	mailbox_wait(&m, UINT64_MAX);
	start = clock_mono_ns();
	mailbox_wait(&m, 2000000);
	assert_true(clock_mono_ns() - start >= 2000000);
	mailbox_deinit(&m);
}

struct stress {
	struct mailbox m;
	unsigned limit;
	unsigned burst;           /* posts before one mailbox_wake */
	nsec_t until;             /* const */
	_Atomic unsigned refused; /* atomic */
	_Atomic unsigned wakes;   /* atomic */
	_Atomic unsigned ids;     /* atomic */
};

static void *producer_main(void *arg)
{
	struct stress *s = arg;
	unsigned id = atomic_fetch_add(&s->ids, 1), number = 0;
	uint64_t seed = id;
	bool last = false;

	while (!last) {
		unsigned n = 1 + (unsigned)(unit_random(&seed) % s->burst);
		bool wake = false;
		last = clock_mono_ns() >= s->until;
		for (unsigned i = 0; i < n; i++) {
			struct mailbox_item *it = new_parcel(id, number, KIND_DATA);
			int rc = mailbox_post(&s->m, it, 100);
			if (rc < 0) {
				assert_int_equal(rc, -ENOBUFS);
				atomic_fetch_add(&s->refused, 1);
				free(parcel(it));
				break;
			}
			number++;
			wake |= rc;
		}
		if (last)
			wake |= mailbox_post_always(&s->m, new_parcel(id, number, KIND_END));
		if (wake)
			atomic_fetch_add(&s->wakes, mailbox_wake(&s->m));
		/* Pauses of all lengths, so that the consumer is met at every step of going to sleep. */
		for (uint64_t spin = unit_random(&seed) % 4096 * (unit_random(&seed) % 4); spin; spin--)
			caa_cpu_relax();
	}
	return NULL;
}

static unsigned stress(unsigned producers, unsigned limit, unsigned burst)
{
	struct stress s = {.burst = burst, .limit = limit, .until = clock_mono_ns() + STRESS_NS};
	unsigned expected[PRODUCERS] = {0}, ended = 0, total = 0, sleeps = 0;
	pthread_t t[PRODUCERS];

	mailbox_init(&s.m, limit);
	for (unsigned i = 0; i < producers; i++)
		assert_int_equal(pthread_create(&t[i], NULL, producer_main, &s), 0);
	while (ended < producers) {
		struct mailbox_item *it = mailbox_take(&s.m);
		struct parcel *p;
		if (!it) {
			nsec_t start = clock_mono_ns();
			mailbox_wait(&s.m, LOST_NS);
			assert_true(clock_mono_ns() - start < LOST_NS);
			sleeps++;
			continue;
		}
		p = parcel(it);
		assert_int_equal(p->number, expected[p->producer]);
		expected[p->producer]++;
		total++;
		ended += it->kind == KIND_END;
		/* What came past the bound is the ends alone. */
		assert_true(mailbox_depth(&s.m) <= limit + producers + producers);
		free(p);
	}
	for (unsigned i = 0; i < producers; i++)
		pthread_join(t[i], NULL);
	assert_null(mailbox_take(&s.m));
	assert_int_equal(mailbox_depth(&s.m), 0);
	mailbox_deinit(&s.m);
	print_message("%u producers, limit %u: %u taken, %u refused, %u waits, %u wake-up calls\n", producers,
		      limit, total, atomic_load(&s.refused), sleeps, atomic_load(&s.wakes));
	assert_true(total > 20);
	return atomic_load(&s.refused);
}

static void test_mailbox_stress(void **state)
{
	(void)state;
	stress(PRODUCERS, 100000, 1);
	stress(PRODUCERS, 100000, 8);
	stress(1, 100000, 1);
}

static void test_mailbox_stress_bound(void **state)
{
	(void)state;
	assert_true(stress(PRODUCERS, 2, 8) > 0);
}

struct pair {
	struct mailbox there, back;
};

static void *echo_main(void *arg)
{
	struct pair *p = arg;
	struct mailbox_item *it;
	bool end = false;

	while (!end) {
		while (!(it = mailbox_take(&p->there)))
			mailbox_wait(&p->there, UINT64_MAX);
		end = it->kind == KIND_END;
		if (mailbox_post(&p->back, it, 100))
			mailbox_wake(&p->back);
	}
	return NULL;
}

/* Two threads that each sleep until the other has posted: one lost wake-up would stop both. */
static void test_mailbox_ping_pong(void **state)
{
	struct mailbox_item ball = {.kind = KIND_DATA}, *it;
	nsec_t until = clock_mono_ns() + STRESS_NS;
	unsigned rounds = 0;
	struct pair p;
	pthread_t t;

	(void)state;
	mailbox_init(&p.there, 1);
	mailbox_init(&p.back, 1);
	assert_int_equal(pthread_create(&t, NULL, echo_main, &p), 0);
	while (ball.kind != KIND_END) {
		if (clock_mono_ns() >= until)
			ball.kind = KIND_END;
		if (mailbox_post(&p.there, &ball, 100))
			mailbox_wake(&p.there);
		while (!(it = mailbox_take(&p.back))) {
			nsec_t start = clock_mono_ns();
			mailbox_wait(&p.back, LOST_NS);
			assert_true(clock_mono_ns() - start < LOST_NS);
		}
		assert_ptr_equal(it, &ball);
		rounds++;
	}
	pthread_join(t, NULL);
	print_message("%u rounds\n", rounds);
	assert_true(rounds > 20);
}

struct race {
	struct mailbox m;
	struct mailbox_item item;
	/* atomic: the consumer begins one, the producer posts once in each; 0: none yet */
	_Atomic unsigned round;
};

static void spin(uint64_t *seed)
{
	for (uint64_t n = unit_random(seed) % 32; n; n--)
		caa_cpu_relax();
}

static void *race_main(void *arg)
{
	struct race *r = arg;
	uint64_t seed = 1;
	bool end = false;

	for (unsigned round = 1; !end; round++) {
		while (atomic_load(&r->round) != round)
			sched_yield();
		end = r->item.kind == KIND_END;
		spin(&seed);
		if (mailbox_post(&r->m, &r->item, 100))
			mailbox_wake(&r->m);
	}
	return NULL;
}

/* One post meets one consumer on its way to sleep, at every distance: no later post would make up for it. */
static void test_mailbox_race(void **state)
{
	struct race r = {.item = {.kind = KIND_DATA}};
	nsec_t until = clock_mono_ns() + 2 * STRESS_NS;
	uint64_t seed = 2;
	unsigned round = 0;
	pthread_t t;

	(void)state;
	mailbox_init(&r.m, 1);
	assert_int_equal(pthread_create(&t, NULL, race_main, &r), 0);
	while (r.item.kind != KIND_END) {
		nsec_t start = clock_mono_ns();
		if (start >= until)
			r.item.kind = KIND_END;
		atomic_store(&r.round, ++round);
		spin(&seed);
		do {
			mailbox_wait(&r.m, LOST_NS);
			assert_true(clock_mono_ns() - start < LOST_NS);
		} while (!mailbox_take(&r.m));
	}
	pthread_join(t, NULL);
	mailbox_deinit(&r.m);
	print_message("%u rounds\n", round);
	assert_true(round > 20);
}

struct flag {
	struct mailbox m;
	_Atomic bool stop;
	_Atomic unsigned round;
};

static void *flag_main(void *arg)
{
	struct flag *f = arg;

	while (!atomic_load(&f->stop)) {
		mailbox_wait(&f->m, UINT64_MAX);
		atomic_fetch_add(&f->round, 1);
	}
	return NULL;
}

/* A flag set before mailbox_wake is seen whatever the consumer was doing: or this would not end. */
static void test_mailbox_flag(void **state)
{
	nsec_t until = clock_mono_ns() + STRESS_NS;

	(void)state;
	while (clock_mono_ns() < until) {
		struct flag f = {.stop = false};
		pthread_t t;
		mailbox_init(&f.m, 1);
		assert_int_equal(pthread_create(&t, NULL, flag_main, &f), 0);
		atomic_store(&f.stop, true);
		mailbox_wake(&f.m);
		pthread_join(t, NULL);
		mailbox_deinit(&f.m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mailbox_order),     cmocka_unit_test(test_mailbox_bound),
		cmocka_unit_test(test_mailbox_depth),     cmocka_unit_test(test_mailbox_timeout),
		cmocka_unit_test(test_mailbox_stress),    cmocka_unit_test(test_mailbox_stress_bound),
		cmocka_unit_test(test_mailbox_ping_pong), cmocka_unit_test(test_mailbox_race),
		cmocka_unit_test(test_mailbox_flag),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
