/* Numbers with units. */
#include <errno.h>

#include "config/unit_p.h"

const struct unit unit_duration[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
				     {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
const struct unit unit_micros[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {NULL, 0}};
const struct unit unit_size[] = {{"", 1},           {"k", 1ull << 10}, {"m", 1ull << 20},
				 {"g", 1ull << 30}, {"t", 1ull << 40}, {NULL, 0}};

int unit_parse(const struct unit *u, const char *s, uint64_t *out)
{
	size_t digits = strspn(s, "0123456789");
	uint64_t v;

	if (!slice_u64(slice_make(s, digits), UINT64_MAX, &v))
		return -EINVAL;
	s += digits;
	for (; u->name; u++) {
		if (!slice_ieq(slice_str(s), slice_str(u->name)))
			continue;
		if (v > UINT64_MAX / u->factor)
			return -EINVAL;
		*out = v * u->factor;
		return 0;
	}
	if (*s || v)
		return -EINVAL;
	*out = 0; /* nothing needs no unit */
	return 0;
}

void unit_print(const struct unit *u, uint64_t v, FILE *f)
{
	const struct unit *best = u;

	for (; u->name; u++)
		if (v && v % u->factor == 0)
			best = u;
	fprintf(f, "%llu%s", (unsigned long long)(v / best->factor), best->name);
}
