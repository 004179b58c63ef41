/* Whether a peer is who it should be: its chain of certificates, and the names in the first of them (RFC 5922 7). */
#include <errno.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "sip/uri.h"
#include "transport/tls_session_p.h"

#define CN_LEN 256 /* bytes of a common name */

/* --- the chain --- */

static const struct {
	unsigned status;
	gnutls_alert_description_t alert;
	const char *text;
} reasons[] = {
	{GNUTLS_CERT_REVOKED, GNUTLS_A_CERTIFICATE_REVOKED, "its certificate has been revoked"},
	{GNUTLS_CERT_SIGNER_NOT_FOUND, GNUTLS_A_UNKNOWN_CA, "its certificate is of a CA that is not trusted"},
	{GNUTLS_CERT_EXPIRED, GNUTLS_A_CERTIFICATE_EXPIRED, "its certificate has expired"},
	{GNUTLS_CERT_NOT_ACTIVATED, GNUTLS_A_CERTIFICATE_EXPIRED, "its certificate is not valid yet"},
};

static void chain_status(unsigned status, gnutls_alert_description_t *alert, char *err, size_t errlen)
{
	gnutls_datum_t text = {0};

	for (unsigned i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (status & reasons[i].status) {
			*alert = reasons[i].alert;
			snprintf(err, errlen, "%s", reasons[i].text);
			return;
		}
	*alert = GNUTLS_A_BAD_CERTIFICATE;
	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0) {
		snprintf(err, errlen, "its certificate is not good");
		return;
	}
	snprintf(err, errlen, "%.*s", (int)text.size, (const char *)text.data);
	gnutls_free(text.data);
}

int tls_chain_verify(gnutls_session_t s, gnutls_alert_description_t *alert, char *err, size_t errlen)
{
	unsigned n = 0, status = 0;

	if (!gnutls_certificate_get_peers(s, &n) || !n) {
		snprintf(err, errlen, "the peer shows no certificate");
		*alert = GNUTLS_A_CERTIFICATE_REQUIRED;
		return -ENOENT;
	}
	int rc = gnutls_certificate_verify_peers2(s, &status);
	if (rc < 0) {
		snprintf(err, errlen, "its certificate cannot be checked: %s", gnutls_strerror(rc));
		*alert = GNUTLS_A_BAD_CERTIFICATE;
		return -EPERM;
	}
	if (!status)
		return 0;
	chain_status(status, alert, err, errlen);
	return -EPERM;
}

/* --- the name --- */

/* The alternative names, all parsed once. 0; -ENOENT: there are none; -EBADMSG: they make no sense. */
static int names_of(gnutls_x509_crt_t crt, gnutls_subject_alt_names_t *out)
{
	gnutls_datum_t der = {0};
	int rc = gnutls_x509_crt_get_extension_by_oid2(crt, GNUTLS_X509EXT_OID_SAN, 0, &der, NULL);

	if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return -ENOENT;
	if (rc < 0 || gnutls_subject_alt_names_init(out) < 0) {
		gnutls_free(der.data);
		return -EBADMSG;
	}
	rc = gnutls_x509_ext_import_subject_alt_names(&der, *out, 0);
	gnutls_free(der.data);
	if (rc >= 0)
		return 0;
	gnutls_subject_alt_names_deinit(*out);
	return -EBADMSG;
}

/* A URI name "sip:example.com" stands for the domain; one with a user does not (7.1). */
static bool uri_is(struct slice text, struct slice name)
{
	struct sip_uri u;
	return sip_uri_parse(text, &u) == 0 && (u.scheme == SIP_SCHEME_SIP || u.scheme == SIP_SCHEME_SIPS) &&
	       !u.has_user && slice_ieq(u.host, name);
}

static bool ip_is(const gnutls_datum_t *san, const struct addr *ip)
{
	size_t len = ip->family == AF_INET6 ? 16 : 4;
	return san->size == len && memcmp(san->data, ip->ip, len) == 0;
}

static bool cn_is(gnutls_x509_crt_t crt, struct slice name)
{
	char text[CN_LEN];
	size_t n = sizeof(text);
	return gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &n) >= 0 &&
	       slice_ieq(slice_make(text, n), name);
}

/* No wildcards (7.2). *any: there is a name of a kind that stands for a domain. */
static bool names_have(gnutls_subject_alt_names_t names, struct slice name, const struct addr *ip, bool *any)
{
	gnutls_datum_t san;
	unsigned type;

	for (unsigned i = 0; gnutls_subject_alt_names_get(names, i, &type, &san, NULL) >= 0; i++) {
		struct slice text = slice_make((const char *)san.data, san.size);
		if (type == GNUTLS_SAN_IPADDRESS && ip && ip_is(&san, ip))
			return true;
		if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_URI)
			continue;
		*any = true;
		if (!ip && (type == GNUTLS_SAN_DNSNAME ? slice_ieq(text, name) : uri_is(text, name)))
			return true;
	}
	return false;
}

static bool certificate_is(gnutls_x509_crt_t crt, struct slice name)
{
	gnutls_subject_alt_names_t names;
	struct addr ip;
	bool is_ip = addr_parse_ip(name, 0, &ip) == 0, any = false;
	int rc = names_of(crt, &names);

	if (!rc) {
		bool ok = names_have(names, name, is_ip ? &ip : NULL, &any);
		gnutls_subject_alt_names_deinit(names);
		if (ok)
			return true;
	}
	/* The common name counts only where no alternative name says what the domain is; never for an address. */
	return rc != -EBADMSG && !any && !is_ip && cn_is(crt, name);
}

bool tls_name_matches(gnutls_session_t s, struct slice name)
{
	unsigned n = 0;
	const gnutls_datum_t *list = gnutls_certificate_get_peers(s, &n);
	gnutls_x509_crt_t crt;

	if (!list || !n || gnutls_x509_crt_init(&crt) < 0)
		return false;
	if (name.len && name.p[name.len - 1] == '.')
		name.len--;
	bool ok = name.len && gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) >= 0 &&
		  certificate_is(crt, name);
	gnutls_x509_crt_deinit(crt);
	return ok;
}
