/* The proxy core of RFC 3261 section 16, one instance a worker: validation, route choice, response contexts and their
 * branches, CANCEL, and what the proxy answers itself. It owns the worker's transaction table. Everything here runs
 * on its worker; only struct proxy_shared is seen by several. It knows no sockets and no clock: a scenario test
 * runs it under fake ones. */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "base/wheel.h"
#include "config/config.h"
#include "resolver/resolver.h"
#include "transport/packet.h"

struct proxy;

/* What the proxy needs from below. Called on the worker. */
struct proxy_lower {
	/* Queues bytes (copied) for sending after the commit. */
	void (*send)(void *ctx, const struct flow *to, struct slice bytes);
	/* Asks for the hops of a URI; the answer comes by proxy_resolved with `ref`. 0 or -errno. */
	int (*resolve)(void *ctx, const struct sip_uri *uri, uint64_t ref);
	/* Which of our addresses a listener bound to a wildcard uses towards `dest`: for Via and Record-Route. 0 or
	 * -errno. May be NULL when no listener is bound to one. */
	int (*source)(void *ctx, unsigned listener, const struct addr *dest, struct addr *out);
	/* True if messages of this Call-ID come to this worker: for requests of our own. May be NULL: all do. */
	bool (*mine)(void *ctx, struct slice call_id);
	void *ctx;
};

/* What workers share: counters that bound the whole process, and switches. Made by main, zeroed. */
struct proxy_shared {
	_Atomic unsigned inflight; /* atomic: INVITE response contexts without a final response, all workers */
	_Atomic unsigned draining; /* atomic: 1: new calls get 503 */
	_Atomic unsigned round_robin;          /* atomic: for the round-robin policy */
	struct gateway_states *_Atomic states; /* of the newest configuration; see proxy/gateway.h */
};

struct proxy_env {
	const struct config *config; /* outlives the proxy or is replaced by proxy_reconfigure */
	const unsigned char *secret; /* STORE_SECRET_LEN bytes, copied */
	struct proxy_shared *shared;
	struct proxy_lower lower;
	struct wheel *wheel;
	const msec_t *now; /* ms: the worker's batch time */
	const struct addr
		*self; /* IP and port of every socket, wildcards resolved to interface addresses; NULL:
	                          * the listeners' own. Outlives the proxy */
	unsigned self_count;
	unsigned worker; /* index */
};

int proxy_create(const struct proxy_env *env, struct proxy **out); /* 0, -ENOMEM */
void proxy_destroy(struct proxy *p);

/* A parsed message; the packet is the proxy's from here on (it destroys it, or keeps it in a response context). */
void proxy_receive(struct proxy *p, struct packet *pk);

/* The answer to a resolve; stays the caller's. */
void proxy_resolved(struct proxy *p, const struct resolver_answer *a);

/* A packet to `remote` was refused (ICMP, no route). `quoted`: what is known of its start; the top Via's branch and the
 * method in it tell whose it was. */
void proxy_send_failed(struct proxy *p, const struct addr *remote, struct slice quoted);

/* Swaps in a new configuration between two batches: what is under way goes on by what it was decided with. After the
 * return the old one is not used by this proxy any more. */
void proxy_reconfigure(struct proxy *p, const struct config *c);

unsigned proxy_contexts(const struct proxy *p); /* response contexts alive */

#endif
