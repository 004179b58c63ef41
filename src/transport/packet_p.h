#ifndef TRANSPORT_PACKET_P_H
#define TRANSPORT_PACKET_P_H

#include "transport/packet.h"
#include "transport/pool_p.h"

/* The calling thread makes its packets in `p` from now on; NULL: by malloc. */
void packet_use_pool(struct pool *p);

#endif
