/* One session over a non-blocking socket: its life, the handshake, and the bytes afterwards.
 *
 * After the handshake one thread sends and one receives. GnuTLS allows that, but for one thing: a key update of TLS
 * 1.3, whichever side begins it, replaces the keys of both directions and frees old ones (update_keys() in 3.7), under
 * the feet of the other thread. So the session has a lock. It is held while bytes are encrypted or decrypted in memory;
 * the system calls are outside of it (tls_io.c). */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counters.h"
#include "transport/tls_session_p.h"

#define TLS_READ     16896 /* bytes asked of the socket at once: the largest record and some */
#define TLS_PATIENCE 16    /* records with nothing for us (warnings) in one call, or in a handshake */
#define TLS_MESSAGE \
	65536 /* bytes of the peer's longest handshake message: its certificates, or the names of its CAs */

struct tls_session {
	gnutls_session_t s;          /* under `lock` after the handshake */
	struct tls_context *context; /* const */
	const char *name;            /* const: client */
	struct addr remote;          /* const: client, whose tickets they are */
	bool server;                 /* const */
	bool verified; /* const after the handshake: the peer's certificate is trusted, and good for `name` */
	bool done;     /* the handshake: writer */
	uint8_t warnings;     /* in the handshake: writer */
	bool over;            /* who receives: nothing more comes: */
	int failed;           /* -errno, or 0: closed */
	size_t taken;         /* who sends: bytes of the caller's that wait in io.out; 0: none */
	pthread_mutex_t lock; /* never held over a system call */
	struct tls_io io;
};

/* --- life --- */

const struct tls_context *tls_session_context(gnutls_session_t s)
{
	const struct tls_session *t = gnutls_session_get_ptr(s);
	return t->context;
}

/* TLS 1.3: a ticket has come, while we receive. Only then there is something worth keeping; before 1.3 it is when the
 * handshake ends. */
static int on_ticket(gnutls_session_t s, unsigned type, unsigned when, unsigned incoming,
		     const gnutls_datum_t *m)
{
	struct tls_session *t = gnutls_session_get_ptr(s);

	(void)type, (void)when, (void)incoming, (void)m;
	if (t->verified)
		tls_tickets_keep(t->context->tickets, t->context, t->name, &t->remote, s);
	return 0;
}

static void setup_client(struct tls_session *t)
{
	struct sockaddr_storage ss;
	socklen_t size = sizeof(ss);
	size_t len = strlen(t->name);
	struct addr ip;

	if (getpeername(t->io.fd, (struct sockaddr *)&ss, &size) == 0)
		addr_from_sockaddr((struct sockaddr *)&ss, &t->remote);
	/* A server's name is for names, not for addresses, and has no dot at its end (RFC 6066 3). */
	if (len && addr_parse_ip(slice_str(t->name), 0, &ip) < 0)
		gnutls_server_name_set(t->s, GNUTLS_NAME_DNS, t->name, len - (t->name[len - 1] == '.'));
	gnutls_handshake_set_hook_function(t->s, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST,
					   on_ticket);
	tls_tickets_offer(t->context->tickets, t->context, t->name, &t->remote, t->s);
}

static int setup_server(struct tls_session *t)
{
	static const gnutls_certificate_request_t ask[] = {
		[VERIFY_NONE] = GNUTLS_CERT_IGNORE,
		[VERIFY_OPTIONAL] = GNUTLS_CERT_REQUEST,
		[VERIFY_REQUIRE] = GNUTLS_CERT_REQUIRE,
	};
	const gnutls_datum_t key = {t->context->ticket_key, TLS_KEY_LEN};

	gnutls_certificate_server_set_request(t->s, ask[t->context->verify_client]);
	/* The names of all CAs that the system trusts would be some 15 kB in each handshake. */
	gnutls_certificate_send_x509_rdn_sequence(t->s, !t->context->own_ca);
	return gnutls_session_ticket_enable_server(t->s, &key) < 0 ? -EIO : 0;
}

static int session_setup(struct tls_session *t)
{
	if (gnutls_priority_set(t->s, t->context->priority) < 0 ||
	    gnutls_credentials_set(t->s, GNUTLS_CRD_CERTIFICATE,
				   t->server ? t->context->server : t->context->client) < 0)
		return -EIO;
	gnutls_session_set_ptr(t->s, t);
	gnutls_handshake_set_timeout(t->s,
				     GNUTLS_INDEFINITE_TIMEOUT); /* the writer has a deadline of its own */
	gnutls_handshake_set_max_packet_length(t->s, TLS_MESSAGE);
	if (t->server)
		return setup_server(t);
	setup_client(t);
	return 0;
}

int tls_session_create(struct tls_context *c, int fd, bool server, const char *name, _Atomic uint64_t *raw,
		       struct tls_session **out)
{
	struct tls_session *t = calloc(1, sizeof(*t));
	int rc = -ENOMEM;

	if (!t)
		return rc;
	t->context = c;
	t->server = server;
	t->name = name;
	if (gnutls_init(&t->s, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK) < 0) {
		free(t);
		return rc;
	}
	pthread_mutex_init(&t->lock, NULL);
	tls_io_init(&t->io, fd, raw, t->s);
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
	gnutls_deinit(t->s);
	tls_io_deinit(&t->io);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void tls_bye(struct tls_session *t)
{
	if (tls_io_flush(&t->io) < 0)
		return; /* half a record is under way: nothing can follow it */
	pthread_mutex_lock(&t->lock);
	gnutls_bye(t->s, GNUTLS_SHUT_WR);
	pthread_mutex_unlock(&t->lock);
	tls_io_flush(&t->io);
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

/* The certificate that the peer has shown, or has not. A resumed session has the one of the session before in it: it is
 * looked at again. */
static int peer_check(struct tls_session *t, gnutls_alert_description_t *alert, char *err, size_t errlen)
{
	int rc;

	if (t->server && t->context->verify_client == VERIFY_NONE)
		return 0;
	rc = tls_chain_verify(t->s, alert, err, errlen);
	if (rc == -ENOENT && t->server && t->context->verify_client == VERIFY_OPTIONAL)
		return 0;
	if (rc)
		return -EPERM;
	if (!t->server && !tls_name_matches(t->s, slice_str(t->name))) {
		snprintf(err, errlen, "its certificate is not good for %.200s", t->name);
		*alert = GNUTLS_A_BAD_CERTIFICATE;
		return -EPERM;
	}
	t->verified = true;
	return 0;
}

/* The last word of a handshake that fails; nobody waits for it. It has been counted: who is told may look. */
static void say_why(struct tls_session *t, gnutls_alert_description_t alert)
{
	/* Before TLS 1.3 there is no word for a certificate that is missing. */
	if (alert == GNUTLS_A_CERTIFICATE_REQUIRED && gnutls_protocol_get_version(t->s) != GNUTLS_TLS1_3)
		alert = GNUTLS_A_HANDSHAKE_FAILURE;
	gnutls_alert_send(t->s, GNUTLS_AL_FATAL, alert);
	tls_io_flush(&t->io);
}

/* What happened to the socket, not to TLS. */
static int socket_failed(int rc, char *err, size_t errlen)
{
	if (rc == 0)
		snprintf(err, errlen, "the peer closed the connection");
	else
		snprintf(err, errlen, "%s", strerror(-rc));
	count(CNT_TLS_FAILED);
	return rc ? rc : -EPROTO;
}

static int handshake_failed(struct tls_session *t, int rc, char *err, size_t errlen)
{
	int level = 0;

	if (t->io.ended || t->io.error)
		return socket_failed(-t->io.error, err, errlen);
	switch (rc) {
	case GNUTLS_E_CERTIFICATE_REQUIRED:
	case GNUTLS_E_NO_CERTIFICATE_FOUND:
		snprintf(err, errlen, "the peer shows no certificate");
		count(CNT_TLS_UNTRUSTED);
		say_why(t, GNUTLS_A_CERTIFICATE_REQUIRED);
		return -EPERM;
	case GNUTLS_E_FATAL_ALERT_RECEIVED:
		snprintf(err, errlen, "the peer refuses: %s", gnutls_alert_get_name(gnutls_alert_get(t->s)));
		count(CNT_TLS_FAILED);
		return -EPROTO;
	case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
		snprintf(err, errlen, "the peer speaks neither TLS 1.2 nor 1.3");
		break;
	case GNUTLS_E_UNEXPECTED_PACKET:
	case GNUTLS_E_UNEXPECTED_PACKET_LENGTH:
	case GNUTLS_E_RECORD_OVERFLOW:
		snprintf(err, errlen, "the peer does not speak TLS (%s)", gnutls_strerror(rc));
		break;
	default: snprintf(err, errlen, "%s", gnutls_strerror(rc));
	}
	count(CNT_TLS_FAILED);
	say_why(t, (gnutls_alert_description_t)gnutls_error_to_alert(rc, &level));
	return -EPROTO;
}

/* GnuTLS's part is over: is the peer who it should be? */
static int handshake_done(struct tls_session *t, char *err, size_t errlen)
{
	gnutls_alert_description_t alert = GNUTLS_A_BAD_CERTIFICATE;
	int rc = peer_check(t, &alert, err, errlen);

	if (rc < 0) {
		count(CNT_TLS_UNTRUSTED);
		say_why(t, alert);
		return rc;
	}
	t->done = true;
	if (!t->server && gnutls_protocol_get_version(t->s) != GNUTLS_TLS1_3)
		tls_tickets_keep(t->context->tickets, t->context, t->name, &t->remote, t->s);
	return 0;
}

/* What is ours of the handshake must be out before we wait for the peer, or say that it is over. */
static int handshake_flush(struct tls_session *t, short *events, char *err, size_t errlen)
{
	int rc = tls_io_flush(&t->io);

	if (rc == -EAGAIN) {
		*events = POLLOUT;
		return rc;
	}
	return rc ? socket_failed(rc, err, errlen) : 0;
}

int tls_handshake(struct tls_session *t, short *events, char *err, size_t errlen)
{
	int rc = handshake_flush(t, events, err, errlen);

	while (!rc && !t->done) {
		int g = gnutls_handshake(t->s);
		if (g == GNUTLS_E_SUCCESS) {
			rc = handshake_done(t, err, errlen);
		} else if (g == GNUTLS_E_AGAIN || g == GNUTLS_E_INTERRUPTED) {
			rc = handshake_flush(t, events, err, errlen);
			if (rc)
				return rc;
			*events = POLLIN;
			return -EAGAIN;
		} else if (gnutls_error_is_fatal(g) || ++t->warnings > TLS_PATIENCE) {
			rc = handshake_failed(t, g, err, errlen);
		}
	}
	if (!rc)
		rc = handshake_flush(t, events, err, errlen);
	if (rc)
		return rc;
	t->io.direct = false;
	handshake_count(t);
	return 0;
}

/* --- bytes --- */

ssize_t tls_send(struct tls_session *t, const char *p, size_t len)
{
	int rc = tls_io_flush(&t->io);
	ssize_t n = (ssize_t)t->taken;

	if (rc)
		return rc;
	if (n) {
		t->taken = 0;
		return n;
	}
	pthread_mutex_lock(&t->lock);
	n = gnutls_record_send(t->s, p, len);
	pthread_mutex_unlock(&t->lock);
	if (n <= 0) /* nothing but memory keeps a record out of io.out */
		return n == GNUTLS_E_MEMORY_ERROR || n == GNUTLS_E_PUSH_ERROR ? -ENOMEM : -EPROTO;
	rc = tls_io_flush(&t->io);
	if (rc == -EAGAIN)
		t->taken = (size_t)n;
	return rc ? rc : n;
}

static ssize_t record_recv(struct tls_session *t, char *p, size_t len)
{
	pthread_mutex_lock(&t->lock);
	ssize_t n = gnutls_record_recv(t->s, p, len);
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* Bytes; 0: closed with a close_notify; -EAGAIN: GnuTLS has had all that was read; other -errno. */
static ssize_t recv_read(struct tls_session *t, char *p, size_t len)
{
	for (unsigned i = 0; i < TLS_PATIENCE;) {
		ssize_t n = record_recv(t, p, len);
		if (n >= 0)
			return n;
		if (n == GNUTLS_E_AGAIN) {
			/* Said also behind a key update or a ticket, whatever follows. */
			if (!t->io.in_len)
				return -EAGAIN;
		} else if (n == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal((int)n)) {
			return n == GNUTLS_E_MEMORY_ERROR ? -ENOMEM
							  : -EPROTO; /* nobody needs a renegotiation */
		} else {
			i++;
		}
	}
	return -EPROTO;
}

/* All records that are there already, as far as they fit. An end behind the first of them is told at the next call, and
 * again at each: GnuTLS says some things only once, a HelloRequest for one. */
static ssize_t recv_records(struct tls_session *t, char *p, size_t len)
{
	size_t got = 0;
	ssize_t n = 1;

	if (t->over)
		return t->failed;
	while (got < len && (n = recv_read(t, p + got, len - got)) > 0)
		got += (size_t)n;
	if (n <= 0 && n != -EAGAIN) {
		t->over = true;
		t->failed = (int)n;
	}
	return got ? (ssize_t)got : n;
}

ssize_t tls_recv(struct tls_session *t, char *p, size_t len)
{
	char room[TLS_READ];
	ssize_t n;

	while ((n = recv_records(t, p, len)) == -EAGAIN) {
		n = tls_io_fill(&t->io, room, sizeof(room));
		if (n <= 0)
			break; /* at the end without a close_notify: what SIP has received so far is framed */
	}
	int rc = tls_io_keep(&t->io);
	return rc ? rc : n;
}

bool tls_peer_is(const struct tls_session *t, struct slice name)
{
	return t->verified && tls_name_matches(t->s, name);
}
