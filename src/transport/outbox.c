#include "transport/outbox.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "transport/kind_p.h"
#include "transport/udp_p.h"

#define OUTBOX_BATCH    64  /* datagrams given to one sendmmsg */
#define OUTBOX_MESSAGES 128 /* room kept between batches */
#define OUTBOX_NONE     UINT32_MAX
#define OUTBOX_SLOTS    256 /* of the hash by which the connections of a batch are found; a power of 2 */
#define OUTBOX_STREAMS  64  /* room kept between batches */
#define OUTBOX_IOV      64  /* messages given to one conn_send */

struct outbox_message {
	const char *p; /* in a chunk */
	uint32_t len;  /* bytes */
	uint32_t next; /* of the same socket, or OUTBOX_NONE */
	struct addr remote;
	struct addr local;
};

struct outbox_chunk {
	struct outbox_chunk *next;
	size_t used; /* bytes */
	char bytes[OUTBOX_CHUNK];
};

/* What waits for one socket, in order. */
struct outbox_queue {
	const struct udp_socket *socket;
	uint32_t first, last;
};

/* What waits for one connection, in order. */
struct outbox_stream {
	struct conn *conn; /* a reference */
	uint32_t first, last;
	uint32_t chain; /* the next of the same slot, or OUTBOX_NONE */
};

struct outbox {
	const struct udp *udp;
	struct streams *streams;
	struct outbox_upper upper;
	/* the one being filled; the oldest, which is kept, is the last of the list */
	struct outbox_chunk *chunk;
	size_t bytes; /* in all chunks */
	struct outbox_message *message;
	unsigned count, room;
	struct outbox_queue *queue; /* one a socket, [listeners * acceptors] */
	unsigned *busy;             /* indices of the queues that hold something */
	unsigned busy_count;
	struct outbox_stream *stream; /* the connections of this batch */
	unsigned stream_count, stream_room;
	uint32_t slot[OUTBOX_SLOTS]; /* into `stream`, by connection */
	struct mmsghdr header[OUTBOX_BATCH];
	struct udp_header target[OUTBOX_BATCH];
	uint32_t index[OUTBOX_BATCH]; /* which message a header stands for */
};

int outbox_create(const struct udp *udp, struct streams *streams, const struct outbox_upper *up,
		  struct outbox **out)
{
	unsigned sockets = udp->listeners * udp->acceptors;
	struct outbox *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->udp = udp;
	o->streams = streams;
	o->upper = *up;
	o->room = OUTBOX_MESSAGES;
	o->stream_room = OUTBOX_STREAMS;
	memset(o->slot, 0xff, sizeof(o->slot));
	o->stream = malloc(o->stream_room * sizeof(*o->stream));
	o->message = malloc(o->room * sizeof(*o->message));
	o->chunk = malloc(sizeof(*o->chunk));
	o->queue = calloc(sockets ? sockets : 1, sizeof(*o->queue));
	o->busy = calloc(sockets ? sockets : 1, sizeof(*o->busy));
	if (o->chunk) {
		o->chunk->next = NULL;
		o->chunk->used = 0;
	}
	if (!o->message || !o->stream || !o->chunk || !o->queue || !o->busy) {
		outbox_destroy(o);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < sockets; i++)
		o->queue[i] = (struct outbox_queue){&udp->socket[i], OUTBOX_NONE, OUTBOX_NONE};
	*out = o;
	return 0;
}

void outbox_destroy(struct outbox *o)
{
	if (!o)
		return;
	while (o->chunk) {
		struct outbox_chunk *next = o->chunk->next;
		free(o->chunk);
		o->chunk = next;
	}
	for (unsigned i = 0; i < o->stream_count; i++)
		conn_put(o->stream[i].conn);
	free(o->stream);
	free(o->message);
	free(o->queue);
	free(o->busy);
	free(o);
}

unsigned outbox_queued(const struct outbox *o)
{
	return o->count;
}

/* --- filling --- */

static char *outbox_room(struct outbox *o, size_t len)
{
	struct outbox_chunk *c = o->chunk;
	if (len > OUTBOX_CHUNK || o->bytes + len > OUTBOX_BYTES_MAX)
		return NULL;
	if (len > OUTBOX_CHUNK - c->used) {
		c = malloc(sizeof(*c));
		if (!c)
			return NULL;
		c->next = o->chunk;
		c->used = 0;
		o->chunk = c;
	}
	c->used += len;
	o->bytes += len;
	return c->bytes + c->used - len;
}

static struct outbox_message *outbox_message_new(struct outbox *o)
{
	if (o->count == o->room) {
		struct outbox_message *m = realloc(o->message, 2 * (size_t)o->room * sizeof(*m));
		if (!m)
			return NULL;
		o->message = m;
		o->room *= 2;
	}
	return &o->message[o->count];
}

/* A copy of the bytes as message number o->count - 1; false: no room, counted. */
static bool outbox_add(struct outbox *o, const struct flow *to, struct slice bytes)
{
	struct outbox_message *m = outbox_message_new(o);
	char *p = m ? outbox_room(o, bytes.len) : NULL;
	if (!p) {
		count(CNT_DROP_SEND);
		return false;
	}
	memcpy(p, bytes.p, bytes.len);
	*m = (struct outbox_message){p, (uint32_t)bytes.len, OUTBOX_NONE, to->remote, to->local};
	o->count++;
	return true;
}

static void outbox_link(struct outbox *o, uint32_t *first, uint32_t *last)
{
	uint32_t i = o->count - 1;
	if (*first == OUTBOX_NONE)
		*first = i;
	else
		o->message[*last].next = i;
	*last = i;
}

/* The queue of a connection in this batch. NULL: no memory. Takes over a reference if it is new. */
static struct outbox_stream *outbox_stream_get(struct outbox *o, uint64_t id)
{
	uint32_t *slot = &o->slot[id & (OUTBOX_SLOTS - 1)];
	for (uint32_t i = *slot; i != OUTBOX_NONE; i = o->stream[i].chain)
		if (conn_id(o->stream[i].conn) == id)
			return &o->stream[i];
	if (o->stream_count == o->stream_room) {
		struct outbox_stream *s = realloc(o->stream, 2 * (size_t)o->stream_room * sizeof(*s));
		if (!s)
			return NULL;
		o->stream = s;
		o->stream_room *= 2;
	}
	struct conn *c = streams_get(o->streams, id);
	if (!c)
		return NULL;
	struct outbox_stream *s = &o->stream[o->stream_count];
	*s = (struct outbox_stream){c, OUTBOX_NONE, OUTBOX_NONE, *slot};
	*slot = o->stream_count++;
	return s;
}

static int outbox_send_stream(struct outbox *o, const struct flow *to, struct slice bytes)
{
	struct outbox_stream *s = o->streams && to->conn ? outbox_stream_get(o, to->conn) : NULL;
	if (!s)
		return -ENOTCONN;
	if (outbox_add(o, to, bytes))
		outbox_link(o, &s->first, &s->last);
	return 0;
}

int outbox_send(struct outbox *o, const struct flow *to, struct slice bytes)
{
	const struct udp_socket *s;
	struct outbox_queue *q;

	if (to->proto != FLOW_UDP)
		return outbox_send_stream(o, to, bytes);
	s = udp_socket(o->udp, to->listener, to->acceptor);
	if (!s || s->family != to->remote.family) {
		count(CNT_DROP_SEND);
		o->upper.failed(o->upper.ctx, &to->remote, bytes, s ? -EAFNOSUPPORT : -EPROTONOSUPPORT);
		return 0;
	}
	if (!outbox_add(o, to, bytes))
		return 0;
	q = &o->queue[s - o->udp->socket];
	if (q->first == OUTBOX_NONE)
		o->busy[o->busy_count++] = (unsigned)(s - o->udp->socket);
	outbox_link(o, &q->first, &q->last);
	return 0;
}

/* --- sending --- */

static void outbox_failed(struct outbox *o, unsigned i, int error, enum udp_verdict v)
{
	const struct outbox_message *m = &o->message[o->index[i]];
	count(CNT_DROP_SEND);
	if (v == UDP_FAILED)
		o->upper.failed(o->upper.ctx, &m->remote, slice_make(m->p, m->len), -error);
}

/* Gives the first n headers to the kernel. It stops at a message that fails: what is behind it goes on. */
static unsigned outbox_batch(struct outbox *o, int fd, unsigned n)
{
	unsigned at = 0, sent = 0, tries = 0;
	while (at < n) {
		int r = sendmmsg(fd, o->header + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		int error = r < 0 ? errno : EAGAIN;
		count(CNT_SEND_CALLS);
		if (r > 0) {
			for (unsigned i = at; i < at + (unsigned)r; i++) {
				const struct iovec *v = &o->target[i].iov;
				kind_count_out(FLOW_UDP, kind_of(slice_make(v->iov_base, v->iov_len)));
			}
			at += (unsigned)r;
			sent += (unsigned)r;
			tries = 0;
			continue;
		}
		enum udp_verdict v = udp_send_verdict(error, ++tries);
		if (v != UDP_AGAIN) {
			outbox_failed(o, at++, error, v);
			tries = 0;
		}
	}
	return sent;
}

static unsigned outbox_queue_flush(struct outbox *o, struct outbox_queue *q)
{
	unsigned n = 0, sent = 0;
	for (uint32_t i = q->first; i != OUTBOX_NONE; i = o->message[i].next) {
		const struct outbox_message *m = &o->message[i];
		/* Cannot fail: outbox_send looked at the family. */
		udp_header_fill(&o->target[n], &o->header[n].msg_hdr, q->socket, &m->remote, &m->local,
				slice_make(m->p, m->len));
		o->index[n++] = i;
		if (n == OUTBOX_BATCH) {
			sent += outbox_batch(o, q->socket->fd, n);
			n = 0;
		}
	}
	if (n)
		sent += outbox_batch(o, q->socket->fd, n);
	q->first = q->last = OUTBOX_NONE;
	return sent;
}

static unsigned outbox_stream_flush(struct outbox *o, struct outbox_stream *s, msec_t now)
{
	struct iovec v[OUTBOX_IOV];
	enum flow_proto proto = conn_proto(s->conn);
	unsigned n = 0, sent = 0;
	for (uint32_t i = s->first; i != OUTBOX_NONE; i = o->message[i].next) {
		const struct outbox_message *m = &o->message[i];
		kind_count_out(proto, kind_of(slice_make(m->p, m->len)));
		v[n++] = (struct iovec){(void *)(uintptr_t)m->p, m->len};
		sent++;
		if (n == OUTBOX_IOV) {
			conn_send(s->conn, v, n, now);
			n = 0;
		}
	}
	if (n)
		conn_send(s->conn, v, n, now);
	o->slot[conn_id(s->conn) & (OUTBOX_SLOTS - 1)] = OUTBOX_NONE;
	conn_put(s->conn);
	return sent;
}

/* Back to the room of a common batch. */
static void outbox_reset(struct outbox *o)
{
	while (o->chunk->next) {
		struct outbox_chunk *next = o->chunk->next;
		free(o->chunk);
		o->chunk = next;
	}
	o->chunk->used = 0;
	o->bytes = 0;
	o->count = 0;
	o->busy_count = 0;
	o->stream_count = 0;
	if (o->stream_room > OUTBOX_STREAMS) {
		struct outbox_stream *s = realloc(o->stream, OUTBOX_STREAMS * sizeof(*s));
		if (s) {
			o->stream = s;
			o->stream_room = OUTBOX_STREAMS;
		}
	}
	if (o->room > OUTBOX_MESSAGES) {
		struct outbox_message *m = realloc(o->message, OUTBOX_MESSAGES * sizeof(*m));
		if (m) {
			o->message = m;
			o->room = OUTBOX_MESSAGES;
		}
	}
}

unsigned outbox_flush(struct outbox *o, msec_t now)
{
	unsigned sent = 0;
	if (!o->count && !o->stream_count)
		return 0;
	for (unsigned i = 0; i < o->busy_count; i++)
		sent += outbox_queue_flush(o, &o->queue[o->busy[i]]);
	for (unsigned i = 0; i < o->stream_count; i++)
		sent += outbox_stream_flush(o, &o->stream[i], now);
	outbox_reset(o);
	return sent;
}
