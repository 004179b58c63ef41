#include "config/value_p.h"

/* Whether the row is an option of this section and, for a listener, of its transport: read back, another one would be
 * refused. */
static bool printed(const struct option_row *o, enum option_section section, const void *base)
{
	return o->section == section &&
	       (section != OPTION_SECTION_listen ||
		(option_transports(o) & 1u << ((const struct config_listen *)base)->proto));
}

static void options_print(enum option_section section, const void *base, const char *indent, FILE *f)
{
	int width = 0;

	for (unsigned i = 0; i < option_count; i++)
		if (printed(&option_rows[i], section, base) && (int)strlen(option_rows[i].name) > width)
			width = (int)strlen(option_rows[i].name);
	for (unsigned i = 0; i < option_count; i++) {
		if (!printed(&option_rows[i], section, base))
			continue;
		fprintf(f, "%s%-*s = ", indent, width, option_rows[i].name);
		value_print(&option_rows[i], base, f);
		fputc('\n', f);
	}
}

static void section_print(enum option_section section, const char *title, const void *base, FILE *f)
{
	fprintf(f, "\n%s ", option_sections[section].name);
	if (title) {
		value_print_string(title, f);
		fputc(' ', f);
	}
	fputs("{\n", f);
	options_print(section, base, "    ", f);
	fputs("}\n", f);
}

void config_print(const struct config *c, FILE *f)
{
	options_print(OPTION_SECTION_top, c, "", f);
	for (unsigned s = OPTION_SECTION_top + 1; s < OPTION_SECTION_COUNT; s++) {
		const struct option_section_row *row = &option_sections[s];

		if (!row->titled) {
			section_print((enum option_section)s, NULL, c, f);
			continue;
		}
		const char *items = *(char *const *)((const char *)c + row->offset);
		unsigned n = *(const unsigned *)((const char *)c + row->count);

		for (unsigned i = 0; i < n; i++) {
			const char *item = items + i * row->size;

			section_print((enum option_section)s, *(char *const *)item, item, f);
		}
	}
}
