/* TLS contexts, handshakes, and who is believed. What passes afterwards is in test_transport_tls_bytes.c, connections
 * are in test_transport_stream_tls.c. */
#include "test_tls.h"

static const struct certs_spec domain = {.cn = "a.example", .dns = {"a.example"}};

static void issue(const char *name, const struct certs_spec *spec)
{
	certs_issue(&certs, name, spec);
}

/* --- contexts --- */

static void refused(struct config_listen *l, const char *file, const char *why)
{
	struct tls_context *c;
	char err[300] = "";

	assert_int_equal(tls_context_create(l, tickets, &c, err, sizeof(err)), -EINVAL);
	if (!strstr(err, file) || !strstr(err, why))
		fail_msg("\"%s\" says neither %s nor \"%s\"", err, file, why);
}

static void encrypted_key(const char *file)
{
	gnutls_datum_t pem;
	assert_int_equal(gnutls_x509_privkey_export2_pkcs8(certs.key, GNUTLS_X509_FMT_PEM, "secret",
							   GNUTLS_PKCS_PBES2_AES_256, &pem),
			 0);
	certs_write(&certs, file, pem.data, pem.size);
	gnutls_free(pem.data);
}

/* Each error names the file, and what is wrong with it. */
static void test_wrong_files(void **state)
{
	static const char text[] = "Not a certificate.\n";
	char *crt = tls_file("a", "crt"), *key = tls_file("a", "key"), *none = certs_path(&certs, "none"),
	     *bad = certs_path(&certs, "bad");
	struct config_listen l = {
		.certificate = &crt, .certificate_count = 1, .key = &key, .key_count = 1, .ca = ""};
	struct tls_context *c;
	char err[300];

	(void)state;
	issue("a", &domain);
	issue("b", &domain);
	certs_write(&certs, "bad", text, sizeof(text) - 1);
	assert_int_equal(tls_context_create(&l, tickets, &c, err, sizeof(err)), 0);
	tls_context_destroy(c);
	l.certificate = &none;
	refused(&l, none, "No such file");
	l.certificate = &bad;
	refused(&l, bad, "certificate");
	l.certificate = &key;
	refused(&l, key, "there is none in it");
	l.certificate = &crt;
	l.key = &none;
	refused(&l, none, "No such file");
	l.key = &bad;
	refused(&l, bad, "key");
	encrypted_key("locked.key");
	char *locked = certs_path(&certs, "locked.key"), *other = tls_file("b", "key");
	l.key = &locked;
	refused(&l, locked, "encrypted");
	l.key = &other;
	refused(&l, other, "do not belong together");
	refused(&l, crt, "do not belong together");
	l.key = &key;
	l.ca = none;
	refused(&l, none, "No such file");
	l.ca = bad;
	refused(&l, bad, "no certificate");
	/* The second of two. */
	char *two[2] = {crt, none}, *keys[2] = {key, key};
	l = (struct config_listen){
		.certificate = two, .certificate_count = 2, .key = keys, .key_count = 2, .ca = ""};
	refused(&l, none, "No such file");
}

/* --- SNI --- */

/* The number in the certificate that a client gets which asks for `sni`. */
static void shows_to(struct tls_context *server, const char *sni, const char *file, const char *priority)
{
	struct tls_pair p;
	gnutls_datum_t pem;
	gnutls_x509_crt_t want;
	unsigned n;

	tls_sockets(&p);
	tls_ours(&p.server, server, NULL);
	tls_plain(&p.client, false, priority, NULL, sni);
	tls_shake(&p);
	tls_connected(&p);
	const gnutls_datum_t *got = gnutls_certificate_get_peers(p.client.g, &n);
	assert_int_equal(gnutls_load_file(tls_file(file, "crt"), &pem), 0);
	gnutls_x509_crt_init(&want);
	assert_int_equal(gnutls_x509_crt_import(want, &pem, GNUTLS_X509_FMT_PEM), 0);
	gnutls_free(pem.data);
	assert_int_equal(gnutls_x509_crt_export2(want, GNUTLS_X509_FMT_DER, &pem), 0);
	if (pem.size != got->size || memcmp(pem.data, got->data, pem.size) != 0)
		fail_msg("for %s it is not %s", sni ? sni : "nothing", file);
	gnutls_free(pem.data);
	gnutls_x509_crt_deinit(want);
	tls_pair_close(&p);
}

static void shows(struct tls_context *server, const char *sni, const char *file)
{
	shows_to(server, sni, file, ONLY_12);
	shows_to(server, sni, file, ONLY_13);
}

static void test_sni(void **state)
{
	static const struct certs_spec first = {.cn = "first", .dns = {"first.example"}},
				       second = {.cn = "second", .dns = {"second.example", "more.example"}},
				       uri = {.cn = "host", .uri = {"sip:uri.example"}};
	struct tls_context *c;

	(void)state;
	issue("first", &first);
	issue("second", &second);
	issue("uri", &uri);
	c = tls_context(&(struct tls_setup){.certificate = {"first", "second", "uri"}});
	shows(c, NULL, "first");
	shows(c, "first.example", "first");
	shows(c, "second.example", "second");
	shows(c, "more.example", "second");
	shows(c, "MORE.Example", "second");
	shows(c, "other.example", "first");
	/* A certificate made as RFC 5922 has it. */
	shows(c, "uri.example", "uri");
	tls_context_destroy(c);
}

/* The name decides, not the kind of the key; where two have the same name, what the client can do. */
static void test_sni_kinds(void **state)
{
	static const char rsa[] = ONLY_13 ":-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256",
			  ecdsa[] = ONLY_13 ":-SIGN-ALL:+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SECP256R1-SHA256";
	struct tls_context *c;

	(void)state;
	issue("rsa", &(struct certs_spec){.dns = {"rsa.example", "both.example"}, .rsa = 2048});
	issue("ec", &(struct certs_spec){.dns = {"ec.example", "both.example"}});
	for (unsigned i = 0; i < 2; i++) {
		c = tls_context(&(struct tls_setup){.certificate = {i ? "rsa" : "ec", i ? "ec" : "rsa"}});
		shows(c, "rsa.example", "rsa");
		shows(c, "ec.example", "ec");
		shows(c, "both.example", i ? "rsa" : "ec");
		shows(c, NULL, i ? "rsa" : "ec");
		shows_to(c, "both.example", "rsa", rsa);
		shows_to(c, "both.example", "ec", ecdsa);
		shows_to(c, NULL, "rsa", rsa);
		shows_to(c, NULL, "ec", ecdsa);
		tls_context_destroy(c);
	}
}

/* --- names --- */

static void check_names(const struct certs_spec *spec, const char *const *good, const char *const *bad)
{
	struct tls_context *server, *client;
	struct tls_pair p;

	issue("named", spec);
	server = tls_context(&(struct tls_setup){.certificate = {"named"}});
	client = tls_context(&(struct tls_setup){0});
	for (unsigned i = 0; good[i]; i++) {
		tls_connect(&p, server, client, good[i]);
		if (p.client.rc)
			fail_msg("%s: %s", good[i], p.client.err);
		assert_true(tls_peer_is(p.client.s, slice_str(good[i])));
		for (unsigned k = 0; bad[k]; k++)
			if (tls_peer_is(p.client.s, slice_str(bad[k])))
				fail_msg("taken for %s", bad[k]);
		tls_pair_close(&p);
	}
	for (unsigned i = 0; bad[i]; i++) {
		uint64_t untrusted = counters_sum(CNT_TLS_UNTRUSTED);
		tls_connect(&p, server, client, bad[i]);
		assert_int_equal(p.client.rc, -EPERM);
		assert_non_null(strstr(p.client.err, bad[i]));
		assert_int_equal(counters_sum(CNT_TLS_UNTRUSTED), untrusted + 1);
		tls_pair_close(&p);
	}
	tls_context_destroy(client);
	tls_context_destroy(server);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* RFC 5922 7.1 and 7.2. */
static void test_names(void **state)
{
	(void)state;
	check_names(&(struct certs_spec){.cn = "cn.example", .dns = {"dns.example", "*.wild.example"}},
		    NAMES("dns.example", "DNS.Example", "dns.example."),
		    NAMES("cn.example", "example", "x.dns.example", "x.wild.example", "192.0.2.1"));
	/* Where there is a SIP URI, it says what the domain is: a DNS name is then of the host. */
	check_names(&(struct certs_spec){.cn = "cn.example",
					 .dns = {"host.example"},
					 .uri = {"sip:uri.example", "https://web.example"}},
		    NAMES("uri.example", "URI.example"), NAMES("host.example", "web.example", "cn.example"));
	/* A URI of a user, or of another scheme, says nothing about a domain. */
	check_names(
		&(struct certs_spec){.cn = "cn.example",
				     .dns = {"host.example"},
				     .uri = {"sip:bob@user.example", "https://web.example", "sips:s.example"}},
		NAMES("host.example"), NAMES("user.example", "web.example", "s.example", "cn.example"));
	check_names(&(struct certs_spec){.cn = "Cn.example"}, NAMES("cn.EXAMPLE"),
		    NAMES("n.example", "cn.example.net"));
	/* The common name is for certificates without alternative names of any kind. */
	check_names(&(struct certs_spec){.cn = "cn.example", .ip = {"192.0.2.1"}}, NAMES("192.0.2.1"),
		    NAMES("cn.example", "192.0.2.2"));
	check_names(&(struct certs_spec){.cn = "192.0.2.1", .dns = {"d.example"}}, NAMES("d.example"),
		    NAMES("192.0.2.1"));
	check_names(&(struct certs_spec){.cn = "192.0.2.1"}, (const char *const[]){NULL}, NAMES("192.0.2.1"));
	check_names(&(struct certs_spec){.ip = {"192.0.2.1", "2001:db8::1"}},
		    NAMES("192.0.2.1", "2001:db8::1", "2001:DB8:0:0::1", "[2001:db8::1]"),
		    NAMES("192.0.2.2", "2001:db8::2"));
	check_names(&(struct certs_spec){.uri = {"sip:192.0.2.1", "sip:[2001:db8::1]"}},
		    NAMES("192.0.2.1", "2001:db8::1"), NAMES("192.0.2.2", "2001:db8::2"));
}

/* --- chains --- */

static void check_chain(const struct tls_setup *server, const struct tls_setup *client, const char *why)
{
	uint64_t untrusted = counters_sum(CNT_TLS_UNTRUSTED);
	struct tls_context *s = tls_context(server), *c = tls_context(client);
	struct tls_pair p;

	tls_connect(&p, s, c, "a.example");
	if (why) {
		assert_int_equal(p.client.rc, -EPERM);
		if (!strstr(p.client.err, why))
			fail_msg("\"%s\", not \"%s\"", p.client.err, why);
		assert_int_equal(counters_sum(CNT_TLS_UNTRUSTED), untrusted + 1);
		assert_false(tls_peer_is(p.client.s, SLICE_LIT("a.example")));
	} else {
		tls_connected(&p);
	}
	tls_pair_close(&p);
	tls_context_destroy(c);
	tls_context_destroy(s);
}

/* name.crt gets the certificate of `by` behind its own. */
static void append(const char *name, const char *by)
{
	gnutls_datum_t one, two;
	char *both, file[64];
	assert_int_equal(gnutls_load_file(tls_file(name, "crt"), &one), 0);
	assert_int_equal(gnutls_load_file(tls_file(by, "crt"), &two), 0);
	both = malloc(one.size + two.size);
	memcpy(both, one.data, one.size);
	memcpy(both + one.size, two.data, two.size);
	snprintf(file, sizeof(file), "%s.crt", name);
	certs_write(&certs, file, both, one.size + two.size);
	free(both);
	gnutls_free(one.data);
	gnutls_free(two.data);
}

static void test_chains(void **state)
{
	static const char server_auth[] = "1.3.6.1.5.5.7.3.1", client_auth[] = "1.3.6.1.5.5.7.3.2",
			  mail[] = "1.3.6.1.5.5.7.3.4", sip[] = "1.3.6.1.5.5.7.3.20", any[] = "2.5.29.37.0";
	const struct tls_setup client = {0};
	struct certs_spec s = domain;

	(void)state;
	issue("good", &s);
	check_chain(&(struct tls_setup){.certificate = {"good"}}, &client, NULL);
	s.from = -200000;
	s.to = -1000;
	issue("old", &s);
	check_chain(&(struct tls_setup){.certificate = {"old"}}, &client, "expired");
	s.from = 1000;
	s.to = 200000;
	issue("young", &s);
	check_chain(&(struct tls_setup){.certificate = {"young"}}, &client, "not valid yet");
	s = domain;
	s.self = true;
	issue("self", &s);
	check_chain(&(struct tls_setup){.certificate = {"self"}}, &client, "not trusted");
	check_chain(&(struct tls_setup){.certificate = {"self"}}, &(struct tls_setup){.ca = "self"}, NULL);
	/* Of a CA between, which the server must show. */
	issue("middle", &(struct certs_spec){.cn = "Middle CA", .ca = true});
	s = domain;
	s.by = "middle";
	issue("leaf", &s);
	check_chain(&(struct tls_setup){.certificate = {"leaf"}}, &client, "not trusted");
	append("leaf", "middle");
	check_chain(&(struct tls_setup){.certificate = {"leaf"}}, &client, NULL);
	s.by = "good"; /* which is no CA */
	issue("false", &s);
	append("false", "good");
	check_chain(&(struct tls_setup){.certificate = {"false"}}, &client, "");
	/* What it was issued for. */
	s = (struct certs_spec){.dns = {"a.example"}, .purpose = {mail}};
	issue("mail", &s);
	check_chain(&(struct tls_setup){.certificate = {"mail"}}, &client, "for something else");
	for (unsigned i = 0; i < 4; i++) {
		const char *good[] = {server_auth, client_auth, sip, any};
		s.purpose[1] = good[i];
		issue("use", &s);
		check_chain(&(struct tls_setup){.certificate = {"use"}}, &client, NULL);
	}
}

/* --- clients --- */

enum { WELCOME, REFUSED };

static void check_client(enum config_verify v, const char *priority, const char *certificate, int want,
			 bool known)
{
	struct tls_context *s = tls_context(&(struct tls_setup){.certificate = {"a"}, .verify = v}),
			   *c = tls_context(
				   &(struct tls_setup){.certificate = {certificate}, .priority = priority});
	uint64_t untrusted = counters_sum(CNT_TLS_UNTRUSTED);
	struct tls_pair p;
	char b[10];

	tls_connect(&p, s, c, "a.example");
	if (want == WELCOME) {
		tls_connected(&p);
		assert_int_equal(tls_peer_is(p.server.s, SLICE_LIT("client.example")), known);
		assert_false(tls_peer_is(p.server.s, SLICE_LIT("other.example")));
		tls_say(&p.server, "hello");
		tls_expect(&p.client, "hello");
	} else {
		assert_int_equal(p.server.rc, -EPERM);
		assert_int_equal(counters_sum(CNT_TLS_UNTRUSTED), untrusted + 1);
		/* With TLS 1.3 the client hears of it behind its handshake. */
		if (p.client.rc == 0)
			assert_int_equal(tls_recv(p.client.s, b, sizeof(b)), -EPROTO);
		else
			assert_non_null(
				strstr(p.client.err, certificate ? "refuses" : "refuses: Handshake failed"));
	}
	tls_pair_close(&p);
	tls_context_destroy(c);
	tls_context_destroy(s);
}

static void test_clients(void **state)
{
	static const struct certs_spec good = {.dns = {"client.example"}},
				       self = {.dns = {"client.example"}, .self = true},
				       old = {.dns = {"client.example"}, .from = -200000, .to = -1000};
	static const char *const version[] = {ONLY_12, ONLY_13};

	(void)state;
	issue("a", &domain);
	issue("client", &good);
	issue("client-self", &self);
	issue("client-old", &old);
	for (unsigned i = 0; i < 2; i++) {
		const char *v = version[i];
		check_client(VERIFY_NONE, v, NULL, WELCOME, false);
		check_client(VERIFY_NONE, v, "client", WELCOME, false); /* nobody asks for it */
		check_client(VERIFY_OPTIONAL, v, NULL, WELCOME, false);
		check_client(VERIFY_OPTIONAL, v, "client", WELCOME, true);
		check_client(VERIFY_OPTIONAL, v, "client-old", REFUSED, false);
		check_client(VERIFY_REQUIRE, v, NULL, REFUSED, false);
		check_client(VERIFY_REQUIRE, v, "client", WELCOME, true);
		check_client(VERIFY_REQUIRE, v, "client-old", REFUSED, false);
		/* GnuTLS does not show what is of none of the CAs that the server names. */
		check_client(VERIFY_REQUIRE, v, "client-self", REFUSED, false);
	}
}

/* --- resumption --- */

struct resume {
	struct tls_context *server, *client;
	const char *name;
};

/* One connection; true if both say that it resumed. The bytes behind the handshake bring the client its ticket. */
static bool resumes(const struct resume *r, bool known)
{
	uint64_t full = counters_sum(CNT_TLS_12) + counters_sum(CNT_TLS_13),
		 again = counters_sum(CNT_TLS_12_RESUMED) + counters_sum(CNT_TLS_13_RESUMED);
	struct tls_pair p;

	tls_connect(&p, r->server, r->client, r->name);
	tls_connected(&p);
	tls_say(&p.server, "hello");
	tls_expect(&p.client, "hello");
	tls_say(&p.client, "and you");
	tls_expect(&p.server, "and you");
	assert_int_equal(tls_peer_is(p.server.s, SLICE_LIT("client.example")), known);
	assert_true(tls_peer_is(p.client.s, slice_str(r->name)));
	tls_pair_close(&p);
	full = counters_sum(CNT_TLS_12) + counters_sum(CNT_TLS_13) - full;
	again = counters_sum(CNT_TLS_12_RESUMED) + counters_sum(CNT_TLS_13_RESUMED) - again;
	assert_true((full == 2 && again == 0) || (full == 0 && again == 2));
	return again == 2;
}

static void check_resume(const char *version)
{
	const struct tls_setup server = {.certificate = {"ab"}},
			       strict = {.certificate = {"ab"}, .verify = VERIFY_REQUIRE},
			       client = {.certificate = {"client"}, .priority = version};
	struct tls_tickets *theirs;
	assert_int_equal(tls_tickets_create(&theirs), 0);
	struct tls_setup foreign = server;
	foreign.tickets = theirs;
	struct resume r = {tls_context(&server), tls_context(&client), "a.example"};
	struct tls_context *other = tls_context(&strict), *elsewhere = tls_context(&foreign);

	assert_false(resumes(&r, false));
	assert_true(resumes(&r, false));
	assert_true(resumes(&r, false));
	/* What was verified for one name says nothing about another. */
	r.name = "b.example";
	assert_false(resumes(&r, false));
	assert_true(resumes(&r, false));
	/* Certificates loaded again: the key of the tickets is the process's. */
	tls_context_destroy(r.server);
	r.server = tls_context(&server);
	assert_true(resumes(&r, false));
	/* Another process. */
	struct tls_context *mine = r.server;
	r.server = elsewhere;
	assert_false(resumes(&r, false));
	/* Where clients are verified, a ticket from where they are not counts for nothing; and its own has the
	 * certificate in it. */
	r.server = mine;
	assert_false(resumes(&r, false));
	r.server = other;
	assert_false(resumes(&r, true));
	assert_true(resumes(&r, true));
	/* Our own certificates and CAs loaded again: nothing was verified by them yet. */
	tls_context_destroy(r.client);
	r.client = tls_context(&client);
	assert_false(resumes(&r, true));
	assert_true(resumes(&r, true));
	tls_context_destroy(r.client);
	tls_context_destroy(mine);
	tls_context_destroy(other);
	tls_context_destroy(elsewhere);
	tls_tickets_destroy(theirs);
}

static void test_resume(void **state)
{
	(void)state;
	issue("ab", &(struct certs_spec){.dns = {"a.example", "b.example"}});
	issue("client", &(struct certs_spec){.dns = {"client.example"}});
	check_resume(ONLY_12);
	check_resume(ONLY_13);
}

/* --- handshakes that fail --- */

static void check_failure(struct tls_pair *p, const char *why)
{
	uint64_t failed = counters_sum(CNT_TLS_FAILED);

	for (unsigned i = 0; p->server.rc == -EAGAIN; i++) {
		assert_true(i < TLS_STEPS);
		tls_step(&p->server);
		if (p->client.g)
			tls_step(&p->client);
	}
	assert_int_not_equal(p->server.rc, 0);
	if (!strstr(p->server.err, why))
		fail_msg("\"%s\", not \"%s\"", p->server.err, why);
	assert_int_equal(counters_sum(CNT_TLS_FAILED), failed + 1);
	tls_pair_close(p);
}

static void test_failures(void **state)
{
	static const char sip[] = "OPTIONS sip:a.example SIP/2.0\r\n", hello[] = "\x16\x03\x01\x02\x00\x01";
	struct tls_context *c;
	struct tls_pair p;

	(void)state;
	issue("a", &domain);
	c = tls_context(&(struct tls_setup){.certificate = {"a"}});
	/* No TLS. */
	tls_sockets(&p);
	tls_ours(&p.server, c, NULL);
	assert_int_equal(write(p.client.fd, sip, sizeof(sip) - 1), sizeof(sip) - 1);
	check_failure(&p, "does not speak TLS");
	/* Gone in the middle. */
	tls_sockets(&p);
	tls_ours(&p.server, c, NULL);
	assert_int_equal(write(p.client.fd, hello, sizeof(hello) - 1), sizeof(hello) - 1);
	tls_step(&p.server);
	assert_int_equal(p.server.rc, -EAGAIN);
	shutdown(p.client.fd, SHUT_WR);
	check_failure(&p, "closed the connection");
	/* Too old. */
	tls_sockets(&p);
	tls_ours(&p.server, c, NULL);
	tls_plain(&p.client, false, "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", NULL, NULL);
	check_failure(&p, "neither TLS 1.2 nor 1.3");
	/* It says why it goes. */
	tls_sockets(&p);
	tls_ours(&p.server, c, NULL);
	tls_plain(&p.client, false, ONLY_12, NULL, NULL);
	tls_step(&p.client);
	gnutls_alert_send(p.client.g, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR);
	p.client.rc = -EPROTO;
	check_failure(&p, "refuses");
	tls_context_destroy(c);
}

/* --- memory --- */

static void body(void)
{
	struct tls_context *s = tls_context(&(struct tls_setup){.certificate = {"a"}}),
			   *c = s ? tls_context(&(struct tls_setup){0}) : NULL;
	struct tls_pair p;
	ssize_t sent;
	char got[10];

	if (!s || !c) {
		assert_true(alloc_failed());
		tls_context_destroy(s);
		return;
	}
	tls_connect(&p, s, c, "a.example");
	if (p.server.rc || p.client.rc) {
		assert_true(alloc_failed());
	} else if ((sent = tls_send(p.server.s, "hello", 5)) != 5) {
		assert_int_equal(sent, -ENOMEM);
		assert_true(alloc_failed());
	} else {
		ssize_t n = tls_recv(p.client.s, got, 2);
		if (n == 2)
			n = tls_recv(p.client.s, got + 2, 8);
		assert_true(n == 3 || alloc_failed());
	}
	tls_pair_close(&p);
	tls_context_destroy(c);
	tls_context_destroy(s);
}

static void test_memory(void **state)
{
	(void)state;
	issue("a", &domain);
	UNIT_OOM(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_files), cmocka_unit_test(test_sni),
		cmocka_unit_test(test_sni_kinds),   cmocka_unit_test(test_names),
		cmocka_unit_test(test_chains),      cmocka_unit_test(test_clients),
		cmocka_unit_test(test_resume),      cmocka_unit_test(test_failures),
		cmocka_unit_test(test_memory),
	};
	return cmocka_run_group_tests(tests, tls_group_setup, tls_group_teardown);
}
