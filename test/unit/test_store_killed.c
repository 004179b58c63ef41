/* Killed at any instruction, a process leaves each of its transactions whole or not at all, and what it has
 * announced. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "store_tables.h"

#define KILLS 40

/* Commits batches for ever; each changes records of both tables that must agree, and is announced when it is
 * committed. */
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
