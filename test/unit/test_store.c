/* The store: what is put is there after a start, what is damaged is moved aside, and one process holds it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store_folder.h"

static const char *main_file(void)
{
	static char path[sizeof(folder) + 16];
	snprintf(path, sizeof(path), "%s/main.mdb", folder);
	return path;
}

static void test_put_get(void **state)
{
	(void)state;
	struct stat st;
	char out[32];
	size_t len = 99;
	struct store *s = open_ok();
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(store_meta_get(s, "workers", out, sizeof(out), &len), -ENOENT);
	assert_int_equal(len, 99);
	assert_int_equal(store_meta_put(s, "workers", "four", 4), 0);
	assert_int_equal(store_meta_put(s, "empty", NULL, 0), 0);
	assert_int_equal(store_meta_put(s, "", "x", 1), -EINVAL);
	store_close(s);

	s = open_ok();
	assert_int_equal(store_meta_get(s, "workers", out, sizeof(out), &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(out, "four", 4);
	assert_int_equal(store_meta_get(s, "workers", out, 3, &len), -EMSGSIZE);
	assert_int_equal(store_meta_get(s, "empty", out, sizeof(out), &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(count_aside(), 0);
	store_close(s);
}

static void test_secret(void **state)
{
	(void)state;
	unsigned char a[STORE_SECRET_LEN] = {0}, b[STORE_SECRET_LEN] = {1}, none[STORE_SECRET_LEN] = {0};
	struct store *s = open_ok();
	assert_int_equal(store_secret(s, a), 0);
	assert_memory_not_equal(a, none, sizeof(a));
	store_close(s);
	s = open_ok();
	assert_int_equal(store_secret(s, b), 0);
	assert_memory_equal(a, b, sizeof(a));
	/* One of the wrong size is replaced, and the new one is kept. */
	assert_int_equal(store_meta_put(s, "secret", "short", 5), 0);
	assert_int_equal(store_secret(s, b), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_int_equal(store_secret(s, a), 0);
	assert_memory_equal(a, b, sizeof(a));
	store_close(s);
}

static void test_many_values(void **state)
{
	(void)state;
	static char big[STORE_META_MAX], out[STORE_META_MAX];
	char name[32];
	size_t len;
	memset(big, 'x', sizeof(big));
	for (int round = 0; round < 3; round++) {
		struct store *s = open_ok();
		for (int i = 0; i < 400; i++) {
			snprintf(name, sizeof(name), "name-%d", (i * 7 + round) % 500);
			assert_int_equal(
				store_meta_put(s, name, big, (size_t)(i * 37 + round * 1000) % sizeof(big)), 0);
		}
		assert_int_equal(store_meta_put(s, "largest", big, sizeof(big)), 0);
		assert_int_equal(store_meta_put(s, "largest", big, sizeof(big) + 1), -EMSGSIZE);
		store_close(s);
		s = open_ok();
		assert_int_equal(store_meta_get(s, "largest", out, sizeof(out), &len), 0);
		assert_int_equal(len, sizeof(big));
		assert_memory_equal(out, big, sizeof(big));
		store_close(s);
	}
	assert_int_equal(count_aside(), 0);
}

static void fill(void)
{
	char name[32], value[3000];
	struct store *s = open_ok();
	unsigned char secret[STORE_SECRET_LEN];
	memset(value, 'v', sizeof(value));
	assert_int_equal(store_secret(s, secret), 0);
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "value-%d", i);
		assert_int_equal(store_meta_put(s, name, value, i % 5 ? 50 : sizeof(value)), 0);
	}
	store_close(s);
}

static void test_truncated(void **state)
{
	(void)state;
	struct stat st;
	fill();
	assert_int_equal(stat(main_file(), &st), 0);
	off_t sizes[] = {1, 16, 100, 4096, 4097, 8192, 12288, st.st_size / 2, st.st_size - 4096 - 1};
	int expect = 0;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char out[8];
		size_t len;
		assert_int_equal(truncate(main_file(), sizes[i]), 0);
		struct store *s = open_ok();
		assert_int_equal(count_aside(), ++expect);
		assert_int_equal(store_meta_get(s, "value-1", out, sizeof(out), &len), -ENOENT);
		store_close(s);
		fill();
	}
	/* An empty file is a store that was never written. */
	assert_int_equal(truncate(main_file(), 0), 0);
	store_close(open_ok());
	assert_int_equal(count_aside(), expect);
}

static void test_not_a_store(void **state)
{
	(void)state;
	store_close(open_ok());
	FILE *f = fopen(main_file(), "w");
	for (int i = 0; i < 3 * 4096; i++)
		fputc(i * 31 % 251, f);
	fclose(f);
	store_close(open_ok());
	assert_int_equal(count_aside(), 1);
	assert_int_equal(unlink(main_file()), 0);
	assert_int_equal(mkdir(main_file(), 0700), 0);
	store_close(open_ok());
	assert_int_equal(count_aside(), 2);
}

/* Whatever bytes are changed: it opens, it is never a crash, and a value that comes back is the one that was put. */
static void test_random_damage(void **state)
{
	(void)state;
	static unsigned char good[1 << 20], bad[1 << 20];
	char out[4000], value[3000];
	unsigned seed = 7;
	int refused = 0, missing = 0;
	fill();
	memset(value, 'v', sizeof(value));
	int fd = open(main_file(), O_RDONLY);
	ssize_t n = read(fd, good, sizeof(good));
	close(fd);
	assert_true(n > 8192 && n < (ssize_t)sizeof(good));
	for (int round = 0; round < 300; round++) {
		memcpy(bad, good, (size_t)n);
		int spots = 1 << (round % 10);
		for (int i = 0; i < spots; i++)
			bad[(unsigned)rand_r(&seed) % (unsigned)n] ^= (unsigned char)(1 + rand_r(&seed) % 255);
		if (round % 3 == 0) /* aim at the page heads, where the tree is */
			bad[(unsigned)(rand_r(&seed) % (n / 4096)) * 4096 + rand_r(&seed) % 64] ^= 0xff;
		fd = open(main_file(), O_WRONLY | O_TRUNC);
		assert_int_equal(write(fd, bad, (size_t)n), n);
		close(fd);
		struct store *s = open_ok();
		for (int i = 0; i < 40; i++) {
			char name[32];
			size_t len;
			snprintf(name, sizeof(name), "value-%d", i);
			int rc = store_meta_get(s, name, out, sizeof(out), &len);
			missing += rc == -ENOENT;
			refused += rc == -EBADMSG;
			assert_true(rc == 0 || rc == -ENOENT || rc == -EBADMSG);
			if (rc)
				continue;
			assert_int_equal(len, i % 5 ? 50 : sizeof(value));
			assert_memory_equal(out, value, len);
		}
		unsigned char secret[STORE_SECRET_LEN];
		assert_int_equal(store_secret(s, secret), 0);
		assert_int_equal(store_meta_put(s, "after", "x", 1), 0);
		store_close(s);
	}
	assert_true(refused > 0 && missing > 0 && count_aside() > 10);
}

static void test_record(void **state)
{
	(void)state;
	unsigned char rec[RECORD_HEAD + 5];
	struct slice v = SLICE_NONE;
	record_seal(rec, "key", 3, "value", 5);
	assert_int_equal(record_open("key", 3, rec, sizeof(rec), &v), 0);
	assert_true(slice_eq(v, SLICE_LIT("value")));
	assert_int_equal(record_open("kez", 3, rec, sizeof(rec), &v), -EBADMSG);
	assert_int_equal(record_open("key", 3, rec, sizeof(rec) - 1, &v), -EBADMSG);
	assert_int_equal(record_open("key", 3, rec, 0, &v), -EBADMSG);
	for (size_t i = 0; i < sizeof(rec); i++) {
		rec[i] ^= 0x10;
		assert_int_equal(record_open("key", 3, rec, sizeof(rec), &v), -EBADMSG);
		rec[i] ^= 0x10;
	}
}

static void test_one_process(void **state)
{
	(void)state;
	struct store *s = open_ok(), *second = NULL;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char want[256];
		int rc = store_open(folder, map, &second, err, sizeof(err));
		snprintf(want, sizeof(want), "store %s is in use by another process", folder);
		_exit(rc == -EBUSY && !second && strcmp(err, want) == 0 ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	store_close(s);
	/* The lock files that are left mean nothing. */
	store_close(open_ok());
}

/* A process that was killed leaves its lock behind, and what it had committed. */
static void test_killed(void **state)
{
	(void)state;
	char out[8];
	size_t len;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store *s = NULL;
		if (store_open(folder, map, &s, err, sizeof(err)) || store_meta_put(s, "kept", "yes", 3))
			_exit(1);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	struct store *s = open_ok();
	assert_int_equal(store_meta_get(s, "kept", out, sizeof(out), &len), 0);
	assert_int_equal(len, 3);
	store_close(s);
}

static void test_bad_folder(void **state)
{
	(void)state;
	struct store *s = NULL;
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/plain", root);
	fclose(fopen(path, "w"));
	assert_int_equal(store_open(path, map, &s, err, sizeof(err)), -ENOTDIR);
	assert_non_null(strstr(err, path));
	assert_null(strchr(err, '\n'));
	strcat(path, "/below");
	assert_int_equal(store_open(path, map, &s, err, sizeof(err)), -ENOTDIR);
	assert_int_equal(store_open("", map, &s, err, sizeof(err)), -ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(store_open(path, map, &s, err, sizeof(err)), -ENAMETOOLONG);
	assert_null(s);
}

/* Root may write anywhere, so a child gives its rights up first. */
static void test_no_permission(void **state)
{
	(void)state;
	char path[64] = "closed"; /* from root: what is above may be closed to others as well */
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct store *s = NULL;
		if (chmod(root, 0755) || chdir(root) || mkdir(path, 0555))
			_exit(1);
		if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(77);
		int a = store_open(path, map, &s, err, sizeof(err));
		bool clear = strstr(err, "permission") != NULL;
		strcat(path, "/below/it");
		int b = store_open(path, map, &s, err, sizeof(err));
		_exit(a == -EACCES && b == -EACCES && clear && !s ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("cannot give up root's rights here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_full(void **state)
{
	(void)state;
	static char big[STORE_META_MAX];
	char name[32], out[8];
	size_t len;
	struct store *s = NULL;
	assert_int_equal(store_open(folder, 1, &s, err, sizeof(err)), 0);
	assert_int_equal(store_meta_put(s, "first", "one", 3), 0);
	int rc = 0;
	for (int i = 0; i < 1000 && rc == 0; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		rc = store_meta_put(s, name, big, sizeof(big));
	}
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(store_meta_get(s, "first", out, sizeof(out), &len), 0);
	store_close(s);
}

static void oom_body(void)
{
	struct store *s = NULL;
	unsigned char secret[STORE_SECRET_LEN];
	char out[8];
	size_t len;
	int rc = store_open(folder, map, &s, err, sizeof(err));
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_null(s);
		assert_true(alloc_failed());
		return;
	}
	assert_int_equal(store_secret(s, secret), 0);
	assert_int_equal(store_meta_put(s, "name", "value", 5), 0);
	assert_int_equal(store_meta_get(s, "name", out, sizeof(out), &len), 0);
	store_close(s);
}

/* Want of memory is never taken for damage. */
static void test_no_memory(void **state)
{
	(void)state;
	fill();
	UNIT_OOM(oom_body);
	assert_int_equal(count_aside(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_get, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_a_store, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random_damage, setup, teardown),
		cmocka_unit_test(test_record),
		cmocka_unit_test_setup_teardown(test_one_process, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_permission, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
