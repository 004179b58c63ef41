/* A connection in its acceptor: taken over, read, given up. */
#include "transport/stream_p.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "transport/tls_p.h"

#define STREAM_EVENTS    (EPOLLIN | EPOLLRDHUP)
#define STREAM_ENDING    (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define STREAM_HANDSHAKE 0x16 /* the first byte of a TLS connection: a handshake record */

_Static_assert(offsetof(struct conn, source) == 0, "what epoll points to is the start of what it is");
_Static_assert(offsetof(struct acceptor_source, source) == 0, "likewise");
_Static_assert(offsetof(struct acceptor_listen, source) == 0, "likewise");

/* --- owned by an acceptor --- */

void stream_own(struct acceptor *a, struct conn *c)
{
	c->own_next = a->own;
	if (c->own_next)
		c->own_next->own_prev = &c->own_next;
	c->own_prev = &a->own;
	a->own = c;
	stream_timer_init(a, c);
	if (acceptor_watch(a, c->fd, STREAM_EVENTS, &c->source) < 0) {
		conn_close(c, CONN_LIMIT);
		stream_release(a, c);
		return;
	}
	c->watched = true;
}

/* Out of everything that the acceptor has, but for the list of those pending: that has a reference of its own. */
static void stream_disown(struct acceptor *a, struct conn *c)
{
	if (c->watched)
		epoll_ctl(a->epoll, EPOLL_CTL_DEL, c->fd, NULL);
	c->watched = false;
	timer_stop(&a->wheel, &c->timer);
	*c->own_prev = c->own_next;
	if (c->own_next)
		c->own_next->own_prev = c->own_prev;
	c->own_next = NULL;
	c->own_prev = NULL;
}

void stream_release(struct acceptor *a, struct conn *c)
{
	stream_disown(a, c);
	conn_put(c);
}

static void stream_close(struct acceptor *a, struct conn *c, enum conn_cause cause)
{
	conn_close(c, cause);
	stream_release(a, c);
}

/* --- from other threads --- */

void stream_adopt(struct conn *c)
{
	struct stream_port *p = &c->streams->port[c->acceptor];
	struct conn *head = atomic_load_explicit(&p->inbox, memory_order_relaxed);
	do
		c->next_adopted = head;
	while (!atomic_compare_exchange_weak_explicit(&p->inbox, &head, c, memory_order_release,
						      memory_order_relaxed));
	/* Who finds it empty wakes the acceptor, for all who come before it looks. */
	if (!head && p->event >= 0)
		eventfd_write(p->event, 1);
}

static void stream_defer(struct acceptor *a, struct conn *c)
{
	if (c->pending)
		return;
	c->pending = true;
	c->next_adopted = a->pending;
	a->pending = conn_ref(c);
}

void stream_take_adopted(struct acceptor *a)
{
	struct conn *c =
		atomic_exchange_explicit(&a->streams->port[a->index].inbox, NULL, memory_order_acquire);
	while (c) {
		struct conn *next = c->next_adopted;
		conn_ref(c);
		stream_own(a, c);
		/* What came right behind the handshake may be inside of the session, where epoll does not see it. */
		if (c->tls && c->own_prev)
			stream_defer(a, c);
		conn_put(c);
		c = next;
	}
}

/* --- reading --- */

static ssize_t stream_recv(struct conn *c, char *p, size_t len)
{
	if (c->tls)
		return tls_recv(c->tls, p, len);
	ssize_t n = recv(c->fd, p, len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static bool stream_is_again(ssize_t n)
{
	return n == -EAGAIN || n == -EINTR;
}

/* True if who sends has found out that the socket is dead, or is about to, and knows the reason: an error is told
 * once. */
static bool stream_sender_knows(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	bool knows = c->state != CONN_CLOSED && c->draining;
	pthread_mutex_unlock(&c->lock);
	return knows;
}

/* Nothing more comes: n is 0, or -errno. */
static void stream_ended(struct acceptor *a, struct conn *c, ssize_t n, uint32_t events)
{
	if ((events & EPOLLHUP) && n == 0 && stream_sender_knows(c))
		return; /* and epoll reports it again until it has been closed */
	if (c->linger)
		conn_close(c, CONN_PROTOCOL);
	else if (n < 0)
		conn_fail(c, (int)-n);
	else
		conn_close(c, CONN_PEER);
	stream_release(a, c);
}

/* Reads what is there, STREAM_READ bytes at most. */
static void stream_read(struct acceptor *a, struct conn *c, uint32_t events)
{
	char *p = a->scratch + STREAM_ROOM;
	size_t budget = STREAM_READ;

	while (budget) {
		ssize_t n = stream_recv(c, p, budget);
		if (stream_is_again(n))
			return;
		if (n <= 0) {
			stream_ended(a, c, n, events);
			return;
		}
		count(CNT_CONN_READ_CALLS);
		atomic_store_explicit(&c->received, stream_now(a), memory_order_relaxed);
		if (!c->linger && !stream_bytes(a, c, p, (size_t)n)) {
			stream_release(a, c);
			return;
		}
		/* A socket that gave less than asked for is empty. */
		if (!c->tls && (size_t)n < budget && !(events & STREAM_ENDING))
			return;
		budget -= (size_t)n;
	}
	if (c->tls)
		stream_defer(a, c);
}

void stream_read_pending(struct acceptor *a)
{
	struct conn *c = a->pending;
	a->pending = NULL;
	while (c) {
		struct conn *next = c->next_adopted;
		c->pending = false;
		if (c->own_prev)
			stream_read(a, c, 0);
		conn_put(c);
		c = next;
	}
}

/* The first byte tells whether it is TLS at all; what follows is its writer's, so that silence costs no thread. */
static void stream_first(struct acceptor *a, struct conn *c)
{
	unsigned char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	if (n < 0 && stream_is_again(-errno))
		return;
	if (n <= 0) {
		stream_close(a, c, n < 0 ? CONN_RESET : CONN_PEER);
	} else if (byte != STREAM_HANDSHAKE) {
		count(CNT_TLS_NOT_TLS);
		stream_close(a, c, CONN_HANDSHAKE);
	} else {
		stream_disown(a, c);
		writer_handshake(c);
		conn_put(c);
	}
}

void stream_event(struct acceptor *a, struct conn *c, uint32_t events)
{
	if (stream_is_silent(c))
		stream_first(a, c);
	else if (!c->pending) /* its turn comes after this batch */
		stream_read(a, c, events);
}

/* --- life of the acceptor's side --- */

int stream_init(struct acceptor *a)
{
	struct stream_port *p = &a->streams->port[a->index];
	a->scratch = malloc(STREAM_ROOM + STREAM_READ);
	if (!a->scratch)
		return -ENOMEM;
	p->acceptor = a;
	p->event = a->event;
	return stream_listen_init(a);
}

void stream_deinit(struct acceptor *a)
{
	struct conn *c;
	if (a->streams)
		a->streams->port[a->index].event = -1;
	while (a->pending) {
		c = a->pending;
		a->pending = c->next_adopted;
		conn_put(c);
	}
	while (a->own)
		stream_release(a, a->own);
	free(a->listen);
	free(a->scratch);
}
