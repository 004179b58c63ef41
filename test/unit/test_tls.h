/* TLS sessions of ours over a socket pair, with each other or with a peer that is GnuTLS alone. One thread: nothing of
 * ours waits. */
#ifndef TEST_TLS_H
#define TEST_TLS_H

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/counters.h"
#include "certs.h"
#include "transport/tls_session_p.h"

#define TLS_STEPS 10000 /* that a handshake or a transfer takes at the most */
#define ONLY_12   "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define ONLY_13   "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static struct certs certs;
static struct tls_tickets *tickets; /* of "the process" that a test is about */

/* What a context is made of: names of certificates of ours; NULL: no more. */
struct tls_setup {
	const char *certificate[CERTS_NAMES];
	const char *ca; /* NULL: ours */
	enum config_verify verify;
	const char *priority;        /* NULL: the product's */
	struct tls_tickets *tickets; /* NULL: `tickets` */
};

static inline char *tls_file(const char *name, const char *kind)
{
	char file[64];
	snprintf(file, sizeof(file), "%s.%s", name, kind);
	return certs_path(&certs, file);
}

/* NULL only when memory is made to fail. */
static inline struct tls_context *tls_context(const struct tls_setup *s)
{
	char *crt[CERTS_NAMES], *key[CERTS_NAMES], err[300] = "";
	struct config_listen l = {.certificate = crt, .key = key, .verify_client = s->verify};
	struct tls_context *c;

	for (unsigned i = 0; i < CERTS_NAMES && s->certificate[i]; i++) {
		crt[l.certificate_count++] = tls_file(s->certificate[i], "crt");
		key[l.key_count++] = tls_file(s->certificate[i], "key");
	}
	l.ca = tls_file(s->ca ? s->ca : "ca", "crt");
	if (tls_context_create(&l, s->tickets ? s->tickets : tickets, &c, err, sizeof(err)) < 0) {
		if (!alloc_failed())
			fail_msg("%s", err);
		return NULL;
	}
	if (s->priority) {
		gnutls_priority_deinit(c->priority);
		assert_int_equal(gnutls_priority_init(&c->priority, s->priority, NULL), 0);
	}
	return c;
}

/* --- ends --- */

/* One of both ends: a session of ours, or one of GnuTLS's own. */
struct tls_end {
	struct tls_session *s; /* ours */
	_Atomic uint64_t raw;
	char err[256];
	gnutls_session_t g; /* the other kind */
	gnutls_certificate_credentials_t cred;
	int fd;
	int rc; /* of the handshake; -EAGAIN: it is not over */
};

struct tls_pair {
	struct tls_end server, client;
};

static inline void tls_sockets(struct tls_pair *p)
{
	int fd[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	memset(p, 0, sizeof(*p));
	p->server.fd = fd[0];
	p->client.fd = fd[1];
	p->server.rc = p->client.rc = -EAGAIN;
}

static inline void tls_ours(struct tls_end *e, struct tls_context *c, const char *name)
{
	int rc = tls_session_create(c, e->fd, !name, name, &e->raw, &e->s);
	if (rc) {
		assert_true(alloc_failed());
		e->rc = rc;
		shutdown(e->fd, SHUT_WR);
	}
}

/* The certificate and CA may be NULL. */
static inline void tls_plain(struct tls_end *e, bool server, const char *priority, const char *certificate,
			     const char *sni)
{
	gnutls_certificate_allocate_credentials(&e->cred);
	if (certificate)
		assert_true(gnutls_certificate_set_x509_key_file(e->cred, tls_file(certificate, "crt"),
								 tls_file(certificate, "key"),
								 GNUTLS_X509_FMT_PEM) >= 0);
	gnutls_init(&e->g, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK);
	assert_int_equal(gnutls_priority_set_direct(e->g, priority ? priority : "NORMAL", NULL), 0);
	gnutls_credentials_set(e->g, GNUTLS_CRD_CERTIFICATE, e->cred);
	gnutls_transport_set_int(e->g, e->fd);
	if (sni)
		assert_int_equal(gnutls_server_name_set(e->g, GNUTLS_NAME_DNS, sni, strlen(sni)), 0);
}

static inline void tls_end_close(struct tls_end *e)
{
	tls_session_destroy(e->s);
	if (e->g)
		gnutls_deinit(e->g);
	if (e->cred)
		gnutls_certificate_free_credentials(e->cred);
	if (e->fd >= 0)
		close(e->fd);
}

static inline void tls_pair_close(struct tls_pair *p)
{
	tls_end_close(&p->client);
	tls_end_close(&p->server);
}

/* --- handshakes --- */

static inline void tls_step(struct tls_end *e)
{
	short events = 0;

	if (e->rc != -EAGAIN)
		return;
	if (e->s) {
		e->rc = tls_handshake(e->s, &events, e->err, sizeof(e->err));
		if (e->rc == -EAGAIN)
			assert_true(events == POLLIN || events == POLLOUT);
		if (e->rc && e->rc != -EAGAIN && !alloc_failed())
			assert_string_not_equal(e->err, "");
	} else {
		e->rc = gnutls_handshake(e->g);
		if (e->rc < 0 && !gnutls_error_is_fatal(e->rc))
			e->rc = -EAGAIN;
	}
	if (e->rc && e->rc != -EAGAIN)
		shutdown(e->fd, SHUT_WR);
}

/* Until both ends are done with it, one way or the other. */
static inline void tls_shake(struct tls_pair *p)
{
	for (unsigned i = 0; p->server.rc == -EAGAIN || p->client.rc == -EAGAIN; i++) {
		assert_true(i < TLS_STEPS);
		tls_step(&p->client);
		tls_step(&p->server);
	}
}

/* Both ends ours. */
static inline void tls_connect(struct tls_pair *p, struct tls_context *server, struct tls_context *client,
			       const char *name)
{
	tls_sockets(p);
	tls_ours(&p->server, server, NULL);
	tls_ours(&p->client, client, name);
	tls_shake(p);
}

static inline void tls_connected(const struct tls_pair *p)
{
	if (p->server.rc || p->client.rc)
		fail_msg("server %d %s, client %d %s", p->server.rc, p->server.err, p->client.rc,
			 p->client.err);
}

/* --- bytes --- */

static inline ssize_t tls_end_send(struct tls_end *e, const char *b, size_t len)
{
	if (e->s)
		return tls_send(e->s, b, len);
	ssize_t n = gnutls_record_send(e->g, b, len);
	return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : n;
}

static inline ssize_t tls_end_recv(struct tls_end *e, char *b, size_t len)
{
	if (e->s)
		return tls_recv(e->s, b, len);
	ssize_t n = gnutls_record_recv(e->g, b, len);
	return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? -EAGAIN : n;
}

static inline void tls_say(struct tls_end *e, const char *text)
{
	assert_int_equal(tls_end_send(e, text, strlen(text)), strlen(text));
}

/* It is there already. */
static inline void tls_expect(struct tls_end *e, const char *text)
{
	char got[1000];
	ssize_t n = -EAGAIN;
	for (unsigned i = 0; n == -EAGAIN && i < 10; i++)
		n = tls_end_recv(e, got, sizeof(got));
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static inline int tls_group_setup(void **state)
{
	(void)state;
	certs_open(&certs);
	return tls_tickets_create(&tickets);
}

static inline int tls_group_teardown(void **state)
{
	(void)state;
	tls_tickets_destroy(tickets);
	certs_close(&certs);
	return 0;
}

#endif
