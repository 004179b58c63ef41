#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/counters.h"
#include "base/log.h"
#include "store/store_p.h"

#define MAP_MIN       (1u << 20) /* bytes */
#define DBS_MAX       8
#define ASIDE_MAX     100         /* files moved aside within one second */
#define STEP          (8u << 20)  /* bytes: room is asked for in such pieces */
#define LOCK_BYTES    (128 << 10) /* bytes: more than LMDB's lock file has with our number of readers */
#define FULL_BLOCKS   64          /* of a disk that counts as full when a write was cut short */
#define RETRY_MS      1000        /* ms between questions to a disk that is full */
#define XFS_MAGIC     0x58465342
#define TABLE_NAME(T) [STORE_##T]

static const char *const table_name[STORE_TABLES] = {
	TABLE_NAME(LOCATION) = "location", TABLE_NAME(FLOWS) = "flows",     TABLE_NAME(USERS) = "users",
	TABLE_NAME(CALLS) = "calls",       TABLE_NAME(DIALOGS) = "dialogs",
};

int store_errno(int rc)
{
	switch (rc) {
	case 0: return 0;
	case MDB_NOTFOUND: return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL: return -ENOSPC;
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

int store_path(char out[static PATH_MAX], const char *folder, const char *name)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int file_check(const char *path, uint64_t *used, const char **why)
{
	struct stat st;
	*used = 0;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode)) {
		*why = "it is not a file";
		return -EBADMSG;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = store_check(fd, used, why);
	close(fd);
	return rc;
}

static int move_aside(const char *path, const char *why)
{
	char to[PATH_MAX], stamp[32];
	struct tm tm;
	time_t now = time(NULL);
	struct stat st;
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	int n = snprintf(to, sizeof(to), "%s.damaged-%s", path, stamp);
	for (int i = 2; n > 0 && n < PATH_MAX && lstat(to, &st) == 0 && i < ASIDE_MAX; i++)
		n = snprintf(to, sizeof(to), "%s.damaged-%s-%d", path, stamp, i);
	if (n < 0 || n >= PATH_MAX)
		return -ENAMETOOLONG;
	if (rename(path, to) < 0)
		return -errno;
	count(CNT_STORE_MOVED);
	log_error("store", "store %s cannot be read (%s): moved to %s, starting with an empty one", path, why,
		  to);
	return 0;
}

/* --- room on the disk --- */

/* Whether room that fallocate has set aside stays ours: a file system that copies a block to write it may have none
 * left for the copy, and the write through the map would then end the process. */
static bool room_is_kept(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_MAGIC:
	case TMPFS_MAGIC: return true;
	default: return false;
	}
}

static uint64_t step_up(const struct store_file *f, uint64_t bytes)
{
	bytes = (bytes / STEP + 1) * STEP;
	return bytes < f->map ? bytes : f->map;
}

/* Before LMDB maps the file: 0 when it can be written through the map. */
static int reserve_first(struct store_file *f, const char *path, uint64_t used)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* A map that has become too small for the file is as large as the file. */
	if (used > f->map)
		f->map = used;
	uint64_t want = step_up(f, used + STEP);
	struct stat st;
	int rc = room_is_kept(fd) && fstat(fd, &st) == 0 ? 0 : -EOPNOTSUPP;
	if (!rc && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)want) < 0) {
		/* Full: then with what an earlier run has set aside, if it goes beyond what is used. */
		want = (uint64_t)st.st_blocks * 512 / STEP * STEP;
		want = want < f->map ? want : f->map;
		if (want <= used || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)want) < 0)
			rc = -ENOSPC;
	}
	close(fd);
	if (rc == 0)
		f->reserved = want;
	return rc;
}

static int file_fd(const struct store_file *f)
{
	mdb_filehandle_t fd = -1;
	mdb_env_get_fd(f->env, &fd);
	return fd;
}

bool store_file_full(const struct store_file *f)
{
	struct statvfs fs;
	return fstatvfs(file_fd(f), &fs) == 0 && fs.f_bavail < FULL_BLOCKS;
}

static int room_set_aside(const struct store_file *f, uint64_t from, uint64_t to)
{
	return fallocate(file_fd(f), FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) < 0 ? errno : 0;
}

int store_file_reserve(struct store_file *f, uint64_t pages, uint64_t ahead)
{
	uint64_t need = pages < f->map / f->psize ? pages * f->psize : f->map;
	uint64_t want = step_up(f, need + ahead * f->psize);
	if (want <= f->reserved)
		return 0;
	uint64_t now = clock_mono_ms();
	if (f->refused && now - f->refused < RETRY_MS)
		return need <= f->reserved ? 0 : -ENOSPC;
	if (room_set_aside(f, f->reserved, want) == 0) {
		f->reserved = want;
		f->refused = 0;
		return 0;
	}
	f->refused = now;
	return need <= f->reserved ? 0 : -ENOSPC;
}

/* --- opening --- */

static int tables_open(struct store_file *f)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(f->env, NULL, 0, &txn);
	if (rc)
		return rc;
	for (unsigned t = 0; t < STORE_TABLES && !rc; t++)
		if (f->tables & 1u << t)
			rc = mdb_dbi_open(txn, table_name[t], MDB_CREATE, &f->dbi[t]);
	if (!rc && f->synced)
		rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &f->meta);
	if (!rc)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

/* LMDB's own lock file serves one process, and we are it: LMDB begins it anew when nobody else has it open. It is
 * mapped and written too, so it needs its room on the disk before; one that is there has it, and is kept for a start on
 * a full disk. */
static int lock_file(const char *path)
{
	char lock[PATH_MAX];
	struct stat st;
	int n = snprintf(lock, sizeof(lock), "%s-lock", path);
	if (n < 0 || n >= PATH_MAX)
		return -ENAMETOOLONG;
	if (lstat(lock, &st) == 0 && (!S_ISREG(st.st_mode) || st.st_size > LOCK_BYTES))
		unlink(lock);
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOCK_BYTES) < 0 && errno == ENOSPC ? -ENOSPC : 0;
	close(fd);
	return rc;
}

static int env_open(struct store_file *f, const char *path)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD;
	MDB_envinfo info;
	MDB_stat st;
	if (!f->synced)
		flags |= MDB_NOSYNC | MDB_NOMETASYNC;
	if (f->writemap)
		flags |= MDB_WRITEMAP;
	int rc = lock_file(path);
	if (rc)
		return rc;
	rc = mdb_env_create(&f->env);
	if (rc) {
		f->env = NULL;
		return store_errno(rc);
	}
	rc = mdb_env_set_mapsize(f->env, f->map);
	if (!rc)
		rc = mdb_env_set_maxdbs(f->env, DBS_MAX);
	if (!rc)
		rc = mdb_env_set_maxreaders(f->env, STORE_READERS_MAX);
	if (!rc)
		rc = mdb_env_open(f->env, path, flags, 0600);
	/* The room is asked for again, now that LMDB has made the file as long as the map: still before anything goes
	 * through the map. */
	if (!rc && f->writemap)
		rc = room_set_aside(f, 0, f->reserved);
	if (!rc)
		rc = tables_open(f);
	int bad = rc ? store_errno(rc) : f->synced ? meta_verify(f) : 0;
	if (bad < 0) {
		mdb_env_close(f->env);
		f->env = NULL;
		return bad;
	}
	if (f->synced && !room_is_kept(file_fd(f)))
		log_warning("store",
			    "store %s is on a file system that may need room to change a block: a full disk "
			    "could end the process",
			    path);
	if (bad > 0)
		log_warning("store", "store %s: %d damaged records are left out", path, bad);
	mdb_env_info(f->env, &info);
	mdb_env_stat(f->env, &st);
	f->map = info.me_mapsize;
	f->psize = st.ms_psize;
	return 0;
}

int store_file_open(struct store_file *f, const char *folder, const char *name, uint64_t map_size,
		    enum store_mode mode, unsigned tables)
{
	char path[PATH_MAX];
	const char *why = "";
	uint64_t used = 0, page = (uint64_t)sysconf(_SC_PAGESIZE);
	int rc = store_path(path, folder, name);
	if (rc)
		return rc;
	*f = (struct store_file){.tables = tables, .synced = mode == STORE_DURABLE};
	f->map = (map_size < MAP_MIN ? MAP_MIN : map_size) / page * page;
	rc = file_check(path, &used, &why);
	for (int tries = 0;; tries++) {
		if (rc == 0) {
			f->writemap = STORE_WRITEMAP && mode == STORE_FAST && reserve_first(f, path, used) == 0;
			rc = env_open(f, path);
			if (rc == -ENOSPC && f->writemap) {
				f->writemap = false;
				rc = env_open(f, path);
			}
			why = "LMDB finds it damaged";
		}
		if (rc != -EBADMSG || tries)
			return rc;
		rc = move_aside(path, why);
		used = 0;
		if (rc)
			return rc;
	}
}

void store_file_close(struct store_file *f)
{
	if (f->env)
		mdb_env_close(f->env);
	f->env = NULL;
}
