/* Whether a peer is who it should be: its chain of certificates, and the names in the first of them (RFC 5922 7). */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "sip/uri.h"
#include "transport/tls_session_p.h"

#define NAME_MAX_LEN 512 /* bytes of a subject alternative name */

int tls_chain_verify(gnutls_session_t s, char *err, size_t errlen)
{
	gnutls_datum_t text = {0};
	unsigned n = 0, status = 0;

	if (!gnutls_certificate_get_peers(s, &n) || !n) {
		snprintf(err, errlen, "the peer shows no certificate");
		return -ENOENT;
	}
	int rc = gnutls_certificate_verify_peers2(s, &status);
	if (rc < 0) {
		snprintf(err, errlen, "its certificate cannot be checked: %s", gnutls_strerror(rc));
		return -EPERM;
	}
	if (!status)
		return 0;
	if (status & GNUTLS_CERT_EXPIRED)
		snprintf(err, errlen, "its certificate has expired");
	else if (status & GNUTLS_CERT_NOT_ACTIVATED)
		snprintf(err, errlen, "its certificate is not valid yet");
	else if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
		snprintf(err, errlen, "its certificate is of a CA that is not trusted");
	else if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
		snprintf(err, errlen, "%.*s", (int)text.size, (const char *)text.data);
		gnutls_free(text.data);
	}
	return -EPERM;
}

static bool is_ip(gnutls_x509_crt_t crt, const struct addr *want)
{
	unsigned char ip[16];
	size_t len = want->family == AF_INET6 ? 16 : 4;

	for (unsigned i = 0;; i++) {
		size_t n = sizeof(ip);
		int rc = gnutls_x509_crt_get_subject_alt_name(crt, i, ip, &n, NULL);
		if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			return false;
		if (rc == GNUTLS_SAN_IPADDRESS && n == len && memcmp(ip, want->ip, len) == 0)
			return true;
	}
}

/* A URI name "sip:example.com" stands for the domain; one with a user does not (7.1). */
static bool is_uri(struct slice text, struct slice name)
{
	struct sip_uri u;
	return sip_uri_parse(text, &u) == 0 && (u.scheme == SIP_SCHEME_SIP || u.scheme == SIP_SCHEME_SIPS) &&
	       !u.has_user && slice_ieq(u.host, name);
}

/* The common name counts only where there is no alternative name of these kinds. No wildcards (7.2). */
static bool is_domain(gnutls_x509_crt_t crt, struct slice name)
{
	char text[NAME_MAX_LEN];
	bool any = false;

	for (unsigned i = 0;; i++) {
		size_t n = sizeof(text);
		int rc = gnutls_x509_crt_get_subject_alt_name(crt, i, text, &n, NULL);
		if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		if (rc != GNUTLS_SAN_DNSNAME && rc != GNUTLS_SAN_URI)
			continue;
		any = true;
		struct slice san = slice_make(text, n);
		if (rc == GNUTLS_SAN_DNSNAME ? slice_ieq(san, name) : is_uri(san, name))
			return true;
	}
	size_t n = sizeof(text);
	return !any && gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &n) >= 0 &&
	       slice_ieq(slice_make(text, n), name);
}

bool tls_name_matches(gnutls_session_t s, struct slice name)
{
	unsigned n = 0;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(s, &n);
	gnutls_x509_crt_t crt;
	struct addr ip;
	bool ok;

	if (!list || !n || gnutls_x509_crt_init(&crt) < 0)
		return false;
	if (name.len && name.p[name.len - 1] == '.')
		name.len--;
	ok = gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) >= 0;
	if (ok)
		ok = addr_parse_ip(name, 0, &ip) == 0 ? is_ip(crt, &ip) : is_domain(crt, name);
	gnutls_x509_crt_deinit(crt);
	return ok;
}
