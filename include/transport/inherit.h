/* Sockets that pass from one process to the next at a planned restart: listening ones, and connections of plain TCP
 * with what has been read of a message and what waits to be sent. Made and used by main, when no other thread runs yet,
 * or none any more. */
#ifndef TRANSPORT_INHERIT_H
#define TRANSPORT_INHERIT_H

#include "transport/conn.h"
#include "transport/udp.h"

struct inherited_socket {
	enum flow_proto proto;
	unsigned acceptor;
	struct addr bound;
	int fd; /* -1: taken */
};

struct inherited_conn {
	uint64_t id;
	struct addr bound; /* of its listener */
	struct addr remote, local;
	struct addr alias; /* family 0: none */
	bool inbound;
	uint8_t half_ping; /* bytes of a CRLFCRLF that came at the end: 0 to 3 */
	int fd;            /* -1: taken */
	char *in;          /* of a message that is not whole yet; malloc'd */
	size_t in_len;
	char *queue; /* to be sent; malloc'd */
	size_t queue_len;
};

struct inheritance {
	struct inherited_socket *socket;
	unsigned sockets;
	struct inherited_conn *conn;
	unsigned conns;
};

/* The socket of that kind, address and acceptor, which is the caller's then; -1: none. */
int inherit_take(struct inheritance *in, enum flow_proto proto, const struct addr *bound, unsigned acceptor);
/* Whether two listeners would be in each other's way: UDP or not, one port, and one address or a wildcard. */
bool inherit_overlaps(enum flow_proto p, const struct addr *a, enum flow_proto q, const struct addr *b);
/* True if a socket is left that is in the way of such a listener: then ours may be opened beside it, and nobody else
 * has the port. */
bool inherit_has(const struct inheritance *in, enum flow_proto proto, const struct addr *bound);
/* New process, before it takes anything: 0 if nobody is in the way of such a listener, or -errno. */
int inherit_probe(enum flow_proto proto, const struct addr *bound);
int inherit_add_socket(struct inheritance *in, const struct inherited_socket *s); /* 0, -ENOMEM */
/* takes over in and queue; 0, -ENOMEM */
int inherit_add_conn(struct inheritance *in, const struct inherited_conn *c);
void inherit_deinit(struct inheritance *in); /* closes what nobody took */

/* As udp_open and streams_open, with sockets of an earlier process where there are some. `in` may be NULL. */
int udp_open_with(const struct config *c, struct inheritance *in, struct udp **out, char *err, size_t errlen);
int streams_open_with(const struct config *c, struct inheritance *in, struct streams **out, char *err,
		      size_t errlen);

/* The receiving side, when the acceptors exist and do not run yet: the connections go on here under their numbers. One
 * whose listener is no more is closed. Returns how many. */
unsigned streams_import(struct streams *s, struct inheritance *in);

/* The giving side, when acceptors and workers have ended. Closes what cannot move (TLS, after its queue; what is not
 * open yet), makes writers leave their connections, and calls `fn` with each that moves; fn copies what it needs. Waits
 * for TLS at most `grace` ms. */
void streams_export(struct streams *s, uint32_t grace, void (*fn)(void *ctx, const struct inherited_conn *c),
		    void *ctx);
/* Likewise for listening sockets. */
void streams_export_listeners(struct streams *s, void (*fn)(void *ctx, const struct inherited_socket *l),
			      void *ctx);
void udp_export(const struct udp *u, void (*fn)(void *ctx, const struct inherited_socket *s), void *ctx);

#endif
