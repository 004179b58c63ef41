/* At start: the calls that an earlier run has stored go back to their workers. A Call-ID may have another worker now,
 * since their number changed or the hash has another seed; such records move: they are written to their new place
 * first, and deleted from the old one after that, so that whatever happens in between loses nothing. (What is then in
 * both is found twice, and counts once.) */
#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/log.h"
#include "worker/worker_p.h"

#define RECOVER_LOG 5 /* lines of each kind */

struct recovery {
	struct worker_pool *pool;
	struct store_env *env;
	unsigned from; /* whose environment it was; pool->count and more: a worker's that is no more */
	unsigned kept, moved, lost;
	uint64_t *old; /* records to be deleted once they are in their new place */
	unsigned old_count, old_room;
};

static void note_old(struct recovery *r, uint64_t record)
{
	if (r->old_count == r->old_room) {
		unsigned room = r->old_room ? 2 * r->old_room : 1024;
		uint64_t *more = realloc(r->old, room * sizeof(*more));
		if (!more)
			return;
		r->old = more;
		r->old_room = room;
	}
	r->old[r->old_count++] = record;
}

static void lose(struct recovery *r, int rc)
{
	static struct log_limiter limiter;
	uint64_t missed;

	r->lost++;
	count(rc == -EBADMSG           ? CNT_RECOVER_DAMAGED
	      : rc == -EPROTONOSUPPORT ? CNT_RECOVER_VERSION
				       : CNT_RECOVER_FAILED);
	if (log_limit(&limiter, RECOVER_LOG, &missed))
		log_warning("worker", "a stored call is left out: %s",
			    rc == -EBADMSG           ? "its record is damaged"
			    : rc == -EPROTONOSUPPORT ? "its record is of another version"
						     : strerror(-rc));
}

static void take(struct recovery *r, struct slice key, struct slice value)
{
	struct slice call_id;
	uint64_t record;

	if (!snapshot_number(key, &record)) {
		lose(r, -EBADMSG);
		return;
	}
	int rc = recover_call_id(value, &call_id);
	if (!rc) {
		unsigned to = shard_worker(call_id, r->pool->count);
		bool moved = to != r->from;
		rc = proxy_restore(r->pool->worker[to]->proxy, record, value, moved);
		if (!rc && !moved) {
			r->kept++;
			return;
		}
		if (!rc)
			r->moved++;
	}
	if (rc && rc != -EEXIST)
		lose(r, rc);
	note_old(r, record);
}

static int read_all(struct recovery *r)
{
	struct store_reader *reader;
	struct store_cursor *c;
	struct slice key, value;
	int rc = store_reader_create(r->env, &reader);

	if (rc)
		return rc;
	rc = store_read_begin(reader);
	if (!rc)
		rc = store_walk_reader(reader, STORE_CALLS, &c);
	if (!rc) {
		for (rc = store_seek(c, SLICE_NONE, &key, &value); rc == 0 || rc == -EBADMSG;
		     rc = store_next(c, &key, &value))
			take(r, key, rc ? SLICE_NONE : value);
		store_walk_end(c);
	}
	store_reader_destroy(reader);
	return rc == -ENOENT ? 0 : rc;
}

static void delete_old(struct recovery *r)
{
	struct store_txn *t;

	if (!r->old_count || store_begin(r->env, &t) < 0)
		return;
	for (unsigned i = 0; i < r->old_count; i++) {
		char key[SNAPSHOT_KEY_LEN];
		snapshot_key(r->old[i], key);
		store_del(t, STORE_CALLS, slice_make(key, sizeof(key)));
	}
	store_commit(t);
}

/* --- dialogs: they only have to be where their BYE will look for them --- */

/* Whose a record is now. */
static unsigned dialog_worker(const struct recovery *r, struct slice value)
{
	struct slice call_id;
	return recover_dialog_call_id(value, &call_id) == 0 ? shard_worker(call_id, r->pool->count) : 0;
}

/* Puts those that are of worker `to` into its environment. Returns how many. */
static unsigned dialogs_copy(struct recovery *r, struct store_cursor *c, unsigned to)
{
	struct slice key, value;
	struct store_txn *t;
	unsigned n = 0;
	int rc;

	if (store_begin(r->pool->worker[to]->calls, &t) < 0)
		return 0;
	for (rc = store_seek(c, SLICE_NONE, &key, &value); rc == 0 || rc == -EBADMSG;
	     rc = store_next(c, &key, &value))
		if (!rc && dialog_worker(r, value) == to && store_put(t, STORE_DIALOGS, key, value) == 0)
			n++;
	if (n)
		return store_commit(t) == 0 ? n : 0;
	store_abort(t);
	return 0;
}

/* Deletes those that are another worker's, or cannot be read. */
static void dialogs_delete(struct recovery *r)
{
	struct slice key, value;
	struct store_cursor *c;
	struct store_txn *t;
	int rc;

	if (store_begin(r->env, &t) < 0)
		return;
	if (store_walk_txn(t, STORE_DIALOGS, &c) == 0) {
		for (rc = store_seek(c, SLICE_NONE, &key, &value); rc == 0 || rc == -EBADMSG;
		     rc = store_next(c, &key, &value))
			if (rc || dialog_worker(r, value) != r->from)
				store_walk_del(c);
		store_walk_end(c);
	}
	store_commit(t);
}

static void move_dialogs(struct recovery *r)
{
	struct store_reader *reader;
	struct store_cursor *c;
	unsigned moved = 0;

	if (store_reader_create(r->env, &reader) < 0)
		return;
	if (store_read_begin(reader) == 0 && store_walk_reader(reader, STORE_DIALOGS, &c) == 0) {
		for (unsigned to = 0; to < r->pool->count; to++)
			if (to != r->from)
				moved += dialogs_copy(r, c, to);
		store_walk_end(c);
	}
	store_reader_destroy(reader);
	if (moved)
		dialogs_delete(r);
}

/* Each worker has counted what it found; some of it has gone elsewhere, or was in two places. */
static void count_dialogs(struct worker_pool *pool)
{
	uint64_t there = 0, counted = counters_sum(CNT_DIALOGS);

	for (unsigned i = 0; i < pool->count; i++)
		there += store_count(pool->worker[i]->calls, STORE_DIALOGS);
	if (there > counted)
		count_add(CNT_DIALOGS, there - counted);
	else
		count_sub(CNT_DIALOGS, counted - there);
}

static int open_env(struct recovery *r)
{
	char err[256];
	int rc = 0;

	if (r->from < r->pool->count) {
		r->env = r->pool->worker[r->from]->calls;
		return 0;
	}
	rc = store_worker(r->pool->store, r->from, &r->env, err, sizeof(err));
	if (rc)
		log_error("worker", "%s", err);
	return rc;
}

int worker_pool_recover(struct worker_pool *pool)
{
	unsigned n = pool->keeps_calls ? store_workers(pool->store) : 0;
	struct recovery *all = calloc(n ? n : 1, sizeof(*all));
	unsigned kept = 0, moved = 0, lost = 0;
	nsec_t begun = clock_mono_ns();
	int rc = all ? 0 : -ENOMEM;

	for (unsigned i = 0; i < pool->count; i++)
		pool->worker[i]->now = clock_mono_ms();
	for (unsigned i = 0; i < n && !rc; i++) {
		all[i].pool = pool;
		all[i].from = i;
		rc = open_env(&all[i]);
		if (!rc)
			rc = read_all(&all[i]);
		kept += all[i].kept;
		moved += all[i].moved;
		lost += all[i].lost;
	}
	for (unsigned i = 0; i < pool->count && !rc && moved; i++)
		pool->core->commit(pool->worker[i]->proxy);
	for (unsigned i = 0; i < n && !rc; i++) {
		delete_old(&all[i]);
		move_dialogs(&all[i]);
	}
	if (!rc && n)
		count_dialogs(pool);
	for (unsigned i = 0; all && i < n; i++)
		free(all[i].old);
	free(all);
	if (!rc && kept + moved + lost)
		log_info("worker",
			 "%u calls are gone on with (%u moved between workers, %u left out), read in %u ms",
			 kept + moved, moved, lost, (unsigned)((clock_mono_ns() - begun) / 1000000u));
	return rc;
}
