#include "config/option_p.h"

#define AT(s, f) offsetof(struct s, f), sizeof(((struct s *)0)->f)

/* The title of a section goes to the first member of its struct, whatever the section. */
#define SECTION_TITLED(name_, strct, field, max, title, prose)                      \
	_Static_assert(offsetof(struct strct, name) == 0 &&                         \
			       sizeof(((struct strct *)0)->name) == sizeof(char *), \
		       #strct " begins with its name");
#include "config/options.def"

const struct option_section_row option_sections[OPTION_SECTION_COUNT] = {
#define SECTION(name, prose) {#name, false, 0, 0, 0, 0},
#define SECTION_TITLED(name, strct, field, max, title, prose) \
	{#name,                                               \
	 true,                                                \
	 max,                                                 \
	 sizeof(struct strct),                                \
	 offsetof(struct config, field),                      \
	 offsetof(struct config, field##_count)},
#include "config/options.def"
};

const struct option_row option_rows[] = {
#define OPTION(section, name, type, dflt, min, max, unit, strct, field, prose) \
	{OPTION_SECTION_##section, #name, OPTION_TYPE_##type, dflt, min, max, 0, AT(strct, field), 0},
#define OPTION_LIST(section, name, type, max, strct, field, prose) \
	{OPTION_SECTION_##section,                                 \
	 #name,                                                    \
	 OPTION_TYPE_##type,                                       \
	 "",                                                       \
	 "",                                                       \
	 "",                                                       \
	 max,                                                      \
	 AT(strct, field),                                         \
	 offsetof(struct strct, field##_count)},
#include "config/options.def"
};

const unsigned option_count = sizeof(option_rows) / sizeof(option_rows[0]);

const struct option_row *option_find(enum option_section section, const char *name)
{
	for (unsigned i = 0; i < option_count; i++)
		if (option_rows[i].section == section && strcmp(option_rows[i].name, name) == 0)
			return &option_rows[i];
	return NULL;
}

unsigned option_transports(const struct option_row *o)
{
	const unsigned udp = 1u << FLOW_UDP, tcp = 1u << FLOW_TCP, tls = 1u << FLOW_TLS;

	if (o->section != OPTION_SECTION_listen || o->offset == offsetof(struct config_listen, advertise))
		return udp | tcp | tls;
	if (o->offset == offsetof(struct config_listen, receive_buffer))
		return udp;
	if (o->offset == offsetof(struct config_listen, stream.handshake_timeout) ||
	    o->offset >= offsetof(struct config_listen, certificate))
		return tls;
	return tcp | tls;
}

const char *const *option_words(enum option_type type)
{
	static const char *const policy[] = {[POLICY_SERIAL] = "serial",
					     [POLICY_PARALLEL] = "parallel",
					     [POLICY_ROUND_ROBIN] = "round-robin",
					     [POLICY_RANDOM] = "random",
					     [POLICY_HASH] = "hash",
					     [POLICY_WEIGHT] = "weight",
					     [POLICY_WEIGHT + 1] = NULL};
	static const char *const level[] = {[LOG_LEVEL_ERROR] = "error",
					    [LOG_LEVEL_WARNING] = "warning",
					    [LOG_LEVEL_INFO] = "info",
					    [LOG_LEVEL_DEBUG] = "debug",
					    [LOG_LEVEL_DEBUG + 1] = NULL};
	static const char *const format[] = {
		[LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json", [LOG_FORMAT_JSON + 1] = NULL};

	static const char *const verify[] = {[VERIFY_NONE] = "none",
					     [VERIFY_OPTIONAL] = "optional",
					     [VERIFY_REQUIRE] = "require",
					     [VERIFY_REQUIRE + 1] = NULL};

	static const char *const algorithm[] = {[ALGORITHM_ALL] = "all",
						[ALGORITHM_SHA256] = "sha-256",
						[ALGORITHM_MD5] = "md5",
						[ALGORITHM_MD5 + 1] = NULL};

	switch (type) {
	case OPTION_TYPE_VERIFY: return verify;
	case OPTION_TYPE_ALGORITHM: return algorithm;
	case OPTION_TYPE_POLICY: return policy;
	case OPTION_TYPE_LOG_LEVEL: return level;
	case OPTION_TYPE_LOG_FORMAT: return format;
	default: return NULL;
	}
}

/* How many letters must be put in, left out, changed or swapped with their neighbour to come from a to b; 99 for
 * names too long to be worth it. */
static unsigned distance(const char *a, const char *b)
{
	enum { MAX = 40 };
	unsigned d[MAX + 1][MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > MAX || m > MAX)
		return 99;
	for (unsigned i = 0; i <= n; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= m; j++)
		d[0][j] = j;
	for (unsigned i = 1; i <= n; i++) {
		for (unsigned j = 1; j <= m; j++) {
			unsigned best = d[i - 1][j - 1] + (slice_lower(a[i - 1]) != slice_lower(b[j - 1]));

			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[n][m];
}

const char *option_suggest(enum option_section section, const char *name)
{
	const char *best = NULL;
	unsigned near = strlen(name) > 5 ? 3 : 2; /* closer than this */

	for (unsigned i = 0; i < option_count; i++) {
		unsigned d = option_rows[i].section == section ? distance(name, option_rows[i].name) : 99;

		if (d < near) {
			near = d;
			best = option_rows[i].name;
		}
	}
	if (section != OPTION_SECTION_top)
		return best;
	for (unsigned i = OPTION_SECTION_top + 1; i < OPTION_SECTION_COUNT; i++) {
		unsigned d = distance(name, option_sections[i].name);

		if (d < near) {
			near = d;
			best = option_sections[i].name;
		}
	}
	return best;
}

int option_elsewhere(enum option_section section, const char *name)
{
	for (unsigned i = 0; i < option_count; i++)
		if (option_rows[i].section != section && strcmp(option_rows[i].name, name) == 0)
			return (int)option_rows[i].section;
	return -1;
}
