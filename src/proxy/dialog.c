/* Confirmed calls: a small record each, made by the 2xx to an INVITE and ended by a BYE. Nothing of a call's way depends on them: they are what
 * an operator who drains the proxy wants to know. They are kept in the store, so a restart does not forget them, and counted. */
#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "snapshot_p.h"

#define DIALOG_FORMAT    1
#define DIALOG_KEY       16        /* bytes */
#define DIALOG_SINCE     1         /* where in a record the time stands when it began */
#define DIALOG_LIFE      43200000u /* ms: 12 hours, without a session timer */
#define DIALOG_BATCH     4096      /* changes of one batch; beyond it they are not noted */
#define DIALOG_SWEEP     60000     /* ms between two looks for those whose time is over */
#define DIALOG_SWEEP_MAX 2000      /* of one look */

/* A change that waits for the commit. */
struct dialog_change {
	struct dialog_change *next;
	char key[DIALOG_KEY];
	bool ended;
	bool refresh; /* only of one that is there */
	unsigned len; /* bytes */
	char bytes[];
};

/* The same for both directions: of the two tags, the smaller comes first. */
static void key_of(const struct sip_msg *m, char key[static DIALOG_KEY])
{
	struct slice id = sip_slice(m, m->call_id), a = sip_slice(m, m->from_tag), b = sip_slice(m, m->to_tag);
	size_t n = a.len < b.len ? a.len : b.len;
	int order = n ? memcmp(a.p, b.p, n) : 0;

	if (order > 0 || (order == 0 && a.len > b.len)) {
		struct slice t = a;
		a = b;
		b = t;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t h = hash_bytes(id.p, id.len, i);
		h = hash_bytes(a.p, a.len, h);
		h = hash_bytes(b.p, b.len, h);
		memcpy(key + 8 * i, &h, 8);
	}
}

static struct dialog_change *change_add(struct proxy *p, const struct sip_msg *m, size_t len)
{
	struct dialog_change *d = p->dialog_changes < DIALOG_BATCH ? malloc(sizeof(*d) + len) : NULL;

	if (!d)
		return NULL;
	key_of(m, d->key);
	d->len = (unsigned)len;
	d->next = NULL;
	*p->dialogs_tail = d;
	p->dialogs_tail = &d->next;
	p->dialog_changes++;
	return d;
}

/* Session-Expires (RFC 4028), with room for a refresh that is late. */
static uint64_t life_of(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_SESSION_EXPIRES);
	struct slice v = h ? sip_hdr_value(m, h) : SLICE_NONE;
	uint64_t s;

	for (size_t i = 0; i < v.len; i++)
		if (v.p[i] < '0' || v.p[i] > '9') {
			v.len = i;
			break;
		}
	return v.len && slice_u64(v, 86400, &s) && s ? 2 * s * 1000 : DIALOG_LIFE;
}

static void put(struct proxy *p, const struct sip_msg *m, bool refresh)
{
	char room[2048];
	const struct sip_hdr *contact = sip_msg_hdr(m, SIP_HDR_CONTACT);
	struct dialog_change *d;
	struct buf b;

	if (!p->calls || !m->to_tag.len || !m->from_tag.len)
		return;
	buf_init(&b, room, sizeof(room));
	pack_u8(&b, DIALOG_FORMAT);
	pack_u64(&b, proxy_wall(p));
	pack_u64(&b, proxy_wall(p) + life_of(m));
	pack_slice(&b, sip_slice(m, m->call_id));
	pack_slice(&b, sip_slice(m, m->from_tag));
	pack_slice(&b, sip_slice(m, m->to_tag));
	pack_slice(&b, sip_slice(m, m->from_uri));
	pack_slice(&b, sip_slice(m, m->to_uri));
	pack_slice(&b, contact ? sip_hdr_value(m, contact) : SLICE_NONE);
	if (b.full || !(d = change_add(p, m, b.len)))
		return;
	d->ended = false;
	d->refresh = refresh;
	memcpy(d->bytes, b.p, b.len);
}

void dialog_confirmed(struct proxy *p, const struct sip_msg *m)
{
	put(p, m, false);
}

void dialog_refreshed(struct proxy *p, const struct sip_msg *m)
{
	put(p, m, true);
}

void dialog_ended(struct proxy *p, const struct sip_msg *m)
{
	struct dialog_change *d;

	if (!p->calls || !m->to_tag.len || !(d = change_add(p, m, 0)))
		return;
	d->ended = true;
	p->dialog_ends++;
}

int recover_dialog_call_id(struct slice bytes, struct slice *call_id)
{
	struct unpack u = unpack_init(bytes);

	if (unpack_u8(&u) != DIALOG_FORMAT)
		return -EPROTONOSUPPORT;
	unpack_u64(&u);
	unpack_u64(&u);
	*call_id = unpack_slice(&u);
	return u.bad ? -EBADMSG : 0;
}

bool dialog_is_urgent(const struct proxy *p)
{
	return p->dialog_changes > p->dialog_ends;
}

static int write_one(struct proxy *p, struct store_txn *t, struct dialog_change *d)
{
	struct slice key = slice_make(d->key, sizeof(d->key)), have;
	bool known = store_get(t, STORE_DIALOGS, key, &have) == 0;
	int rc;

	if (known && have.len >= DIALOG_SINCE + 8 && have.p[0] == DIALOG_FORMAT)
		memcpy(d->bytes + DIALOG_SINCE, have.p + DIALOG_SINCE, 8); /* it began when it began */
	else if (d->refresh)
		return 0;
	rc = store_put(t, STORE_DIALOGS, key, slice_make(d->bytes, d->len));
	if (!rc && !known)
		p->dialogs_new++;
	return rc;
}

static int delete_one(struct proxy *p, struct store_txn *t, const struct dialog_change *d)
{
	int rc = store_del(t, STORE_DIALOGS, slice_make(d->key, sizeof(d->key)));

	if (!rc)
		p->dialogs_gone++;
	return rc == -ENOENT ? 0 : rc;
}

int dialog_write(struct proxy *p, struct store_txn *t)
{
	int rc = 0;

	for (struct dialog_change *d = p->dialogs; d && !rc; d = d->next)
		rc = d->ended ? delete_one(p, t, d) : write_one(p, t, d);
	return rc;
}

int dialog_delete(struct proxy *p, struct store_txn *t)
{
	int rc = 0;

	for (struct dialog_change *d = p->dialogs; d && !rc; d = d->next)
		if (d->ended)
			rc = delete_one(p, t, d);
	return rc;
}

void dialog_clear(struct proxy *p)
{
	while (p->dialogs) {
		struct dialog_change *d = p->dialogs;
		p->dialogs = d->next;
		free(d);
	}
	p->dialogs_tail = &p->dialogs;
	p->dialog_changes = p->dialog_ends = 0;
}

/* --- those whose end nobody told --- */

static unsigned sweep(struct proxy *p, struct store_txn *t, uint64_t now)
{
	struct store_cursor *c;
	struct slice key, value;
	unsigned gone = 0, seen = 0;
	int rc;

	if (store_walk_txn(t, STORE_DIALOGS, &c) < 0)
		return 0;
	for (rc = store_seek(c, slice_make(p->dialog_place, p->dialog_place_len), &key, &value);
	     rc != -ENOENT && seen < DIALOG_SWEEP_MAX; rc = store_next(c, &key, &value), seen++) {
		struct unpack u = unpack_init(value);
		if (rc && rc != -EBADMSG)
			break;
		bool sound = !rc && unpack_u8(&u) == DIALOG_FORMAT;
		unpack_u64(&u);
		if ((!sound || unpack_u64(&u) <= now) && store_walk_del(c) == 0)
			gone++;
	}
	p->dialog_place_len = 0;
	if (rc == 0 && key.len <= sizeof(p->dialog_place)) {
		memcpy(p->dialog_place, key.p, key.len);
		p->dialog_place_len = (unsigned)key.len;
	}
	store_walk_end(c);
	return gone;
}

static void sweep_due(struct timer *timer, msec_t now)
{
	struct proxy *p = (struct proxy *)((char *)timer - offsetof(struct proxy, dialog_timer));
	struct store_txn *t;
	unsigned gone;

	timer_set(p->wheel, timer, now + DIALOG_SWEEP);
	if (store_begin(p->calls, &t) < 0)
		return;
	gone = sweep(p, t, proxy_wall(p));
	if (!gone)
		store_abort(t);
	else if (store_commit(t) == 0)
		count_sub(CNT_DIALOGS, gone);
}

void dialog_counted(struct proxy *p)
{
	count_add(CNT_DIALOGS, p->dialogs_new);
	count_sub(CNT_DIALOGS, p->dialogs_gone);
}

void dialog_start(struct proxy *p)
{
	p->dialogs_tail = &p->dialogs;
	timer_init(&p->dialog_timer, sweep_due);
	if (!p->calls)
		return;
	count_add(CNT_DIALOGS, store_count(p->calls, STORE_DIALOGS));
	timer_set(p->wheel, &p->dialog_timer, proxy_now(p) + DIALOG_SWEEP);
}

void dialog_stop(struct proxy *p)
{
	timer_stop(p->wheel, &p->dialog_timer);
	dialog_clear(p);
}
