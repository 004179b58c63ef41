/* Numbers with units. */
#ifndef CONFIG_UNIT_P_H
#define CONFIG_UNIT_P_H

#include "config/config.h"

struct unit {
	const char *name; /* NULL: the end */
	uint64_t factor;
};

extern const struct unit unit_duration[]; /* in ms: "500ms", "30s", "5m", "1h", "1d" */
extern const struct unit unit_micros[];   /* in µs: "200us", "1ms", "1s" */
extern const struct unit unit_size[];     /* in bytes: "64k", "4g", or a bare number */

/* Digits and one of the units, compared without case; 0 may stand alone. 0 or -EINVAL (not so, or too large). */
int unit_parse(const struct unit *u, const char *s, uint64_t *out);
/* With the largest unit that divides it. */
void unit_print(const struct unit *u, uint64_t v, FILE *f);

#endif
