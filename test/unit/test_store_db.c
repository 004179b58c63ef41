/* Tables of the store: transactions are all or nothing, whatever ends them; readers see one moment; what is damaged is left out. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "store/store_p.h"
#include "unit.h"

#define MAP        (64u << 20)
#define KILLS      40
#define ROUNDS     2000
#define SKIPPED    77
#define DISK_BYTES (48u << 20) /* of the disk that gets full */

static char root[64], folder[128];
static char err[512];
static uint64_t map = MAP;

static int remove_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(p);
}

static int setup(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	snprintf(root, sizeof(root), "/tmp/hf-test-store-db-XXXXXX");
	assert_non_null(mkdtemp(root));
	snprintf(folder, sizeof(folder), "%s/store", root);
	err[0] = '\0';
	map = MAP;
	counters_reset_all();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct store *open_ok(void)
{
	struct store *s = NULL;
	int rc = store_open(folder, map, &s, err, sizeof(err));
	if (rc)
		print_error("%s\n", err);
	assert_int_equal(rc, 0);
	return s;
}

static struct store_env *worker_ok(struct store *s, unsigned index)
{
	struct store_env *e = NULL;
	int rc = store_worker(s, index, &e, err, sizeof(err));
	if (rc)
		print_error("%s\n", err);
	assert_int_equal(rc, 0);
	return e;
}

static struct store_txn *begin_ok(struct store_env *e)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(e, &t), 0);
	return t;
}

static struct store_reader *reader_ok(struct store_env *e)
{
	struct store_reader *r = NULL;
	assert_int_equal(store_reader_create(e, &r), 0);
	return r;
}

static void put_one(struct store_env *e, enum store_table table, const char *key, const char *value)
{
	struct store_txn *t = begin_ok(e);
	assert_int_equal(store_put(t, table, slice_str(key), slice_str(value)), 0);
	assert_int_equal(store_commit(t), 0);
}

/* A record as LMDB has it, past the envelope. */
static void put_raw(struct store_env *e, enum store_table table, const char *key, const void *bytes, size_t len)
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
static void expect(struct store_env *e, enum store_table table, const char *key, const char *value)
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

/* Batches of 50 until there is no room: how many were committed. */
static unsigned fill_up(struct store_env *e, enum store_table table)
{
	static char value[1200];
	char name[32];
	for (unsigned batch = 0;; batch++) {
		struct store_txn *t = begin_ok(e);
		int rc = 0;
		for (int i = 0; i < 50 && rc == 0; i++) {
			snprintf(name, sizeof(name), "b%06u-%d", batch, i);
			rc = store_put(t, table, slice_str(name), slice_make(value, sizeof(value)));
		}
		/* A transaction that was refused something cannot be committed by mistake. */
		int done = store_commit(t);
		if (rc)
			assert_int_equal(done, rc);
		if (!done)
			continue;
		assert_int_equal(done, -ENOSPC);
		return batch;
	}
}

static void empty_again(struct store_env *e, enum store_table table, unsigned batches)
{
	char name[32];
	for (unsigned batch = 0; batch < batches; batch++) {
		struct store_txn *t = begin_ok(e);
		for (int i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "b%06u-%d", batch, i);
			assert_int_equal(store_del(t, table, slice_str(name)), 0);
		}
		assert_int_equal(store_commit(t), 0);
	}
	assert_int_equal(store_count(e, table), 0);
}

static void full_cycle(struct store_env *e, enum store_table table)
{
	unsigned first = 0;
	for (int round = 0; round < 3; round++) {
		unsigned n = fill_up(e, table);
		assert_int_equal(store_count(e, table), n * 50);
		/* What is full stays usable: for reading, for deleting, and then for writing as much again. */
		expect(e, table, "no such", NULL);
		empty_again(e, table, n);
		assert_true(n > 20);
		assert_true(n * 2 > first);
		first = round ? first : n;
	}
}

static void test_map_full(void **state)
{
	(void)state;
	uint64_t used, max;
	map = 8u << 20;
	struct store *s = open_ok();
	full_cycle(store_shared(s), STORE_LOCATION);
	full_cycle(worker_ok(s, 0), STORE_CALLS);
	store_env_size(store_shared(s), &used, &max);
	assert_int_equal(max, map);
	assert_true(used <= max && used > max / 2);
	store_close(s);
	store_close(open_ok());
}

static void fill_disk(void)
{
	static char block[65536];
	char path[256];
	snprintf(path, sizeof(path), "%s/filler", root);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
}

static void disk_child(void)
{
	char path[256];
	map = 1u << 30;
	snprintf(path, sizeof(path), "size=%u", DISK_BYTES);
	if (!STORE_WRITEMAP) /* emptying a full disk is promised for what is written through the map */
		_exit(SKIPPED);
	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		_exit(SKIPPED);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", root, "tmpfs", 0, path) < 0)
		_exit(SKIPPED);
	struct store *s = open_ok();
	struct store_env *a = worker_ok(s, 0);
	assert_true(a->file[0].writemap);
	put_one(store_shared(s), STORE_USERS, "alice", "here");
	/* Another one takes what is left of the disk, in the middle of the work. */
	put_one(a, STORE_CALLS, "kept", "yes");
	fill_disk();
	full_cycle(a, STORE_DIALOGS);
	expect(a, STORE_CALLS, "kept", "yes");
	assert_int_equal(store_env_sync(a), 0);
	store_close(s);
	/* And a start on the full disk: without writing through the map, which could fault. */
	s = open_ok();
	expect(store_shared(s), STORE_USERS, "alice", "here");
	a = worker_ok(s, 0);
	expect(a, STORE_CALLS, "kept", "yes");
	struct store_env *b = NULL;
	int rc = store_worker(s, 1, &b, err, sizeof(err));
	assert_true(rc == -ENOSPC || (rc == 0 && !b->file[0].writemap));
	snprintf(path, sizeof(path), "%s/filler", root);
	assert_int_equal(unlink(path), 0);
	full_cycle(a, STORE_DIALOGS);
	b = worker_ok(s, 1);
	put_one(b, STORE_CALLS, "call", "one");
	store_close(s);
}

/* In a child, for the mount; an assertion that fails there ends it with another status. */
static void test_disk_full(void **state)
{
	(void)state;
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		disk_child();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == SKIPPED) {
		print_message("no mounts here, or no writing through the map\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
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

/* Commits batches for ever; each changes records of both tables that must agree, and is announced when it is committed. */
static void commit_child(_Atomic uint64_t *announced)
{
	static char value[3000];
	char name[32];
	struct store *s = NULL;
	struct store_env *e[2];
	if (store_open(folder, map, &s, err, sizeof(err)) || store_worker(s, 0, &e[0], err, sizeof(err)))
		_exit(1);
	e[1] = store_shared(s);
	for (uint64_t n = atomic_load(announced) + 1;; n++) {
		for (int i = 0; i < 2; i++) {
			enum store_table one = i ? STORE_LOCATION : STORE_CALLS,
					 two = i ? STORE_FLOWS : STORE_DIALOGS;
			struct slice number = slice_make((char *)&n, sizeof(n));
			struct store_txn *t;
			int rc = store_begin(e[i], &t);
			if (rc)
				_exit(2);
			rc |= store_put(t, one, SLICE_LIT("number"), number);
			for (uint64_t j = 0; j < 20; j++) {
				snprintf(name, sizeof(name), "n%u", (unsigned)((n * 20 + j) * 7919 % 500));
				rc |= store_put(t, one, slice_str(name),
						slice_make(value, n * 97 % sizeof(value)));
				snprintf(name, sizeof(name), "n%u", (unsigned)((n * 20 + j) * 104729 % 500));
				int gone = store_del(t, one, slice_str(name));
				rc |= gone == -ENOENT ? 0 : gone;
			}
			rc |= store_put(t, two, SLICE_LIT("number"), number);
			rc |= store_commit(t);
			if (rc)
				_exit(3);
		}
		atomic_store(announced, n);
	}
}

static uint64_t number_of(struct store_env *e, enum store_table table)
{
	uint64_t n = 0;
	struct slice k, v;
	struct store_cursor *c;
	struct store_reader *r = reader_ok(e);
	assert_int_equal(store_read_begin(r), 0);
	int rc = store_read(r, table, SLICE_LIT("number"), &v);
	assert_true(rc == 0 || rc == -ENOENT);
	if (rc == 0)
		memcpy(&n, v.p, sizeof(n));
	assert_int_equal(store_walk_reader(r, table, &c), 0);
	for (rc = store_seek(c, SLICE_NONE, &k, &v); rc == 0; rc = store_next(c, &k, &v))
		;
	assert_int_equal(rc, -ENOENT);
	store_walk_end(c);
	store_reader_destroy(r);
	return n;
}

static int aside;

static int count_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	aside += strstr(p, ".damaged-") != NULL;
	return 0;
}

static int count_aside(void)
{
	aside = 0;
	assert_int_equal(nftw(folder, count_one, 16, FTW_PHYS), 0);
	return aside;
}

static void test_killed(void **state)
{
	(void)state;
	uint64_t seed = 3;
	_Atomic uint64_t *announced =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(announced != MAP_FAILED);
	for (int i = 0; i < KILLS; i++) {
		uint64_t before = atomic_load(announced);
		int status;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			commit_child(announced);
		/* Some commits, then a random moment of the next one. */
		while (atomic_load(announced) < before + 3 && waitpid(pid, &status, WNOHANG) == 0)
			sched_yield();
		for (uint64_t spin = unit_random(&seed) % 100000; spin; spin--)
			(void)atomic_load(announced);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		uint64_t n = atomic_load(announced);
		struct store *s = open_ok();
		struct store_env *w = worker_ok(s, 0), *e = store_shared(s);
		uint64_t calls = number_of(w, STORE_CALLS), location = number_of(e, STORE_LOCATION);
		assert_true(calls == n || calls == n + 1);
		assert_true(location == n || location == n + 1);
		assert_int_equal(number_of(w, STORE_DIALOGS), calls);
		assert_int_equal(number_of(e, STORE_FLOWS), location);
		store_close(s);
	}
	assert_int_equal(count_aside(), 0);
	munmap((void *)(uintptr_t)announced, 4096);
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
		cmocka_unit_test_setup_teardown(test_map_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
