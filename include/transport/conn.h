/* Connections: TCP and TLS, accepted or opened by us. A connection has an acceptor, which alone reads it, and a sending
 * side that any thread uses through conn_send and that nobody but the connection's own writer thread ever waits for.
 *
 * The sending side: conn_send puts the bytes behind what is queued; whoever finds nobody at it takes the *drain token*
 * and writes without blocking. When that cannot go on (the connection is not open yet, the kernel takes no more), the
 * token passes to a writer thread of this connection, which waits with a deadline and ends when the queue is empty. The
 * token's holder alone touches the sending side of the socket and of the TLS session. */
#ifndef TRANSPORT_CONN_H
#define TRANSPORT_CONN_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/flow.h"
#include "base/mailbox.h"
#include "config/config.h"

enum conn_state {
	CONN_CONNECTING,  /* made; the first bytes to send make its writer connect */
	CONN_HANDSHAKING, /* TLS */
	CONN_OPEN,
	CONN_CLOSED, /* no bytes pass any more; it lives until its last reference is put */
	CONN_STATES
};

/* Why a connection ended: the rows of C_CLOSED in counters.def, in their order. */
enum conn_cause {
	CONN_PEER,            /* it closed */
	CONN_RESET,           /* RST, or another error of the socket */
	CONN_REFUSED,         /* it could not be opened: refused, no route */
	CONN_CONNECT_TIMEOUT, /* … within connect_timeout */
	CONN_HANDSHAKE,       /* TLS: failed, or not done within handshake_timeout */
	CONN_KEEPALIVE,       /* the kernel's probes of an idle connection were not answered */
	CONN_USER_TIMEOUT,    /* sent bytes were not acknowledged within user_timeout */
	CONN_WRITE_TIMEOUT,   /* nothing of the queue could be written within write_timeout */
	CONN_QUEUE_LIMIT,
	CONN_MESSAGE_TIMEOUT,
	CONN_IDLE,
	CONN_PROTOCOL,     /* what came was not SIP, or a message that cannot be framed */
	CONN_LIMIT,        /* no memory, no descriptor, no writer thread */
	CONN_UNRESPONSIVE, /* a keepalive of ours (OPTIONS, CRLF) was not answered */
	CONN_ADMIN,        /* holdfastctl close */
	CONN_RELOAD,       /* its listener is no more */
	CONN_SHUTDOWN,
	CONN_CAUSES
};

struct conn;
struct streams;

/* "A connection is gone", to each worker that watches it, exactly once. The worker frees it with free(). */
struct conn_lost {
	struct mailbox_item item; /* kind as given to conn_watch */
	uint64_t conn;
	enum conn_cause cause;
};

/* Main. Opens the listening sockets of the configuration's TCP and TLS listeners, one an acceptor each, and loads the certificates. 0, or
 * -errno with one line in err ("listen tls:0.0.0.0:5061: certificate cert.pem: ..."). */
int streams_open(const struct config *c, struct streams **out, char *err, size_t errlen);
/* Main. Loads the certificates of the configuration and forgets them: 0, or -EINVAL with a line in err. */
int streams_check(const struct config *c, char *err, size_t errlen);
/* Main, when acceptors and workers have ended: closes every connection and waits for the writer threads, which then end
 * within milliseconds. */
void streams_stop(struct streams *s);
/* Main, when the acceptors are destroyed: they hold references. NULL does nothing. */
void streams_close(struct streams *s);
/* Main. Loads certificates and options of `c` for connections to come; those that exist keep what they have. Listeners
 * are matched by index and must be the same as at start. 0, or -EINVAL with a line in err and nothing changed. */
int streams_reconfigure(struct streams *s, const struct config *c, char *err, size_t errlen);

/* Any thread. The address that a listener of ours is bound to, its real port where 0 was asked for; family 0: not TCP
 * or TLS. */
const struct addr *streams_bound(const struct streams *s, unsigned listener);

/* A hop that a request is to go to. */
struct conn_hop {
	enum flow_proto proto; /* FLOW_TCP or FLOW_TLS */
	uint16_t listener;     /* of that kind: its address is bound to, its options and certificate are used */
	struct addr remote;
	/* TLS: what the peer's certificate must be good for (RFC 5922); a host name or IP address, at most 255 bytes;
	 * copied. Ignored for TCP */
	struct slice name;
};

/* Any thread. The number of a connection to the hop: one that exists (the same transport, address, port, and name), or
 * a new one that connects when the first bytes are sent. Makes no system call. 0, or -ENOBUFS (max_connections),
 * -ENOMEM, -EPROTONOSUPPORT (no such listener), -EINVAL. */
int streams_connect(struct streams *s, const struct conn_hop *hop, uint64_t *conn);

/* Any thread. Makes an accepted connection the one that requests to its address at `port` (and for TLS to `name`, which
 * its verified certificate must be good for) go over (RFC 5923). A connection that is there already is left. */
void conn_alias(struct conn *c, uint16_t port, struct slice name);

/* Any thread. The connection of that number, with a reference that conn_put gives back; NULL: it is gone, or closed. */
struct conn *streams_get(struct streams *s, uint64_t conn);
void conn_put(struct conn *c);

/* Any thread; never blocks. Sends the bytes (copied if they must wait) in the order of the calls. `now`: clock_mono_ms,
 * or the time of the batch: from when ack_timeout counts. What cannot be sent any more is dropped: watchers hear of it
 * by conn_lost. */
void conn_send(struct conn *c, const struct iovec *v, unsigned n, msec_t now);

/* Any thread. True if the peer's kernel has acknowledged all that was given to conn_send at or before `since` (as `now`
 * there). */
bool conn_acked(struct conn *c, msec_t since);

/* Worker. From now on `to` gets a struct conn_lost of `kind` when the connection ends; at once if it has. A second
 * watch by the same mailbox does nothing. 0, -ENOMEM. */
int conn_watch(struct conn *c, struct mailbox *to, unsigned kind);

/* Any thread. Ends it: what is queued is dropped, its watchers are told. The first cause stands. */
void conn_close(struct conn *c, enum conn_cause cause);

/* Any thread. */
uint64_t conn_id(const struct conn *c);
enum flow_proto conn_proto(const struct conn *c);
bool conn_inbound(const struct conn *c);
uint32_t conn_ack_timeout(const struct conn *c); /* ms; 0: none */
const struct addr *conn_remote(const struct conn *c);

/* Any thread: for holdfastctl. Calls `fn` for each connection, with no lock held; fn may close it. */
struct conn_info {
	uint64_t id;
	enum flow_proto proto;
	uint16_t listener;
	bool inbound;
	enum conn_state state;
	struct addr remote, local;
	size_t queued;   /* bytes */
	msec_t opened;   /* clock_mono_ms */
	msec_t received; /* likewise: when bytes came last; 0: never */
};
void streams_each(struct streams *s, void (*fn)(void *ctx, struct conn *c, const struct conn_info *i),
		  void *ctx);

const char *conn_state_name(enum conn_state s); /* "connecting" … */
const char *conn_cause_name(enum conn_cause c); /* as in the metric's label */

#endif
