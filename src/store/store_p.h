/* What the files of this folder share. */
#ifndef STORE_STORE_P_H
#define STORE_STORE_P_H

#include <limits.h>
#include <lmdb.h>
#include <stdatomic.h>

#include "store/db.h"
#include "store/store.h"

#define STORE_NAME_MAX    STORE_KEY_MAX /* bytes */
#define STORE_META_MAX    65536         /* bytes; the largest value of the meta database */
#define STORE_WORKERS_MAX 1024          /* files of workers that are looked for and made */
#define STORE_READERS_MAX 1024 /* of an environment at once: each worker, the resolver, control, and room */

/* ThreadSanitizer does not know how LMDB hands pages from the writer to readers (its table of readers, in a library
 * that is not instrumented), and takes what is written through the map for a race. */
#if defined(__SANITIZE_THREAD__)
#define STORE_WRITEMAP false
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STORE_WRITEMAP false
#endif
#endif
#ifndef STORE_WRITEMAP
#define STORE_WRITEMAP true
#endif

/* A file that LMDB maps. */
struct store_file {
	MDB_env *env;              /* NULL: not open */
	MDB_dbi dbi[STORE_TABLES]; /* const; where `tables` has the bit */
	MDB_dbi meta;              /* const; of main.mdb */
	unsigned tables;           /* const; bit per enum store_table */
	uint64_t map;              /* const; bytes */
	uint64_t psize;            /* const; bytes of a page */
	bool writemap;     /* const; written through the map, so `reserved` bounds what may be touched */
	bool synced;       /* const; each commit waits for the disk */
	uint64_t reserved; /* writer; bytes from the front for which the disk has room set aside */
	uint64_t refused;  /* writer; ms: when the disk last had none */
	atomic_bool dirty; /* atomic; commits that store_env_sync has not made durable */
};

#define STORE_FILES_MAX 2 /* of an environment */

/* The writer: whoever holds LMDB's write lock of the first file. */
struct store_txn {
	struct store_env *env;         /* const */
	MDB_txn *txn[STORE_FILES_MAX]; /* writer; [0] from the beginning, the second when it is needed */
	uint64_t pages; /* writer; that the first file can have at the most when this is committed */
	int failed;     /* writer; the error that spoiled it, or 0 */
	uint64_t start; /* writer; pages that it has at the beginning */
	uint64_t put;   /* writer; pages that were put */
	uint64_t free;  /* writer; pages that are free within the file; UINT64_MAX: not asked yet */
};

struct store_env {
	struct store_file file[STORE_FILES_MAX];
	unsigned files;       /* const */
	struct store_txn txn; /* writer */
};

struct store {
	char *path;
	int lock_fd; /* flock held while open */
	uint64_t map_size;
	struct store_env shared;
	struct store_env *worker[STORE_WORKERS_MAX];
	unsigned found; /* workers' files that were there at the start */
};

/* An LMDB or errno code as a negative errno; -EBADMSG for whatever says that the file is damaged. */
int store_errno(int rc);

/* --- file.c --- */
int store_path(char out[static PATH_MAX], const char *folder, const char *name); /* 0 or -ENAMETOOLONG */

enum store_mode {
	STORE_DURABLE, /* a commit survives a loss of power, and waits for the disk */
	/* A commit survives the end of the process; store_env_sync does the rest. Written through the map where the
	 * file system allows that safely. */
	STORE_FAST,
};
/* Main. Opens (and makes) the file `name` of the folder with its tables (bits), a damaged one being moved aside. The
 * file is `f` until store_file_close. 0 or -errno. */
int store_file_open(struct store_file *f, const char *folder, const char *name, uint64_t map_size,
		    enum store_mode mode, unsigned tables);
void store_file_close(struct store_file *f);
/* Writer. Room on the disk for `pages` pages of the file, so that writing through the map cannot fault; and, if the
 * disk has it, for `ahead` more. 0 or -ENOSPC. */
int store_file_reserve(struct store_file *f, uint64_t pages, uint64_t ahead);

/* Whether the disk has no room left. */
bool store_file_full(const struct store_file *f);

static inline struct store_file *store_env_file(struct store_env *e, enum store_table table, unsigned *index)
{
	for (unsigned i = 0; i < e->files; i++)
		if (e->file[i].tables & 1u << table) {
			*index = i;
			return &e->file[i];
		}
	return NULL;
}

/* --- txn.c, reader.c: what a cursor needs of them --- */
struct store_spot { /* where LMDB has a table */
	struct store_file *file;
	MDB_txn *txn;
	MDB_dbi dbi;
};
int store_txn_table(struct store_txn *t, enum store_table table, struct store_spot *out);
/* Before a record of `bytes` is put, or (0) deleted: what LMDB may then touch through the map has room on the disk. 0
 * or -errno. */
int store_txn_room(struct store_txn *t, const struct store_spot *at, size_t bytes);
int store_txn_spoil(struct store_txn *t, int rc); /* it cannot be committed any more; returns rc */
int store_reader_table(struct store_reader *r, enum store_table table, struct store_spot *out);

/* Reads the file `fd` page by page and follows everything reachable from its newest commit. 0 (an empty file too) with
 * the bytes that LMDB has given out in *used; -EBADMSG with a static text in *why when LMDB could not safely map it;
 * -errno when it cannot be read. */
int store_check(int fd, uint64_t *used, const char **why);

/* The envelope of a value: version, checksum over key and bytes, bytes. */
#define RECORD_HEAD    9 /* bytes */
#define RECORD_VERSION 1
/* RECORD_HEAD + len */
void record_seal(unsigned char *out, const void *key, size_t klen, const void *p, size_t len);
/* 0 with the bytes inside (pointing into `rec`), or -EBADMSG: damaged, or of an unknown version. */
int record_open(const void *key, size_t klen, const void *rec, size_t reclen, struct slice *out);
/* The same, and a damaged one is counted and logged. */
int record_take(const MDB_val *key, const MDB_val *rec, struct slice *out);
/* LMDB's put of a sealed record. */
int record_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const void *p, size_t len);

static inline bool record_key(struct slice key, MDB_val *out)
{
	*out = (MDB_val){key.len, (void *)(uintptr_t)key.p};
	return key.len > 0 && key.len <= STORE_KEY_MAX;
}

/* Looks at every record of the meta database. Returns how many are damaged, or -errno. */
int meta_verify(struct store_file *f);

#endif
