/* The engine that runs the rows of the four tables, and the interface to the user. */
#include "txn_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"

/* Transactions without the magic cookie that may share a hash. Only the To tag is missing from it, so honest
 * clients never have two; the limit keeps others from making us walk a long chain. */
#define LEGACY_SAME_MAX 16

static const struct txn_machine *const machines[TXN_KIND_COUNT] = {
	[TXN_ICT] = &txn_ict,
	[TXN_NICT] = &txn_nict,
	[TXN_IST] = &txn_ist,
	[TXN_NIST] = &txn_nist,
};

#define NO_GAUGE CNT_COUNT
static const enum counter_id gauges[TXN_KIND_COUNT][TXN_STATE_COUNT] = {
	[TXN_ICT] = {CNT_TXN_ICT_CALLING, NO_GAUGE, CNT_TXN_ICT_PROCEEDING, CNT_TXN_ICT_COMPLETED, NO_GAUGE,
		     CNT_TXN_ICT_ACCEPTED, NO_GAUGE},
	[TXN_NICT] = {NO_GAUGE, CNT_TXN_NICT_TRYING, CNT_TXN_NICT_PROCEEDING, CNT_TXN_NICT_COMPLETED, NO_GAUGE,
		      NO_GAUGE, NO_GAUGE},
	[TXN_IST] = {NO_GAUGE, NO_GAUGE, CNT_TXN_IST_PROCEEDING, CNT_TXN_IST_COMPLETED, CNT_TXN_IST_CONFIRMED,
		     CNT_TXN_IST_ACCEPTED, NO_GAUGE},
	[TXN_NIST] = {NO_GAUGE, CNT_TXN_NIST_TRYING, CNT_TXN_NIST_PROCEEDING, CNT_TXN_NIST_COMPLETED, NO_GAUGE,
		      NO_GAUGE, NO_GAUGE},
};

/* --- the table --- */

int txn_table_create(const struct txn_timers *timers, const struct txn_user *user,
		     const struct txn_lower *lower, struct wheel *wheel, const msec_t *now, unsigned max,
		     struct txn_table **out)
{
	struct txn_table *tb = malloc(sizeof(*tb));

	if (!tb)
		return -ENOMEM;
	tb->count = tb->busy = 0;
	tb->max = max;
	tb->dead = NULL;
	tb->tm = *timers;
	tb->user = user;
	tb->lower = *lower;
	tb->wheel = wheel;
	tb->now = now;
	tb->hits = NULL;
	memset(tb->conn, 0, sizeof(tb->conn));
	if (txn_table_init(tb)) {
		free(tb);
		return -ENOMEM;
	}
	*out = tb;
	return 0;
}

static void txn_free(struct txn *t)
{
	free(t->kept);
	/* The block begins with the link. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	free(t->linked ? (void *)((struct txn_link *)(void *)t - 1) : t);
}

void txn_table_destroy(struct txn_table *tb)
{
	if (!tb)
		return;
	for (struct txn *t = txn_table_drain(tb), *next; t; t = next) {
		next = t->chain;
		timer_stop(tb->wheel, &t->timer);
		inflight_release(&t->slot);
		count_sub(gauges[t->kind][t->state], 1);
		txn_free(t);
	}
	txn_table_deinit(tb);
	free(tb);
}

void txn_table_set_timers(struct txn_table *tb, const struct txn_timers *timers)
{
	tb->tm = *timers;
}

unsigned txn_table_count(const struct txn_table *tb)
{
	return tb->count;
}

void txn_enter(struct txn_table *tb)
{
	tb->busy++;
}

void txn_leave(struct txn_table *tb)
{
	if (--tb->busy)
		return;
	while (tb->dead) {
		struct txn *t = tb->dead;
		tb->dead = t->chain;
		txn_free(t);
	}
}

/* --- the engine --- */

static void txn_move(struct txn *t, enum txn_state next)
{
	struct txn_table *tb = t->tb;

	count_sub(gauges[t->kind][t->state], 1);
	t->state = (uint8_t)next;
	if (t->linked && next != TXN_PROCEEDING)
		txn_conn_remove(t); /* with a final response the connection's end means nothing */
	if (next != TXN_TERMINATED) {
		count(gauges[t->kind][next]);
		return;
	}
	txn_timer_none(t);
	txn_table_remove(tb, t);
	inflight_release(&t->slot);
}

static void txn_end(struct txn *t)
{
	struct txn_table *tb = t->tb;
	void *owner = t->owner;

	t->owner = NULL;
	if (owner)
		tb->user->gone(owner, t);
	t->chain = tb->dead;
	tb->dead = t;
}

/* Between txn_enter and txn_leave. An action may come back here for the same transaction, by way of the user. */
int txn_event(struct txn *t, enum txn_event ev, const struct txn_input *in)
{
	const struct txn_row *row = &machines[t->kind]->row[t->state][ev];
	bool outermost = !t->running;
	int r;

	if (!row->act)
		return -EALREADY;
	if (t->tb->hits)
		(*t->tb->hits)[t->kind][t->state][ev]++;
	t->running = true;
	if (row->next != t->state)
		txn_move(t, row->next);
	r = row->act(t, in);
	if (row->next == TXN_TERMINATED)
		txn_end(t);
	if (outermost) {
		t->running = false;
		if (t->due) {
			t->due = false;
			txn_event(t, t->end_ev, NULL);
		}
	}
	return r;
}

void txn_drop(struct txn *t)
{
	free(t->kept);
	t->kept = NULL;
	t->kept_len = 0;
}

int txn_keep(struct txn *t, struct slice bytes)
{
	txn_drop(t);
	t->kept = malloc(bytes.len ? bytes.len : 1);
	if (!t->kept)
		return -ENOMEM;
	if (bytes.len)
		memcpy(t->kept, bytes.p, bytes.len);
	t->kept_len = (uint32_t)bytes.len;
	return 0;
}

void txn_send(struct txn *t, struct slice bytes)
{
	t->tb->lower.send(t->tb->lower.ctx, &t->flow, bytes);
	inflight_release(&t->slot);
}

bool txn_send_kept(struct txn *t)
{
	if (!t->kept)
		return false;
	txn_send(t, slice_make(t->kept, t->kept_len));
	return true;
}

uint32_t txn_64t1(const struct txn *t)
{
	return 64 * t->tm.t1;
}

bool txn_is_reliable(const struct txn *t)
{
	return flow_is_reliable(&t->flow);
}

/* --- actions that several machines use --- */

int txn_act_ignore(struct txn *t, const struct txn_input *in)
{
	(void)t, (void)in;
	return 0;
}

int txn_act_refuse(struct txn *t, const struct txn_input *in)
{
	(void)t, (void)in;
	return -EALREADY;
}

int txn_act_pass(struct txn *t, const struct txn_input *in)
{
	if (t->owner)
		t->tb->user->response(t->owner, t, in->msg);
	return 0;
}

int txn_act_pass_1xx(struct txn *t, const struct txn_input *in)
{
	if (in->msg->status == 100) {
		if (t->got_100)
			return 0;
		t->got_100 = true;
	}
	return txn_act_pass(t, in);
}

int txn_act_timeout(struct txn *t, const struct txn_input *in)
{
	(void)in;
	count(CNT_TXN_TIMEOUT);
	if (t->owner)
		t->tb->user->timeout(t->owner, t);
	return 0;
}

int txn_act_error(struct txn *t, const struct txn_input *in)
{
	(void)in;
	if (t->owner)
		t->tb->user->transport_error(t->owner, t);
	return 0;
}

int txn_act_ack_timeout(struct txn *t, const struct txn_input *in)
{
	const struct txn_lower *lower = &t->tb->lower;
	msec_t sent = t->timer.when - t->interval;

	(void)in;
	txn_timer_no_more(t); /* once acknowledged it stays so, and once reported the user knows */
	if (t->owner && lower->acked && !lower->acked(lower->ctx, &t->flow, sent))
		t->tb->user->unacked(t->owner, t);
	return 0;
}

int txn_act_answered(struct txn *t, const struct txn_input *in)
{
	(void)in;
	txn_timer_no_more(t);
	return 0;
}

int txn_act_absorb(struct txn *t, const struct txn_input *in)
{
	(void)t, (void)in;
	count(CNT_ABSORBED_TXN);
	return 0;
}

int txn_act_repeat_response(struct txn *t, const struct txn_input *in)
{
	if (txn_send_kept(t))
		count(CNT_RETRANSMITTED_RESPONSE);
	return txn_act_absorb(t, in);
}

/* --- creation --- */

/* With a struct txn_link in front for a client on a connection: the others, by far the most, do without. */
static struct txn *txn_alloc(size_t size, bool linked)
{
	struct txn_link *l;

	_Static_assert(sizeof(struct txn_link) % _Alignof(struct txn) == 0, "what follows a link is aligned");
	if (!linked)
		return malloc(size);
	l = malloc(sizeof(*l) + size);
	if (!l)
		return NULL;
	*l = (struct txn_link){0};
	return (struct txn *)(void *)(l + 1);
}

static int txn_create(struct txn_table *tb, const struct txn_key *k, enum txn_kind kind, const struct flow *f,
		      void *owner, struct txn **out)
{
	bool linked = (kind == TXN_ICT || kind == TXN_NICT) && f->conn;
	struct txn *t;

	if (tb->count >= tb->max || !txn_key_fits(k) ||
	    (k->legacy && txn_table_same(tb, k->hash) >= LEGACY_SAME_MAX)) {
		count(CNT_TXN_REFUSED);
		return -ENOBUFS;
	}
	t = txn_alloc(sizeof(*t) + txn_key_size(k), linked);
	if (!t)
		return -ENOMEM;
	*t = (struct txn){
		.kind = (uint8_t)kind,
		.state = (uint8_t)machines[kind]->initial,
		.tb = tb,
		.owner = owner,
		.linked = linked,
		.deadline = UINT64_MAX,
		.tm = tb->tm,
		.flow = *f,
	};
	timer_init(&t->timer, txn_timer_fired);
	txn_key_store(k, t);
	*out = t;
	return 0;
}

static void txn_begin(struct txn *t)
{
	txn_table_insert(t->tb, t);
	count(gauges[t->kind][t->state]);
	if (machines[t->kind]->start)
		machines[t->kind]->start(t);
}

int txn_remake(struct txn_table *tb, const struct txn_key *k, enum txn_kind kind, enum txn_state state,
	       const struct flow *f, void *owner, struct txn **out)
{
	int rc = txn_create(tb, k, kind, f, owner, out);

	if (!rc)
		(*out)->state = (uint8_t)state;
	return rc;
}

static bool is_timer(enum txn_kind kind, unsigned state, unsigned ev)
{
	return ev >= TXN_EV_TIMER_A && ev <= TXN_EV_ACK_TIMEOUT && machines[kind]->row[state][ev].act;
}

bool txn_repeats(enum txn_kind kind, unsigned state, unsigned again)
{
	return is_timer(kind, state, again) && machines[kind]->row[state][again].next == state;
}

bool txn_state_is_sound(enum txn_kind kind, unsigned state, bool timer, unsigned end)
{
	if (state >= TXN_TERMINATED || gauges[kind][state] == NO_GAUGE)
		return false;
	if (timer)
		return is_timer(kind, state, end) && machines[kind]->row[state][end].next == TXN_TERMINATED;
	for (unsigned ev = 0; ev < TXN_EV_COUNT; ev++)
		if (is_timer(kind, state, ev))
			return false;
	return true;
}

void txn_unmake(struct txn *t)
{
	txn_free(t);
}

void txn_resurrect(struct txn *t)
{
	bool waiting = t->state == TXN_CALLING || t->state == TXN_TRYING || t->state == TXN_PROCEEDING;

	if (t->linked && waiting)
		txn_conn_add(t);
	txn_table_insert(t->tb, t);
	count(gauges[t->kind][t->state]);
}

int txn_server_create(struct txn_table *tb, const struct sip_msg *m, const struct flow *source, void *owner,
		      _Atomic uint64_t *slot, struct txn **out)
{
	struct txn_key k;
	struct txn *t;
	int r;

	txn_key_server(m, false, &k);
	r = txn_create(tb, &k, m->method == SIP_METHOD_INVITE ? TXN_IST : TXN_NIST, source, owner, &t);
	if (r)
		return r;
	t->slot = slot;
	txn_begin(t);
	*out = t;
	return 0;
}

int txn_client_create(struct txn_table *tb, const struct txn_client_args *a, struct txn **out)
{
	struct txn_key k;
	struct txn *t;
	int r;

	txn_key_client(a->branch, a->method, a->method_name, &k);
	r = txn_create(tb, &k, a->method == SIP_METHOD_INVITE ? TXN_ICT : TXN_NICT, &a->flow, a->owner, &t);
	if (r)
		return r;
	if (txn_keep(t, a->bytes)) {
		txn_free(t);
		return -ENOMEM;
	}
	t->interval = a->ack_timeout;
	txn_conn_add(t);
	txn_begin(t);
	*out = t;
	return 0;
}

/* --- what comes in --- */

struct txn *txn_server_find(struct txn_table *tb, const struct sip_msg *m, bool as_invite)
{
	struct txn_key k;
	struct txn *t;

	txn_key_server(m, as_invite, &k);
	t = txn_table_look(tb, &k);
	/* An ACK for a 2xx is the user's, even where a client gave it the INVITE's branch (RFC 6026 7.1). */
	return t && m->method == SIP_METHOD_ACK && t->state == TXN_ACCEPTED ? NULL : t;
}

static int txn_run(struct txn *t, enum txn_event ev, const struct txn_input *in)
{
	struct txn_table *tb = t->tb;
	int r;

	txn_enter(tb);
	r = txn_event(t, ev, in);
	txn_leave(tb);
	return r;
}

void txn_server_receive(struct txn *t, const struct sip_msg *m, const struct flow *source)
{
	if (m->method == SIP_METHOD_ACK) {
		txn_run(t, TXN_EV_ACK, NULL);
		return;
	}
	t->flow = *source;
	txn_run(t, TXN_EV_REQUEST, NULL);
}

static enum txn_event event_of_status(unsigned status)
{
	return status < 200 ? TXN_EV_1XX : status < 300 ? TXN_EV_2XX : TXN_EV_3XX;
}

/* RFC 4320 4.1: no provisional but 100, and over UDP that only when the client's Timer E has reached T2. */
static bool is_early(const struct txn *t, unsigned status)
{
	if (t->kind != TXN_NIST || status >= 200)
		return false;
	return status > 100 || (t->state == TXN_TRYING && *t->tb->now < t->deadline);
}

int txn_server_respond(struct txn *t, unsigned status, struct slice bytes)
{
	struct txn_input in = {.bytes = bytes};
	int r = txn_run(t, is_early(t, status) ? TXN_EV_EARLY : event_of_status(status), &in);

	if (r == -EALREADY)
		count(CNT_DROP_LATE_RESPONSE);
	return r;
}

void txn_server_abandon(struct txn *t)
{
	txn_run(t, TXN_EV_ABANDON, NULL);
}

void txn_server_error(struct txn *t)
{
	txn_run(t, TXN_EV_ERROR, NULL);
}

struct txn *txn_client_find_branch(struct txn_table *tb, struct slice branch, struct slice method_name)
{
	struct txn_key k;

	txn_key_client(branch, sip_method_id(method_name), method_name, &k);
	return txn_table_look(tb, &k);
}

struct txn *txn_client_find(struct txn_table *tb, const struct sip_msg *response)
{
	struct txn_key k;

	txn_key_client(sip_slice(response, response->via.branch), response->method,
		       sip_slice(response, response->method_name), &k);
	return txn_table_look(tb, &k);
}

void txn_client_receive(struct txn *t, const struct sip_msg *response)
{
	struct txn_input in = {.msg = response};

	txn_run(t, event_of_status(response->status), &in);
}

void txn_client_error(struct txn *t)
{
	txn_run(t, TXN_EV_ERROR, NULL);
}

void txn_client_abandon(struct txn *t)
{
	txn_run(t, TXN_EV_ABANDON, NULL);
}

/* --- both --- */

enum txn_kind txn_kind(const struct txn *t)
{
	return t->kind;
}

enum txn_state txn_state(const struct txn *t)
{
	return t->state;
}

void *txn_owner(const struct txn *t)
{
	return t->owner;
}

void txn_set_owner(struct txn *t, void *owner)
{
	t->owner = owner;
}

const struct flow *txn_flow(const struct txn *t)
{
	return &t->flow;
}

struct slice txn_request_bytes(const struct txn *t)
{
	bool waiting = t->kind == TXN_ICT || t->kind == TXN_NICT;

	waiting = waiting && (t->state == TXN_CALLING || t->state == TXN_TRYING || t->state == TXN_PROCEEDING);
	return waiting ? slice_make(t->kept, t->kept_len) : SLICE_NONE;
}

uint32_t txn_quiet_time(const struct txn_timers *tm)
{
	uint32_t sum = 0;

	for (uint32_t e = tm->t1; e && e < tm->t2; e *= 2)
		sum += e;
	return sum;
}

const char *txn_kind_name(enum txn_kind k)
{
	static const char *const name[TXN_KIND_COUNT] = {"ict", "nict", "ist", "nist"};

	return k < TXN_KIND_COUNT ? name[k] : "?";
}

const char *txn_state_name(enum txn_state s)
{
	static const char *const name[TXN_STATE_COUNT] = {"calling",   "trying",   "proceeding", "completed",
							  "confirmed", "accepted", "terminated"};

	return s < TXN_STATE_COUNT ? name[s] : "?";
}
