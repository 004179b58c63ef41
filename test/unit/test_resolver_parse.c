/* Replies of name servers: good ones, odd ones, and any bytes at all. */
#include <errno.h>

#include "resolver/rr_p.h"
#include "unit.h"

enum { SRV = 33, NAPTR = 35, CNAME = 5, A = 1 };

struct reply {
	unsigned char p[4096];
	int len;
};

static void put8(struct reply *r, unsigned v)
{
	r->p[r->len++] = (unsigned char)v;
}

static void put16(struct reply *r, unsigned v)
{
	put8(r, v >> 8);
	put8(r, v & 255);
}

static void put_string(struct reply *r, const char *s)
{
	put8(r, (unsigned)strlen(s));
	memcpy(r->p + r->len, s, strlen(s));
	r->len += (int)strlen(s);
}

static void put_name(struct reply *r, const char *name)
{
	char copy[256], *at = copy, *label;
	snprintf(copy, sizeof(copy), "%s", name);
	while ((label = strsep(&at, ".")) != NULL)
		if (*label)
			put_string(r, label);
	put8(r, 0);
}

static void start(struct reply *r, const char *name, unsigned type)
{
	memset(r, 0, sizeof(*r));
	put16(r, 0x1234);
	put16(r, 0x8180);
	put16(r, 1);
	put16(r, 0);
	put16(r, 0);
	put16(r, 0);
	put_name(r, name);
	put16(r, type);
	put16(r, 1);
}

/* Returns where the length stands; ended by `finish`. */
static int rr(struct reply *r, const char *owner, unsigned type, uint32_t ttl)
{
	unsigned n = (unsigned)r->p[6] << 8 | r->p[7];
	r->p[6] = (unsigned char)((n + 1) >> 8);
	r->p[7] = (unsigned char)(n + 1);
	if (owner)
		put_name(r, owner);
	else
		put16(r, 0xc00c); /* the question's name */
	put16(r, type);
	put16(r, 1);
	put16(r, ttl >> 16);
	put16(r, ttl & 0xffff);
	put16(r, 0);
	return r->len - 2;
}

static void finish(struct reply *r, int at)
{
	int n = r->len - at - 2;
	r->p[at] = (unsigned char)(n >> 8);
	r->p[at + 1] = (unsigned char)n;
}

static void put_srv(struct reply *r, const char *owner, uint32_t ttl, unsigned prio, unsigned weight,
		    unsigned port, const char *target)
{
	int at = rr(r, owner, SRV, ttl);
	put16(r, prio);
	put16(r, weight);
	put16(r, port);
	put_name(r, target);
	finish(r, at);
}

static void put_naptr(struct reply *r, uint32_t ttl, unsigned order, unsigned pref, const char *flags,
		      const char *service, const char *target)
{
	int at = rr(r, NULL, NAPTR, ttl);
	put16(r, order);
	put16(r, pref);
	put_string(r, flags);
	put_string(r, service);
	put_string(r, "");
	put_name(r, target);
	finish(r, at);
}

static void put_cname(struct reply *r, const char *owner, uint32_t ttl, const char *target)
{
	int at = rr(r, owner, CNAME, ttl);
	put_name(r, target);
	finish(r, at);
}

static struct rr_set *parse_ok(enum rr_type type, const char *name, const struct reply *r)
{
	struct rr_set *s = NULL;
	assert_int_equal(rr_parse(type, name, r->p, r->len, &s), 0);
	assert_non_null(s);
	return s;
}

static void test_srv(void **state)
{
	(void)state;
	struct reply r;
	start(&r, "_sip._udp.a.test", SRV);
	put_srv(&r, NULL, 300, 10, 60, 5060, "One.a.test");
	put_srv(&r, "_SIP._udp.A.test", 200, 20, 0, 5070, "two.a.test");
	put_srv(&r, "_sip._udp.other.test", 5, 1, 1, 5070, "three.a.test"); /* not asked for */
	put_srv(&r, NULL, 5, 1, 1, 0, "four.a.test");                       /* no port */
	put_srv(&r, NULL, 5, 1, 1, 5060, "fi ve.a.test");                   /* no host name */
	put_srv(&r, NULL, 250, 1, 1, 0, "");                                /* decidedly none */
	struct rr_set *s = parse_ok(RR_SRV, "_sip._udp.a.test", &r);
	assert_int_equal(s->error, 0);
	assert_int_equal(s->count, 3);
	assert_int_equal(s->ttl, 200);
	assert_string_equal(s->rr[0].srv.target, "one.a.test");
	assert_int_equal(s->rr[0].srv.priority, 10);
	assert_int_equal(s->rr[0].srv.weight, 60);
	assert_int_equal(s->rr[1].srv.port, 5070);
	assert_string_equal(s->rr[2].srv.target, "");
	rr_set_unref(s);
}

static void test_naptr(void **state)
{
	(void)state;
	struct reply r;
	start(&r, "a.test", NAPTR);
	put_naptr(&r, 60, 10, 20, "S", "sip+d2u", "_sip._udp.a.test");
	put_naptr(&r, 60, 10, 21, "s", "SIP+D2T", "_sip._tcp.a.test");
	put_naptr(&r, 60, 10, 22, "a", "SIPS+D2T", "b.test");
	put_naptr(&r, 60, 10, 23, "s", "SIP+D2S", "_sip._sctp.a.test");
	put_naptr(&r, 60, 10, 24, "u", "E2U+sip", "");
	put_naptr(&r, 60, 10, 25, "", "SIP+D2U", "c.test");
	put_naptr(&r, 60, 10, 26, "s", "SIP+D2U", "");
	struct rr_set *s = parse_ok(RR_NAPTR, "a.test", &r);
	assert_int_equal(s->count, 4);
	assert_int_equal(s->rr[0].naptr.proto, FLOW_UDP);
	assert_int_equal(s->rr[0].naptr.flag, 's');
	assert_int_equal(s->rr[1].naptr.proto, FLOW_TCP);
	assert_int_equal(s->rr[2].naptr.proto, FLOW_TLS);
	assert_true(s->rr[2].naptr.secure);
	assert_int_equal(s->rr[2].naptr.flag, 'a');
	assert_int_equal(s->rr[3].naptr.proto, FLOW_PROTO_COUNT);
	rr_set_unref(s);
}

static void test_cname(void **state)
{
	(void)state;
	struct reply r;
	start(&r, "a.test", SRV);
	put_srv(&r, "c.test", 300, 1, 1, 5060, "x.test"); /* before the names that lead to it */
	put_cname(&r, "b.test", 100, "c.test");
	put_cname(&r, NULL, 200, "b.test");
	struct rr_set *s = parse_ok(RR_SRV, "a.test", &r);
	assert_int_equal(s->count, 1);
	assert_int_equal(s->ttl, 100);
	rr_set_unref(s);

	start(&r, "a.test", SRV); /* a circle */
	put_cname(&r, "a.test", 100, "b.test");
	put_cname(&r, "b.test", 100, "a.test");
	s = parse_ok(RR_SRV, "a.test", &r);
	assert_int_equal(s->error, -ENOENT);
	rr_set_unref(s);
}

static void test_nothing_and_bounds(void **state)
{
	(void)state;
	struct reply r;
	start(&r, "a.test", SRV);
	struct rr_set *s = parse_ok(RR_SRV, "a.test", &r);
	assert_int_equal(s->error, -ENOENT);
	rr_set_unref(s);

	start(&r, "a.test", SRV);
	for (unsigned i = 0; i < RR_MAX + 20; i++)
		put_srv(&r, NULL, i ? 60 : 0x80000000u, i, 1, 5060, "x.test");
	s = parse_ok(RR_SRV, "a.test", &r);
	assert_int_equal(s->count, RR_MAX);
	assert_int_equal(s->rr[RR_MAX - 1].srv.priority, RR_MAX - 1);
	assert_int_equal(s->ttl, 0);
	rr_set_unref(s);
	/* Cut anywhere, it is an error or a smaller truth, and `out` is not touched by an error. */
	for (int len = 0; len < r.len; len++) {
		s = NULL;
		unsigned char *copy = malloc((size_t)len + 1); /* so that a sanitizer sees the end */
		memcpy(copy, r.p, (size_t)len);
		assert_int_equal(rr_parse(RR_SRV, "a.test", copy, len, &s), -EBADMSG);
		assert_null(s);
		free(copy);
	}
}

static void test_any_bytes(void **state)
{
	(void)state;
	struct reply good, bad;
	unsigned seed = 5, fine = 0;
	start(&good, "a.test", NAPTR);
	put_cname(&good, NULL, 5, "b.test");
	put_naptr(&good, 60, 10, 20, "s", "SIP+D2U", "_sip._udp.a.test");
	put_srv(&good, NULL, 60, 1, 2, 3, "x.test");
	for (int i = 0; i < 100000; i++) {
		bad = good;
		for (int k = 1 + rand_r(&seed) % 8; k > 0; k--)
			bad.p[rand_r(&seed) % good.len] = (unsigned char)rand_r(&seed);
		int len = rand_r(&seed) % 4 ? good.len : rand_r(&seed) % (good.len + 1);
		unsigned char *copy = malloc((size_t)len + 1);
		memcpy(copy, bad.p, (size_t)len);
		struct rr_set *s = NULL;
		int rc = rr_parse(i % 2 ? RR_SRV : RR_NAPTR, "a.test", copy, len, &s);
		assert_true(rc == -EBADMSG || (rc == 0 && s && s->count <= RR_MAX));
		fine += rc == 0;
		rr_set_unref(s);
		free(copy);
	}
	assert_in_range(fine, 1000, 99000);
}

static void oom_body(void)
{
	struct reply r;
	struct rr_set *s = NULL;
	start(&r, "a.test", NAPTR);
	put_naptr(&r, 60, 10, 20, "s", "SIP+D2U", "_sip._udp.a.test");
	int rc = rr_parse(RR_NAPTR, "a.test", r.p, r.len, &s);
	if (rc) { /* but the realloc that gives memory back may fail */
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		return;
	}
	assert_int_equal(s->count, 1);
	rr_set_unref(s);
}

static void test_no_memory(void **state)
{
	(void)state;
	UNIT_OOM(oom_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_srv),       cmocka_unit_test(test_naptr),
		cmocka_unit_test(test_cname),     cmocka_unit_test(test_nothing_and_bounds),
		cmocka_unit_test(test_any_bytes), cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
