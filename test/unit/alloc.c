/* Allocations of the tested code that fail when a test asks for it; see unit.h. */
#include <stdatomic.h>

#include "unit.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static atomic_ulong countdown; /* 0: none fails */
static atomic_bool failed;

void alloc_fail_at(unsigned long n)
{
	atomic_store(&failed, false);
	atomic_store(&countdown, n);
}

void alloc_fail_off(void)
{
	atomic_store(&countdown, 0);
}

bool alloc_failed(void)
{
	return atomic_load(&failed);
}

static bool alloc_fails(void)
{
	unsigned long n = atomic_load(&countdown);

	do
		if (n == 0)
			return false;
	while (!atomic_compare_exchange_weak(&countdown, &n, n - 1));
	if (n > 1)
		return false;
	atomic_store(&failed, true);
	return true;
}

void *__wrap_malloc(size_t size)
{
	return alloc_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return alloc_fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return alloc_fails() ? NULL : __real_realloc(p, size);
}
