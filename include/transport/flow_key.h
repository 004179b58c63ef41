/* Flows as bytes, to be kept or given away: in the route tokens of the proxy (RFC 5626 5.3), in registrations. A key
 * says which way a peer is to be reached, and nothing else; who may use it is for its user to protect. Any thread. */
#ifndef TRANSPORT_FLOW_KEY_H
#define TRANSPORT_FLOW_KEY_H

#include "base/buf.h"
#include "base/flow.h"

#define FLOW_KEY_MAX 25 /* bytes */

enum flow_key_type {
	FLOW_KEY_NONE, /* 1 byte */
	FLOW_KEY_CONN, /* 11: the listener and the number of a connection. Numbers are never given twice, over restarts too */
	FLOW_KEY_V4, /* 9: UDP listener, address, port */
	FLOW_KEY_V6, /* 25: the same with the address's scope */
};

/* Appends the key of a flow; NULL: of none. A connection is known by its number alone: what else the flow holds is not
 * kept. */
void flow_key_put(const struct flow *f, struct buf *b);

/* Takes one key off the front of *rest. 0, or -EBADMSG with *rest as it was. `out` gets proto FLOW_UDP, listener and
 * remote; or for a connection its number and listener, with proto FLOW_TCP until whoever looks the connection up says
 * more; or all zero for none (family and conn 0). The listener's number is not checked against any configuration. */
int flow_key_get(struct slice *rest, struct flow *out);

static inline bool flow_is_none(const struct flow *f)
{
	return f->conn == 0 && f->remote.family == 0;
}

/* The same way to the same peer. */
bool flow_eq(const struct flow *a, const struct flow *b);

#endif
