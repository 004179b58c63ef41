#include "base/log_p.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

bool log_limit_at(struct log_limiter *l, unsigned burst, uint64_t *suppressed, nsec_t now)
{
	uint64_t second = now / 1000000000u;
	uint64_t old = atomic_load_explicit(&l->window, memory_order_relaxed), new;

	do {
		uint64_t lines = old >> 32 == (second & UINT32_MAX) ? old & UINT32_MAX : 0;
		if (lines >= burst) {
			atomic_fetch_add_explicit(&l->missed, 1, memory_order_relaxed);
			return false;
		}
		new = second << 32 | (lines + 1);
	} while (!atomic_compare_exchange_weak_explicit(&l->window, &old, new, memory_order_relaxed,
							memory_order_relaxed));
	if (atomic_load_explicit(&l->missed, memory_order_relaxed))
		*suppressed += atomic_exchange_explicit(&l->missed, 0, memory_order_relaxed);
	return true;
}

bool log_limit(struct log_limiter *l, unsigned burst, uint64_t *suppressed)
{
	return log_limit_at(l, burst, suppressed, clock_mono_ns());
}

const char *log_left_out(uint64_t suppressed, char out[static LOG_LEFT_OUT_MAX])
{
	out[0] = 0;
	if (suppressed)
		snprintf(out, LOG_LEFT_OUT_MAX, " (%" PRIu64 " such lines left out)", suppressed);
	return out;
}
