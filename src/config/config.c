#include <errno.h>
#include <stdlib.h>

#include "config/load_p.h"

static int override_value(struct load *ld, enum option_section section, const char *name, const char *flag,
			  const char *text)
{
	const struct load_place at = {0, flag, NULL, NULL};
	char why[VALUE_WHY_LEN];
	int rc = value_set(option_find(section, name), text, ld->c, why);

	return rc == 0 ? 0 : load_fail(&ld->e, &at, rc, "%s", rc == -ENOMEM ? "out of memory" : why);
}

static void items_free(enum option_section section, char *items, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char *item = items + i * option_sections[section].size;

		check_free(section, item);
		for (unsigned r = 0; r < option_count; r++)
			if (option_rows[r].section == section)
				value_free(&option_rows[r], item);
		free(*(char **)item); /* the title */
	}
	free(items);
}

static void section_free(struct config *c, enum option_section section)
{
	const struct option_section_row *row = &option_sections[section];

	items_free(section, *(char **)((char *)c + row->offset), *(unsigned *)((char *)c + row->count));
}

static int override_titled(struct load *ld, enum option_section section, const char *flag, const char *title)
{
	struct load_place at = {0, flag, title, NULL};
	void *item = load_append(ld, section, title, 0);

	return item ? check_item(ld, section, item, &at) : ld->e.rc;
}

/* -l in place of the file's listeners. One that the file has under the same title keeps what its section says: a tls listener would
 * have no certificate else. */
static int listeners_replace(struct load *ld, const char *const *name, unsigned n)
{
	struct config_listen *old = ld->c->listen;
	unsigned old_count = ld->c->listen_count;
	int rc = 0;

	ld->c->listen = NULL;
	ld->c->listen_count = 0;
	for (unsigned i = 0; i < n && rc == 0; i++) {
		struct config_listen *same = NULL, *item, left;

		for (unsigned j = 0; j < old_count; j++)
			if (old[j].name && strcmp(old[j].name, name[i]) == 0)
				same = &old[j];
		if (!same) {
			rc = override_titled(ld, OPTION_SECTION_listen, "-l", name[i]);
			continue;
		}
		item = load_append(ld, OPTION_SECTION_listen, name[i], 0);
		if (!item) {
			rc = ld->e.rc;
			continue;
		}
		left = *item;
		*item = *same;
		*same = left; /* freed with the others */
		free(same->name);
		same->name = NULL;
	}
	items_free(OPTION_SECTION_listen, (char *)old, old_count);
	return rc;
}

static bool has_domain(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->domain_count; i++)
		if (strcasecmp(c->domain[i].name, name) == 0)
			return true;
	return false;
}

static int overrides_apply(struct load *ld, const struct config_overrides *ov)
{
	char n[16];
	int rc = 0;

	if (ov->listen_count)
		rc = listeners_replace(ld, ov->listen, ov->listen_count);
	for (unsigned i = 0; i < ov->domain_count && rc == 0; i++)
		if (!has_domain(ld->c, ov->domain[i]))
			rc = override_titled(ld, OPTION_SECTION_domain, "-d", ov->domain[i]);
	snprintf(n, sizeof(n), "%d", ov->workers);
	if (rc == 0 && ov->workers >= 0)
		rc = override_value(ld, OPTION_SECTION_top, "workers", "-w", n);
	if (rc == 0 && ov->store)
		rc = override_value(ld, OPTION_SECTION_store, "path", "-s", ov->store);
	if (rc == 0 && ov->log_level)
		rc = override_value(ld, OPTION_SECTION_log, "level", "-L", ov->log_level);
	return rc;
}

int config_load(const char *file, const struct config_overrides *ov, struct config **out, char *err,
		size_t errlen)
{
	struct load ld = {.e = {.file = "command line", .text = err, .len = errlen}};
	int rc = -ENOMEM;

	ld.c = calloc(1, sizeof(*ld.c));
	ld.given = calloc(option_count, sizeof(*ld.given));
	if (!ld.c || !ld.given) {
		load_fail(&ld.e, NULL, rc, "out of memory");
		goto out;
	}
	rc = 0;
	for (unsigned s = 0; s < OPTION_SECTION_COUNT && rc == 0; s++)
		if (!option_sections[s].titled)
			rc = load_defaults(&ld, (enum option_section)s, ld.c);
	if (rc == 0 && file) {
		ld.e.file = file;
		rc = load_file(&ld, file);
		ld.e.file = "command line";
	}
	if (rc == 0 && ov)
		rc = overrides_apply(&ld, ov);
	if (rc == 0 && ld.c->listen_count == 0) {
		rc = override_titled(&ld, OPTION_SECTION_listen, "default", "udp:0.0.0.0:5060");
		if (rc == 0)
			rc = override_titled(&ld, OPTION_SECTION_listen, "default", "tcp:0.0.0.0:5060");
	}
	if (file)
		ld.e.file = file;
	if (rc == 0)
		rc = check_all(&ld);
	if (rc == 0) {
		*out = ld.c;
		ld.c = NULL;
	}
out:
	config_destroy(ld.c);
	free(ld.given);
	scan_deinit(&ld.scan);
	for (unsigned s = 0; s < OPTION_SECTION_COUNT; s++)
		free(ld.item_line[s]);
	return rc;
}

void config_destroy(struct config *c)
{
	if (!c)
		return;
	for (unsigned s = 0; s < OPTION_SECTION_COUNT; s++)
		if (option_sections[s].titled)
			section_free(c, (enum option_section)s);
	for (unsigned r = 0; r < option_count; r++)
		if (!option_sections[option_rows[r].section].titled)
			value_free(&option_rows[r], c);
	free(c->domain_name);
	free(c);
}
