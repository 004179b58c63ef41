#include "sip/auth.h"

#include <errno.h>
#include <gnutls/crypto.h>

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct slice skip_space(struct slice s)
{
	while (s.len && is_space(s.p[0]))
		s.p++, s.len--;
	return s;
}

/* Up to a separator of auth-params. */
static struct slice take_word(struct slice *s)
{
	struct slice w = {s->p, 0};
	while (s->len && !is_space(s->p[0]) && s->p[0] != '=' && s->p[0] != ',') {
		s->p++, s->len--;
		w.len++;
	}
	return w;
}

/* Behind the opening quote. */
static int take_quoted(struct slice *s, struct slice *out)
{
	*out = (struct slice){s->p, 0};
	while (s->len && s->p[0] != '"') {
		size_t n = s->p[0] == '\\' ? 2 : 1;
		if (n > s->len)
			return -EBADMSG;
		s->p += n, s->len -= n;
		out->len += n;
	}
	if (!s->len)
		return -EBADMSG;
	s->p++, s->len--;
	return 0;
}

static struct slice *param_of(struct sip_auth *a, struct slice name)
{
	const struct {
		struct slice name;
		struct slice *to;
	} known[] = {
		{SLICE_LIT("username"), &a->username}, {SLICE_LIT("realm"), &a->realm},
		{SLICE_LIT("nonce"), &a->nonce},       {SLICE_LIT("uri"), &a->uri},
		{SLICE_LIT("response"), &a->response}, {SLICE_LIT("algorithm"), &a->algorithm},
		{SLICE_LIT("cnonce"), &a->cnonce},     {SLICE_LIT("opaque"), &a->opaque},
		{SLICE_LIT("qop"), &a->qop},           {SLICE_LIT("nc"), &a->nc},
	};
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (slice_ieq(known[i].name, name))
			return known[i].to;
	return NULL;
}

int sip_auth_parse(struct slice value, struct sip_auth *out)
{
	struct sip_auth a = {0};
	struct slice s = skip_space(value);
	struct slice scheme = take_word(&s);

	if (!slice_ieq(scheme, SLICE_LIT("Digest")))
		return -EPROTONOSUPPORT;
	for (;;) {
		struct slice name, v;
		s = skip_space(s);
		name = take_word(&s);
		s = skip_space(s);
		if (!name.len || !s.len || s.p[0] != '=')
			return -EBADMSG;
		s.p++, s.len--;
		s = skip_space(s);
		if (s.len && s.p[0] == '"') {
			s.p++, s.len--;
			if (take_quoted(&s, &v) < 0)
				return -EBADMSG;
		} else {
			v = take_word(&s);
		}
		struct slice *to = param_of(&a, name);
		if (to) {
			if (to->p)
				return -EBADMSG;
			*to = v;
		}
		s = skip_space(s);
		if (!s.len)
			break;
		if (s.p[0] != ',')
			return -EBADMSG;
		s.p++, s.len--;
	}
	*out = a;
	return 0;
}

/* --- algorithms --- */

static const struct algorithm {
	struct slice name;
	gnutls_digest_algorithm_t id;
	size_t len; /* bytes */
} algorithms[SIP_AUTH_ALGORITHMS] = {
	[SIP_AUTH_SHA256] = {{"SHA-256", 7}, GNUTLS_DIG_SHA256, 32},
	[SIP_AUTH_MD5] = {{"MD5", 3}, GNUTLS_DIG_MD5, 16},
};

int sip_auth_algorithm(struct slice name, enum sip_auth_algorithm *out)
{
	if (!name.len) {
		*out = SIP_AUTH_MD5;
		return 0;
	}
	for (unsigned i = 0; i < SIP_AUTH_ALGORITHMS; i++) {
		if (slice_ieq(name, algorithms[i].name)) {
			*out = (enum sip_auth_algorithm)i;
			return 0;
		}
	}
	return -EPROTONOSUPPORT;
}

struct slice sip_auth_algorithm_name(enum sip_auth_algorithm a)
{
	return algorithms[a].name;
}

size_t sip_auth_hash_len(enum sip_auth_algorithm a)
{
	return algorithms[a].len;
}

/* --- computing --- */

void sip_hex(const unsigned char *p, size_t n, char *out)
{
	static const char digit[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		*out++ = digit[p[i] >> 4];
		*out++ = digit[p[i] & 15];
	}
}

static int unhex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = slice_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool sip_unhex(struct slice text, unsigned char *out, size_t n)
{
	if (text.len != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int h = unhex_digit(text.p[2 * i]), l = unhex_digit(text.p[2 * i + 1]);
		if (h < 0 || l < 0)
			return false;
		out[i] = (unsigned char)(h << 4 | l);
	}
	return true;
}

/* Hash of the parts, joined by ':'. */
static int hash_parts(enum sip_auth_algorithm a, const struct slice *part, unsigned n, unsigned char *out)
{
	gnutls_hash_hd_t h;
	if (gnutls_hash_init(&h, algorithms[a].id) < 0)
		return -EIO;
	int rc = 0;
	for (unsigned i = 0; i < n && !rc; i++) {
		if (i)
			rc = gnutls_hash(h, ":", 1);
		if (!rc && part[i].len)
			rc = gnutls_hash(h, part[i].p, part[i].len);
	}
	gnutls_hash_deinit(h, out);
	return rc < 0 ? -EIO : 0;
}

int sip_auth_ha1(enum sip_auth_algorithm a, struct slice name, struct slice realm, struct slice password,
		 unsigned char *out)
{
	return hash_parts(a, (struct slice[]){name, realm, password}, 3, out);
}

/* The hash in hexadecimal digits, as the next hash takes it. */
static int hash_hex(enum sip_auth_algorithm a, const struct slice *part, unsigned n, char *out,
		    struct slice *text)
{
	unsigned char raw[SIP_AUTH_HASH_MAX];
	int rc = hash_parts(a, part, n, raw);
	if (rc)
		return rc;
	sip_hex(raw, algorithms[a].len, out);
	*text = slice_make(out, 2 * algorithms[a].len);
	return 0;
}

bool sip_auth_verify(enum sip_auth_algorithm a, const unsigned char *ha1, const struct sip_auth *c,
		     struct slice method, struct slice body)
{
	char t1[SIP_AUTH_HEX_MAX], t2[SIP_AUTH_HEX_MAX], t3[SIP_AUTH_HEX_MAX];
	unsigned char want[SIP_AUTH_HASH_MAX], got[SIP_AUTH_HASH_MAX];
	size_t len = algorithms[a].len;
	struct slice h1, h2, hb;
	bool integrity = slice_ieq(c->qop, SLICE_LIT("auth-int"));
	int rc = 0;

	if (!sip_unhex(c->response, got, len))
		return false;
	sip_hex(ha1, len, t1);
	h1 = slice_make(t1, 2 * len);
	if (integrity)
		rc = hash_hex(a, &body, 1, t3, &hb);
	if (!rc)
		rc = integrity ? hash_hex(a, (struct slice[]){method, c->uri, hb}, 3, t2, &h2)
			       : hash_hex(a, (struct slice[]){method, c->uri}, 2, t2, &h2);
	if (!rc)
		rc = hash_parts(a, (struct slice[]){h1, c->nonce, c->nc, c->cnonce, c->qop, h2}, 6, want);
	return rc == 0 && gnutls_memcmp(want, got, len) == 0;
}
