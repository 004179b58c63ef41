/* Digest authentication (RFC 3261 22, RFC 7616, RFC 8760): challenges with SHA-256 first and MD5, nonces that are
 * signed and expire instead of being kept, and the users' hashes in the store. */
#ifndef REGISTRAR_DIGEST_H
#define REGISTRAR_DIGEST_H

#include "base/addr.h"
#include "base/buf.h"
#include "config/config.h"
#include "sip/message.h"
#include "store/db.h"

#define DIGEST_NONCE_LIFE 300000 /* ms */

/* What all workers share: which nonce-counts were used, and who failed lately; both bounded. Made by main; every
 * function that takes it may be called by any thread. */
struct digest;

/* 0, -ENOMEM, -EIO */
int digest_create(const unsigned char secret[static STORE_SECRET_LEN], struct digest **out);
void digest_destroy(struct digest *d);

enum digest_result {
	DIGEST_OK,
	DIGEST_NONE, /* no credentials for the realm: challenge */
	DIGEST_STALE, /* the nonce has expired or is not ours, or its count was used: challenge with stale=true */
	DIGEST_WRONG,     /* no such user, or the wrong response: challenge again, after the delay */
	DIGEST_MALFORMED, /* 400 */
	DIGEST_ERROR,     /* the users cannot be read: 500 */
};

/* The user that a request shows itself as. */
struct digest_user {
	struct slice name; /* in the message, quotes and escapes undone in `text` where needed */
	char text[256];
	/* ms that the answer to DIGEST_WRONG is to be held back; grows with the failures of this user at the address
	 * that the nonce was given to. Also set with another result while earlier failures are being paid for:
	 * DIGEST_WRONG is given without a look at the response then */
	uint32_t delay;
};

/* Whose passwords are asked for, and how. */
struct digest_realm {
	struct slice name;
	enum config_algorithm algorithm; /* others are neither offered nor taken */
	bool proxy;                      /* by the Proxy- headers */
};

/* Worker. Looks at Authorization (or Proxy-Authorization) for `realm`. A nonce's count is used up by DIGEST_OK. `now`:
 * ms of the wall clock. qop auth and auth-int; a request without qop (RFC 2069) is refused as malformed. */
enum digest_result digest_check(struct digest *d, struct store_reader *users, const struct sip_msg *m,
				const struct digest_realm *realm, uint64_t now, struct digest_user *out);

/* Any thread. The challenge's header lines for who has asked from `source`, each ended by CRLF: SHA-256, then MD5, as
 * the realm has it. */
void digest_challenge(struct digest *d, const struct addr *source, const struct digest_realm *realm, bool stale,
		      uint64_t now, struct buf *out);

/* --- users: "name@realm" --- */

/* By transaction. Keeps the hashes of name:realm:password for both algorithms, never the password. 0, -EINVAL (names,
 * too long), -ENOSPC. */
int users_put(struct store_txn *t, struct slice name, struct slice realm, struct slice password);
int users_del(struct store_txn *t, struct slice name, struct slice realm); /* 0, -ENOENT */
/* By reader. True if the user exists. 0: *exists is set; -errno. */
int users_exist(struct store_reader *r, struct slice name, struct slice realm, bool *exists);
/* By reader. Calls fn for each in order; returns how many or -errno. */
long users_each(struct store_reader *r, void (*fn)(void *ctx, struct slice name, struct slice realm),
		void *ctx);

#endif
