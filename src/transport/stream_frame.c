/* From bytes to messages. Messages are taken straight out of what was read; only the start of one that is not whole yet
 * is kept, so that an idle connection holds no buffer. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "transport/kind_p.h"
#include "transport/stream_p.h"

#define FRAME_PIECE 4096 /* bytes added at once to the start of a message */
#define FRAME_ROOM  1024 /* bytes: the least that is made for one */
#define FRAME_PONGS 32   /* pings answered of those in one read; who sends more is not waiting for answers */

/* What the frames of one read have in common. */
struct frames {
	struct acceptor *a;
	struct conn *c;
	struct origin origin;
	struct flow flow;
	nsec_t received; /* wall clock */
	size_t max;      /* bytes of a message */
	unsigned pings;
};

static bool frame_garbage(struct frames *x, const char *what)
{
	intake_drop(CNT_DROP_GARBAGE, what, &x->flow.remote);
	conn_close(x->c, CONN_PROTOCOL);
	return false;
}

static void frame_count(struct frames *x, const char *p, size_t len)
{
	kind_count_in(x->c->proto, kind_of(slice_make(p, len)));
	x->a->got++;
}

/* A whole message. False: the connection has been closed. */
static bool frame_message(struct frames *x, const char *p, size_t len)
{
	struct acceptor *a = x->a;
	if (sip_msg_parse(&a->room, p, len, true) < 0)
		return frame_garbage(x, "not SIP");
	frame_count(x, p, len);
	if (a->room.msg.error)
		intake_malformed(a, &x->origin, &x->flow);
	else
		intake_deliver(a, &x->origin, &x->flow, x->received, 0);
	return true;
}

/* Where the next message begins cannot be known any more. Who sent this one is told, with time to read it. */
static bool frame_fatal(struct frames *x, const char *p, size_t len, uint16_t status, const char *text)
{
	struct acceptor *a = x->a;
	struct sip_msg *m = &a->room.msg;
	bool whole = len >= 4 && memcmp(p + len - 4, "\r\n\r\n", 4) == 0;

	if (!whole || sip_msg_parse(&a->room, p, len, true) < 0)
		return frame_garbage(x, text);
	frame_count(x, p, len);
	if (status != 400 || !m->error) {
		m->error = status;
		m->error_text = text;
	}
	if (!intake_malformed(a, &x->origin, &x->flow)) {
		conn_close(x->c, CONN_PROTOCOL);
		return false;
	}
	conn_finish(x->c);
	x->c->linger = stream_now(a) + CONN_LINGER;
	stream_timer_set(a, x->c);
	return true;
}

/* What a frame leads to. False: the connection has been closed. */
static bool frame_handle(struct frames *x, enum sip_frame_kind k, const char *p, const struct sip_frame *f)
{
	const char *m = p + f->skip;
	size_t len = f->used - f->skip;

	switch (k) {
	case SIP_FRAME_MESSAGE: return frame_message(x, m, len);
	case SIP_FRAME_PING:
		count(CNT_PING_IN);
		x->pings++;
		return true;
	case SIP_FRAME_PONG:
		if (x->c->pinged)
			count(CNT_PONG_IN);
		x->c->pinged = 0;
		return true;
	case SIP_FRAME_BAD_LENGTH: return frame_fatal(x, m, len, 400, "Bad Content-Length");
	case SIP_FRAME_TOO_LARGE: return frame_fatal(x, m, len, 513, sip_reason_default(513));
	case SIP_FRAME_GARBAGE: return frame_garbage(x, "not SIP");
	case SIP_FRAME_INCOMPLETE: break;
	}
	return true;
}

/* --- the start of a message --- */

static void rest_drop(struct conn *c)
{
	free(c->in);
	c->in = NULL;
	c->in_len = c->in_cap = 0;
}

/* Adds bytes to what is kept. At most `max` in all: the caller sees to that. */
static bool rest_add(struct frames *x, const char *p, size_t len)
{
	struct conn *c = x->c;
	size_t need = c->in_len + len;

	if (!c->in || need > c->in_cap) {
		size_t cap = c->in_cap ? c->in_cap : FRAME_ROOM;
		while (cap < need)
			cap *= 2;
		if (cap > x->max)
			cap = x->max;
		char *in = realloc(c->in, cap);
		if (!in) {
			count(CNT_DROP_NO_MEMORY);
			conn_close(c, CONN_LIMIT);
			return false;
		}
		c->in = in;
		c->in_cap = (uint32_t)cap;
	}
	memcpy(c->in + c->in_len, p, len);
	c->in_len = (uint32_t)need;
	return true;
}

/* Bytes that go on with the message in c->in. *taken: how many of them. False: the connection has been closed. */
static bool rest_go_on(struct frames *x, const char *p, size_t len, size_t *taken)
{
	struct conn *c = x->c;
	size_t at = 0;

	while (at < len && c->in && !c->linger) {
		if (c->in_len >= x->max) /* of an earlier process, which allowed more */
			return frame_garbage(x, "too large");
		size_t room = x->max - c->in_len, n = len - at;
		if (n > FRAME_PIECE)
			n = FRAME_PIECE;
		if (n > room)
			n = room;
		if (!rest_add(x, p + at, n))
			return false;
		at += n;
		enum sip_frame_kind k = sip_frame_next(c->in, c->in_len, x->max, &c->frame);
		if (k == SIP_FRAME_INCOMPLETE)
			continue;
		/* Without the last piece it was incomplete: what is too much is of that piece. */
		if (k != SIP_FRAME_GARBAGE)
			at -= c->in_len - c->frame.used;
		bool alive = frame_handle(x, k, c->in, &c->frame);
		rest_drop(c);
		if (!alive)
			return false;
	}
	*taken = at;
	return true;
}

/* The start of a message, or of a ping. */
static bool rest_keep(struct frames *x, const char *p, size_t len, const struct sip_frame *f)
{
	struct conn *c = x->c;

	if (len && p[0] == '\r') {
		if (c->pinged && len >= 2) {
			count(CNT_PONG_IN);
			c->pinged = 0;
			len -= 2;
		}
		c->half_ping = (uint8_t)len;
		return true;
	}
	if (!len)
		return true;
	if (!rest_add(x, p, len))
		return false;
	c->frame = *f;
	c->in_since = stream_now(x->a);
	stream_timer_set(x->a, c);
	return true;
}

/* --- all that was read --- */

static bool frames_run(struct frames *x, char *p, size_t len)
{
	static const char ping[] = "\r\n\r\n";
	struct conn *c = x->c;
	struct sip_frame f = {0};
	size_t taken = 0;

	if (!rest_go_on(x, p, len, &taken))
		return false;
	p += taken;
	len -= taken;
	if (c->half_ping) {
		p -= c->half_ping;
		len += c->half_ping;
		memcpy(p, ping, c->half_ping);
		c->half_ping = 0;
	}
	while (len && !c->in && !c->linger) {
		f.scan = f.total = 0;
		enum sip_frame_kind k = sip_frame_next(p, len, x->max, &f);
		if (k == SIP_FRAME_INCOMPLETE)
			return rest_keep(x, p, len, &f);
		if (!frame_handle(x, k, p, &f))
			return false;
		p += f.used;
		len -= f.used;
	}
	return true;
}

static void frames_pong(struct frames *x)
{
	static const char pong[2 * FRAME_PONGS + 1] =
		"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"
		"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
	unsigned n = x->pings < FRAME_PONGS ? x->pings : FRAME_PONGS;
	struct iovec v = {(void *)(uintptr_t)pong, 2 * (size_t)n};
	count_add(CNT_PONG_OUT, n);
	conn_send(x->c, &v, 1, stream_now(x->a));
}

bool stream_bytes(struct acceptor *a, struct conn *c, char *p, size_t len)
{
	struct frames x = {.a = a,
			   .c = c,
			   .origin = {.conn = c},
			   .flow = {.proto = c->proto,
				    .acceptor = (uint8_t)a->index,
				    .listener = c->listener,
				    .remote = c->remote,
				    .local = c->local,
				    .conn = c->id},
			   .received = clock_wall_ns(),
			   .max = c->profile->options.max_message};
	if (!x.max || x.max > SIP_MESSAGE_MAX)
		x.max = SIP_MESSAGE_MAX;
	if (!frames_run(&x, p, len))
		return false;
	if (x.pings)
		frames_pong(&x);
	return true;
}
