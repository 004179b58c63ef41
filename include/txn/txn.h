/* Transactions: RFC 3261 section 17 as amended by RFC 6026 and RFC 4320. The four state machines are the tables in
 * src/txn/{ict,nict,ist,nist}.c. Everything here belongs to one worker; no function may be called from another
 * thread. */
#ifndef TXN_TXN_H
#define TXN_TXN_H

#include <stdatomic.h>

#include "base/flow.h"
#include "base/wheel.h"
#include "sip/message.h"

enum txn_kind { TXN_ICT, TXN_NICT, TXN_IST, TXN_NIST, TXN_KIND_COUNT };

enum txn_state {
	TXN_CALLING, /* ICT */
	TXN_TRYING,  /* NICT, NIST */
	TXN_PROCEEDING,
	TXN_COMPLETED,
	TXN_CONFIRMED, /* IST */
	TXN_ACCEPTED,  /* ICT, IST: RFC 6026 */
	TXN_TERMINATED,
	TXN_STATE_COUNT
};

struct txn_timers {
	uint32_t t1, t2, t4; /* ms */
};

struct txn;
struct txn_table;

/* Upcalls to the transaction user, on the worker, from inside txn_* calls and timers. The user may respond,
 * create and cancel transactions inside them. */
struct txn_user {
	/* A response to pass on: each provisional but 100 retransmissions, each 2xx to an INVITE (even one that comes
	 * after another final response: 16.7), the first other final. The message is valid during the call only. */
	void (*response)(void *owner, struct txn *t, const struct sip_msg *m);
	/* Timer B or F: no final response (17.1.1.2, 17.1.2.2). */
	void (*timeout)(void *owner, struct txn *t);
	/* The transport says that the request could not be delivered; also for a server transaction whose response
	 * could not be sent. */
	void (*transport_error)(void *owner, struct txn *t);
	/* The peer has not acknowledged the request for ack_timeout (reliable transports). The transaction goes on:
	 * responses may still come. */
	void (*unacked)(void *owner, struct txn *t);
	/* The last call for t: forget it. Called exactly once for every transaction that has an owner. */
	void (*gone)(void *owner, struct txn *t);
};

/* What the layer below offers. `bytes` are copied before send returns. It queues: nothing leaves before the
 * worker's commit. Failure to send is reported later, by txn_client_error. */
struct txn_lower {
	void (*send)(void *ctx, const struct flow *to, struct slice bytes);
	/* True if the peer's kernel has all that was sent over `to` at or before `since` (ms). Reliable flows only. May
	 * be NULL: no ack_timeout. */
	bool (*acked)(void *ctx, const struct flow *to, msec_t since);
	void *ctx;
};

/* `max`: transactions of all kinds and states; beyond it txn_*_create give -ENOBUFS. 0 or -ENOMEM. The wheel, users and
 * lower outlive the table. `now` is read through the pointer (ms, the worker's batch time). */
int txn_table_create(const struct txn_timers *timers, const struct txn_user *user,
		     const struct txn_lower *lower, struct wheel *wheel, const msec_t *now, unsigned max,
		     struct txn_table **out);
/* Frees every transaction without upcalls. */
void txn_table_destroy(struct txn_table *tb);
/* for transactions created later */
void txn_table_set_timers(struct txn_table *tb, const struct txn_timers *timers);
unsigned txn_table_count(const struct txn_table *tb);

/* --- server side --- */

/* The server transaction that a request belongs to (17.2.3; without the magic cookie by RFC 2543's rules: Request-URI,
 * tags, Call-ID, CSeq, top Via). An ACK finds the INVITE's, unless a 2xx was sent: that ACK is the user's
 * (RFC 6026 7.1). With `as_invite` (for a CANCEL) it finds the INVITE's transaction instead of the CANCEL's own (9.2).
 * NULL: none. */
struct txn *txn_server_find(struct txn_table *tb, const struct sip_msg *m, bool as_invite);

/* Creates an INVITE or non-INVITE server transaction for a request that txn_server_find did not find (never for ACK).
 * `slot` is the request's in-flight slot or NULL: the transaction takes it and releases it when it first sends
 * a response, or ends. 0, -ENOBUFS (max reached), -ENOMEM. It has no timer before its final response: the user
 * owes it one. */
int txn_server_create(struct txn_table *tb, const struct sip_msg *m, const struct flow *source, void *owner,
		      _Atomic uint64_t *slot, struct txn **out);

/* A request that matched t: a retransmission or an ACK. Absorbs it, repeating the last response where the state says
 * so. A retransmission that came over another flow moves the transaction to it. */
void txn_server_receive(struct txn *t, const struct sip_msg *m, const struct flow *source);

/* Sends a response of the user's through t. `bytes` are copied (kept for retransmission where the state needs it). A
 * 2xx to INVITE leads to Accepted, where further 2xx may follow. Responses that the state does not allow are dropped
 * and counted (CNT_DROP_LATE_RESPONSE); 0, -ENOMEM (sent, but cannot be repeated), -EALREADY (not allowed here). RFC
 * 4320: to a non-INVITE request no 101 to 199 is allowed, and over UDP no 100 before txn_quiet_time is over. */
int txn_server_respond(struct txn *t, unsigned status, struct slice bytes);

/* Ends it without a final response, as RFC 4320 4.2 wants it where only a 408 is left to say; nothing if one was sent.
 * No more upcalls but `gone`. */
void txn_server_abandon(struct txn *t);

/* A response could not be sent, or ICMP says so. The user is told; only a non-INVITE transaction ends by it. */
void txn_server_error(struct txn *t);

/* ms from a non-INVITE request to when its client's Timer E is reset to T2 (3.5 s by default). RFC 4320 4.1: a
 * user who has not answered by then is to send a 100. */
uint32_t txn_quiet_time(const struct txn_timers *timers);

/* --- client side --- */

struct txn_client_args {
	struct slice bytes;     /* the request as it is to be sent; copied */
	struct slice branch;    /* of its top Via; copied */
	enum sip_method method; /* INVITE makes an ICT, everything else a NICT; never ACK */
	struct slice method_name;
	struct flow flow; /* where to */
	/* ms; 0: none. Reliable transports: when to look whether the request arrived, unless a response came */
	uint32_t ack_timeout;
	void *owner;
};
/* Sends the request and starts the timers. 0, -ENOBUFS, -ENOMEM. */
int txn_client_create(struct txn_table *tb, const struct txn_client_args *a, struct txn **out);

/* By branch of the top Via and method of the CSeq (17.1.3). NULL: none. */
struct txn *txn_client_find(struct txn_table *tb, const struct sip_msg *response);
/* By branch alone: for an ICMP error that quotes a request of ours. */
struct txn *txn_client_find_branch(struct txn_table *tb, struct slice branch, struct slice method_name);
void txn_client_receive(struct txn *t, const struct sip_msg *response);
/* Could not be sent, or ICMP says so: the user is told and the transaction ends, unless it has had a final
 * response. */
void txn_client_error(struct txn *t);
/* A connection is gone: every client transaction whose request went over it, and that has had no final response, fails
 * as by txn_client_error. Server transactions keep their flow: their responses find another way when they are sent. */
void txn_table_conn_lost(struct txn_table *tb, uint64_t conn);
/* The user gives up on a client transaction without a final response (64*T1 after a CANCEL, 9.1): no more upcalls but
 * `gone`; ends now. */
void txn_client_abandon(struct txn *t);

/* --- both --- */
enum txn_kind txn_kind(const struct txn *t);
enum txn_state txn_state(const struct txn *t);
void *txn_owner(const struct txn *t);
void txn_set_owner(struct txn *t, void *owner); /* NULL: no more upcalls */
const struct flow *txn_flow(const struct txn *t);
/* The request as sent (client), as long as no final response has come; else empty. Valid until the transaction
 * changes state. */
struct slice txn_request_bytes(const struct txn *t);

const char *txn_kind_name(enum txn_kind k);
const char *txn_state_name(enum txn_state s);

#endif
