/* Sending on a UDP socket: shared by the outbox and the acceptor's own answers. */
#ifndef TRANSPORT_UDP_P_H
#define TRANSPORT_UDP_P_H

#include "base/flow.h"
#include "transport/udp.h"

/* What one outgoing datagram's msghdr points to. */
struct udp_header {
	struct sockaddr_storage to;
	struct iovec iov;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control;
};

/* Any thread. Fills *h, pointing into *uh and to the bytes: to `remote`, and from `local` where it is set and the
 * socket is bound to no address of its own. 0, or -EAFNOSUPPORT: the socket cannot reach such an address. */
int udp_header_fill(struct udp_header *uh, struct msghdr *h, const struct udp_socket *s,
		    const struct addr *remote, const struct addr *local, struct slice bytes);

/* Any thread. What a failed send's errno means. */
enum udp_verdict {
	UDP_AGAIN,  /* worth another try: the kernel lacks room, or reported the error of an earlier datagram */
	UDP_FULL,   /* no room after all tries: the datagram is lost like any other */
	UDP_FAILED, /* this destination cannot be reached */
};
/* `tries`: how often it was tried for this datagram, 1 for the first failure. */
enum udp_verdict udp_send_verdict(int error, unsigned tries);

#endif
