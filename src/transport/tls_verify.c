/* Whether a peer is who it should be: its chain of certificates, and the names in the first of them (RFC 5922 7). */
#include <errno.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>

#include "sip/uri.h"
#include "transport/tls_session_p.h"

#define CN_LEN        256                  /* bytes of a common name */
#define KP_SIP_DOMAIN "1.3.6.1.5.5.7.3.20" /* RFC 5924 */

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

/* True if the key may be used for TLS or SIP. Which end of a connection it may be does not matter: a proxy is both,
 * often with one certificate that names one of them. */
static bool purpose_fits(const gnutls_datum_t *der)
{
	static const char *const good[] = {GNUTLS_KP_TLS_WWW_SERVER, GNUTLS_KP_TLS_WWW_CLIENT, KP_SIP_DOMAIN,
					   GNUTLS_KP_ANY};
	gnutls_x509_crt_t crt;
	bool fits = false;
	char oid[64];
	int rc = 0;

	if (gnutls_x509_crt_init(&crt) < 0)
		return false;
	if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) < 0)
		rc = -1;
	for (unsigned i = 0; rc >= 0 && !fits; i++) {
		size_t n = sizeof(oid);
		rc = gnutls_x509_crt_get_key_purpose_oid(crt, i, oid, &n, NULL);
		if (rc == GNUTLS_E_SHORT_MEMORY_BUFFER)
			rc = 0; /* none of ours */
		else if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			fits = i == 0; /* it does not say */
		for (unsigned k = 0; rc >= 0 && k < sizeof(good) / sizeof(good[0]); k++)
			fits |= strcmp(oid, good[k]) == 0;
	}
	gnutls_x509_crt_deinit(crt);
	return fits;
}

int tls_chain_verify(gnutls_session_t s, gnutls_alert_description_t *alert, char *err, size_t errlen)
{
	unsigned n = 0, status = 0;

	const gnutls_datum_t *list = gnutls_certificate_get_peers(s, &n);

	if (!list || !n) {
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
	if (status) {
		chain_status(status, alert, err, errlen);
		return -EPERM;
	}
	if (purpose_fits(&list[0]))
		return 0;
	snprintf(err, errlen, "its certificate is for something else than TLS or SIP");
	*alert = GNUTLS_A_UNSUPPORTED_CERTIFICATE;
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

/* Only sip: has a meaning here, and only without a user. */
static void name_uri(struct slice text, void (*fn)(void *ctx, enum tls_name kind, struct slice name), void *ctx)
{
	struct sip_uri u;
	if (sip_uri_parse(text, &u) == 0 && u.scheme == SIP_SCHEME_SIP && !u.has_user)
		fn(ctx, TLS_NAME_URI, u.host);
}

static void name_cn(gnutls_x509_crt_t crt, void (*fn)(void *ctx, enum tls_name kind, struct slice name),
		    void *ctx)
{
	char text[CN_LEN];
	size_t n = sizeof(text);
	if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, text, &n) >= 0)
		fn(ctx, TLS_NAME_CN, slice_make(text, n));
}

void tls_names_each(gnutls_x509_crt_t crt, void (*fn)(void *ctx, enum tls_name kind, struct slice name),
		    void *ctx)
{
	gnutls_subject_alt_names_t names;
	gnutls_datum_t san;
	unsigned type;
	int rc = names_of(crt, &names);

	if (rc == -ENOENT)
		name_cn(crt, fn, ctx);
	if (rc < 0)
		return;
	for (unsigned i = 0; gnutls_subject_alt_names_get(names, i, &type, &san, NULL) >= 0; i++) {
		struct slice text = slice_make((const char *)san.data, san.size);
		if (type == GNUTLS_SAN_URI)
			name_uri(text, fn, ctx);
		else if (type == GNUTLS_SAN_DNSNAME)
			fn(ctx, TLS_NAME_DNS, text);
		else if (type == GNUTLS_SAN_IPADDRESS)
			fn(ctx, TLS_NAME_IP, text);
	}
	gnutls_subject_alt_names_deinit(names);
}

/* Who is looked for, and what has been found. */
struct look {
	struct slice name;
	const struct addr *ip; /* NULL: it is no address */
	bool uri;              /* there are URIs: then DNS names are of hosts, not of domains */
	bool is_uri, is_dns, is_ip, is_cn;
};

/* No wildcards (7.2). */
static void look_at(void *ctx, enum tls_name kind, struct slice name)
{
	struct look *l = ctx;
	struct addr a;

	switch (kind) {
	case TLS_NAME_URI:
		l->uri = true;
		if (l->ip ? addr_parse_ip(name, 0, &a) == 0 && addr_eq_ip(&a, l->ip) : slice_ieq(name, l->name))
			l->is_uri = true;
		break;
	case TLS_NAME_DNS: l->is_dns |= slice_ieq(name, l->name); break;
	case TLS_NAME_IP:
		if (l->ip && name.len == (l->ip->family == AF_INET6 ? 16 : 4) &&
		    memcmp(name.p, l->ip->ip, name.len) == 0)
			l->is_ip = true;
		break;
	case TLS_NAME_CN: l->is_cn |= slice_ieq(name, l->name); break;
	}
}

static bool certificate_is(gnutls_x509_crt_t crt, struct slice name)
{
	struct addr ip;
	struct look l = {.name = name, .ip = addr_parse_ip(name, 0, &ip) == 0 ? &ip : NULL};

	tls_names_each(crt, look_at, &l);
	if (l.ip)
		return l.is_ip || l.is_uri;
	return l.uri ? l.is_uri : l.is_dns || l.is_cn;
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
