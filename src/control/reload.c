/* SIGHUP: a new configuration, taken whole or not at all. */
#include <stdlib.h>

#include "proxy/gateway.h"
#include "server_p.h"

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
	if (strcmp(a->store.path, b->store.path) != 0 || a->store.map_size != b->store.map_size)
		return "store";
	if (strcmp(a->stats.listen_text, b->stats.listen_text) != 0)
		return "stats.listen";
	if (strcmp(a->dns.server, b->dns.server) != 0 || a->dns.timeout != b->dns.timeout ||
	    a->dns.cache != b->dns.cache || a->dns.max_queries != b->dns.max_queries)
		return "dns";
	if (a->timers.max_transactions != b->timers.max_transactions)
		return "timers.max_transactions";
	return NULL;
}

void server_reload(struct server *s)
{
	struct config *next, *old = s->config;
	struct gateway_states *states, *old_states;
	char err[512];

	if (!s->source.file) {
		log_warning("main", "reload: there is no configuration file, nothing changes");
		return;
	}
	if (config_load(s->source.file, s->source.ov, &next, err, sizeof(err)) < 0) {
		log_error("main", "reload: %s; nothing changes", err);
		return;
	}
	const char *fixed = needs_restart(old, next);
	if (fixed) {
		log_error("main", "reload: %s cannot change without a restart; nothing changes", fixed);
		config_destroy(next);
		return;
	}
	states = gateway_states_create(next);
	if (!states) {
		log_error("main", "reload: no memory; nothing changes");
		config_destroy(next);
		return;
	}
	pthread_mutex_lock(&s->report); /* the HTTP thread reads configuration and states together */
	s->config = next;
	old_states = atomic_exchange(&s->shared.states, states);
	pthread_mutex_unlock(&s->report);
	worker_pool_reconfigure(s->workers, next);
	for (unsigned i = 0; i < s->acceptor_count; i++)
		acceptor_reconfigure(s->acceptor[i], next->gather, (next->drain.retry_after + 999) / 1000);
	log_configure(next->log.level, next->log.format);
	free(old_states);
	config_destroy(old);
	log_info("main", "reload: %s is in effect", s->source.file);
}
