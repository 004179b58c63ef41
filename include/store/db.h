/* Tables of the store: transactions over LMDB environments, with keys and sealed records (version and checksum). An
 * environment is a file: one shared by all (registrations, users), and one for each worker (what a restart must know of
 * its calls), so that workers never wait for each other's commit of calls. */
#ifndef STORE_DB_H
#define STORE_DB_H

#include "base/clock.h"
#include "store/store.h"

/* Tables. A key is at most STORE_KEY_MAX bytes. */
#define STORE_KEY_MAX 511

enum store_table {
	/* of the shared environment */
	STORE_LOCATION, /* registrar: bindings */
	STORE_FLOWS,    /* registrar: connection → addresses of record */
	STORE_USERS,    /* registrar: users */
	/* of a worker's */
	STORE_CALLS,   /* proxy: response contexts with their transactions */
	STORE_DIALOGS, /* proxy: confirmed calls */
	STORE_TABLES
};

struct store_env;

/* Main, before any thread uses it. The shared environment; lives as long as the store. */
struct store_env *store_shared(struct store *s);
/* Main. The environment of worker `index`, made if it is not there. One that cannot be read is moved aside like the
 * store. 0 or -errno with a line in err. Lives as long as the store. */
int store_worker(struct store *s, unsigned index, struct store_env **out, char *err, size_t errlen);
/* Main. How many workers' environments are there from earlier runs (numbers 0 to n-1). */
unsigned store_workers(const struct store *s);

/* Any thread: makes durable against loss of power what has been committed (a commit itself survives a crash of the
 * process, not one of the machine). Waits for the disk: for a thread that may. 0 or -errno. */
int store_env_sync(struct store_env *e);
/* Any thread: bytes that the file uses, and may use. */
void store_env_size(const struct store_env *e, uint64_t *used, uint64_t *max);

/* --- a write transaction: one at a time in an environment; the thread that began it ends it --- */
struct store_txn;
/* waits for another writer of the same environment; 0 or -errno */
int store_begin(struct store_env *e, struct store_txn **out);
int store_commit(struct store_txn *t); /* 0, -ENOSPC (map_size or disk), -EIO …: then nothing of it is there */
void store_abort(struct store_txn *t); /* NULL does nothing */

/* Records are copied in; what get gives is valid until the next put or del of the transaction. 0, -ENOENT, -EBADMSG
 * (damaged, or of an unknown version), -ENOSPC, -EINVAL (key too long). */
int store_put(struct store_txn *t, enum store_table table, struct slice key, struct slice value);
int store_del(struct store_txn *t, enum store_table table, struct slice key);
int store_get(struct store_txn *t, enum store_table table, struct slice key, struct slice *value);

/* --- a reader: what it reads is as of its begin, without a lock and without a copy. One thread at a time, not always the same --- */
struct store_reader;
int store_reader_create(struct store_env *e, struct store_reader **out); /* 0, -ENOMEM, -EBUSY (too many) */
void store_reader_destroy(struct store_reader *r);                       /* NULL does nothing */
int store_read_begin(struct store_reader *r); /* does nothing if it has begun; cheap */
void store_read_end(struct store_reader *r);  /* soon: an open reader keeps old pages from being used again */
/* What it gives is valid until store_read_end. As store_get. */
int store_read(struct store_reader *r, enum store_table table, struct slice key, struct slice *value);

/* --- walking, by reader or by transaction --- */
struct store_cursor;
int store_walk_reader(struct store_reader *r, enum store_table table, struct store_cursor **out);
int store_walk_txn(struct store_txn *t, enum store_table table, struct store_cursor **out);
/* The first record whose key is `from` or greater, then the next one each. 0; -ENOENT: none left. A record that is
 * damaged gives -EBADMSG with its key, and the walk goes on. */
int store_seek(struct store_cursor *c, struct slice from, struct slice *key, struct slice *value);
int store_next(struct store_cursor *c, struct slice *key, struct slice *value);
int store_walk_del(struct store_cursor *c);  /* by transaction: deletes the record that the cursor is at */
void store_walk_end(struct store_cursor *c); /* before the reader or transaction ends */

/* Any thread: number of records. */
uint64_t store_count(struct store_env *e, enum store_table table);

#endif
