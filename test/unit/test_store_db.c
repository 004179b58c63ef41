/* Tables of the store: transactions are all or nothing; readers see one moment; what is damaged is left out. */
#include <errno.h>
#include <pthread.h>

#include "store_tables.h"

#define ROUNDS 2000

static void test_put_get_del(void **state)
{
	(void)state;
	char name[STORE_KEY_MAX + 1];
	struct slice v = SLICE_NONE;
	struct store *s = open_ok();
	struct store_env *e = store_shared(s);
	struct store_txn *t = begin_ok(e);
	memset(name, 'k', sizeof(name));
	assert_int_equal(store_get(t, STORE_LOCATION, SLICE_LIT("a"), &v), -ENOENT);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_LIT("a"), SLICE_LIT("1")), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_LIT("a"), SLICE_LIT("2")), 0);
	assert_int_equal(store_get(t, STORE_LOCATION, SLICE_LIT("a"), &v), 0);
	unit_assert_slice(v, "2");
	assert_int_equal(store_put(t, STORE_FLOWS, SLICE_LIT("a"), SLICE_NONE), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, slice_make(name, STORE_KEY_MAX), SLICE_LIT("long")), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, slice_make(name, STORE_KEY_MAX + 1), SLICE_LIT("x")),
			 -EINVAL);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_NONE, SLICE_LIT("x")), -EINVAL);
	assert_int_equal(store_put(t, STORE_CALLS, SLICE_LIT("a"), SLICE_LIT("x")), -EINVAL);
	assert_int_equal(store_del(t, STORE_LOCATION, SLICE_LIT("b")), -ENOENT);
	/* None of these refusals spoils the rest. */
	assert_int_equal(store_commit(t), 0);
	store_close(s);

	s = open_ok();
	e = store_shared(s);
	expect(e, STORE_LOCATION, "a", "2");
	expect(e, STORE_FLOWS, "a", "");
	assert_int_equal(store_count(e, STORE_LOCATION), 2);
	assert_int_equal(store_count(e, STORE_CALLS), 0);
	t = begin_ok(e);
	assert_int_equal(store_del(t, STORE_LOCATION, SLICE_LIT("a")), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_LIT("c"), SLICE_LIT("x")), 0);
	store_abort(t);
	store_abort(NULL);
	expect(e, STORE_LOCATION, "a", "2");
	expect(e, STORE_LOCATION, "c", NULL);
	store_close(s);
}

static bool has_file(const char *name)
{
	char path[256];
	struct stat st;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return stat(path, &st) == 0;
}

/* What only an operator can give again is not in the file that a loss of power may cost. */
static void test_users_apart(void **state)
{
	(void)state;
	char path[256];
	struct slice v;
	struct store *s = open_ok();
	struct store_env *e = store_shared(s);
	put_one(e, STORE_USERS, "alice", "hash");
	struct store_txn *t = begin_ok(e);
	assert_int_equal(store_put(t, STORE_USERS, SLICE_LIT("bob"), SLICE_LIT("both")), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_LIT("bob"), SLICE_LIT("here")), 0);
	assert_int_equal(store_commit(t), 0);
	t = begin_ok(e);
	assert_int_equal(store_put(t, STORE_USERS, SLICE_LIT("carol"), SLICE_LIT("not")), 0);
	store_abort(t);
	struct store_reader *r = reader_ok(e);
	assert_int_equal(store_read(r, STORE_USERS, SLICE_LIT("bob"), &v), -EINVAL); /* not begun */
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_read(r, STORE_USERS, SLICE_LIT("bob"), &v), 0);
	unit_assert_slice(v, "both");
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("bob"), &v), 0);
	unit_assert_slice(v, "here");
	store_reader_destroy(r);
	expect(e, STORE_USERS, "carol", NULL);
	store_close(s);
	snprintf(path, sizeof(path), "%s/registrations.mdb", folder);
	assert_int_equal(truncate(path, 5000), 0);
	s = open_ok();
	expect(store_shared(s), STORE_USERS, "alice", "hash");
	expect(store_shared(s), STORE_LOCATION, "bob", NULL);
	store_close(s);
}

static void test_workers(void **state)
{
	(void)state;
	char path[256];
	struct store_env *e = NULL;
	struct store *s = open_ok();
	assert_int_equal(store_workers(s), 0);
	put_one(worker_ok(s, 0), STORE_CALLS, "call", "zero");
	put_one(worker_ok(s, 5), STORE_DIALOGS, "dialog", "five");
	assert_ptr_equal(worker_ok(s, 5), worker_ok(s, 5));
	assert_int_equal(store_worker(s, STORE_WORKERS_MAX, &e, err, sizeof(err)), -EINVAL);
	assert_null(e);
	assert_true(has_file("worker-0.mdb") && has_file("worker-5.mdb") && has_file("registrations.mdb") &&
		    has_file("main.mdb"));
	assert_int_equal(store_workers(s), 0); /* from earlier runs */
	store_close(s);
	snprintf(path, sizeof(path), "%s/worker-99999.mdb", folder);
	fclose(fopen(path, "w"));
	snprintf(path, sizeof(path), "%s/worker-0.mdb", folder);
	assert_int_equal(truncate(path, 4096 + 10), 0);
	s = open_ok();
	assert_int_equal(store_workers(s), 6);
	/* Moved aside, and the others are not concerned. */
	expect(worker_ok(s, 0), STORE_CALLS, "call", NULL);
	expect(worker_ok(s, 5), STORE_DIALOGS, "dialog", "five");
	put_one(worker_ok(s, 0), STORE_CALLS, "call", "again");
	store_close(s);
}

static void test_reader_snapshot(void **state)
{
	(void)state;
	struct slice v;
	struct store *s = open_ok();
	struct store_env *e = store_shared(s);
	put_one(e, STORE_LOCATION, "a", "old");
	struct store_reader *r = reader_ok(e);
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("a"), &v), 0);
	for (int i = 0; i < 50; i++)
		put_one(e, STORE_LOCATION, i % 2 ? "a" : "b", "new");
	unit_assert_slice(v, "old");
	assert_int_equal(store_read_begin(r), 0); /* it has begun: no other moment */
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("a"), &v), 0);
	unit_assert_slice(v, "old");
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("b"), &v), -ENOENT);
	store_read_end(r);
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("a"), &v), 0);
	unit_assert_slice(v, "new");
	store_read_end(r);
	store_read_end(r);
	store_reader_destroy(r);
	store_reader_destroy(NULL);
	store_close(s);
}

static void test_readers_limit(void **state)
{
	(void)state;
	static struct store_reader *r[STORE_READERS_MAX + 1];
	struct store *s = open_ok();
	int rc = 0;
	unsigned n = 0;
	for (; n <= STORE_READERS_MAX && rc == 0; n++)
		rc = store_reader_create(store_shared(s), &r[n]);
	assert_int_equal(rc, -EBUSY);
	assert_int_equal(n, STORE_READERS_MAX + 1);
	store_reader_destroy(r[7]);
	assert_int_equal(store_reader_create(store_shared(s), &r[7]), 0);
	for (unsigned i = 0; i + 1 < n; i++)
		store_reader_destroy(r[i]);
	store_close(s);
}

static void test_walk(void **state)
{
	(void)state;
	char name[16];
	struct slice k, v;
	struct store_cursor *c;
	struct store *s = open_ok();
	struct store_env *e = worker_ok(s, 0);
	struct store_txn *t = begin_ok(e);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "k%04d", i);
		assert_int_equal(store_put(t, STORE_CALLS, slice_str(name), slice_str(name)), 0);
	}
	assert_int_equal(store_commit(t), 0);
	/* Every second one is deleted while walking. */
	t = begin_ok(e);
	assert_int_equal(store_walk_txn(t, STORE_CALLS, &c), 0);
	int n = 0;
	for (int rc = store_seek(c, SLICE_NONE, &k, &v); rc == 0; rc = store_next(c, &k, &v), n++)
		if (n % 2)
			assert_int_equal(store_walk_del(c), 0);
	assert_int_equal(n, 1000);
	store_walk_end(c);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(store_count(e, STORE_CALLS), 500);

	struct store_reader *r = reader_ok(e);
	assert_int_equal(store_walk_reader(r, STORE_CALLS, &c), -EINVAL);
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_walk_reader(r, STORE_LOCATION, &c), -EINVAL);
	assert_int_equal(store_walk_reader(r, STORE_CALLS, &c), 0);
	assert_int_equal(store_seek(c, SLICE_LIT("k0501"), &k, &v), 0);
	unit_assert_slice(k, "k0502");
	unit_assert_slice(v, "k0502");
	assert_int_equal(store_next(c, &k, &v), 0);
	unit_assert_slice(k, "k0504");
	assert_int_equal(store_walk_del(c), -EINVAL);
	assert_int_equal(store_seek(c, SLICE_LIT("z"), &k, &v), -ENOENT);
	store_walk_end(c);
	store_walk_end(NULL);
	store_reader_destroy(r);
	store_close(s);
}

static void test_damaged_record(void **state)
{
	(void)state;
	unsigned char bad[RECORD_HEAD + 3], newer[RECORD_HEAD + 3];
	struct slice k, v = SLICE_LIT("untouched");
	struct store_cursor *c;
	struct store *s = open_ok();
	struct store_env *e = store_shared(s);
	record_seal(bad, "b", 1, "two", 3);
	record_seal(newer, "c", 1, "new", 3);
	bad[RECORD_HEAD] ^= 1;
	newer[0] = RECORD_VERSION + 1;
	put_one(e, STORE_LOCATION, "a", "one");
	put_raw(e, STORE_LOCATION, "b", bad, sizeof(bad));
	put_raw(e, STORE_LOCATION, "c", newer, sizeof(newer));
	put_raw(e, STORE_LOCATION, "d", "short", 5);
	put_one(e, STORE_LOCATION, "e", "five");
	struct store_reader *r = reader_ok(e);
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("b"), &v), -EBADMSG);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("c"), &v), -EBADMSG);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("d"), &v), -EBADMSG);
	unit_assert_slice(v, "untouched");
	assert_int_equal(counters_sum(CNT_STORE_DAMAGED), 3);
	assert_int_equal(store_walk_reader(r, STORE_LOCATION, &c), 0);
	static const int expected[] = {0, -EBADMSG, -EBADMSG, -EBADMSG, 0, -ENOENT};
	for (unsigned i = 0; i < 6; i++) {
		int rc = i ? store_next(c, &k, &v) : store_seek(c, SLICE_NONE, &k, &v);
		assert_int_equal(rc, expected[i]);
		if (rc != -ENOENT)
			assert_int_equal(k.p[0], 'a' + (int)i);
	}
	store_walk_end(c);
	store_reader_destroy(r);
	/* It does not spoil a transaction, and can be replaced. */
	struct store_txn *t = begin_ok(e);
	assert_int_equal(store_get(t, STORE_LOCATION, SLICE_LIT("b"), &v), -EBADMSG);
	assert_int_equal(store_put(t, STORE_LOCATION, SLICE_LIT("b"), SLICE_LIT("mended")), 0);
	assert_int_equal(store_del(t, STORE_LOCATION, SLICE_LIT("d")), 0);
	assert_int_equal(store_commit(t), 0);
	expect(e, STORE_LOCATION, "b", "mended");
	store_close(s);
}

static int add_one(struct store_env *e, bool keep)
{
	struct slice v;
	uint64_t n = 0;
	struct store_txn *t;
	int rc = store_begin(e, &t);
	if (rc)
		return rc;
	rc = store_get(t, STORE_LOCATION, SLICE_LIT("sum"), &v);
	if (rc == 0)
		memcpy(&n, v.p, sizeof(n));
	n++;
	if (rc == 0 || rc == -ENOENT)
		rc = store_put(t, STORE_LOCATION, SLICE_LIT("sum"), slice_make((char *)&n, sizeof(n)));
	if (rc == 0 && keep)
		return store_commit(t);
	store_abort(t);
	return rc;
}

/* NULL, or what failed. */
static void *add_many(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		if ((i % 3 == 0 && add_one(arg, false)) || add_one(arg, true))
			return arg;
	return NULL;
}

static void test_two_writers(void **state)
{
	(void)state;
	pthread_t a, b;
	void *bad_a, *bad_b;
	uint64_t n = 0, last = 0;
	struct slice v;
	struct store *s = open_ok();
	struct store_env *e = store_shared(s);
	struct store_reader *r = reader_ok(e);
	assert_int_equal(pthread_create(&a, NULL, add_many, e), 0);
	assert_int_equal(pthread_create(&b, NULL, add_many, e), 0);
	/* And a reader, which never sees it go back. */
	while (pthread_tryjoin_np(a, &bad_a)) {
		assert_int_equal(store_read_begin(r), 0);
		int rc = store_read(r, STORE_LOCATION, SLICE_LIT("sum"), &v);
		assert_true(rc == 0 || rc == -ENOENT);
		if (rc == 0)
			memcpy(&n, v.p, sizeof(n));
		assert_true(n >= last);
		last = n;
		store_read_end(r);
		assert_int_equal(store_env_sync(e), 0);
	}
	pthread_join(b, &bad_b);
	assert_null(bad_a);
	assert_null(bad_b);
	store_reader_destroy(r);
	r = reader_ok(e);
	assert_int_equal(store_read_begin(r), 0);
	assert_int_equal(store_read(r, STORE_LOCATION, SLICE_LIT("sum"), &v), 0);
	memcpy(&n, v.p, sizeof(n));
	assert_int_equal(n, 2 * ROUNDS);
	store_reader_destroy(r);
	store_close(s);
}

static void oom_body(void)
{
	struct store *s = NULL;
	struct store_env *e = NULL;
	struct store_reader *r = NULL;
	struct store_cursor *c = NULL;
	struct slice k, v;
	int rc = store_open(folder, map, &s, err, sizeof(err));
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		return;
	}
	rc = store_worker(s, 0, &e, err, sizeof(err));
	if (!rc)
		rc = store_reader_create(e, &r);
	if (!rc) {
		put_one(e, STORE_CALLS, "a", "b");
		assert_int_equal(store_read_begin(r), 0);
		rc = store_walk_reader(r, STORE_CALLS, &c);
	}
	if (!rc)
		assert_int_equal(store_seek(c, SLICE_NONE, &k, &v), 0);
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
	}
	store_walk_end(c);
	store_reader_destroy(r);
	store_close(s);
}

static void test_no_memory(void **state)
{
	(void)state;
	struct store *s = open_ok();
	put_one(worker_ok(s, 0), STORE_CALLS, "a", "b");
	store_close(s);
	UNIT_OOM(oom_body);
	s = open_ok();
	expect(worker_ok(s, 0), STORE_CALLS, "a", "b");
	store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_get_del, setup, teardown),
		cmocka_unit_test_setup_teardown(test_users_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_workers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reader_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readers_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_record, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
