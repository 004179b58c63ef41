/* What a connection may be late with: one timer for all of it, set to the nearest deadline. Deadlines move away with
 * every byte that comes without the timer being touched: when it fires it looks, and is set anew. */
#include "transport/stream_p.h"

#define TIMER_COARSE 128 /* ms: regular looks at many connections are made together */

static msec_t earlier(msec_t a, msec_t b)
{
	return a < b ? a : b;
}

/* When bytes came last. */
static msec_t timer_heard(const struct conn *c)
{
	msec_t received = atomic_load_explicit(&c->received, memory_order_relaxed);
	return received ? received : c->opened;
}

static msec_t timer_idle(const struct conn *c)
{
	uint32_t ms = c->profile->options.idle_timeout;
	return ms ? timer_heard(c) + ms : UINT64_MAX;
}

static msec_t timer_message(const struct conn *c)
{
	uint32_t ms = c->profile->options.message_timeout;
	return c->in && ms ? c->in_since + ms : UINT64_MAX;
}

static msec_t timer_ping(const struct conn *c)
{
	uint32_t ms = c->profile->options.crlf_interval;
	msec_t heard = timer_heard(c);
	return ms ? (heard > c->pinged ? heard : c->pinged) + ms : UINT64_MAX;
}

static msec_t timer_next(const struct conn *c)
{
	if (c->linger)
		return c->linger;
	if (stream_is_silent(c))
		return c->opened + c->profile->options.handshake_timeout;
	return earlier(earlier(timer_idle(c), timer_message(c)), earlier(timer_ping(c), c->disarm));
}

void stream_timer_set(struct acceptor *a, struct conn *c)
{
	msec_t when = timer_next(c);
	if (when < UINT64_MAX && (!timer_is_set(&c->timer) || c->timer.when > when))
		timer_set(&a->wheel, &c->timer, when);
}

/* Often enough that TCP_USER_TIMEOUT is off before the kernel's first probe of an idle connection. The sending side
 * cannot set our timer, so a connection that has kernel keepalive is looked at all its life. */
static msec_t timer_disarm_next(const struct conn *c, msec_t now)
{
	msec_t half = c->profile->options.keepalive_idle / 2;
	if (!half)
		return UINT64_MAX; /* nothing is probed: TCP_USER_TIMEOUT does no harm */
	return (now + half) / TIMER_COARSE * TIMER_COARSE + TIMER_COARSE;
}

static void timer_disarm(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->armed && c->state == CONN_OPEN && !c->draining && !c->first && tcp_unacked(c->fd) == 0) {
		c->armed = false;
		if (c->profile->options.user_timeout)
			tcp_arm(c->fd, 0);
	}
	pthread_mutex_unlock(&c->lock);
}

/* RFC 5626 3.5.1. Whether the peer lives is for the kernel to say: here only the way there is kept open. */
static void timer_send_ping(struct conn *c, msec_t now)
{
	static const char ping[] = "\r\n\r\n";
	struct iovec v = {(void *)(uintptr_t)ping, sizeof(ping) - 1};
	count(CNT_PING_OUT);
	c->pinged = now;
	conn_send(c, &v, 1, now);
}

static void timer_end(struct acceptor *a, struct conn *c, enum conn_cause cause)
{
	conn_close(c, cause);
	stream_release(a, c);
}

static void timer_fire(struct timer *t, msec_t now)
{
	struct conn *c = container_of(t, struct conn, timer);
	struct acceptor *a = c->streams->port[c->acceptor].acceptor;

	if (timer_next(c) > now) {
		stream_timer_set(a, c);
	} else if (c->linger) {
		timer_end(a, c, CONN_PROTOCOL);
	} else if (stream_is_silent(c)) {
		count(CNT_TLS_TIMEOUT);
		timer_end(a, c, CONN_HANDSHAKE);
	} else if (timer_message(c) <= now) {
		timer_end(a, c, CONN_MESSAGE_TIMEOUT);
	} else if (timer_idle(c) <= now) {
		timer_end(a, c, CONN_IDLE);
	} else {
		if (timer_ping(c) <= now)
			timer_send_ping(c, now);
		if (c->disarm <= now) {
			timer_disarm(c);
			c->disarm = timer_disarm_next(c, now);
		}
		stream_timer_set(a, c);
	}
}

void stream_timer_init(struct acceptor *a, struct conn *c)
{
	timer_init(&c->timer, timer_fire);
	c->disarm = timer_disarm_next(c, stream_now(a));
	stream_timer_set(a, c);
}
