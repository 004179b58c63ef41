/* What the files of this folder share. */
#ifndef TXN_TXN_P_H
#define TXN_TXN_P_H

#include "transport/packet.h"
#include "txn/txn.h"

/* Timers by their letters in RFC 3261 table 4 and RFC 6026; C is the proxy's. */
enum txn_event {
	TXN_EV_REQUEST, /* server: the request came again */
	TXN_EV_ACK,     /* server: for the INVITE */
	TXN_EV_1XX,     /* client: received; server: from the user */
	TXN_EV_2XX,
	TXN_EV_3XX,   /* 300 to 699 */
	TXN_EV_EARLY, /* server: a provisional that RFC 4320 forbids */
	TXN_EV_TIMER_A,
	TXN_EV_TIMER_B,
	TXN_EV_TIMER_D,
	TXN_EV_TIMER_E,
	TXN_EV_TIMER_F,
	TXN_EV_TIMER_G,
	TXN_EV_TIMER_H,
	TXN_EV_TIMER_I,
	TXN_EV_TIMER_J,
	TXN_EV_TIMER_K,
	TXN_EV_TIMER_L,
	TXN_EV_TIMER_M,
	TXN_EV_ACK_TIMEOUT, /* client: when to look whether the request has arrived */
	TXN_EV_ERROR,       /* the transport could not deliver */
	TXN_EV_ABANDON,     /* the user gives up */
	TXN_EV_COUNT
};

/* What came with an event; the fields that it has no use for are empty. */
struct txn_input {
	const struct sip_msg *msg; /* client: the response */
	struct slice bytes;        /* server: the user's response */
};

/* An empty cell (no action) is an event that cannot come, or that means nothing, in that state. */
struct txn_row {
	int (*act)(struct txn *t, const struct txn_input *in);
	uint8_t next; /* enum txn_state: entered before the action runs */
};

/* A row of a machine's table. scripts/txn-diagram reads these lines: one row a line, with its comment. */
#define ROW(state, event, action, next) [TXN_##state][TXN_EV_##event] = {action, TXN_##next}

struct txn_machine {
	const struct txn_row (*row)[TXN_EV_COUNT]; /* TXN_STATE_COUNT of them */
	void (*start)(struct txn *t); /* sends the request and sets the first timers; NULL: nothing to do */
	enum txn_state initial;
};

extern const struct txn_machine txn_ict, txn_nict, txn_ist, txn_nist;

/* The texts that a key consists of, in the order in which they are stored behind struct txn. With the magic cookie:
 * branch, sent-by host, method if it is no known one. Without it: top Via, Call-ID, method, Request-URI, From tag, To
 * tag. */
enum txn_part {
	TXN_PART_VIA,
	TXN_PART_HOST,
	TXN_PART_METHOD,
	TXN_PART_URI,
	TXN_PART_FROM,
	TXN_PART_TO,
	TXN_PARTS
};
#define TXN_PART_CALL_ID TXN_PART_HOST

struct txn_key {
	uint64_t hash;
	bool server;
	bool legacy;    /* RFC 2543: no magic cookie */
	bool ack;       /* compare the To tag with that of the response sent */
	uint8_t method; /* enum sip_method; ACK became INVITE */
	uint32_t num;   /* the sent-by port; legacy: the CSeq number */
	struct slice part[TXN_PARTS];
};

/* Among the client transactions on connections with the same bucket (conn.c); stands in front of its struct txn. */
struct txn_link {
	struct txn *next, **prev; /* prev NULL: not in the index */
};

/* One for each live transaction, a quarter of a million at 4,000 calls/s: what a look-up reads stands first, and
 * what a state has no more use for is dropped on entering it. */
struct txn {
	struct txn *chain; /* the next of those without a slot in the bucket, then in the list of the dead */
	uint64_t hash;
	uint8_t kind;     /* enum txn_kind */
	uint8_t state;    /* enum txn_state */
	uint8_t method;   /* enum sip_method */
	uint8_t again_ev; /* enum txn_event: what a retransmission timer means here */
	uint8_t end_ev;   /* enum txn_event: what the deadline means here */
	bool legacy : 1;
	bool running : 1; /* an action of this transaction is on the stack */
	bool due : 1;     /* the deadline is now: run end_ev once the action is over */
	bool got_100 : 1; /* client */
	bool linked : 1;  /* client on a connection: a struct txn_link stands in front of this one */
	uint16_t part_len[TXN_PARTS]; /* bytes, of the texts in key[] */
	uint32_t num;                 /* as in struct txn_key */
	struct txn_table *tb;
	void *owner;            /* NULL: nobody wants upcalls */
	_Atomic uint64_t *slot; /* server: the in-flight slot; NULL once released */
	struct timer timer;
	msec_t deadline; /* ms; UINT64_MAX: none. NIST without an answer: from when a 100 may go (RFC 4320) */
	struct txn_timers tm;
	uint32_t interval; /* ms, of the last retransmission timer; client on a reliable flow: ack_timeout */
	uint32_t kept_len; /* bytes */
	uint16_t tag_len;  /* legacy IST: the To tag in `kept` */
	uint32_t tag_off;
	char *kept; /* the request (client), the ACK (ICT Completed), the last response (server) */
	struct flow flow;
	char key[];
};

#define TXN_CONN_BUCKETS 4096

typedef uint32_t txn_hits[TXN_KIND_COUNT][TXN_STATE_COUNT][TXN_EV_COUNT];

#define TXN_BUCKET_SLOTS 5

/* A cache line. Its slots are filled from the first one on; what has none hangs on the last one's transaction, by
 * `chain`. */
struct txn_bucket {
	struct txn *slot[TXN_BUCKET_SLOTS];
	uint32_t tag[TXN_BUCKET_SLOTS]; /* of the hash, the part that numbers buckets */
	uint16_t used;                  /* slots */
	uint16_t more;                  /* transactions without a slot */
};

struct txn_table {
	struct txn_bucket *bucket;
	size_t buckets; /* in use: mask / 2 < buckets <= mask + 1 */
	size_t mask;    /* 2^n - 1 */
	size_t cap;     /* allocated */
	unsigned count; /* live, TXN_TERMINATED ones not included */
	unsigned max;
	unsigned busy;    /* calls into the table on the stack */
	struct txn *dead; /* to be freed when busy falls to 0 */
	struct txn_timers tm;
	const struct txn_user *user;
	struct txn_lower lower;
	struct wheel *wheel;
	const msec_t *now;
	txn_hits *hits; /* tests: how often each row ran; NULL else */
	/* client transactions without a final response, by their connection */
	struct txn *conn[TXN_CONN_BUCKETS];
	struct sip_msg_room room;
	char scratch[SIP_MESSAGE_MAX];
};

/* txn.c */
int txn_event(struct txn *t, enum txn_event ev, const struct txn_input *in);
void txn_enter(struct txn_table *tb);
void txn_leave(struct txn_table *tb); /* frees the dead when it is the outermost */
/* Replaces what is kept. Without memory nothing is kept: -ENOMEM. */
int txn_keep(struct txn *t, struct slice bytes);
void txn_drop(struct txn *t);
void txn_send(struct txn *t, struct slice bytes);
bool txn_send_kept(struct txn *t); /* false: nothing is kept */
uint32_t txn_64t1(const struct txn *t);
bool txn_is_reliable(const struct txn *t);
/* Actions that several machines use. */
int txn_act_ignore(struct txn *t, const struct txn_input *in);
int txn_act_refuse(struct txn *t, const struct txn_input *in); /* -EALREADY */
int txn_act_pass(struct txn *t, const struct txn_input *in);   /* the response goes to the user */
int txn_act_pass_1xx(struct txn *t, const struct txn_input *in);
int txn_act_timeout(struct txn *t, const struct txn_input *in); /* Timer B, F */
int txn_act_error(struct txn *t, const struct txn_input *in);
/* the user hears of a request that has not arrived */
int txn_act_ack_timeout(struct txn *t, const struct txn_input *in);
int txn_act_answered(struct txn *t, const struct txn_input *in);        /* it did: there was a response */
int txn_act_repeat_response(struct txn *t, const struct txn_input *in); /* for a request that came again */
int txn_act_absorb(struct txn *t, const struct txn_input *in);

/* For snapshot.c: a transaction in the middle of its life, and in the table and on the gauges by txn_resurrect. */
int txn_remake(struct txn_table *tb, const struct txn_key *k, enum txn_kind kind, enum txn_state state,
	       const struct flow *f, void *owner, struct txn **out);
void txn_unmake(struct txn *t); /* before txn_resurrect */
/* Whether a transaction can be in that state, with that deadline, or with none. */
bool txn_state_is_sound(enum txn_kind kind, unsigned state, bool timer, unsigned end);
bool txn_repeats(enum txn_kind kind, unsigned state, unsigned again); /* a retransmission timer of the state */
void txn_resurrect(struct txn *t);
void txn_key_rehash(struct txn_key *k, uint8_t method); /* match.c: of a key whose texts were stored */

/* timer.c: the deadline after `ms`; 0: as soon as the action is over. */
void txn_timer_end(struct txn *t, enum txn_event ev, uint32_t ms);
/* A deadline, and retransmissions from `again_ms` on. */
void txn_timer_start(struct txn *t, enum txn_event end, uint32_t end_ms, enum txn_event again,
		     uint32_t again_ms);
void txn_timer_again(struct txn *t, uint32_t interval); /* the next retransmission, from inside the last */
void txn_timer_no_more(struct txn *t);                  /* no retransmissions from now on: the deadline alone */
void txn_timer_none(struct txn *t);
void txn_timer_fired(struct timer *tm, msec_t now);

/* match.c */
void txn_key_server(const struct sip_msg *m, bool as_invite, struct txn_key *k);
void txn_key_client(struct slice branch, enum sip_method method, struct slice method_name, struct txn_key *k);
bool txn_key_matches(const struct txn_key *k, const struct txn *t);
bool txn_key_fits(const struct txn_key *k);   /* every text short enough to be stored */
size_t txn_key_size(const struct txn_key *k); /* bytes behind struct txn */
void txn_key_store(const struct txn_key *k, struct txn *t);

/* conn.c: which client transactions wait for something on a connection. Nothing for one that is not linked. */
void txn_conn_add(struct txn *t);
void txn_conn_remove(struct txn *t);

/* table.c */
int txn_table_init(struct txn_table *tb);
void txn_table_deinit(struct txn_table *tb);
void txn_table_insert(struct txn_table *tb, struct txn *t);
void txn_table_remove(struct txn_table *tb, struct txn *t);
struct txn *txn_table_look(const struct txn_table *tb, const struct txn_key *k);
unsigned txn_table_same(const struct txn_table *tb, uint64_t hash); /* transactions with this hash */
struct txn *txn_table_drain(struct txn_table *tb);                  /* all of them, out of it, by `chain` */

#endif
