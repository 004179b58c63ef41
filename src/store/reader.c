#include <errno.h>
#include <stdlib.h>

#include "store/store_p.h"

/* One thread at a time. A read transaction that is not in use is reset, not ended: it keeps its place in LMDB's table
 * of readers. */
struct store_reader {
	struct store_env *env;
	MDB_txn *txn[STORE_FILES_MAX]; /* the first always, others from their first use */
	bool active[STORE_FILES_MAX];
	bool begun;
};

int store_reader_create(struct store_env *e, struct store_reader **out)
{
	struct store_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->env = e;
	int rc = mdb_txn_begin(e->file[0].env, NULL, MDB_RDONLY, &r->txn[0]);
	if (rc) {
		free(r);
		return store_errno(rc);
	}
	mdb_txn_reset(r->txn[0]);
	*out = r;
	return 0;
}

void store_reader_destroy(struct store_reader *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < STORE_FILES_MAX; i++)
		if (r->txn[i])
			mdb_txn_abort(r->txn[i]);
	free(r);
}

static int file_begin(struct store_reader *r, unsigned i)
{
	int rc = r->txn[i] ? mdb_txn_renew(r->txn[i])
			   : mdb_txn_begin(r->env->file[i].env, NULL, MDB_RDONLY, &r->txn[i]);
	r->active[i] = rc == 0;
	return store_errno(rc);
}

int store_read_begin(struct store_reader *r)
{
	if (r->begun)
		return 0;
	int rc = file_begin(r, 0);
	r->begun = rc == 0;
	return rc;
}

void store_read_end(struct store_reader *r)
{
	for (unsigned i = 0; i < STORE_FILES_MAX; i++)
		if (r->active[i]) {
			mdb_txn_reset(r->txn[i]);
			r->active[i] = false;
		}
	r->begun = false;
}

int store_reader_table(struct store_reader *r, enum store_table table, struct store_spot *out)
{
	unsigned i = 0;
	struct store_file *f = store_env_file(r->env, table, &i);
	if (!f || !r->begun)
		return -EINVAL;
	int rc = r->active[i] ? 0 : file_begin(r, i);
	if (rc)
		return rc;
	*out = (struct store_spot){f, r->txn[i], f->dbi[table]};
	return 0;
}

int store_read(struct store_reader *r, enum store_table table, struct slice key, struct slice *value)
{
	MDB_val k, v;
	struct store_spot at = {0};
	if (!record_key(key, &k))
		return -EINVAL;
	int rc = store_reader_table(r, table, &at);
	if (!rc)
		rc = store_errno(mdb_get(at.txn, at.dbi, &k, &v));
	return rc ? rc : record_take(&k, &v, value);
}
