/* LMDB environments and versioned records. Knows keys and bytes only. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/slice.h"

struct store;

/* Main thread. Opens (and makes, with its parent folders) the store in folder `path`. A store that cannot be read is
 * moved aside with the time in its name, with a log line, and an empty one is made. 0, or -errno with one line in `err`
 * (not writable, locked by another process). */
int store_open(const char *path, uint64_t map_size, struct store **out, char *err, size_t errlen);
void store_close(struct store *s);

#define STORE_SECRET_LEN 32
/* Main thread. The secret that keys every HMAC: made at the first start, kept since. 0 or -errno. */
int store_secret(struct store *s, unsigned char out[static STORE_SECRET_LEN]);

/* Main thread. A small value by name ("meta" database). get: 0, -ENOENT, -EBADMSG (damaged), -errno; put commits. */
int store_meta_get(struct store *s, const char *name, void *out, size_t cap, size_t *len);
int store_meta_put(struct store *s, const char *name, const void *p, size_t len);

#endif
