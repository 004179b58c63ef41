/* What the unit tests share: cmocka, and failing memory.
 *
 * A test binary is linked with alloc.o and -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc, so that the n-th
 * allocation that our own code makes (not those inside of shared libraries, strdup and the like included) can be
 * made to fail. UNIT_OOM(fn) runs `void fn(void)` with its first allocation failing, then with its second, and so
 * on, and at last with none: fn ends early where memory is missing, with everything freed (the address sanitizer's
 * leak check is what finds the rest), and tests everything otherwise:
 *
 *	static void body(void)
 *	{
 *		struct thing *t = thing_create();
 *		UNIT_NEED(t);
 *		if (thing_grow(t) == -ENOMEM)
 *			assert_true(alloc_failed());
 *		...
 *		thing_destroy(t);
 *	}
 *	static void test_thing(void **state)
 *	{
 *		(void)state;
 *		UNIT_OOM(body);
 *	}
 */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka wants the four above first. */
#include <cmocka.h>

/* The n-th allocation from now, of whatever thread, returns NULL; n is at least 1. */
void alloc_fail_at(unsigned long n);
/* No allocation fails any more. */
void alloc_fail_off(void);
/* True if one failed since alloc_fail_at. */
bool alloc_failed(void);

#define UNIT_OOM_MAX 100000UL

#define UNIT_OOM(fn)                                                        \
	do {                                                                \
		bool unit_failed = true;                                    \
		for (unsigned long unit_n = 1; unit_failed; unit_n++) {     \
			if (unit_n > UNIT_OOM_MAX)                          \
				fail_msg("%s never stops allocating", #fn); \
			alloc_fail_at(unit_n);                              \
			fn();                                               \
			unit_failed = alloc_failed();                       \
			alloc_fail_off();                                   \
		}                                                           \
	} while (0)

/* In such an fn: without `p` there is nothing more to test, and only failing memory excuses that. */
#define UNIT_NEED(p)                                 \
	do {                                         \
		if (!(p)) {                          \
			assert_true(alloc_failed()); \
			return;                      \
		}                                    \
	} while (0)

/* A pseudo-random number, the same in every run that starts with the same *seed. */
static inline uint64_t unit_random(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

#define unit_assert_slice(s, text)                         \
	do {                                               \
		assert_int_equal((s).len, strlen(text));   \
		assert_memory_equal((s).p, text, (s).len); \
	} while (0)

#endif
