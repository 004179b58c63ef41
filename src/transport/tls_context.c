/* What a listener's TLS goes by: its certificates with their keys, the CAs, and which versions it speaks. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "transport/tls_session_p.h"

/* TLS 1.2 and 1.3. No renegotiation: who asks for it is closed. */
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

#define WARN_DAYS 14 /* a certificate that ends so soon is warned of at every load */

/* The bytes of a file; to be freed with file_free, for it may be a key. 0 or -EINVAL. */
static int file_load(const char *what, const char *path, gnutls_datum_t *out, char *err, size_t errlen)
{
	errno = 0;
	if (gnutls_load_file(path, out) >= 0)
		return 0;
	snprintf(err, errlen, "%s %s: %s", what, path, errno ? strerror(errno) : "cannot be read");
	return -EINVAL;
}

static void file_free(gnutls_datum_t *d)
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
	int rc = file_load("certificate", path, &pem, err, errlen);

	if (rc)
		return rc;
	rc = gnutls_x509_crt_list_import2(&out->crt, &out->n, &pem, GNUTLS_X509_FMT_PEM,
					  GNUTLS_X509_CRT_LIST_SORT);
	file_free(&pem);
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
	int rc = file_load("key", path, &pem, err, errlen);

	if (rc)
		return rc;
	rc = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	file_free(&pem);
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

static int pair_load(gnutls_certificate_credentials_t c, const char *cert, const char *key_path, char *err,
		     size_t errlen)
{
	struct chain chain = {0};
	gnutls_x509_privkey_t key = NULL;
	int rc = chain_load(cert, &chain, err, errlen);

	if (!rc && gnutls_x509_privkey_init(&key) < 0)
		rc = -ENOMEM;
	if (!rc)
		rc = key_load(key_path, key, err, errlen);
	if (rc)
		goto out;
	int g = gnutls_certificate_set_x509_key(c, chain.crt, (int)chain.n, key);
	if (g >= 0) {
		warn_dates(cert, chain.crt[0]);
		goto out;
	}
	rc = -EINVAL;
	if (g == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		snprintf(err, errlen, "certificate %s and key %s do not belong together", cert, key_path);
	else
		snprintf(err, errlen, "certificate %s with key %s: %s", cert, key_path, gnutls_strerror(g));
out:
	chain_free(&chain);
	if (key)
		gnutls_x509_privkey_deinit(key);
	return rc;
}

/* --- trust --- */

/* What a client that comes with a ticket of ours was held to when it got it: the mode, and whom we trusted. */
struct trust {
	uint32_t verify;
	unsigned char ca[32]; /* SHA-256 of the file; zeros: the system's */
};

/* The CAs; *out gets what tickets depend on. */
static int trust_load(struct tls_context *c, const char *ca, struct trust *out, char *err, size_t errlen)
{
	gnutls_datum_t pem = {0};
	int rc;

	memset(out, 0, sizeof(*out));
	out->verify = c->verify_client;
	if (!*ca) {
		/* None on the machine is no error: then no server can be verified, and says so when it is tried. */
		gnutls_certificate_set_x509_system_trust(c->credentials);
		return 0;
	}
	rc = file_load("ca", ca, &pem, err, errlen);
	if (rc)
		return rc;
	int g = gnutls_certificate_set_x509_trust_mem(c->credentials, &pem, GNUTLS_X509_FMT_PEM);
	if (g > 0 && c->verify_client != VERIFY_NONE &&
	    gnutls_hash_fast(GNUTLS_DIG_SHA256, pem.data, pem.size, out->ca) < 0)
		rc = -EIO;
	file_free(&pem);
	if (g > 0) {
		c->own_ca = true;
		return rc;
	}
	snprintf(err, errlen, "ca %s: %s", ca,
		 g < 0 && g != GNUTLS_E_NO_CERTIFICATE_FOUND ? gnutls_strerror(g)
							     : "there is no certificate in it");
	return -EINVAL;
}

/* --- life --- */

int tls_context_create(const struct config_listen *l, struct tls_tickets *t, struct tls_context **out,
		       char *err, size_t errlen)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	struct trust trust;
	int rc = -ENOMEM;

	if (!c)
		return rc;
	c->tickets = t;
	c->verify_client = l->verify_client;
	if (gnutls_certificate_allocate_credentials(&c->credentials) < 0 ||
	    gnutls_priority_init(&c->priority, TLS_PRIORITY, NULL) < 0)
		goto fail;
	rc = trust_load(c, l->ca ? l->ca : "", &trust, err, errlen);
	for (unsigned i = 0; i < l->certificate_count && !rc; i++)
		rc = pair_load(c->credentials, l->certificate[i], l->key[i], err, errlen);
	if (!rc)
		rc = tls_tickets_key(t, &trust, sizeof(trust), c->ticket_key);
	if (rc)
		goto fail;
	*out = c;
	return 0;
fail:
	tls_context_destroy(c);
	return rc;
}

void tls_context_destroy(struct tls_context *c)
{
	if (!c)
		return;
	tls_tickets_forget(c->tickets, c);
	if (c->credentials)
		gnutls_certificate_free_credentials(c->credentials);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	gnutls_memset(c->ticket_key, 0, sizeof(c->ticket_key));
	free(c);
}
