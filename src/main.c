/* Arguments and exit codes; all else is behind server_start. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "config/cli.h"
#include "control/server.h"
#include "transport/conn.h"

/* jemalloc's options; another allocator does not look at them. Memory that a load has freed goes back within seconds,
 * by a thread of jemalloc's own. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,narenas:4,dirty_decay_ms:5000,muzzy_decay_ms:0";

enum { EXIT_ENDED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static int run(struct config *c, const struct cli *cli, char **argv)
{
	struct server_source src = {
		.file = cli->config, .ov = &cli->ov, .takeover = cli->takeover, .argv = argv};
	struct server *s;
	char err[512];

	log_configure(c->log.level, c->log.format);
	server_block_signals();
	if (log_start() < 0) {
		fprintf(stderr, "holdfast: the logger cannot be started\n");
		config_destroy(c);
		return EXIT_FAILED;
	}
	if (server_start(c, &src, &s, err, sizeof(err)) < 0) {
		log_error("main", "%s", err);
		log_stop();
		return EXIT_FAILED;
	}
	server_run(s);
	server_destroy(s);
	log_stop();
	return EXIT_ENDED;
}

/* All that a start or a reload would find wrong: the certificates are files of their own. */
static int check(const struct config *c)
{
	char err[512] = "no memory";

	log_configure(c->log.level, c->log.format);
	if (streams_check(c, err, sizeof(err)) < 0) {
		fprintf(stderr, "holdfast: %s\n", err);
		return EXIT_USAGE;
	}
	printf("the configuration is valid\n");
	return EXIT_ENDED;
}

int main(int argc, char **argv)
{
	struct config *c;
	struct cli cli;
	char err[512];
	int rc = cli_parse(argc, argv, &cli, stdout, stderr);

	if (rc != 0)
		return rc;
	if (cli.mode == CLI_MODE_DONE) {
		cli_deinit(&cli);
		return EXIT_ENDED;
	}
	if (cli.mode == CLI_MODE_RUN)
		server_hold_reload();
	rc = config_load(cli.config, &cli.ov, &c, err, sizeof(err));
	if (rc < 0) {
		fprintf(stderr, "holdfast: %s\n", err);
		cli_deinit(&cli);
		return rc == -ENOENT || rc == -EACCES || rc == -ENOMEM ? EXIT_FAILED : EXIT_USAGE;
	}
	if (cli.mode == CLI_MODE_RUN) {
		rc = run(c, &cli, argv);
	} else {
		rc = EXIT_ENDED;
		if (cli.mode == CLI_MODE_PRINT)
			config_print(c, stdout);
		else
			rc = check(c);
		config_destroy(c);
	}
	cli_deinit(&cli);
	return rc;
}
