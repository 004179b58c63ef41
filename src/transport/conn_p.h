/* The inside of connections, shared by conn.c (life), conn_table.c (finding them, limits), conn_send.c (the sending
 * side), writer.c (its thread), marks.c (what was acknowledged), tcp.c (sockets), tls*.c, and stream*.c (the acceptor's
 * side). */
#ifndef TRANSPORT_CONN_P_H
#define TRANSPORT_CONN_P_H

#include <pthread.h>

#include "base/wheel.h"
#include "sip/frame.h"
#include "transport/conn.h"
#include "transport/source_p.h"

#define CONN_SHARDS    64 /* of each table: a power of 2 */
#define CONN_MARKS     8
#define CONN_WRITE_IOV 64           /* messages given to one writev */
#define CONN_STACK     (128 * 1024) /* bytes, of a writer thread */
#define CONN_LINGER \
	1000 /* ms: how long a connection that we end is read on, so that our last answer is not reset away */

struct acceptor;
struct conn_source_count;
struct tls_context;
struct tls_session;
struct tls_tickets;

/* What a listener's connections go by, as of one load of the configuration: connections keep the one they began
 * with. */
struct conn_profile {
	_Atomic unsigned refs;        /* atomic */
	struct config_stream options; /* const */
	struct tls_context *tls;      /* const: certificates; NULL: TCP */
};
struct conn_profile *conn_profile_ref(struct conn_profile *p);
void conn_profile_put(struct conn_profile *p);

/* Bytes waiting. */
struct conn_message {
	struct conn_message *next;
	msec_t when; /* as given to conn_send */
	size_t len, sent;
	char bytes[];
};

/* "What was given to conn_send from `when` on ends at `raw`." */
struct conn_mark {
	msec_t when;
	uint64_t raw; /* bytes given to the kernel up to there */
};

struct conn_watch {
	struct conn_watch *next;
	struct mailbox *to;
	struct conn_lost *lost; /* made beforehand, so that the news cannot fail */
};

/* How a connection is found by its peer. */
struct conn_peer {
	struct conn_peer *next; /* in the shard */
	struct conn *conn;      /* const */
	uint64_t hash;
	struct addr addr;
	bool listed;
};

struct conn {
	struct source source;    /* const: SOURCE_CONN; the first member */
	_Atomic unsigned refs;   /* atomic: table 1, acceptor 1 while it reads, writer 1, and every conn_get */
	uint64_t id;             /* const */
	struct streams *streams; /* const */
	struct conn_profile *profile; /* const, a reference */
	struct addr remote;           /* const */
	uint16_t listener;            /* const */
	uint8_t proto;                /* const: enum flow_proto */
	bool inbound;                 /* const */
	uint8_t acceptor;             /* const: who reads it */
	char *name;                   /* const: TLS outbound: what it is verified for; else NULL */
	msec_t opened;                /* const */

	struct conn *chain;           /* by number; the shard's lock */
	struct conn_peer peer, alias; /* the shard's lock */

	pthread_mutex_t lock; /* never held over a system call that can wait */
	/* under `lock` */
	struct addr local; /* family 0: not connected yet */
	int fd;            /* -1: none yet; then const until the last reference is put */
	uint8_t state;     /* enum conn_state; read without the lock only as a hint */
	uint8_t cause;     /* enum conn_cause, when CONN_CLOSED */
	bool draining;     /* somebody holds the drain token */
	bool finishing;    /* to be shut down for writing when the queue is empty */
	bool armed;        /* TCP_USER_TIMEOUT is set (tcp_arm) */
	bool counted;      /* in the limits' counts */
	struct conn_message *first, *last;
	size_t queued; /* bytes, of the queue and of what the token's holder has taken out of it */
	struct conn_watch *watches;
	struct conn_mark mark[CONN_MARKS];
	uint8_t mark_next, mark_count;
	uint64_t raw;   /* bytes given to the kernel, as of the last look at `written` */
	uint64_t acked; /* what tcp_acked says when nothing of ours is acknowledged yet */

	/* the token's holder */
	/* atomic: bytes given to the kernel; TLS may answer a key update while it receives */
	_Atomic uint64_t written;

	bool guest; /* the token's holder: its writer is one of streams.guests */
	/* TLS: made before the handshake; the token's holder sends, the acceptor receives (GnuTLS allows one of
	 * each) */
	struct tls_session *tls;

	/* the acceptor's */
	struct timer timer;
	struct sip_frame frame;
	char *in; /* a message that is not whole yet; NULL: none */
	uint32_t in_len, in_cap;
	msec_t in_since; /* when its first byte came */
	msec_t disarm;   /* when to look whether TCP_USER_TIMEOUT can be taken off; UINT64_MAX: not */
	msec_t linger;   /* discards until then; 0: reads */
	struct conn *own_next, **own_prev; /* all that this acceptor reads; own_prev NULL: it does not */
	bool watched;                      /* in the acceptor's epoll */
	bool pending;      /* in the acceptor's list of those with bytes left inside of the TLS session */
	uint8_t half_ping; /* bytes of a CRLFCRLF that came at the end of what was there; only while `in` is NULL */
	msec_t pinged;     /* when a ping of ours went out that has not been answered; 0: none */
	_Atomic msec_t received;   /* acceptor writes, any reads */
	struct conn *next_adopted; /* in the acceptor's inbox; then, with `pending`, in that list */
};

/* One listener. */
struct stream_listener {
	uint8_t proto;     /* const; FLOW_UDP: not ours, the rest is empty */
	struct addr bound; /* const */
	int *fd;           /* const: [acceptors], listening, non-blocking */
	pthread_mutex_t lock;
	struct conn_profile *profile; /* under lock: the newest */
	_Atomic unsigned count;       /* atomic: connections, both directions */
};

/* What the acceptors take over from other threads: connections that have been opened by a writer thread. */
struct stream_port {
	struct acceptor *acceptor; /* const once it is made */
	/* atomic: a stack, by next_adopted; each with a reference that becomes the acceptor's */
	_Atomic(struct conn *) inbox;
	int event; /* const once the acceptor is made: its eventfd; -1: none */
};

struct conn_shard {
	pthread_mutex_t lock;
	struct conn **bucket;              /* by number */
	struct conn_peer **peer;           /* by peer */
	struct conn_source_count **source; /* by address: how many, for max_connections_per_address */
	unsigned buckets, count, peers, sources;
};

struct streams {
	unsigned listeners;               /* const */
	unsigned acceptors;               /* const */
	struct stream_listener *listener; /* const pointer: [listeners] */
	struct stream_port *port;         /* const pointer: [acceptors] */
	/* atomic; begins with the wall clock, so that no number comes twice over restarts */
	_Atomic uint64_t next_id;
	_Atomic unsigned next_acceptor; /* atomic: for connections that we open */
	_Atomic unsigned writers_max;   /* atomic */
	_Atomic bool closing;           /* atomic: no new connections */
	_Atomic bool leaving; /* atomic: writers leave their connections as they are: another process goes on */
	struct conn_shard shard[CONN_SHARDS];
	/* const pointer: the key of our session tickets, sessions to resume; NULL: no TLS */
	struct tls_tickets *tickets;
	pthread_mutex_t writers_lock;
	pthread_cond_t writers_none;  /* neither writers nor parked threads are left */
	unsigned writers;             /* under writers_lock, as what follows: connections that have one */
	unsigned guests;              /* those of them that shake hands with who has connected to us */
	struct writer_parked *parked; /* threads that wait for a connection */
	unsigned parked_count;
	bool ending; /* they wait no more */
	int leave;   /* const: eventfd: `leaving` has become true; wakes all writers */
};

/* --- conn.c --- */
struct conn *conn_ref(struct conn *c);
/* Acceptor. An accepted socket, which becomes the connection's (also on failure). `acceptor` reads it. The caller gets a reference. 0,
 * -ENOBUFS (a limit: counted here), -ENOMEM. */
int conn_create_inbound(struct streams *s, unsigned listener, unsigned acceptor, int fd,
			const struct addr *remote, const struct addr *local, struct conn **out);
/* Main. A connection of an earlier process, open, under its number; with a reference. NULL: no memory. Its descriptor
 * is then the connection's. */
struct inherited_conn;
struct conn *conn_inherit(struct streams *s, unsigned listener, const struct inherited_conn *e);
/* Any thread. The socket failed with `error` (positive errno): closes with the cause that it stands for. */
void conn_fail(struct conn *c, int error);
/* Any thread. Our last word has been given to conn_send: the connection is shut down for writing when it is out. */
void conn_finish(struct conn *c);
/* Whoever opened it (writer, acceptor): counts the new state. */
void conn_set_state(struct conn *c, enum conn_state state); /* lock held */

/* --- conn_table.c: every function locks its shard for itself; of other locks only a connection's may be held --- */
int conn_table_init(struct streams *s);
void conn_table_deinit(struct streams *s);
void conn_table_add(struct streams *s, struct conn *c); /* by number; takes a reference */
/* from all tables, if it is there; puts their reference: the caller has one */
void conn_table_remove(struct streams *s, struct conn *c);
void conn_table_unlist(struct streams *s, struct conn *c); /* it is not found by its peer any more */
/* The connection to the peer, with a reference; or `fresh`, which is in the table by number, entered there; or NULL:
 * none, and no fresh. */
struct conn *conn_table_peer(struct streams *s, enum flow_proto proto, const struct addr *addr,
			     struct slice name, struct conn *fresh);
/* Counts a connection against max_connections and max_connections_per_address; false: refused, counted by reason. */
bool conn_table_admit(struct streams *s, unsigned listener, const struct config_stream *o,
		      const struct addr *remote, bool inbound);
void conn_table_leave(struct streams *s, unsigned listener, const struct addr *remote, bool inbound);
/* its lock held: it is not closed. Unless the peer or the alias is taken */
void conn_table_alias(struct streams *s, struct conn *c, const struct addr *addr);
struct conn *conn_table_get(struct streams *s, uint64_t id); /* with a reference */

/* --- conn_send.c --- */
/* Holder of the token: writes what is queued, without blocking. 0: the queue is empty and the token given back;
 * -EAGAIN: the kernel (or TLS) takes no more, the token is still the caller's; -EPIPE: closed, the token is given
 * back. */
int conn_drain(struct conn *c);
/* Lock held, the token free or the caller's, the queue empty: nothing more is sent. */
void conn_shut(struct conn *c);
/* Lock held: frees the queue. */
void conn_drop_queue(struct conn *c);

/* --- writer.c --- */
/* Holder of the token, which passes to the thread: connects, shakes hands, drains, whatever the state asks for. -errno:
 * no thread; the connection has been closed. */
int writer_start(struct conn *c);
void writers_wait(struct streams *s); /* main: until no writer and none of their threads is left */
/* Acceptor: the first bytes of an accepted TLS connection are there. Takes the token. The acceptor has taken it out of
 * its epoll and given up its reference; it gets the connection back by its inbox. */
void writer_handshake(struct conn *c);

/* --- marks.c: under the connection's lock --- */
/* all given at `when` or before is within `raw` bytes */
void marks_note(struct conn *c, msec_t when, uint64_t raw);
/* True if all given at or before `since` is within `acked` bytes. */
bool marks_acked(const struct conn *c, msec_t since, uint64_t acked);

/* --- tcp.c --- */
/* Those of n sockets that are -1; bound->port is set. */
int tcp_listen(const struct config_listen *l, struct addr *bound, int *fd, unsigned n);
/* A new socket to remote from the listener's address; connecting has begun. fd or -errno. */
int tcp_connect(const struct addr *bound, const struct config_stream *o, const struct addr *remote);
int tcp_options(int fd, const struct config_stream *o); /* keepalive, no delay; 0 or -errno */
/* TCP_USER_TIMEOUT makes the kernel ignore TCP_KEEPCNT (a single lost probe would end an idle connection): so it is set
 * only while bytes are under way. */
void tcp_arm(int fd, uint32_t ms); /* 0: off */
/* Bytes that the peer has not acknowledged, those not sent yet included; -errno. */
long tcp_unacked(int fd);
/* Bytes that the peer has acknowledged since the connection exists, and perhaps the SYN: what it says before anything
 * was sent is to be subtracted. */
uint64_t tcp_acked(int fd);

/* --- stream.c: the acceptor's side --- */
/* Any thread: `c`, open, is to be read from now on by its acceptor. Takes over a reference. */
void stream_adopt(struct conn *c);

#endif
