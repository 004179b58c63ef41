/* POSIX extended regular expressions that somebody has written into a file. */
#ifndef CONFIG_REGEX_P_H
#define CONFIG_REGEX_P_H

#include <regex.h>
#include <stddef.h>

/* To be freed with regfree(). 0; -EINVAL or -ENOMEM, and `why` says what is wrong. */
int regex_compile(const char *text, regex_t *out, char *why, size_t len);

#endif
