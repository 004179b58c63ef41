#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/scan_p.h"

#define SCAN_DEPTH   4  /* a list in a section is 2 */
#define VARIABLE_MAX 64 /* bytes of a variable's name in a message */

/* Where the scan is. */
struct cursor {
	struct scan *s;
	char *p;                      /* into s->text, which ends by NUL */
	unsigned line;                /* of p, from 1 */
	unsigned depth;               /* braces open */
	unsigned open[SCAN_DEPTH];    /* the line of each of them */
	bool value;                   /* an equals sign was the last word */
	const char *why;              /* what is wrong */
	char text[VARIABLE_MAX + 80]; /* what `why` may point to */
};

int scan_text(const char *text, size_t len, struct scan *s)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len);
	copy[len] = '\0';
	*s = (struct scan){.text = copy, .len = len};
	return 0;
}

int scan_read(const char *file, struct scan *s)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	size_t len = 0, cap = 0;
	char *text = NULL;
	int rc = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (cap - len < 2) {
			char *more = cap >= SCAN_FILE_MAX ? NULL : realloc(text, cap ? cap * 2 : 8192);
			rc = cap >= SCAN_FILE_MAX ? -EFBIG : -ENOMEM;
			if (!more)
				goto out;
			text = more;
			cap = cap ? cap * 2 : 8192;
		}
		n = read(fd, text + len, cap - len - 1);
		rc = n < 0 ? -errno : 0;
		if (n < 0 && errno != EINTR)
			goto out;
		if (n == 0)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	*s = (struct scan){.text = text, .len = len};
	text = NULL;
out:
	free(text);
	close(fd);
	return rc;
}

void scan_deinit(struct scan *s)
{
	free(s->text);
	free(s->section_line);
	*s = (struct scan){0};
}

static bool is_word(char c)
{
	return (unsigned char)c > ' ' && !strchr("#\"'={}()+,*", c);
}

/* Blanks from p to the end of the line, or of the comment. */
static bool comment(struct cursor *c)
{
	bool block = c->p[0] == '/' && c->p[1] == '*';
	unsigned line = c->line;

	if (!block) {
		while (*c->p && *c->p != '\n')
			*c->p++ = ' ';
		return true;
	}
	c->p[0] = c->p[1] = ' ';
	for (c->p += 2; *c->p; c->p++) {
		if (c->p[0] == '*' && c->p[1] == '/') {
			c->p[0] = c->p[1] = ' ';
			c->p += 2;
			return true;
		}
		if (*c->p == '\n')
			c->line++;
		else
			*c->p = ' ';
	}
	c->line = line;
	c->why = "the comment is never closed, expected \"*/\"";
	return false;
}

/* A variable that is missing is a mistake of whoever starts us: with nothing in its place a route that was to be one
 * domain's would be everybody's. */
static bool is_given(struct cursor *c, size_t len)
{
	char *end = c->p + len, *dflt = strstr(c->p, ":-");
	bool given = true;

	if (dflt && dflt < end)
		return true;
	char brace = *end;
	*end = '\0';
	if (!getenv(c->p)) {
		snprintf(c->text, sizeof(c->text),
			 "the environment variable \"%.*s\" is not set, expected it or ${NAME:-default}",
			 VARIABLE_MAX, c->p);
		c->why = c->text;
		given = false;
	}
	*end = brace;
	return given;
}

/* p is behind "${"; true with p behind the closing brace. */
static bool variable(struct cursor *c)
{
	size_t n = strcspn(c->p, "}\n");

	if (c->p[n] != '}') {
		c->why = "\"${\" is not closed on its line, expected \"}\"";
		return false;
	}
	if (!is_given(c, n))
		return false;
	c->p += n + 1;
	return true;
}

static bool quoted(struct cursor *c)
{
	char quote = *c->p++;

	for (; (unsigned char)*c->p >= ' ' || *c->p == '\t'; c->p++) {
		if (*c->p == quote) {
			c->p++;
			return true;
		}
		if (*c->p == '\\' && (unsigned char)c->p[1] >= ' ') {
			c->p++;
		} else if (quote == '"' && c->p[0] == '$' && c->p[1] == '{') {
			c->p += 2;
			if (!variable(c))
				return false;
			c->p--;
		}
	}
	c->why = quote == '"' ? "the string is not closed on its line, expected '\"'"
			      : "the string is not closed on its line, expected \"'\"";
	return false;
}

static bool word(struct cursor *c)
{
	bool part = false;

	if (c->p[0] == '$' && c->p[1] == '{') {
		c->p += 2;
		if (!variable(c))
			return false;
		part = is_word(*c->p);
	}
	while (is_word(*c->p) && !part) {
		part = c->p[0] == '$' && c->p[1] == '{';
		c->p++;
	}
	if (part)
		c->why = "\"${...}\" is only a part of the value, expected double quotes around the whole";
	return !part;
}

static bool brace(struct cursor *c)
{
	struct scan *s = c->s;

	if (*c->p == '}') {
		if (c->depth == 0)
			c->why = "\"}\" closes nothing";
		else
			c->depth--;
		return !c->why;
	}
	if (c->depth == SCAN_DEPTH) {
		c->why = "too many braces within each other";
		return false;
	}
	if (c->depth == 0 && !c->value) {
		if ((s->section_count & (s->section_count - 1)) == 0) {
			size_t n = s->section_count ? 2 * (size_t)s->section_count : 1;
			unsigned *more = realloc(s->section_line, n * sizeof(*more));
			if (!more)
				return false;
			s->section_line = more;
		}
		s->section_line[s->section_count++] = c->line;
	}
	c->open[c->depth++] = c->line;
	return true;
}

static bool step(struct cursor *c)
{
	bool value = c->value;

	c->value = false;
	switch (*c->p) {
	case '\n': c->line++; /* fall through */
	case '\r':
	case '\t':
	case ' ':
		c->value = value;
		/* A carriage return is only good before a line feed; elsewhere libConfuse would drop it. */
		if (*c->p == '\r' && c->p[1] != '\n') {
			c->why = "a carriage return without a line feed";
			return false;
		}
		if (*c->p == '\r')
			*c->p = ' ';
		c->p++;
		return true;
	case '#': c->value = value; return comment(c);
	case '"':
	case '\'': return quoted(c);
	case '{':
	case '}':
		if (*c->p == '{')
			c->value = value;
		if (!brace(c))
			return false;
		c->value = false;
		c->p++;
		return true;
	case '=':
		c->value = true;
		c->p++;
		return true;
	case ',':
	case '(':
	case ')': c->p++; return true;
	case '+':
		if (c->p[1] == '=') {
			c->p++;
			return true;
		}
		/* fall through */
	case '*':
		c->why = "\"+\", \"*\" and the like are only allowed in a string, expected quotes";
		return false;
	case '/':
		if (c->p[1] == '/' || c->p[1] == '*') {
			c->value = value;
			return comment(c);
		}
		return word(c);
	default:
		if (!is_word(*c->p)) {
			c->why = "a control character, expected text";
			return false;
		}
		return word(c);
	}
}

int scan_check(struct scan *s, unsigned *line, char *why, size_t whylen)
{
	struct cursor c = {.s = s, .p = s->text, .line = 1};

	if (s->len >= 3 && memcmp(s->text, "\xef\xbb\xbf", 3) == 0) /* some editors' mark of UTF-8 */
		memset(s->text, ' ', 3);
	while (c.p < s->text + s->len) {
		if (!step(&c)) {
			if (!c.why)
				return -ENOMEM;
			goto bad;
		}
	}
	if (c.depth == 0)
		return 0;
	c.line = c.open[c.depth - 1];
	c.why = "\"{\" is never closed, expected \"}\"";
bad:
	*line = c.line;
	snprintf(why, whylen, "%s", c.why);
	return -EINVAL;
}
