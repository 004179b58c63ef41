/* Digest credentials: reading them (RFC 3261 25.1, RFC 7616 3.4) and computing what they must be (RFC 7616 3.4.1). Pure
 * functions; any thread. */
#ifndef SIP_AUTH_H
#define SIP_AUTH_H

#include "base/buf.h"
#include "base/slice.h"

enum sip_auth_algorithm { SIP_AUTH_SHA256, SIP_AUTH_MD5, SIP_AUTH_ALGORITHMS };

#define SIP_AUTH_HASH_MAX 32                      /* bytes of a hash */
#define SIP_AUTH_HEX_MAX  (2 * SIP_AUTH_HASH_MAX) /* characters */

/* The parameters of a Digest header value, as written: quotes taken off, escapes left in. Empty: not there. */
struct sip_auth {
	struct slice username, realm, nonce, uri, response, algorithm, cnonce, opaque, qop, nc;
};

/* One Authorization or Proxy-Authorization value. 0; -EPROTONOSUPPORT: another scheme than Digest; -EBADMSG: broken, or
 * a parameter came twice. */
int sip_auth_parse(struct slice value, struct sip_auth *out);

/* "SHA-256" or "MD5", as algorithm has it, compared without case; no algorithm means MD5. -EPROTONOSUPPORT: another
 * one. */
int sip_auth_algorithm(struct slice name, enum sip_auth_algorithm *out);
struct slice sip_auth_algorithm_name(enum sip_auth_algorithm a);
size_t sip_auth_hash_len(enum sip_auth_algorithm a); /* bytes */

/* H(A1): of name ":" realm ":" password. `out` has room for SIP_AUTH_HASH_MAX bytes; sip_auth_hash_len of them are
 * written. 0 or -EIO. */
int sip_auth_ha1(enum sip_auth_algorithm a, struct slice name, struct slice realm, struct slice password,
		 unsigned char *out);

/* True if c->response is what a user with `ha1` gives for the method, c->uri, nonce, nc, cnonce and qop (auth or
 * auth-int, then over `body`). Takes the same time wherever they differ. */
bool sip_auth_verify(enum sip_auth_algorithm a, const unsigned char *ha1, const struct sip_auth *c,
		     struct slice method, struct slice body);

/* The hexadecimal digits of n bytes, lower case; 2 * n characters. */
void sip_hex(const unsigned char *p, size_t n, char *out);
/* Back. False: not 2 * n hexadecimal digits. */
bool sip_unhex(struct slice text, unsigned char *out, size_t n);

#endif
