/* What the tls_*.c files share. */
#ifndef TRANSPORT_TLS_SESSION_P_H
#define TRANSPORT_TLS_SESSION_P_H

#include <gnutls/gnutls.h>

#include "transport/tls_p.h"

struct tls_context {
	gnutls_certificate_credentials_t credentials; /* const */
	gnutls_priority_t priority;                   /* const */
	struct tls_tickets *tickets;                  /* const */
	enum config_verify verify_client;             /* const */
};

/* --- tls_tickets.c: any thread --- */
const gnutls_datum_t *tls_tickets_key(const struct tls_tickets *t);
/* Before a handshake with the server: its last session, if one is kept that was verified by the same context for the same name. */
void tls_tickets_offer(struct tls_tickets *t, const void *context, const char *name, gnutls_session_t s);
void tls_tickets_keep(struct tls_tickets *t, const void *context, const char *name, gnutls_session_t s);
void tls_tickets_forget(struct tls_tickets *t, const void *context); /* it is about to be freed */

/* --- tls_verify.c --- */
/* True if the certificate that the peer showed is good for `name`: a domain or an IP address (RFC 5922 7.1, 7.2). */
bool tls_name_matches(gnutls_session_t s, struct slice name);
/* Looks at the peer's certificate chain. 0; -EPERM with a line in err; -ENOENT: it showed none. */
int tls_chain_verify(gnutls_session_t s, char *err, size_t errlen);

#endif
