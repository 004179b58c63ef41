#include "control/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/http_p.h"

#define CONNECTIONS_MAX 64
#define TIMEOUT         10 /* s, of an idle connection */
#define BACKLOG         64
#define METRICS_MAX     (16u << 20) /* bytes */
#define REASON_MAX      1024        /* bytes */
#define TEXT            "text/plain; charset=utf-8"

struct http {
	struct MHD_Daemon *daemon; /* main */
	struct http_source source; /* const */
	double started;            /* const: s since 1970 */
	uint16_t port;             /* const */
};

struct metrics_ctx {
	const struct http_source *source;
	double started;
};

static void metrics_fill(void *ctx, struct buf *b)
{
	const struct metrics_ctx *m = ctx;
	http_render_metrics(m->source, m->started, b);
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type,
			     struct MHD_Response *r)
{
	if (!r)
		return MHD_NO;
	enum MHD_Result rc = MHD_YES;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result reply_text(struct MHD_Connection *c, unsigned status, struct slice text)
{
	return reply(
		c, status, TEXT,
		MHD_create_response_from_buffer(text.len, (void *)(uintptr_t)text.p, MHD_RESPMEM_MUST_COPY));
}

static enum MHD_Result reply_metrics(struct http *h, struct MHD_Connection *c)
{
	struct metrics_ctx m = {&h->source, h->started};
	size_t len = 0;
	char *p = http_render_grow(metrics_fill, &m, METRICS_MAX, &len);
	if (!p)
		return reply_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, SLICE_LIT("no memory\n"));
	struct MHD_Response *r = MHD_create_response_from_buffer(len, p, MHD_RESPMEM_MUST_FREE);
	if (!r)
		free(p);
	return reply(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", r);
}

static enum MHD_Result reply_state(struct http *h, struct MHD_Connection *c,
				   bool (*state)(void *, struct buf *))
{
	char text[REASON_MAX];
	struct buf b;
	buf_init(&b, text, sizeof(text) - 1); /* room for the newline */
	if (!state || state(h->source.ctx, &b))
		return reply_text(c, MHD_HTTP_OK, SLICE_LIT("ok\n"));
	if (b.len == 0)
		buf_lit(&b, "no");
	text[b.len++] = '\n';
	return reply_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, buf_view(&b));
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
				  const char *version, const char *body, size_t *body_len, void **state)
{
	struct http *h = cls;
	(void)version, (void)body, (void)body_len, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return reply_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, SLICE_LIT("only GET and HEAD\n"));
	if (strcmp(url, "/metrics") == 0)
		return reply_metrics(h, c);
	if (strcmp(url, "/healthz") == 0)
		return reply_state(h, c, h->source.healthy);
	if (strcmp(url, "/readyz") == 0)
		return reply_state(h, c, h->source.ready);
	return reply_text(c, MHD_HTTP_NOT_FOUND,
			  SLICE_LIT("not here; there are:\n"
				    "/metrics  counters in Prometheus text format\n"
				    "/healthz  200 while every thread makes progress\n"
				    "/readyz   200 while new work is taken\n"));
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
	static struct log_limiter limiter;
	uint64_t suppressed;
	char line[256];
	(void)cls;
	if (!log_enabled(LOG_LEVEL_DEBUG) || !log_limit(&limiter, 5, &suppressed))
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the format is the library's */
	int n = vsnprintf(line, sizeof(line), fmt, ap);
#pragma GCC diagnostic pop
	struct slice s = slice_trim(slice_make(line, n < 0 ? 0 : strnlen(line, sizeof(line))));
	log_debug("control", "libmicrohttpd: " SLICE_FMT, SLICE_ARG(s));
}

static int listen_open(const struct addr *a, int *out, uint16_t *port)
{
	struct sockaddr_storage ss;
	struct addr bound;
	const int on = 1;
	socklen_t n = addr_to_sockaddr(a, &ss);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int rc = 0;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (a->family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (struct sockaddr *)&ss, n) < 0 || listen(fd, BACKLOG) < 0)
		rc = -errno;
	n = sizeof(ss);
	if (!rc && getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		rc = -errno;
	if (!rc)
		rc = addr_from_sockaddr((struct sockaddr *)&ss, &bound);
	if (rc) {
		close(fd);
		return rc;
	}
	*out = fd;
	*port = bound.port;
	return 0;
}

int http_start(const struct addr *addr, const struct http_source *src, struct http **out)
{
	int fd = -1;
	sigset_t all, old;
	struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->source = *src;
	h->started = (double)clock_wall_ns() / 1e9;
	int rc = listen_open(addr, &fd, &h->port);
	if (rc) {
		free(h);
		return rc;
	}
	/* The library's thread inherits the mask: signals are main's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	h->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG, h->port, NULL, NULL,
				     on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
				     MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				     (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				     (unsigned)TIMEOUT, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!h->daemon) {
		/* The library has closed the socket, in all but its earliest failures; closing it twice would be
		 * worse. */
		free(h);
		return -EIO;
	}
	*out = h;
	return 0;
}

void http_stop(struct http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->daemon);
	free(h);
}

uint16_t http_port(const struct http *h)
{
	return h->port;
}
