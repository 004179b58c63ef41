/* Connections that pass to the next process, and those that came from the last one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/counters.h"
#include "transport/conn_p.h"
#include "transport/inherit.h"
#include "transport/tls_p.h"

#define HANDOVER_TICK 5000000 /* ns between two looks whether the writers are done */

/* --- giving --- */

struct export
{
	struct streams *s;
	void (*fn)(void *ctx, const struct inherited_conn *c);
	void *ctx;
};

/* What is not open yet cannot move. */
static void prepare_one(void *ctx, struct conn *c, const struct conn_info *i)
{
	(void)ctx;
	if (i->state != CONN_OPEN)
		conn_close(c, CONN_SHUTDOWN);
}

static char *copy_queue(const struct conn *c, size_t *len)
{
	char *p = c->queued ? malloc(c->queued) : NULL;

	*len = 0;
	for (const struct conn_message *m = c->first; p && m; m = m->next) {
		memcpy(p + *len, m->bytes + m->sent, m->len - m->sent);
		*len += m->len - m->sent;
	}
	return p;
}

static void export_one(void *ctx, struct conn *c, const struct conn_info *i)
{
	struct export *x = ctx;
	struct inherited_conn e = {
		.id = c->id, .remote = c->remote, .inbound = c->inbound, .half_ping = c->half_ping};

	if (i->proto == FLOW_TLS) {
		conn_close(c, CONN_SHUTDOWN); /* with its close_notify; the keys cannot move */
		return;
	}
	if (i->state != CONN_OPEN || c->linger)
		return;
	pthread_mutex_lock(&c->lock);
	e.bound = x->s->listener[c->listener].bound;
	e.local = c->local;
	if (c->alias.listed)
		e.alias = c->alias.addr;
	e.fd = c->fd;
	e.in = c->in;
	e.in_len = c->in ? c->in_len : 0;
	e.queue = copy_queue(c, &e.queue_len);
	pthread_mutex_unlock(&c->lock);
	x->fn(x->ctx, &e);
	free(e.queue);
}

/* True if no writer is left before the deadline. */
static bool writers_gone(struct streams *s, msec_t deadline)
{
	const struct timespec tick = {0, HANDOVER_TICK};
	unsigned left;

	do {
		pthread_mutex_lock(&s->writers_lock);
		left = s->writers;
		pthread_mutex_unlock(&s->writers_lock);
		if (left)
			nanosleep(&tick, NULL);
	} while (left && clock_mono_ms() < deadline);
	return left == 0;
}

void streams_export(struct streams *s, uint32_t grace, void (*fn)(void *ctx, const struct inherited_conn *c),
		    void *ctx)
{
	struct export x = {s, fn, ctx};

	atomic_store(&s->closing, true);
	streams_each(s, prepare_one, NULL);
	writers_gone(s, clock_mono_ms() + grace);
	/* Who is still writing to a peer that does not read leaves the rest to the next process. */
	atomic_store(&s->leaving, true);
	eventfd_write(s->leave, 1);
	writers_gone(s, clock_mono_ms() + grace);
	streams_each(s, export_one, &x);
}

void streams_export_listeners(struct streams *s, void (*fn)(void *ctx, const struct inherited_socket *l),
			      void *ctx)
{
	for (unsigned i = 0; i < s->listeners; i++) {
		const struct stream_listener *l = &s->listener[i];
		for (unsigned a = 0; l->fd && a < s->acceptors; a++) {
			struct inherited_socket e = {(enum flow_proto)l->proto, a, l->bound, l->fd[a]};
			if (e.fd >= 0)
				fn(ctx, &e);
		}
	}
}

/* --- receiving --- */

static int listener_of(const struct streams *s, const struct addr *bound)
{
	for (unsigned i = 0; i < s->listeners; i++)
		if (s->listener[i].proto == FLOW_TCP && addr_eq(&s->listener[i].bound, bound))
			return (int)i;
	return -1;
}

static bool import_one(struct streams *s, struct inherited_conn *e)
{
	int l = listener_of(s, &e->bound);
	struct conn *c = l < 0 ? NULL : conn_inherit(s, (unsigned)l, e);

	if (!c)
		return false;
	e->fd = -1;
	c->in = e->in;
	c->in_len = c->in_cap = (uint32_t)e->in_len;
	c->in_since = clock_mono_ms();
	c->half_ping = e->half_ping;
	e->in = NULL;
	if (e->queue_len) {
		struct iovec v = {e->queue, e->queue_len};
		conn_send(c, &v, 1, clock_mono_ms());
	}
	stream_adopt(c);
	return true;
}

unsigned streams_import(struct streams *s, struct inheritance *in)
{
	unsigned n = 0;

	for (unsigned i = 0; i < in->conns; i++) {
		uint64_t next = in->conn[i].id + 1;
		if (atomic_load(&s->next_id) < next)
			atomic_store(&s->next_id, next); /* the clock has been set back */
	}
	for (unsigned i = 0; i < in->conns; i++)
		n += import_one(s, &in->conn[i]);
	return n;
}
