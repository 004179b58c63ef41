/* The inside of an acceptor, shared by acceptor.c, datagram.c, refuse.c and icmp.c. All of it runs on the acceptor's
 * thread unless a field says otherwise. */
#ifndef TRANSPORT_ACCEPTOR_P_H
#define TRANSPORT_ACCEPTOR_P_H

#include "transport/acceptor.h"
#include "transport/gather_p.h"
#include "transport/inflight.h"
#include "transport/pool_p.h"
#include "transport/thread.h"
#include "transport/udp_p.h"

#define ACCEPTOR_SLOTS 64 /* datagrams taken by one recvmmsg */
#define ACCEPTOR_STAGGER \
	576 /* bytes between two slots, so that their first lines fall into different cache sets */
#define ACCEPTOR_CONTROL 128 /* bytes: time stamp, overflow count, destination address */

/* Something that an acceptor's epoll watches. */
struct acceptor_source {
	const struct udp_socket *udp; /* const */
	struct addr bound;            /* const */
	uint32_t overflow;            /* acceptor: the socket's count of dropped datagrams, as last seen */
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
	unsigned index;                 /* const */
	const struct udp *udp;          /* const */
	struct acceptor_upper upper;    /* const */
	_Atomic uint32_t gather;        /* atomic: µs */
	_Atomic uint32_t retry_after;   /* atomic: s */
	_Atomic bool stopping;          /* atomic */
	int epoll;                      /* const */
	int event;                      /* const: eventfd, written to stop */
	struct acceptor_source *source; /* const pointer; the fields say themselves */
	unsigned sources;               /* const */
	/* The rest is the acceptor thread's. */
	nsec_t begun; /* monotonic: when the batch at hand was begun */
	struct gather rate;
	struct inflight inflight;
	struct pool pool;   /* packets; workers give back */
	nsec_t icmp_second; /* the second in which icmp_count were passed on */
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

/* refuse.c: answers `m` without a transaction. `extra`: header lines, each ended by CRLF. Counts what it sends. */
void refuse_send(struct acceptor *a, const struct acceptor_source *s, const struct sip_msg *m,
		 const struct flow *f, unsigned status, const char *reason, struct slice extra);

/* icmp.c: reads the error queue of a socket and passes on what concerns a request or response of ours. */
void icmp_read(struct acceptor *a, const struct acceptor_source *s);

#endif
