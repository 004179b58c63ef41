/* The command line. Its options are the rows of cli.def. */
#ifndef CONFIG_CLI_H
#define CONFIG_CLI_H

#include <stdio.h>

#include "config/config.h"

enum cli_mode {
	CLI_MODE_RUN,
	CLI_MODE_CHECK, /* -t */
	CLI_MODE_PRINT, /* -T */
	CLI_MODE_DONE,  /* -h, -V: all is said; end with 0 */
};

struct cli {
	enum cli_mode mode;
	const char *config;         /* -c, or NULL */
	bool takeover;              /* -k */
	struct config_overrides ov; /* pointers into argv */
};

/* Main thread (getopt is not reentrant). Fills *cli; what -h and -V print goes to `out`, a usage error, one line and
 * how to get help, to `err`. 0, or the exit status: 2 for a usage error, 1 when there is no memory. */
int cli_parse(int argc, char **argv, struct cli *cli, FILE *out, FILE *err);
void cli_deinit(struct cli *cli);

#endif
