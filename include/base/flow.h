/* Where a message came from, or goes to. A value: copied freely, owned by nobody. */
#ifndef BASE_FLOW_H
#define BASE_FLOW_H

#include "base/addr.h"

enum flow_proto { FLOW_UDP, FLOW_TCP, FLOW_TLS, FLOW_PROTO_COUNT };

struct flow {
	uint8_t proto;     /* enum flow_proto */
	uint8_t acceptor;  /* which acceptor's socket of the listener; a hint for sending */
	uint16_t listener; /* index into the configuration's listeners */
	struct addr remote;
	/* the address the packet was sent to, so that the answer leaves from there; family 0: the kernel chooses */
	struct addr local;
	/* connection number (transport/conn.h), 0: none. When that is gone, a new one to `remote` is in order, where
	 * the protocol allows it: so for a response `remote` is what RFC 3261 18.2.2 says */
	uint64_t conn;
};

static inline bool flow_is_reliable(const struct flow *f)
{
	return f->proto != FLOW_UDP;
}

/* "UDP", "TCP", "TLS": as Via has it. */
struct slice flow_proto_name(enum flow_proto p);
/* "udp", "tcp", "tls": as URIs, options and reports have it. */
const char *flow_proto_label(enum flow_proto p);
/* Back, from either, compared without case. False: none of them. */
bool flow_proto_parse(struct slice name, enum flow_proto *out);
/* The port where a Via or a URI names none (RFC 3261 18.2.2, 19.1.2). */
uint16_t flow_proto_port(enum flow_proto p);

#endif
