/* The rows of options.def as a table. */
#ifndef CONFIG_OPTION_P_H
#define CONFIG_OPTION_P_H

#include "config/config.h"

enum option_type {
	/* numbers, stored in an unsigned field of 4 or 8 bytes, or a bool */
	OPTION_TYPE_NUMBER,
	OPTION_TYPE_DURATION, /* ms */
	OPTION_TYPE_MICROS,   /* µs */
	OPTION_TYPE_SIZE,     /* bytes */
	OPTION_TYPE_BOOLEAN,
	/* words, stored as an enum: the index in option_words() */
	OPTION_TYPE_POLICY,
	OPTION_TYPE_LOG_LEVEL,
	OPTION_TYPE_LOG_FORMAT,
	OPTION_TYPE_VERIFY,
	OPTION_TYPE_ALGORITHM,
	/* text, stored as an allocated string */
	OPTION_TYPE_PATH,
	OPTION_TYPE_FILE,      /* a path, or "" */
	OPTION_TYPE_ADDRESS,   /* ip:port, or "" */
	OPTION_TYPE_HOST_PORT, /* host[:port], or "" */
	OPTION_TYPE_HOST,      /* or "" */
	OPTION_TYPE_REGEX,     /* max: bytes; compiled by check.c */
	OPTION_TYPE_NAME,      /* of a gateway; resolved by check.c */
	OPTION_TYPE_REJECT,    /* status and reason, or "" */
	OPTION_TYPE_METHOD,
	OPTION_TYPE_NETWORK,
	OPTION_TYPE_TARGET,
};

enum option_section {
#define SECTION(name, prose)                                  OPTION_SECTION_##name,
#define SECTION_TITLED(name, strct, field, max, title, prose) OPTION_SECTION_##name,
#include "config/options.def"
	OPTION_SECTION_COUNT
};

struct option_section_row {
	const char *name;
	bool titled;
	unsigned max;  /* titled: how many of them */
	size_t size;   /* titled: of one */
	size_t offset; /* titled: of the array's pointer in struct config */
	size_t count;  /* titled: of the array's count in struct config */
};

struct option_row {
	enum option_section section;
	const char *name;
	enum option_type type;
	const char *dflt, *min, *max; /* as written; "" for none */
	unsigned list;                /* 0: a single value; else a list of at most so many */
	size_t offset;                /* of the field in the section's struct */
	size_t size;                  /* of the field */
	size_t count;                 /* list: of its count */
};

extern const struct option_section_row option_sections[OPTION_SECTION_COUNT];
extern const struct option_row option_rows[];
extern const unsigned option_count;

const struct option_row *option_find(enum option_section section, const char *name); /* NULL: none */

/* The transports of a listener that the option means something for, a bit of 1 << enum flow_proto each; all for the
 * options of other sections. */
unsigned option_transports(const struct option_row *o);

/* The words of an enum's type, ended by NULL; NULL for other types. */
const char *const *option_words(enum option_type type);

/* An option of the section (or, for top, also a section) whose name is near `name`; NULL: none is. */
const char *option_suggest(enum option_section section, const char *name);
/* The section, other than `section`, that has an option `name`; -1: none. */
int option_elsewhere(enum option_section section, const char *name);

#endif
