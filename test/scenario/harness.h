/* The real proxy core under a fake transport and a fake clock. A test is one worker: it feeds datagrams to
 * proxy_receive, moves the time by hand, and looks at what the proxy sends. Every RFC timer takes milliseconds.
 *
 * The default cast: the proxy on 192.0.2.1:5060, the caller on 192.0.2.10:5060, callees on 192.0.2.21 and up. */
#ifndef TEST_SCENARIO_HARNESS_H
#define TEST_SCENARIO_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/proxy.h"
#include "sip/message.h"
#include "store/db.h"

#define H_PROXY  "192.0.2.1:5060"
#define H_CALLER "192.0.2.10:5060"
#define H_A      "192.0.2.21:5060"
#define H_B      "192.0.2.22:5060"
#define H_C      "192.0.2.23:5060"

#define H_LISTEN "listen \"udp:192.0.2.1:5060\" { }\n"
/* One gateway of one target, for example.test; and a domain of our own without a route. */
#define H_CONF_ONE                                                    \
	H_LISTEN "domain \"local.test\" { }\n"                        \
		 "gateway \"gw\" { target = {\"sip:192.0.2.21\"} }\n" \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"
/* Three targets and a policy. */
#define H_CONF_THREE(policy)                                                                               \
	H_LISTEN "gateway \"gw\" { target = {\"sip:192.0.2.21\", \"sip:192.0.2.22\", \"sip:192.0.2.23\"} " \
		 "policy = " policy " }\n"                                                                 \
		 "route \"all\" { domain = \"example.test\" gateway = \"gw\" }\n"

struct harness;

/* Starts a proxy on the configuration text; fails the test if it cannot. Two harnesses alive at once, or one after
 * another, have the same secret: as a restart on the same store. */
struct harness *h_start(const char *conf);
/* The same with other listeners in the place of the configuration's, of which there must be as many:
 * "udp:192.0.2.1:5060 tls:192.0.2.1:5061". */
struct harness *h_start_on(const char *conf, const char *listeners);
/* The same with users and registrations, in a store of its own; listeners may be NULL, map 0 (bytes). */
struct harness *h_start_store(const char *conf, const char *listeners, uint64_t map);
void h_stop(struct harness *h);

/* --- restarts --- */

/* With a store of its own that keeps calls, and a wall clock that goes with the fake one; listeners may be NULL, map 0
 * (bytes). */
struct harness *h_start_calls(const char *conf, const char *listeners, uint64_t map);
/* The proxy is gone, its connections with it, and what the open batch has decided; committed, but not sent. Until h_up
 * nothing may be fed in. */
void h_crash(struct harness *h);
void h_crash_unsent(struct harness *h);
void h_down(struct harness *h, msec_t ms); /* so long nobody is there */
/* Another begins on the same store. Its first batch is the next one, or the next h_run. How many calls it has read. */
unsigned h_up(struct harness *h);
/* The same where some records are to be left out. How many were not. */
unsigned h_up_some(struct harness *h);
/* Between h_crash and h_up: it begins with the other's configuration. */
void h_take_config(struct harness *h, struct harness *other);
unsigned h_restart(struct harness *h); /* all of it, and the first batch */
int h_restore(struct harness *h, uint64_t record, struct slice bytes, bool moved);
unsigned h_records(struct harness *h, enum store_table table);
struct slice h_record(struct harness *h, unsigned n); /* the n-th of the calls */
struct store_env *h_calls(struct harness *h);
/* Called for each message at the moment when it leaves: after its batch's commit. */
void h_on_flush(struct harness *h, void (*see)(struct harness *h, const struct sip_msg *m, void *ctx),
		void *ctx);

/* What comes between these is one batch of the worker; anything outside is a batch of its own. */
void h_batch_begin(struct harness *h);
void h_batch_end(struct harness *h);
/* The i-th target of the first gateway becomes this URI. */
void h_retarget(struct harness *h, unsigned i, const char *uri);

/* h goes on with the configuration of the other, and the other way round. */
void h_swap_config(struct harness *h, struct harness *other);

struct proxy *h_proxy(struct harness *h);
struct proxy_shared *h_shared(struct harness *h);
msec_t h_now(const struct harness *h);
/* Requests fed in whose in-flight slot is still held. */
unsigned h_slots_held(const struct harness *h);
/* No response context is left, none is counted as being set up, and no slot of the in-flight filter is held. */
void h_assert_idle(const struct harness *h);

/* --- in --- */

/* A datagram from `from`; in the text form each bare LF becomes CRLF. False: the parser found no SIP in it. */
bool h_recv(struct harness *h, const char *from, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool h_recv_bytes(struct harness *h, const char *from, struct slice bytes);
/* What was received last, as it was. */
struct slice h_last_received(const struct harness *h);

/* A request that is sound but for what the fields say; what is not given has a default. `extra` holds whole lines, with
 * LF. "" leaves a header out where it says so. */
struct h_req {
	const char *from;         /* source; H_CALLER */
	uint64_t conn;            /* the connection that it comes over, instead of `from` */
	const char *method;       /* "INVITE" */
	const char *ruri;         /* "sip:bob@example.test" */
	const char *via;          /* sent-by and parameters but branch; the source */
	const char *branch;       /* "z9hG4bK-" + Call-ID + CSeq: shared by an INVITE, its CANCEL and its ACK */
	const char *max_forwards; /* "70"; "": absent */
	const char *from_hdr;     /* value of From without tag; "<sip:alice@caller.test>" */
	const char *from_tag;     /* "alice" */
	const char *to_hdr;       /* "<sip:bob@example.test>" */
	const char *to_tag;       /* none */
	const char *call_id;      /* "call-1" */
	unsigned cseq;            /* 1 */
	const char *extra;
	const char *body;
};
void h_request(struct harness *h, const struct h_req *r);
#define H_REQ(h, ...) h_request((h), &(struct h_req){__VA_ARGS__})

/* --- registrations --- */

void h_user(struct harness *h, const char *name, const char *domain, const char *password);
/* The credentials that `name` answers the challenge in a 401 or 407 with, as a header line with LF; `ruri` and method
 * are the request's. The first algorithm offered, or the second (MD5). */
struct h_cred {
	const char *name, *password, *method, *ruri;
	const char *qop;  /* "auth" */
	const char *body; /* with auth-int */
	unsigned nc;      /* 1 */
	bool md5;
};
const char *h_credentials(struct harness *h, const struct sip_msg *challenge, const struct h_cred *c);
#define H_CRED(h, challenge, ...) h_credentials((h), (challenge), &(struct h_cred){__VA_ARGS__})

/* A REGISTER for name@local.test with these lines, each call with a CSeq of its own; answers a challenge with the
 * password "secret". The final response. */
struct h_reg {
	const char *name;    /* "bob" */
	const char *from;    /* source; H_A */
	uint64_t conn;       /* the connection that it comes over instead */
	const char *lines;   /* with LF; "Contact: <sip:NAME@SOURCE>" */
	const char *call_id; /* "reg-NAME" */
	unsigned cseq;       /* the next one */
};
const struct sip_msg *h_register(struct harness *h, const struct h_reg *r);
#define H_REGISTER(h, ...) h_register((h), &(struct h_reg){__VA_ARGS__})
/* Addresses of record in the store, whether or not what is bound to them has expired. */
unsigned h_registered(struct harness *h);
/* What is bound to name@local.test; in the order that it was stored. */
unsigned h_bindings(struct harness *h, const char *name);
const char *h_binding(struct harness *h, const char *name, unsigned i);

/* The response of a UAS to a request that the proxy sent it. */
struct h_rep {
	const char *from;   /* source; where the request went */
	uint64_t conn;      /* the connection that it comes over; the request's */
	const char *reason; /* "Whatever" */
	const char *to_tag; /* "bob"; not in a 100 */
	const char *extra;  /* whole lines, with LF */
	const char *body;
};
void h_reply(struct harness *h, const struct sip_msg *req, unsigned status, const struct h_rep *r);
#define H_REP(h, req, status, ...) h_reply((h), (req), (status), &(struct h_rep){__VA_ARGS__})

/* The datagram that `m` left in could not be delivered. */
void h_undeliverable(struct harness *h, const struct sip_msg *m);

/* Route lines (with LF) that the caller makes of the Record-Route of a response (reversed), or the callee of a
 * request's (in order). "" if there is none. */
const char *h_route_set(struct harness *h, const struct sip_msg *m);

/* --- connections --- */

/* A peer opens one: "tcp:192.0.2.10:40000". It comes in on the first listener of its kind. */
uint64_t h_conn_open(struct harness *h, const char *from);
/* It ends, and the proxy is told if it watches. Cut, it is told by the next h_conn_news only, as if from the
 * mailbox. */
void h_conn_lose(struct harness *h, uint64_t conn);
void h_conn_cut(struct harness *h, uint64_t conn);
void h_conn_news(struct harness *h);
/* From now on the peer's kernel is silent on all connections to it, or takes bytes again. */
void h_conn_silent(struct harness *h, const char *remote, bool silent);
/* From now on no connection to there can even be begun. */
void h_conn_refuse(struct harness *h, const char *remote);
unsigned h_conns_opened(const struct harness *h); /* by the proxy */
const char *h_conn_name(const struct harness *h,
			uint64_t conn); /* that the peer is to prove to be (TLS), or "" */
const char *h_conn_remote(struct harness *h, uint64_t conn);
const char *h_aliases(
	struct harness *h); /* "1:5060/ 2:5061/host": connection, port, name of each alias so far */

/* Line ends sent to keep a NAT open, so far. */
unsigned h_keepalives(const struct harness *h);

/* --- time --- */

void h_run(struct harness *h, msec_t ms); /* tick by tick */

/* --- out --- */

/* Takes the oldest message sent that fits and has not been taken, and fails the test if there is none. The result
 * lives until h_stop. What timers send again byte for byte is counted (h_copies), not queued. */
const struct sip_msg *h_expect_request(struct harness *h, const char *to, const char *method);
const struct sip_msg *h_expect_response(struct harness *h, const char *to, unsigned status);
/* The same, or NULL. `status` 0: any final one. */
const struct sip_msg *h_take_request(struct harness *h, const char *to, const char *method); /* NULL: any */
const struct sip_msg *h_take_response(struct harness *h, const char *to, unsigned status);
void h_expect_silence(struct harness *h); /* nothing is left to take */
void h_forget(struct harness *h);         /* takes all that is left */
const char *h_pending(struct harness *h); /* all that is left, as text for a failure */
unsigned h_copies(const struct harness *h, const struct sip_msg *m); /* times that timers repeated it */
const char *h_sent_to(const struct harness *h, const struct sip_msg *m);
unsigned h_sent_listener(const struct harness *h, const struct sip_msg *m);
uint64_t h_sent_conn(const struct harness *h, const struct sip_msg *m); /* 0: a datagram */
msec_t h_sent_at(const struct harness *h, const struct sip_msg *m);
unsigned h_sent_count(const struct harness *h); /* all that ever left, copies not counted */

/* A call up to its forwarded INVITE: feeds it, takes the 100, returns the INVITE as sent to `to`. */
const struct sip_msg *h_call(struct harness *h, const char *to, const struct h_req *r);
#define H_CALL(h, to, ...) h_call((h), (to), &(struct h_req){__VA_ARGS__})
/* The caller's ACK for the final response (not 2xx) to its INVITE. */
void h_ack(struct harness *h, const struct h_req *invite, const struct sip_msg *final);

/* --- looking --- */

/* Text that lives until h_stop. */
char *h_keepf(struct harness *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *h_hdr(struct harness *h, const struct sip_msg *m, const char *name,
		  unsigned n);                                   /* n-th line; NULL: absent */
unsigned h_hdr_count(const struct sip_msg *m, const char *name); /* lines */
bool h_has(const struct sip_msg *m, const char *text);           /* bytes anywhere */
const char *h_ruri(struct harness *h, const struct sip_msg *m);
const char *h_branch(struct harness *h, const struct sip_msg *m); /* of the top Via */
void h_assert_hdr(struct harness *h, const struct sip_msg *m, const char *name, const char *value);
/* `sent` is `received` with the changes of RFC 3261 16.6 and no others: our Via on top, received and rport in the Via
 * below, Max-Forwards, Record-Route in front, Route. With same_ruri the start line too. */
void h_assert_forwarded(struct harness *h, struct slice received, const struct sip_msg *sent, bool same_ruri);
/* `sent` is the response `received` without its first Via line. */
void h_assert_passed(struct harness *h, struct slice received, const struct sip_msg *sent);

/* --- name look-ups --- */

/* Takes the oldest look-up asked for and not taken; its URI must contain `text`. */
uint64_t h_expect_resolve(struct harness *h, const char *text);
unsigned h_resolves(const struct harness *h); /* not taken yet */
/* hops: "192.0.2.21:5060 tcp:192.0.2.22:5060", over UDP where nothing else is said; NULL with an error. */
void h_resolved(struct harness *h, uint64_t ref, int error, const char *hops);

#endif
