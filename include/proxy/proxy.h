/* The proxy core of RFC 3261 section 16, one instance a worker: validation, route choice, response contexts and their
 * branches, CANCEL, and what the proxy answers itself. It owns the worker's transaction table. Everything here runs
 * on its worker; only struct proxy_shared is seen by several. It knows no sockets and no clock: a scenario test
 * runs it under fake ones. */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "base/wheel.h"
#include "config/config.h"
#include "resolver/resolver.h"
#include "store/db.h"
#include "transport/packet.h"

struct digest;
struct proxy;

/* What the proxy needs from below. Called on the worker. */
struct proxy_lower {
	/* Queues bytes (copied) for sending after the commit. 0, or -ENOTCONN: the connection to->conn is gone. */
	int (*send)(void *ctx, const struct flow *to, struct slice bytes);
	/* Fills to->conn with a connection to to->remote from to->listener, an existing one or one that connects when
	 * something is sent; for TLS the peer's certificate must be good for `name`. When it ends, proxy_conn_lost is
	 * called. *ack_timeout: ms, as configured. 0, or -errno. NULL: there are no reliable transports. */
	int (*connect)(void *ctx, struct flow *to, struct slice name, uint32_t *ack_timeout);
	/* The same for a connection that is known by its number (a registered flow, a token): to->conn; fills to->proto and to->remote. 0 or
	 * -ENOTCONN. */
	int (*attach)(void *ctx, struct flow *to, uint32_t *ack_timeout);
	/* Ends the connection to->conn: its peer does not answer. May be NULL. */
	void (*hangup)(void *ctx, const struct flow *to);
	/* As in struct txn_lower. */
	bool (*acked)(void *ctx, const struct flow *to, msec_t since);
	/* A request came over from->conn with ";alias" in its Via (RFC 5923): what goes to its address at `port` may
	 * use that connection. */
	void (*alias)(void *ctx, const struct flow *from, uint16_t port, struct slice name);
	/* Asks for the hops of a URI; the answer comes by proxy_resolved with `ref`. 0 or -errno. */
	int (*resolve)(void *ctx, const struct sip_uri *uri, uint64_t ref);
	/* Which of our addresses a listener bound to a wildcard uses towards `dest`: for Via and Record-Route. 0 or
	 * -errno. May be NULL when no listener is bound to one. */
	int (*source)(void *ctx, unsigned listener, const struct addr *dest, struct addr *out);
	/* True if messages of this Call-ID come to this worker: for requests of our own. May be NULL: all do. */
	bool (*mine)(void *ctx, struct slice call_id);
	void *ctx;
};

#define PROXY_RTT_SLOTS 262144 /* 2 MB; a slot that two bindings share shows the later one */

/* What workers share: counters that bound the whole process, and switches. Made by main, zeroed. */
struct proxy_shared {
	_Atomic unsigned inflight; /* atomic: INVITE response contexts without a final response, all workers */
	_Atomic unsigned draining; /* atomic: 1: new calls get 503 */
	_Atomic unsigned round_robin;          /* atomic: for the round-robin policy */
	struct gateway_states *_Atomic states; /* of the newest configuration; see proxy/gateway.h */
	/* const pointer: [PROXY_RTT_SLOTS], round-trip times of phones (qualify_rtt); NULL: not kept */
	_Atomic uint64_t *rtt;
};

struct proxy_env {
	const struct config *config; /* outlives the proxy or is replaced by proxy_reconfigure */
	const unsigned char *secret; /* STORE_SECRET_LEN bytes, copied */
	struct proxy_shared *shared;
	struct proxy_lower lower;
	struct wheel *wheel;
	const msec_t *now;    /* ms: the worker's batch time */
	const uint64_t *wall; /* ms: the wall clock, for tests; NULL: the system's */
	/* IP and port of every socket, wildcards resolved to interface addresses; NULL: the listeners' own. Outlives
	 * the proxy */
	const struct addr *self;
	unsigned self_count;
	unsigned worker;         /* index */
	struct store_env *store; /* users and registrations; NULL: no registrar */
	struct store_env *calls; /* of this worker: what a restart must know; NULL: nothing is kept */
	struct digest *digest;   /* with `store` */
};

int proxy_create(const struct proxy_env *env, struct proxy **out); /* 0, -ENOMEM */
void proxy_destroy(struct proxy *p);

/* Any thread. The round-trip time of the last OPTIONS that a binding's phone answered, by the binding's number: µs.
 * False: not known. */
bool qualify_rtt(const struct proxy_shared *s, uint64_t number, uint32_t *us);

/* A parsed message; the packet is the proxy's from here on (it destroys it, or keeps it in a response context). */
void proxy_receive(struct proxy *p, struct packet *pk);

/* The answer to a resolve; stays the caller's. */
void proxy_resolved(struct proxy *p, const struct resolver_answer *a);

/* A packet to `remote` was refused (ICMP, no route). `quoted`: what is known of its start; the top Via's branch and the
 * method in it tell whose it was. */
void proxy_send_failed(struct proxy *p, const struct addr *remote, struct slice quoted);

/* A connection that requests went over, or that a registration needs, is gone. */
void proxy_conn_lost(struct proxy *p, uint64_t conn);

/* Swaps in a new configuration between two batches: what is under way goes on by what it was decided with. After the
 * return the old one is not used by this proxy any more. */
void proxy_reconfigure(struct proxy *p, const struct config *c);

/* After a batch's decisions, before anything of it is sent: makes its state changes durable, and answers what waited
 * for that. */
void proxy_commit(struct proxy *p);
/* No batch comes any more: stores what proxy_commit may put off, the ends of calls. */
void proxy_flush(struct proxy *p);

#define SNAPSHOT_KEY_LEN 8 /* bytes */
/* Any thread, pure. The key in STORE_CALLS of the record with this number, the highest byte first, so that new ones go
 * to the end of the tree; and back: false for what is no such key. */
void snapshot_key(uint64_t record, char key[static SNAPSHOT_KEY_LEN]);
bool snapshot_number(struct slice key, uint64_t *record);

/* Main, before the workers run. Makes a response context again from its record, which was this worker's (`moved` false: its record stays where it
 * is), or another's (it is written with the first batch). 0; -EBADMSG: damaged; -EPROTONOSUPPORT: of another version; -EEXIST: it is there; -ENOMEM,
 * -ENOBUFS. */
int proxy_restore(struct proxy *p, uint64_t record, struct slice bytes, bool moved);
/* Any thread, pure: the Call-ID that a record belongs to. 0, -EBADMSG, -EPROTONOSUPPORT. */
int recover_call_id(struct slice bytes, struct slice *call_id);

/* The same for the record of a dialog. */
int recover_dialog_call_id(struct slice bytes, struct slice *call_id);

unsigned proxy_contexts(const struct proxy *p); /* response contexts alive */

#endif
