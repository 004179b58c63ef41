/* Prometheus text format 0.0.4. */
#include <inttypes.h>
#include <stdio.h>

#include "base/counters.h"
#include "control/http.h"

enum metric_type { METRIC_counter, METRIC_gauge };

struct row {
	enum metric_type type;
	const char *name, *labels, *help;
};

static const struct row rows[CNT_COUNT] = {
#define COUNTER(id, type, name, labels, help) [CNT_##id] = {METRIC_##type, name, labels, help},
#include "base/counters.def"
};

static const uint32_t latency_bounds[] = COUNTERS_LATENCY_BOUNDS; /* µs */

_Static_assert(sizeof(latency_bounds) / sizeof(latency_bounds[0]) + 1 == COUNTERS_LATENCY_BUCKETS,
	       "one open bucket above the last bound");

static void render_head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP holdfast_%s %s\n# TYPE holdfast_%s %s\n", name, help, name, type);
}

static void render_rows(struct buf *b)
{
	const char *name = "";
	for (unsigned i = 0; i < CNT_COUNT; i++) {
		const struct row *r = &rows[i];
		if (strcmp(name, r->name) != 0) {
			render_head(b, r->name, r->type == METRIC_gauge ? "gauge" : "counter", r->help);
			name = r->name;
		}
		uint64_t v = counters_sum((enum counter_id)i);
		/* Blocks are read one after the other: a gauge that goes up in one and down in another may be seen
		 * below zero for a moment. */
		if (r->type == METRIC_gauge && (int64_t)v < 0)
			v = 0;
		buf_lit(b, "holdfast_");
		buf_slice(b, slice_str(r->name));
		if (r->labels[0])
			buf_printf(b, "{%s}", r->labels);
		buf_printf(b, " %" PRIu64 "\n", v);
	}
}

static void render_generated(struct buf *b)
{
	uint64_t n[COUNTERS_CODES];
	counters_sum_generated(n);
	render_head(b, "responses_generated_total", "counter",
		    "Responses that we made ourselves, by status code");
	for (unsigned code = 0; code < COUNTERS_CODES; code++)
		if (n[code])
			buf_printf(b, "holdfast_responses_generated_total{code=\"%u\"} %" PRIu64 "\n", code,
				   n[code]);
}

static void render_latency(struct buf *b)
{
	uint64_t n[COUNTERS_LATENCY_BUCKETS], sum, total = 0;
	counters_sum_latency(n, &sum);
	render_head(b, "message_seconds", "histogram",
		    "Time a message spent inside, from the kernel's receipt to the last send");
	for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS; i++) {
		total += n[i];
		if (i + 1 < COUNTERS_LATENCY_BUCKETS)
			buf_printf(b, "holdfast_message_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
				   (double)latency_bounds[i] / 1e6, total);
	}
	buf_printf(b, "holdfast_message_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", total);
	buf_printf(b, "holdfast_message_seconds_sum %.9f\n", (double)sum / 1e9);
	buf_printf(b, "holdfast_message_seconds_count %" PRIu64 "\n", total);
}

void http_render_counters(struct buf *b)
{
	render_rows(b);
	render_generated(b);
	render_latency(b);
}
