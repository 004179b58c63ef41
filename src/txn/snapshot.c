#include "txn/snapshot.h"

#include <errno.h>
#include <stdlib.h>

#include "txn_p.h"

#define SNAPSHOT_LEGACY  1u
#define SNAPSHOT_GOT_100 2u
#define SNAPSHOT_TIMER   4u

uint64_t txn_clock_wall(const struct txn_clock *k, msec_t mono)
{
	return mono == UINT64_MAX ? UINT64_MAX : k->wall + (mono > k->mono ? mono - k->mono : 0);
}

msec_t txn_clock_mono(const struct txn_clock *k, uint64_t wall)
{
	return wall == UINT64_MAX ? UINT64_MAX : k->mono + (wall > k->wall ? wall - k->wall : 0);
}

static void addr_pack(const struct addr *a, struct buf *b)
{
	size_t n = a->family == AF_INET6 ? 16 : a->family == AF_INET ? 4 : 0;
	pack_u8(b, (uint8_t)n);
	buf_put(b, (const char *)a->ip, n);
	if (!n)
		return;
	pack_u16(b, a->port);
	pack_u32(b, a->scope);
}

static void addr_unpack(struct unpack *u, struct addr *a)
{
	size_t n = unpack_u8(u);

	*a = (struct addr){0};
	if (n != 0 && n != 4 && n != 16)
		u->bad = true;
	if (u->bad || !n)
		return;
	struct slice ip = unpack_bytes(u, n);
	if (ip.len)
		memcpy(a->ip, ip.p, ip.len);
	a->family = n == 16 ? AF_INET6 : AF_INET;
	a->port = unpack_u16(u);
	a->scope = unpack_u32(u);
}

void flow_pack(const struct flow *f, struct buf *b)
{
	pack_u8(b, f->proto);
	pack_u8(b, f->acceptor);
	pack_u16(b, f->listener);
	pack_u64(b, f->conn);
	addr_pack(&f->remote, b);
	addr_pack(&f->local, b);
}

void flow_unpack(struct unpack *u, struct flow *f)
{
	*f = (struct flow){0};
	f->proto = unpack_u8(u);
	f->acceptor = unpack_u8(u);
	f->listener = unpack_u16(u);
	f->conn = unpack_u64(u);
	addr_unpack(u, &f->remote);
	addr_unpack(u, &f->local);
	if (f->proto >= FLOW_PROTO_COUNT)
		u->bad = true;
}

void txn_snapshot(const struct txn *t, const struct txn_clock *k, struct buf *b)
{
	bool timer = timer_is_set(&t->timer);
	size_t key = 0;

	pack_u8(b, t->kind);
	pack_u8(b, t->state);
	pack_u8(b, t->method);
	pack_u8(b, t->again_ev);
	pack_u8(b, t->end_ev);
	pack_u8(b, (uint8_t)((t->legacy ? SNAPSHOT_LEGACY : 0) | (t->got_100 ? SNAPSHOT_GOT_100 : 0) |
			     (timer ? SNAPSHOT_TIMER : 0)));
	pack_u32(b, t->num);
	for (unsigned i = 0; i < TXN_PARTS; i++) {
		pack_u16(b, t->part_len[i]);
		key += t->part_len[i];
	}
	buf_put(b, t->key, key);
	pack_u64(b, txn_clock_wall(k, t->deadline));
	pack_u64(b, timer ? txn_clock_wall(k, t->timer.when) : UINT64_MAX);
	pack_u32(b, t->interval);
	pack_u32(b, t->tm.t1);
	pack_u32(b, t->tm.t2);
	pack_u32(b, t->tm.t4);
	pack_u16(b, t->tag_len);
	pack_u32(b, t->tag_off);
	pack_u8(b, t->kept != NULL);
	pack_slice(b, slice_make(t->kept, t->kept ? t->kept_len : 0));
	flow_pack(&t->flow, b);
}

/* What of a record belongs to the key, in the order in which it was written. */
static bool key_unpack(struct unpack *u, bool server, uint8_t method, bool legacy, struct txn_key *k)
{
	uint32_t num = unpack_u32(u);
	uint16_t len[TXN_PARTS];

	*k = (struct txn_key){.server = server, .legacy = legacy, .num = num};
	for (unsigned i = 0; i < TXN_PARTS; i++)
		len[i] = unpack_u16(u);
	for (unsigned i = 0; i < TXN_PARTS; i++)
		k->part[i] = unpack_bytes(u, len[i]);
	txn_key_rehash(k, method);
	return !u->bad;
}

#define LIFE_MIN  32000u /* ms: Timer D */
#define T1_MAX    10000u /* ms: as can be configured */
#define TIMER_MAX 60000u /* ms: T2 and T4 */

static bool timers_are_sound(const struct txn_timers *tm)
{
	return tm->t1 && tm->t1 <= T1_MAX && tm->t2 && tm->t2 <= TIMER_MAX && tm->t4 && tm->t4 <= TIMER_MAX;
}

/* A wall clock that was set back makes deadlines of years. */
static msec_t at_most(msec_t when, const struct txn_clock *k, const struct txn_timers *tm)
{
	uint64_t life = 64 * (uint64_t)tm->t1;
	msec_t last = k->mono + (life > LIFE_MIN ? life : LIFE_MIN);
	return when < last ? when : last;
}

int txn_restore(struct txn_table *tb, struct unpack *u, enum txn_kind want, const struct txn_clock *k,
		void *owner, struct txn **out)
{
	uint8_t kind = unpack_u8(u), state = unpack_u8(u), method = unpack_u8(u), again = unpack_u8(u),
		end = unpack_u8(u), flags = unpack_u8(u);
	struct txn_key key;
	struct txn *t;
	int rc;

	if (kind != want || method >= SIP_METHOD_COUNT ||
	    !txn_state_is_sound(want, state, flags & SNAPSHOT_TIMER, end) ||
	    !key_unpack(u, kind == TXN_IST || kind == TXN_NIST, method, flags & SNAPSHOT_LEGACY, &key))
		return -EBADMSG;
	msec_t deadline = txn_clock_mono(k, unpack_u64(u)), when = txn_clock_mono(k, unpack_u64(u));
	uint32_t interval = unpack_u32(u);
	struct txn_timers tm = {unpack_u32(u), unpack_u32(u), unpack_u32(u)};
	uint16_t tag_len = unpack_u16(u);
	uint32_t tag_off = unpack_u32(u);
	bool has_kept = unpack_u8(u) != 0;
	struct slice kept = unpack_slice(u);
	if (!has_kept)
		kept = SLICE_NONE;
	struct flow flow;
	flow_unpack(u, &flow);
	if (u->bad || (uint64_t)tag_off + tag_len > kept.len || !timers_are_sound(&tm) ||
	    (want == TXN_ICT && (state == TXN_CALLING || state == TXN_PROCEEDING) && !kept.len))
		return -EBADMSG;
	if (txn_table_look(tb, &key))
		return -EEXIST;
	if (flags & SNAPSHOT_TIMER) {
		deadline = at_most(deadline, k, &tm);
		if (when > deadline || !interval || !txn_repeats(want, state, again))
			when = deadline;
	}
	rc = txn_remake(tb, &key, want, (enum txn_state)state, &flow, owner, &t);
	if (rc)
		return rc;
	if (has_kept && txn_keep(t, kept)) {
		txn_unmake(t);
		return -ENOMEM;
	}
	t->again_ev = again;
	t->end_ev = end;
	t->got_100 = flags & SNAPSHOT_GOT_100;
	t->deadline = deadline;
	t->interval = interval;
	t->tm = tm;
	t->tag_len = tag_len;
	t->tag_off = tag_off;
	txn_resurrect(t);
	if (flags & SNAPSHOT_TIMER)
		timer_set(tb->wheel, &t->timer, when);
	*out = t;
	return 0;
}

void txn_set_flow(struct txn *t, const struct flow *f)
{
	txn_conn_remove(t);
	t->flow = *f;
	if (t->state == TXN_CALLING || t->state == TXN_TRYING || t->state == TXN_PROCEEDING)
		txn_conn_add(t);
}

void txn_client_resume(struct txn *t, uint32_t ack_timeout)
{
	msec_t look = *t->tb->now + ack_timeout;

	if (t->kind != TXN_ICT || t->state != TXN_CALLING || !txn_is_reliable(t))
		return;
	txn_send_kept(t);
	t->again_ev = TXN_EV_ACK_TIMEOUT;
	t->interval = ack_timeout;
	timer_set(t->tb->wheel, &t->timer, ack_timeout && look < t->deadline ? look : t->deadline);
}

bool txn_server_resumes(const struct txn *t)
{
	return t->kind == TXN_IST && t->state == TXN_COMPLETED && txn_is_reliable(t);
}

void txn_server_resume(struct txn *t)
{
	if (txn_server_resumes(t))
		txn_send_kept(t);
}
