/* Response contexts of INVITEs as records of the store. A context that a batch has touched is written whole at the
 * batch's commit, before anything of the batch is sent; one that has ended is deleted. What is in a record is what
 * recover.c needs to go on. */
#include "snapshot_p.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/log.h"

#define SNAPSHOT_ROOM 8192      /* bytes, to begin with */
#define ENDED_MAX     (1 << 20) /* records that a store which fails is to delete later */
#define ENDS_DELAY    100       /* ms that the end of a call may wait for company */
#define ENDS_MAX      1000      /* ends that do */
#define ENDED_CHUNK   32        /* of them at once */

/* --- which --- */

void snapshot_touch(struct context *c)
{
	struct proxy *p = c->proxy;

	if (!p->calls || !c->invite || c->dirty)
		return;
	if (!c->record)
		c->record = p->next_record++;
	c->dirty = 1;
	c->dirty_next = p->dirty;
	c->dirty_prev = &p->dirty;
	if (p->dirty)
		p->dirty->dirty_prev = &c->dirty_next;
	p->dirty = c;
}

static void dirty_remove(struct context *c)
{
	*c->dirty_prev = c->dirty_next;
	if (c->dirty_next)
		c->dirty_next->dirty_prev = c->dirty_prev;
	c->dirty = 0;
}

/* Without memory the record stays, and goes with its deadlines at the next start. */
static void ended_add(struct proxy *p, uint64_t record)
{
	if (p->ended_count == p->ended_room) {
		unsigned room = p->ended_room ? 2 * p->ended_room : 64;
		uint64_t *more = realloc(p->ended, room * sizeof(*more));
		if (!more)
			return;
		p->ended = more;
		p->ended_room = room;
	}
	p->ended[p->ended_count++] = record;
}

void snapshot_forget(struct context *c)
{
	struct proxy *p = c->proxy;

	if (c->dirty)
		dirty_remove(c);
	if (c->record && c->stored)
		ended_add(p, c->record);
	c->record = 0;
}

/* --- writing --- */

static unsigned flags_of(const struct context *c)
{
	return (c->parallel ? SNAP_PARALLEL : 0u) | (c->failover ? SNAP_FAILOVER : 0u) |
	       (c->overload ? SNAP_OVERLOAD : 0u) | (c->final_sent ? SNAP_FINAL : 0u) |
	       (c->cancelled ? SNAP_CANCELLED : 0u) | (c->best_local ? SNAP_BEST_LOCAL : 0u) |
	       (c->pk ? SNAP_REQUEST : 0u) | (c->server ? SNAP_SERVER : 0u) | (c->target ? SNAP_TARGETS : 0u) |
	       (c->reason ? SNAP_REASON : 0u);
}

static void put_request(const struct context *c, struct buf *b)
{
	const struct packet *pk = c->pk;
	const struct route_set *r = &c->route;
	bool next = r->next.len && r->next.p >= pk->msg->buf && r->next.p < pk->msg->buf + pk->msg->len;

	pack_slice(b, slice_make(pk->msg->buf, pk->msg->len));
	flow_pack(&pk->flow, b);
	pack_u64(b, pk->received);
	pack_u32(b, next ? (uint32_t)(r->next.p - pk->msg->buf) : 0);
	pack_u32(b, next ? (uint32_t)r->next.len : 0);
	pack_u16(b, (uint16_t)r->listener);
	pack_u8(b, r->own);
	pack_u8(b, (uint8_t)(r->last_used | r->next_strict << 1));
}

static void put_targets(const struct context *c, struct buf *b)
{
	for (unsigned i = 0; i < c->target_count; i++) {
		const struct target *t = &c->target[i];
		pack_slice(b, t->ruri);
		pack_slice(b, t->route);
		pack_slice(b, t->aor);
		pack_slice(b, t->instance);
		pack_u32(b, t->group);
		pack_u8(b, (uint8_t)(t->has_flow | t->fallback << 1 | t->alternate << 2 | t->started << 3));
		if (t->has_flow)
			flow_pack(&t->flow, b);
	}
}

static void put_hops(const struct branch *br, struct buf *b)
{
	unsigned left = br->hop_count - br->hop_next;

	pack_u8(b, (uint8_t)left);
	for (unsigned i = br->hop_next; i < br->hop_count; i++) {
		struct flow f = {.proto = br->hop[i].proto, .remote = br->hop[i].addr};
		flow_pack(&f, b);
	}
}

static void put_branch(const struct branch *br, const struct txn_clock *k, struct buf *b)
{
	pack_u16(b,
		 (uint16_t)((br->provisional ? SNAP_B_PROVISIONAL : 0u) |
			    (br->cancel_wanted ? SNAP_B_CANCEL_WANTED : 0u) |
			    (br->cancel_sent ? SNAP_B_CANCEL_SENT : 0u) | (br->done ? SNAP_B_DONE : 0u) |
			    (br->unacked ? SNAP_B_UNACKED : 0u) | (br->udp_only ? SNAP_B_UDP_ONLY : 0u) |
			    (br->udp_next ? SNAP_B_UDP_NEXT : 0u) |
			    (br->flow_failed ? SNAP_B_FLOW_FAILED : 0u) | (br->client ? SNAP_B_CLIENT : 0u)));
	pack_u16(b, br->index);
	pack_u16(b, br->status);
	pack_u16(b, br->breadth);
	pack_u32(b, br->target);
	pack_u64(b, br->confirmed);
	pack_u64(b, timer_is_set(&br->timer) ? txn_clock_wall(k, br->timer.when) : UINT64_MAX);
	put_hops(br, b);
	if (br->client)
		txn_snapshot(br->client, k, b);
}

static unsigned branch_count(const struct context *c)
{
	unsigned n = 0;
	for (const struct branch *b = c->branches; b; b = b->next)
		n++;
	return n;
}

/* The Call-ID stands in front: by it a record finds its worker. */
static struct slice call_id_of(const struct context *c)
{
	return c->pk ? sip_slice(c->pk->msg, c->pk->msg->call_id) : slice_make(c->call_id, c->call_id_len);
}

static void put_context(const struct context *c, const struct txn_clock *k, struct buf *b)
{
	unsigned best = UINT16_MAX, i = 0;

	pack_u8(b, SNAPSHOT_FORMAT);
	pack_slice(b, call_id_of(c));
	pack_u16(b, (uint16_t)flags_of(c));
	pack_u16(b, c->next_index);
	pack_u64(b, c->loop);
	pack_u32(b, c->target ? c->target_count : 0);
	pack_u32(b, c->target ? c->target_next : 0);
	pack_u32(b, c->breadth);
	flow_pack(&c->source, b);
	if (c->pk)
		put_request(c, b);
	if (c->target)
		put_targets(c, b);
	if (c->server)
		txn_snapshot(c->server, k, b);
	pack_u16(b, (uint16_t)branch_count(c));
	for (const struct branch *br = c->branches; br; br = br->next, i++) {
		put_branch(br, k, b);
		if (br == c->best_branch)
			best = i;
	}
	pack_u16(b, (uint16_t)c->best);
	pack_u16(b, (uint16_t)best);
	pack_u8(b, c->best_bytes != NULL);
	pack_slice(b, slice_make(c->best_bytes, c->best_bytes ? c->best_len : 0));
	pack_slice(b, slice_make(c->challenges.p, c->challenges.len));
	if (c->reason)
		pack_slice(b, slice_str(c->reason));
}

void snapshot_key(uint64_t record, char key[static SNAPSHOT_KEY_LEN])
{
	for (unsigned i = 0; i < SNAPSHOT_KEY_LEN; i++)
		key[i] = (char)(record >> (8 * (SNAPSHOT_KEY_LEN - 1 - i)));
}

bool snapshot_number(struct slice key, uint64_t *record)
{
	uint64_t n = 0;

	if (key.len != SNAPSHOT_KEY_LEN)
		return false;
	for (unsigned i = 0; i < SNAPSHOT_KEY_LEN; i++)
		n = n << 8 | (unsigned char)key.p[i];
	*record = n;
	return true;
}

/* The record in p->snap, which grows until it fits. -ENOMEM. */
static int build(struct proxy *p, const struct context *c, const struct txn_clock *k, struct slice *out)
{
	struct buf b;

	for (;;) {
		buf_init(&b, p->snap, p->snap_room);
		put_context(c, k, &b);
		if (!b.full)
			break;
		size_t room = p->snap_room ? 2 * p->snap_room : SNAPSHOT_ROOM;
		char *more = realloc(p->snap, room);
		if (!more)
			return -ENOMEM;
		p->snap = more;
		p->snap_room = room;
	}
	*out = buf_view(&b);
	return 0;
}

/* What has its final response is small and stays for 64*T1. In a place of its own it fills pages; between calls that
 * are being set up, which are eight times as large, it would leave the store as large as if all calls of the last half
 * minute were still that. And each page that is written to again after the kernel has written it back costs a fault. */
static int settle(struct proxy *p, struct store_txn *t, struct context *c)
{
	char key[SNAPSHOT_KEY_LEN];
	int rc = 0;

	if (!c->final_sent || c->record & SNAPSHOT_SETTLED)
		return 0;
	if (c->stored) {
		snapshot_key(c->record, key);
		rc = store_del(t, STORE_CALLS, slice_make(key, sizeof(key)));
	}
	if (rc && rc != -ENOENT)
		return rc;
	c->settled_from = c->record;
	c->record = p->next_record++ | SNAPSHOT_SETTLED;
	return 0;
}

static int write_one(struct proxy *p, struct store_txn *t, struct context *c, const struct txn_clock *k)
{
	char key[SNAPSHOT_KEY_LEN];
	struct slice bytes;
	int rc = build(p, c, k, &bytes);

	if (!rc)
		rc = settle(p, t, c);
	if (rc)
		return rc;
	snapshot_key(c->record, key);
	rc = store_put(t, STORE_CALLS, slice_make(key, sizeof(key)), bytes);
	if (!rc)
		c->stored = 1;
	return rc;
}

static int delete_ended(struct proxy *p, struct store_txn *t, unsigned most)
{
	unsigned from = p->ended_count > most ? p->ended_count - most : 0;
	int rc = 0;

	for (unsigned i = from; i < p->ended_count && !rc; i++) {
		char key[SNAPSHOT_KEY_LEN];
		snapshot_key(p->ended[i], key);
		rc = store_del(t, STORE_CALLS, slice_make(key, sizeof(key)));
		if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}

static int delete_some(struct proxy *p, struct store_txn *t)
{
	return delete_ended(p, t, ENDED_CHUNK);
}

static int write_all(struct proxy *p, struct store_txn *t)
{
	struct txn_clock k = {proxy_now(p), proxy_wall(p)};
	int rc = delete_ended(p, t, UINT_MAX); /* first, so that its room is there for what begins */

	for (struct context *c = p->dirty; c && !rc; c = c->dirty_next)
		rc = write_one(p, t, c, &k);
	return rc ? rc : dialog_write(p, t);
}

static void log_failed(int rc)
{
	static struct log_limiter limiter;
	uint64_t missed;

	count(CNT_STORE_FAILED);
	if (log_limit(&limiter, 1, &missed))
		log_error("store", "calls cannot be stored, and go on without: %s",
			  rc == -ENOSPC ? "store.map_size or the disk is full" : strerror(-rc));
}

static int commit(struct proxy *p, int (*write)(struct proxy *p, struct store_txn *t))
{
	struct store_txn *t;
	int rc = store_begin(p->calls, &t);

	if (rc)
		return rc;
	rc = write(p, t);
	if (!rc)
		return store_commit(t);
	store_abort(t);
	return rc;
}

/* A full store: what ends must go all the same, since a restart would go on with it. A little at a time, for even that
 * takes room; the rest later. */
static void commit_ends(struct proxy *p)
{
	p->dialogs_new = p->dialogs_gone = 0;
	if (commit(p, dialog_delete) == 0)
		dialog_counted(p);
	while (p->ended_count && commit(p, delete_some) == 0)
		p->ended_count -= p->ended_count > ENDED_CHUNK ? ENDED_CHUNK : p->ended_count;
	if (p->ended_count > ENDED_MAX)
		p->ended_count = 0;
}

/* Nothing that is sent depends on the end of a call being stored: what a restart finds of it too much is over by its
 * own deadlines. So ends alone make no commit, but go with the next one, or together with others a little later. True:
 * they wait. */
static bool put_off(struct proxy *p)
{
	if (p->dirty || p->ends_due || dialog_is_urgent(p) || p->ended_count + p->dialog_ends >= ENDS_MAX)
		return false;
	if (!timer_is_set(&p->ends_timer))
		timer_set(p->wheel, &p->ends_timer, proxy_now(p) + ENDS_DELAY);
	return true;
}

static void ends_are_due(struct timer *t, msec_t now)
{
	struct proxy *p = container_of(t, struct proxy, ends_timer);

	(void)now;
	p->ends_due = true;
}

void snapshot_init(struct proxy *p)
{
	timer_init(&p->ends_timer, ends_are_due);
}

void snapshot_flush(struct proxy *p)
{
	p->ends_due = true;
	snapshot_commit(p);
}

void snapshot_commit(struct proxy *p)
{
	int rc;

	if ((!p->dirty && !p->ended_count && !p->dialog_changes) || put_off(p))
		return;
	timer_stop(p->wheel, &p->ends_timer);
	p->ends_due = false;
	p->dialogs_new = p->dialogs_gone = 0;
	rc = commit(p, write_all);
	if (rc) {
		log_failed(rc);
		if (p->dialog_changes > p->dialog_ends)
			dialog_missed(p);
		commit_ends(p);
	} else {
		count(CNT_STORE_COMMITS);
		dialog_counted(p);
		p->ended_count = 0;
	}
	/* What could not be written is written with the next change of its context. */
	while (p->dirty) {
		if (rc && p->dirty->settled_from)
			p->dirty->record = p->dirty->settled_from;
		p->dirty->settled_from = 0;
		p->dirty->dirty = 0;
		p->dirty = p->dirty->dirty_next;
	}
	dialog_clear(p);
}

void snapshot_deinit(struct proxy *p)
{
	timer_stop(p->wheel, &p->ends_timer);
	free(p->snap);
	free(p->ended);
	dialog_clear(p);
}
