/* RFC 3263 as a table: a URI, what the DNS holds, and the hops that must come out. */
#include <errno.h>

#include "resolver/plan_p.h"
#include "unit.h"

#define U   (1u << FLOW_UDP)
#define T   (1u << FLOW_TCP)
#define S   (1u << FLOW_TLS)
#define ALL (U | T | S)

/* One record a line: "name NAPTR order preference flag service-proto target", "name SRV priority weight port
 * target", "name A address", "name ADDR|SRV|NAPTR ! timeout|fail". What is not named does not exist. */
struct world {
	const char *zone;
	char unknown[64]; /* of this question nothing is known yet */
	unsigned asked;
	struct rr_set *made[256];
	unsigned made_count;
};

static struct rr_set *world_set(struct world *w, enum rr_type type, const char *name, int error)
{
	for (unsigned i = 0; i < w->made_count; i++)
		if (rr_set_is(w->made[i], type, name))
			return w->made[i];
	struct rr_set *s = rr_set_create(type, name, error, RR_MAX);
	assert_non_null(s);
	assert_true(w->made_count < 256);
	w->made[w->made_count++] = s;
	return s;
}

static uint8_t proto_of(const char *s, bool *secure)
{
	*secure = strncmp(s, "SIPS", 4) == 0;
	return strcmp(s, "SIP+D2U") == 0   ? FLOW_UDP
	       : strcmp(s, "SIP+D2T") == 0 ? FLOW_TCP
	       : *secure                   ? FLOW_TLS
					   : 3;
}

static void world_line(struct world *w, char *line)
{
	char name[128], type[16], a[64], b[64], c[64], d[64], e[64];
	int n = sscanf(line, "%127s %15s %63s %63s %63s %63s %63s", name, type, a, b, c, d, e);
	if (n < 3)
		return;
	enum rr_type t = strcmp(type, "SRV") == 0 ? RR_SRV : strcmp(type, "NAPTR") == 0 ? RR_NAPTR : RR_ADDR;
	if (strcmp(a, "!") == 0) {
		world_set(w, t, name, strcmp(b, "timeout") == 0 ? -ETIMEDOUT : -EIO);
		return;
	}
	struct rr_set *s = world_set(w, t, name, 0);
	assert_true(s->count < RR_MAX);
	union rr *r = &s->rr[s->count++];
	if (t == RR_ADDR) {
		assert_int_equal(addr_parse_ip(slice_str(a), 0, &r->addr), 0);
	} else if (t == RR_SRV) {
		r->srv = (struct rr_srv){(uint16_t)atoi(a), (uint16_t)atoi(b), (uint16_t)atoi(c), ""};
		if (strcmp(d, ".") != 0)
			strcpy(r->srv.target, d);
	} else {
		r->naptr = (struct rr_naptr){
			.order = (uint16_t)atoi(a), .preference = (uint16_t)atoi(b), .flag = c[0]};
		r->naptr.proto = proto_of(d, &r->naptr.secure);
		strcpy(r->naptr.target, e);
	}
}

static void world_open(struct world *w, const char *zone)
{
	char *text = strdup(zone), *at = text, *line;
	memset(w, 0, sizeof(*w));
	while ((line = strsep(&at, "\n")) != NULL)
		world_line(w, line);
	free(text);
}

static void world_close(struct world *w)
{
	for (unsigned i = 0; i < w->made_count; i++)
		rr_set_unref(w->made[i]);
}

static const struct rr_set *world_lookup(void *ctx, enum rr_type type, const char *name)
{
	struct world *w = ctx;
	w->asked++;
	return strcmp(name, w->unknown) == 0 ? NULL : world_set(w, type, name, -ENOENT);
}

static void hops_print(const struct plan_result *r, char *out, size_t cap)
{
	static const char *const protos[] = {"udp", "tcp", "tls"};
	struct buf b;
	buf_init(&b, out, cap - 1);
	for (unsigned i = 0; i < r->hop_count; i++) {
		if (i)
			buf_char(&b, ' ');
		buf_printf(&b, "%s:", protos[r->hop[i].proto]);
		addr_format(&r->hop[i].addr, &b);
	}
	out[b.len] = '\0';
}

static const char big_zone[] = "example.com NAPTR 50 50 s SIPS+D2T _sips._tcp.example.com\n"
			       "example.com NAPTR 90 50 s SIP+D2T _sip._tcp.example.com\n"
			       "example.com NAPTR 100 50 s SIP+D2U _sip._udp.example.com\n"
			       "_sips._tcp.example.com SRV 0 1 5061 s1.example.com\n"
			       "_sip._tcp.example.com SRV 0 1 5060 s1.example.com\n"
			       "_sip._tcp.example.com SRV 1 1 5070 s2.example.com\n"
			       "_sip._udp.example.com SRV 0 1 5060 s2.example.com\n"
			       "s1.example.com A 192.0.2.1\n"
			       "s2.example.com A 192.0.2.2\n"
			       "s2.example.com A 2001:db8::2\n"
			       "example.com A 192.0.2.9\n"
			       "host.example.com A 192.0.2.7\n"
			       "udp.example.com A 192.0.2.6\n"
			       "_sip._udp.udp.example.com SRV 0 0 5099 host.example.com\n"
			       "two.example.com A 192.0.2.5\n"
			       "_sip._udp.two.example.com SRV 0 0 6001 host.example.com\n"
			       "_sip._tcp.two.example.com SRV 0 0 6002 host.example.com\n"
			       "_sips._tcp.two.example.com SRV 0 0 6003 host.example.com\n"
			       "off.example.com A 192.0.2.8\n"
			       "_sip._udp.off.example.com SRV 0 0 0 .\n"
			       "flat.example.com NAPTR 10 10 a SIP+D2T s2.example.com\n"
			       "sctp.example.com NAPTR 10 10 s SIP+D2S _sip._sctp.example.com\n"
			       "same.example.com NAPTR 10 20 s SIP+D2T _sip._tcp.example.com\n"
			       "same.example.com NAPTR 10 10 s SIP+D2U _sip._udp.example.com\n"
			       "gap.example.com NAPTR 10 10 s SIP+D2U _sip._udp.nowhere.example.com\n"
			       "gap.example.com NAPTR 20 10 s SIP+D2T _sip._tcp.example.com\n"
			       "mute.example.com NAPTR ! timeout\n"
			       "mute.example.com A 192.0.2.4\n"
			       "down.example.com ADDR ! timeout\n"
			       "bad.example.com ADDR ! fail\n"
			       "_sip._udp.srvbad.example.com SRV ! fail\n"
			       "srvbad.example.com A 192.0.2.3\n"
			       "_sip._udp.half.example.com SRV 0 0 5060 down.example.com\n"
			       "_sip._udp.half.example.com SRV 1 0 5060 host.example.com\n"
			       "_sip._udp.deep.example.com SRV 0 0 5060 missing.example.com\n"
			       "deep.example.com A 192.0.2.3\n"
			       "_sip._udp.dup.example.com SRV 0 0 5060 host.example.com\n"
			       "_sip._udp.dup.example.com SRV 1 0 5060 host.example.com\n"
			       "six.example.com A 2001:db8::6\n";

static const struct {
	const char *uri;
	unsigned protos;
	int error;
	const char *hops;
} rows[] = {
	/* 4.1, 4.2: an address */
	{"sip:192.0.2.1", ALL, 0, "udp:192.0.2.1:5060"},
	{"sip:u@192.0.2.1:5070", ALL, 0, "udp:192.0.2.1:5070"},
	{"sip:192.0.2.1;transport=tcp", ALL, 0, "tcp:192.0.2.1:5060"},
	{"sip:192.0.2.1;transport=TLS", ALL, 0, "tls:192.0.2.1:5061"},
	{"sip:192.0.2.1;transport=tls", U | T, -EPROTONOSUPPORT, ""},
	{"sips:192.0.2.1", ALL, 0, "tls:192.0.2.1:5061"},
	{"sips:192.0.2.1:5071", ALL, 0, "tls:192.0.2.1:5071"},
	{"sips:192.0.2.1;transport=tcp", ALL, 0, "tls:192.0.2.1:5061"},
	{"sips:192.0.2.1;transport=udp", ALL, -EPROTONOSUPPORT, ""},
	{"sips:192.0.2.1", U | T, -EPROTONOSUPPORT, ""},
	{"sip:[2001:db8::1]", ALL, 0, "udp:[2001:db8::1]:5060"},
	{"sip:[2001:db8::1]:99;transport=tcp", ALL, 0, "tcp:[2001:db8::1]:99"},
	{"sip:192.0.2.1", T, 0, "tcp:192.0.2.1:5060"},
	{"sip:192.0.2.1", S, -EPROTONOSUPPORT, ""},
	{"sip:example.com;maddr=192.0.2.44", ALL, 0, "udp:192.0.2.44:5060"},
	{"sip:example.com:5090;maddr=192.0.2.44;transport=tcp", ALL, 0, "tcp:192.0.2.44:5090"},
	{"sip:192.0.2.1;maddr=host.example.com", ALL, 0, "udp:192.0.2.7:5060"},
	/* 4.1: the whole way, and its order */
	{"sip:example.com", ALL, 0, "tls:192.0.2.1:5061"},
	{"sip:example.com", U | T, 0, "tcp:192.0.2.1:5060 tcp:192.0.2.2:5070 tcp:[2001:db8::2]:5070"},
	{"sip:EXAMPLE.com.", U, 0, "udp:192.0.2.2:5060 udp:[2001:db8::2]:5060"},
	{"sips:example.com", ALL, 0, "tls:192.0.2.1:5061"},
	{"sips:example.com", U | T, -EPROTONOSUPPORT, ""},
	{"sip:same.example.com", ALL, 0,
	 "udp:192.0.2.2:5060 udp:[2001:db8::2]:5060 tcp:192.0.2.1:5060 tcp:192.0.2.2:5070 "
	 "tcp:[2001:db8::2]:5070"},
	{"sip:gap.example.com", U | T, 0, "tcp:192.0.2.1:5060 tcp:192.0.2.2:5070 tcp:[2001:db8::2]:5070"},
	{"sip:flat.example.com", ALL, 0, "tcp:192.0.2.2:5060 tcp:[2001:db8::2]:5060"},
	{"sip:sctp.example.com", ALL, -EPROTONOSUPPORT, ""},
	/* a port: addresses only */
	{"sip:example.com:5080", ALL, 0, "udp:192.0.2.9:5080"},
	{"sip:example.com:5080;transport=tcp", ALL, 0, "tcp:192.0.2.9:5080"},
	{"sips:example.com:5080", ALL, 0, "tls:192.0.2.9:5080"},
	{"sip:example.com:5080", T, 0, "tcp:192.0.2.9:5080"},
	/* a transport: SRV for it, else addresses */
	{"sip:example.com;transport=udp", ALL, 0, "udp:192.0.2.2:5060 udp:[2001:db8::2]:5060"},
	{"sip:example.com;transport=tls", ALL, 0, "tls:192.0.2.1:5061"},
	{"sip:host.example.com;transport=tcp", ALL, 0, "tcp:192.0.2.7:5060"},
	{"sip:host.example.com;transport=tls", ALL, 0, "tls:192.0.2.7:5061"},
	{"sip:host.example.com;transport=tls", U, -EPROTONOSUPPORT, ""},
	{"sips:two.example.com;transport=tcp", ALL, 0, "tls:192.0.2.7:6003"},
	/* no NAPTR: SRV for each that we have; none: addresses */
	{"sip:udp.example.com", ALL, 0, "udp:192.0.2.7:5099"},
	{"sip:two.example.com", ALL, 0, "udp:192.0.2.7:6001 tcp:192.0.2.7:6002 tls:192.0.2.7:6003"},
	{"sip:two.example.com", T, 0, "tcp:192.0.2.7:6002"},
	{"sips:two.example.com", ALL, 0, "tls:192.0.2.7:6003"},
	{"sip:host.example.com", ALL, 0, "udp:192.0.2.7:5060"},
	{"sips:host.example.com", ALL, 0, "tls:192.0.2.7:5061"},
	{"sip:host.example.com", T, 0, "tcp:192.0.2.7:5060"},
	{"sip:host.example.com", S, -EPROTONOSUPPORT, ""},
	{"sip:mute.example.com", ALL, 0, "udp:192.0.2.4:5060"},
	/* "." says no, which is not the same as nothing */
	{"sip:off.example.com", ALL, -ENOENT, ""},
	{"sip:off.example.com;transport=udp", ALL, -ENOENT, ""},
	{"sip:off.example.com;transport=tcp", ALL, 0, "tcp:192.0.2.8:5060"},
	/* what goes wrong */
	{"sip:nothing.example.com", ALL, -ENOENT, ""},
	{"sip:down.example.com", ALL, -ETIMEDOUT, ""},
	{"sip:bad.example.com", ALL, -EIO, ""},
	{"sip:srvbad.example.com", ALL, -EIO, ""},
	{"sip:half.example.com", ALL, 0, "udp:192.0.2.7:5060"},
	{"sip:deep.example.com", ALL, -ENOENT, ""},
	{"sip:dup.example.com", ALL, 0, "udp:192.0.2.7:5060"},
	{"sip:host.example.com", 0, -EPROTONOSUPPORT, ""},
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world w;
		struct sip_uri uri;
		struct plan p;
		struct plan_result r;
		char hops[1024];
		world_open(&w, big_zone);
		assert_int_equal(sip_uri_parse(slice_str(rows[i].uri), &uri), 0);
		assert_int_equal(plan_init(&p, &uri, rows[i].protos, true, true), 0);
		plan_run(&p, world_lookup, &w, &r);
		hops_print(&r, hops, sizeof(hops));
		if (r.error != rows[i].error || strcmp(hops, rows[i].hops) != 0 || r.pending)
			fail_msg("%s over %x: %d \"%s\", not %d \"%s\"", rows[i].uri, rows[i].protos, r.error,
				 hops, rows[i].error, rows[i].hops);
		world_close(&w);
	}
}

static int init(const char *text, struct plan *p)
{
	struct sip_uri uri;
	int rc = sip_uri_parse(slice_str(text), &uri);
	return rc ? rc : plan_init(p, &uri, ALL, true, true);
}

static void test_refused(void **state)
{
	(void)state;
	struct plan p;
	char uri[400], name[300];
	assert_int_equal(init("tel:+4930123", &p), -EINVAL);
	assert_int_equal(init("http://example.com", &p), -EINVAL);
	assert_int_equal(init("sip:example.com;transport=sctp", &p), -EINVAL);
	assert_int_equal(init("sip:192.0.2.1;transport=ws", &p), -EINVAL);
	memset(name, 'a', sizeof(name));
	for (int i = 10; i < 260; i += 10)
		name[i] = '.';
	snprintf(uri, sizeof(uri), "sip:%.253s", name);
	assert_int_equal(init(uri, &p), 0);
	snprintf(uri, sizeof(uri), "sip:%.254s", name);
	assert_int_equal(init(uri, &p), -EINVAL);
	memset(name, 'a', 64);
	snprintf(uri, sizeof(uri), "sip:%.63s.example", name);
	assert_int_equal(init(uri, &p), 0);
	snprintf(uri, sizeof(uri), "sip:%.64s.example", name);
	assert_int_equal(init(uri, &p), -EINVAL);
}

static void test_names(void **state)
{
	(void)state;
	static const char *const bad[] = {"",    ".",     "..",    "a..b", ".a", "a..",
					  "a b", "a\\.b", "a\x80", "a/b",  "a\n"};
	char out[RR_NAME_SIZE] = "untouched";
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(rr_name(slice_str(bad[i]), out), -EINVAL);
	assert_string_equal(out, "untouched");
	assert_int_equal(rr_name(SLICE_LIT("_SIP._tcp.Ex-1.COM."), out), 0);
	assert_string_equal(out, "_sip._tcp.ex-1.com");
	assert_int_equal(rr_name(slice_make("a\0b", 3), out), -EINVAL);
}

static void test_literal(void **state)
{
	(void)state;
	struct sip_uri uri;
	struct resolver_hop hop;
	assert_int_equal(sip_uri_parse(SLICE_LIT("sip:a@[::1]:7;transport=tcp"), &uri), 0);
	assert_int_equal(resolver_literal(&uri, ALL, &hop), 0);
	assert_int_equal(hop.proto, FLOW_TCP);
	assert_int_equal(hop.addr.port, 7);
	assert_int_equal(hop.addr.family, AF_INET6);
	assert_int_equal(resolver_literal(&uri, U, &hop), -EPROTONOSUPPORT);
	assert_int_equal(sip_uri_parse(SLICE_LIT("sip:a@example.com"), &uri), 0);
	assert_int_equal(resolver_literal(&uri, ALL, &hop), -EAGAIN);
	assert_int_equal(sip_uri_parse(SLICE_LIT("sip:192.0.2.1;transport=ws"), &uri), 0);
	assert_int_equal(resolver_literal(&uri, ALL, &hop), -EINVAL);
	assert_int_equal(sip_uri_parse(SLICE_LIT("tel:+49"), &uri), 0);
	assert_int_equal(resolver_literal(&uri, ALL, &hop), -EINVAL);
}

static void test_families(void **state)
{
	(void)state;
	static const struct {
		const char *uri;
		bool ipv4, ipv6;
		const char *hops;
	} fam[] = {
		{"sip:s2.example.com", true, false, "udp:192.0.2.2:5060"},
		{"sip:s2.example.com", false, true, "udp:[2001:db8::2]:5060"},
		{"sip:six.example.com", true, false, ""},
	};
	for (size_t i = 0; i < 3; i++) {
		struct world w;
		struct sip_uri uri;
		struct plan p;
		struct plan_result r;
		char hops[256];
		world_open(&w, big_zone);
		assert_int_equal(sip_uri_parse(slice_str(fam[i].uri), &uri), 0);
		assert_int_equal(plan_init(&p, &uri, ALL, fam[i].ipv4, fam[i].ipv6), 0);
		plan_run(&p, world_lookup, &w, &r);
		hops_print(&r, hops, sizeof(hops));
		assert_string_equal(hops, fam[i].hops);
		assert_int_equal(r.error, fam[i].hops[0] ? 0 : -ENOENT);
		world_close(&w);
	}
}

/* What does not depend on the missing answer is asked in the same pass. */
static void test_pending(void **state)
{
	(void)state;
	struct world w;
	struct plan p;
	struct plan_result r;
	world_open(&w, big_zone);
	assert_int_equal(init("sip:two.example.com", &p), 0);
	strcpy(w.unknown, "two.example.com");
	plan_run(&p, world_lookup, &w, &r);
	assert_true(r.pending);
	assert_int_equal(w.asked, 1); /* NAPTR decides what comes next */
	w.asked = 0;
	strcpy(w.unknown, "_sip._udp.two.example.com");
	plan_run(&p, world_lookup, &w, &r);
	assert_true(r.pending);
	assert_int_equal(w.asked, 1 + 3 + 2); /* NAPTR, three SRV, the targets of two of them */
	strcpy(w.unknown, "host.example.com");
	plan_run(&p, world_lookup, &w, &r);
	assert_true(r.pending);
	w.unknown[0] = '\0';
	plan_run(&p, world_lookup, &w, &r);
	assert_false(r.pending);
	assert_int_equal(r.hop_count, 3);
	world_close(&w);
}

/* RFC 2782: priority first; weights as shares; the same seed gives the same order. */
static void test_weights(void **state)
{
	(void)state;
	static const char zone[] = "_sip._udp.w.test SRV 10 60 1 t.test\n"
				   "_sip._udp.w.test SRV 10 20 2 t.test\n"
				   "_sip._udp.w.test SRV 10 20 3 t.test\n"
				   "_sip._udp.w.test SRV 10 0 4 t.test\n"
				   "_sip._udp.w.test SRV 5 0 5 t.test\n"
				   "_sip._udp.w.test SRV 5 0 6 t.test\n"
				   "_sip._udp.w.test SRV 20 100 7 t.test\n"
				   "t.test A 192.0.2.1\n";
	struct world w;
	struct plan p;
	struct plan_result r, again;
	unsigned third[8] = {0}, first[8] = {0};
	world_open(&w, zone);
	assert_int_equal(init("sip:w.test;transport=udp", &p), 0);
	const unsigned rounds = 20000;
	for (unsigned i = 0; i < rounds; i++) {
		p.seed = i * 0x9e3779b97f4a7c15u;
		plan_run(&p, world_lookup, &w, &r);
		assert_int_equal(r.hop_count, 7);
		first[r.hop[0].addr.port]++;
		third[r.hop[2].addr.port]++;
		assert_int_equal(r.hop[6].addr.port, 7);
		unsigned seen = 0;
		for (unsigned k = 0; k < 7; k++)
			seen |= 1u << r.hop[k].addr.port;
		assert_int_equal(seen, 0xfe);
	}
	plan_run(&p, world_lookup, &w, &again);
	for (unsigned i = 0; i < 7; i++) { /* by fields: between them there may be anything */
		assert_int_equal(again.hop[i].proto, r.hop[i].proto);
		assert_true(addr_eq(&again.hop[i].addr, &r.hop[i].addr));
	}
	/* Two of weight 0 alone share evenly; 60:20:20, and the one of weight 0 nearly never. */
	assert_in_range(first[5], rounds * 45 / 100, rounds * 55 / 100);
	assert_int_equal(first[5] + first[6], rounds);
	assert_in_range(third[1], rounds * 56 / 100, rounds * 63 / 100);
	assert_in_range(third[2], rounds * 17 / 100, rounds * 23 / 100);
	assert_in_range(third[3], rounds * 17 / 100, rounds * 23 / 100);
	assert_in_range(third[4], 1, rounds * 3 / 100);
	world_close(&w);
}

static void test_bounds(void **state)
{
	(void)state;
	struct world w;
	struct plan p;
	struct plan_result r;
	char zone[8192];
	struct buf b;
	buf_init(&b, zone, sizeof(zone) - 1);
	for (int i = 0; i < RR_MAX; i++)
		buf_printf(&b,
			   "_sip._udp.many.test SRV %d 0 %d t%d.test\nt%d.test A 192.0.2.%d\nt%d.test A "
			   "198.51.100.%d\n",
			   i, 6000 + i, i, i, i + 1, i, i + 1);
	zone[b.len] = '\0';
	assert_false(b.full);
	world_open(&w, zone);
	assert_int_equal(init("sip:many.test;transport=udp", &p), 0);
	plan_run(&p, world_lookup, &w, &r);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.hop_count, RESOLVER_HOPS_MAX);
	assert_int_equal(r.hop[0].addr.port, 6000);
	assert_int_equal(r.hop[15].addr.port, 6007);
	assert_true(w.asked <= 1 + RESOLVER_HOPS_MAX);
	world_close(&w);

	/* Targets without addresses do not make it ask without end. */
	world_open(&w, zone);
	for (unsigned i = 0; i < w.made_count; i++)
		if (w.made[i]->type == RR_ADDR)
			w.made[i]->error = -ENOENT;
	plan_run(&p, world_lookup, &w, &r);
	assert_int_equal(r.error, -ENOENT);
	assert_int_equal(w.asked, 1 + RESOLVER_HOPS_MAX);
	world_close(&w);

	/* A name that leaves no room for the prefix has no SRV records, but may have addresses. */
	char host[RR_NAME_SIZE], uri[300], rec[300];
	memset(host, 'a', sizeof(host));
	for (size_t i = 20; i < sizeof(host); i += 21)
		host[i] = '.';
	host[250] = '\0';
	snprintf(uri, sizeof(uri), "sip:%s;transport=tcp", host);
	world_open(&w, "");
	snprintf(rec, sizeof(rec), "%s", host);
	struct rr_set *s = world_set(&w, RR_ADDR, rec, 0);
	s->count = 1;
	assert_int_equal(addr_parse_ip(SLICE_LIT("192.0.2.1"), 0, &s->rr[0].addr), 0);
	assert_int_equal(init(uri, &p), 0);
	plan_run(&p, world_lookup, &w, &r);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.hop_count, 1);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),    cmocka_unit_test(test_refused),  cmocka_unit_test(test_names),
		cmocka_unit_test(test_literal), cmocka_unit_test(test_families), cmocka_unit_test(test_pending),
		cmocka_unit_test(test_weights), cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
