/* The inside of an acceptor, shared by acceptor.c, datagram.c, intake.c, refuse.c, icmp.c and stream*.c. All of it runs
 * on the acceptor's thread unless a field says otherwise. */
#ifndef TRANSPORT_ACCEPTOR_P_H
#define TRANSPORT_ACCEPTOR_P_H

#include "base/counters.h"
#include "base/wheel.h"
#include "transport/acceptor.h"
#include "transport/conn.h"
#include "transport/gather_p.h"
#include "transport/inflight.h"
#include "transport/pool_p.h"
#include "transport/source_p.h"
#include "transport/thread.h"
#include "transport/udp_p.h"

#define ACCEPTOR_SLOTS 64 /* datagrams taken by one recvmmsg */
#define ACCEPTOR_STAGGER \
	576 /* bytes between two slots, so that their first lines fall into different cache sets */
#define ACCEPTOR_CONTROL 128 /* bytes: time stamp, overflow count, destination address */

/* A UDP socket that the acceptor reads. */
struct acceptor_source {
	struct source source;         /* const: SOURCE_UDP; the first member */
	const struct udp_socket *udp; /* const */
	struct addr bound;            /* const */
	uint32_t overflow;            /* acceptor: the socket's count of dropped datagrams, as last seen */
};

/* A listening socket. */
struct acceptor_listen {
	struct source source; /* const: SOURCE_LISTEN; the first member */
	uint16_t listener;    /* const */
	int fd;               /* const */
	bool paused;          /* acceptor: its events are off */
};

/* One received datagram, before it is known what it is. */
struct datagram {
	struct slice bytes;
	struct addr remote;
	struct addr local; /* where it was sent to */
	nsec_t received;   /* wall clock */
	bool truncated;
};

struct acceptor {
	struct thread thread;
	unsigned index;               /* const */
	const struct udp *udp;        /* const */
	struct acceptor_upper upper;  /* const */
	_Atomic uint32_t gather;      /* atomic: µs */
	_Atomic uint32_t retry_after; /* atomic: s */
	_Atomic bool stopping;        /* atomic */
	int epoll;                    /* const */
	int event;          /* const: eventfd, written to stop, and for connections to be taken over */
	struct source wake; /* const: SOURCE_EVENT: what `event` is in epoll */
	struct acceptor_source *source; /* const pointer; the fields say themselves */
	unsigned sources;               /* const */
	struct streams *streams;        /* const; NULL: UDP only, and all fields of connections are empty */
	struct acceptor_listen *listen; /* const pointer; the fields say themselves */
	unsigned listens;               /* const */
	/* The rest is the acceptor thread's. */
	nsec_t begun; /* monotonic: when the batch at hand was begun */
	struct gather rate;
	struct inflight inflight;
	struct wheel wheel;   /* timers of connections */
	struct conn *own;     /* all connections that are read here, by own_next; a reference each */
	struct conn *pending; /* those with bytes left inside of their TLS session; a reference each */
	struct timer resume;  /* accepting goes on */
	msec_t pause_logged;  /* when a pause was logged last; 0: never */
	unsigned sweeps;      /* since epoll was asked last */
	unsigned got;         /* messages of connections, in the batch at hand */
	char *scratch;        /* const pointer: what a connection is read into (stream_p.h); NULL: UDP only */
	struct pool pool;     /* packets; workers give back */
	nsec_t icmp_second;   /* the second in which icmp_count were passed on */
	unsigned icmp_count;
	uint32_t slot_size; /* const: bytes */
	char *slots;        /* const pointer: ACCEPTOR_SLOTS of slot_size, ACCEPTOR_STAGGER apart */
	struct mmsghdr header[ACCEPTOR_SLOTS];
	struct iovec iov[ACCEPTOR_SLOTS];
	struct sockaddr_in6 name[ACCEPTOR_SLOTS]; /* room for both families */
	union {
		struct cmsghdr align;
		char bytes[ACCEPTOR_CONTROL];
	} control[ACCEPTOR_SLOTS];
	struct sip_msg_room room;    /* the message being parsed */
	char reply[SIP_MESSAGE_MAX]; /* an answer of our own being built */
};

/* datagram.c: everything that follows from one datagram. */
void datagram_receive(struct acceptor *a, const struct acceptor_source *s, const struct datagram *d);

/* Where a message came in: one of both. */
struct origin {
	const struct acceptor_source *udp;
	struct conn *conn;
};

/* intake.c: what becomes of the message in a->room. */
void intake_drop(enum counter_id why, const char *what, const struct addr *from);
/* One with an error: answered, if it can be (then true), else dropped and counted. */
bool intake_malformed(struct acceptor *a, const struct origin *o, const struct flow *f);
/* `key`: for the in-flight filter; 0: not to be entered. */
void intake_deliver(struct acceptor *a, const struct origin *o, const struct flow *f, nsec_t received,
		    uint64_t key);

/* refuse.c: answers `m` without a transaction. `extra`: header lines, each ended by CRLF. Counts what it sends. */
void refuse_send(struct acceptor *a, const struct origin *o, const struct sip_msg *m, const struct flow *f,
		 unsigned status, const char *reason, struct slice extra);
/* Out of a socket, `from` the local address that the datagram came in at; does not block. 0 or -errno. */
int refuse_datagram(const struct acceptor_source *s, const struct addr *to, const struct addr *from,
		    struct slice bytes);

/* acceptor.c: from now on the acceptor's epoll reports `events` of fd with `ptr`. 0 or -errno. */
int acceptor_watch(struct acceptor *a, int fd, uint32_t events, struct source *ptr);

/* icmp.c: reads the error queue of a socket and passes on what concerns a request or response of ours. */
void icmp_read(struct acceptor *a, const struct acceptor_source *s);

#endif
