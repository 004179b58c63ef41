/* TLS with GnuTLS, below connections: certificates of a listener, sessions, resumption. Nothing here waits; what would
 * is -EAGAIN. */
#ifndef TRANSPORT_TLS_P_H
#define TRANSPORT_TLS_P_H

#include <stdatomic.h>
#include <sys/types.h>

#include "config/config.h"

struct tls_context; /* certificates, keys, CAs and priorities of one listener, as of one load. const after it was made */
struct tls_tickets; /* of the process: the key of our tickets, and sessions that we may resume with servers */
struct tls_session;

int tls_tickets_create(struct tls_tickets **out); /* 0, -ENOMEM, -EIO */
void tls_tickets_destroy(struct tls_tickets *t);

/* Main. Loads what `l` names: each certificate with its key, SNI chooses among them (the first is the default). A
 * certificate that has expired is loaded with a warning. `t` outlives it. 0, or -EINVAL with a line in err that names
 * the file. */
int tls_context_create(const struct config_listen *l, struct tls_tickets *t, struct tls_context **out,
		       char *err, size_t errlen);
void tls_context_destroy(struct tls_context *c); /* when no session of it is left */

/* Writer or acceptor. `fd` is connected and non-blocking; it stays the caller's. server: we accepted. name: what the
 * peer's certificate must be good for (client); NUL-terminated, outlives the session; NULL for servers. `raw`: counts
 * the bytes given to the kernel. 0, -ENOMEM, -EIO. */
int tls_session_create(struct tls_context *c, int fd, bool server, const char *name, _Atomic uint64_t *raw,
		       struct tls_session **out);
void tls_session_destroy(struct tls_session *t); /* NULL does nothing; nobody else uses it by then */
/* Holder of the drain token: a close_notify, if the kernel takes it at once. */
void tls_bye(struct tls_session *t);

/* Writer. 0: done, and the peer's certificate is what verify_client or the name ask for; counts the handshake by version and result.
 * -EAGAIN: wait for *events (POLLIN or POLLOUT); other -errno: failed, one line in err (what, not who). */
int tls_handshake(struct tls_session *t, short *events, char *err, size_t errlen);

/* Holder of the drain token. Bytes taken (> 0); -EAGAIN: the kernel takes no more; the same bytes must be offered again
 * (more may follow them); other -errno. */
ssize_t tls_send(struct tls_session *t, const char *p, size_t len);

/* Acceptor. Bytes (> 0); 0: closed by the peer; -EAGAIN: no more for now (nothing is left inside the session either);
 * other -errno. */
ssize_t tls_recv(struct tls_session *t, char *p, size_t len);

/* Any thread after the handshake. True if the peer showed a certificate that our CAs stand for and that is good for
 * `name` (RFC 5922). */
bool tls_peer_is(const struct tls_session *t, struct slice name);

#endif
