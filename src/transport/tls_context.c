/* What a listener's TLS goes by, as of one load: its certificates, the CAs, and which versions it speaks. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tls_session_p.h"

/* TLS 1.2 and 1.3. No renegotiation: who asks for it is closed. */
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

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
		gnutls_certificate_set_x509_system_trust(c->client);
		if (c->verify_client != VERIFY_NONE)
			gnutls_certificate_set_x509_system_trust(c->server);
		return 0;
	}
	rc = tls_file_load("ca", ca, &pem, err, errlen);
	if (rc)
		return rc;
	int g = gnutls_certificate_set_x509_trust_mem(c->client, &pem, GNUTLS_X509_FMT_PEM);
	if (g > 0 && c->verify_client != VERIFY_NONE)
		g = gnutls_certificate_set_x509_trust_mem(c->server, &pem, GNUTLS_X509_FMT_PEM);
	if (g > 0 && c->verify_client != VERIFY_NONE &&
	    gnutls_hash_fast(GNUTLS_DIG_SHA256, pem.data, pem.size, out->ca) < 0)
		rc = -EIO;
	tls_file_free(&pem);
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
	c->certificate = calloc(l->certificate_count ? l->certificate_count : 1, sizeof(*c->certificate));
	if (!c->certificate || gnutls_certificate_allocate_credentials(&c->client) < 0 ||
	    gnutls_certificate_allocate_credentials(&c->server) < 0 ||
	    gnutls_priority_init(&c->priority, TLS_PRIORITY, NULL) < 0)
		goto fail;
	gnutls_certificate_set_retrieve_function3(c->server, tls_certificate_choose);
	rc = trust_load(c, l->ca ? l->ca : "", &trust, err, errlen);
	for (unsigned i = 0; i < l->certificate_count && !rc; i++) {
		rc = tls_certificate_load(l->certificate[i], l->key[i], c->client, &c->certificate[i], err,
					  errlen);
		if (!rc)
			c->certificates++;
	}
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
	for (unsigned i = 0; i < c->certificates; i++)
		tls_certificate_deinit(&c->certificate[i]);
	free(c->certificate);
	if (c->client)
		gnutls_certificate_free_credentials(c->client);
	if (c->server)
		gnutls_certificate_free_credentials(c->server);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	gnutls_memset(c->ticket_key, 0, sizeof(c->ticket_key));
	free(c);
}
