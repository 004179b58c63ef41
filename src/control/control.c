#include "control_p.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http_p.h"

#define CONNECTIONS_MAX 32
#define TIMEOUT         10 /* s */
#define BACKLOG         16
#define METRICS_MAX     (16u << 20) /* bytes */

/* --- the table --- */

static const struct route {
	const char *method, *path;
	void (*fn)(struct control_call *c, struct control_answer *a);
} routes[] = {
	{"GET", "/status", view_status},
	{"GET", "/connections", view_connections},
	{"GET", "/transactions", view_transactions},
	{"GET", "/registrations", view_registrations},
	{"GET", "/gateways", view_gateways},
	{"POST", "/drain", action_drain},
	{"POST", "/undrain", action_undrain},
	{"POST", "/reload", action_reload},
	{"POST", "/takeover", action_takeover},
	{"POST", "/close", action_close},
	{"GET", "/users", account_list},
	{"POST", "/users", account_add},
	{"DELETE", "/users", account_remove},
};

const char *control_arg(const struct control_call *c, const char *name)
{
	return MHD_lookup_connection_value(c->connection, MHD_GET_ARGUMENT_KIND, name);
}

unsigned control_limit(const struct control_call *c)
{
	const char *text = control_arg(c, "limit");
	uint64_t n;
	return text && slice_u64(slice_str(text), UINT32_MAX, &n) ? (unsigned)n : CONTROL_LIST_MAX;
}

void control_error(struct control_answer *a, unsigned status, const char *text)
{
	a->status = status;
	a->body = json_pack("{s:s}", "error", text);
}

static enum MHD_Result send_answer(struct MHD_Connection *c, struct control_answer *a)
{
	char *text = a->body ? json_dumps(a->body, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	struct MHD_Response *r;
	enum MHD_Result rc;

	json_decref(a->body);
	if (!text)
		return MHD_NO;
	r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
	if (!r) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	rc = MHD_queue_response(c, a->status, r);
	MHD_destroy_response(r);
	return rc;
}

static void metrics_fill(void *ctx, struct buf *b)
{
	struct http_source src;
	server_http_source(ctx, &src);
	http_render_metrics(&src, server_started(ctx), b);
}

static enum MHD_Result send_metrics(struct control_call *call)
{
	size_t len = 0;
	char *p = http_render_grow(metrics_fill, call->control->server, METRICS_MAX, &len);
	struct MHD_Response *r = p ? MHD_create_response_from_buffer(len, p, MHD_RESPMEM_MUST_FREE) : NULL;
	enum MHD_Result rc;

	if (!r) {
		free(p);
		return MHD_NO;
	}
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
	rc = MHD_queue_response(call->connection, MHD_HTTP_OK, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result run(struct control_call *call, const char *url, const char *method)
{
	struct control_answer a = {.status = MHD_HTTP_OK};
	bool known = false;

	if (strcmp(url, "/metrics") == 0 && strcmp(method, "GET") == 0)
		return send_metrics(call);
	if (call->too_long) {
		control_error(&a, MHD_HTTP_CONTENT_TOO_LARGE, "the request is too long");
		return send_answer(call->connection, &a);
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(routes[i].path, url) != 0)
			continue;
		known = true;
		if (strcmp(routes[i].method, method) != 0)
			continue;
		routes[i].fn(call, &a);
		if (call->control->reader)
			store_read_end(call->control->reader);
		return send_answer(call->connection, &a);
	}
	control_error(&a, known ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND,
		      known ? "another method is needed" : "there is nothing here");
	return send_answer(call->connection, &a);
}

/* --- libmicrohttpd --- */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *data, size_t *len, void **state)
{
	struct control_call *call = *state;

	(void)version;
	if (!call) {
		call = calloc(1, sizeof(*call));
		if (!call)
			return MHD_NO;
		call->control = cls;
		call->connection = c;
		*state = call;
		return MHD_YES;
	}
	if (*len) {
		if (*len > sizeof(call->body) - call->len)
			call->too_long = true;
		else
			memcpy(call->body + call->len, data, *len), call->len += *len;
		*len = 0;
		return MHD_YES;
	}
	return run(call, url, method);
}

static void on_done(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
	struct control_call *call = *state;

	(void)cls, (void)c, (void)why;
	if (call)
		explicit_bzero(call->body, call->len); /* it may have held a password */
	free(call);
	*state = NULL;
}

/* --- life --- */

static int folder_make(const char *path)
{
	char copy[PATH_MAX];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	return mkdir(dirname(copy), 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* True if it is a socket where nobody listens: of a process that is gone. A file refuses connections too, and stays. */
static bool is_left_over(const struct sockaddr_un *sa)
{
	struct stat st;
	if (lstat(sa->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool dead =
		fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	return dead;
}

/* The socket has its mode before anybody can connect. */
static int listen_open(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, rc = folder_make(path);

	if (rc)
		return rc;
	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	if (is_left_over(&sa))
		unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	if (chmod(path, 0600) < 0 || listen(fd, BACKLOG) < 0) {
		rc = -errno;
		unlink(path);
		close(fd);
		return rc;
	}
	return fd;
}

int control_start(const char *path, struct server *s, struct control **out, char *err, size_t errlen)
{
	struct control *c = calloc(1, sizeof(*c));
	sigset_t all, old;
	int rc = -ENOMEM, fd = -1;

	if (!c || !(c->path = strdup(path)))
		goto fail;
	c->server = s;
	rc = s->store ? store_reader_create(store_shared(s->store), &c->reader) : 0;
	if (rc)
		goto fail;
	rc = fd = listen_open(path);
	if (rc < 0)
		goto fail;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	c->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request,
				     c, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_done,
				     NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
				     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!c->daemon) {
		unlink(path);
		rc = -EIO;
		goto fail;
	}
	*out = c;
	return 0;
fail:
	snprintf(err, errlen, "control.socket %s: %s", path,
		 rc == -EADDRINUSE ? "another process listens there" : strerror(-rc));
	if (c) {
		store_reader_destroy(c->reader);
		free(c->path);
	}
	free(c);
	return rc;
}

void control_disown(struct control *c)
{
	c->disowned = true;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	if (!c->disowned)
		unlink(c->path);
	MHD_stop_daemon(c->daemon);
	store_reader_destroy(c->reader);
	free(c->path);
	free(c);
}
