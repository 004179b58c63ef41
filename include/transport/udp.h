/* The UDP sockets: for each UDP listener of the configuration one SO_REUSEPORT socket an acceptor. The kernel gives all
 * datagrams of one source to one socket, so their order stays. Made by main before any thread; const until
 * udp_close. Its acceptor reads a socket, any thread sends on it. */
#ifndef TRANSPORT_UDP_H
#define TRANSPORT_UDP_H

#include "config/config.h"

struct udp_socket {
	int fd;          /* const; -1: the listener is not a UDP one */
	uint16_t family; /* const: AF_INET, AF_INET6 */
	bool wildcard; /* const: bound to no address of its own: received datagrams say which they were sent to */
	uint16_t listener; /* const */
	uint8_t acceptor;  /* const */
};

struct udp {
	unsigned listeners; /* const: of all kinds, as the configuration has them */
	unsigned acceptors; /* const */
	/* const: [listeners], with the real port where 0 was asked for; family 0: not UDP */
	struct addr *bound;
	struct udp_socket *socket; /* const: [listeners * acceptors] */
};

/* Main. Opens and binds all. A port that another process uses is an error even where SO_REUSEPORT would allow to
 * share it. 0, or -errno with one line in err ("listen udp:0.0.0.0:5060: Address already in use"). */
int udp_open(const struct config *c, struct udp **out, char *err, size_t errlen);
/* Main, when no thread uses them any more. NULL does nothing. */
void udp_close(struct udp *u);

/* Any thread. The socket of a listener for an acceptor (a number too large: the first one's); NULL: no such. */
static inline const struct udp_socket *udp_socket(const struct udp *u, unsigned listener, unsigned acceptor)
{
	if (listener >= u->listeners)
		return NULL;
	const struct udp_socket *s =
		&u->socket[listener * u->acceptors + (acceptor < u->acceptors ? acceptor : 0)];
	return s->fd < 0 ? NULL : s;
}

#endif
