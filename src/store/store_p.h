/* What the files of this folder share. */
#ifndef STORE_STORE_P_H
#define STORE_STORE_P_H

#include <lmdb.h>

#include "store/store.h"

#define STORE_NAME_MAX 511   /* bytes; LMDB's longest key */
#define STORE_META_MAX 65536 /* bytes; the largest value of the meta database */

struct store {
	char *path;
	int lock_fd; /* flock held while open */
	MDB_env *env;
	MDB_dbi meta;
};

/* An LMDB or errno code as a negative errno; -EBADMSG for whatever says that the file is damaged. */
int store_errno(int rc);

/* Reads the file `fd` page by page and follows everything reachable from its newest commit. 0 (an empty file too);
 * -EBADMSG with a static text in *why when LMDB could not safely map it; -errno when it cannot be read. */
int store_check(int fd, const char **why);

/* The envelope of a value: version, checksum over key and bytes, bytes. */
#define RECORD_HEAD    9 /* bytes */
#define RECORD_VERSION 1
void record_seal(unsigned char *out, const void *key, size_t klen, const void *p,
		 size_t len); /* RECORD_HEAD + len */
/* 0 with the bytes inside (pointing into `rec`), or -EBADMSG: damaged, or of an unknown version. */
int record_open(const void *key, size_t klen, const void *rec, size_t reclen, struct slice *out);

/* Looks at every record of the meta database. Returns how many are damaged, or -errno. */
int meta_verify(struct store *s);

#endif
