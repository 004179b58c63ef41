/* What a listener's TLS goes by: its certificates with their keys, the CAs, and which versions it speaks. */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "transport/tls_session_p.h"

/* TLS 1.2 and 1.3. No renegotiation: a peer that asks for it is told no. */
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static void warn_expired(const char *file, gnutls_certificate_credentials_t c, unsigned index)
{
	gnutls_x509_crt_t *list;
	unsigned n;

	if (gnutls_certificate_get_x509_crt(c, index, &list, &n) < 0)
		return;
	time_t now = time(NULL), end = n ? gnutls_x509_crt_get_expiration_time(list[0]) : 0;
	if (n && end < now)
		log_warning("transport", "certificate %s has expired", file);
	else if (n && gnutls_x509_crt_get_activation_time(list[0]) > now)
		log_warning("transport", "certificate %s is not valid yet", file);
	else if (n && end < now + 14 * 86400)
		log_warning("transport", "certificate %s expires in less than %ld days", file,
			    (long)((end - now) / 86400) + 1);
	for (unsigned i = 0; i < n; i++)
		gnutls_x509_crt_deinit(list[i]);
	gnutls_free(list);
}

static int load_pair(gnutls_certificate_credentials_t c, const char *cert, const char *key, char *err,
		     size_t errlen)
{
	int rc = gnutls_certificate_set_x509_key_file2(c, cert, key, GNUTLS_X509_FMT_PEM, NULL, 0);

	if (rc >= 0) {
		warn_expired(cert, c, (unsigned)rc);
		return 0;
	}
	if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		snprintf(err, errlen, "certificate %s and key %s do not belong together", cert, key);
	else if (rc == GNUTLS_E_FILE_ERROR)
		snprintf(err, errlen, "certificate %s or key %s cannot be read", cert, key);
	else
		snprintf(err, errlen, "certificate %s with key %s: %s", cert, key, gnutls_strerror(rc));
	return -EINVAL;
}

static int load_trust(gnutls_certificate_credentials_t c, const char *ca, char *err, size_t errlen)
{
	int rc;

	if (!*ca) {
		/* None on the machine is no error: then no server can be verified, and says so when it is tried. */
		gnutls_certificate_set_x509_system_trust(c);
		return 0;
	}
	rc = gnutls_certificate_set_x509_trust_file(c, ca, GNUTLS_X509_FMT_PEM);
	if (rc > 0)
		return 0;
	snprintf(err, errlen, "ca %s: %s", ca, rc < 0 ? gnutls_strerror(rc) : "there is no certificate in it");
	return -EINVAL;
}

int tls_context_create(const struct config_listen *l, struct tls_tickets *t, struct tls_context **out,
		       char *err, size_t errlen)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	int rc = -ENOMEM;

	if (!c)
		return rc;
	c->tickets = t;
	c->verify_client = l->verify_client;
	if (gnutls_certificate_allocate_credentials(&c->credentials) < 0 ||
	    gnutls_priority_init(&c->priority, TLS_PRIORITY, NULL) < 0)
		goto fail;
	rc = load_trust(c->credentials, l->ca ? l->ca : "", err, errlen);
	for (unsigned i = 0; i < l->certificate_count && !rc; i++)
		rc = load_pair(c->credentials, l->certificate[i], l->key[i], err, errlen);
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
	if (c->tickets)
		tls_tickets_forget(c->tickets, c);
	if (c->credentials)
		gnutls_certificate_free_credentials(c->credentials);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	free(c);
}
