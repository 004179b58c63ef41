/* An acceptor: the thread that reads its sockets, recognises copies of requests under way, parses, and hands messages
 * to their workers. What cannot be a message it drops and counts; what deserves an error without a transaction it
 * answers. */
#ifndef TRANSPORT_ACCEPTOR_H
#define TRANSPORT_ACCEPTOR_H

#include "transport/packet.h"
#include "transport/udp.h"

/* What the layer above offers. Called on the acceptor's thread. */
struct acceptor_upper {
	/* Takes the packet over, or refuses: -ENOBUFS (it stays the acceptor's). A refused request is answered with
	 * 503, anything else refused is dropped. `percent`: how much of its queue limit the packet may use
	 * (mailbox_post): 100 for new requests, 200 for what belongs to something that exists. */
	int (*deliver)(void *ctx, struct packet *p, unsigned percent);
	/* A datagram to `remote` came back (ICMP). `quoted`: its start, as far as known; may be empty; valid during
	 * the call. At most ACCEPTOR_ERRORS_MAX a second. */
	void (*send_failed)(void *ctx, const struct addr *remote, struct slice quoted);
	/* End of a batch: wakes whom deliver and send_failed gave something, or does their work here and now. */
	void (*flush)(void *ctx);
	void *ctx;
};

#define ACCEPTOR_ERRORS_MAX 1000 /* ICMP errors a second that are passed on; the others are dropped */
#define ACCEPTOR_QUOTE_MAX  512  /* bytes of a returned datagram that are passed on */

struct acceptor_config {
	unsigned index;
	const struct udp *udp;   /* outlives the acceptor */
	struct streams *streams; /* likewise; NULL: UDP only */
	uint32_t gather;         /* µs; 0: never pause */
	uint32_t retry_after;    /* s, in a 503 when the worker's mailbox is full */
	uint32_t max_datagram;   /* bytes; what is longer is dropped; 0: SIP_MESSAGE_MAX */
	struct acceptor_upper upper;
};

struct acceptor;

/* Main. Makes everything but the thread. 0 or -errno. */
int acceptor_create(const struct acceptor_config *c, struct acceptor **out);
/* Main. Starts the thread hf-accept-N. 0 or -errno. */
int acceptor_start(struct acceptor *a);
/* Main. Ends the thread after the batch at hand and waits for it. Before the workers are stopped. */
void acceptor_stop(struct acceptor *a);
/* Main, after the workers' packets are gone too: they hold slots of the in-flight filter. Stops first if needed. NULL
 * does nothing. */
void acceptor_destroy(struct acceptor *a);

/* Any thread. From the next batch on. */
void acceptor_reconfigure(struct acceptor *a, uint32_t gather, uint32_t retry_after);
/* Any thread: for /healthz. `now`: clock_mono_ms. */
bool acceptor_alive(const struct acceptor *a, msec_t now);

#endif
