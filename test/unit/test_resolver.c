/* The resolver as it runs: its thread, c-ares, and a dnsmasq of ours on a loopback port. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "resolver/resolver.h"
#include "unit.h"

#define ALL   (1u << FLOW_UDP | 1u << FLOW_TCP | 1u << FLOW_TLS)
#define KIND  42
#define HOSTS 1000

static char server[32];
static pid_t dnsmasq;
static uint16_t dns_port;

static int udp_socket(uint16_t port, uint16_t *bound)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t n = sizeof(sin);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &n), 0);
	*bound = ntohs(sin.sin_port);
	return fd;
}

/* Asks for host.sip.test over and over until an answer comes. */
static bool dns_answers(uint16_t port)
{
	static const unsigned char query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
					     "\x04host\x03sip\x04test\x00\x00\x01\x00\x01";
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
	unsigned char answer[512];
	uint16_t own;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = udp_socket(0, &own);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	bool up = false;
	for (int i = 0; i < 1000 && !up && waitpid(dnsmasq, NULL, WNOHANG) == 0; i++) {
		struct pollfd p = {fd, POLLIN, 0};
		if (send(fd, query, sizeof(query) - 1, 0) < 0 || poll(&p, 1, 20) <= 0 ||
		    recv(fd, answer, sizeof(answer), 0) <= 0)
			usleep(1000); /* not listening yet: the kernel says so at once */
		else
			up = true;
	}
	close(fd);
	return up;
}

static const char *const zone =
	"port=%u\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\nlocal=/test/\n"
	"local-ttl=60\nuser=root\ncache-size=0\n"
	"host-record=host.sip.test,127.0.0.7\n"
	"host-record=both.sip.test,127.0.0.8,::1\n"
	"cname=alias.sip.test,host.sip.test\n"
	"naptr-record=sip.test,10,10,s,SIP+D2T,,_sip._tcp.sip.test\n"
	"naptr-record=sip.test,10,20,s,SIP+D2U,,_sip._udp.sip.test\n"
	"srv-host=_sip._tcp.sip.test,host.sip.test,6060,10,1\n"
	"srv-host=_sip._tcp.sip.test,both.sip.test,6061,20,1\n"
	"srv-host=_sip._udp.sip.test,alias.sip.test,6062,10,1\n"
	"srv-host=_sip._udp.plain.test,host.sip.test,7000,1,50\n"
	"srv-host=_sip._udp.plain.test,host.sip.test,7001,1,50\n"
	"host-record=short.test,127.0.0.9,0\n";

static int dns_start(void **state)
{
	char name[64];
	uint16_t port;
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	if (system("command -v dnsmasq >/dev/null 2>&1") != 0)
		return 0;
	for (int tries = 0; tries < 5; tries++) {
		close(udp_socket(0, &port));
		snprintf(name, sizeof(name), "/tmp/hf-test-dns-%d.conf", getpid());
		FILE *f = fopen(name, "w");
		assert_non_null(f);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		fprintf(f, zone, port);
#pragma GCC diagnostic pop
		for (int i = 0; i < HOSTS; i++)
			fprintf(f, "host-record=h%d.many.test,127.1.%d.%d\n", i, i / 250, 1 + i % 250);
		fclose(f);
		dnsmasq = fork();
		assert_true(dnsmasq >= 0);
		if (dnsmasq == 0) {
			char arg[80];
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			snprintf(arg, sizeof(arg), "--conf-file=%s", name);
			execlp("dnsmasq", "dnsmasq", "-k", arg, "--log-facility=/dev/null", (char *)NULL);
			_exit(127);
		}
		bool up = dns_answers(port);
		unlink(name);
		if (up) {
			dns_port = port;
			snprintf(server, sizeof(server), "127.0.0.1:%u", port);
			return 0;
		}
		kill(dnsmasq, SIGKILL);
		waitpid(dnsmasq, NULL, 0);
	}
	dnsmasq = 0;
	return -1;
}

static int dns_stop(void **state)
{
	(void)state;
	if (dnsmasq > 0) {
		kill(dnsmasq, SIGKILL);
		waitpid(dnsmasq, NULL, 0);
	}
	counters_reset_all();
	return 0;
}

struct fixture {
	struct resolver *r;
	struct mailbox box;
};

static struct resolver_config config_make(void)
{
	return (struct resolver_config){.server = server,
					.timeout = 5000,
					.cache = 2000,
					.max_queries = 2000,
					.protos = ALL,
					.ipv4 = true,
					.ipv6 = true};
}

static void fixture_open(struct fixture *f, const struct resolver_config *c)
{
	mailbox_init(&f->box, 10);
	assert_int_equal(resolver_create(c, &f->r), 0);
}

static void fixture_close(struct fixture *f)
{
	struct mailbox_item *it;
	resolver_destroy(f->r);
	while ((it = mailbox_take(&f->box)) != NULL)
		free(it);
	mailbox_deinit(&f->box);
}

static int ask(struct fixture *f, const char *text, uint64_t ref)
{
	struct sip_uri uri;
	char copy[256]; /* the resolver must not keep pointers into it */
	snprintf(copy, sizeof(copy), "%s", text);
	assert_int_equal(sip_uri_parse(slice_str(copy), &uri), 0);
	int rc = resolver_ask(f->r, &uri, &f->box, KIND, ref);
	memset(copy, 'x', sizeof(copy));
	return rc;
}

static struct resolver_answer *answer(struct fixture *f, uint32_t within)
{
	struct mailbox_item *it;
	msec_t end = clock_mono_ms() + within;
	while ((it = mailbox_take(&f->box)) == NULL) {
		msec_t now = clock_mono_ms();
		if (now >= end)
			fail_msg("no answer within %u ms", within);
		mailbox_wait(&f->box, (end - now) * 1000000u);
	}
	assert_int_equal(it->kind, KIND);
	return (struct resolver_answer *)it;
}

/* Asks and compares; `cached` -1: either. */
static void expect(struct fixture *f, const char *uri, int error, const char *hops, int cached)
{
	static const char *const protos[] = {"udp", "tcp", "tls"};
	static uint64_t ref = 1000;
	char text[1024];
	struct buf b;
	assert_int_equal(ask(f, uri, ++ref), 0);
	struct resolver_answer *a = answer(f, 10000);
	assert_int_equal(a->ref, ref);
	buf_init(&b, text, sizeof(text) - 1);
	for (unsigned i = 0; i < a->hop_count; i++) {
		buf_printf(&b, "%s%s:", i ? " " : "", protos[a->hop[i].proto]);
		addr_format(&a->hop[i].addr, &b);
	}
	text[b.len] = '\0';
	if (a->error != error || strcmp(text, hops) != 0)
		fail_msg("%s: %d \"%s\", not %d \"%s\"", uri, a->error, text, error, hops);
	if (cached >= 0)
		assert_int_equal(a->cached, cached);
	free(a);
}

static void need_dnsmasq(void)
{
	if (!dnsmasq) {
		print_message("dnsmasq is not installed: not tested\n");
		skip();
	}
}

static void test_answers(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	need_dnsmasq();
	c.ipv6 = false;
	fixture_open(&f, &c);
	expect(&f, "sip:a@127.0.0.3:5090;transport=tcp", 0, "tcp:127.0.0.3:5090", 1);
	expect(&f, "sip:host.sip.test:5090", 0, "udp:127.0.0.7:5090", 0);
	expect(&f, "sip:HOST.sip.test.:5091;transport=tcp", 0, "tcp:127.0.0.7:5091", 1);
	expect(&f, "sip:alias.sip.test:5090", 0, "udp:127.0.0.7:5090", 0);
	expect(&f, "sip:x@sip.test", 0, "tcp:127.0.0.7:6060 tcp:127.0.0.8:6061 udp:127.0.0.7:6062", 0);
	expect(&f, "sip:x@sip.test", 0, "tcp:127.0.0.7:6060 tcp:127.0.0.8:6061 udp:127.0.0.7:6062", 1);
	expect(&f, "sip:sip.test;transport=udp", 0, "udp:127.0.0.7:6062", 1);
	expect(&f, "sip:anything;maddr=host.sip.test", 0, "udp:127.0.0.7:5060", 0);
	expect(&f, "sips:sip.test", -EPROTONOSUPPORT, "", 1);
	expect(&f, "sips:host.sip.test", 0, "tls:127.0.0.7:5061", 1);
	expect(&f, "sip:nothing.test", -ENOENT, "", 0);
	expect(&f, "sip:nothing.test", -ENOENT, "", 1);
	expect(&f, "sip:outside.example", -EIO, "", 0); /* this server refuses what is not its own */
	fixture_close(&f);
}

static void test_ipv6(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	need_dnsmasq();
	c.ipv4 = false;
	fixture_open(&f, &c);
	expect(&f, "sip:both.sip.test:5070", 0, "udp:[::1]:5070", 0);
	expect(&f, "sip:host.sip.test:5070", -ENOENT, "", 0);
	fixture_close(&f);
	c = config_make();
	fixture_open(&f, &c);
	assert_int_equal(ask(&f, "sip:both.sip.test:5070", 1), 0);
	struct resolver_answer *a = answer(&f, 10000);
	assert_int_equal(a->error, 0);
	assert_int_equal(a->hop_count, 2);
	free(a);
	fixture_close(&f);
}

static void test_no_cache(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	need_dnsmasq();
	c.cache = 0;
	fixture_open(&f, &c);
	for (int i = 0; i < 3; i++)
		expect(&f, "sip:host.sip.test:5090", 0, "udp:127.0.0.7:5090", 0);
	fixture_close(&f);
	c = config_make();
	fixture_open(&f, &c);
	for (int i = 0; i < 3; i++)
		expect(&f, "sip:short.test:5090", 0, "udp:127.0.0.9:5090", 0); /* TTL 0 */
	fixture_close(&f);
}

/* The weights are drawn for each answer, from records that are in the cache. */
static void test_weights_drawn(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	unsigned first = 0, rounds = 400;
	need_dnsmasq();
	fixture_open(&f, &c);
	for (unsigned i = 0; i < rounds; i++) {
		assert_int_equal(ask(&f, "sip:plain.test;transport=udp", i), 0);
		struct resolver_answer *a = answer(&f, 10000);
		assert_int_equal(a->error, 0);
		assert_int_equal(a->hop_count, 2);
		assert_int_equal(a->cached, i > 0);
		first += a->hop[0].addr.port == 7000;
		free(a);
	}
	assert_in_range(first, rounds * 3 / 10, rounds * 7 / 10);
	fixture_close(&f);
}

static void test_thousand(void **state)
{
	(void)state;
	static bool seen[HOSTS];
	struct fixture f;
	struct resolver_config c = config_make();
	need_dnsmasq();
	memset(seen, 0, sizeof(seen));
	fixture_open(&f, &c);
	for (int i = 0; i < HOSTS; i++) {
		char uri[64];
		snprintf(uri, sizeof(uri), "sip:h%d.many.test:5060", i);
		assert_int_equal(ask(&f, uri, (uint64_t)i), 0);
	}
	for (int i = 0; i < HOSTS; i++) {
		struct resolver_answer *a = answer(&f, 20000);
		int k = (int)a->ref;
		assert_in_range(k, 0, HOSTS - 1);
		assert_false(seen[k]);
		seen[k] = true;
		assert_int_equal(a->error, 0);
		assert_int_equal(a->hop_count, 1);
		assert_int_equal(a->hop[0].addr.ip[2], k / 250);
		assert_int_equal(a->hop[0].addr.ip[3], 1 + k % 250);
		free(a);
	}
	fixture_close(&f);
}

struct asker {
	struct fixture f;
	struct resolver *r;
	int number;
};

static void *asker_main(void *arg)
{
	struct asker *a = arg;
	counters_use(counters_create());
	for (int i = 0; i < 300; i++) {
		char uri[64];
		struct sip_uri u;
		snprintf(uri, sizeof(uri), "sip:h%d.many.test:%d", (i * 7 + a->number) % 200, 1000 + i);
		if (sip_uri_parse(slice_str(uri), &u) || resolver_ask(a->r, &u, &a->f.box, KIND, (uint64_t)i))
			return (void *)1;
		if (i % 3)
			continue;
		while (mailbox_depth(&a->f.box) == 0)
			mailbox_wait(&a->f.box, 1000000000u);
	}
	for (int i = 0; i < 300; i++) {
		struct resolver_answer *x = answer(&a->f, 20000);
		bool ok = x->error == 0 && x->hop[0].addr.port == 1000 + x->ref;
		free(x);
		if (!ok)
			return (void *)1;
	}
	return NULL;
}

/* Several workers at once, of the same names. */
static void test_threads(void **state)
{
	(void)state;
	struct resolver_config c = config_make();
	struct asker *a;
	pthread_t t[4];
	need_dnsmasq();
	a = aligned_alloc(64, sizeof(struct asker) * 4);
	assert_non_null(a);
	assert_int_equal(resolver_create(&c, &a[0].r), 0);
	for (int i = 0; i < 4; i++) {
		a[i].r = a[0].r;
		a[i].number = i;
		mailbox_init(&a[i].f.box, 10);
		assert_int_equal(pthread_create(&t[i], NULL, asker_main, &a[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		void *rc;
		assert_int_equal(pthread_join(t[i], &rc), 0);
		assert_null(rc);
	}
	assert_true(resolver_alive(a[0].r, clock_mono_ms()));
	resolver_destroy(a[0].r);
	free(a);
}

/* How many datagrams wait in a socket that nobody reads; they are taken out. */
static int drain(int fd)
{
	char b[512];
	int n = 0;
	while (recv(fd, b, sizeof(b), MSG_DONTWAIT) >= 0)
		n++;
	return n;
}

/* A server that swallows everything. */
static void test_silence(void **state)
{
	(void)state;
	char silent[32];
	uint16_t port;
	int fd = udp_socket(0, &port);
	struct fixture f;
	struct resolver_config c = config_make();
	snprintf(silent, sizeof(silent), "127.0.0.1:%u", port);
	c.server = silent;
	c.timeout = 400;
	c.max_queries = 10;
	fixture_open(&f, &c);
	msec_t start = clock_mono_ms();
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(ask(&f, "sip:same.test;transport=udp", i), 0);
	assert_true(clock_mono_ms() - start < 200);
	assert_int_equal(ask(&f, "sip:other.test", 99), -ENOBUFS);
	for (int i = 0; i < 10; i++) {
		struct resolver_answer *a = answer(&f, 5000);
		assert_int_equal(a->error, -ETIMEDOUT);
		assert_int_equal(a->hop_count, 0);
		free(a);
	}
	assert_true(clock_mono_ms() - start >= 300);
	/* Ten questions, one look-up: its first try and its repetitions, nothing more. */
	assert_in_range(drain(fd), 1, 6);
	/* There is room again. */
	assert_int_equal(ask(&f, "sip:other.test:5060", 100), 0);
	free(answer(&f, 5000));
	/* And it ends at once with look-ups under way. */
	assert_int_equal(ask(&f, "sip:third.test", 101), 0);
	start = clock_mono_ms();
	fixture_close(&f);
	assert_true(clock_mono_ms() - start < 300);
	close(fd);
}

/* Whoever gives up does not leave its question behind to be asked for nobody. */
static void test_refusals(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	uint16_t port;
	char closed[32];
	int fd = udp_socket(0, &port);
	close(fd); /* nobody listens: the kernel says so */
	snprintf(closed, sizeof(closed), "127.0.0.1:%u", port);
	c.server = closed;
	fixture_open(&f, &c);
	assert_int_equal(ask(&f, "sip:a.test:5060", 1), 0);
	struct resolver_answer *a = answer(&f, 10000);
	assert_true(a->error == -EIO || a->error == -ETIMEDOUT);
	free(a);
	assert_int_equal(ask(&f, "tel:+4930", 1), -EINVAL);
	assert_int_equal(ask(&f, "sip:a.test;transport=sctp", 1), -EINVAL);
	fixture_close(&f);
	c.server = "no address";
	struct resolver *r = NULL;
	assert_int_equal(resolver_create(&c, &r), -EINVAL);
	c = config_make();
	c.max_queries = 0;
	assert_int_equal(resolver_create(&c, &r), -EINVAL);
	c = config_make();
	c.ipv4 = c.ipv6 = false;
	assert_int_equal(resolver_create(&c, &r), -EINVAL);
	assert_null(r);
}

/* Whatever is missing, an accepted question gets its one answer. */
static void oom_body(void)
{
	struct fixture f;
	struct sip_uri uri;
	struct resolver_config c = config_make();
	c.max_queries = 4;
	c.cache = 4;
	mailbox_init(&f.box, 10);
	int rc = resolver_create(&c, &f.r);
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		return;
	}
	assert_int_equal(sip_uri_parse(SLICE_LIT("sip:sip.test"), &uri), 0);
	rc = resolver_ask(f.r, &uri, &f.box, KIND, 5);
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
	} else {
		struct resolver_answer *a = answer(&f, 10000);
		assert_int_equal(a->ref, 5);
		if (a->error)
			assert_true(alloc_failed());
		else
			assert_true(a->hop_count >= 2);
		free(a);
	}
	fixture_close(&f);
	counters_reset_all();
}

static void test_no_memory(void **state)
{
	(void)state;
	need_dnsmasq();
	UNIT_OOM(oom_body);
}

/* The system's own resolver: this name never leaves the machine. */
static void test_system(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	c.server = "";
	c.ipv6 = false;
	fixture_open(&f, &c);
	expect(&f, "sip:localhost:5062;transport=tcp", 0, "tcp:127.0.0.1:5062", -1);
	fixture_close(&f);
}

static void test_alive(void **state)
{
	(void)state;
	struct fixture f;
	struct resolver_config c = config_make();
	c.server = "127.0.0.1:9";
	fixture_open(&f, &c);
	assert_true(resolver_alive(f.r, clock_mono_ms()));
	assert_false(resolver_alive(f.r, clock_mono_ms() + 7000));
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),   cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_no_cache),  cmocka_unit_test(test_weights_drawn),
		cmocka_unit_test(test_thousand),  cmocka_unit_test(test_threads),
		cmocka_unit_test(test_silence),   cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_alive),     cmocka_unit_test(test_system),
		cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, dns_start, dns_stop);
}
