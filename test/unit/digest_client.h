/* The client's side of digest authentication (RFC 7616 3.4), computed without the code under test. */
#ifndef TEST_DIGEST_CLIENT_H
#define TEST_DIGEST_CLIENT_H

#include <gnutls/crypto.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct digest_client {
	const char *user, *realm, *password, *method, *uri, *nonce;
	const char *cnonce; /* "0a4f113b" */
	const char *qop;    /* "auth" */
	const char *body;   /* with auth-int; none */
	unsigned nc;        /* 1 */
	bool sha256;
};

static inline void digest_hash(bool sha256, const char *text, char out[static 65])
{
	unsigned char raw[32];
	size_t n = sha256 ? 32 : 16;
	gnutls_hash_fast(sha256 ? GNUTLS_DIG_SHA256 : GNUTLS_DIG_MD5, text, strlen(text), raw);
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

/* The value of an Authorization header. */
static inline void digest_answer(const struct digest_client *c, char out[static 1024])
{
	const char *cnonce = c->cnonce ? c->cnonce : "0a4f113b", *qop = c->qop ? c->qop : "auth";
	char text[2048], ha1[65], ha2[65], body[65], response[65];
	unsigned nc = c->nc ? c->nc : 1;

	snprintf(text, sizeof(text), "%s:%s:%s", c->user, c->realm, c->password);
	digest_hash(c->sha256, text, ha1);
	digest_hash(c->sha256, c->body ? c->body : "", body);
	if (strcmp(qop, "auth-int") == 0)
		snprintf(text, sizeof(text), "%s:%s:%s", c->method, c->uri, body);
	else
		snprintf(text, sizeof(text), "%s:%s", c->method, c->uri);
	digest_hash(c->sha256, text, ha2);
	snprintf(text, sizeof(text), "%s:%s:%08x:%s:%s:%s", ha1, c->nonce, nc, cnonce, qop, ha2);
	digest_hash(c->sha256, text, response);
	snprintf(out, 1024,
		 "Digest username=\"%s\", realm=\"%s\", nonce=\"%s\", uri=\"%s\", response=\"%s\", "
		 "algorithm=%s, "
		 "cnonce=\"%s\", qop=%s, nc=%08x",
		 c->user, c->realm, c->nonce, c->uri, response, c->sha256 ? "SHA-256" : "MD5", cnonce, qop, nc);
}

#endif
