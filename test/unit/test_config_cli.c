/* The command line. */
#include "config/cli.h"
#include "unit.h"

static char *out_text, *err_text;

/* Parses words separated by blanks; the texts printed are in out_text and err_text. */
static int parse(const char *line, struct cli *cli)
{
	static char words[400], *argv[20];
	int argc = 0, rc;
	size_t n;
	FILE *out, *err;

	snprintf(words, sizeof(words), "holdfast %s", line);
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	free(out_text);
	free(err_text);
	out = open_memstream(&out_text, &n);
	err = open_memstream(&err_text, &n);
	assert_true(out && err);
	memset(cli, 0, sizeof(*cli));
	rc = cli_parse(argc, argv, cli, out, err);
	fclose(out);
	fclose(err);
	return rc;
}

static void test_empty(void **state)
{
	struct cli c;

	(void)state;
	assert_int_equal(parse("", &c), 0);
	assert_int_equal(c.mode, CLI_MODE_RUN);
	assert_null(c.config);
	assert_null(c.ov.store);
	assert_null(c.ov.log_level);
	assert_int_equal(c.ov.workers, -1);
	assert_int_equal(c.ov.listen_count + c.ov.domain_count, 0);
	assert_string_equal(out_text, "");
	assert_string_equal(err_text, "");
	cli_deinit(&c);
}

static void assert_all(const struct cli *c)
{
	assert_string_equal(c->config, "f");
	assert_int_equal(c->ov.listen_count, 2);
	assert_string_equal(c->ov.listen[0], "udp:127.0.0.1:1");
	assert_string_equal(c->ov.listen[1], "udp:127.0.0.1:2");
	assert_int_equal(c->ov.domain_count, 2);
	assert_string_equal(c->ov.domain[1], "b");
	assert_string_equal(c->ov.store, "d");
	assert_int_equal(c->ov.workers, 3);
	assert_string_equal(c->ov.log_level, "debug");
}

static void test_all(void **state)
{
	struct cli c;

	(void)state;
	assert_int_equal(parse("-c f -l udp:127.0.0.1:1 -l udp:127.0.0.1:2 -d a -db -s d -w 3 -L debug -t", &c),
			 0);
	assert_all(&c);
	assert_int_equal(c.mode, CLI_MODE_CHECK);
	cli_deinit(&c);
	assert_int_equal(
		parse("--config f --listen=udp:127.0.0.1:1 --listen udp:127.0.0.1:2 --domain a --domain b "
		      "--store d --workers 3 --log-level debug --print",
		      &c),
		0);
	assert_all(&c);
	assert_int_equal(c.mode, CLI_MODE_PRINT);
	cli_deinit(&c);
	assert_int_equal(parse("--check -w 0", &c), 0);
	assert_int_equal(c.mode, CLI_MODE_CHECK);
	assert_int_equal(c.ov.workers, 0);
	cli_deinit(&c);
}

static void test_help(void **state)
{
	static const char *const flags[] = {"-h", "--help", "-t --help", "--help --nonsense"};
	struct cli c;

	(void)state;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		assert_int_equal(parse(flags[i], &c), 0);
		assert_int_equal(c.mode, CLI_MODE_DONE);
		assert_non_null(strstr(out_text, "Usage: holdfast [options]\n"));
		assert_non_null(strstr(out_text, "\n  -c, --config file "));
		assert_non_null(strstr(out_text, "\n  -V, --version "));
		assert_string_equal(err_text, "");
		cli_deinit(&c);
	}
	assert_int_equal(parse("--version", &c), 0);
	assert_int_equal(c.mode, CLI_MODE_DONE);
	assert_string_equal(out_text, "holdfast " HOLDFAST_VERSION "\n");
	cli_deinit(&c);
}

static void test_usage(void **state)
{
	static const struct {
		const char *line, *err;
	} cases[] = {
		{"-x", "holdfast: -x: unknown option\n"},
		{"-tx", "holdfast: -x: unknown option\n"},
		{"--nonsense", "holdfast: --nonsense: unknown option\n"},
		{"--l", "holdfast: --l: unknown option\n"}, /* --listen or --log-level */
		{"-c", "holdfast: -c: an argument is missing\n"},
		{"--config", "holdfast: --config: an argument is missing\n"},
		{"--check=yes", "holdfast: --check=yes: takes no argument\n"},
		{"-w x", "holdfast: -w x: not a number\n"},
		{"-w -1", "holdfast: -w -1: not a number\n"},
		{"--workers 9999999999", "holdfast: -w 9999999999: not a number\n"},
		{"more", "holdfast: more: unexpected argument\n"},
		{"-t -- -l", "holdfast: -l: unexpected argument\n"},
	};
	struct cli c;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char want[200];

		if (parse(cases[i].line, &c) != 2)
			fail_msg("accepted: %s", cases[i].line);
		snprintf(want, sizeof(want), "%sTry holdfast --help.\n", cases[i].err);
		assert_string_equal(err_text, want);
		assert_string_equal(out_text, "");
		assert_null(c.ov.listen); /* untouched */
	}
}

static void memory_body(void)
{
	char a[] = "holdfast", b[] = "-t", *argv[] = {a, b, NULL};
	struct cli c = {.mode = CLI_MODE_RUN};
	FILE *nowhere = fopen("/dev/null", "w");
	int rc;

	assert_non_null(nowhere);
	rc = cli_parse(2, argv, &c, nowhere, nowhere);
	fclose(nowhere);
	if (rc != 0) {
		assert_int_equal(rc, 1);
		assert_true(alloc_failed());
		return;
	}
	assert_int_equal(c.mode, CLI_MODE_CHECK);
	cli_deinit(&c);
}

static void test_memory(void **state)
{
	(void)state;
	UNIT_OOM(memory_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty), cmocka_unit_test(test_all),    cmocka_unit_test(test_help),
		cmocka_unit_test(test_usage), cmocka_unit_test(test_memory),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	free(out_text);
	free(err_text);
	return rc;
}
