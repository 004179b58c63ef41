/* Writes the reference part of holdfast.conf(5), in mdoc, from the rows of options.def. Run by scripts/gen-conf-man. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/option_p.h"

static const struct doc {
	const char *section, *option, *unit, *title, *prose;
} docs[] = {
#define SECTION(name, prose)                                  {#name, NULL, NULL, NULL, prose},
#define SECTION_TITLED(name, strct, field, max, title, prose) {#name, NULL, NULL, title, prose},
#define OPTION(section, name, type, dflt, min, max, unit, strct, field, prose) \
	{#section, #name, unit, NULL, prose},
#define OPTION_LIST(section, name, type, max, strct, field, prose) {#section, #name, "", NULL, prose},
#include "config/options.def"
};

/* One word, with what roff would take for its own escaped. */
static int put_word(const char *p, size_t n, int column)
{
	int wide = (int)n;

	for (size_t i = 0; i < n; i++)
		wide += p[i] == '\\' || p[i] == '^' || p[i] == '~' ? 1 : 0;
	if (column && column + 1 + wide > 78) {
		putchar('\n');
		column = 0;
	}
	if (column)
		putchar(' ');
	else if (*p == '.' || *p == '\'')
		fputs("\\&", stdout);
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\\')
			fputs("\\e", stdout);
		else if (p[i] == '^')
			fputs("\\(ha", stdout);
		else if (p[i] == '~')
			fputs("\\(ti", stdout);
		else
			putchar(p[i]);
	}
	return column + (column ? 1 : 0) + wide;
}

/* Prose: a new line for each sentence, none too long. */
static void put_prose(const char *p)
{
	int column = 0;

	while (*p) {
		size_t n = strcspn(p, " ");

		column = put_word(p, n, column);
		p += n;
		p += *p == ' ';
		if (*p && n > 1 && p[-2] == '.' && isalnum((unsigned char)p[-3])) {
			putchar('\n');
			column = 0;
		}
	}
	putchar('\n');
}

static const char *type_name(const struct option_row *o)
{
	switch (o->type) {
	case OPTION_TYPE_NUMBER: return "number";
	case OPTION_TYPE_DURATION:
	case OPTION_TYPE_MICROS: return "duration";
	case OPTION_TYPE_SIZE: return "size";
	case OPTION_TYPE_BOOLEAN: return "boolean";
	default: return option_words(o->type) ? "word" : o->list ? "list" : "string";
	}
}

static void put_option(const struct doc *d, const struct option_row *o)
{
	const char *const *w = option_words(o->type);

	printf(".It Ic %s No = Ar %s\n", o->name, type_name(o));
	put_prose(d->prose);
	printf(".Pp\n");
	if (w) {
		printf("One of\n");
		for (unsigned i = 0; w[i]; i++)
			printf(".Li %s%s\n%s", w[i], w[i + 1] ? w[i + 2] ? " ," : "" : " .",
			       w[i + 1] && !w[i + 2] ? "or\n" : "");
	}
	if (o->type == OPTION_TYPE_REGEX)
		printf("At most %s bytes.\n", o->max);
	else if (o->list)
		printf("At most %u values.\n", o->list);
	else if (*o->min)
		printf("From\n.Li %s\nto\n.Li %s%s\n", o->min, o->max,
		       o->type == OPTION_TYPE_NUMBER && *d->unit ? "" : " .");
	if (o->type == OPTION_TYPE_NUMBER && *d->unit)
		printf("%s.\n", d->unit);
	if (o->list)
		printf("Default:\n.Li {} .\n");
	else if (strcmp(type_name(o), "string") == 0)
		printf("Default:\n.Li \\(dq%s\\(dq .\n", o->dflt);
	else
		printf("Default:\n.Li %s .\n", o->dflt);
}

int main(void)
{
	bool open = false;

	for (size_t i = 0; i < sizeof(docs) / sizeof(docs[0]); i++) {
		const struct doc *d = &docs[i];

		if (d->option) {
			for (unsigned r = 0; r < option_count; r++) {
				const struct option_row *o = &option_rows[r];

				if (strcmp(option_sections[o->section].name, d->section) != 0 ||
				    strcmp(o->name, d->option) != 0)
					continue;
				printf(open ? "" : ".Bl -tag -width Ds\n");
				open = true;
				put_option(d, o);
			}
			continue;
		}
		printf(open ? ".El\n" : "");
		open = false;
		if (strcmp(d->section, "top") == 0)
			printf(".Ss Outside of sections\n");
		else if (d->title)
			printf(".Ss %s \\(dq%s\\(dq { ... }\n", d->section, d->title);
		else
			printf(".Ss %s { ... }\n", d->section);
		put_prose(d->prose);
		for (unsigned s = 0; d->title && s < OPTION_SECTION_COUNT; s++)
			if (strcmp(option_sections[s].name, d->section) == 0)
				printf("There may be %u of these sections at most.\n", option_sections[s].max);
	}
	printf(open ? ".El\n" : "");
	return 0;
}
