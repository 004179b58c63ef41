/* What the files of this folder share. */
#ifndef CONTROL_HTTP_P_H
#define CONTROL_HTTP_P_H

#include <time.h>

#include "control/http.h"

/* Everything that /metrics answers: build, process, counters, then the source's own. */
void http_render_metrics(const struct http_source *src, double started, struct buf *b);

/* Makes text with `fill` in memory that grows until it fits, at most `max` bytes. NULL: no memory, or it never
 * fits. Release with free(). */
typedef void http_fill_fn(void *ctx, struct buf *b);
char *http_render_grow(http_fill_fn *fill, void *ctx, size_t max, size_t *len);

#endif
