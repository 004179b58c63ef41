/* What the files of this folder share. Everything here belongs to one worker. */
#ifndef PROXY_PROXY_P_H
#define PROXY_PROXY_P_H

#include "proxy/gateway.h"
#include "proxy/proxy.h"
#include "sip/build.h"
#include "sip/edit.h"
#include "token_p.h"
#include "txn/txn.h"

#define PROXY_BUILD_MAX       (SIP_MESSAGE_MAX + 4096) /* bytes: the largest message we make of a received one */
#define PROXY_TARGETS_MAX     64                       /* in one target set */
#define PROXY_MAX_BREADTH     60                       /* RFC 5393 5.3.3 */
#define PROXY_USER_MAX        256 /* bytes of a user part that a regular expression may see */
#define PROXY_PENDING_BUCKETS 1024

/* Who a transaction's upcalls are for: the first member of each owner. */
enum owner_kind { OWNER_CONTEXT, OWNER_BRANCH, OWNER_PROBE };

/* An object that waits for the resolver: found again by a number, since it may be gone when the answer comes. */
enum pending_kind { PENDING_BRANCH, PENDING_STATELESS, PENDING_PROBE };
struct pending {
	uint64_t ref; /* 0: not waiting */
	struct pending *next;
	enum pending_kind kind;
};

struct source_cache;

struct proxy {
	const struct config *config;
	struct proxy_shared *shared;
	struct gateway_states *states; /* of `config` */
	struct proxy_lower lower;
	struct wheel *wheel;
	const msec_t *now;
	const struct addr *self;
	unsigned self_count;
	unsigned worker;
	unsigned contexts;
	unsigned protos; /* mask of 1 << FLOW_* that a listener can send on */
	struct txn_table *txns;
	struct token_keys keys;
	struct pending *pending[PROXY_PENDING_BUCKETS];
	uint64_t next_ref;
	struct source_cache *sources;
	struct prober *prober;     /* worker 0 only */
	struct context *all;       /* every response context */
	struct stateless *held;    /* stateless forwards that wait for the resolver */
	char out[PROXY_BUILD_MAX]; /* the message under construction */
	struct sip_msg_room room;  /* for parsing a message of our own again */
};

static inline msec_t proxy_now(const struct proxy *p)
{
	return *p->now;
}

struct txn_timers proxy_txn_timers(const struct config *c); /* proxy.c */

/* --- pending.c --- */
void pending_add(struct proxy *p, struct pending *w, enum pending_kind kind); /* gives it its ref */
void pending_remove(struct proxy *p, struct pending *w);                      /* nothing if it does not wait */
struct pending *pending_take(struct proxy *p, uint64_t ref);

/* --- self.c: what is ours --- */

/* The address (Via, Record-Route) of the listener towards dest: "host:port", or what `advertise` says. */
void self_sent_by(struct proxy *p, unsigned listener, const struct addr *dest, struct buf *b);
/* True if host (IP or name) and port lead to one of our sockets. port 0: the default, 5060 or 5061. */
bool self_is_host(const struct proxy *p, struct slice host, uint16_t port, bool secure);
bool self_is_uri(const struct proxy *p, const struct sip_uri *u);
bool self_is_domain(const struct proxy *p, struct slice host);
/* The listener to send with to a hop; prefers the one that the request came in on. -1: none of that kind. */
int self_listener(const struct proxy *p, enum flow_proto proto, const struct addr *dest, int prefer);
void self_cache_reset(struct proxy *p);

/* --- plan.c: route preprocessing (16.4) --- */
/* What is left of the Route headers, and of it what a branch needs to be built: kept by contexts. */
struct route_set {
	struct slice next; /* the URI of the first Route that remains; empty: none */
	int16_t listener;  /* the listener that our second Record-Route names, or -1 */
	uint8_t own;       /* Route values on top that are ours, to be taken off */
	bool last_used;    /* the last Route value became the Request-URI (strict router before us) */
	bool next_strict;  /* the next one has no lr parameter */
};
struct plan {
	struct slice ruri;  /* the Request-URI after preprocessing, in the message or in `text` */
	struct sip_uri uri; /* the same, parsed (scheme OTHER when it is none that we know) */
	bool authorized;    /* our own route set, good for this dialog: the request may be relayed along it */
	struct route_set route;
};
/* 0, or the status to refuse the request with. */
unsigned plan_make(struct proxy *p, const struct sip_msg *m, struct plan *plan, char *text, size_t textlen);

/* --- targets.c: the target set (16.5) --- */
struct target {
	struct slice ruri;  /* Request-URI to send */
	struct slice route; /* URI to put on top of the Route headers; empty: none */
};
struct target_set {
	unsigned count;
	bool parallel;
	bool failover;
	struct target target[PROXY_TARGETS_MAX];
	unsigned reject;           /* with count 0: the answer */
	const char *reject_reason; /* NULL: the default */
	struct buf text;           /* where made-up URIs stand */
	char room[16384];
};
void targets_find(struct proxy *p, const struct packet *pk, const struct plan *plan, uint64_t loop,
		  struct target_set *set);
/* gateway.c: the targets of gateway g for the request, in the order to try. */
void gateway_targets(struct proxy *p, unsigned g, const struct sip_msg *m, const struct plan *plan,
		     uint64_t loop, struct target_set *set);

/* --- forward.c: requests on their way out (16.6) --- */
struct forward_args {
	const struct sip_msg *m;
	const struct flow *source; /* where it came from */
	const struct route_set *route;
	const struct target *target;
	const struct flow *out;
	unsigned breadth; /* for Max-Breadth; 0: leave the header alone */
	uint64_t loop;
	uint16_t index; /* of the branch */
};
/* Builds into p->out. `branch` gets our branch parameter. Bytes, or -ENOBUFS. */
long forward_build(struct proxy *p, const struct forward_args *a, char branch[static TOKEN_BRANCH_LEN]);
/* The URI that says where it goes next: the pushed Route, the first remaining Route, or the Request-URI (16.6 step 6, 7).
 * 0 or -EBADMSG. */
int forward_hop_uri(const struct route_set *route, const struct target *t, struct sip_uri *out);
/* A flow towards a hop, on the listener that suits. 0 or -EHOSTUNREACH. */
int forward_flow(const struct proxy *p, const struct resolver_hop *hop, const struct route_set *route,
		 const struct flow *source, struct flow *out);

/* --- reply.c: responses that we make, and responses on their way back --- */

/* Where the responses to a request go (18.2.2, RFC 3581). */
void reply_flow(const struct packet *pk, struct flow *out);
/* Builds a response to m into p->out. Bytes (> 0). */
long reply_build(struct proxy *p, const struct packet *pk, unsigned status, const char *reason,
		 struct slice extra);
/* Sends one without a transaction; ends the packet. Nothing is ever sent for an ACK. */
void reply_stateless(struct proxy *p, struct packet *pk, unsigned status, const char *reason,
		     struct slice extra);
/* "Retry-After: N" of drain.retry_after, into text. */
struct slice reply_retry_after(const struct proxy *p, char text[static 40]);
/* A received response without its topmost Via, into p->out. Bytes, or -EBADMSG: no Via remains. */
long reply_strip(struct proxy *p, const struct sip_msg *m);

/* --- context.c: response contexts (16.7) --- */
struct branch {
	uint8_t kind;              /* OWNER_BRANCH */
	uint8_t provisional : 1;   /* a provisional response came: it may be cancelled */
	uint8_t cancel_wanted : 1; /* to be cancelled when one comes */
	uint8_t cancel_sent : 1;
	uint8_t done : 1; /* has its final response, received or made up */
	uint16_t index;
	uint16_t status; /* the final response's */
	uint16_t breadth;
	unsigned target;
	struct context *context;
	struct branch *next;
	struct txn *client; /* NULL: not started yet, or gone */
	struct pending pending;
	struct timer timer; /* Timer C; after a CANCEL 64*T1 */
	unsigned hop_count, hop_next;
	struct resolver_hop *hop; /* hops not tried yet, [hop_next, hop_count); NULL: none */
};

struct context {
	uint8_t kind; /* OWNER_CONTEXT */
	uint8_t invite : 1;
	uint8_t counted : 1; /* in shared->inflight */
	uint8_t final_sent : 1;
	uint8_t cancelled : 1;
	uint8_t parallel : 1;
	uint8_t failover : 1; /* its targets are ways to one place (a gateway's): the next is tried only when one fails,
	                        * not when it says no */
	uint8_t overload : 1; /* a branch found no room for its transaction: our 503, not somebody else's */
	uint8_t busy;         /* entered: not to be freed now */
	uint16_t next_index;  /* of the next branch */
	struct proxy *proxy;
	struct context *next, **prev; /* proxy->all */
	struct packet *pk;   /* the request as received; NULL once nothing more will be built from it */
	struct txn *server;  /* NULL: gone */
	struct flow source;  /* where responses go */
	struct timer trying; /* non-INVITE: when RFC 4320 wants a 100 */
	struct route_set route;
	uint64_t loop;
	struct target *target; /* in one block with the text that they point to */
	unsigned target_count, target_next;
	unsigned breadth; /* what concurrent branches may still take (RFC 5393) */
	struct branch *branches;
	unsigned best;   /* status of the best final so far; 0: none */
	bool best_local; /* it was made by us: timeout, transport error */
	struct branch *best_branch;
	char *best_bytes; /* as to be sent back; NULL with best_local */
	size_t best_len;
	struct buf challenges; /* WWW- and Proxy-Authenticate lines of the branches that are not best */
};

/* Starts a response context for a validated request. Takes the packet. */
void context_start(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		   const struct target_set *set);
void context_cancel(struct context *c); /* a CANCEL from the caller */
void context_response(struct branch *b, const struct sip_msg *m);
void context_client_failed(struct branch *b, unsigned status); /* 408: timeout, 503: transport error */
void context_resolved(struct branch *b, const struct resolver_answer *a);
void context_server_gone(struct context *c);
void context_client_gone(struct branch *b);
void context_destroy(struct context *c);
/* branch.c; each may end the branch at once and so lead to context_branch_done. */
void branch_start(struct context *c, unsigned target, unsigned breadth);
void branch_next_hop(struct branch *b);
void branch_cancel(struct branch *b);
void branch_resolved(struct branch *b, const struct resolver_answer *a);
void branch_provisional(struct branch *b);
void branch_stop(struct proxy *p, struct branch *b); /* timer and look-up */
void context_branch_done(struct branch *b, unsigned status, const struct sip_msg *m);

/* --- stateless.c (16.11) --- */

/* Forwards an ACK to a 2xx, or a CANCEL that matched nothing, by the routing of its INVITE. Takes the packet. */
void stateless_forward(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		       const struct target_set *set);
void stateless_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a);
void stateless_destroy_all(struct proxy *p);

/* --- request.c --- */
void request_receive(struct proxy *p, struct packet *pk);

/* --- probe.c --- */
int probe_start(struct proxy *p); /* for the current configuration */
void probe_stop(struct proxy *p);
void probe_response(void *owner, unsigned status);
void probe_gone(void *owner);
void probe_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a);

#endif
