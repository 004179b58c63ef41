#include "certs.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400L

char *certs_path(struct certs *c, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	for (unsigned i = 0; i < c->files; i++)
		if (strcmp(c->file[i], path) == 0)
			return c->file[i];
	assert_true(c->files < CERTS_FILES);
	c->file[c->files] = strdup(path);
	assert_non_null(c->file[c->files]);
	return c->file[c->files++];
}

void certs_write(struct certs *c, const char *name, const void *p, size_t len)
{
	FILE *f = fopen(certs_path(c, name), "w");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void export(struct certs *c, const char *name, gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
	char file[64];
	gnutls_datum_t pem;

	snprintf(file, sizeof(file), "%s.crt", name);
	assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
	certs_write(c, file, pem.data, pem.size);
	gnutls_free(pem.data);
	snprintf(file, sizeof(file), "%s.key", name);
	assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
	certs_write(c, file, pem.data, pem.size);
	gnutls_free(pem.data);
}

static void add_name(gnutls_x509_crt_t crt, gnutls_x509_subject_alt_name_t type, const void *p, size_t len)
{
	assert_int_equal(gnutls_x509_crt_set_subject_alt_name(crt, type, p, (unsigned)len, GNUTLS_FSAN_APPEND),
			 0);
}

static void add_names(gnutls_x509_crt_t crt, const struct certs_spec *s)
{
	unsigned char ip[16];

	for (unsigned i = 0; i < CERTS_NAMES && s->uri[i]; i++)
		add_name(crt, GNUTLS_SAN_URI, s->uri[i], strlen(s->uri[i]));
	for (unsigned i = 0; i < CERTS_NAMES && s->dns[i]; i++)
		add_name(crt, GNUTLS_SAN_DNSNAME, s->dns[i], strlen(s->dns[i]));
	for (unsigned i = 0; i < CERTS_NAMES && s->ip[i]; i++) {
		bool six = strchr(s->ip[i], ':') != NULL;
		assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, s->ip[i], ip), 1);
		add_name(crt, GNUTLS_SAN_IPADDRESS, ip, six ? 16 : 4);
	}
}

/* The bytes of a file of ours, for import. */
static gnutls_datum_t load(struct certs *c, const char *name, const char *kind)
{
	gnutls_datum_t pem;
	char file[64];

	snprintf(file, sizeof(file), "%s.%s", name, kind);
	assert_int_equal(gnutls_load_file(certs_path(c, file), &pem), 0);
	return pem;
}

static void sign(struct certs *c, const struct certs_spec *s, gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
	gnutls_x509_crt_t by = s->self ? crt : c->ca;
	gnutls_x509_privkey_t by_key = s->self ? key : c->key;

	if (s->by) {
		gnutls_datum_t pem = load(c, s->by, "crt"), pem_key = load(c, s->by, "key");
		gnutls_x509_crt_init(&by);
		gnutls_x509_privkey_init(&by_key);
		assert_int_equal(gnutls_x509_crt_import(by, &pem, GNUTLS_X509_FMT_PEM), 0);
		assert_int_equal(gnutls_x509_privkey_import(by_key, &pem_key, GNUTLS_X509_FMT_PEM), 0);
		gnutls_free(pem.data);
		gnutls_free(pem_key.data);
	}
	assert_int_equal(gnutls_x509_crt_sign2(crt, by, by_key, GNUTLS_DIG_SHA256, 0), 0);
	if (s->by) {
		gnutls_x509_crt_deinit(by);
		gnutls_x509_privkey_deinit(by_key);
	}
}

static void make(struct certs *c, const struct certs_spec *s, gnutls_x509_crt_t *out,
		 gnutls_x509_privkey_t *out_key)
{
	time_t now = time(NULL);
	unsigned serial = htonl(++c->serial);
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;

	assert_int_equal(gnutls_x509_privkey_init(&key), 0);
	assert_int_equal(gnutls_x509_privkey_generate(
				 key, s->rsa ? GNUTLS_PK_RSA : GNUTLS_PK_ECDSA,
				 s->rsa ? s->rsa : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
			 0);
	assert_int_equal(gnutls_x509_crt_init(&crt), 0);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, &serial, sizeof(serial));
	gnutls_x509_crt_set_activation_time(crt, now + (s->from || s->to ? s->from : -DAY));
	gnutls_x509_crt_set_expiration_time(crt, now + (s->from || s->to ? s->to : 100 * DAY));
	if (s->cn)
		gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, s->cn,
					      (unsigned)strlen(s->cn));
	add_names(crt, s);
	for (unsigned i = 0; i < CERTS_NAMES && s->purpose[i]; i++)
		assert_int_equal(gnutls_x509_crt_set_key_purpose_oid(crt, s->purpose[i], 0), 0);
	gnutls_x509_crt_set_basic_constraints(crt, s->ca, -1);
	gnutls_x509_crt_set_key_usage(crt, s->ca ? GNUTLS_KEY_KEY_CERT_SIGN : GNUTLS_KEY_DIGITAL_SIGNATURE);
	gnutls_x509_crt_set_key(crt, key);
	sign(c, s, crt, key);
	*out = crt;
	*out_key = key;
}

void certs_open(struct certs *c)
{
	static const struct certs_spec ca = {.cn = "Test CA", .self = true, .ca = true};

	memset(c, 0, sizeof(*c));
	folder_make("certs", c->dir);
	make(c, &ca, &c->ca, &c->key);
	export(c, "ca", c->ca, c->key);
}

void certs_close(struct certs *c)
{
	for (unsigned i = 0; i < c->files; i++) {
		unlink(c->file[i]);
		free(c->file[i]);
	}
	assert_int_equal(rmdir(c->dir), 0);
	gnutls_x509_crt_deinit(c->ca);
	gnutls_x509_privkey_deinit(c->key);
}

void certs_issue(struct certs *c, const char *name, const struct certs_spec *spec)
{
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;

	make(c, spec, &crt, &key);
	export(c, name, crt, key);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
}
