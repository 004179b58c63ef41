#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl_p.h"

#define PATH_LEN       2000 /* bytes: what client_call takes */
#define SOCKET_DEFAULT "/run/holdfast/control.sock"

/* One row a command. `fn` does it, with the words behind the command's name; a row without one is a plain call of
 * `path`. */
struct ctl_command {
	const char *name, *words, *prose;
	const char *method, *path;
	void (*show)(const json_t *j);
	int (*fn)(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv);
};

static int call(const struct ctl *c, const struct ctl_command *cmd, const char *path, json_t *body)
{
	json_t *j = NULL;
	int rc = client_call(c, cmd->method, path, body, &j, NULL);

	if (rc)
		return rc;
	if (c->json) {
		json_dumpf(j, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		cmd->show(j);
	}
	json_decref(j);
	return CTL_OK;
}

static int usage(const char *what)
{
	fprintf(stderr, "holdfastctl: %s\nTry holdfastctl -h.\n", what);
	return CTL_USAGE;
}

/* path?key=value */
static int call_with(const struct ctl *c, const struct ctl_command *cmd, const char *key, const char *value)
{
	char path[PATH_LEN], *escaped = client_escape(value);
	int n;

	if (!escaped)
		return CTL_FAILED;
	n = snprintf(path, sizeof(path), "%s?limit=1000000000&%s=%s", cmd->path, key, escaped);
	free(escaped);
	return n < (int)sizeof(path) ? call(c, cmd, path, NULL) : usage("the argument is too long");
}

static int do_list(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	char path[128];

	(void)argv;
	if (argc)
		return usage("this command takes no argument");
	snprintf(path, sizeof(path), "%s?limit=1000000000", cmd->path);
	return call(c, cmd, path, NULL);
}

static int do_metrics(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	char *text = NULL;
	int rc;

	(void)argv;
	if (argc)
		return usage("this command takes no argument");
	rc = client_call(c, cmd->method, cmd->path, NULL, NULL, &text);
	if (!rc)
		fputs(text, stdout);
	free(text);
	return rc;
}

static int do_registrations(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	if (argc > 1)
		return usage("registrations takes one address at the most");
	return argc ? call_with(c, cmd, "aor", argv[0]) : do_list(c, cmd, 0, NULL);
}

static int do_close(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	if (argc != 1)
		return usage("close takes the number of a connection");
	return call_with(c, cmd, "id", argv[0]);
}

/* --- takeover --- */

#define TAKEOVER_STEP 100 /* ms between two looks */
#define TAKEOVER_WAIT 300 /* of them: a process that has to read a large store takes its time */

/* 0: not there for the moment, as between two processes. */
static int process_id(const struct ctl *c, bool *failed)
{
	const struct ctl quiet = {.socket = c->socket, .quiet = true};
	json_t *status = NULL;
	int pid = 0;

	if (client_call(&quiet, "GET", "/status", NULL, &status, NULL) == CTL_OK) {
		const char *state = json_string_value(json_object_get(status, "takeover"));
		pid = (int)json_integer_value(json_object_get(status, "pid"));
		*failed = state && strcmp(state, "failed") == 0;
	}
	json_decref(status);
	return pid;
}

/* Waits for what comes of it: another process answers, or the new one has ended. */
static int do_takeover(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	const struct timespec step = {.tv_nsec = TAKEOVER_STEP * 1000000L};
	bool failed = false;
	int before, now, rc;

	(void)argv;
	if (argc)
		return usage("this command takes no argument");
	before = process_id(c, &failed);
	rc = call(c, cmd, cmd->path, NULL);
	for (unsigned i = 0; !rc && before && i < TAKEOVER_WAIT; i++) {
		now = process_id(c, &failed);
		if (now && now != before) {
			if (!c->json)
				printf("process %d has taken over\n", now);
			return CTL_OK;
		}
		if (now && failed) {
			fputs("holdfastctl: the new process has ended, and the old one goes on; the log says "
			      "why\n",
			      stderr);
			return CTL_FAILED;
		}
		nanosleep(&step, NULL);
	}
	if (!rc)
		fputs("holdfastctl: the new process does not take over\n", stderr);
	return CTL_FAILED;
}

/* --- user add|del|list|passwd --- */

/* "name@domain", split in place. */
static const char *split(char *who)
{
	char *at = strrchr(who, '@');
	if (!at || at == who || !at[1])
		return NULL;
	*at = 0;
	return at + 1;
}

static int user_set(const struct ctl *c, char *name, const char *domain, bool replace)
{
	const struct ctl_command cmd = {.method = "POST", .path = "/users", .show = show_result};
	char password[CTL_PASSWORD_MAX + 1];
	json_t *body;
	int rc = password_read(password);

	if (rc)
		return rc;
	body = json_pack("{s:s, s:s, s:s, s:b}", "name", name, "domain", domain, "password", password,
			 "replace", replace);
	explicit_bzero(password, sizeof(password));
	if (!body) {
		fputs("holdfastctl: names and passwords are UTF-8\n", stderr);
		return CTL_FAILED;
	}
	rc = call(c, &cmd, cmd.path, body);
	json_decref(body);
	return rc;
}

static int user_del(const struct ctl *c, const char *name, const char *domain)
{
	const struct ctl_command cmd = {.method = "DELETE", .path = "/users", .show = show_result};
	char path[PATH_LEN], *n = client_escape(name), *d = client_escape(domain);
	int rc = CTL_FAILED;

	if (n && d) {
		int len = snprintf(path, sizeof(path), "%s?name=%s&domain=%s", cmd.path, n, d);
		rc = len < (int)sizeof(path) ? call(c, &cmd, path, NULL) : usage("the argument is too long");
	}
	free(n);
	free(d);
	return rc;
}

static int do_user(const struct ctl *c, const struct ctl_command *cmd, int argc, char **argv)
{
	const char *what = argc ? argv[0] : "";

	if (strcmp(what, "list") == 0 && argc <= 2)
		return argc == 2 ? call_with(c, cmd, "domain", argv[1]) : do_list(c, cmd, 0, NULL);
	if (strcmp(what, "add") != 0 && strcmp(what, "passwd") != 0 && strcmp(what, "del") != 0)
		return usage("user is followed by add, passwd, del or list");
	if (argc != 2)
		return usage("one name@domain is needed; a password is never on the command line");
	const char *domain = split(argv[1]);
	if (!domain)
		return usage("a user is name@domain");
	if (strcmp(what, "del") == 0)
		return user_del(c, argv[1], domain);
	return user_set(c, argv[1], domain, strcmp(what, "passwd") == 0);
}

/* --- the table --- */

static const struct ctl_command commands[] = {
	{"status", "", "what the proxy is doing", "GET", "/status", show_status, NULL},
	{"metrics", "", "all counters, in Prometheus text format", "GET", "/metrics", NULL, do_metrics},
	{"drain", "", "refuse new calls and registrations; those under way go on", "POST", "/drain", show_drain,
	 NULL},
	{"undrain", "", "take new work again", "POST", "/undrain", show_drain, NULL},
	{"takeover", "", "start a new process, which takes sockets, connections and calls over from this one",
	 "POST", "/takeover", show_result, do_takeover},
	{"reload", "", "read configuration and certificates again", "POST", "/reload", show_result, NULL},
	{"connections", "", "TCP and TLS connections", "GET", "/connections", show_connections, do_list},
	{"transactions", "", "transactions by kind and state", "GET", "/transactions", show_transactions, NULL},
	{"registrations", "[user@domain]", "who is registered, where, and whether it answers", "GET",
	 "/registrations", show_registrations, do_registrations},
	{"gateways", "", "targets of gateways and whether they answer", "GET", "/gateways", show_gateways,
	 NULL},
	{"close", "ID", "close a connection", "POST", "/close", show_result, do_close},
	{"user", "add|passwd|del name@domain, list [domain]", "users and their passwords", "GET", "/users",
	 show_users, do_user},
};

static void help(void)
{
	fputs("Usage: holdfastctl [-s socket] [-j] command [argument]...\n"
	      "Asks a running holdfast over its control socket; see holdfastctl(8).\n\n"
	      "  -s, --socket path    the control socket (" SOCKET_DEFAULT ")\n"
	      "  -j, --json           show answers as JSON\n"
	      "  -h, --help           this text\n"
	      "  -V, --version        the version\n\n",
	      stdout);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		printf("  %s%s%s\n      %s\n", commands[i].name, commands[i].words[0] ? " " : "",
		       commands[i].words, commands[i].prose);
}

static int run(const struct ctl *c, int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct ctl_command *cmd = &commands[i];
		if (strcmp(cmd->name, argv[0]) != 0)
			continue;
		if (cmd->fn)
			return cmd->fn(c, cmd, argc - 1, argv + 1);
		return argc > 1 ? usage("this command takes no argument") : call(c, cmd, cmd->path, NULL);
	}
	return usage("there is no such command");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"socket", required_argument, NULL, 's'},
					      {"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {0}};
	struct ctl c = {.socket = SOCKET_DEFAULT};
	int letter;

	while ((letter = getopt_long(argc, argv, "+s:jhV", longs, NULL)) != -1) {
		switch (letter) {
		case 's': c.socket = optarg; break;
		case 'j': c.json = true; break;
		case 'h': help(); return CTL_OK;
		case 'V': puts("holdfastctl " HOLDFAST_VERSION); return CTL_OK;
		default: return CTL_USAGE;
		}
	}
	if (optind == argc)
		return usage("a command is needed");
	return run(&c, argc - optind, argv + optind);
}
