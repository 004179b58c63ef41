/* One session over a non-blocking socket. After the handshake one thread sends and one receives, at the same time, as GnuTLS allows; nothing else
 * of the session is touched then. A peer's key update and tickets are dealt with inside of receiving, under GnuTLS's own locks. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/counters.h"
#include "transport/tls_session_p.h"

struct tls_session {
	gnutls_session_t s;
	struct tls_context *context; /* const */
	int fd;                      /* const */
	bool server;                 /* const */
	bool verified;               /* const after the handshake: the peer's certificate is trusted */
	const char *name;            /* const: client */
	_Atomic uint64_t *raw;       /* atomic: bytes given to the kernel */
};

/* --- the socket --- */

static ssize_t on_push(gnutls_transport_ptr_t ptr, const giovec_t *v, int n)
{
	struct tls_session *t = ptr;
	struct msghdr h = {.msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = (size_t)n};
	ssize_t r = sendmsg(t->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (r > 0)
		atomic_fetch_add_explicit(t->raw, (uint64_t)r, memory_order_relaxed);
	return r;
}

static ssize_t on_pull(gnutls_transport_ptr_t ptr, void *p, size_t len)
{
	struct tls_session *t = ptr;
	return recv(t->fd, p, len, MSG_DONTWAIT);
}

/* Called only by functions that wait, of which we use none. */
static int on_wait(gnutls_transport_ptr_t ptr, unsigned ms)
{
	(void)ptr, (void)ms;
	return 1;
}

/* --- life --- */

static int session_setup(struct tls_session *t)
{
	gnutls_session_t s = t->s;
	struct addr ip;

	if (gnutls_priority_set(s, t->context->priority) < 0 ||
	    gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, t->context->credentials) < 0)
		return -EIO;
	gnutls_transport_set_ptr(s, t);
	gnutls_transport_set_vec_push_function(s, on_push);
	gnutls_transport_set_pull_function(s, on_pull);
	gnutls_transport_set_pull_timeout_function(s, on_wait);
	gnutls_handshake_set_timeout(s, GNUTLS_INDEFINITE_TIMEOUT); /* the writer has a deadline of its own */
	if (t->server) {
		gnutls_session_ticket_enable_server(s, tls_tickets_key(t->context->tickets));
		gnutls_certificate_server_set_request(
			s, t->context->verify_client == VERIFY_NONE      ? GNUTLS_CERT_IGNORE
			   : t->context->verify_client == VERIFY_REQUIRE ? GNUTLS_CERT_REQUIRE
									 : GNUTLS_CERT_REQUEST);
		return 0;
	}
	/* A server's name is for names, not for addresses (RFC 6066 3). */
	if (addr_parse_ip(slice_str(t->name), 0, &ip) < 0)
		gnutls_server_name_set(s, GNUTLS_NAME_DNS, t->name, strlen(t->name));
	tls_tickets_offer(t->context->tickets, t->context, t->name, s);
	return 0;
}

int tls_session_create(struct tls_context *c, int fd, bool server, const char *name, _Atomic uint64_t *raw,
		       struct tls_session **out)
{
	struct tls_session *t = calloc(1, sizeof(*t));
	unsigned flags = (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL;
	int rc = -ENOMEM;

	if (!t)
		return rc;
	*t = (struct tls_session){.context = c, .fd = fd, .server = server, .name = name, .raw = raw};
	if (gnutls_init(&t->s, flags) < 0) {
		free(t);
		return rc;
	}
	rc = session_setup(t);
	if (rc) {
		tls_session_destroy(t);
		return rc;
	}
	*out = t;
	return 0;
}

void tls_session_destroy(struct tls_session *t)
{
	if (!t)
		return;
	/* A server's tickets of TLS 1.3 come after the handshake: by now they are there. */
	if (!t->server && t->verified && (gnutls_session_get_flags(t->s) & GNUTLS_SFLAGS_SESSION_TICKET))
		tls_tickets_keep(t->context->tickets, t->context, t->name, t->s);
	gnutls_deinit(t->s);
	free(t);
}

void tls_bye(struct tls_session *t)
{
	gnutls_bye(t->s, GNUTLS_SHUT_WR);
}

/* --- the handshake --- */

static void handshake_count(const struct tls_session *t)
{
	bool resumed = gnutls_session_is_resumed(t->s) != 0;

	if (gnutls_protocol_get_version(t->s) == GNUTLS_TLS1_3)
		count(resumed ? CNT_TLS_13_RESUMED : CNT_TLS_13);
	else
		count(resumed ? CNT_TLS_12_RESUMED : CNT_TLS_12);
}

/* The certificate that the peer has shown, or has not. A resumed session was verified when it was made: its certificate is in it. */
static int peer_check(struct tls_session *t, char *err, size_t errlen)
{
	int rc;

	if (t->server && t->context->verify_client == VERIFY_NONE)
		return 0;
	rc = tls_chain_verify(t->s, err, errlen);
	if (rc == -ENOENT && t->server && t->context->verify_client == VERIFY_OPTIONAL)
		return 0;
	if (rc)
		return -EPERM;
	if (!t->server && !tls_name_matches(t->s, slice_str(t->name))) {
		snprintf(err, errlen, "its certificate is not good for %.200s", t->name);
		return -EPERM;
	}
	t->verified = true;
	return 0;
}

static int handshake_failed(int rc, char *err, size_t errlen)
{
	if (rc == GNUTLS_E_CERTIFICATE_REQUIRED || rc == GNUTLS_E_NO_CERTIFICATE_FOUND) {
		snprintf(err, errlen, "the peer shows no certificate");
		count(CNT_TLS_UNTRUSTED);
		return -EPERM;
	}
	if (rc == GNUTLS_E_UNEXPECTED_PACKET_LENGTH || rc == GNUTLS_E_UNSUPPORTED_VERSION_PACKET ||
	    rc == GNUTLS_E_UNEXPECTED_PACKET)
		snprintf(err, errlen, "the peer does not speak TLS 1.2 or 1.3 (%s)", gnutls_strerror(rc));
	else if (rc == GNUTLS_E_PREMATURE_TERMINATION)
		snprintf(err, errlen, "the peer closed the connection");
	else
		snprintf(err, errlen, "%s", gnutls_strerror(rc));
	count(CNT_TLS_FAILED);
	return -EPROTO;
}

int tls_handshake(struct tls_session *t, short *events, char *err, size_t errlen)
{
	int rc;

	do {
		rc = gnutls_handshake(t->s);
	} while (rc == GNUTLS_E_INTERRUPTED || (rc < 0 && rc != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(rc)));
	if (rc == GNUTLS_E_AGAIN) {
		*events = gnutls_record_get_direction(t->s) ? POLLOUT : POLLIN;
		return -EAGAIN;
	}
	if (rc < 0) {
		gnutls_alert_send_appropriate(t->s, rc); /* so that the other side can say what is wrong */
		return handshake_failed(rc, err, errlen);
	}
	rc = peer_check(t, err, errlen);
	if (rc < 0) {
		gnutls_alert_send(t->s, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
		count(CNT_TLS_UNTRUSTED);
		return rc;
	}
	handshake_count(t);
	return 0;
}

/* --- bytes --- */

static int error_of(int rc)
{
	switch (rc) {
	case GNUTLS_E_AGAIN:
	case GNUTLS_E_INTERRUPTED: return -EAGAIN;
	case GNUTLS_E_PUSH_ERROR:
	case GNUTLS_E_PULL_ERROR: return errno ? -errno : -EIO;
	default: return -EPROTO;
	}
}

ssize_t tls_send(struct tls_session *t, const char *p, size_t len)
{
	ssize_t n = gnutls_record_send(t->s, p, len);
	return n >= 0 ? n : error_of((int)n);
}

ssize_t tls_recv(struct tls_session *t, char *p, size_t len)
{
	for (;;) {
		ssize_t n = gnutls_record_recv(t->s, p, len);
		if (n >= 0)
			return n;
		if (n == GNUTLS_E_PREMATURE_TERMINATION)
			return 0; /* without a close_notify: what SIP has received so far is framed */
		if (n == GNUTLS_E_REHANDSHAKE) {
			gnutls_alert_send(t->s, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
			return -EPROTO;
		}
		if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED || gnutls_error_is_fatal((int)n))
			return error_of((int)n);
	}
}

bool tls_peer_is(const struct tls_session *t, struct slice name)
{
	return t->verified && tls_name_matches(t->s, name);
}
