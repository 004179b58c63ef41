/* Connections that we open: one acceptor, one TCP listener whose address they leave from, a peer that listens. */
#ifndef TEST_CONN_H
#define TEST_CONN_H

#include "test_stream.h"

/* --- fixture: one acceptor, one TCP listener whose address connections leave from, a peer that listens --- */

struct fixture {
	struct stream_fixture f;
	int listen;
	struct addr peer; /* where it listens */
};

static inline void fixture_open(struct fixture *x, void (*set)(struct config_stream *o))
{
	stream_open(&x->f, set);
	x->listen = peer_listen("127.0.0.1", 64, &x->peer);
}

static inline void fixture_close(struct fixture *x)
{
	close(x->listen);
	stream_stop(&x->f);
}

static inline struct conn *connect_to(struct fixture *x, const struct addr *to)
{
	struct conn_hop hop = {.proto = FLOW_TCP, .remote = *to};
	uint64_t id;
	assert_int_equal(streams_connect(x->f.s, &hop, &id), 0);
	struct conn *c = streams_get(x->f.s, id);
	assert_non_null(c);
	assert_int_equal(conn_id(c), id);
	return c;
}

/* Connected, and "hi" has come through. */
static inline struct conn *connected(struct fixture *x, int *peer)
{
	struct conn *c = connect_to(x, &x->peer);
	conn_say(c, "hi");
	*peer = peer_accept(x->listen);
	peer_expect(*peer, "hi");
	await_gauge(CNT_WRITERS, 0);
	return c;
}

static inline enum conn_cause cause_of(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	assert_int_equal(c->state, CONN_CLOSED);
	enum conn_cause cause = (enum conn_cause)c->cause;
	pthread_mutex_unlock(&c->lock);
	return cause;
}

/* --- watchers --- */

#define KIND_LOST 77

struct watcher {
	struct mailbox box;
};

static inline void watch(struct watcher *w, struct conn *c)
{
	mailbox_init(&w->box, 10);
	assert_int_equal(conn_watch(c, &w->box, KIND_LOST), 0);
}

/* The one item, which must come. */
static inline enum conn_cause await_lost(struct watcher *w, uint64_t id)
{
	struct mailbox_item *it;
	msec_t limit = clock_mono_ms() + WAIT_MS;
	while (!(it = mailbox_take(&w->box))) {
		assert_true(clock_mono_ms() < limit);
		mailbox_wait(&w->box, 100000000);
	}
	struct conn_lost *l = (struct conn_lost *)it;
	assert_int_equal(it->kind, KIND_LOST);
	assert_int_equal(l->conn, id);
	enum conn_cause cause = l->cause;
	free(l);
	return cause;
}

/* When nobody is left who could tell. */
static inline void watcher_deinit(struct watcher *w)
{
	assert_null(mailbox_take(&w->box)); /* told once */
	mailbox_deinit(&w->box);
}

/* --- sending --- */

static char block[65536];

static inline void send_block(struct conn *c)
{
	struct iovec v = {block, sizeof(block)};
	conn_send(c, &v, 1, clock_mono_ms());
}

static inline bool has_backlog(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	bool has = c->queued > 0;
	pthread_mutex_unlock(&c->lock);
	return has;
}

static inline size_t fill(struct conn *c)
{
	size_t n = 0;
	while (!has_backlog(c)) {
		send_block(c);
		n += sizeof(block);
	}
	return n;
}

/* --- what was acknowledged --- */

static inline void set_marks(struct config_stream *o)
{
	o->ack_timeout = 400; /* marks are 100 ms apart */
}

#endif
