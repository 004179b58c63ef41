/* The file's text, made safe for libConfuse. */
#ifndef CONFIG_SCAN_P_H
#define CONFIG_SCAN_P_H

#include <stddef.h>

#define SCAN_FILE_MAX (64u << 20) /* bytes of the largest configuration file */

struct scan {
	char *text;             /* NUL-terminated */
	size_t len;             /* bytes */
	unsigned *section_line; /* where the n-th section's brace opens */
	unsigned section_count;
};

/* Reads the file. 0 or -errno (-EFBIG: larger than SCAN_FILE_MAX). */
int scan_read(const char *file, struct scan *s);
/* Takes `len` bytes of text. 0 or -ENOMEM. */
int scan_text(const char *text, size_t len, struct scan *s);

/* libConfuse takes a file whose last section, string or comment never ends as complete, drops characters that it does
 * not know, and fails on (and miscounts the lines of) comments in lists. This refuses the former and blanks the
 * comments out, so that what it parses is what the operator sees. 0; -EINVAL with *line and the reason in `why`;
 * -ENOMEM. */
int scan_check(struct scan *s, unsigned *line, char *why, size_t whylen);

void scan_deinit(struct scan *s);

#endif
