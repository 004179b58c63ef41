/* Certificates that we show: loaded from their files, and chosen for each client. GnuTLS would choose by itself, but
 * compares names with their case, knows nothing of SIP URIs, and with TLS 1.2 prefers a certificate of another name to
 * a cipher suite further down. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "transport/tls_session_p.h"

#define WARN_DAYS 14  /* a certificate that ends so soon is warned of at every load */
#define NAME_LEN  256 /* bytes of a name that a client asks for, at the most */

int tls_file_load(const char *what, const char *path, gnutls_datum_t *out, char *err, size_t errlen)
{
	errno = 0;
	if (gnutls_load_file(path, out) >= 0)
		return 0;
	snprintf(err, errlen, "%s %s: %s", what, path, errno ? strerror(errno) : "cannot be read");
	return -EINVAL;
}

void tls_file_free(gnutls_datum_t *d)
{
	if (d->data)
		gnutls_memset(d->data, 0, d->size);
	gnutls_free(d->data);
}

/* --- certificates --- */

struct chain {
	gnutls_x509_crt_t *crt; /* [n]: the first is ours */
	unsigned n;
};

static void chain_free(struct chain *c)
{
	for (unsigned i = 0; i < c->n; i++)
		gnutls_x509_crt_deinit(c->crt[i]);
	gnutls_free(c->crt);
}

static int chain_load(const char *path, struct chain *out, char *err, size_t errlen)
{
	gnutls_datum_t pem = {0};
	int rc = tls_file_load("certificate", path, &pem, err, errlen);

	if (rc)
		return rc;
	rc = gnutls_x509_crt_list_import2(&out->crt, &out->n, &pem, GNUTLS_X509_FMT_PEM,
					  GNUTLS_X509_CRT_LIST_SORT);
	tls_file_free(&pem);
	if (rc >= 0)
		return 0;
	*out = (struct chain){0};
	snprintf(err, errlen, "certificate %s: %s", path,
		 rc == GNUTLS_E_NO_CERTIFICATE_FOUND ? "there is none in it" : gnutls_strerror(rc));
	return -EINVAL;
}

static int key_load(const char *path, gnutls_x509_privkey_t key, char *err, size_t errlen)
{
	gnutls_datum_t pem = {0};
	int rc = tls_file_load("key", path, &pem, err, errlen);

	if (rc)
		return rc;
	rc = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	tls_file_free(&pem);
	if (rc >= 0)
		return 0;
	snprintf(err, errlen, "key %s: %s", path,
		 rc == GNUTLS_E_DECRYPTION_FAILED ? "it is encrypted; there is nobody to ask for its password"
						  : gnutls_strerror(rc));
	return -EINVAL;
}

static void warn_dates(const char *path, gnutls_x509_crt_t crt)
{
	time_t now = time(NULL), end = gnutls_x509_crt_get_expiration_time(crt);

	if (end < now)
		log_warning("transport", "certificate %s has expired", path);
	else if (gnutls_x509_crt_get_activation_time(crt) > now)
		log_warning("transport", "certificate %s is not valid yet", path);
	else if (end - now < WARN_DAYS * 86400)
		log_warning("transport", "certificate %s expires within %ld days", path,
			    (long)((end - now) / 86400) + 1);
}

/* --- what it is good for --- */

static void name_add(void *ctx, enum tls_name kind, struct slice name)
{
	struct tls_certificate *c = ctx;
	char *p;

	if (kind == TLS_NAME_IP || !name.len || memchr(name.p, 0, name.len))
		return;
	p = realloc(c->names, c->names_len + name.len + 1);
	if (!p)
		return; /* it is found by one name less */
	memcpy(p + c->names_len, name.p, name.len);
	p[c->names_len + name.len] = 0;
	c->names = p;
	c->names_len += name.len + 1;
}

static bool is_good_for(const struct tls_certificate *c, struct slice name)
{
	for (size_t at = 0; at < c->names_len; at += strlen(c->names + at) + 1)
		if (slice_ieq(slice_str(c->names + at), name))
			return true;
	return false;
}

/* --- loading --- */

/* What GnuTLS shall show, which is then ours. */
static int keep(struct tls_certificate *c, const struct chain *chain, gnutls_x509_privkey_t key)
{
	unsigned n = chain->n;

	c->kind = gnutls_x509_privkey_get_pk_algorithm(key);
	tls_names_each(chain->crt[0], name_add, c);
	c->chain = calloc(n, sizeof(*c->chain));
	if (!c->chain || gnutls_pcert_import_x509_list(c->chain, chain->crt, &n, 0) < 0)
		return -ENOMEM;
	c->n = n;
	if (gnutls_privkey_init(&c->key) < 0 ||
	    gnutls_privkey_import_x509(c->key, key, GNUTLS_PRIVKEY_IMPORT_COPY) < 0)
		return -ENOMEM;
	return 0;
}

void tls_certificate_deinit(struct tls_certificate *c)
{
	for (unsigned i = 0; i < c->n; i++)
		gnutls_pcert_deinit(&c->chain[i]);
	free(c->chain);
	free(c->names);
	if (c->key)
		gnutls_privkey_deinit(c->key);
}

int tls_certificate_load(const char *path, const char *key_path, gnutls_certificate_credentials_t client,
			 struct tls_certificate *out, char *err, size_t errlen)
{
	struct tls_certificate c = {0};
	struct chain chain = {0};
	gnutls_x509_privkey_t key = NULL;
	int rc = chain_load(path, &chain, err, errlen);

	if (!rc && gnutls_x509_privkey_init(&key) < 0)
		rc = -ENOMEM;
	if (!rc)
		rc = key_load(key_path, key, err, errlen);
	if (rc)
		goto out;
	int g = gnutls_certificate_set_x509_key(client, chain.crt, (int)chain.n, key);
	if (g >= 0) {
		rc = keep(&c, &chain, key);
		if (rc) {
			tls_certificate_deinit(&c);
			goto out;
		}
		warn_dates(path, chain.crt[0]);
		*out = c;
		goto out;
	}
	rc = -EINVAL;
	if (g == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		snprintf(err, errlen, "certificate %s and key %s do not belong together", path, key_path);
	else
		snprintf(err, errlen, "certificate %s with key %s: %s", path, key_path, gnutls_strerror(g));
out:
	chain_free(&chain);
	if (key)
		gnutls_x509_privkey_deinit(key);
	return rc;
}

/* --- choosing --- */

/* True if the client can check what such a key signs. One that does not say is believed to. */
static bool client_can(gnutls_session_t s, gnutls_pk_algorithm_t kind)
{
	gnutls_sign_algorithm_t sign;
	size_t i = 0;

	for (; gnutls_sign_algorithm_get_requested(s, i, &sign) >= 0; i++)
		if (gnutls_sign_supports_pk_algorithm(sign, kind))
			return true;
	return i == 0;
}

/* The first that is good for the name and that the client understands; else the first that it understands; else the
 * first. */
int tls_certificate_choose(gnutls_session_t s, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **chain,
			   unsigned *n, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_n, gnutls_privkey_t *key,
			   unsigned *flags)
{
	const struct tls_context *c = tls_session_context(s);
	const struct tls_certificate *named = NULL, *other = NULL;
	char text[NAME_LEN];
	size_t len = sizeof(text);
	unsigned type;

	(void)info;
	if (gnutls_server_name_get(s, text, &len, &type, 0) < 0 || type != GNUTLS_NAME_DNS)
		len = 0;
	for (unsigned i = 0; i < c->certificates && !named; i++) {
		const struct tls_certificate *k = &c->certificate[i];
		if (!client_can(s, k->kind))
			continue;
		if (len && is_good_for(k, slice_make(text, len)))
			named = k;
		else if (!other)
			other = k;
	}
	if (!named)
		named = other ? other : c->certificate;
	*chain = named->chain;
	*n = named->n;
	*key = named->key;
	*ocsp = NULL;
	*ocsp_n = 0;
	*flags = 0; /* they stay ours */
	return 0;
}
