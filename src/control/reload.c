/* SIGHUP: a new configuration, taken whole or not at all. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/gateway.h"
#include "server_p.h"
#include "transport/conn.h"

/* What the running threads were built on. */
static const char *needs_restart(const struct config *a, const struct config *b)
{
	if (a->listen_count != b->listen_count)
		return "listen";
	for (unsigned i = 0; i < a->listen_count; i++)
		if (strcmp(a->listen[i].name, b->listen[i].name) != 0 ||
		    a->listen[i].receive_buffer != b->listen[i].receive_buffer)
			return "listen";
	if (a->workers != b->workers)
		return "workers";
	if (a->acceptors != b->acceptors)
		return "acceptors";
	if (a->mailbox_limit != b->mailbox_limit)
		return "mailbox_limit";
	if (strcmp(a->store.path, b->store.path) != 0 || a->store.map_size != b->store.map_size ||
	    a->store.transactions != b->store.transactions || a->store.sync != b->store.sync)
		return "store";
	if (strcmp(a->control.socket, b->control.socket) != 0)
		return "control.socket";
	if (strcmp(a->stats.listen_text, b->stats.listen_text) != 0)
		return "stats.listen";
	if (strcmp(a->dns.server, b->dns.server) != 0 || a->dns.timeout != b->dns.timeout ||
	    a->dns.cache != b->dns.cache || a->dns.max_queries != b->dns.max_queries)
		return "dns";
	if (a->timers.max_transactions != b->timers.max_transactions)
		return "timers.max_transactions";
	return NULL;
}

static int refuse(char *text, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Says why nothing changes. */
static int refuse(char *text, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, len, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < len)
		snprintf(text + n, len - (size_t)n, "; nothing changes");
	log_error("main", "%s", text);
	return -EINVAL;
}

static int reload(struct server *s, char *text, size_t len)
{
	struct config *next = NULL, *old = s->config;
	struct gateway_states *states = NULL, *old_states;
	const char *fixed;
	char err[400];

	if (!s->source.file)
		return refuse(text, len, "reload: there is no configuration file");
	if (config_load(s->source.file, s->source.ov, &next, err, sizeof(err)) < 0)
		return refuse(text, len, "reload: %s", err);
	if ((fixed = needs_restart(old, next))) {
		config_destroy(next);
		return refuse(text, len, "reload: %s cannot change without a restart", fixed);
	}
	states = gateway_states_create(next);
	if (!states) {
		config_destroy(next);
		return refuse(text, len, "reload: no memory");
	}
	err[0] = '\0';
	if (s->streams && streams_reconfigure(s->streams, next, err, sizeof(err)) < 0) {
		free(states);
		config_destroy(next);
		return refuse(text, len, "reload: %s", err[0] ? err : "no memory");
	}
	pthread_mutex_lock(&s->report); /* the HTTP thread reads configuration and states together */
	s->config = next;
	old_states = atomic_exchange(&s->shared.states, states);
	pthread_mutex_unlock(&s->report);
	worker_pool_reconfigure(s->workers, next);
	for (unsigned i = 0; i < s->acceptor_count; i++)
		acceptor_reconfigure(s->acceptor[i], next->gather, config_retry_after(next));
	log_configure(next->log.level, next->log.format);
	free(old_states);
	config_destroy(old);
	snprintf(text, len, "reload: %s is in effect", s->source.file);
	log_info("main", "%s", text);
	return 0;
}

int server_reload(struct server *s, char *text, size_t len)
{
	int rc = reload(s, text, len);

	atomic_store(&s->reload_failed, rc < 0);
	return rc;
}
