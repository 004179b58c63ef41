/* Everything about connections that the process has one of: listening sockets, profiles, tables. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/conn_p.h"
#include "transport/inherit.h"
#include "transport/socket_p.h"
#include "transport/tls_p.h"

static int profile_create(struct streams *s, const struct config_listen *l, struct conn_profile **out,
			  char *err, size_t errlen)
{
	struct conn_profile *p = calloc(1, sizeof(*p));
	int rc = 0;

	if (!p)
		return -ENOMEM;
	atomic_init(&p->refs, 1);
	p->options = l->stream;
	if (l->proto == FLOW_TLS)
		rc = tls_context_create(l, s->tickets, &p->tls, err, errlen);
	if (rc) {
		free(p);
		return rc;
	}
	*out = p;
	return 0;
}

static int listener_open(struct streams *s, unsigned i, const struct config_listen *l, struct inheritance *in,
			 char *err, size_t errlen)
{
	struct stream_listener *sl = &s->listener[i];
	int rc;

	sl->bound = l->addr;
	sl->fd = malloc(s->acceptors * sizeof(*sl->fd));
	if (!sl->fd)
		return -ENOMEM;
	for (unsigned a = 0; a < s->acceptors; a++)
		sl->fd[a] = -1;
	sl->proto = (uint8_t)l->proto;
	rc = profile_create(s, l, &sl->profile, err, errlen);
	if (rc)
		return rc;
	for (unsigned a = 0; a < s->acceptors; a++)
		sl->fd[a] = inherit_take(in, l->proto, &l->addr, a);
	return tcp_listen(l, &sl->bound, sl->fd, s->acceptors);
}

static bool has_tls(const struct config *c)
{
	for (unsigned i = 0; i < c->listen_count; i++)
		if (c->listen[i].proto == FLOW_TLS)
			return true;
	return false;
}

static int streams_alloc(const struct config *c, struct streams *s)
{
	int rc = conn_table_init(s);
	if (rc)
		return rc;
	s->listener = calloc(c->listen_count ? c->listen_count : 1, sizeof(*s->listener));
	s->port = calloc(c->acceptors ? c->acceptors : 1, sizeof(*s->port));
	if (!s->listener || !s->port)
		return -ENOMEM;
	s->listeners = c->listen_count;
	s->acceptors = c->acceptors;
	for (unsigned i = 0; i < s->listeners; i++)
		pthread_mutex_init(&s->listener[i].lock, NULL);
	for (unsigned i = 0; i < s->acceptors; i++)
		s->port[i].event = -1;
	return has_tls(c) ? tls_tickets_create(&s->tickets) : 0;
}

int streams_open(const struct config *c, struct streams **out, char *err, size_t errlen)
{
	return streams_open_with(c, NULL, out, err, errlen);
}

int streams_open_with(const struct config *c, struct inheritance *in, struct streams **out, char *err,
		      size_t errlen)
{
	struct streams *s = calloc(1, sizeof(*s));
	const char *name = "";
	int rc = -ENOMEM;

	err[0] = 0;
	if (!s)
		goto out;
	s->leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&s->writers_lock, NULL);
	pthread_cond_init(&s->writers_none, NULL);
	/* Milliseconds of the wall clock, with room for 2^20 connections in each: never the number of an earlier
	 * run. */
	atomic_init(&s->next_id, (uint64_t)(clock_wall_ns() / 1000000u) << 20);
	atomic_init(&s->writers_max, c->writers);
	rc = s->leave < 0 ? -errno : socket_check(c, SOCK_STREAM, in, &name);
	if (!rc)
		rc = streams_alloc(c, s);
	for (unsigned i = 0; !rc && i < c->listen_count; i++) {
		if (c->listen[i].proto == FLOW_UDP)
			continue;
		name = c->listen[i].name;
		rc = listener_open(s, i, &c->listen[i], in, err, errlen);
	}
	if (!rc) {
		*out = s;
		return 0;
	}
out:
	if (err[0]) {
		char why[256];
		snprintf(why, sizeof(why), "%s", err);
		snprintf(err, errlen, "listen %s: %s", name, why);
	} else {
		snprintf(err, errlen, "listen %s: %s", name, strerror(-rc));
	}
	streams_close(s);
	return rc;
}

int streams_check(const struct config *c, char *err, size_t errlen)
{
	struct tls_tickets *tickets = NULL;
	int rc = has_tls(c) ? tls_tickets_create(&tickets) : 0;

	for (unsigned i = 0; i < c->listen_count && !rc; i++) {
		struct tls_context *t = NULL;
		if (c->listen[i].proto == FLOW_TLS)
			rc = tls_context_create(&c->listen[i], tickets, &t, err, errlen);
		tls_context_destroy(t);
	}
	tls_tickets_destroy(tickets);
	return rc;
}

const struct addr *streams_bound(const struct streams *s, unsigned listener)
{
	static const struct addr none;
	return listener < s->listeners ? &s->listener[listener].bound : &none;
}

int streams_reconfigure(struct streams *s, const struct config *c, char *err, size_t errlen)
{
	struct conn_profile **fresh = calloc(s->listeners ? s->listeners : 1, sizeof(struct conn_profile *));
	int rc = fresh ? 0 : -ENOMEM;

	for (unsigned i = 0; !rc && i < s->listeners; i++) {
		if (s->listener[i].proto == FLOW_UDP)
			continue;
		rc = profile_create(s, &c->listen[i], &fresh[i], err, errlen);
	}
	for (unsigned i = 0; fresh && i < s->listeners; i++) {
		struct stream_listener *l = &s->listener[i];
		if (!rc && fresh[i]) {
			pthread_mutex_lock(&l->lock);
			struct conn_profile *old = l->profile;
			l->profile = fresh[i];
			fresh[i] = old;
			pthread_mutex_unlock(&l->lock);
		}
		conn_profile_put(fresh[i]);
	}
	if (!rc)
		atomic_store_explicit(&s->writers_max, c->writers, memory_order_relaxed);
	free(fresh);
	return rc;
}

/* --- looking at all --- */

static void info_of(struct conn *c, struct conn_info *i)
{
	pthread_mutex_lock(&c->lock);
	*i = (struct conn_info){.id = c->id,
				.proto = (enum flow_proto)c->proto,
				.listener = c->listener,
				.inbound = c->inbound,
				.state = (enum conn_state)c->state,
				.remote = c->remote,
				.local = c->local,
				.queued = c->queued,
				.opened = c->opened,
				.received = atomic_load_explicit(&c->received, memory_order_relaxed)};
	pthread_mutex_unlock(&c->lock);
}

/* The connections of a shard, each with a reference. *n of them; NULL: none, or no memory. */
static struct conn **shard_all(struct conn_shard *d, unsigned *n)
{
	struct conn **all = NULL;
	*n = 0;
	pthread_mutex_lock(&d->lock);
	if (d->count)
		all = malloc(d->count * sizeof(struct conn *));
	for (unsigned b = 0; all && b < d->buckets; b++)
		for (struct conn *c = d->bucket[b]; c; c = c->chain)
			all[(*n)++] = conn_ref(c);
	pthread_mutex_unlock(&d->lock);
	return all;
}

void streams_each(struct streams *s, void (*fn)(void *ctx, struct conn *c, const struct conn_info *i),
		  void *ctx)
{
	for (unsigned k = 0; k < CONN_SHARDS; k++) {
		unsigned n;
		struct conn **all = shard_all(&s->shard[k], &n);
		for (unsigned i = 0; i < n; i++) {
			struct conn_info info;
			info_of(all[i], &info);
			fn(ctx, all[i], &info);
			conn_put(all[i]);
		}
		free(all);
	}
}

/* --- the end --- */

/* One of those that are left in a shard, with a reference; buckets before *from are empty. None is added any more. */
static struct conn *shard_any(struct conn_shard *d, unsigned *from)
{
	struct conn *c = NULL;

	pthread_mutex_lock(&d->lock);
	while (*from < d->buckets && !d->bucket[*from])
		++*from;
	if (*from < d->buckets)
		c = conn_ref(d->bucket[*from]);
	pthread_mutex_unlock(&d->lock);
	return c;
}

void streams_stop(struct streams *s)
{
	atomic_store(&s->closing, true);
	/* Without memory, too: who waits for a connection that is not closed waits for long. */
	for (unsigned k = 0; k < CONN_SHARDS; k++) {
		unsigned from = 0;
		for (struct conn *c; (c = shard_any(&s->shard[k], &from)); conn_put(c)) {
			conn_close(c, CONN_SHUTDOWN);
			conn_table_remove(s, c); /* who closed it before may not have come so far */
		}
	}
	writers_wait(s);
}

void streams_close(struct streams *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->listeners; i++) {
		struct stream_listener *l = &s->listener[i];
		for (unsigned a = 0; l->fd && a < s->acceptors; a++)
			if (l->fd[a] >= 0)
				close(l->fd[a]);
		free(l->fd);
		conn_profile_put(l->profile);
		pthread_mutex_destroy(&l->lock);
	}
	for (unsigned i = 0; i < s->acceptors; i++)
		for (struct conn *c = atomic_exchange(&s->port[i].inbox, NULL), *next; c; c = next) {
			next = c->next_adopted;
			conn_put(c);
		}
	conn_table_deinit(s);
	tls_tickets_destroy(s->tickets);
	if (s->leave >= 0)
		close(s->leave);
	free(s->listener);
	free(s->port);
	pthread_cond_destroy(&s->writers_none);
	pthread_mutex_destroy(&s->writers_lock);
	free(s);
}
