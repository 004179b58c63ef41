/* The acceptor's side of connections, shared by stream.c (life, reading), stream_accept.c, stream_frame.c and
 * stream_timer.c. All of it runs on the thread of the acceptor that reads the connection, stream_init and stream_deinit
 * on main. */
#ifndef TRANSPORT_STREAM_P_H
#define TRANSPORT_STREAM_P_H

#include "transport/acceptor_p.h"
#include "transport/conn_p.h"

#define STREAM_READ 65536 /* bytes read from one connection before others have their turn */
#define STREAM_ROOM 4     /* bytes before them, for half a ping that came earlier */

/* --- stream.c --- */
int stream_init(struct acceptor *a);    /* watches the listening sockets; 0 or -errno */
void stream_deinit(struct acceptor *a); /* puts all connections */
/* Reads `c` from now on. Takes over a reference, also on failure, which closes it. */
void stream_own(struct acceptor *a, struct conn *c);
/* Reads it no more, and puts its reference: the caller does not touch it afterwards. It has been closed, or passes to
 * its writer. */
void stream_release(struct acceptor *a, struct conn *c);
void stream_event(struct acceptor *a, struct conn *c, uint32_t events); /* of epoll; may release it */
void stream_take_adopted(struct acceptor *a);                           /* what the inbox holds */
void stream_read_pending(struct acceptor *a);

/* --- stream_accept.c --- */
int stream_listen_init(struct acceptor *a);                        /* 0 or -errno */
void stream_accept(struct acceptor *a, struct acceptor_listen *l); /* some of those that wait */

/* --- stream_frame.c --- */
/* Takes `len` bytes, before which STREAM_ROOM more may be written, apart into messages, and handles them. False: the
 * connection has been closed. */
bool stream_bytes(struct acceptor *a, struct conn *c, char *p, size_t len);

/* --- stream_timer.c: one timer for all that a connection may be late with --- */
void stream_timer_init(struct acceptor *a, struct conn *c);
/* After a deadline may have come nearer. */
void stream_timer_set(struct acceptor *a, struct conn *c);

static inline msec_t stream_now(const struct acceptor *a)
{
	return a->begun / 1000000u;
}

/* Accepted for TLS, and its first byte has not come. */
static inline bool stream_is_silent(const struct conn *c)
{
	return c->proto == FLOW_TLS && !c->tls;
}

#endif
