/* One received message on its way from an acceptor to its worker: a single block of memory that the mailbox
 * hands over. */
#ifndef TRANSPORT_PACKET_H
#define TRANSPORT_PACKET_H

#include "base/flow.h"
#include "base/mailbox.h"
#include "sip/message.h"

struct packet {
	struct mailbox_item item; /* item.kind: enum worker_item */
	struct flow flow;         /* const */
	nsec_t received;          /* const: wall clock, when the kernel had it */
	/* the filter's slot, or NULL; cleared (inflight_release) when the request has been answered or dropped; moves
	 * to the server transaction when there is one */
	_Atomic uint64_t *inflight;
	struct sip_msg *msg; /* behind this struct, in the same block */
};

/* Acceptor. A copy of *m and its bytes. NULL: no memory. */
struct packet *packet_create(const struct sip_msg *m, const struct flow *f, nsec_t received);
/* Whoever holds it. Releases the in-flight slot if it is still there. */
void packet_destroy(struct packet *p);

/* Worker: lets copies of the request pass the in-flight filter again. NULL does nothing. */
static inline void inflight_release(_Atomic uint64_t **slot)
{
	if (*slot) {
		atomic_store_explicit(*slot, 0, memory_order_release);
		*slot = NULL;
	}
}

#endif
