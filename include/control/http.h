/* HTTP for operators: /metrics, /healthz, /readyz, with libmicrohttpd in a thread of its own. */
#ifndef CONTROL_HTTP_H
#define CONTROL_HTTP_H

#include "base/addr.h"
#include "base/buf.h"

/* Answers that main wires in; called on the HTTP thread. */
struct http_source {
	/* Appends Prometheus text beyond the counters of base/counters (gauges that need a look at their owner). May be
	 * NULL. */
	void (*metrics)(void *ctx, struct buf *b);
	/* True while every thread makes progress; else writes which does not, one line, into b. */
	bool (*healthy)(void *ctx, struct buf *b);
	/* True when new work is taken; else writes why not ("loading", "draining"). */
	bool (*ready)(void *ctx, struct buf *b);
	void *ctx;
};

struct http;
/* Main thread. 0 or -errno (-EADDRINUSE) . */
int http_start(const struct addr *listen, const struct http_source *src, struct http **out);
void http_stop(struct http *h);
/* The port that was bound (for port 0 in tests). */
uint16_t http_port(const struct http *h);

/* All counters of base/counters in Prometheus text format. Any thread. */
void http_render_counters(struct buf *b);

#endif
