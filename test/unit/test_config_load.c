/* Files and command lines: what they give. What is wrong in one is in test_config_errors.c. */
#include "base/clock.h"
#include "sip/message.h"
#include "test_config_p.h"

static struct config *good_with(const char *text, const struct config_overrides *ov)
{
	struct config *c;

	if (load(text, ov, &c) != 0)
		fail_msg("refused: %s\n%s", text, err);
	return c;
}

static struct config *good(const char *text)
{
	return good_with(text, &none);
}

static void assert_stream_defaults(const struct config_listen *l)
{
	const struct config_stream *s = &l->stream;

	assert_int_equal(s->keepalive_idle, 30000);
	assert_int_equal(s->keepalive_interval, 10000);
	assert_int_equal(s->keepalive_probes, 3);
	assert_int_equal(s->ack_timeout, 2000);
	assert_int_equal(s->user_timeout, 20000);
	assert_int_equal(s->write_timeout, 10000);
	assert_int_equal(s->connect_timeout, 5000);
	assert_int_equal(s->handshake_timeout, 5000);
	assert_int_equal(s->message_timeout, 10000);
	assert_int_equal(s->idle_timeout, 0);
	assert_int_equal(s->crlf_interval, 0);
	assert_int_equal(s->queue_limit, 256 << 10);
	assert_int_equal(s->max_message, 64 << 10);
	assert_int_equal(s->max_connections, 100000);
	assert_int_equal(s->max_connections_per_address, 1000);
	assert_int_equal(l->certificate_count + l->key_count, 0);
	assert_string_equal(l->ca, "");
	assert_int_equal(l->verify_client, VERIFY_NONE);
}

static void assert_defaults(const struct config *c)
{
	struct addr a;

	assert_true(c->workers >= 1);
	assert_true(c->acceptors >= 1 && c->acceptors <= c->workers);
	assert_int_equal(c->mailbox_limit, 16384);
	assert_int_equal(c->gather, 50);
	assert_int_equal(c->writers, 4096);
	assert_int_equal(c->listen_count, 2);
	assert_string_equal(c->listen[1].name, "tcp:0.0.0.0:5060");
	assert_int_equal(c->listen[1].proto, FLOW_TCP);
	assert_stream_defaults(&c->listen[1]);
	assert_string_equal(c->listen[0].name, "udp:0.0.0.0:5060");
	assert_int_equal(c->listen[0].proto, FLOW_UDP);
	assert_int_equal(addr_parse(SLICE_LIT("0.0.0.0:5060"), &a), 0);
	assert_true(addr_eq(&c->listen[0].addr, &a));
	assert_string_equal(c->listen[0].advertise, "");
	assert_null(c->listen[0].advertise_host);
	assert_int_equal(c->listen[0].receive_buffer, 4 << 20);
	assert_int_equal(c->domain_count + c->gateway_count + c->route_count, 0);
	assert_int_equal(c->timers.t1, 500);
	assert_int_equal(c->timers.t2, 4000);
	assert_int_equal(c->timers.t4, 5000);
	assert_int_equal(c->timers.c, 181000);
	assert_int_equal(c->timers.max_inflight, 100000);
	assert_int_equal(c->timers.max_transactions, 2000000);
	assert_string_equal(c->dns.server, "");
	assert_int_equal(c->dns.timeout, 5000);
	assert_int_equal(c->dns.cache, 10000);
	assert_int_equal(c->dns.max_queries, 10000);
	assert_string_equal(c->store.path, "/var/lib/holdfast");
	assert_true(c->store.map_size == 4ull << 30);
	assert_string_equal(c->stats.listen_text, "127.0.0.1:9060");
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1:9060"), &a), 0);
	assert_true(addr_eq(&c->stats.listen, &a));
	assert_int_equal(c->drain.timeout, 30000);
	assert_int_equal(c->drain.retry_after, 10000);
	assert_int_equal(c->log.level, LOG_LEVEL_INFO);
	assert_int_equal(c->log.format, LOG_FORMAT_TEXT);
}

static void test_defaults(void **state)
{
	static const char *const empty[] = {
		"", "\n", "# nothing", "timers { }\n", "/* */ // x\n", "\xef\xbb\xbf# x\r\n"};
	struct config *c = NULL;

	(void)state;
	assert_int_equal(config_load(NULL, NULL, &c, err, sizeof(err)), 0);
	assert_defaults(c);
	config_destroy(c);
	config_destroy(NULL);
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		c = good(empty[i]);
		assert_defaults(c);
		config_destroy(c);
	}
}

static const char everything[] =
	"workers = 3 acceptors = 2\r\n"
	"mailbox_limit = 100\n"
	"gather = 0 // off\n"
	"listen \"udp:127.0.0.1:5070\" { advertise = \"proxy.example.com:5062\" receive_buffer = 64k }\n"
	"listen \"udp:[::1]:5070\" { advertise = '[2001:db8::1]' }\n"
	"domain \"Example.com\" {}\n"
	"gateway \"carrier\" {\n"
	"\ttarget = {\"sip:192.0.2.1\", # one\n"
	"\t\t\"sip:192.0.2.2:5080;transport=UDP\", /* two,\n three */ '<sip:gw.example.com>;weight=3'}\n"
	"\tpolicy = round-robin\n"
	"\tprobe_interval = 1m probe_timeout = 500ms\n"
	"}\n"
	"gateway 'single' { target = sip:192.0.2.9 target += {sip:192.0.2.10} }\n"
	"route \"calls\" {\n"
	"\tmethod = {INVITE, MESSAGE}\n"
	"\tdomain = pstn.example.com\n"
	"\tuser = \"^\\\\+?[0-9]+$\"\n"
	"\tfrom = {192.0.2.0/24, \"2001:db8::/32\", \"::1\"}\n"
	"\tgateway = carrier\n"
	"}\n"
	"route no { reject = \"603 Not \\\"now\\\" \\${\" user = '^\\.$' }\n"
	"route plain { reject = 480 gateway = \"\" }\n"
	"route rest { dns = true gateway = '' reject = '' }\n"
	"timers { t1 = 1s t2 = 8s t4 = 10s c = 4m max_inflight = 10 max_transactions = 20 }\n"
	"dns { server = \"127.0.0.1:5353\" timeout = 1s cache = 0 max_queries = 5 }\n"
	"store { path = \"/tmp/h\" map_size = 1g }\n"
	"stats { listen = \"\" }\n"
	"drain { timeout = 0 retry_after = 1m }\n"
	"log { level = debug format = json }\n"
	"writers = 7 listen \"TCP:[::1]:5070\" { keepalive_idle = 1m keepalive_interval = 2s keepalive_probes "
	"= 4 "
	"ack_timeout = 0 user_timeout = 21s write_timeout = 11s connect_timeout = 6s message_timeout = 12s "
	"idle_timeout = 1h crlf_interval = 30s queue_limit = 1m max_message = 2k max_connections = 5 "
	"max_connections_per_address = 6 }\n"
	"listen \"tls:127.0.0.1:5071\" { certificate = {a.pem, /etc/b.pem} key = {'a.key', \"/etc/b.key\"} "
	"ca = ca.pem verify_client = require handshake_timeout = 7s }\n";

static void assert_connections(const struct config_listen *tcp, const struct config_listen *tls)
{
	const struct config_stream *s = &tcp->stream;

	assert_int_equal(tcp->proto, FLOW_TCP);
	assert_int_equal(s->keepalive_idle, 60000);
	assert_int_equal(s->keepalive_interval, 2000);
	assert_int_equal(s->keepalive_probes, 4);
	assert_int_equal(s->ack_timeout, 0);
	assert_int_equal(s->user_timeout, 21000);
	assert_int_equal(s->write_timeout, 11000);
	assert_int_equal(s->connect_timeout, 6000);
	assert_int_equal(s->message_timeout, 12000);
	assert_int_equal(s->idle_timeout, 3600000);
	assert_int_equal(s->crlf_interval, 30000);
	assert_int_equal(s->queue_limit, 1 << 20);
	assert_int_equal(s->max_message, 2048);
	assert_int_equal(s->max_connections, 5);
	assert_int_equal(s->max_connections_per_address, 6);
	assert_int_equal(tls->proto, FLOW_TLS);
	assert_int_equal(tls->certificate_count, 2);
	assert_int_equal(tls->key_count, 2);
	assert_string_equal(tls->certificate[0], "a.pem");
	assert_string_equal(tls->certificate[1], "/etc/b.pem");
	assert_string_equal(tls->key[0], "a.key");
	assert_string_equal(tls->key[1], "/etc/b.key");
	assert_string_equal(tls->ca, "ca.pem");
	assert_int_equal(tls->verify_client, VERIFY_REQUIRE);
	assert_int_equal(tls->stream.handshake_timeout, 7000);
	assert_int_equal(tls->stream.ack_timeout, 2000);
}

static void assert_everything(const struct config *c)
{
	struct addr a;
	const struct config_route *r = c->route;
	const struct config_gateway *g = c->gateway;

	assert_int_equal(c->workers, 3);
	assert_int_equal(c->acceptors, 2);
	assert_int_equal(c->mailbox_limit, 100);
	assert_int_equal(c->gather, 0);
	assert_int_equal(c->listen_count, 4);
	assert_int_equal(c->writers, 7);
	assert_connections(&c->listen[2], &c->listen[3]);
	assert_string_equal(c->listen[0].advertise_host, "proxy.example.com");
	assert_int_equal(c->listen[0].advertise_port, 5062);
	assert_int_equal(c->listen[0].receive_buffer, 65536);
	assert_string_equal(c->listen[1].advertise_host, "[2001:db8::1]");
	assert_int_equal(c->listen[1].advertise_port, 0);
	assert_int_equal(c->listen[1].addr.family, AF_INET6);
	assert_int_equal(c->domain_count, 1);
	assert_string_equal(c->domain[0].name, "Example.com");

	assert_int_equal(c->gateway_count, 2);
	assert_string_equal(g[0].name, "carrier");
	assert_int_equal(g[0].target_count, 3);
	assert_int_equal(g[0].policy, POLICY_ROUND_ROBIN);
	assert_int_equal(g[0].probe_interval, 60000);
	assert_int_equal(g[0].probe_timeout, 500);
	unit_assert_slice(g[0].target[0].uri.host, "192.0.2.1");
	assert_int_equal(g[0].target[0].weight, 1);
	assert_int_equal(g[0].target[1].uri.port, 5080);
	unit_assert_slice(g[0].target[2].uri.whole, "sip:gw.example.com");
	assert_int_equal(g[0].target[2].weight, 3);
	assert_string_equal(g[0].target[2].text, "<sip:gw.example.com>;weight=3");
	assert_int_equal(g[1].target_count, 2);
	assert_string_equal(g[1].target[1].text, "sip:192.0.2.10");

	assert_int_equal(c->route_count, 4);
	assert_int_equal(r[0].line, 15);
	assert_int_equal(r[0].method_count, 2);
	assert_string_equal(r[0].method[1], "MESSAGE");
	assert_string_equal(r[0].domain, "pstn.example.com");
	assert_int_equal(regexec(&r[0].user_re, "+49301234", 0, NULL, 0), 0);
	assert_int_equal(regexec(&r[0].user_re, "alice", 0, NULL, 0), REG_NOMATCH);
	assert_int_equal(r[0].from_count, 3);
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.77:1"), &a), 0);
	assert_true(addr_net_has(&r[0].from[0], &a));
	assert_false(addr_net_has(&r[0].from[1], &a));
	assert_int_equal(r[0].gateway, 0);
	assert_int_equal(r[0].reject, 0);
	assert_false(r[0].dns);
	assert_int_equal(r[1].gateway, -1);
	assert_int_equal(r[1].reject, 603);
	assert_string_equal(r[1].reject_reason, "Not \"now\" ${");
	assert_string_equal(r[1].user, "^\\.$");
	assert_int_equal(r[2].reject, 480);
	assert_string_equal(r[2].reject_reason, sip_reason_default(480));
	assert_true(r[3].dns);
	assert_int_equal(r[3].gateway, -1);

	assert_int_equal(c->timers.c, 240000);
	assert_int_equal(c->timers.max_transactions, 20);
	assert_string_equal(c->dns.server, "127.0.0.1:5353");
	assert_int_equal(c->dns.cache, 0);
	assert_true(c->store.map_size == 1ull << 30);
	assert_string_equal(c->stats.listen_text, "");
	assert_int_equal(c->stats.listen.family, 0);
	assert_int_equal(c->drain.timeout, 0);
	assert_int_equal(c->drain.retry_after, 60000);
	assert_int_equal(c->log.level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->log.format, LOG_FORMAT_JSON);
}

static void test_everything(void **state)
{
	struct config *c;

	(void)state;
	c = good(everything);
	assert_everything(c);
	config_destroy(c);
}

static char *print(const struct config *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_print(c, f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void round_trip(const char *text)
{
	struct config *a = good(text), *b;
	char *first = print(a), *second;

	b = good(first);
	second = print(b);
	assert_string_equal(first, second);
	config_destroy(a);
	config_destroy(b);
	free(first);
	free(second);
}

static void test_print(void **state)
{
	struct config *a, *b;
	char *text;

	(void)state;
	round_trip("");
	round_trip("store { path = '\\\\\"${X}${' } route a { reject = '400 ${HOME} \"x\" \\y' }");
	a = good(everything);
	text = print(a);
	b = good(text);
	/* The line is the only thing that may differ. */
	assert_int_not_equal(b->route[0].line, 0);
	b->route[0].line = a->route[0].line;
	assert_everything(a);
	assert_everything(b);
	config_destroy(a);
	config_destroy(b);
	free(text);
}

static void test_environment(void **state)
{
	static const struct {
		const char *text, *path;
	} cases[] = {
		{"store { path = \"${HF_SET}\" }", "/set"},
		{"store { path = \"${HF_SET:-/x}/y\" }", "/set/y"},
		{"store { path = \"/a${HF_NONE:-/x}/y\" }", "/a/x/y"},
		{"store { path = \"/a${HF_NONE:-}/y\" }", "/a/y"},
		{"store { path = \"/a${HF_EMPTY:-/x}\" }", "/a"},
		{"store { path = ${HF_SET} }", "/set"},
		{"store { path = ${HF_NONE:-/x} }", "/x"},
		{"store { path = ${HF_NONE:-/x y} }", "/x y"},
		{"store { path = '${HF_SET}' }", "${HF_SET}"},
		{"store { path = \"\\${HF_SET}\" }", "${HF_SET}"},
		{"store { path = \"${HF_NONE:-a\"b}\" }", "a\"b"},
		{"store { path = \"$HF_SET\" }", "$HF_SET"},
		{"store { path = $HF_SET }", "$HF_SET"},
		{"store { path = ${HF_QUOTE} }", "a\" } #"},
		{"store { path = \"${HF_QUOTE}\" }", "a\" } #"},
	};

	(void)state;
	assert_int_equal(setenv("HF_SET", "/set", 1), 0);
	assert_int_equal(setenv("HF_EMPTY", "", 1), 0);
	assert_int_equal(setenv("HF_QUOTE", "a\" } #", 1), 0);
	unsetenv("HF_NONE");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config *c = good(cases[i].text);

		assert_string_equal(c->store.path, cases[i].path);
		config_destroy(c);
	}
}

static void test_overrides(void **state)
{
	const char *listen[] = {"udp:127.0.0.1:5099", "udp:[::1]:5099"};
	const char *domain[] = {"b.example", "A.example", "b.EXAMPLE"};
	const char *streams[] = {"tcp:127.0.0.1:5060", "tcp:127.0.0.1:5061", "tls:127.0.0.1:5099"};
	const struct config_overrides all = {listen, 2, domain, 3, "/tmp/s", 7, "error"};
	struct config *c =
		good_with("listen \"udp:127.0.0.1:5060\" { }\ndomain a.example { }\nworkers = 2\n", &all);

	(void)state;
	assert_int_equal(c->listen_count, 2);
	assert_string_equal(c->listen[0].name, "udp:127.0.0.1:5099");
	assert_int_equal(c->listen[1].addr.family, AF_INET6);
	assert_int_equal(c->domain_count, 2);
	assert_string_equal(c->domain[0].name, "a.example");
	assert_string_equal(c->domain[1].name, "b.example");
	assert_string_equal(c->store.path, "/tmp/s");
	assert_int_equal(c->workers, 7);
	assert_int_equal(c->log.level, LOG_LEVEL_ERROR);
	config_destroy(c);

	c = good_with("workers = 2 listen \"tls:127.0.0.1:5099\" { certificate = c.pem key = k.pem }\n"
		      "listen \"tcp:127.0.0.1:5060\" { ack_timeout = 3s }",
		      &(struct config_overrides){.workers = -1, .listen = streams, .listen_count = 3});
	assert_int_equal(c->listen_count, 3);
	/* What the file says of the same address holds. */
	assert_int_equal(c->listen[0].stream.ack_timeout, 3000);
	assert_int_equal(c->listen[1].proto, FLOW_TCP);
	assert_stream_defaults(&c->listen[1]);
	assert_string_equal(c->listen[2].name, "tls:127.0.0.1:5099");
	assert_string_equal(c->listen[2].certificate[0], "c.pem");
	config_destroy(c);

	c = good_with("workers = 2", &(struct config_overrides){.workers = 0});
	assert_int_not_equal(c->workers, 0);
	config_destroy(c);
}

/* A relative path begins at the folder of the file, not at that of the process. */
static void test_paths(void **state)
{
	static const char text[] = "listen \"tls:127.0.0.1:1\" { certificate = {c.pem, /etc/d.pem}\n"
				   "key = {\"sub/k.pem\", /etc/e.pem} ca = ca.pem }";
	struct config *c;
	char path[200];

	(void)state;
	put(text, strlen(text));
	snprintf(path, sizeof(path), "%s/t.conf", folder);
	assert_int_equal(chdir("/"), 0);
	int rc = config_load(path, &none, &c, err, sizeof(err));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(rc, 0);
	snprintf(path, sizeof(path), "%s/c.pem", folder);
	assert_string_equal(c->listen[0].certificate[0], path);
	snprintf(path, sizeof(path), "%s/sub/k.pem", folder);
	assert_string_equal(c->listen[0].key[0], path);
	snprintf(path, sizeof(path), "%s/ca.pem", folder);
	assert_string_equal(c->listen[0].ca, path);
	assert_string_equal(c->listen[0].certificate[1], "/etc/d.pem");
	assert_string_equal(c->listen[0].key[1], "/etc/e.pem");
	config_destroy(c);
}

/* The transport that a target names has a listener. */
static void test_targets(void **state)
{
	struct config *c;

	(void)state;
	c = good("listen \"tcp:127.0.0.1:1\" { } listen \"tls:127.0.0.1:2\" { certificate = a key = a }\n"
		 "gateway g { target = {sip:a, \"sip:b;transport=tcp\", \"sips:c\", \"sips:d;transport=tcp\", "
		 "\"sip:e;transport=tls\"} }");
	assert_int_equal(c->gateway[0].target_count, 5);
	config_destroy(c);
	c = good(
		"gateway g { target = {\"sip:b;transport=tcp\", \"sip:b;transport=udp\"} }"); /* the defaults */
	config_destroy(c);
}

/* A megabyte, 10,000 routes and gateways: everything stays linear (or nearly) in the file. */
static void test_large(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	struct config *c;
	nsec_t start;

	(void)state;
	for (unsigned i = 0; i < 10000; i++)
		fprintf(f,
			"gateway \"gateway number %u\" { target = {\"sip:192.0.2.1:%u\"} }\n"
			"route \"the route number %u\" {\n\tmethod = {INVITE}\n\tuser = \"^%u[0-9]*$\"\n"
			"\tfrom = {\"10.0.0.0/8\"}\n\tgateway = \"gateway number %u\"\n}\n",
			i, 1024 + i, i, i, 9999 - i);
	assert_int_equal(fclose(f), 0);
	assert_true(len > 1000000);
	start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	c = good(text);
	start = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - start;
	printf("10,000 routes, %zu bytes: %.0f ms of CPU\n", len, (double)start / 1e6);
	assert_true(
		start <
		8000000000u); /* far above what it takes, sanitizers included; far below what is quadratic */
	assert_int_equal(c->route_count, 10000);
	assert_int_equal(c->route[1].gateway, 9998);
	assert_int_equal(c->route[9999].line, 9999 * 7 + 2);
	config_destroy(c);
	free(text);
}

static void memory_body(void)
{
	struct config *c = NULL;
	const char *listen[] = {"udp:127.0.0.1:5099", "tls:127.0.0.1:5071"}, *domain = "x.example";
	const struct config_overrides ov = {listen, 2, &domain, 1, "/tmp/s", 7, "error"};
	int rc = config_load("t.conf", &ov, &c, err, sizeof(err));

	if (rc != 0) {
		assert_true(alloc_failed());
		assert_int_equal(rc, -ENOMEM);
		assert_null(c);
		assert_non_null(strstr(err, "out of memory"));
		return;
	}
	config_destroy(c);
}

static void test_memory(void **state)
{
	(void)state;
	put(everything, strlen(everything));
	UNIT_OOM(memory_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),  cmocka_unit_test(test_everything),
		cmocka_unit_test(test_print),     cmocka_unit_test(test_environment),
		cmocka_unit_test(test_overrides), cmocka_unit_test(test_paths),
		cmocka_unit_test(test_targets),   cmocka_unit_test(test_large),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
