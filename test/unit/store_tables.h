/* Tables of a store in a temporary folder. */
#ifndef TEST_STORE_TABLES_H
#define TEST_STORE_TABLES_H

#include "store_folder.h"

static inline struct store_env *worker_ok(struct store *s, unsigned index)
{
	struct store_env *e = NULL;
	int rc = store_worker(s, index, &e, err, sizeof(err));
	if (rc)
		print_error("%s\n", err);
	assert_int_equal(rc, 0);
	return e;
}

static inline struct store_txn *begin_ok(struct store_env *e)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(e, &t), 0);
	return t;
}

static inline struct store_reader *reader_ok(struct store_env *e)
{
	struct store_reader *r = NULL;
	assert_int_equal(store_reader_create(e, &r), 0);
	return r;
}

static inline void put_one(struct store_env *e, enum store_table table, const char *key, const char *value)
{
	struct store_txn *t = begin_ok(e);
	assert_int_equal(store_put(t, table, slice_str(key), slice_str(value)), 0);
	assert_int_equal(store_commit(t), 0);
}

/* A record as LMDB has it, past the envelope. */
static inline void put_raw(struct store_env *e, enum store_table table, const char *key, const void *bytes,
			   size_t len)
{
	unsigned i = 0;
	MDB_txn *txn;
	struct store_file *f = store_env_file(e, table, &i);
	MDB_val k = {strlen(key), (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)bytes};
	assert_non_null(f);
	assert_int_equal(mdb_txn_begin(f->env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_put(txn, f->dbi[table], &k, &v, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
}

/* NULL: not there. */
static inline void expect(struct store_env *e, enum store_table table, const char *key, const char *value)
{
	struct store_reader *r = reader_ok(e);
	struct slice v;
	assert_int_equal(store_read_begin(r), 0);
	int rc = store_read(r, table, slice_str(key), &v);
	assert_int_equal(rc, value ? 0 : -ENOENT);
	if (value)
		unit_assert_slice(v, value);
	store_reader_destroy(r);
}

#endif
