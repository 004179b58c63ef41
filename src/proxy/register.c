/* REGISTER for a domain of ours. The registrations of a batch are gathered and applied at its commit, in one
 * transaction of the store; their answers leave after it. So workers hold the store's only write lock for as long as
 * the work takes, and no longer. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/log.h"
#include "registrar/registrar.h"

struct registration {
	struct registration *next;
	struct txn *t; /* without an answer it stays, and it gets one with this batch */
	struct packet *pk;
	unsigned domain;
	unsigned status;
	const char *reason;
	bool changed;
	int error;          /* why the store could not: -errno */
	struct slice extra; /* malloc'd */
	char aor[LOCATION_AOR_MAX];
	unsigned aor_len;
};

/* A change to a binding that is not a REGISTER's. */
struct mark {
	struct mark *next;
	uint64_t number; /* 0: what has expired is to go */
	uint64_t asked;  /* ms of the wall clock: the phone was last asked then */
	bool unreachable;
	unsigned len; /* bytes */
	char aor[];
};

static void registration_destroy(struct registration *r)
{
	packet_destroy(r->pk);
	free((void *)(uintptr_t)r->extra.p);
	free(r);
}

/* Through the request's transaction, so that copies get the same answer. Ends the packet. */
static void respond(struct proxy *p, struct txn *t, struct packet *pk, unsigned status, const char *reason,
		    struct slice extra)
{
	long n = reply_build(p, pk, status, reason, extra);

	if (n > 0)
		txn_server_respond(t, status, slice_make(p->out, (size_t)n));
	else
		txn_server_abandon(t); /* too large to be answered */
	packet_destroy(pk);
}

static bool aor_of(const struct proxy *p, const struct sip_msg *m, unsigned domain, struct buf *aor)
{
	struct sip_uri to;

	return sip_uri_parse(sip_slice(m, m->to_uri), &to) == 0 && self_domain(p, to.host) == (int)domain &&
	       location_aor(to.user, slice_str(p->config->domain[domain].name), aor) == 0;
}

/* A binding may depend on the connection: then we must hear of its end. False: it has ended already, and nobody waits
 * for an answer. */
static bool watch_flow(struct proxy *p, const struct packet *pk)
{
	struct flow flow = pk->flow;
	uint32_t ack;
	return !pk->flow.conn || !p->lower.attach || p->lower.attach(p->lower.ctx, &flow, &ack) == 0;
}

void register_receive(struct proxy *p, struct packet *pk, unsigned domain)
{
	const struct config_domain *d = &p->config->domain[domain];
	struct registration *r;
	struct flow source;
	struct txn *t;
	struct buf aor;

	if (d->authenticate && !auth_require(p, pk, d, false))
		return;
	r = calloc(1, sizeof(*r));
	if (!r) {
		reply_stateless(p, pk, 500, NULL, SLICE_NONE);
		return;
	}
	buf_init(&aor, r->aor, sizeof(r->aor));
	if (!aor_of(p, pk->msg, domain, &aor)) {
		free(r);
		reply_stateless(p, pk, 404, NULL, SLICE_NONE);
		return;
	}
	reply_flow(pk, &source);
	if (txn_server_create(p->txns, pk->msg, &source, NULL, pk->inflight, &t) < 0) {
		free(r);
		count(CNT_REFUSED_TRANSACTIONS);
		reply_overload(p, pk);
		return;
	}
	pk->inflight = NULL;
	if (!watch_flow(p, pk)) {
		txn_server_abandon(t);
		free(r);
		packet_destroy(pk);
		return;
	}
	r->pk = pk;
	r->t = t;
	r->domain = domain;
	r->aor_len = (unsigned)aor.len;
	*p->registrations_tail = r;
	p->registrations_tail = &r->next;
}

/* One that this batch is about to store, or one that is stored. */
static bool has_bindings(struct proxy *p, uint64_t conn)
{
	for (const struct registration *r = p->registrations; r; r = r->next)
		if (r->pk->flow.conn == conn)
			return true;
	return store_read_begin(p->reader) == 0 && location_has_conn(p->reader, conn);
}

void register_conn_lost(struct proxy *p, uint64_t conn)
{
	if (!p->reader || !has_bindings(p, conn))
		return;
	if (p->lost_count == p->lost_room) {
		unsigned room = p->lost_room ? 2 * p->lost_room : 64;
		uint64_t *more = realloc(p->lost, room * sizeof(*more));
		if (!more)
			return; /* its bindings stay until they expire */
		p->lost = more;
		p->lost_room = room;
	}
	p->lost[p->lost_count++] = conn;
}

/* --- what is not a REGISTER's --- */

#define MARKS_MAX 4096 /* of one batch: the others wait for the next pass */

void register_mark(struct proxy *p, struct slice aor, uint64_t number, bool unreachable, uint64_t asked)
{
	struct mark *m = p->mark_count < MARKS_MAX ? malloc(sizeof(*m) + aor.len) : NULL;

	if (!m)
		return;
	*m = (struct mark){.next = p->marks,
			   .number = number,
			   .asked = asked,
			   .unreachable = unreachable,
			   .len = (unsigned)aor.len};
	memcpy(m->aor, aor.p, aor.len);
	p->marks = m;
	p->mark_count++;
}

void register_expire(struct proxy *p, struct slice aor)
{
	register_mark(p, aor, 0, false, 0);
}

static void marks_clear(struct proxy *p)
{
	while (p->marks) {
		struct mark *m = p->marks;
		p->marks = m->next;
		free(m);
	}
	p->mark_count = 0;
}

/* By number: a binding that was made anew meanwhile is another one. True if something has changed. */
static bool mark_apply(struct proxy *p, struct store_txn *t, const struct mark *m)
{
	struct slice aor = slice_make(m->aor, m->len);
	struct binding_set set;
	bool changed = m->number == 0;

	/* Loading leaves out what has expired. */
	if (location_load(t, aor, proxy_wall(p), &set) < 0)
		return false;
	for (unsigned i = 0; i < set.count && m->number; i++)
		if (set.b[i].number == m->number && set.b[i].unreachable != m->unreachable &&
		    !(m->unreachable &&
		      set.b[i].updated > m->asked)) { /* it has registered since: it is there */
			set.b[i].unreachable = m->unreachable;
			changed = true;
		}
	if (!changed || location_save(t, aor, &set) < 0)
		return false;
	if (!m->number)
		count(CNT_BINDINGS_EXPIRED);
	return true;
}

/* --- the commit --- */

static void apply_one(struct proxy *p, struct store_txn *t, struct registration *r)
{
	struct registrar_args a = {.m = r->pk->msg,
				   .flow = &r->pk->flow,
				   .domain = &p->config->domain[r->domain],
				   .aor = slice_make(r->aor, r->aor_len),
				   .now = proxy_wall(p)};
	struct registrar_answer out = {0};
	char *copy = NULL;

	buf_init(&out.extra, p->out, REGISTRAR_EXTRA_MAX);
	registrar_apply(t, &a, &out);
	if (out.extra.len && !(copy = malloc(out.extra.len))) {
		out.status = 500;
		out.extra.len = 0;
	}
	if (copy)
		memcpy(copy, out.extra.p, out.extra.len);
	r->error = out.error;
	r->status = out.status;
	r->reason = out.reason;
	r->changed = out.changed;
	r->extra = slice_make(copy, out.extra.len);
}

static void log_failed(int rc)
{
	static struct log_limiter limiter;
	uint64_t missed;

	count(CNT_STORE_FAILED);
	if (log_limit(&limiter, 1, &missed))
		log_error("registrar", "registrations cannot be stored: %s",
			  rc == -ENOSPC ? "store.map_size or the disk is full" : strerror(-rc));
}

/* 0, or -errno: nothing was changed. */
static int apply_all(struct proxy *p)
{
	struct store_txn *t;
	uint64_t dropped = 0;
	bool changed = false;
	int rc = store_begin(p->store, &t), error = 0;

	if (rc)
		return rc;
	for (struct registration *r = p->registrations; r; r = r->next) {
		apply_one(p, t, r);
		changed = changed || r->changed;
		error = error ? error : r->error;
	}
	for (unsigned i = 0; i < p->lost_count; i++) {
		long n = location_drop_conn(t, p->lost[i]);
		if (n > 0) {
			changed = true;
			dropped += (uint64_t)n;
		} else if (n < 0) {
			error = error ? error : (int)n;
		}
	}
	for (const struct mark *m = p->marks; m; m = m->next)
		changed |= mark_apply(p, t, m);
	if (changed) {
		rc = store_commit(t); /* tells of an error, too, that spoiled the transaction */
	} else {
		store_abort(t);
		rc = error;
	}
	if (!rc)
		count_add(CNT_BINDINGS_UNBOUND, dropped);
	return rc;
}

static void answer_all(struct proxy *p, int rc)
{
	while (p->registrations) {
		struct registration *r = p->registrations;
		p->registrations = r->next;
		bool failed = rc < 0 && (r->changed || !r->status);
		if (failed || r->status == 500)
			count(CNT_REGISTER_FAILED);
		else
			count(r->status == 200 ? CNT_REGISTER_OK : CNT_REGISTER_REFUSED);
		respond(p, r->t, r->pk, failed ? 500 : r->status, failed ? NULL : r->reason,
			failed ? SLICE_NONE : r->extra);
		r->pk = NULL;
		registration_destroy(r);
	}
	p->registrations_tail = &p->registrations;
}

void register_commit(struct proxy *p)
{
	if (!p->registrations && !p->lost_count && !p->marks)
		return;
	int rc = apply_all(p);
	if (rc < 0)
		log_failed(rc);
	p->lost_count = 0;
	marks_clear(p);
	answer_all(p, rc);
}

void register_destroy_all(struct proxy *p)
{
	while (p->registrations) {
		struct registration *r = p->registrations;
		p->registrations = r->next;
		registration_destroy(r);
	}
	marks_clear(p);
	free(p->lost);
}
