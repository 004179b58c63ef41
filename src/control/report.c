/* What /metrics, /healthz and /readyz say beyond the counters. Runs on the HTTP thread. */
#include <inttypes.h>

#include "proxy/gateway.h"
#include "server_p.h"
#include "store/db.h"
#include "store/store.h"

static void label(struct buf *b, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			buf_char(b, '\\');
		if (*text == '\n')
			buf_lit(b, "\\n");
		else
			buf_char(b, *text);
	}
}

static void gateway_line(struct buf *b, const struct config *c, unsigned i, const char *metric)
{
	const char *gateway, *target;

	gateway_states_name(c, i, &gateway, &target);
	buf_printf(b, "holdfast_gateway_%s{gateway=\"", metric);
	label(b, gateway);
	buf_lit(b, "\",target=\"");
	label(b, target);
	buf_lit(b, "\"} ");
}

static void gateways(struct server *s, struct buf *b)
{
	pthread_mutex_lock(&s->report);
	const struct gateway_states *g = atomic_load(&s->shared.states);
	if (g->count) {
		buf_lit(b, "# HELP holdfast_gateway_target_up Whether the last probe of a gateway's target was "
			   "answered\n"
			   "# TYPE holdfast_gateway_target_up gauge\n");
		for (unsigned i = 0; i < g->count; i++) {
			gateway_line(b, s->config, i, "target_up");
			buf_printf(b, "%d\n", atomic_load(&g->state[i].down) ? 0 : 1);
		}
		buf_lit(b, "# HELP holdfast_gateway_target_rtt_seconds Round-trip time of the last answered "
			   "probe\n"
			   "# TYPE holdfast_gateway_target_rtt_seconds gauge\n");
		for (unsigned i = 0; i < g->count; i++) {
			gateway_line(b, s->config, i, "target_rtt_seconds");
			buf_printf(b, "%.6f\n", (double)atomic_load(&g->state[i].rtt) / 1e9);
		}
		buf_lit(b, "# HELP holdfast_gateway_probes_failed_total Probes without an answer, or answered "
			   "by 408 or 503\n"
			   "# TYPE holdfast_gateway_probes_failed_total counter\n");
		for (unsigned i = 0; i < g->count; i++) {
			gateway_line(b, s->config, i, "probes_failed_total");
			buf_printf(b, "%" PRIu64 "\n", atomic_load(&g->state[i].failed));
		}
	}
	pthread_mutex_unlock(&s->report);
}

static void store_use(struct server *s, struct buf *b)
{
	struct store_env *e = s->store ? store_shared(s->store) : NULL;
	uint64_t used = 0, max = 0;

	if (!e)
		return;
	store_env_size(e, &used, &max);
	buf_printf(b,
		   "# HELP holdfast_registered_addresses Addresses that have a registration\n"
		   "# TYPE holdfast_registered_addresses gauge\n"
		   "holdfast_registered_addresses %" PRIu64 "\n"
		   "# HELP holdfast_store_used_bytes What registrations take of store.map_size\n"
		   "# TYPE holdfast_store_used_bytes gauge\n"
		   "holdfast_store_used_bytes %" PRIu64 "\n"
		   "# HELP holdfast_store_size_bytes store.map_size\n"
		   "# TYPE holdfast_store_size_bytes gauge\n"
		   "holdfast_store_size_bytes %" PRIu64 "\n",
		   (uint64_t)store_count(e, STORE_LOCATION), used, max);
}

static void report_metrics(void *ctx, struct buf *b)
{
	struct server *s = ctx;

	if (!atomic_load_explicit(&s->ready, memory_order_acquire))
		return;
	buf_lit(b, "# HELP holdfast_mailbox_depth Messages waiting for a worker\n"
		   "# TYPE holdfast_mailbox_depth gauge\n");
	for (unsigned i = 0; i < worker_pool_count(s->workers); i++)
		buf_printf(b, "holdfast_mailbox_depth{worker=\"%u\"} %u\n", i,
			   worker_pool_depth(s->workers, i));
	buf_printf(b,
		   "# HELP holdfast_draining 1 while new calls are refused\n# TYPE holdfast_draining gauge\n"
		   "holdfast_draining %u\n",
		   atomic_load(&s->shared.draining));
	buf_printf(b,
		   "# HELP holdfast_config_last_reload_successful 0 when the last reload was refused\n"
		   "# TYPE holdfast_config_last_reload_successful gauge\n"
		   "holdfast_config_last_reload_successful %d\n",
		   !atomic_load(&s->reload_failed));
	buf_printf(b,
		   "# HELP holdfast_log_lines_dropped_total Log lines that did not fit into the queue\n"
		   "# TYPE holdfast_log_lines_dropped_total counter\nholdfast_log_lines_dropped_total %" PRIu64
		   "\n",
		   log_dropped());
	store_use(s, b);
	gateways(s, b);
}

static bool report_healthy(void *ctx, struct buf *b)
{
	struct server *s = ctx;
	msec_t now = clock_mono_ms();

	if (!atomic_load_explicit(&s->ready, memory_order_acquire))
		return true; /* starting: nothing is stuck yet */
	for (unsigned i = 0; i < s->acceptor_count; i++)
		if (!acceptor_alive(s->acceptor[i], now)) {
			buf_printf(b, "acceptor %u makes no progress\n", i);
			return false;
		}
	for (unsigned i = 0; i < worker_pool_count(s->workers); i++)
		if (!worker_pool_alive(s->workers, i, now)) {
			buf_printf(b, "worker %u makes no progress\n", i);
			return false;
		}
	if (!resolver_alive(s->resolver, now)) {
		buf_lit(b, "the resolver makes no progress\n");
		return false;
	}
	return true;
}

static bool report_ready(void *ctx, struct buf *b)
{
	struct server *s = ctx;

	if (!atomic_load_explicit(&s->ready, memory_order_acquire)) {
		buf_lit(b, "loading\n");
		return false;
	}
	if (atomic_load(&s->shared.draining)) {
		buf_lit(b, "draining\n");
		return false;
	}
	return true;
}

void server_http_source(struct server *s, struct http_source *src)
{
	*src = (struct http_source){
		.metrics = report_metrics, .healthy = report_healthy, .ready = report_ready, .ctx = s};
}
