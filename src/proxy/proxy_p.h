/* What the files of this folder share. Everything here belongs to one worker. */
#ifndef PROXY_PROXY_P_H
#define PROXY_PROXY_P_H

#include "base/counters.h"
#include "proxy/gateway.h"
#include "proxy/proxy.h"
#include "registrar/location.h"
#include "sip/build.h"
#include "sip/edit.h"
#include "store/db.h"
#include "token_p.h"
#include "transport/flow_key.h"
#include "txn/txn.h"

#define PROXY_BUILD_MAX       (SIP_MESSAGE_MAX + 4096) /* bytes: the largest message we make of a received one */
#define PROXY_TARGETS_MAX     64                       /* in one target set */
#define PROXY_MAX_BREADTH     60                       /* RFC 5393 5.3.3 */
#define PROXY_USER_MAX        256 /* bytes of a user part that a regular expression may see */
#define PROXY_PENDING_BUCKETS 1024

/* Who a transaction's upcalls are for: the first member of each owner. */
enum owner_kind { OWNER_CONTEXT, OWNER_BRANCH, OWNER_PROBE, OWNER_QUALIFY };

/* An object that waits for the resolver: found again by a number, since it may be gone when the answer comes. */
enum pending_kind { PENDING_BRANCH, PENDING_STATELESS, PENDING_PROBE };
struct pending {
	uint64_t ref; /* 0: not waiting */
	struct pending *next;
	enum pending_kind kind;
};

struct source_cache;
struct branch;

struct proxy {
	const struct config *config;
	struct proxy_shared *shared;
	struct gateway_states *states; /* of `config` */
	struct proxy_lower lower;
	struct wheel *wheel;
	const msec_t *now;
	const uint64_t *wall; /* NULL: the system's clock */
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
	struct prober *prober;  /* worker 0 only */
	struct context *all;    /* every response context */
	struct stateless *held; /* stateless forwards that wait for the resolver */
	/* The registrar; all NULL when there is no store. */
	struct digest *digest;
	struct store_env *store;
	struct store_reader *reader; /* begun by whoever reads first, ended with the batch */
	struct held *refusals;       /* answers to wrong credentials that are held back */
	unsigned refusal_count;
	struct registration *registrations; /* of this batch */
	struct registration **registrations_tail;
	struct mark *marks; /* changes to bindings that are not a REGISTER's, of this batch */
	unsigned mark_count;
	struct qualify *qualifying; /* OPTIONS to phones under way */
	unsigned qualify_count;
	struct timer sweep_timer;
	unsigned sweep_parts; /* workers, each with its part */
	msec_t sweep_began;   /* when the present walk began; 0: none has */
	uint64_t sweep_pass;  /* ms that the last one took */
	struct location_place sweep_place;
	uint64_t *lost; /* connections whose bindings are to be removed with this batch */
	unsigned lost_count, lost_room;
	char out[PROXY_BUILD_MAX]; /* the message under construction */
	struct sip_msg_room room;  /* for parsing a message of our own again */
	bool conn_lost;            /* the failures of now are a connection's end */
	/* What a restart must know; calls is NULL with store.transactions off. */
	struct store_env *calls;
	struct store_reader *calls_reader;
	msec_t started;        /* when this proxy began, for stray responses of the run before */
	uint64_t next_record;  /* the number of the next context's record */
	struct context *dirty; /* touched by this batch, by dirty_next */
	uint64_t *ended;       /* records to be deleted with this batch */
	unsigned ended_count, ended_room;
	char *snap;              /* a record under construction */
	size_t snap_room;        /* bytes */
	struct timer ends_timer; /* runs while nothing but ends waits for a commit */
	bool ends_due;
	struct dialog_change *dialogs, **dialogs_tail; /* of this batch */
	unsigned dialog_changes, dialog_ends, dialogs_new, dialogs_gone;
	uint64_t dialogs_missed; /* ms, wall clock; 0: none */
	struct timer dialog_timer;
	char dialog_place[16]; /* where the next look for old dialogs begins */
	unsigned dialog_place_len;
};

static inline msec_t proxy_now(const struct proxy *p)
{
	return *p->now;
}

/* ms of the wall clock */
static inline uint64_t proxy_wall(const struct proxy *p)
{
	return p->wall ? *p->wall : clock_wall_ns() / 1000000u;
}

/* --- auth.c: each gives true if the request may go on; else it has been answered, or will be, and the packet is gone --- */
/* Credentials for the domain, and From (with REGISTER also To) is that user. proxy: 407 instead of 401. */
bool auth_require(struct proxy *p, struct packet *pk, const struct config_domain *d, bool proxy);
/* A request that calls somebody: from a user of ours it must show that it is; `required`: nobody else may send it. */
bool auth_caller(struct proxy *p, struct packet *pk, bool required);
/* Whether a Proxy-Authorization is for us alone (RFC 3261 22.3): whoever is called could try out passwords with it. */
bool auth_consumes(const struct proxy *p, struct slice credentials);
void auth_destroy_all(struct proxy *p);

/* --- register.c --- */
/* Takes the packet; answers after the commit. */
void register_receive(struct proxy *p, struct packet *pk, unsigned domain);
void register_conn_lost(struct proxy *p, uint64_t conn); /* its bindings end with this batch */
/* With this batch, if the binding is still there, and not refreshed since it was asked (ms of the wall clock). */
void register_mark(struct proxy *p, struct slice aor, uint64_t number, bool unreachable, uint64_t asked);
void register_expire(struct proxy *p, struct slice aor); /* what of it has expired goes with this batch */
void register_commit(struct proxy *p);
void register_destroy_all(struct proxy *p);

/* --- proxy.c --- */
struct txn_timers proxy_txn_timers(const struct config *c);
/* Sends what is a message of ours. A response whose connection is gone finds another one (18.2.2); a request does not:
 * its transaction, if it has one, hears of the connection's end. */
void proxy_send(struct proxy *p, const struct flow *to, struct slice bytes);

/* --- journal.c: what the log tells of requests; lines a second are limited --- */
void journal_refused(const struct packet *pk, unsigned status,
		     const char *reason); /* an answer of our own; reason NULL: the default */
void journal_branch_failed(const struct branch *b,
			   enum counter_id cause); /* counts it, too: one of CNT_BRANCH_* */
void journal_branch_sent(const struct branch *b);
void journal_branch_answered(const struct branch *b, unsigned status); /* its final response */

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
/* The listener that a URI of ours leads to, by its transport; -1: none, or not ours. */
int self_uri_listener(const struct proxy *p, const struct sip_uri *u);
int self_domain(const struct proxy *p, struct slice host); /* index, or -1: none of ours */
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
	bool path; /* our Path is the last Route that was taken off: the request may go by its flow, and only by it */
	/* with authorized: the flow that our token names for this direction; with path: that of the Path; as
	 * flow_key_get has it */
	struct flow toward;
	struct route_set route;
};
/* 0, or the status to refuse the request with. */
unsigned plan_make(struct proxy *p, const struct packet *pk, struct plan *plan, char *text, size_t textlen);

/* --- targets.c: the target set (16.5) --- */
struct target {
	struct slice ruri;  /* Request-URI to send */
	struct slice route; /* URI to put on top of the Route headers; empty: none */
	struct flow flow; /* with has_flow: what it goes over, as flow_key_get gives it; nothing is looked up */
	bool has_flow;
	struct slice aor,
		instance; /* of a registered one: by these its new flow is found; empty: not registered */
	/* serial search: those of a group are tried at once, groups in the order of their numbers */
	unsigned group;
	bool alternate; /* another flow to the instance of the one before: only when that one fails (RFC 5626 5.3) */
	bool started; /* a branch was begun for it */
	bool path;    /* a phone's REGISTER gets our Path on the way there */
	bool fallback; /* when the flow is dead the URIs show the way; else the branch fails with 430 (RFC 5626 5.3) */
};
struct target_set {
	unsigned count;
	bool parallel;
	bool failover;
	bool authenticate; /* the route asks for a user of ours */
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

/* --- breadth.c --- */
unsigned breadth_of(const struct sip_msg *m); /* what a request may spread to */
/* Whether the targets may be tried with it; else 440. */
bool breadth_enough(const struct sip_msg *m, const struct target_set *set, unsigned breadth);
/* The part of it that target i takes along; at least 1. */
unsigned breadth_share(const struct sip_msg *m, const struct target *t, unsigned count, unsigned i,
		       bool failover, unsigned breadth);

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
/* 18.3: the Content-Length that a message for a stream lacks. `text` holds it until the edits are applied. */
#define FORWARD_LENGTH_MAX 40
void forward_length(const struct sip_msg *m, struct sip_edits *e, char text[static FORWARD_LENGTH_MAX]);
/* The URI that says where it goes next: the pushed Route, the first remaining Route, or the Request-URI (16.6 step 6,
 * 7). 0 or -EBADMSG. */
int forward_hop_uri(const struct route_set *route, const struct target *t, struct sip_uri *out);
/* Straight from a user agent: nobody has put a Via on top of its own. */
bool forward_is_first_hop(const struct sip_msg *m);
/* A flow towards a hop, on the listener that suits, with a connection where it needs one; `out` of the arguments is not
 * looked at. *ack_timeout: ms. 0, -EPROTO (the request must not leave without TLS), -EHOSTUNREACH, or why there is no
 * connection. */
int forward_flow(struct proxy *p, const struct forward_args *a, const struct resolver_hop *hop,
		 struct flow *out, uint32_t *ack_timeout);
/* The same for a target that has a flow of its own; -ENOTCONN: it is dead. */
int forward_attach(struct proxy *p, const struct forward_args *a, struct flow *out, uint32_t *ack_timeout);

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
#define REPLY_RETRY_AFTER_MAX 40 /* bytes */
struct slice reply_retry_after(const struct proxy *p, char text[static REPLY_RETRY_AFTER_MAX]);
/* 503 with it, as reply_stateless: to new work that there is no room for. */
void reply_overload(struct proxy *p, struct packet *pk);
/* Whether a response can go back: there is a Via below ours (16.7 step 3). */
bool reply_passes(const struct sip_msg *m);
/* A received response without its topmost Via, into p->out; for a stream with Content-Length. Bytes, or -EBADMSG: no
 * Via remains. */
long reply_strip(struct proxy *p, const struct sip_msg *m, bool stream);

/* --- context.c: response contexts (16.7) --- */
#define CONTEXT_REASON_MAX 512 /* bytes of a CANCEL's Reason that go on; a longer one does not */
struct branch {
	uint8_t kind;              /* OWNER_BRANCH */
	uint8_t provisional : 1;   /* a provisional response came: it may be cancelled */
	uint8_t cancel_wanted : 1; /* to be cancelled when one comes */
	uint8_t cancel_sent : 1;
	uint8_t done : 1; /* has its final response, received or made up */
	uint8_t unacked : 1; /* … made up since the peer did not acknowledge the request; its transaction goes on */
	uint8_t udp_only : 1; /* over TCP the hop could not be reached */
	uint8_t udp_next : 1; /* sent over TCP for its size (18.1.1): hop[hop_next] is the same hop again, for UDP */
	uint8_t flow_failed : 1; /* the target's own flow was dead */
	uint8_t resumed : 1;     /* begun in this run, or its flow is of this run */
	uint16_t index;
	uint16_t status; /* the final response's */
	uint16_t breadth;
	unsigned target;
	struct context *context;
	struct branch *next;
	struct txn *client; /* NULL: not started yet, or gone */
	uint64_t confirmed; /* the To tags of its 2xx, a bit each */
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
	uint8_t overload : 1;  /* a branch found no room for its transaction: our 503, not somebody else's */
	uint8_t dirty : 1;     /* in proxy->dirty */
	uint8_t stored : 1;    /* its record is in the store */
	uint8_t recovered : 1; /* of the run before: recover_run looks after it */
	uint8_t resumed : 1;   /* recover_run has begun */
	uint8_t busy;          /* entered: not to be freed now */
	uint16_t next_index;   /* of the next branch */
	struct proxy *proxy;
	struct context *next, **prev; /* proxy->all */
	struct packet *pk;   /* the request as received; NULL once nothing more will be built from it */
	struct txn *server;  /* NULL: gone */
	struct flow source;  /* where responses go */
	struct timer trying; /* non-INVITE: when RFC 4320 wants a 100; recovered: when recover_run is to look */
	uint64_t record;     /* its number in the store; 0: none yet */
	uint64_t settled_from; /* during a commit: the number before, if it has got another; else 0 */
	struct context *dirty_next, **dirty_prev; /* proxy->dirty */
	char *call_id;                            /* once the request is gone: of the record */
	unsigned call_id_len;
	struct route_set route;
	uint64_t loop;
	struct target *target; /* in one block with the text that they point to */
	unsigned target_count, target_next;
	unsigned breadth; /* what concurrent branches may still take (RFC 5393) */
	struct branch *branches;
	unsigned best;   /* status of the best final so far; 0: none */
	bool best_local; /* it was made by us: timeout, transport error */
	struct branch *best_branch;
	char *reason;     /* of the caller's CANCEL (RFC 3326); NULL: none */
	char *best_bytes; /* as to be sent back; NULL with best_local */
	size_t best_len;
	struct buf challenges; /* WWW- and Proxy-Authenticate lines of the branches that are not best */
};

/* Starts a response context for a validated request. Takes the packet. */
void context_start(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		   const struct target_set *set);
/* A CANCEL from the caller: its reason, and what it asks for. */
void context_keep_reason(struct context *c, const struct sip_msg *cancel);
void context_cancel(struct context *c);
void context_response(struct branch *b, const struct sip_msg *m);
/* 408: timeout, 503: transport error */
void context_client_failed(struct branch *b, unsigned status, enum counter_id cause);
void context_client_unacked(struct branch *b);
void context_resolved(struct branch *b, const struct resolver_answer *a);
/* The branch is over: with the final response m, or with `status` of our own making (m NULL). What follows is tried, or
 * the caller answered. */
void context_branch_done(struct branch *b, unsigned status, const struct sip_msg *m);
void context_server_gone(struct context *c);
void context_client_gone(struct branch *b);
void context_destroy(struct context *c);
/* For recover.c: a context with nothing but its place; counted as being set up; thrown away before it did anything. */
struct context *context_make(struct proxy *p, struct slice call_id);
void context_count(struct context *c);
void context_discard(struct context *c);
/* For best.c: it has its final response; where that goes; sends one, or one of our own making. */
void context_finished(struct context *c);
const struct flow *context_source(const struct context *c);
void context_respond(struct context *c, unsigned status, struct slice bytes);
void context_respond_local(struct context *c, unsigned status, struct slice extra);
/* best.c */
/* keeps m, or one of our own (NULL), if it is the best so far */
void best_offer(struct context *c, struct branch *b, unsigned status, const struct sip_msg *m);
void best_send(struct context *c);
int best_keep_challenges(struct context *c, struct slice text); /* for recover.c: 0, -ENOMEM */
/* branch.c; each may end the branch at once and so lead to context_branch_done. */
void branch_start(struct context *c, unsigned target, unsigned breadth);
struct branch *branch_make(struct context *c); /* for recover.c: in no list yet; NULL: no memory */
void branch_go(struct branch *b);              /* sends it on its way */
void branch_cancel_again(struct branch *b);    /* the CANCEL once more, after a restart */
void branch_next_hop(struct branch *b);
void branch_cancel(struct branch *b);
void branch_resolved(struct branch *b, const struct resolver_answer *a);
void branch_provisional(struct branch *b);
void branch_heard(struct branch *b);                 /* it is there: not to be tried over UDP as well */
void branch_stop(struct proxy *p, struct branch *b); /* timer and look-up */

/* --- snapshot.c: contexts in the store --- */
void snapshot_touch(struct context *c);  /* written with this batch */
void snapshot_forget(struct context *c); /* about to be freed: its record goes with this batch */
void snapshot_init(struct proxy *p);
void snapshot_commit(struct proxy *p);
void snapshot_flush(struct proxy *p); /* the ends that snapshot_commit has put off */
void snapshot_deinit(struct proxy *p);

/* --- recover.c --- */
bool recover_look(struct context *c); /* whether the next has something to do */
/* in the first batches after a restart, and before the first CANCEL over a connection */
void recover_run(struct context *c);

/* --- dialog.c: confirmed calls in the store --- */
void dialog_start(struct proxy *p);
void dialog_stop(struct proxy *p);
/* A 2xx goes to the caller of `request` (NULL: which is gone). refresh: of a dialog that is known, and of no other. */
void dialog_confirmed(struct proxy *p, const struct sip_msg *m, const struct sip_msg *request, bool refresh);
void dialog_ended(struct proxy *p, const struct sip_msg *m); /* a BYE goes by */
/* Whether m leads to where the other side of a confirmed call is: `uri`, by way of `next` (none: by no other proxy). */
bool dialog_permits(struct proxy *p, const struct sip_msg *m, const struct sip_uri *uri, struct slice next);
void dialog_missed(struct proxy *p); /* calls were confirmed, or may have been, of which there is no record */
bool dialog_is_urgent(const struct proxy *p); /* something of it must be stored before this batch is sent */
int dialog_write(struct proxy *p, struct store_txn *t);
int dialog_delete(struct proxy *p, struct store_txn *t); /* only those that end */
void dialog_counted(struct proxy *p);                    /* what dialog_write did is committed */
void dialog_clear(struct proxy *p);

/* --- locate.c: targets from the location service --- */
void locate_targets(struct proxy *p, const struct sip_msg *m, const struct plan *plan, unsigned domain,
		    struct target_set *set);
/* The flow that a registered target is reached over now: of the same address and instance, or contact. False: none that
 * is alive. */
bool location_flow(struct proxy *p, const struct target *t, struct flow *out);

/* --- stray.c --- */
/* A response that matches nothing, shortly after a start: if our own Via branch is on top, it goes where the next Via
 * says. True: it did. */
bool stray_forward(struct proxy *p, const struct sip_msg *m);

/* --- stateless.c (16.11) --- */

/* Forwards an ACK to a 2xx, or a CANCEL that matched nothing, by the routing of its INVITE. Takes the packet. */
void stateless_forward(struct proxy *p, struct packet *pk, const struct plan *plan, uint64_t loop,
		       const struct target_set *set);
void stateless_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a);
void stateless_destroy_all(struct proxy *p);

/* --- request.c --- */
void request_receive(struct proxy *p, struct packet *pk);

/* --- options.c --- */
struct options_args {
	struct slice uri;   /* Request-URI and To */
	struct slice route; /* Route values; empty: none */
	struct flow flow;
	uint32_t ack_timeout; /* ms */
	void *owner;
};
/* an OPTIONS of our own; as txn_client_create, -ENOBUFS */
int options_send(struct proxy *p, const struct options_args *a, struct txn **out);

/* --- qualify.c --- */
void qualify_ask(struct proxy *p, struct slice aor, const struct binding *b, uint32_t timeout);
void qualify_response(void *owner, unsigned status);
void qualify_gone(void *owner);
void qualify_stop(struct proxy *p);

/* --- sweep.c --- */
void sweep_start(struct proxy *p);
void sweep_stop(struct proxy *p);

/* --- probe.c --- */
int probe_start(struct proxy *p); /* for the current configuration */
void probe_stop(struct proxy *p);
void probe_response(void *owner, unsigned status);
void probe_failed(void *owner, const char *why);
void probe_lost(void *owner); /* the network says so */
void probe_gone(void *owner);
void probe_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a);

#endif
