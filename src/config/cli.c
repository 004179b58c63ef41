#include "config/cli.h"

#include <getopt.h>
#include <stdlib.h>

enum cli_id {
#define CLI(id, letter, name, argument, prose) CLI_##id,
#include "config/cli.def"
	CLI_COUNT
};

static const struct cli_row {
	char letter;
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *prose;
} rows[CLI_COUNT] = {
#define CLI(id, letter, name, argument, prose) {letter, name, argument, prose},
#include "config/cli.def"
};

static void help(FILE *out)
{
	fputs("Usage: holdfast [options]\n"
	      "A SIP proxy. It runs in the foreground and logs to standard error; see holdfast(8).\n\n",
	      out);
	for (unsigned i = 0; i < CLI_COUNT; i++) {
		char left[40];

		snprintf(left, sizeof(left), "-%c, --%s%s%s", rows[i].letter, rows[i].name,
			 rows[i].argument ? " " : "", rows[i].argument ? rows[i].argument : "");
		fprintf(out, "  %-24s %s\n", left, rows[i].prose);
	}
}

static int usage(FILE *err, const char *what, const char *which)
{
	fprintf(err, "holdfast: %s: %s\nTry holdfast --help.\n", which, what);
	return 2;
}

static enum cli_id find(int letter)
{
	unsigned i = 0;

	while (i < CLI_COUNT && rows[i].letter != letter)
		i++;
	return (enum cli_id)i;
}

/* Fills getopt's two tables. */
static void make_tables(char letters[2 * CLI_COUNT + 2], struct option longs[CLI_COUNT + 1])
{
	size_t n = 0;

	letters[n++] = ':'; /* getopt is silent, and tells a missing argument from an unknown option */
	for (unsigned i = 0; i < CLI_COUNT; i++) {
		letters[n++] = rows[i].letter;
		if (rows[i].argument)
			letters[n++] = ':';
		longs[i] = (struct option){rows[i].name, rows[i].argument ? required_argument : no_argument,
					   NULL, rows[i].letter};
	}
	letters[n] = '\0';
	memset(&longs[CLI_COUNT], 0, sizeof(longs[CLI_COUNT]));
}

static int take(struct cli *cli, enum cli_id id, const char *arg, FILE *out, FILE *err)
{
	uint64_t n;

	switch (id) {
	case CLI_CONFIG: cli->config = arg; break;
	case CLI_CHECK: cli->mode = CLI_MODE_CHECK; break;
	case CLI_PRINT: cli->mode = CLI_MODE_PRINT; break;
	case CLI_LISTEN: cli->ov.listen[cli->ov.listen_count++] = arg; break;
	case CLI_DOMAIN: cli->ov.domain[cli->ov.domain_count++] = arg; break;
	case CLI_STORE: cli->ov.store = arg; break;
	case CLI_WORKERS:
		if (!slice_u64(slice_str(arg), 1000000, &n)) { /* config_load has the range */
			char which[80];

			snprintf(which, sizeof(which), "-w %s", arg);
			return usage(err, "not a number", which);
		}
		cli->ov.workers = (int)n;
		break;
	case CLI_TAKEOVER: cli->takeover = true; break;
	case CLI_LOG_LEVEL: cli->ov.log_level = arg; break;
	case CLI_HELP:
		help(out);
		cli->mode = CLI_MODE_DONE;
		break;
	case CLI_VERSION:
		fprintf(out, "holdfast %s\n", HOLDFAST_VERSION);
		cli->mode = CLI_MODE_DONE;
		break;
	default: break;
	}
	return 0;
}

int cli_parse(int argc, char **argv, struct cli *cli, FILE *out, FILE *err)
{
	struct cli c = {.ov.workers = -1};
	char letters[2 * CLI_COUNT + 2];
	struct option longs[CLI_COUNT + 1];
	int letter, rc = 0;

	c.ov.listen = calloc((size_t)argc + 1, sizeof(*c.ov.listen));
	c.ov.domain = calloc((size_t)argc + 1, sizeof(*c.ov.domain));
	if (!c.ov.listen || !c.ov.domain) {
		fputs("holdfast: out of memory\n", err);
		rc = 1;
		goto out;
	}
	make_tables(letters, longs);
	optind = 0; /* start anew: a test parses more than once */
	while (rc == 0 && c.mode != CLI_MODE_DONE &&
	       (letter = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		/* What getopt has just read; for a cluster like -xyz, only optopt names the letter. */
		char which[3] = {'-', (char)optopt, '\0'};
		const char *word = optopt && letter != ':' ? which : argv[optind - 1];

		if (letter == '?' && find(optopt) != CLI_COUNT)
			rc = usage(err, "takes no argument", argv[optind - 1]);
		else if (letter == '?')
			rc = usage(err, "unknown option", word);
		else if (letter == ':')
			rc = usage(err, "an argument is missing", word);
		else
			rc = take(&c, find(letter), optarg, out, err);
	}
	if (rc == 0 && c.mode != CLI_MODE_DONE && optind < argc)
		rc = usage(err, "unexpected argument", argv[optind]);
	if (rc == 0) {
		*cli = c;
		return 0;
	}
out:
	cli_deinit(&c);
	return rc;
}

void cli_deinit(struct cli *cli)
{
	free(cli->ov.listen);
	free(cli->ov.domain);
	*cli = (struct cli){0};
}
