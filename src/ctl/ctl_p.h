/* holdfastctl: asks a running proxy over its control socket, and shows the answer. */
#ifndef CTL_CTL_P_H
#define CTL_CTL_P_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#define CTL_PASSWORD_MAX 128 /* bytes */

enum { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

struct ctl {
	const char *socket; /* path */
	bool json;          /* show answers as they came */
	bool quiet;         /* nothing is said of a proxy that is not there */
};

/* client.c: one request; `body` is NULL or becomes the request's. 0 and *out (the caller's, NULL for text) and *text
 * (free()), or CTL_FAILED: said on standard error why. */
int client_call(const struct ctl *c, const char *method, const char *path, json_t *body, json_t **out,
		char **text);
/* A query's value, escaped; free(). NULL: no memory. */
char *client_escape(const char *value);

/* show.c: each writes the answer of one command for people. */
void show_status(const json_t *j);
void show_connections(const json_t *j);
void show_transactions(const json_t *j);
void show_registrations(const json_t *j);
void show_gateways(const json_t *j);
void show_users(const json_t *j);
void show_drain(const json_t *j);
void show_result(const json_t *j);

/* password.c: from a prompt (twice, without echo) when standard input is a terminal, else its first line. 0 or
 * CTL_FAILED: said why. */
int password_read(char out[static CTL_PASSWORD_MAX + 1]);

#endif
