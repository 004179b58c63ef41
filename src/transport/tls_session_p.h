/* What the tls_*.c files share. */
#ifndef TRANSPORT_TLS_SESSION_P_H
#define TRANSPORT_TLS_SESSION_P_H

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "base/addr.h"
#include "transport/tls_p.h"

#define TLS_KEY_LEN 64 /* bytes, of a key for tickets */

/* A certificate of ours, to be shown to clients. const once it is loaded */
struct tls_certificate {
	gnutls_pcert_st *chain; /* [n]: the first is ours */
	unsigned n;
	gnutls_privkey_t key;
	gnutls_pk_algorithm_t kind; /* of the key */
	char *names;                /* it is good for these: each ended by a NUL */
	size_t names_len;
};

struct tls_context {
	gnutls_certificate_credentials_t client; /* const: what we show to servers, and whom we trust of them */
	gnutls_certificate_credentials_t
		server;                      /* const: whom we trust of clients; they are shown `certificate` */
	struct tls_certificate *certificate; /* const pointer: [certificates]; the first is the default */
	unsigned certificates;               /* const */
	gnutls_priority_t priority;          /* const */
	struct tls_tickets *tickets;         /* const */
	unsigned char ticket_key[TLS_KEY_LEN]; /* const: of the tickets that we give */
	enum config_verify verify_client;      /* const */
	bool own_ca; /* const: `ca` names those that we trust, few enough to tell clients about */
};

/* --- tls_io.c: the socket under a session. Nothing that GnuTLS sends waits in GnuTLS --- */
struct tls_io {
	int fd;                /* const */
	_Atomic uint64_t *raw; /* atomic: bytes given to the kernel */
	/* who sends */
	char *out; /* records; NULL: none */
	size_t out_len, out_sent, out_cap;
	/* who receives */
	const char *in; /* bytes that GnuTLS has not taken yet; NULL: none */
	size_t in_len;
	char *kept;   /* what holds `in` between two calls of tls_recv; NULL: nothing does */
	bool direct;  /* handshake: GnuTLS reads the socket itself, not a byte too many */
	bool drained; /* the socket gave less than it was asked for */
	bool ended;   /* direct: the socket has ended */
	int error;    /* direct: errno of reading it, or 0 */
};
void tls_io_init(struct tls_io *io, int fd, _Atomic uint64_t *raw, gnutls_session_t s);
void tls_io_deinit(struct tls_io *io);
/* Gives the kernel what waits in `out`. 0: all; -EAGAIN: not all; other -errno. */
int tls_io_flush(struct tls_io *io);
/* Reads up to `cap` bytes into p, which must stay until tls_io_keep. Bytes (> 0); 0: the end; -EAGAIN; other -errno. */
ssize_t tls_io_fill(struct tls_io *io, char *p, size_t cap);
/* The bytes that GnuTLS has not taken out of `in` stay for the next call. 0 or -ENOMEM. */
int tls_io_keep(struct tls_io *io);

/* --- tls_certificate.c --- */
/* The bytes of a file; to be freed with tls_file_free, for it may be a key. 0, or -EINVAL with a line in err; `what` it
 * is. */
int tls_file_load(const char *what, const char *path, gnutls_datum_t *out, char *err, size_t errlen);
void tls_file_free(gnutls_datum_t *d);
/* Main. Makes it known to `client`, too. 0, -ENOMEM, or -EINVAL with a line in err that names the file. */
int tls_certificate_load(const char *path, const char *key, gnutls_certificate_credentials_t client,
			 struct tls_certificate *out, char *err, size_t errlen);
void tls_certificate_deinit(struct tls_certificate *c);
/* Writer: asked by GnuTLS in a server's handshake. */
int tls_certificate_choose(gnutls_session_t s, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **chain,
			   unsigned *n, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_n, gnutls_privkey_t *key,
			   unsigned *flags);

/* --- tls_session.c --- */
const struct tls_context *tls_session_context(gnutls_session_t s);

/* --- tls_tickets.c: any thread --- */
/* A key of the process's, other for other `trust`: what a ticket stands for where nobody is verified counts for nothing
 * elsewhere. 0 or -EIO. */
int tls_tickets_key(const struct tls_tickets *t, const void *trust, size_t len,
		    unsigned char key[static TLS_KEY_LEN]);
/* Before a handshake with the server: its last session, if one is kept that was verified by the same context for the
 * same name. */
void tls_tickets_offer(struct tls_tickets *t, const void *context, const char *name, const struct addr *server,
		       gnutls_session_t s);
void tls_tickets_keep(struct tls_tickets *t, const void *context, const char *name, const struct addr *server,
		      gnutls_session_t s);
void tls_tickets_forget(struct tls_tickets *t, const void *context); /* it is about to be freed */

/* --- tls_verify.c --- */
enum tls_name { TLS_NAME_URI, TLS_NAME_DNS, TLS_NAME_IP, TLS_NAME_CN };
/* What a certificate says whom it stands for (RFC 5922 7.1): the host of a URI sip:host, a DNS name, the bytes of an IP
 * address; the common name where there is no alternative name of any kind. */
void tls_names_each(gnutls_x509_crt_t crt, void (*fn)(void *ctx, enum tls_name kind, struct slice name),
		    void *ctx);
/* True if the certificate that the peer showed is good for `name`: a domain or an IP address (RFC 5922 7.1, 7.2). */
bool tls_name_matches(gnutls_session_t s, struct slice name);
/* Looks at the peer's certificate chain. 0; -EPERM with a line in err; -ENOENT: it showed none. *alert: what the peer
 * may be told. */
int tls_chain_verify(gnutls_session_t s, gnutls_alert_description_t *alert, char *err, size_t errlen);

#endif
