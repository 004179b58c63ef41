#ifndef REGISTRAR_USERS_P_H
#define REGISTRAR_USERS_P_H

#include "registrar/digest.h"
#include "sip/auth.h"

#define USERS_HASHES (32 + 16) /* bytes: of both algorithms */

/* By reader. H(A1) of a user; `out` has room for SIP_AUTH_HASH_MAX bytes, or is NULL. 0, -ENOENT, -EBADMSG, -errno. */
int users_hash(struct store_reader *r, struct slice name, struct slice realm, enum sip_auth_algorithm a,
	       unsigned char *out);

#endif
