#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_p.h"

#define MAIN_NAME   "main.mdb"
#define SHARED_NAME "registrations.mdb"
#define LOCK_NAME   "lock"

static int fail(int rc, const char *path, char *err, size_t errlen)
{
	const char *why = rc == -ENOTDIR                  ? "it is not a folder"
			  : rc == -EACCES || rc == -EPERM ? "no permission to write there"
			  : rc == -EROFS                  ? "the file system is read-only"
			  : rc == -ENOSPC                 ? "no space left"
							  : strerror(-rc);
	snprintf(err, errlen, "store %s cannot be opened: %s", path, why);
	return rc;
}

static int folder_make(const char *path)
{
	char p[PATH_MAX];
	size_t n = strlen(path);
	if (n == 0)
		return -ENOENT;
	if (n >= sizeof(p))
		return -ENAMETOOLONG;
	memcpy(p, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (p[i] != '/' && p[i] != '\0')
			continue;
		char c = p[i];
		p[i] = '\0';
		if (mkdir(p, 0700) < 0 && errno != EEXIST) {
			int rc = -errno;
			struct stat st;
			/* Some file systems name another reason first for what is there already. */
			if (stat(p, &st) < 0 || !S_ISDIR(st.st_mode))
				return rc;
		}
		p[i] = c;
	}
	struct stat st;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* The kernel drops the lock with the process, so a lock file that was left behind means nothing. */
static int folder_lock(const char *path, int *out)
{
	char name[PATH_MAX];
	int rc = store_path(name, path, LOCK_NAME);
	if (rc)
		return rc;
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(fd);
		return rc;
	}
	*out = fd;
	return 0;
}

/* One more than the largest number of a worker's file. */
static unsigned workers_find(const char *path)
{
	DIR *d = opendir(path);
	unsigned found = 0;
	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct slice name = slice_str(e->d_name);
		uint64_t n;
		if (name.len <= 11 || memcmp(name.p, "worker-", 7) != 0 ||
		    memcmp(name.p + name.len - 4, ".mdb", 4) != 0)
			continue;
		if (slice_u64(slice_make(name.p + 7, name.len - 11), STORE_WORKERS_MAX - 1, &n) &&
		    n + 1 > found)
			found = (unsigned)n + 1;
	}
	closedir(d);
	return found;
}

static void env_close(struct store_env *e)
{
	for (unsigned i = 0; i < STORE_FILES_MAX; i++)
		store_file_close(&e->file[i]);
}

/* Registrations come first: their writers do not wait for the disk, and a loss of power may cost them, whereas what
 * only an operator can give again (the users, the secret) is in a file of its own, synced by each commit. */
static int shared_open(struct store *s)
{
	struct store_env *e = &s->shared;
	e->files = 2;
	e->txn.env = e;
	int rc =
		store_file_open(&e->file[1], s->path, MAIN_NAME, s->map_size, STORE_DURABLE, 1u << STORE_USERS);
	return rc ? rc
		  : store_file_open(&e->file[0], s->path, SHARED_NAME, s->map_size, STORE_FAST,
				    1u << STORE_LOCATION | 1u << STORE_FLOWS);
}

struct store_env *store_shared(struct store *s)
{
	return &s->shared;
}

unsigned store_workers(const struct store *s)
{
	return s->found;
}

int store_worker(struct store *s, unsigned index, struct store_env **out, char *err, size_t errlen)
{
	char name[32];
	if (index >= STORE_WORKERS_MAX) {
		snprintf(err, errlen, "store %s: there is no worker %u", s->path, index);
		return -EINVAL;
	}
	if (s->worker[index]) {
		*out = s->worker[index];
		return 0;
	}
	struct store_env *e = calloc(1, sizeof(*e));
	if (!e)
		return fail(-ENOMEM, s->path, err, errlen);
	e->files = 1;
	e->txn.env = e;
	snprintf(name, sizeof(name), "worker-%u.mdb", index);
	int rc = store_file_open(&e->file[0], s->path, name, s->map_size, STORE_FAST,
				 1u << STORE_CALLS | 1u << STORE_DIALOGS);
	if (rc) {
		free(e);
		return fail(rc, s->path, err, errlen);
	}
	*out = s->worker[index] = e;
	return 0;
}

int store_env_sync(struct store_env *e)
{
	int rc = 0;
	for (unsigned i = 0; i < e->files; i++) {
		struct store_file *f = &e->file[i];
		if (!atomic_exchange(&f->dirty, false))
			continue;
		int bad = store_errno(mdb_env_sync(f->env, 1));
		if (!bad)
			continue;
		atomic_store(&f->dirty, true);
		rc = bad;
	}
	return rc;
}

void store_env_size(const struct store_env *e, uint64_t *used, uint64_t *max)
{
	MDB_envinfo info;
	mdb_env_info(e->file[0].env, &info);
	*used = (info.me_last_pgno + 1) * e->file[0].psize;
	*max = e->file[0].map;
}

uint64_t store_count(struct store_env *e, enum store_table table)
{
	unsigned i;
	MDB_txn *txn;
	MDB_stat st;
	struct store_file *f = store_env_file(e, table, &i);
	if (!f || mdb_txn_begin(f->env, NULL, MDB_RDONLY, &txn))
		return 0;
	uint64_t n = mdb_stat(txn, f->dbi[table], &st) ? 0 : st.ms_entries;
	mdb_txn_abort(txn);
	return n;
}

int store_open(const char *path, uint64_t map_size, struct store **out, char *err, size_t errlen)
{
	int rc = folder_make(path);
	if (rc)
		return fail(rc, path, err, errlen);
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return fail(-ENOMEM, path, err, errlen);
	s->lock_fd = -1;
	s->map_size = map_size;
	s->path = strdup(path);
	rc = s->path ? folder_lock(path, &s->lock_fd) : -ENOMEM;
	if (rc == -EBUSY) {
		snprintf(err, errlen, "store %s is in use by another process", path);
		goto out;
	}
	if (!rc)
		rc = shared_open(s);
	if (rc) {
		fail(rc, path, err, errlen);
		goto out;
	}
	s->found = workers_find(path);
	*out = s;
	return 0;
out:
	store_close(s);
	return rc;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	env_close(&s->shared);
	for (unsigned i = 0; i < STORE_WORKERS_MAX; i++)
		if (s->worker[i]) {
			env_close(s->worker[i]);
			free(s->worker[i]);
		}
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s);
}
