/* STUN from any bytes: an answer is well-formed, no more than three times as long as the request, and its own bytes are
 * never answered. */
#include <stdint.h>
#include <stdlib.h>

#include "transport/stun_p.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct addr from = {.family = size & 1 ? AF_INET6 : AF_INET, .port = 5060, .ip = {192, 0, 2, 1}};
	unsigned char out[STUN_ANSWER_MAX], again[STUN_ANSWER_MAX];
	size_t n = stun_answer(slice_make((const char *)data, size), &from, out);

	if (!n)
		return 0;
	NEED(stun_is(slice_make((const char *)data, size)));
	NEED(n >= 20 && n <= sizeof(out) && n <= 3 * size && n % 4 == 0);
	NEED(((size_t)out[2] << 8 | out[3]) == n - 20);
	NEED(stun_answer(slice_make((const char *)out, n), &from, again) == 0);
	return 0;
}
