/* Challenges and their answers. A nonce is its time, a random part, its origin (whom we gave it to), and a MAC over
 * these and the realm: it proves that we gave it, when and to whom, without our having kept it. A failure is the
 * origin's: a datagram's source is soon forged, and what strangers fail at in a telephone's name must not shut it out.
 * What is kept is which counts of a nonce have been used (replay.c) and who failed (failures.c), both in tables of
 * fixed size. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "digest_p.h"
#include "sip/uri.h"
#include "users_p.h"

#define NONCE_TIME   6 /* bytes: ms of the wall clock */
#define NONCE_RANDOM 6
#define NONCE_ORIGIN 6
#define NONCE_HEAD   (NONCE_TIME + NONCE_RANDOM + NONCE_ORIGIN)
#define NONCE_MAC    12
#define NONCE_RAW    (NONCE_HEAD + NONCE_MAC)
#define NONCE_LEN    (2 * NONCE_RAW) /* characters */
#define MAC_LEN      32
#define RUN          16 /* bytes */

int digest_create(const unsigned char secret[static STORE_SECRET_LEN], struct digest **out)
{
	/* What counts were used before a restart is not known: nonces from before it are nobody's. The clock could not
	 * tell which these are: it may be set back. */
	unsigned char text[5 + RUN] = {'n', 'o', 'n', 'c', 'e'};
	struct digest *d = calloc(1, sizeof(*d));
	int rc = -ENOMEM;

	if (!d)
		return rc;
	rc = replay_init(&d->replay);
	if (!rc)
		rc = failures_init(&d->failures);
	if (!rc &&
	    (gnutls_rnd(GNUTLS_RND_NONCE, text + 5, RUN) < 0 ||
	     gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, STORE_SECRET_LEN, text, sizeof(text), d->key) < 0))
		rc = -EIO;
	if (rc) {
		digest_destroy(d);
		return rc;
	}
	*out = d;
	return 0;
}

void digest_destroy(struct digest *d)
{
	if (!d)
		return;
	replay_deinit(&d->replay);
	failures_deinit(&d->failures);
	gnutls_memset(d->key, 0, sizeof(d->key));
	free(d);
}

/* --- nonces --- */

static int nonce_mac(const struct digest *d, const unsigned char *raw, struct slice realm,
		     unsigned char mac[static MAC_LEN])
{
	unsigned char text[NONCE_HEAD + 256];
	size_t n = NONCE_HEAD;

	if (realm.len > sizeof(text) - n)
		return -EINVAL;
	memcpy(text, raw, n);
	for (size_t i = 0; i < realm.len; i++)
		text[n++] = (unsigned char)slice_lower(realm.p[i]);
	return gnutls_hmac_fast(GNUTLS_MAC_SHA256, d->key, sizeof(d->key), text, n, mac) < 0 ? -EIO : 0;
}

/* Of an address; nobody else can tell from it which. An IPv6 host has a whole /64 to call from. */
static int origin_make(const struct digest *d, const struct addr *source,
		       unsigned char out[static NONCE_ORIGIN])
{
	unsigned char text[1 + 8] = {(unsigned char)source->family}, mac[MAC_LEN];

	memcpy(text + 1, source->ip, source->family == AF_INET6 ? 8 : 4);
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, d->key, sizeof(d->key), text, sizeof(text), mac) < 0)
		return -EIO;
	memcpy(out, mac, NONCE_ORIGIN);
	return 0;
}

static int nonce_make(const struct digest *d, const struct addr *source, struct slice realm, uint64_t now,
		      char out[static NONCE_LEN])
{
	unsigned char raw[NONCE_RAW], mac[MAC_LEN];

	for (unsigned i = 0; i < NONCE_TIME; i++)
		raw[i] = (unsigned char)(now >> (8 * (NONCE_TIME - 1 - i)));
	if (gnutls_rnd(GNUTLS_RND_NONCE, raw + NONCE_TIME, NONCE_RANDOM) < 0 ||
	    origin_make(d, source, raw + NONCE_TIME + NONCE_RANDOM) < 0 || nonce_mac(d, raw, realm, mac) < 0)
		return -EIO;
	memcpy(raw + NONCE_HEAD, mac, NONCE_MAC);
	sip_hex(raw, sizeof(raw), out);
	return 0;
}

/* True if we gave the nonce for this realm, in this run, and not too long ago. *given: when; *origin: to whom. */
static bool nonce_fresh(const struct digest *d, struct slice nonce, struct slice realm, uint64_t now,
			uint64_t *given, uint64_t *origin)
{
	unsigned char raw[NONCE_RAW], mac[MAC_LEN];
	uint64_t when = 0;

	if (!sip_unhex(nonce, raw, sizeof(raw)) || nonce_mac(d, raw, realm, mac) < 0 ||
	    gnutls_memcmp(mac, raw + NONCE_HEAD, NONCE_MAC) != 0)
		return false;
	for (unsigned i = 0; i < NONCE_TIME; i++)
		when = when << 8 | raw[i];
	*given = when;
	*origin = 0;
	memcpy(origin, raw + NONCE_TIME + NONCE_RANDOM, NONCE_ORIGIN);
	return when <= now + 1000 && now <= when + DIGEST_NONCE_LIFE;
}

static bool is_offered(const struct digest_realm *r, enum sip_auth_algorithm a)
{
	return r->algorithm == ALGORITHM_ALL || (r->algorithm == ALGORITHM_MD5) == (a == SIP_AUTH_MD5);
}

static void challenge_line(const struct digest_realm *r, bool stale, struct slice nonce,
			   enum sip_auth_algorithm a, struct buf *out)
{
	if (r->proxy)
		buf_lit(out, "Proxy-Authenticate: Digest realm=\"");
	else
		buf_lit(out, "WWW-Authenticate: Digest realm=\"");
	/* In lower case, as the users' hashes were made: the user agent puts into its hash what it reads here. */
	for (size_t i = 0; i < r->name.len; i++)
		buf_char(out, slice_lower(r->name.p[i]));
	buf_lit(out, "\", nonce=\"");
	buf_slice(out, nonce);
	buf_lit(out, "\", qop=\"auth,auth-int\", algorithm=");
	buf_slice(out, sip_auth_algorithm_name(a));
	if (stale)
		buf_lit(out, ", stale=true");
	buf_lit(out, "\r\n");
}

void digest_challenge(struct digest *d, const struct addr *source, const struct digest_realm *realm, bool stale,
		      uint64_t now, struct buf *out)
{
	char nonce[NONCE_LEN];

	if (nonce_make(d, source, realm->name, now, nonce) < 0)
		return;
	for (enum sip_auth_algorithm a = 0; a < SIP_AUTH_ALGORITHMS; a++)
		if (is_offered(realm, a))
			challenge_line(realm, stale, slice_make(nonce, sizeof(nonce)), a, out);
}

/* --- credentials --- */

/* The credentials for our realm, the first that we can compute. */
static enum digest_result find_credentials(const struct sip_msg *m, const struct digest_realm *realm,
					   struct sip_auth *out, enum sip_auth_algorithm *a)
{
	const struct sip_hdr *h =
		sip_msg_hdr(m, realm->proxy ? SIP_HDR_PROXY_AUTHORIZATION : SIP_HDR_AUTHORIZATION);

	for (; h; h = sip_hdr_next(m, h)) {
		int rc = sip_auth_parse(sip_hdr_value(m, h), out);
		if (rc == -EPROTONOSUPPORT)
			continue;
		if (rc)
			return DIGEST_MALFORMED;
		if (slice_ieq(out->realm, realm->name) && sip_auth_algorithm(out->algorithm, a) == 0 &&
		    is_offered(realm, *a))
			return DIGEST_OK;
	}
	return DIGEST_NONE;
}

static bool complete(const struct sip_auth *c)
{
	return c->username.len && c->nonce.len && c->uri.len && c->response.len && c->cnonce.len &&
	       c->nc.len == 8 &&
	       (slice_ieq(c->qop, SLICE_LIT("auth")) || slice_ieq(c->qop, SLICE_LIT("auth-int")));
}

/* 22.4: credentials are for the resource that the request is for. Some user agents leave parameters or the port out. */
static bool same_resource(const struct sip_msg *m, struct slice uri)
{
	struct slice ruri = sip_slice(m, m->ruri);
	struct sip_uri a, b;

	if (slice_eq(ruri, uri))
		return true;
	return sip_uri_parse(ruri, &a) == 0 && sip_uri_parse(uri, &b) == 0 && slice_eq(a.user, b.user) &&
	       slice_ieq(a.host, b.host) && slice_ieq(a.scheme_text, b.scheme_text);
}

static int user_name(struct slice quoted, struct digest_user *out)
{
	struct buf b;

	buf_init(&b, out->text, sizeof(out->text));
	for (size_t i = 0; i < quoted.len; i++) {
		if (quoted.p[i] == '\\' && i + 1 < quoted.len)
			i++;
		buf_char(&b, quoted.p[i]);
	}
	if (b.full || memchr(b.p, 0, b.len))
		return -EINVAL;
	out->name = buf_view(&b);
	return 0;
}

static bool parse_nc(struct slice text, uint32_t *nc)
{
	unsigned char raw[4];
	if (!sip_unhex(text, raw, sizeof(raw)))
		return false;
	*nc = (uint32_t)raw[0] << 24 | (uint32_t)raw[1] << 16 | (uint32_t)raw[2] << 8 | raw[3];
	return *nc > 0;
}

/* A user that does not exist costs the same work as one with the wrong password. */
static enum digest_result verify(struct store_reader *users, const struct sip_msg *m, const struct sip_auth *c,
				 enum sip_auth_algorithm a, struct slice realm, const struct digest_user *u)
{
	unsigned char ha1[SIP_AUTH_HASH_MAX] = {0};
	int rc = users_hash(users, u->name, realm, a, ha1);

	if (rc && rc != -ENOENT)
		return DIGEST_ERROR;
	bool right = sip_auth_verify(a, ha1, c, sip_slice(m, m->method_name), sip_slice(m, m->body));
	gnutls_memset(ha1, 0, sizeof(ha1));
	return right && rc == 0 ? DIGEST_OK : DIGEST_WRONG;
}

enum digest_result digest_check(struct digest *d, struct store_reader *users, const struct sip_msg *m,
				const struct digest_realm *realm, uint64_t now, struct digest_user *out)
{
	uint64_t given, origin;
	enum sip_auth_algorithm a;
	struct sip_auth c;
	uint32_t nc;
	enum digest_result r = find_credentials(m, realm, &c, &a);

	out->name = SLICE_NONE;
	out->delay = 0;
	if (r != DIGEST_OK)
		return r;
	if (!complete(&c) || !parse_nc(c.nc, &nc) || user_name(c.username, out) < 0 || !same_resource(m, c.uri))
		return DIGEST_MALFORMED;
	/* An old answer is no attempt at guessing: nothing is said of its password, and it is asked again, without a
	 * penalty. */
	if (!nonce_fresh(d, c.nonce, realm->name, now, &given, &origin)) {
		count(CNT_AUTH_STALE);
		return DIGEST_STALE;
	}
	out->delay = failures_due(&d->failures, origin, out->name, now);
	if (out->delay) {
		count(CNT_AUTH_DELAYED);
		return DIGEST_WRONG;
	}
	r = verify(users, m, &c, a, realm->name, out);
	if (r == DIGEST_WRONG) {
		count(CNT_AUTH_WRONG);
		out->delay = failures_note(&d->failures, origin, out->name, now);
	}
	if (r != DIGEST_OK)
		return r;
	if (!replay_use(&d->replay, c.nonce, given, nc, now)) {
		count(CNT_AUTH_STALE);
		return DIGEST_STALE;
	}
	failures_forget(&d->failures, origin, out->name, now);
	count(CNT_AUTH_OK);
	return DIGEST_OK;
}
