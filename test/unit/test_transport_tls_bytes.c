/* What passes through a TLS session after its handshake: bytes in pieces, ends of all kinds, key updates,
 * renegotiation. */
#include <pthread.h>
#include <signal.h>

#include "test_tls.h"

#define TRANSFER 600000 /* bytes: more than a socket pair takes */

static struct tls_context *server, *client;
static char pattern[TRANSFER];

static int setup(void **state)
{
	int rc = tls_group_setup(state);
	certs_issue(&certs, "a", &(struct certs_spec){.dns = {"a.example"}});
	server = tls_context(&(struct tls_setup){.certificate = {"a"}});
	client = tls_context(&(struct tls_setup){0});
	for (unsigned i = 0; i < TRANSFER; i++)
		pattern[i] = (char)(i * 7 + i / 251);
	return rc;
}

static int teardown(void **state)
{
	tls_context_destroy(client);
	tls_context_destroy(server);
	return tls_group_teardown(state);
}

/* Ours is a server. */
static void with_client(struct tls_pair *p, const char *version)
{
	tls_sockets(p);
	tls_ours(&p->server, server, NULL);
	tls_plain(&p->client, false, version, NULL, NULL);
	tls_shake(p);
	tls_connected(p);
}

/* Ours is a client. */
static void with_server(struct tls_pair *p, const char *version)
{
	tls_sockets(p);
	tls_ours(&p->client, client, "a.example");
	tls_plain(&p->server, true, version, "a", NULL);
	tls_shake(p);
	tls_connected(p);
}

static const char *const versions[] = {ONLY_12, ONLY_13};

/* --- pieces --- */

/* `e` is offered `chunk` bytes more at each time, and what it did not take again. */
static void transfer(struct tls_end *from, struct tls_end *to, size_t chunk, size_t read)
{
	size_t sent = 0, offered = 0, got = 0;
	unsigned refused = 0;
	char *b = malloc(read);

	for (unsigned i = 0; got < TRANSFER; i++) {
		assert_true(i < TRANSFER);
		while (sent < TRANSFER) {
			offered = offered + chunk < TRANSFER ? offered + chunk : TRANSFER;
			ssize_t n = tls_end_send(from, pattern + sent, offered - sent);
			if (n == -EAGAIN) {
				refused++;
				break;
			}
			assert_in_range(n, 1, offered - sent);
			sent += (size_t)n;
		}
		for (;;) {
			ssize_t n = tls_end_recv(to, b, read);
			if (n == -EAGAIN)
				break;
			assert_in_range(n, 1, TRANSFER - got);
			assert_memory_equal(b, pattern + got, n);
			got += (size_t)n;
		}
	}
	assert_true(refused > 0);
	assert_int_equal(sent, TRANSFER);
	free(b);
}

static void test_pieces(void **state)
{
	struct tls_pair p;
	(void)state;
	for (unsigned v = 0; v < 2; v++) {
		with_client(&p, versions[v]);
		transfer(&p.server, &p.client, 900, 65536);
		assert_true(p.server.raw > TRANSFER);
		transfer(&p.server, &p.client, 100000, 10);
		transfer(&p.client, &p.server, 16384, 65536);
		transfer(&p.client, &p.server, 16384, 7); /* records that are taken in parts */
		tls_pair_close(&p);
		with_server(&p, versions[v]);
		transfer(&p.client, &p.server, 20000, 100);
		transfer(&p.server, &p.client, 700, 5000);
		tls_pair_close(&p);
	}
}

/* Many records in one read, and a record in many. */
static void test_borders(void **state)
{
	struct tls_pair p;
	char sealed[1000], got[100];
	(void)state;
	with_client(&p, NULL);
	for (unsigned i = 0; i < 10; i++)
		tls_say(&p.client, "abc");
	assert_int_equal(tls_recv(p.server.s, got, sizeof(got)), 30);
	assert_int_equal(tls_recv(p.server.s, got, sizeof(got)), -EAGAIN);
	/* The record passes us by, and arrives byte by byte. */
	int fd[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	gnutls_transport_set_int(p.client.g, fd[0]);
	tls_say(&p.client, "slowly");
	ssize_t n = read(fd[1], sealed, sizeof(sealed));
	assert_true(n > 6);
	for (ssize_t i = 0; i < n; i++) {
		assert_int_equal(tls_recv(p.server.s, got, sizeof(got)), -EAGAIN);
		assert_int_equal(write(p.client.fd, sealed + i, 1), 1);
	}
	tls_expect(&p.server, "slowly");
	close(fd[0]);
	close(fd[1]);
	tls_pair_close(&p);
}

/* --- ends --- */

static void expect_end(struct tls_end *e, ssize_t want)
{
	char b[100];
	ssize_t n = tls_recv(e->s, b, sizeof(b));
	if (n == -EAGAIN) /* the last read had emptied the socket: the next one is epoll's */
		n = tls_recv(e->s, b, sizeof(b));
	assert_int_equal(n, want);
	for (unsigned i = 0; i < 3; i++) /* and it stays so */
		assert_int_equal(tls_recv(e->s, b, sizeof(b)), want);
}

static void test_ends(void **state)
{
	struct tls_pair p;
	(void)state;
	for (unsigned v = 0; v < 2; v++) {
		for (unsigned behind = 0; behind < 2; behind++) {
			/* Announced. */
			with_client(&p, versions[v]);
			if (behind)
				tls_say(&p.client, "last");
			gnutls_bye(p.client.g, GNUTLS_SHUT_WR);
			if (behind)
				tls_expect(&p.server, "last");
			expect_end(&p.server, 0);
			tls_say(&p.server, "still"); /* that is one direction only */
			tls_expect(&p.client, "still");
			tls_pair_close(&p);
			/* Not announced. */
			with_client(&p, versions[v]);
			if (behind)
				tls_say(&p.client, "last");
			shutdown(p.client.fd, SHUT_WR);
			if (behind)
				tls_expect(&p.server, "last");
			expect_end(&p.server, 0);
			tls_pair_close(&p);
			/* No TLS any more. */
			with_client(&p, versions[v]);
			if (behind)
				tls_say(&p.client, "last");
			assert_int_equal(write(p.client.fd, "OPTIONS sip:a", 13), 13);
			if (behind)
				tls_expect(&p.server, "last");
			expect_end(&p.server, -EPROTO);
			tls_pair_close(&p);
			/* An alert. */
			with_client(&p, versions[v]);
			if (behind)
				tls_say(&p.client, "last");
			gnutls_alert_send(p.client.g, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR);
			if (behind)
				tls_expect(&p.server, "last");
			expect_end(&p.server, -EPROTO);
			tls_pair_close(&p);
		}
	}
}

static void test_gone(void **state)
{
	struct tls_pair p;
	(void)state;
	with_client(&p, NULL);
	close(p.client.fd);
	p.client.fd = -1;
	assert_int_equal(tls_send(p.server.s, "x", 1), -EPIPE);
	tls_pair_close(&p);
}

/* Warnings are passed over, to a point. */
static void test_warnings(void **state)
{
	struct tls_pair p;
	(void)state;
	with_client(&p, ONLY_12);
	for (unsigned i = 0; i < 3; i++)
		gnutls_alert_send(p.client.g, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED);
	tls_say(&p.client, "go on");
	tls_expect(&p.server, "go on");
	for (unsigned i = 0; i < 100; i++)
		gnutls_alert_send(p.client.g, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED);
	expect_end(&p.server, -EPROTO);
	tls_pair_close(&p);
}

static void read_all(struct tls_end *e, size_t len)
{
	char b[1000];
	unsigned nothing = 0;
	while (len) {
		ssize_t n = tls_end_recv(e, b, len < sizeof(b) ? len : sizeof(b));
		if (n == -EAGAIN)
			assert_true(++nothing < 10);
		else
			assert_in_range(n, 1, len);
		len -= n > 0 ? (size_t)n : 0;
	}
}

static void test_bye(void **state)
{
	struct tls_pair p;
	char b[100];
	(void)state;
	for (unsigned v = 0; v < 2; v++) {
		with_client(&p, versions[v]);
		tls_say(&p.server, "last");
		tls_bye(p.server.s);
		tls_expect(&p.client, "last");
		assert_int_equal(gnutls_record_recv(p.client.g, b, sizeof(b)), 0);
		tls_pair_close(&p);
		/* The kernel takes nothing: no word goes into the middle of a record. */
		with_client(&p, versions[v]);
		size_t sent = 0;
		ssize_t n;
		while ((n = tls_send(p.server.s, pattern, 16000)) > 0)
			sent += (size_t)n;
		assert_int_equal(n, -EAGAIN);
		tls_bye(p.server.s);
		read_all(&p.client, sent);
		tls_bye(p.server.s); /* now there is room: the rest of the record, then the word */
		read_all(&p.client, 16000);
		assert_int_equal(gnutls_record_recv(p.client.g, b, sizeof(b)), 0);
		tls_pair_close(&p);
	}
}

/* --- renegotiation --- */

static void test_renegotiation(void **state)
{
	struct tls_pair p;
	(void)state;
	for (unsigned behind = 0; behind < 2; behind++) {
		with_client(&p, ONLY_12);
		if (behind)
			tls_say(&p.client, "last");
		assert_int_equal(gnutls_handshake(p.client.g), GNUTLS_E_AGAIN);
		if (behind)
			tls_expect(&p.server, "last");
		expect_end(&p.server, -EPROTO);
		tls_pair_close(&p);
		with_server(&p, ONLY_12);
		if (behind)
			tls_say(&p.server, "last");
		assert_int_equal(gnutls_rehandshake(p.server.g), 0);
		if (behind)
			tls_expect(&p.client, "last");
		expect_end(&p.client, -EPROTO);
		tls_pair_close(&p);
	}
}

/* --- key updates --- */

static void test_key_update(void **state)
{
	struct tls_pair p;
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct tls_end *ours = i ? &p.client : &p.server, *peer = i ? &p.server : &p.client;
		if (i)
			with_server(&p, ONLY_13);
		else
			with_client(&p, ONLY_13);
		/* Theirs alone; then ours, too, which goes out before our next bytes. */
		assert_int_equal(gnutls_session_key_update(peer->g, 0), 0);
		tls_say(peer, "one");
		tls_expect(ours, "one");
		tls_say(ours, "two");
		tls_expect(peer, "two");
		assert_int_equal(gnutls_session_key_update(peer->g, GNUTLS_KU_PEER), 0);
		tls_say(peer, "three");
		tls_expect(ours, "three");
		tls_say(ours, "four");
		tls_expect(peer, "four");
		tls_say(ours, "five");
		tls_expect(peer, "five");
		/* Behind an update nothing may be left lying. */
		tls_say(peer, "a");
		assert_int_equal(gnutls_session_key_update(peer->g, 0), 0);
		tls_say(peer, "b");
		tls_expect(ours, "ab");
		tls_pair_close(&p);
	}
}

/* While a backlog waits: what is answered to the update comes behind it, whole. */
static void test_key_update_backlog(void **state)
{
	struct tls_pair p;
	char b[10];
	(void)state;
	with_client(&p, ONLY_13);
	size_t sent = 0;
	ssize_t n;
	while ((n = tls_send(p.server.s, pattern + sent, 1000)) > 0)
		sent += (size_t)n;
	assert_int_equal(n, -EAGAIN);
	assert_int_equal(gnutls_session_key_update(p.client.g, GNUTLS_KU_PEER), 0);
	tls_say(&p.client, "x");
	assert_int_equal(tls_recv(p.server.s, b, sizeof(b)), 1);
	size_t got = 0, more = sent + 200000;
	char *in = malloc(65536);
	while (got < more) {
		while (sent < more && (n = tls_send(p.server.s, pattern + sent, 1000)) > 0)
			sent += (size_t)n;
		while ((n = tls_end_recv(&p.client, in, 65536)) > 0) {
			assert_memory_equal(in, pattern + got, n);
			got += (size_t)n;
		}
		assert_int_equal(n, -EAGAIN);
	}
	assert_int_equal(got, sent);
	free(in);
	tls_pair_close(&p);
}

/* One thread sends, another receives, and the peer changes keys under both. */
struct sender {
	struct tls_session *s;
	int fd;
};

static void *send_all(void *arg)
{
	struct sender *x = arg;
	size_t sent = 0;
	while (sent < TRANSFER) {
		ssize_t n = tls_send(x->s, pattern + sent, TRANSFER - sent < 3000 ? TRANSFER - sent : 3000);
		struct pollfd f = {.fd = x->fd, .events = POLLOUT};
		if (n == -EAGAIN)
			poll(&f, 1, 1000);
		else if (n < 0)
			break;
		else
			sent += (size_t)n;
	}
	return (void *)(intptr_t)(sent == TRANSFER);
}

static void *receive_all(void *arg)
{
	struct sender *x = arg;
	size_t got = 0;
	char b[5000];
	while (got < TRANSFER) {
		ssize_t n = tls_recv(x->s, b, sizeof(b));
		struct pollfd f = {.fd = x->fd, .events = POLLIN};
		if (n == -EAGAIN)
			poll(&f, 1, 1000);
		else if (n <= 0 || (size_t)n > TRANSFER - got || memcmp(b, pattern + got, (size_t)n) != 0)
			break;
		else
			got += (size_t)n;
	}
	return (void *)(intptr_t)(got == TRANSFER);
}

static void test_both_ways(void **state)
{
	struct tls_pair p;
	pthread_t t[2];
	size_t sent = 0, got = 0, updated = 0;
	char b[5000];
	void *ok[2];
	(void)state;
	with_client(&p, ONLY_13);
	struct sender x = {p.server.s, p.server.fd};
	pthread_create(&t[0], NULL, send_all, &x);
	pthread_create(&t[1], NULL, receive_all, &x);
	while (sent < TRANSFER || got < TRANSFER) {
		struct pollfd f = {.fd = p.client.fd, .events = POLLIN | (sent < TRANSFER ? POLLOUT : 0)};
		assert_int_equal(poll(&f, 1, 5000), 1);
		if (sent >= updated && sent < TRANSFER) {
			assert_int_equal(gnutls_session_key_update(p.client.g, GNUTLS_KU_PEER), 0);
			updated += TRANSFER / 5; /* more than eight a second are too many for GnuTLS */
		}
		ssize_t n = sent < TRANSFER ? tls_end_send(&p.client, pattern + sent,
							   TRANSFER - sent < 2000 ? TRANSFER - sent : 2000)
					    : -EAGAIN;
		assert_true(n > 0 || n == -EAGAIN);
		if (n > 0)
			sent += (size_t)n;
		while ((n = tls_end_recv(&p.client, b, sizeof(b))) > 0) {
			assert_memory_equal(b, pattern + got, n);
			got += (size_t)n;
		}
		assert_int_equal(n, -EAGAIN);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], &ok[i]);
	assert_non_null(ok[0]);
	assert_non_null(ok[1]);
	tls_pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_borders),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_bye),
		cmocka_unit_test(test_renegotiation),
		cmocka_unit_test(test_key_update),
		cmocka_unit_test(test_key_update_backlog),
		cmocka_unit_test(test_both_ways),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup, teardown);
}
