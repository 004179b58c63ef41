/* What config_load works on. */
#ifndef CONFIG_LOAD_P_H
#define CONFIG_LOAD_P_H

#include "config/option_p.h"
#include "config/scan_p.h"
#include "config/value_p.h"

/* The first error, as the one line that the caller of config_load gets. */
struct load_error {
	const char *file;
	char *text;
	size_t len; /* bytes of room */
	int rc;     /* 0: none yet */
};

/* Where something was said; members may be absent (0, NULL). */
struct load_place {
	unsigned line;
	const char *section;
	const char *title;
	const char *option;
};

struct load {
	struct config *c;
	struct load_error e;
	struct scan scan;
	unsigned section_next; /* index into scan.section_line of the open or next section */
	void *item;            /* of the open titled section, or NULL */
	unsigned *given;       /* by row: the line of the option, 0: not given; of a titled
	                                            * section while it is open */
	unsigned *item_line[OPTION_SECTION_COUNT]; /* titled: the line of each in the file */
};

/* Keeps the first error. Returns it. */
int load_fail(struct load_error *e, const struct load_place *at, int rc, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Sets all options of a section to their defaults. 0 or the error. */
int load_defaults(struct load *ld, enum option_section section, void *base);

/* One more at the end of a titled section's array, with defaults; its name is a copy of `title`. NULL with the error
 * set. */
void *load_append(struct load *ld, enum option_section section, const char *title, unsigned line);

/* Parses the file into ld->c, which has its defaults. 0 or the error. */
int load_file(struct load *ld, const char *file);

/* check.c: what a section's values mean; called when the section is complete. The place's option is for them to set. 0
 * or the error. */
int check_item(struct load *ld, enum option_section section, void *item, struct load_place *at);
/* All sections together: duplicates, names, and what is derived. 0 or the error. */
int check_all(struct load *ld);
/* domains.c: makes the table that config_domain_find looks into. 0 or the error: a name of two domains. */
int domains_index(struct load *ld);

/* What check.c has made. */
void check_free(enum option_section section, void *item);

#endif
