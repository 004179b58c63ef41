/* A store without room: what was there stays, can be emptied, and is filled again. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "store_tables.h"

#define SKIPPED    77
#define DISK_BYTES (48u << 20) /* of the disk that gets full */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_map_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
