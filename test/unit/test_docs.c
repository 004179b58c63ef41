/* What is written about options, in five places, held against each other: options.def, cli.def, --help,
 * conf/holdfast.conf and the two manuals; and about counters, in counters.def and holdfast(8). holdfastctl(8) is
 * test/system/test_holdfastctl.py's. Run in the top folder of the source. */
#include <ctype.h>
#include <glob.h>
#include <unistd.h>

#include "config/cli.h"
#include "config/option_p.h"
#include "unit.h"

#define EXAMPLE  "conf/holdfast.conf"
#define MAN_CONF "man/holdfast.conf.5"
#define MAN      "man/holdfast.8"

static const struct {
	char letter;
	const char *name, *argument;
} flags[] = {
#define CLI(id, letter, name, argument, prose) {letter, name, argument},
#include "config/cli.def"
};
#define FLAGS (sizeof(flags) / sizeof(flags[0]))

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t n;
	char *text = calloc(1, 1 << 20);

	if (!f)
		fail_msg("%s cannot be opened", path);
	assert_non_null(text);
	n = fread(text, 1, (1 << 20) - 1, f);
	assert_true(n > 0 && n < (1 << 20) - 1);
	fclose(f);
	return text;
}

static unsigned occurrences(const char *text, const char *part)
{
	unsigned n = 0;

	while ((text = strstr(text, part)) != NULL) {
		n++;
		text++;
	}
	return n;
}

static struct config *load_text(const char *text)
{
	char path[] = "/tmp/holdfast-docs-XXXXXX", err[400];
	int fd = mkstemp(path);
	struct config *c = NULL;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	if (config_load(path, NULL, &c, err, sizeof(err)) != 0)
		fail_msg("%s\n%s", err, text);
	unlink(path);
	return c;
}

static char *print(struct config *c)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_print(c, f);
	fclose(f);
	config_destroy(c);
	return text;
}

/* Whether a line that begins at its # opens or closes a section, or is an option that a section cannot do without. */
static bool is_frame(const char *line)
{
	size_t len = strcspn(line, "\n");

	return line[1] == '}' || strncmp(line, "#certificate ", 13) == 0 || strncmp(line, "#key ", 5) == 0 ||
	       line[len - 1] == '{';
}

/* The example with what stands behind a # (and no blank) put in force: whole sections and, if asked for, their
 * options. */
static char *uncommented(bool options)
{
	char *text = read_file(EXAMPLE);

	for (char *p = text; *p; p++) {
		bool first = true;

		for (const char *q = p; q > text && q[-1] != '\n'; q--)
			first = first && (q[-1] == ' ' || q[-1] == '\t');
		if (*p == '#' && first && (islower((unsigned char)p[1]) || p[1] == '}') &&
		    (options || is_frame(p)))
			*p = ' ';
	}
	return text;
}

/* How often the example has the option, in force or behind a #, within its section. */
static unsigned example_has(const char *text, const struct option_row *o)
{
	char section[64] = "", name[64];
	unsigned n = 0;

	while (*text) {
		size_t len = strcspn(text, "\n");

		if (sscanf(text, " %63[a-z0-9_]", name) == 1) {
			const char *after = text + strspn(text, " \t") + strlen(name);

			after += strspn(after, " ");
			if (*after == '=')
				n += strcmp(name, o->name) == 0 &&
				     strcmp(section, option_sections[o->section].name) == 0;
			else if (memchr(text, '{', len) && !memchr(text, '}', len))
				memcpy(section, name, sizeof(section));
		} else if (text[strspn(text, " \t")] == '}') {
			section[0] = '\0';
		}
		if (!section[0])
			memcpy(section, "top", sizeof("top"));
		text += len + (text[len] == '\n');
	}
	return n;
}

static void test_example_has_every_option(void **state)
{
	char *text = uncommented(true);

	(void)state;
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *o = &option_rows[i];
		unsigned n = example_has(text, o);

		if (n != 1)
			fail_msg(EXAMPLE ": %s.%s stands there %u times", option_sections[o->section].name,
				 o->name, n);
	}
	for (unsigned s = 1; s < OPTION_SECTION_COUNT; s++) {
		char open[64];

		snprintf(open, sizeof(open), option_sections[s].titled ? "%s \"" : "%s {",
			 option_sections[s].name);
		if (!strstr(text, open))
			fail_msg(EXAMPLE ": no section %s", option_sections[s].name);
	}
	free(text);
}

/* What stands behind a # is the default: in force it changes nothing. And nothing unknown is among it. */
static void test_example_defaults(void **state)
{
	char *text = uncommented(true), *frame = uncommented(false), *all, *set;

	(void)state;
	all = print(load_text(text));
	set = print(load_text(frame));
	assert_string_equal(all, set);
	free(text);
	free(frame);
	free(all);
	free(set);
}

static void test_example_works_at_once(void **state)
{
	char *text = read_file(EXAMPLE);
	struct config *c = load_text(text);
	struct addr a;

	(void)state;
	assert_int_equal(c->listen_count, 2);
	assert_string_equal(c->listen[0].name, "udp:0.0.0.0:5060");
	assert_string_equal(c->listen[1].name, "tcp:0.0.0.0:5060");
	assert_int_equal(c->domain_count, 0);
	assert_string_equal(c->stats.listen_text, "127.0.0.1:9060");
	assert_int_equal(c->gateway_count, 1);
	assert_string_equal(c->gateway[0].target[0].text, "sip:127.0.0.1:5070");
	assert_int_equal(c->route_count, 1);
	assert_int_equal(c->route[0].gateway, 0);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1:5061"), &a), 0);
	assert_true(addr_net_has(&c->route[0].from[0], &a));
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.1:5061"), &a), 0);
	for (unsigned i = 0; i < c->route[0].from_count; i++)
		assert_false(addr_net_has(&c->route[0].from[i], &a));
	config_destroy(c);
	free(text);
}

/* The further examples, which nobody else loads. */
static void test_other_examples(void **state)
{
	char *text = read_file("conf/edge.conf");
	struct config *c = load_text(text);

	(void)state;
	free(text);
	assert_int_equal(c->listen_count, 3);
	assert_int_equal(c->domain_count, 1);
	assert_true(c->domain[0].authenticate);
	for (unsigned i = 0; i < c->route_count; i++)
		assert_true(c->route[i].reject || c->route[i].authenticate); /* no stranger calls the carrier */
	assert_int_equal(regexec(&c->route[0].user_re, "+499001", 0, NULL, 0), 0);
	assert_int_equal(regexec(&c->route[1].user_re, "+493012345", 0, NULL, 0), 0);
	assert_int_not_equal(regexec(&c->route[1].user_re, "201", 0, NULL, 0), 0);
	config_destroy(c);
	text = read_file("conf/balancer.conf");
	c = load_text(text);
	free(text);
	assert_int_equal(c->gateway_count, 2);
	for (unsigned i = 0; i < c->route_count; i++)
		assert_true(c->route[i].from_count > 0 || (*c->route[i].domain && c->route[i].path));
	config_destroy(c);
}

/* The first example of the section is a configuration; \e is how roff writes a backslash. */
static struct config *man_example(const char *section)
{
	char *text = read_file(MAN_CONF), *p = strstr(text, section), *end;

	assert_non_null(p);
	p = strstr(p, ".Bd -literal");
	assert_non_null(p);
	p = strchr(p, '\n');
	end = strstr(p, "\n.Ed");
	assert_non_null(end);
	*end = '\0';
	for (char *e = p; (e = strstr(e, "\\e")) != NULL; e++)
		memmove(e + 1, e + 2, strlen(e + 2) + 1);
	struct config *c = load_text(p);
	free(text);
	return c;
}

static void test_conf_manual(void **state)
{
	char *text = read_file(MAN_CONF);

	(void)state;
	for (unsigned i = 0; i < option_count; i++) {
		char item[100];

		snprintf(item, sizeof(item), "\n.It Ic %s No = Ar ", option_rows[i].name);
		if (!strstr(text, item))
			fail_msg(MAN_CONF ": %s is missing", option_rows[i].name);
	}
	char *end = strstr(text, "options.def ends");
	assert_non_null(end);
	*end = '\0';
	assert_int_equal(occurrences(text, "\n.It Ic "), option_count);
	assert_int_equal(occurrences(text, "\nDefault:\n"), option_count);
	free(text);
	/* Prose, ranges and defaults are those of options.def. */
	assert_int_equal(system("scripts/gen-conf-man --check"), 0);

	struct config *c = man_example(".Sh EXAMPLES");
	assert_int_equal(c->route_count, 3);
	assert_int_equal(regexec(&c->route[0].user_re, "+499001", 0, NULL, 0), 0);
	config_destroy(c);
	c = man_example(".Sh CONNECTIONS");
	assert_int_equal(c->listen[0].stream.ack_timeout, 5000);
	config_destroy(c);
}

/* The prose of an option of listen begins with the transports that it is for, and the check of a file goes by them. */
static void test_transports(void **state)
{
	static const struct {
		const char *name, *prose;
	} rows[] = {
#define OPTION(section, name, type, dflt, min, max, unit, strct, field, prose) {#section "." #name, prose},
#define OPTION_LIST(section, name, type, max, strct, field, prose)             {#section "." #name, prose},
#include "config/options.def"
	};
	static const char *const prefix[1u << FLOW_PROTO_COUNT] = {
		[1u << FLOW_UDP] = "udp: ",
		[1u << FLOW_TLS] = "tls: ",
		[1u << FLOW_TCP | 1u << FLOW_TLS] = "tcp, tls: ",
		[1u << FLOW_UDP | 1u << FLOW_TCP | 1u << FLOW_TLS] = ""};

	(void)state;
	assert_int_equal(sizeof(rows) / sizeof(rows[0]), option_count);
	for (unsigned i = 0; i < option_count; i++) {
		const char *want = prefix[option_transports(&option_rows[i])];
		unsigned other = 0;

		assert_non_null(want);
		for (unsigned k = 0; k < 1u << FLOW_PROTO_COUNT; k++)
			other += prefix[k] && *prefix[k] &&
				 strncmp(rows[i].prose, prefix[k], strlen(prefix[k])) == 0;
		if (strncmp(rows[i].prose, want, strlen(want)) != 0 || other != (*want ? 1 : 0))
			fail_msg("%s: the prose does not begin with \"%s\"", rows[i].name, want);
	}
}

static void test_manual(void **state)
{
	char *text = read_file(MAN), item[200];

	(void)state;
	for (size_t i = 0; i < FLAGS; i++) {
		snprintf(item, sizeof(item),
			 flags[i].argument ? "\n.It Fl %c , Fl -%s Ar %s\n" : "\n.It Fl %c , Fl -%s\n",
			 flags[i].letter, flags[i].name, flags[i].argument);
		if (occurrences(text, item) != 1)
			fail_msg(MAN ": OPTIONS: not there:%s", item);
		if (flags[i].argument) {
			snprintf(item, sizeof(item), "\n.Op Fl %c Ar %s\n", flags[i].letter, flags[i].argument);
			if (occurrences(text, item) != 1)
				fail_msg(MAN ": SYNOPSIS: not there:%s", item);
		} else {
			const char *p = strstr(text, "\n.Op Fl ");

			assert_non_null(p);
			if (!memchr(p + 8, flags[i].letter, strcspn(p + 8, "\n")))
				fail_msg(MAN ": SYNOPSIS: -%c is missing", flags[i].letter);
		}
	}
	assert_int_equal(occurrences(text, "\n.It Fl "), FLAGS);
	/* The options of the configuration that it names exist. */
	for (const char *p = text; (p = strstr(p, ".Ic ")) != NULL; p += 4) {
		char section[40], name[40];
		const struct option_row *o = NULL;

		if (sscanf(p, ".Ic %39[a-z].%39[a-z0-9_]", section, name) != 2)
			continue;
		for (unsigned s = 0; s < OPTION_SECTION_COUNT && !o; s++)
			if (strcmp(option_sections[s].name, section) == 0)
				o = option_find((enum option_section)s, name);
		if (!o)
			fail_msg(MAN ": %s.%s does not exist", section, name);
	}
	free(text);
}

/* Each metric is explained, and each reason for which something is refused or dropped has its row. */
static void test_metrics(void **state)
{
	static const struct {
		const char *name, *labels;
	} counters[] = {
#define COUNTER(id, type, name, labels, help) {name, labels},
#include "base/counters.def"
	};
	char *text = read_file(MAN), *metrics = strstr(text, "\n.Ss Metrics\n"), item[100], reason[40];

	(void)state;
	assert_non_null(metrics);
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		bool found = false;

		for (const char *p = metrics; !found && (p = strstr(p, "\n.It Li ")) != NULL; p++) {
			char line[300];

			snprintf(line, sizeof(line), " %.*s ", (int)strcspn(p + 8, "\n"), p + 8);
			snprintf(item, sizeof(item), " %s ", counters[i].name);
			found = strstr(line, item) != NULL;
		}
		if (!found)
			fail_msg(MAN ": Metrics: %s is missing", counters[i].name);
		if (strcmp(counters[i].name, "refused_total") != 0 &&
		    strcmp(counters[i].name, "dropped_total") != 0)
			continue;
		assert_int_equal(sscanf(counters[i].labels, "reason=\"%39[a-z-]", reason), 1);
		snprintf(item, sizeof(item), " Ta Li %s\n", reason);
		if (!strstr(text, item))
			fail_msg(MAN ": What is refused: %s is missing", reason);
	}
	free(text);
}

/* The README of each folder of src/ names each file of it, and none that is not there. */
static void test_folders(void **state)
{
	glob_t files;

	(void)state;
	assert_int_equal(glob("src/*/*.c", 0, NULL, &files), 0);
	assert_true(files.gl_pathc > 100);
	for (size_t i = 0; i < files.gl_pathc; i++) {
		const char *path = files.gl_pathv[i], *name = strrchr(path, '/') + 1;
		char readme[100], item[100], *text;

		snprintf(readme, sizeof(readme), "%.*sREADME.md", (int)(name - path), path);
		snprintf(item, sizeof(item), "`%s`", name);
		text = read_file(readme);
		if (!strstr(text, item))
			fail_msg("%s: %s is missing", readme, name);
		for (const char *p = text; (p = strchr(p, '`')) != NULL; p++) {
			size_t len = strcspn(p + 1, "`/ \n.");

			if (len >= 80 || strncmp(p + 1 + len, ".c`", 3) != 0)
				continue;
			snprintf(item, sizeof(item), "%.*s%.*s.c", (int)(name - path), path, (int)len, p + 1);
			if (access(item, R_OK) < 0)
				fail_msg("%s: %s does not exist", readme, item);
		}
		free(text);
	}
	globfree(&files);
}

static void test_help(void **state)
{
	char word[] = "holdfast", help[] = "-h", *argv[] = {word, help, NULL}, *text = NULL, left[100];
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct cli c;

	(void)state;
	assert_non_null(f);
	assert_int_equal(cli_parse(2, argv, &c, f, f), 0);
	fclose(f);
	cli_deinit(&c);
	for (size_t i = 0; i < FLAGS; i++) {
		snprintf(left, sizeof(left), "\n  -%c, --%s%s%s ", flags[i].letter, flags[i].name,
			 flags[i].argument ? " " : "", flags[i].argument ? flags[i].argument : "");
		if (occurrences(text, left) != 1)
			fail_msg("--help: not there:%s", left);
	}
	assert_int_equal(occurrences(text, "\n  -"), FLAGS);
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
		assert_true(strcspn(line, "\n") <= 110);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example_has_every_option),
		cmocka_unit_test(test_example_defaults),
		cmocka_unit_test(test_example_works_at_once),
		cmocka_unit_test(test_other_examples),
		cmocka_unit_test(test_conf_manual),
		cmocka_unit_test(test_transports),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_folders),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
