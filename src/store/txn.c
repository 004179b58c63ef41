#include <errno.h>

#include "store/store_p.h"

/* What a commit can add by itself: the heads of the tables, and the list of free pages, which names each page of the
 * file once at the most. */
#define PAGES_COMMIT 64
/* Left to those who delete when the disk or the map is full, so that space can be won back; of a small map a part. */
#define PAGES_SPARE 1024

int store_txn_spoil(struct store_txn *t, int rc)
{
	if (!t->failed)
		t->failed = rc;
	return rc;
}

int store_begin(struct store_env *e, struct store_txn **out)
{
	struct store_file *f = &e->file[0];
	MDB_txn *txn;
	int rc = mdb_txn_begin(f->env, NULL, 0, &txn);
	if (rc)
		return store_errno(rc);
	struct store_txn *t = &e->txn;
	*t = (struct store_txn){.env = e, .txn = {txn}, .free = UINT64_MAX};
	MDB_envinfo info;
	mdb_env_info(f->env, &info);
	t->start = info.me_last_pgno + 1;
	t->pages = t->start + PAGES_COMMIT + t->start / 256;
	*out = t;
	return 0;
}

/* The second file's lock is taken behind the first one's, always, so that two cannot wait for each other. */
int store_txn_table(struct store_txn *t, enum store_table table, struct store_spot *out)
{
	unsigned i = 0;
	struct store_file *f = store_env_file(t->env, table, &i);
	if (!f)
		return -EINVAL;
	if (t->failed)
		return t->failed;
	if (!t->txn[i]) {
		int rc = store_errno(mdb_txn_begin(f->env, NULL, 0, &t->txn[i]));
		if (rc) {
			t->txn[i] = NULL;
			store_txn_spoil(t, rc);
			return rc;
		}
	}
	*out = (struct store_spot){f, t->txn[i], f->dbi[table]};
	return 0;
}

/* Pages that the newest commit has left free within the file. */
static uint64_t free_pages(const struct store_file *f)
{
	MDB_txn *txn;
	MDB_cursor *cur;
	MDB_val k, v;
	uint64_t sum = 0, n;
	if (mdb_txn_begin(f->env, NULL, MDB_RDONLY, &txn))
		return 0;
	/* Database 0 is LMDB's own: a count and page numbers in each record. */
	if (mdb_cursor_open(txn, 0, &cur) == 0) {
		while (mdb_cursor_get(cur, &k, &v, MDB_NEXT) == 0)
			if (v.mv_size >= sizeof(n)) {
				memcpy(&n, v.mv_data, sizeof(n));
				sum += n;
			}
		mdb_cursor_close(cur);
	}
	mdb_txn_abort(txn);
	return sum;
}

/* On a full disk, what is put must leave the pages that deleting needs: behind the last one, or free before it. */
static bool disk_spare(struct store_txn *t, const struct store_file *f)
{
	if ((t->pages + PAGES_SPARE) * f->psize <= f->reserved)
		return true;
	if (t->free == UINT64_MAX)
		t->free = free_pages(f);
	return t->free >= PAGES_SPARE;
}

/* The same of a full map, where LMDB itself says when there is nothing left at all. */
static bool map_spare(struct store_txn *t, const struct store_file *f)
{
	uint64_t map = f->map / f->psize, keep = map / 16 < PAGES_SPARE ? map / 16 : PAGES_SPARE;
	if (t->start + t->put + keep <= map)
		return true;
	if (t->free == UINT64_MAX)
		t->free = free_pages(f);
	return t->free >= t->put + keep;
}

int store_txn_room(struct store_txn *t, const struct store_spot *at, size_t bytes)
{
	struct store_file *f = at->file;
	MDB_stat st;
	if (t->failed)
		return t->failed;
	if (f != &t->env->file[0])
		return 0;
	t->put += bytes ? bytes / f->psize + 1 : 0;
	if (bytes && !map_spare(t, f))
		return store_txn_spoil(t, -ENOSPC);
	if (!f->writemap || f->reserved >= f->map)
		return 0;
	/* Each page on the way down is copied, and it or a neighbour is split or merged; the root may get one above
	 * it. */
	int rc = mdb_stat(at->txn, at->dbi, &st);
	if (rc)
		return store_txn_spoil(t, store_errno(rc));
	t->pages += 2 * (st.ms_depth + 1) + bytes / f->psize + 1;
	if ((t->pages + PAGES_SPARE) * f->psize <= f->reserved)
		return 0;
	rc = store_file_reserve(f, t->pages, PAGES_SPARE);
	if (!rc && bytes && !disk_spare(t, f))
		rc = -ENOSPC;
	return rc ? store_txn_spoil(t, rc) : 0;
}

int store_commit(struct store_txn *t)
{
	struct store_env *e = t->env;
	MDB_txn *txn[STORE_FILES_MAX];
	int rc = t->failed;
	if (rc) {
		store_abort(t);
		return rc;
	}
	memcpy(txn, t->txn, sizeof(txn));
	/* `t` is another thread's as soon as the first file is committed. */
	for (unsigned i = 0; i < STORE_FILES_MAX; i++) {
		if (!txn[i])
			continue;
		if (rc) {
			mdb_txn_abort(txn[i]);
			continue;
		}
		rc = store_errno(mdb_txn_commit(txn[i]));
		/* What LMDB says when the disk took a part of what it wrote. */
		if (rc == -EIO && store_file_full(&e->file[i]))
			rc = -ENOSPC;
		if (!rc && !e->file[i].synced && !atomic_load_explicit(&e->file[i].dirty, memory_order_relaxed))
			atomic_store(&e->file[i].dirty, true);
	}
	return rc;
}

void store_abort(struct store_txn *t)
{
	if (!t)
		return;
	/* The first file's lock is what makes `t` ours: it goes last. */
	for (unsigned i = STORE_FILES_MAX; i-- > 0;)
		if (t->txn[i])
			mdb_txn_abort(t->txn[i]);
}

int store_put(struct store_txn *t, enum store_table table, struct slice key, struct slice value)
{
	MDB_val k;
	struct store_spot at = {0};
	if (!record_key(key, &k))
		return -EINVAL;
	int rc = store_txn_table(t, table, &at);
	if (!rc)
		rc = store_txn_room(t, &at, value.len + RECORD_HEAD);
	if (rc)
		return rc;
	rc = record_put(at.txn, at.dbi, &k, value.p, value.len);
	return rc ? store_txn_spoil(t, rc) : 0;
}

int store_del(struct store_txn *t, enum store_table table, struct slice key)
{
	MDB_val k;
	struct store_spot at = {0};
	if (!record_key(key, &k))
		return -EINVAL;
	int rc = store_txn_table(t, table, &at);
	if (!rc)
		rc = store_txn_room(t, &at, 0);
	if (rc)
		return rc;
	rc = store_errno(mdb_del(at.txn, at.dbi, &k, NULL));
	return rc && rc != -ENOENT ? store_txn_spoil(t, rc) : rc;
}

int store_get(struct store_txn *t, enum store_table table, struct slice key, struct slice *value)
{
	MDB_val k, v;
	struct store_spot at = {0};
	if (!record_key(key, &k))
		return -EINVAL;
	int rc = store_txn_table(t, table, &at);
	if (!rc)
		rc = store_errno(mdb_get(at.txn, at.dbi, &k, &v));
	return rc ? rc : record_take(&k, &v, value);
}
