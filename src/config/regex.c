#include "config/regex_p.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGEX_SIZE_MAX \
	20000u /* what the C library makes of an expression, characters repeated as often as it says */

/* Behind the bracket expression that begins at p. */
static const char *regex_bracket(const char *p)
{
	p += p[1] == '^' ? 2 : 1;
	if (*p == ']')
		p++;
	while (*p && *p != ']') {
		const char kind = p[1];
		if (*p == '[' && (kind == ':' || kind == '.' || kind == '=')) {
			for (p += 2; *p && !(p[0] == kind && p[1] == ']'); p++)
				;
			if (*p)
				p++;
		}
		if (*p)
			p++;
	}
	return *p ? p + 1 : p;
}

/* "{3,5}" at *p: how often it repeats at most. */
static uint64_t regex_times(const char **p)
{
	uint64_t most = 1;
	char *end;

	do {
		unsigned long n = strtoul(*p + 1, &end, 10);
		most = n > most ? n : most;
		*p = end;
	} while (**p == ',');
	if (**p == '}')
		++*p;
	return most < REGEX_SIZE_MAX ? most : REGEX_SIZE_MAX;
}

/* The size of the alternatives at *p, up to the end or the parenthesis that closes them. The library copies what is
 * repeated, and of repetitions within repetitions it makes more than there is memory for. */
static uint64_t regex_size(const char **p, bool inner)
{
	uint64_t total = 0, atom = 0, was;

	while (**p && !(inner && **p == ')') && total <= REGEX_SIZE_MAX) {
		const char c = **p;
		was = 0;
		if (c == '{' || c == '+') {
			was = atom;
			atom *= c == '{' ? regex_times(p) + 1 : (++*p, 2);
		} else if (c == '[') {
			*p = regex_bracket(*p);
			atom = 1;
		} else if (c == '(') {
			++*p;
			atom = regex_size(p, true) + 1;
			*p += **p == ')';
		} else {
			*p += c == '\\' && (*p)[1] ? 2 : 1;
			if (c == '*' || c == '?') /* copy nothing */
				continue;
			atom = 1;
		}
		total += atom - was;
	}
	return total;
}

/* A letter that the library takes as itself behind a backslash, where other languages have a class of characters; 0:
 * none. */
static char regex_stranger(const char *p)
{
	while (*p) {
		if (*p == '[') {
			p = regex_bracket(p);
		} else if (*p == '\\' && p[1]) {
			bool letter = (p[1] | 32) >= 'a' && (p[1] | 32) <= 'z';
			if (letter && !strchr("wWsSbB", p[1]))
				return p[1];
			p += 2;
		} else {
			p++;
		}
	}
	return 0;
}

int regex_compile(const char *text, regex_t *out, char *why, size_t len)
{
	const char *p = text;

	if (regex_size(&p, false) > REGEX_SIZE_MAX) {
		snprintf(why, len, "too many repetitions within repetitions");
		return -EINVAL;
	}
	const char stranger = regex_stranger(text);
	if (stranger) {
		/* It would match that letter, and so nobody's number. */
		snprintf(why, len, "\\%c is no class of characters here, digits are [0-9]", stranger);
		return -EINVAL;
	}
	int rc = regcomp(out, text, REG_EXTENDED | REG_NOSUB);
	if (!rc)
		return 0;
	regerror(rc, out, why, len);
	return rc == REG_ESPACE ? -ENOMEM : -EINVAL;
}
