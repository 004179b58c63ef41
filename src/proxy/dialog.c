/* Confirmed calls: a small record each, made by the 2xx to an INVITE and ended by a BYE. They are what an operator who
 * drains the proxy wants to know, and what says where a request may go that begins something inside a call. They are
 * kept in the store, so a restart does not forget them, and counted. */
#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "dialog_p.h"
#include "snapshot_p.h"

#define DIALOG_KEY       16        /* bytes */
#define MISSED_LIFE      43200000u /* ms that a call may go on of which the store could not take the record */
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

void dialog_confirmed(struct proxy *p, const struct sip_msg *m, const struct sip_msg *request, bool refresh)
{
	char room[DIALOG_RECORD_MAX], text[DIALOG_SIDES * DIALOG_ROUTES_MAX];
	struct dialog_record r;
	struct dialog_change *d;
	struct buf b, routes;

	if (!p->calls || !m->to_tag.len || !m->from_tag.len)
		return;
	buf_init(&b, room, sizeof(room));
	buf_init(&routes, text, sizeof(text));
	dialog_record_make(p, m, request, &routes, &r);
	dialog_record_write(&r, &b);
	if (b.full || !(d = change_add(p, m, b.len)))
		return;
	d->ended = false;
	d->refresh = refresh;
	memcpy(d->bytes, b.p, b.len);
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
	struct dialog_record r;
	int rc = dialog_record_read(bytes, &r);

	if (!rc)
		*call_id = r.call_id;
	return rc;
}

/* A dialog of which there is no record was never confirmed, unless the store could not take it. */
static bool is_missed(const struct proxy *p)
{
	return p->dialogs_missed && proxy_wall(p) - p->dialogs_missed < MISSED_LIFE;
}

void dialog_missed(struct proxy *p)
{
	p->dialogs_missed = proxy_wall(p);
}

bool dialog_permits(struct proxy *p, const struct sip_msg *m, const struct sip_uri *uri, struct slice next)
{
	char key[DIALOG_KEY];
	struct dialog_record r;
	struct slice bytes;
	int rc;

	if (!p->calls)
		return true;
	key_of(m, key);
	for (const struct dialog_change *d = p->dialogs; d; d = d->next)
		if (!d->ended && memcmp(d->key, key, sizeof(key)) == 0 &&
		    dialog_record_read(slice_make(d->bytes, d->len), &r) == 0 &&
		    dialog_record_permits(&r, m, uri, next))
			return true;
	if (store_read_begin(p->calls_reader) < 0)
		return false;
	rc = store_read(p->calls_reader, STORE_DIALOGS, slice_make(key, sizeof(key)), &bytes);
	bool good = is_missed(p);
	if (rc == -EBADMSG || (rc == 0 && dialog_record_read(bytes, &r) < 0))
		good = true; /* damaged, or of a later version: a call it is */
	else if (rc == 0)
		good = dialog_record_permits(&r, m, uri, next);
	store_read_end(p->calls_reader);
	return good;
}

bool dialog_is_urgent(const struct proxy *p)
{
	return p->dialog_changes > p->dialog_ends;
}

/* What is kept already, and what the change tells, in one record. False: nothing to write. */
static bool change_join(const struct dialog_change *d, bool known, struct slice have, struct buf *out)
{
	char text[DIALOG_SIDES * DIALOG_ROUTES_MAX];
	struct dialog_record r, before;
	struct buf routes;

	if (dialog_record_read(slice_make(d->bytes, d->len), &r) < 0)
		return false;
	buf_init(&routes, text, sizeof(text));
	if (known && dialog_record_read(have, &before) == 0)
		dialog_record_join(&r, &before, &routes);
	else if (d->refresh)
		return false;
	dialog_record_write(&r, out);
	return !out->full;
}

static int write_one(struct proxy *p, struct store_txn *t, struct dialog_change *d)
{
	char room[DIALOG_RECORD_MAX];
	struct slice key = slice_make(d->key, sizeof(d->key)), have;
	bool known = store_get(t, STORE_DIALOGS, key, &have) == 0;
	struct buf b;
	int rc;

	buf_init(&b, room, sizeof(room));
	if (!change_join(d, known, have, &b))
		return 0;
	rc = store_put(t, STORE_DIALOGS, key, buf_view(&b));
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
		struct dialog_record r;
		if (rc && rc != -EBADMSG)
			break;
		bool sound = !rc && dialog_record_read(value, &r) == 0;
		if ((!sound || r.until <= now) && store_walk_del(c) == 0)
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
	if (counters_sum(CNT_STORE_MOVED))
		dialog_missed(p); /* a file that could not be read had calls in it */
	count_add(CNT_DIALOGS, store_count(p->calls, STORE_DIALOGS));
	timer_set(p->wheel, &p->dialog_timer, proxy_now(p) + DIALOG_SWEEP);
}

void dialog_stop(struct proxy *p)
{
	timer_stop(p->wheel, &p->dialog_timer);
	dialog_clear(p);
}
