/* The running proxy: everything that main builds from a configuration, and the loop in which it waits for signals. Main
 * thread only. */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include "config/config.h"

struct server;

/* How to read the configuration again on SIGHUP. */
struct server_source {
	const char *file;                  /* or NULL: there is nothing to reload */
	const struct config_overrides *ov; /* outlives the server */
	bool takeover;                     /* take over from the process behind the control socket */
	char **argv;                       /* outlives the server: how to start another one of us */
};

/* From now on a SIGHUP waits for server_run: before the configuration is read, or one that comes meanwhile would end
 * the process. */
void server_hold_reload(void);

/* Blocks the signals that server_run waits for; before any thread is started. */
void server_block_signals(void);

/* Opens store and sockets and starts all threads. Takes `c` over, also on failure. 0, or -errno with one line in err;
 * then nothing is left behind. */
int server_start(struct config *c, const struct server_source *src, struct server **out, char *err,
		 size_t errlen);

/* Runs until SIGTERM or SIGINT has been followed by the end of what was under way, by drain.timeout, or by a second
 * signal. SIGHUP reloads. */
void server_run(struct server *s);

void server_destroy(struct server *s);

#endif
