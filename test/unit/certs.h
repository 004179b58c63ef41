/* Certificates for tests, made when they run: a CA of their own, and whatever it signs, as PEM files in a folder of
 * their own. */
#ifndef CERTS_H
#define CERTS_H

#include <gnutls/x509.h>

#include "folder.h"

#define CERTS_FILES 128
#define CERTS_NAMES 3

struct certs {
	char dir[FOLDER_LEN];
	gnutls_x509_crt_t ca;
	gnutls_x509_privkey_t key;
	unsigned serial, files; /* the folder's */
	char *file[CERTS_FILES];
};

struct certs_spec {
	const char *cn;               /* NULL: no common name */
	const char *dns[CERTS_NAMES]; /* alternative names; NULL: no more */
	const char *uri[CERTS_NAMES];
	const char *ip[CERTS_NAMES];
	long from, to;                    /* s from now; both 0: from a day ago on for 100 days */
	unsigned rsa;                     /* bits; 0: ECDSA with P-256 */
	const char *by;                   /* who signs: of an earlier certs_issue; NULL: the CA */
	const char *purpose[CERTS_NAMES]; /* of the key: OIDs; none: any */
	bool self;                        /* signs itself, instead of the CA */
	bool ca;                          /* may sign others */
};

/* Makes the folder, and ca.crt and ca.key in it. */
void certs_open(struct certs *c);
void certs_close(struct certs *c);
/* Makes name.crt and name.key. */
void certs_issue(struct certs *c, const char *name, const struct certs_spec *spec);
/* dir/name, until certs_close; a file of this name is removed by it. */
char *certs_path(struct certs *c, const char *name);
void certs_write(struct certs *c, const char *name, const void *p, size_t len);

#endif
