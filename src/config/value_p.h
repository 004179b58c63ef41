/* One value: from text into its field, and back. */
#ifndef CONFIG_VALUE_P_H
#define CONFIG_VALUE_P_H

#include "config/option_p.h"

#define VALUE_WHY_LEN 512 /* bytes for "what is wrong, expected what" */

/* Reads `text` into the field of `base` (the section's struct), a list's value at its end. 0; -EINVAL with the reason
 * in `why`; -ENOMEM. */
int value_set(const struct option_row *o, const char *text, void *base, char why[static VALUE_WHY_LEN]);

/* As the file has it: strings quoted, lists in braces. */
void value_print(const struct option_row *o, const void *base, FILE *f);

void value_free(const struct option_row *o, void *base);

/* A NUL-terminated copy; NULL: no memory. */
char *value_copy(struct slice s);

void value_print_string(const char *s, FILE *f);

/* A host name, an IPv4 address, or an IPv6 address in brackets. */
bool value_is_host(struct slice s);
/* "host" or "host:port"; *port is 0 where there is none. */
bool value_host_port(struct slice s, struct slice *host, uint16_t *port);
/* "<uri>;weight=n" or a URI; with `why` filled if it is neither. */
int value_target(const char *text, struct config_target *out, char why[static VALUE_WHY_LEN]);

#endif
