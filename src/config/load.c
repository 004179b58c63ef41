#include <confuse.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "config/load_p.h"

#define SECTION_OPTIONS_MAX 40 /* in one section, sections in top included */

/* libConfuse gives its callbacks no context. Main thread, while load_file runs. */
static struct load *loading;

int load_fail(struct load_error *e, const struct load_place *at, int rc, const char *fmt, ...)
{
	struct buf b;
	va_list ap;
	char text[VALUE_WHY_LEN];

	if (e->rc)
		return e->rc;
	e->rc = rc;
	if (e->len == 0)
		return rc;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_init(&b, e->text, e->len - 1);
	buf_printf(&b, "%s", e->file);
	if (at && at->line)
		buf_printf(&b, ":%u", at->line);
	if (at && at->section)
		buf_printf(&b, ": %s", at->section);
	if (at && at->title)
		buf_printf(&b, " \"%.100s\"", at->title);
	if (at && at->option)
		buf_printf(&b, ": %s", at->option);
	buf_printf(&b, ": %s", text);
	if (b.full) /* a part that is too long for the room is left out whole */
		snprintf(e->text, e->len, "%s", text);
	else
		e->text[b.len] = '\0';
	for (char *p = e->text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return rc;
}

static const char *section_name(enum option_section s)
{
	return s == OPTION_SECTION_top ? NULL : option_sections[s].name;
}

int load_defaults(struct load *ld, enum option_section section, void *base)
{
	char why[VALUE_WHY_LEN];

	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *o = &option_rows[i];
		int rc = 0;

		if (o->section == section && !o->list)
			rc = value_set(o, o->dflt, base, why);
		if (rc != 0)
			return load_fail(&ld->e, &(struct load_place){0, section_name(section), NULL, o->name},
					 rc, "default: %s", rc == -ENOMEM ? "out of memory" : why);
	}
	return 0;
}

/* Room for one more in an array that doubles at powers of two. False: no memory. */
static bool grow(void **array, unsigned n, size_t size)
{
	void *more;

	if (n & (n - 1))
		return true;
	more = realloc(*array, (n ? 2 * (size_t)n : 1) * size);
	if (!more)
		return false;
	*array = more;
	return true;
}

void *load_append(struct load *ld, enum option_section section, const char *title, unsigned line)
{
	const struct option_section_row *row = &option_sections[section];
	const struct load_place at = {line, row->name, title, NULL};
	void **array = (void **)((char *)ld->c + row->offset);
	unsigned *count = (unsigned *)((char *)ld->c + row->count);
	char *name, *item;

	for (const char *p = title; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			load_fail(&ld->e, &at, -EINVAL,
				  "the title contains a control character, expected text");
			return NULL;
		}
	}
	if (*count >= row->max) {
		load_fail(&ld->e, &at, -EINVAL, "too many %s sections, expected at most %u", row->name,
			  row->max);
		return NULL;
	}
	if (*title == '\0' || strlen(title) > 255) {
		load_fail(&ld->e, &at, -EINVAL, "the title is %s, expected 1 to 255 bytes",
			  *title ? "too long" : "empty");
		return NULL;
	}
	name = value_copy(slice_str(title));
	if (!name || !grow(array, *count, row->size) ||
	    !grow((void **)&ld->item_line[section], *count, sizeof(unsigned))) {
		free(name);
		load_fail(&ld->e, &at, -ENOMEM, "out of memory");
		return NULL;
	}
	item = (char *)*array + *count * row->size;
	memset(item, 0, row->size);
	*(char **)item = name; /* option.c makes sure that each of the structs begins with it */
	ld->item_line[section][(*count)++] = line;
	return load_defaults(ld, section, item) == 0 ? item : NULL;
}

/* Where the open section begins; libConfuse only knows where it is now. */
static unsigned section_line(const struct load *ld, const cfg_t *sec)
{
	return ld->section_next < ld->scan.section_count ? ld->scan.section_line[ld->section_next]
							 : (unsigned)sec->line;
}

/* The struct that the options of `section` go to: the open item, made at its first option. */
static void *section_base(struct load *ld, enum option_section section, cfg_t *sec)
{
	if (!option_sections[section].titled)
		return ld->c;
	if (!ld->item) {
		for (unsigned i = 0; i < option_count; i++)
			if (option_rows[i].section == section)
				ld->given[i] = 0;
		ld->item = load_append(ld, section, sec->title ? sec->title : "", section_line(ld, sec));
	}
	return ld->item;
}

/* A value of any option. libConfuse keeps a copy of the text, which nobody looks at. */
static int on_value(cfg_t *sec, cfg_opt_t *opt, const char *value, void *result)
{
	struct load *ld = loading;
	const struct option_row *o = &option_rows[opt->def.number];
	struct load_place at = {(unsigned)sec->line, section_name(o->section), sec->title, o->name};
	unsigned *given = &ld->given[o - option_rows];
	void *base = section_base(ld, o->section, sec);
	char why[VALUE_WHY_LEN];
	int rc;

	if (!base)
		return -1;
	/* A list's first value after "=" is number one; with "+=" it is not. */
	if (*given && (!o->list || opt->nvalues == 1))
		return load_fail(&ld->e, &at, -EINVAL, "is given twice, expected once (first in line %u)",
				 *given);
	rc = value_set(o, value, base, why);
	if (rc != 0)
		return load_fail(&ld->e, &at, rc, "%s", rc == -ENOMEM ? "out of memory" : why);
	*given = (unsigned)sec->line;
	*(const char **)result = value;
	return 0;
}

/* The end of a section. */
static int on_section(cfg_t *top, cfg_opt_t *opt)
{
	struct load *ld = loading;
	enum option_section s = (enum option_section)opt->def.number;
	cfg_t *sec = cfg_opt_getnsec(opt, 0);
	struct load_place at = {0, section_name(s), NULL, NULL};
	int rc = 0;

	(void)top;
	if (option_sections[s].titled) {
		void *item = section_base(ld, s, sec);

		if (!item)
			return -1;
		at.line = section_line(ld, sec);
		at.title = sec->title;
		rc = check_item(ld, s, item, &at);
		ld->item = NULL;
		/* All of it has been stored; kept here it would make libConfuse compare every title with every
		 * other. */
		cfg_opt_rmnsec(opt, 0);
	}
	ld->section_next++;
	return rc;
}

/* libConfuse's own complaints, in our words where the difference helps. */
static void on_error(cfg_t *sec, const char *fmt, va_list ap)
{
	struct load *ld = loading;
	struct load_place at = {(unsigned)sec->line,
				sec->title || strcmp(sec->name, "root") != 0 ? sec->name : NULL, sec->title,
				NULL};
	enum option_section s = OPTION_SECTION_top;
	char text[VALUE_WHY_LEN];
	const char *name, *near;
	int other;

	for (unsigned i = 0; i < OPTION_SECTION_COUNT; i++)
		if (at.section && strcmp(option_sections[i].name, at.section) == 0)
			s = (enum option_section)i;
	if (strcmp(fmt, "no such option '%s'") == 0) {
		name = va_arg(ap, const char *);
		near = option_suggest(s, name);
		other = option_elsewhere(s, name);
		if (other > OPTION_SECTION_top)
			snprintf(text, sizeof(text), "\"%.100s\" is not known here, expected in section %s",
				 name, option_sections[other].name);
		else if (other == OPTION_SECTION_top)
			snprintf(text, sizeof(text),
				 "\"%.100s\" is not known here, expected outside of sections", name);
		else if (near)
			snprintf(text, sizeof(text), "\"%.100s\" is not known, did you mean %s?", name, near);
		else
			snprintf(text, sizeof(text), "\"%.100s\" is not known, expected %s", name,
				 s == OPTION_SECTION_top ? "an option or section of holdfast.conf(5)"
							 : "an option of this section");
	} else if (strcmp(fmt, "missing equal sign after option '%s'") == 0) {
		snprintf(text, sizeof(text), "\"%.100s\" is followed by something else, expected \"=\"",
			 va_arg(ap, const char *));
	} else if (strcmp(fmt, "missing title for section '%s'") == 0) {
		snprintf(text, sizeof(text), "section %s has no title, expected one in quotes before \"{\"",
			 va_arg(ap, const char *));
	} else if (strcmp(fmt, "missing opening brace for section '%s'") == 0) {
		snprintf(text, sizeof(text), "section %s has no content, expected \"{\"",
			 va_arg(ap, const char *));
	} else if (strcmp(fmt, "unexpected token '%s'") == 0) {
		snprintf(text, sizeof(text),
			 "\"%.100s\" is out of place, expected a name, a value, \",\" or \"}\"",
			 va_arg(ap, const char *));
	} else if (strcmp(fmt, "attempt to append to non-list option '%s'") == 0) {
		snprintf(text, sizeof(text), "%s is not a list, expected \"=\"", va_arg(ap, const char *));
	} else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the format is the library's */
		vsnprintf(text, sizeof(text), fmt, ap);
#pragma GCC diagnostic pop
	}
	load_fail(&ld->e, &at, -EINVAL, "%s", text);
}

/* libConfuse's tables. A row's index travels in the default's number, which it copies and does not use for strings. */
static void make_options(cfg_opt_t tables[OPTION_SECTION_COUNT][SECTION_OPTIONS_MAX + 1])
{
	const cfg_opt_t end = CFG_END();
	unsigned n[OPTION_SECTION_COUNT] = {0};

	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *o = &option_rows[i];
		cfg_opt_t opt = CFG_STR(o->name, NULL, CFGF_NODEFAULT);

		if (o->list)
			opt.flags |= CFGF_LIST;
		opt.parsecb = on_value;
		opt.def.number = (long)i;
		if (n[o->section] < SECTION_OPTIONS_MAX)
			tables[o->section][n[o->section]++] = opt;
	}
	for (unsigned s = OPTION_SECTION_top + 1; s < OPTION_SECTION_COUNT; s++) {
		cfg_opt_t opt = CFG_SEC(option_sections[s].name, tables[s], CFGF_NONE);

		if (option_sections[s].titled)
			opt.flags |= CFGF_MULTI | CFGF_TITLE;
		opt.validcb = on_section;
		opt.def.number = (long)s;
		tables[s][n[s]] = end;
		if (n[OPTION_SECTION_top] < SECTION_OPTIONS_MAX)
			tables[OPTION_SECTION_top][n[OPTION_SECTION_top]++] = opt;
	}
	tables[OPTION_SECTION_top][n[OPTION_SECTION_top]] = end;
}

static int parse(struct load *ld)
{
	cfg_opt_t tables[OPTION_SECTION_COUNT][SECTION_OPTIONS_MAX + 1];
	FILE *f = NULL;
	cfg_t *cfg;
	int rc = -ENOMEM;

	make_options(tables);
	cfg = cfg_init(tables[OPTION_SECTION_top], CFGF_NONE);
	if (cfg)
		f = fmemopen(ld->scan.text, ld->scan.len, "r");
	if (!f)
		goto out;
	cfg_set_error_function(cfg, on_error);
	loading = ld;
	rc = cfg_parse_fp(cfg, f) == CFG_SUCCESS ? 0 : -ENOMEM;
	loading = NULL;
out:
	if (f)
		fclose(f);
	if (cfg)
		cfg_free(cfg);
	return rc == 0 ? 0 : load_fail(&ld->e, NULL, rc, "out of memory");
}

int load_file(struct load *ld, const char *file)
{
	struct load_place at = {0};
	char why[VALUE_WHY_LEN];
	int rc;

	rc = scan_read(file, &ld->scan);
	if (rc != 0) {
		return load_fail(&ld->e, NULL, rc == -ENOENT || rc == -EACCES || rc == -ENOMEM ? rc : -EINVAL,
				 "%s", rc == -ENOMEM ? "out of memory" : strerror(-rc));
	}
	rc = scan_check(&ld->scan, &at.line, why, sizeof(why));
	if (rc != 0)
		return load_fail(&ld->e, &at, rc, "%s", rc == -ENOMEM ? "out of memory" : why);
	return ld->scan.len == 0 ? 0 : parse(ld);
}
