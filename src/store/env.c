#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_p.h"

#define FILE_NAME "main.mdb"
#define LOCK_NAME "lock"
#define MAP_MIN   (1u << 20) /* bytes */
#define DBS_MAX   8
#define ASIDE_MAX 100 /* stores moved aside within one second */

int store_errno(int rc)
{
	switch (rc) {
	case 0: return 0;
	case MDB_NOTFOUND: return -ENOENT;
	case MDB_MAP_FULL: return -ENOSPC;
	case MDB_READERS_FULL: return -EBUSY;
	case MDB_BAD_VALSIZE: return -EINVAL;
	case MDB_PAGE_NOTFOUND:
	case MDB_CORRUPTED:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	case MDB_INVALID: return -EBADMSG;
	default: return rc > 0 ? -rc : -EIO;
	}
}

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

static int path_join(char out[static PATH_MAX], const char *path, const char *name)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", path, name);
	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* The kernel drops the lock with the process, so a lock file that was left behind means nothing. */
static int folder_lock(const char *path, int *out)
{
	char name[PATH_MAX];
	int rc = path_join(name, path, LOCK_NAME);
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

static int file_check(const char *file, const char **why)
{
	struct stat st;
	if (lstat(file, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode)) {
		*why = "it is not a file";
		return -EBADMSG;
	}
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = store_check(fd, why);
	close(fd);
	return rc;
}

static int move_aside(const char *file, const char *why)
{
	char to[PATH_MAX], stamp[32];
	struct tm tm;
	time_t now = time(NULL);
	struct stat st;
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	int n = snprintf(to, sizeof(to), "%s.damaged-%s", file, stamp);
	for (int i = 2; n > 0 && n < PATH_MAX && lstat(to, &st) == 0 && i < ASIDE_MAX; i++)
		n = snprintf(to, sizeof(to), "%s.damaged-%s-%d", file, stamp, i);
	if (n < 0 || n >= PATH_MAX)
		return -ENAMETOOLONG;
	if (rename(file, to) < 0)
		return -errno;
	log_warning("store", "store %s cannot be read (%s): moved to %s, starting with an empty one", file, why,
		    to);
	return 0;
}

static int env_open(struct store *s, const char *file, uint64_t map_size)
{
	char lock[PATH_MAX];
	MDB_txn *txn = NULL;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t map = map_size < MAP_MIN ? MAP_MIN : map_size;
	map = map / page * page;
	/* LMDB's own lock file serves one process, and we are it: what a crash left in it goes. */
	if (snprintf(lock, sizeof(lock), "%s-lock", file) < PATH_MAX)
		unlink(lock);
	int rc = mdb_env_create(&s->env);
	if (rc) {
		s->env = NULL;
		return store_errno(rc);
	}
	rc = mdb_env_set_mapsize(s->env, map);
	if (!rc)
		rc = mdb_env_set_maxdbs(s->env, DBS_MAX);
	if (!rc)
		rc = mdb_env_open(s->env, file, MDB_NOSUBDIR, 0600);
	if (!rc)
		rc = mdb_txn_begin(s->env, NULL, 0, &txn);
	if (!rc)
		rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
	if (!rc) {
		rc = mdb_txn_commit(txn);
		txn = NULL;
	}
	if (txn)
		mdb_txn_abort(txn);
	int bad = rc ? store_errno(rc) : meta_verify(s);
	if (bad < 0) {
		mdb_env_close(s->env);
		s->env = NULL;
		return bad;
	}
	if (bad > 0)
		log_warning("store", "store %s: %d damaged records are left out", file, bad);
	return 0;
}

static int file_open(struct store *s, uint64_t map_size)
{
	char file[PATH_MAX];
	const char *why = "";
	int rc = path_join(file, s->path, FILE_NAME);
	if (rc)
		return rc;
	rc = file_check(file, &why);
	if (rc == 0) {
		rc = env_open(s, file, map_size);
		why = "LMDB finds it damaged";
	}
	if (rc != -EBADMSG)
		return rc;
	rc = move_aside(file, why);
	return rc ? rc : env_open(s, file, map_size);
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
	s->path = strdup(path);
	rc = s->path ? folder_lock(path, &s->lock_fd) : -ENOMEM;
	if (rc == -EBUSY) {
		snprintf(err, errlen, "store %s is in use by another process", path);
		goto out;
	}
	if (!rc)
		rc = file_open(s, map_size);
	if (rc) {
		fail(rc, path, err, errlen);
		goto out;
	}
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
	if (s->env)
		mdb_env_close(s->env);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s);
}
