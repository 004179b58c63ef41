/* What another thread (the control socket's) wants done by main, which alone reloads, drains and ends. */
#ifndef CONTROL_COMMAND_H
#define CONTROL_COMMAND_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum command_kind { COMMAND_DRAIN, COMMAND_UNDRAIN, COMMAND_RELOAD, COMMAND_TAKEOVER };

struct command {
	enum command_kind kind;
	int rc; /* main: 0 or -errno */
	char text
		[512]; /* main: one line about it. COMMAND_TAKEOVER, before: where the new process listens; empty: none runs yet */
	bool done; /* under commands.lock */
};

struct commands {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct command *at; /* under lock: the one that main is to do, or NULL */
	bool closed;        /* under lock: main takes no more */
	int event;          /* const: readable while there is one */
};

int commands_init(struct commands *c); /* 0 or -errno */
void commands_deinit(struct commands *c);

/* Any thread but main: waits until main has done it; one at a time. False: main takes no more. */
bool commands_run(struct commands *c, struct command *cmd);

/* Main: the one to do, or NULL; then commands_done when it is done. */
struct command *commands_take(struct commands *c);
void commands_done(struct commands *c, struct command *cmd);
void commands_close(struct commands *c); /* main: whoever waits is told that it is too late */

#endif
