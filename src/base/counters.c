#include "base/counters.h"

#include <stdlib.h>
#include <string.h>

#define LINE 64 /* bytes of a cache line */

_Thread_local struct counters *counters_tls;

static struct counters shared;          /* threads without a block of their own; atomic adds */
static struct counters *_Atomic blocks; /* atomic: newest first; only ever grows until counters_reset_all */
static const uint32_t bounds[] = COUNTERS_LATENCY_BOUNDS; /* µs */

_Static_assert(sizeof(bounds) / sizeof(bounds[0]) == COUNTERS_LATENCY_BUCKETS - 1,
	       "one bound a bucket, but the last");

struct counters *counters_create(void)
{
	/* Whole cache lines, so that two threads never write the same one. */
	size_t size = (sizeof(struct counters) + LINE - 1) / LINE * LINE;
	void *mem = calloc(1, size + LINE);
	struct counters *c, *head;

	if (!mem)
		return NULL;
	c = (struct counters *)(((uintptr_t)mem + LINE - 1) & ~(uintptr_t)(LINE - 1));
	c->mem = mem;
	head = atomic_load_explicit(&blocks, memory_order_relaxed);
	do
		c->next = head;
	while (!atomic_compare_exchange_weak_explicit(&blocks, &head, c, memory_order_release,
						      memory_order_relaxed));
	return c;
}

void counters_use(struct counters *c)
{
	counters_tls = c;
}

struct counters *counters_mine(void)
{
	return counters_tls ? counters_tls : &shared;
}

static void counters_add(struct counters *c, _Atomic uint64_t *v, uint64_t n)
{
	if (c == &shared)
		atomic_fetch_add_explicit(v, n, memory_order_relaxed);
	else
		counters_bump(v, n);
}

void count_generated(unsigned status)
{
	struct counters *c = counters_mine();

	counters_add(c, &c->generated[status < COUNTERS_CODES ? status : 0], 1);
}

void count_latency(uint64_t ns)
{
	struct counters *c = counters_mine();
	unsigned i = 0;

	while (i < COUNTERS_LATENCY_BUCKETS - 1 && ns > bounds[i] * UINT64_C(1000))
		i++;
	counters_add(c, &c->latency[i], 1);
	counters_add(c, &c->latency_sum, ns);
}

static struct counters *counters_first(void)
{
	return atomic_load_explicit(&blocks, memory_order_acquire);
}

static uint64_t counters_read(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

uint64_t counters_sum(enum counter_id id)
{
	uint64_t sum = counters_read(&shared.v[id]);

	for (const struct counters *c = counters_first(); c; c = c->next)
		sum += counters_read(&c->v[id]);
	return sum;
}

void counters_sum_generated(uint64_t out[COUNTERS_CODES])
{
	for (unsigned i = 0; i < COUNTERS_CODES; i++)
		out[i] = counters_read(&shared.generated[i]);
	for (const struct counters *c = counters_first(); c; c = c->next)
		for (unsigned i = 0; i < COUNTERS_CODES; i++)
			out[i] += counters_read(&c->generated[i]);
}

void counters_sum_latency(uint64_t buckets[COUNTERS_LATENCY_BUCKETS], uint64_t *sum_ns)
{
	uint64_t sum = counters_read(&shared.latency_sum);

	for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS; i++)
		buckets[i] = counters_read(&shared.latency[i]);
	for (const struct counters *c = counters_first(); c; c = c->next) {
		sum += counters_read(&c->latency_sum);
		for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS; i++)
			buckets[i] += counters_read(&c->latency[i]);
	}
	*sum_ns = sum;
}

void counters_reset_all(void)
{
	struct counters *c = atomic_exchange(&blocks, NULL);

	counters_tls = NULL;
	while (c) {
		struct counters *next = c->next;
		free(c->mem);
		c = next;
	}
	memset(&shared, 0, sizeof(shared));
}
