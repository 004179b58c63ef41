/* TLS connections in their acceptor: the first byte, and what GnuTLS holds back. Handshakes and certificates have tests
 * of their own. */
#include "certs.h"
#include "test_stream_options.h"

#define STREAM_READ_BYTES 65536 /* STREAM_READ of src/transport/stream_p.h */

static struct certs certs;
static char *cert_file, *key_file;

static int setup(void **state)
{
	test_setup(state);
	certs_open(&certs);
	certs_issue(&certs, "example", &(struct certs_spec){.cn = "example.com", .dns = {"example.com"}});
	cert_file = certs_path(&certs, "example.crt");
	key_file = certs_path(&certs, "example.key");
	return 0;
}

static int teardown(void **state)
{
	certs_close(&certs);
	return test_teardown(state);
}

static void tls_open(struct stream_fixture *f, uint32_t handshake_timeout)
{
	stream_prepare(f, 1);
	struct config_stream *o = stream_listener(f, FLOW_TLS, "127.0.0.1");
	if (handshake_timeout)
		o->handshake_timeout = handshake_timeout;
	f->t.listen[0].certificate = &cert_file;
	f->t.listen[0].certificate_count = 1;
	f->t.listen[0].key = &key_file;
	f->t.listen[0].key_count = 1;
	f->t.listen[0].ca = certs_path(&certs, "ca.crt");
	f->t.listen[0].verify_client = VERIFY_OPTIONAL;
	stream_start(f);
}

/* --- a client --- */

struct client {
	gnutls_session_t s;
	gnutls_certificate_credentials_t cred;
	int fd;
};

static void client_open_as(struct client *c, const struct addr *to, bool certificate)
{
	int rc;
	c->fd = peer_connect(to);
	gnutls_certificate_allocate_credentials(&c->cred);
	if (certificate)
		assert_int_equal(
			gnutls_certificate_set_x509_key_file(c->cred, cert_file, key_file, GNUTLS_X509_FMT_PEM),
			0);
	gnutls_init(&c->s, GNUTLS_CLIENT);
	gnutls_set_default_priority(c->s);
	gnutls_credentials_set(c->s, GNUTLS_CRD_CERTIFICATE, c->cred);
	gnutls_transport_set_int(c->s, c->fd);
	do
		rc = gnutls_handshake(c->s);
	while (rc < 0 && !gnutls_error_is_fatal(rc));
	assert_int_equal(rc, 0);
}

static void client_open(struct client *c, const struct addr *to)
{
	client_open_as(c, to, false);
}

static void client_close(struct client *c)
{
	gnutls_deinit(c->s);
	gnutls_certificate_free_credentials(c->cred);
	close(c->fd);
}

static void client_write(struct client *c, const char *p, size_t n)
{
	while (n) {
		ssize_t r = gnutls_record_send(c->s, p, n);
		assert_true(r > 0);
		p += r;
		n -= (size_t)r;
	}
}

/* Some bytes; 0: the end, announced. */
static size_t client_some(struct client *c, char *p, size_t n)
{
	ssize_t r;
	do
		r = gnutls_record_recv(c->s, p, n);
	while (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED);
	assert_true(r >= 0);
	return (size_t)r;
}

static void client_expect(struct client *c, const char *text)
{
	char buf[1000];
	size_t n = strlen(text), at = 0;
	while (at < n)
		at += client_some(c, buf + at, n - at);
	assert_memory_equal(buf, text, n);
}

/* --- the first byte --- */

static void test_not_tls(void **state)
{
	struct stream_fixture f;
	char text[1000];
	uint64_t not_tls = counters_sum(CNT_TLS_NOT_TLS), closed = counters_sum(CNT_CLOSED_HANDSHAKE);
	(void)state;
	tls_open(&f, 0);
	int fd = peer_connect(&f.at);
	peer_say(fd, options(text, "plain"));
	peer_expect_end(fd);
	await_count(CNT_TLS_NOT_TLS, not_tls + 1);
	await_count(CNT_CLOSED_HANDSHAKE, closed + 1);
	assert_int_equal(f.up.count, 0);
	close(fd);
	stream_stop(&f);
}

/* Silence costs no thread, and ends. */
static void test_silent(void **state)
{
	enum { MANY = 100 };
	struct stream_fixture f;
	uint64_t timeout = counters_sum(CNT_TLS_TIMEOUT), peer = counters_sum(CNT_CLOSED_PEER);
	int fd[MANY];
	(void)state;
	tls_open(&f, 300);
	msec_t start = clock_mono_ms();
	for (unsigned i = 0; i < MANY; i++)
		fd[i] = peer_connect(&f.at);
	await_gauge(CNT_CONN_TLS_IN_HANDSHAKING, MANY);
	assert_int_equal(counters_sum(CNT_WRITERS), 0);
	close(fd[0]); /* one goes by itself */
	await_count(CNT_CLOSED_PEER, peer + 1);
	for (unsigned i = 1; i < MANY; i++)
		peer_expect_end(fd[i]);
	assert_in_range(clock_mono_ms() - start, 300, 3000);
	await_count(CNT_TLS_TIMEOUT, timeout + MANY - 1);
	for (unsigned i = 1; i < MANY; i++)
		close(fd[i]);
	stream_stop(&f);
}

/* The handshake begins, then nothing: its writer waits, and gives up. */
static void test_half_handshake(void **state)
{
	struct stream_fixture f;
	uint64_t timeout = counters_sum(CNT_TLS_TIMEOUT), closed = counters_sum(CNT_CLOSED_HANDSHAKE);
	(void)state;
	tls_open(&f, 300);
	int slow = peer_connect(&f.at), gone = peer_connect(&f.at);
	peer_write(slow, "\x16\x03\x01", 3);
	peer_write(gone, "\x16\x03\x01", 3);
	await_gauge(CNT_WRITERS, 2);
	peer_reset(gone);
	await_gauge(CNT_WRITERS, 1);
	peer_expect_end(slow);
	await_count(CNT_TLS_TIMEOUT, timeout + 1);
	await_count(CNT_CLOSED_HANDSHAKE, closed + 2);
	await_gauge(CNT_WRITERS, 0);
	close(slow);
	stream_stop(&f);
}

/* Handshakes that hang do not take the last writers: a connection can still be opened. */
static void test_hanging_handshakes(void **state)
{
	enum { WRITERS = 8, GUESTS = 6, MANY = 10 };
	struct stream_fixture f;
	struct conn_hop hop = {.proto = FLOW_TLS, .name = SLICE_LIT("example.com")};
	struct iovec v = {"\r\n\r\n", 4};
	uint64_t refused = counters_sum(CNT_CONN_REFUSED_WRITERS), id;
	int fd[MANY];
	(void)state;
	tls_open(&f, 5000);
	atomic_store(&f.s->writers_max, WRITERS);
	for (unsigned i = 0; i < MANY; i++) {
		fd[i] = peer_connect(&f.at);
		peer_write(fd[i], "\x16", 1);
		if (i < GUESTS)
			await_gauge(CNT_WRITERS, i + 1);
		else
			peer_expect_end(fd[i]);
	}
	assert_int_equal(counters_sum(CNT_CONN_REFUSED_WRITERS), refused + MANY - GUESTS);
	assert_int_equal(counters_sum(CNT_WRITERS), GUESTS);
	int listening = peer_listen("127.0.0.1", 4, &hop.remote);
	assert_int_equal(streams_connect(f.s, &hop, &id), 0);
	struct conn *c = streams_get(f.s, id);
	conn_send(c, &v, 1, clock_mono_ms());
	int other = peer_accept(listening);
	peer_expect(other, "\x16"); /* its writer is at work */
	assert_int_equal(counters_sum(CNT_WRITERS), GUESTS + 1);
	close(other);
	close(listening);
	conn_put(c);
	/* Who goes makes room. */
	for (unsigned i = 0; i < MANY; i++)
		close(fd[i]);
	await_gauge(CNT_WRITERS, 0);
	struct client k;
	client_open(&k, &f.at);
	client_close(&k);
	stream_stop(&f);
}

/* --- messages --- */

static void test_messages(void **state)
{
	enum { MANY = 600 };
	struct stream_fixture f;
	struct client c;
	char text[1000], id[32], *all = malloc(MANY * 1000);
	size_t n = 0;
	uint64_t in = counters_sum(CNT_IN_TLS_OPTIONS), pings = counters_sum(CNT_PING_IN);
	(void)state;
	tls_open(&f, 0);
	client_open(&c, &f.at);
	client_write(&c, options(text, "first"), strlen(options(text, "first")));
	const struct packet *p = take(&f, 0);
	upper_assert_call_id(p, "first");
	assert_int_equal(p->flow.proto, FLOW_TLS);
	struct conn *conn = streams_get(f.s, p->flow.conn);
	assert_int_equal(conn_proto(conn), FLOW_TLS);
	assert_int_equal(counters_sum(CNT_CONN_TLS_IN_OPEN), 1);
	/* Byte by byte, each in a record. */
	for (const char *s = options(text, "slow"); *s; s++)
		client_write(&c, s, 1);
	upper_assert_call_id(take(&f, 1), "slow");
	client_write(&c, "\r\n\r\n", 4);
	client_expect(&c, "\r\n");
	/* More than is read at once, in records of 16 kB. */
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "many-%u", i);
		n += (size_t)sprintf(all + n, "%s", options(text, id));
	}
	client_write(&c, all, n);
	take(&f, MANY + 1);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "many-%u", i);
		upper_assert_call_id(f.up.taken[i + 2], id);
	}
	free(all);
	assert_int_equal(counters_sum(CNT_IN_TLS_OPTIONS) - in, MANY + 2);
	assert_int_equal(counters_sum(CNT_PING_IN) - pings, 1);
	struct iovec v[2] = {{"hello ", 6}, {"world", 5}};
	conn_send(conn, v, 2, clock_mono_ms());
	client_expect(&c, "hello world");
	/* Closed by us: announced. */
	conn_close(conn, CONN_ADMIN);
	conn_put(conn);
	assert_int_equal(client_some(&c, text, sizeof(text)), 0);
	client_close(&c);
	await_gauge(CNT_CONN_TLS_IN_CLOSED, 0);
	stream_stop(&f);
}

/* A message of exactly `len` bytes. */
static void exact(char *p, size_t len, const char *call_id)
{
	size_t body = 0;
	for (unsigned i = 0; i < 2; i++) { /* first to see how long the header is */
		int n = snprintf(
			p, len,
			"MESSAGE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKx\r\n"
			"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: %s\r\n"
			"CSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\nContent-Length: %04zu\r\n\r\n",
			call_id, body);
		body = len - (size_t)n;
	}
	memset(p + len - body, 'x', body);
}

/* What is read at once ends inside of a record: its rest is in the session, where epoll does not see it, and nothing
 * follows. */
static void test_rest_of_a_record(void **state)
{
	enum { SIZE = 9000, MANY = STREAM_READ_BYTES / SIZE + 1 };
	struct stream_fixture f;
	struct client c;
	char text[1000], *message = malloc(SIZE + 1);
	(void)state;
	tls_open(&f, 0);
	client_open(&c, &f.at);
	client_write(&c, options(text, "first"), strlen(options(text, "first")));
	take(&f, 0);
	pthread_mutex_lock(&f.up.lock); /* the acceptor waits with the next one until all are there */
	client_write(&c, options(text, "next"), strlen(options(text, "next")));
	exact(message, SIZE, "exact");
	for (unsigned i = 0; i < MANY; i++)
		client_write(&c, message, SIZE);
	pthread_mutex_unlock(&f.up.lock);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(take(&f, i + 2)->msg->len, SIZE);
	free(message);
	client_close(&c);
	stream_stop(&f);
}

/* A backlog, from several threads' point of view one writer's; all of it arrives. */
static void test_backlog(void **state)
{
	struct stream_fixture f;
	struct client c;
	static char block[30000], sink[30000];
	char text[1000];
	size_t sent = 0;
	(void)state;
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7 + i / 256);
	tls_open(&f, 0);
	client_open(&c, &f.at);
	client_write(&c, options(text, "first"), strlen(options(text, "first")));
	struct conn *conn = streams_get(f.s, take(&f, 0)->flow.conn);
	for (unsigned extra = 0; extra < 5;) {
		struct iovec v[3] = {
			{block, 100}, {block + 100, 17000}, {block + 17100, sizeof(block) - 17100}};
		conn_send(conn, v, 3, clock_mono_ms());
		sent += sizeof(block);
		extra += counters_sum(CNT_WRITERS) > 0;
	}
	for (; sent; sent -= sizeof(block)) {
		for (size_t at = 0; at < sizeof(sink);)
			at += client_some(&c, sink + at, sizeof(sink) - at);
		assert_memory_equal(sink, block, sizeof(sink));
	}
	await_gauge(CNT_WRITERS, 0);
	conn_put(conn);
	client_close(&c);
	stream_stop(&f);
}

/* The last answer, then a proper end, though the client goes on talking. */
static void test_bad_length(void **state)
{
	static const char bad[] = "OPTIONS sip:b SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKx\r\n"
				  "From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: x\r\n"
				  "CSeq: 1 OPTIONS\r\n\r\n";
	struct stream_fixture f;
	struct client c;
	char text[1000];
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	tls_open(&f, 0);
	client_open(&c, &f.at);
	client_write(&c, bad, sizeof(bad) - 1);
	client_write(&c, bad, sizeof(bad) - 1);
	text[client_some(&c, text, sizeof(text) - 1)] = '\0';
	assert_memory_equal(text, "SIP/2.0 400 ", 12);
	assert_int_equal(client_some(&c, text, sizeof(text)), 0);
	client_close(&c);
	await_count(CNT_CLOSED_PROTOCOL, closed + 1);
	stream_stop(&f);
}

/* What is no TLS any more after the handshake. */
static void test_broken(void **state)
{
	struct stream_fixture f;
	struct client c;
	char text[1000];
	uint64_t closed = counters_sum(CNT_CLOSED_PROTOCOL);
	(void)state;
	tls_open(&f, 0);
	client_open(&c, &f.at);
	client_write(&c, options(text, "x"), strlen(options(text, "x")));
	take(&f, 0);
	peer_say(c.fd, "OPTIONS sip:b SIP/2.0\r\n");
	await_count(CNT_CLOSED_PROTOCOL, closed + 1);
	client_close(&c);
	stream_stop(&f);
}

/* To our own listener: both ends are here. */
static void test_outbound(void **state)
{
	struct stream_fixture f;
	struct conn_hop hop = {.proto = FLOW_TLS, .name = SLICE_LIT("example.com")};
	struct iovec v;
	char text[1000];
	uint64_t id, same, other;
	(void)state;
	tls_open(&f, 0);
	hop.remote = f.at;
	assert_int_equal(streams_connect(f.s, &hop, &id), 0);
	struct conn *c = streams_get(f.s, id);
	options(text, "there");
	v = (struct iovec){text, strlen(text)};
	conn_send(c, &v, 1, clock_mono_ms());
	const struct packet *p = take(&f, 0);
	upper_assert_call_id(p, "there");
	struct conn *in = streams_get(f.s, p->flow.conn);
	assert_true(conn_inbound(in));
	test_message(text, sizeof(text), "SIP/2.0 200 OK", "back", ";tag=2", "1 OPTIONS");
	v = (struct iovec){text, strlen(text)};
	conn_send(in, &v, 1, clock_mono_ms());
	p = take(&f, 1);
	upper_assert_call_id(p, "back");
	assert_int_equal(p->flow.conn, id);
	assert_int_equal(p->flow.proto, FLOW_TLS);
	/* The same name is the same connection, in whatever case. */
	hop.name = SLICE_LIT("EXAMPLE.com");
	assert_int_equal(streams_connect(f.s, &hop, &same), 0);
	assert_int_equal(same, id);
	/* For another name there is none, and its handshake fails. */
	uint64_t untrusted = counters_sum(CNT_TLS_UNTRUSTED), closed = counters_sum(CNT_CLOSED_HANDSHAKE);
	hop.name = SLICE_LIT("other.example");
	assert_int_equal(streams_connect(f.s, &hop, &other), 0);
	assert_int_not_equal(other, id);
	struct conn *d = streams_get(f.s, other);
	conn_send(d, &v, 1, clock_mono_ms());
	await_count(CNT_TLS_UNTRUSTED, untrusted + 1);
	await_count(CNT_CLOSED_HANDSHAKE, closed + 1);
	await_forgotten(f.s, other);
	conn_put(d);
	conn_put(in);
	conn_put(c);
	hop.name = SLICE_NONE;
	assert_int_equal(streams_connect(f.s, &hop, &other), -EINVAL);
	stream_stop(&f);
}

/* RFC 5923: who has shown a certificate for a name is the way to it; the first who asks, and not who has shown none. */
static void test_alias(void **state)
{
	struct stream_fixture f;
	struct conn_hop hop = {.proto = FLOW_TLS, .name = SLICE_LIT("example.com")};
	struct client peer[3];
	struct conn *c[3];
	char text[1000], id[16];
	uint64_t found;
	(void)state;
	tls_open(&f, 0);
	for (unsigned i = 0; i < 3; i++) {
		client_open_as(&peer[i], &f.at, i > 0);
		snprintf(id, sizeof(id), "alias-%u", i);
		client_write(&peer[i], options(text, id), strlen(options(text, id)));
		c[i] = streams_get(f.s, take(&f, i)->flow.conn);
	}
	hop.remote = *conn_remote(c[0]);
	hop.remote.port = 5099;
	conn_alias(c[0], 5099, hop.name);
	conn_alias(c[1], 5099, SLICE_LIT("other.example"));
	assert_null(c[0]->name);
	assert_null(c[1]->name);
	conn_alias(c[1], 5099, hop.name);
	assert_int_equal(streams_connect(f.s, &hop, &found), 0);
	assert_int_equal(found, conn_id(c[1]));
	/* Taken: but each of its requests asks. */
	conn_alias(c[2], 5099, hop.name);
	const char *name = c[2]->name;
	conn_alias(c[2], 5099, hop.name);
	assert_ptr_equal(c[2]->name, name);
	assert_int_equal(streams_connect(f.s, &hop, &found), 0);
	assert_int_equal(found, conn_id(c[1]));
	conn_close(c[1], CONN_ADMIN);
	conn_alias(c[2], 5099, hop.name);
	assert_int_equal(streams_connect(f.s, &hop, &found), 0);
	assert_int_equal(found, conn_id(c[2]));
	for (unsigned i = 0; i < 3; i++) {
		conn_put(c[i]);
		client_close(&peer[i]);
	}
	stream_stop(&f);
}

/* In the middle of everything. */
static void test_shutdown(void **state)
{
	struct stream_fixture f;
	struct client c;
	char text[1000];
	(void)state;
	tls_open(&f, 5000);
	client_open(&c, &f.at);
	client_write(&c, options(text, "x"), 100);
	int silent = peer_connect(&f.at), half = peer_connect(&f.at);
	peer_write(half, "\x16\x03\x01", 3);
	await_gauge(CNT_WRITERS, 1);
	await_gauge(CNT_CONN_TLS_IN_HANDSHAKING, 2);
	msec_t start = clock_mono_ms();
	stream_stop(&f);
	assert_true(clock_mono_ms() - start < 2000);
	client_close(&c);
	close(silent);
	close(half);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_tls),        cmocka_unit_test(test_silent),
		cmocka_unit_test(test_half_handshake), cmocka_unit_test(test_hanging_handshakes),
		cmocka_unit_test(test_messages),       cmocka_unit_test(test_rest_of_a_record),
		cmocka_unit_test(test_backlog),        cmocka_unit_test(test_bad_length),
		cmocka_unit_test(test_broken),         cmocka_unit_test(test_outbound),
		cmocka_unit_test(test_alias),          cmocka_unit_test(test_shutdown),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
