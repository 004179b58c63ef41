#include <errno.h>
#include <stdlib.h>

#include "store/store_p.h"

struct store_cursor {
	MDB_cursor *cur;
	struct store_txn *txn; /* NULL: by a reader */
	struct store_spot at;
};

static int walk(const struct store_spot *at, struct store_txn *t, struct store_cursor **out)
{
	struct store_cursor *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->txn = t;
	c->at = *at;
	int rc = mdb_cursor_open(at->txn, at->dbi, &c->cur);
	if (rc) {
		free(c);
		return store_errno(rc);
	}
	*out = c;
	return 0;
}

int store_walk_reader(struct store_reader *r, enum store_table table, struct store_cursor **out)
{
	struct store_spot at = {0};
	int rc = store_reader_table(r, table, &at);
	return rc ? rc : walk(&at, NULL, out);
}

int store_walk_txn(struct store_txn *t, enum store_table table, struct store_cursor **out)
{
	struct store_spot at = {0};
	int rc = store_txn_table(t, table, &at);
	return rc ? rc : walk(&at, t, out);
}

static int give(struct store_cursor *c, MDB_val *k, MDB_cursor_op op, struct slice *key, struct slice *value)
{
	MDB_val v;
	if (c->txn && c->txn->failed)
		return c->txn->failed;
	int rc = store_errno(mdb_cursor_get(c->cur, k, &v, op));
	if (rc)
		return rc;
	*key = slice_make(k->mv_data, k->mv_size);
	return record_take(k, &v, value);
}

int store_seek(struct store_cursor *c, struct slice from, struct slice *key, struct slice *value)
{
	MDB_val k;
	if (from.len > STORE_KEY_MAX)
		return -EINVAL;
	if (!record_key(from, &k))
		return give(c, &k, MDB_FIRST, key, value);
	return give(c, &k, MDB_SET_RANGE, key, value);
}

int store_next(struct store_cursor *c, struct slice *key, struct slice *value)
{
	MDB_val k;
	return give(c, &k, MDB_NEXT, key, value);
}

int store_walk_del(struct store_cursor *c)
{
	if (!c->txn)
		return -EINVAL;
	int rc = store_txn_room(c->txn, &c->at, 0);
	if (rc)
		return rc;
	rc = store_errno(mdb_cursor_del(c->cur, 0));
	return rc ? store_txn_spoil(c->txn, rc) : 0;
}

void store_walk_end(struct store_cursor *c)
{
	if (!c)
		return;
	mdb_cursor_close(c->cur);
	free(c);
}
