/* The life of connections: made, found, watched, closed, freed. */
#include "transport/conn_p.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/inherit.h"
#include "transport/tls_p.h"

#define CONN_NAME_MAX 255 /* bytes */
#define CONN_LOG      20  /* lines a second about connections that ended badly */

/* --- profiles --- */

struct conn_profile *conn_profile_ref(struct conn_profile *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void conn_profile_put(struct conn_profile *p)
{
	if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	tls_context_destroy(p->tls);
	free(p);
}

static struct conn_profile *profile_of(struct stream_listener *l)
{
	pthread_mutex_lock(&l->lock);
	struct conn_profile *p = conn_profile_ref(l->profile);
	pthread_mutex_unlock(&l->lock);
	return p;
}

/* --- names --- */

const char *conn_state_name(enum conn_state s)
{
	static const char *const name[CONN_STATES] = {"connecting", "handshaking", "open", "closing"};
	return s < CONN_STATES ? name[s] : "";
}

const char *conn_cause_name(enum conn_cause c)
{
	static const char *const name[CONN_CAUSES] = {
		[CONN_PEER] = "peer",
		[CONN_RESET] = "reset",
		[CONN_REFUSED] = "refused",
		[CONN_CONNECT_TIMEOUT] = "connect-timeout",
		[CONN_HANDSHAKE] = "handshake",
		[CONN_KEEPALIVE] = "keepalive",
		[CONN_USER_TIMEOUT] = "user-timeout",
		[CONN_WRITE_TIMEOUT] = "write-timeout",
		[CONN_QUEUE_LIMIT] = "queue-limit",
		[CONN_MESSAGE_TIMEOUT] = "message-timeout",
		[CONN_IDLE] = "idle",
		[CONN_PROTOCOL] = "protocol",
		[CONN_LIMIT] = "limit",
		[CONN_UNRESPONSIVE] = "unresponsive",
		[CONN_ADMIN] = "admin",
		[CONN_RELOAD] = "reload",
		[CONN_SHUTDOWN] = "shutdown",
	};
	return c < CONN_CAUSES ? name[c] : "";
}

/* The gauges' rows: by transport, direction, state. */
static enum counter_id state_row(const struct conn *c, enum conn_state s)
{
	unsigned tls = c->proto == FLOW_TLS, out = !c->inbound;
	return (enum counter_id)(CNT_CONN_TCP_IN_CONNECTING + (tls * 2 + out) * CONN_STATES + s);
}

/* --- references --- */

struct conn *conn_ref(struct conn *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

/* The peer is gone, or does not read: what the kernel still holds for it would stay for minutes. */
static bool cause_is_dead(enum conn_cause cause)
{
	return cause == CONN_KEEPALIVE || cause == CONN_USER_TIMEOUT || cause == CONN_WRITE_TIMEOUT ||
	       cause == CONN_QUEUE_LIMIT || cause == CONN_UNRESPONSIVE;
}

static void conn_free(struct conn *c)
{
	if (c->fd >= 0) {
		if (c->state == CONN_CLOSED && cause_is_dead((enum conn_cause)c->cause)) {
			struct linger now = {.l_onoff = 1, .l_linger = 0};
			setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		}
		close(c->fd);
	}
	tls_session_destroy(c->tls);
	conn_drop_queue(c);
	count_sub(state_row(c, (enum conn_state)c->state), 1);
	if (c->counted)
		conn_table_leave(c->streams, c->listener, &c->remote, c->inbound);
	conn_profile_put(c->profile);
	pthread_mutex_destroy(&c->lock);
	free(c->in);
	free(c->name);
	free(c);
}

void conn_put(struct conn *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		conn_free(c);
}

/* --- making --- */

static struct conn *conn_new(struct streams *s, unsigned listener, struct conn_profile *profile,
			     const struct addr *remote)
{
	struct conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->source.kind = SOURCE_CONN;
	atomic_init(&c->refs, 1);
	c->id = atomic_fetch_add_explicit(&s->next_id, 1, memory_order_relaxed);
	c->streams = s;
	c->profile = conn_profile_ref(profile);
	c->remote = *remote;
	c->listener = (uint16_t)listener;
	c->proto = s->listener[listener].proto;
	c->opened = clock_mono_ms();
	c->fd = -1;
	c->disarm = UINT64_MAX;
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

void conn_set_state(struct conn *c, enum conn_state state)
{
	count_sub(state_row(c, (enum conn_state)c->state), 1);
	count(state_row(c, state));
	c->state = (uint8_t)state;
}

int conn_create_inbound(struct streams *s, unsigned listener, unsigned acceptor, int fd,
			const struct addr *remote, const struct addr *local, struct conn **out)
{
	struct conn_profile *profile = profile_of(&s->listener[listener]);
	struct conn *c = NULL;
	int rc = -ENOBUFS;

	if (atomic_load(&s->closing) || !conn_table_admit(s, listener, &profile->options, remote, true))
		goto out;
	c = conn_new(s, listener, profile, remote);
	if (!c) {
		conn_table_leave(s, listener, remote, true);
		count(CNT_CONN_REFUSED_MEMORY);
		rc = -ENOMEM;
		goto out;
	}
	c->inbound = true;
	c->counted = true;
	c->acceptor = (uint8_t)acceptor;
	c->local = *local;
	c->fd = fd;
	c->state = c->proto == FLOW_TLS ? CONN_HANDSHAKING : CONN_OPEN;
	count(state_row(c, (enum conn_state)c->state));
	count(CNT_CONN_ACCEPTED);
	tcp_options(fd, &profile->options);
	conn_table_add(s, c);
	*out = c;
	fd = -1;
	rc = 0;
out:
	conn_profile_put(profile);
	if (fd >= 0)
		close(fd);
	return rc;
}

struct conn *conn_inherit(struct streams *s, unsigned listener, const struct inherited_conn *e)
{
	struct conn_profile *profile = profile_of(&s->listener[listener]);
	struct conn *c = conn_new(s, listener, profile, &e->remote);
	long unacked = tcp_unacked(e->fd);

	if (c) {
		c->id = e->id;
		c->inbound = e->inbound;
		c->local = e->local;
		c->fd = e->fd;
		c->acceptor = (uint8_t)(e->id % s->acceptors);
		c->state = CONN_OPEN;
		/* What that process has sent, acknowledged or not, is not of ours. */
		c->acked = tcp_acked(e->fd) + (unacked > 0 ? (uint64_t)unacked : 0);
		/* The process before has counted it in: a limit that was lowered since is for new ones. */
		c->counted = conn_table_admit(s, listener, &profile->options, &e->remote, e->inbound);
		count(state_row(c, CONN_OPEN));
		tcp_options(e->fd, &profile->options);
		conn_table_add(s, c);
		if (!e->inbound) {
			struct conn *known = conn_table_peer(s, FLOW_TCP, &e->remote, SLICE_NONE, c);
			conn_put(known);
		} else if (e->alias.family) {
			pthread_mutex_lock(&c->lock);
			conn_table_alias(s, c, &e->alias);
			pthread_mutex_unlock(&c->lock);
		}
	}
	conn_profile_put(profile);
	return c;
}

/* In no table yet. */
static int conn_create_outbound(struct streams *s, const struct conn_hop *hop, struct conn **out)
{
	struct conn_profile *profile = profile_of(&s->listener[hop->listener]);
	struct conn *c = NULL;
	int rc = -ENOBUFS;

	if (atomic_load(&s->closing) ||
	    !conn_table_admit(s, hop->listener, &profile->options, &hop->remote, false))
		goto out;
	rc = -ENOMEM;
	c = conn_new(s, hop->listener, profile, &hop->remote);
	if (!c) {
		conn_table_leave(s, hop->listener, &hop->remote, false);
		count(CNT_CONN_REFUSED_MEMORY);
		goto out;
	}
	c->counted = true;
	c->acceptor =
		(uint8_t)(atomic_fetch_add_explicit(&s->next_acceptor, 1, memory_order_relaxed) % s->acceptors);
	c->state = CONN_CONNECTING;
	count(state_row(c, CONN_CONNECTING));
	if (hop->proto == FLOW_TLS && !(c->name = strndup(hop->name.p, hop->name.len))) {
		conn_put(c);
		goto out;
	}
	*out = c;
	rc = 0;
out:
	conn_profile_put(profile);
	return rc;
}

static bool conn_is_closed(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	bool closed = c->state == CONN_CLOSED;
	pthread_mutex_unlock(&c->lock);
	return closed;
}

int streams_connect(struct streams *s, const struct conn_hop *hop, uint64_t *conn)
{
	struct slice name = hop->proto == FLOW_TLS ? hop->name : SLICE_NONE;
	struct conn *c, *fresh;
	int rc;

	if (hop->listener >= s->listeners || s->listener[hop->listener].proto != hop->proto ||
	    hop->proto == FLOW_UDP)
		return -EPROTONOSUPPORT;
	if (name.len > CONN_NAME_MAX || (hop->proto == FLOW_TLS && !name.len) ||
	    (name.len && memchr(name.p, 0, name.len)))
		return -EINVAL;
	c = conn_table_peer(s, hop->proto, &hop->remote, name, NULL);
	if (c && conn_is_closed(c)) {
		/* Whoever closed it is about to take it out. */
		conn_table_remove(s, c);
		conn_put(c);
		c = NULL;
	}
	if (!c) {
		rc = conn_create_outbound(s, hop, &fresh);
		if (rc)
			return rc;
		/* Who closes it meanwhile waits, or it would be entered after it has been taken out. */
		pthread_mutex_lock(&fresh->lock);
		conn_table_add(s, fresh);
		c = conn_table_peer(s, hop->proto, &hop->remote, name, fresh);
		pthread_mutex_unlock(&fresh->lock);
		if (c != fresh) /* somebody was faster */
			conn_table_remove(s, fresh);
		conn_put(fresh);
	}
	*conn = c->id;
	conn_put(c);
	return 0;
}

/* Lock held. A TLS connection that we would open has a name; one that was accepted gets it here, once: it may be asked
 * for again, while another connection has the alias. */
static bool alias_name(struct conn *c, struct slice name)
{
	if (!c->name && name.len && name.len <= CONN_NAME_MAX && tls_peer_is(c->tls, name))
		c->name = strndup(name.p, name.len);
	return c->name && slice_ieq(slice_str(c->name), name);
}

void conn_alias(struct conn *c, uint16_t port, struct slice name)
{
	struct addr a = c->remote;

	a.port = port;
	if (!c->inbound)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->state == CONN_OPEN && !c->finishing && !c->alias.listed &&
	    (c->proto != FLOW_TLS || alias_name(c, name)))
		conn_table_alias(c->streams, c, &a);
	pthread_mutex_unlock(&c->lock);
}

struct conn *streams_get(struct streams *s, uint64_t conn)
{
	struct conn *c = conn ? conn_table_get(s, conn) : NULL;
	return c;
}

/* --- watching --- */

static void lost_post(struct conn_watch *w, const struct conn *c, enum conn_cause cause)
{
	struct conn_lost *l = w->lost;
	l->conn = c->id;
	l->cause = cause;
	if (mailbox_post_always(w->to, &l->item) > 0)
		mailbox_wake(w->to);
	free(w);
}

/* Lock held. */
static bool is_watched(const struct conn *c, const struct mailbox *by)
{
	const struct conn_watch *w = c->watches;
	while (w && w->to != by)
		w = w->next;
	return w != NULL;
}

int conn_watch(struct conn *c, struct mailbox *to, unsigned kind)
{
	pthread_mutex_lock(&c->lock);
	bool have = is_watched(c, to);
	pthread_mutex_unlock(&c->lock);
	if (have)
		return 0; /* mostly: each request over a connection asks */

	struct conn_watch *w = calloc(1, sizeof(*w));
	struct conn_lost *l = calloc(1, sizeof(*l));
	if (!w || !l) {
		free(w);
		free(l);
		return -ENOMEM;
	}
	l->item.kind = kind;
	pthread_mutex_lock(&c->lock);
	bool closed = c->state == CONN_CLOSED;
	enum conn_cause cause = (enum conn_cause)c->cause;
	*w = (struct conn_watch){c->watches, to, l};
	have = is_watched(c, to);
	if (!have && !closed)
		c->watches = w;
	pthread_mutex_unlock(&c->lock);
	if (closed) {
		lost_post(w, c, cause);
	} else if (have) {
		free(w);
		free(l);
	}
	return 0;
}

/* --- the end --- */

static void conn_log_end(const struct conn *c, enum conn_cause cause)
{
	static struct log_limiter limiter;
	bool normal = cause == CONN_PEER || cause == CONN_IDLE || cause == CONN_SHUTDOWN;
	enum log_level level = normal ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
	char text[ADDR_STRLEN], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	if (log_enabled(level) && log_limit(&limiter, CONN_LOG, &missed))
		log_write(level, "transport", "connection %llu %s %s:%s closed: %s%s",
			  (unsigned long long)c->id, c->inbound ? "from" : "to",
			  flow_proto_label((enum flow_proto)c->proto), addr_str(&c->remote, text),
			  conn_cause_name(cause), log_left_out(missed, left_out));
}

void conn_close(struct conn *c, enum conn_cause cause)
{
	struct conn_watch *w;
	bool mine;

	pthread_mutex_lock(&c->lock);
	if (c->state == CONN_CLOSED) {
		pthread_mutex_unlock(&c->lock);
		return;
	}
	bool talks = c->state == CONN_OPEN && !c->finishing;
	conn_set_state(c, CONN_CLOSED);
	c->cause = (uint8_t)cause;
	/* Nobody takes the token of a closed connection: if it is free, the sending side is ours. Else its holder finds
	 * the state and frees the queue, which it reads without the lock. */
	mine = !c->draining;
	if (mine)
		conn_drop_queue(c);
	w = c->watches;
	c->watches = NULL;
	int fd = c->fd;
	pthread_mutex_unlock(&c->lock);

	count((enum counter_id)(CNT_CLOSED_PEER + cause));
	conn_log_end(c, cause);
	if (mine && talks && c->tls && !cause_is_dead(cause))
		tls_bye(c->tls);
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR); /* its acceptor and its writer wake up by that */
	conn_table_remove(c->streams, c);
	while (w) {
		struct conn_watch *next = w->next;
		lost_post(w, c, cause);
		w = next;
	}
}

static enum conn_cause cause_of(struct conn *c, int error)
{
	pthread_mutex_lock(&c->lock);
	bool open = c->state == CONN_OPEN, armed = c->armed;
	pthread_mutex_unlock(&c->lock);
	switch (error) {
	case ETIMEDOUT:
	case EHOSTUNREACH: /* the kernel gave up, and had an ICMP error for a reason */
	case ENETUNREACH:
		if (open)
			return armed ? CONN_USER_TIMEOUT : CONN_KEEPALIVE;
		return error == ETIMEDOUT ? CONN_CONNECT_TIMEOUT : CONN_REFUSED;
	case ECONNREFUSED:
	case EADDRNOTAVAIL:
	case EACCES:
	case EPERM: return open ? CONN_RESET : CONN_REFUSED;
	case EPIPE: return CONN_PEER;
	case EPROTO: return open ? CONN_PROTOCOL : CONN_HANDSHAKE; /* TLS */
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM: return CONN_LIMIT;
	default: return open ? CONN_RESET : CONN_REFUSED;
	}
}

void conn_fail(struct conn *c, int error)
{
	conn_close(c, cause_of(c, error));
}

void conn_finish(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->state != CONN_CLOSED && !c->finishing) {
		c->finishing = true;
		if (!c->draining && !c->first)
			conn_shut(c);
		conn_table_unlist(c->streams, c); /* no new requests */
	}
	pthread_mutex_unlock(&c->lock);
}

/* --- looking at it --- */

uint64_t conn_id(const struct conn *c)
{
	return c->id;
}

enum flow_proto conn_proto(const struct conn *c)
{
	return (enum flow_proto)c->proto;
}

bool conn_inbound(const struct conn *c)
{
	return c->inbound;
}

uint32_t conn_ack_timeout(const struct conn *c)
{
	return c->profile->options.ack_timeout;
}

const struct addr *conn_remote(const struct conn *c)
{
	return &c->remote;
}
