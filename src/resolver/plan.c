#include "resolver/plan_p.h"

#include <errno.h>

#include "base/hash.h"

#define PORT_SIP       5060
#define PORT_SIPS      5061
#define TARGETS_MAX    RESOLVER_HOPS_MAX /* host names looked up for one plan */
#define NAPTR_USED_MAX 16

enum srv_result { SRV_NONE, SRV_FOUND, SRV_UNAVAILABLE, SRV_FAILED, SRV_PENDING };

struct run {
	const struct plan *plan;
	plan_lookup_fn *lookup;
	void *ctx;
	struct plan_result *out;
	unsigned targets; /* host names so far */
};

static uint16_t default_port(uint8_t proto)
{
	return proto == FLOW_TLS ? PORT_SIPS : PORT_SIP;
}

static bool supported(const struct plan *p, uint8_t proto)
{
	return proto < FLOW_PROTO_COUNT && (p->protos & 1u << proto);
}

/* What is used where neither the URI nor the DNS names a transport (4.1): UDP, or TLS for sips. TCP stands in for
 * UDP where we have no UDP. */
static uint8_t default_proto(const struct plan *p)
{
	if (p->proto != PLAN_PROTO_NONE)
		return p->proto;
	if (p->secure)
		return FLOW_TLS;
	return !supported(p, FLOW_UDP) && supported(p, FLOW_TCP) ? FLOW_TCP : FLOW_UDP;
}

static int transport_read(const struct sip_uri *uri, struct plan *p)
{
	enum flow_proto proto;
	struct slice v;
	if (!sip_param_get(uri->params, SLICE_LIT("transport"), &v))
		return 0;
	if (!flow_proto_parse(v, &proto))
		return -EINVAL;
	p->proto = (uint8_t)(proto == FLOW_TCP && p->secure ? FLOW_TLS : proto);
	return 0;
}

int plan_init(struct plan *p, const struct sip_uri *uri, unsigned protos, bool ipv4, bool ipv6)
{
	struct plan t = {
		.proto = PLAN_PROTO_NONE, .port = uri->port, .protos = protos, .ipv4 = ipv4, .ipv6 = ipv6};
	struct slice host = uri->host, maddr;
	if (uri->scheme != SIP_SCHEME_SIP && uri->scheme != SIP_SCHEME_SIPS)
		return -EINVAL;
	t.secure = uri->scheme == SIP_SCHEME_SIPS;
	if (t.secure)
		t.protos &= 1u << FLOW_TLS;
	int rc = transport_read(uri, &t);
	if (rc)
		return rc;
	if (sip_param_get(uri->params, SLICE_LIT("maddr"), &maddr) && maddr.len)
		host = maddr;
	if (addr_parse_ip(host, 0, &t.literal) < 0) {
		t.literal = (struct addr){0};
		rc = rr_name(host, t.host);
	}
	if (!rc)
		*p = t;
	return rc;
}

/* Of what went wrong, the worse stays: a server that is silent says less about a name than one that denies it. */
static void note_error(struct run *r, int error)
{
	static const int order[] = {0, -EPROTONOSUPPORT, -ENOENT, -E2BIG, -EIO, -ETIMEDOUT};
	size_t now = 0, then = 4; /* anything else ranks as -EIO */
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		now = order[i] == r->out->error ? i : now;
		then = order[i] == error ? i : then;
	}
	if (then > now)
		r->out->error = order[then];
}

static void push_hop(struct run *r, const struct addr *a, uint8_t proto, uint16_t port)
{
	struct plan_result *out = r->out;
	struct resolver_hop hop = {.proto = proto, .addr = *a};
	hop.addr.port = port;
	if (out->hop_count == RESOLVER_HOPS_MAX)
		return;
	for (unsigned i = 0; i < out->hop_count; i++)
		if (out->hop[i].proto == proto && addr_eq(&out->hop[i].addr, &hop.addr))
			return;
	out->hop[out->hop_count++] = hop;
}

static void run_host(struct run *r, const char *name, uint8_t proto, uint16_t port)
{
	unsigned before = r->out->hop_count;
	if (!supported(r->plan, proto)) {
		note_error(r, -EPROTONOSUPPORT);
		return;
	}
	if (before == RESOLVER_HOPS_MAX || r->targets == TARGETS_MAX)
		return;
	r->targets++;
	const struct rr_set *s = r->lookup(r->ctx, RR_ADDR, name);
	if (!s) {
		r->out->pending = true;
		return;
	}
	if (s->error) {
		note_error(r, s->error);
		return;
	}
	bool any = false;
	for (unsigned i = 0; i < s->count; i++) {
		const struct addr *a = &s->rr[i].addr;
		if (a->family == AF_INET ? !r->plan->ipv4 : !r->plan->ipv6)
			continue;
		any = true;
		push_hop(r, a, proto, port);
	}
	if (!any)
		note_error(r, -ENOENT);
}

static uint64_t draw(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15u;
	return hash_join(*state, *state >> 7);
}

/* RFC 2782: the lowest priority first; within one, drawn by weight, those of weight 0 having their small chance by
 * standing first. `order` gets the indices. */
static void srv_order(const struct rr_set *s, uint64_t seed, uint8_t order[static RR_MAX])
{
	unsigned n = s->count;
	uint64_t state = hash_bytes(s->name, strlen(s->name), seed);
	for (unsigned i = 0; i < n; i++)
		order[i] = (uint8_t)i;
	for (unsigned i = 1; i < n; i++) { /* by priority, weight 0 first: few, so by insertion */
		for (unsigned k = i; k > 0; k--) {
			const struct rr_srv *a = &s->rr[order[k - 1]].srv, *b = &s->rr[order[k]].srv;
			if (a->priority < b->priority ||
			    (a->priority == b->priority && (a->weight == 0 || b->weight != 0)))
				break;
			uint8_t t = order[k];
			order[k] = order[k - 1];
			order[k - 1] = t;
		}
	}
	for (unsigned at = 0; at + 1 < n; at++) {
		uint64_t sum = 0, running = 0;
		unsigned end = at, pick = at;
		for (; end < n && s->rr[order[end]].srv.priority == s->rr[order[at]].srv.priority; end++)
			sum += s->rr[order[end]].srv.weight;
		/* Where every weight is 0 all are alike. */
		uint64_t chosen = sum ? draw(&state) % (sum + 1) : 0;
		if (!sum)
			pick = at + (unsigned)(draw(&state) % (end - at));
		for (unsigned i = at; sum && i < end; i++) {
			running += s->rr[order[i]].srv.weight;
			pick = i;
			if (running >= chosen)
				break;
		}
		uint8_t t = order[pick];
		memmove(order + at + 1, order + at, pick - at);
		order[at] = t;
	}
}

static enum srv_result run_srv(struct run *r, const char *name, uint8_t proto)
{
	uint8_t order[RR_MAX] = {0};
	const struct rr_set *s = r->lookup(r->ctx, RR_SRV, name);
	if (!s) {
		r->out->pending = true;
		return SRV_PENDING;
	}
	if (s->error) {
		note_error(r, s->error);
		return s->error == -ENOENT ? SRV_NONE : SRV_FAILED;
	}
	srv_order(s, r->plan->seed, order);
	bool any = false;
	for (unsigned i = 0; i < s->count; i++) {
		const struct rr_srv *srv = &s->rr[order[i]].srv;
		if (!srv->target[0])
			continue;
		any = true;
		run_host(r, srv->target, proto, srv->port);
	}
	if (!any)
		note_error(r, -ENOENT);
	return any ? SRV_FOUND : SRV_UNAVAILABLE;
}

/* SRV for every transport that may be used; with none at all, the addresses of the name itself. */
static void run_srv_all(struct run *r)
{
	static const struct {
		uint8_t proto;
		const char *prefix;
	} services[] = {
		{FLOW_UDP, "_sip._udp."},
		{FLOW_TCP, "_sip._tcp."},
		{FLOW_TLS, "_sips._tcp."},
	};
	char name[RR_NAME_SIZE];
	const struct plan *p = r->plan;
	bool fallback = true;
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		uint8_t proto = services[i].proto;
		if (!supported(p, proto) || (p->proto != PLAN_PROTO_NONE && p->proto != proto))
			continue;
		if (rr_name_join(services[i].prefix, p->host, name) == 0 && run_srv(r, name, proto) != SRV_NONE)
			fallback = false;
	}
	if (fallback) {
		uint8_t proto = default_proto(p);
		r->out->error = 0;
		run_host(r, p->host, proto, default_port(proto));
	}
}

static bool naptr_usable(const struct plan *p, const struct rr_naptr *n)
{
	return supported(p, n->proto) && (n->secure || !p->secure);
}

static bool naptr_before(const struct rr_naptr *a, const struct rr_naptr *b)
{
	return a->order != b->order ? a->order < b->order : a->preference < b->preference;
}

/* Records in the order of preference. Those of a higher order count only when nothing came of the lower ones
 * (RFC 3403 4.1). */
static void run_naptr(struct run *r, const struct rr_set *s)
{
	const struct rr_naptr *use[NAPTR_USED_MAX];
	unsigned n = 0;
	for (unsigned i = 0; i < s->count && n < NAPTR_USED_MAX; i++) {
		const struct rr_naptr *rec = &s->rr[i].naptr;
		if (!naptr_usable(r->plan, rec))
			continue;
		unsigned at = n++;
		for (; at > 0 && naptr_before(rec, use[at - 1]); at--)
			use[at] = use[at - 1];
		use[at] = rec;
	}
	if (n == 0)
		note_error(r, -EPROTONOSUPPORT);
	for (unsigned i = 0; i < n; i++) {
		if (i > 0 && use[i]->order != use[i - 1]->order && (r->out->hop_count || r->out->pending))
			break;
		if (use[i]->flag == 's')
			run_srv(r, use[i]->target, use[i]->proto);
		else
			run_host(r, use[i]->target, use[i]->proto, default_port(use[i]->proto));
	}
}

static void run_name(struct run *r)
{
	const struct plan *p = r->plan;
	if (p->port) {
		run_host(r, p->host, default_proto(p), p->port);
		return;
	}
	if (p->proto == PLAN_PROTO_NONE) {
		const struct rr_set *s = r->lookup(r->ctx, RR_NAPTR, p->host);
		if (!s) {
			r->out->pending = true;
			return;
		}
		/* Servers that do not know the type, and boxes that swallow the question, must not cost the call. */
		if (!s->error) {
			run_naptr(r, s);
			return;
		}
	}
	run_srv_all(r);
}

void plan_run(const struct plan *p, plan_lookup_fn *lookup, void *ctx, struct plan_result *out)
{
	struct run r = {p, lookup, ctx, out, 0};
	uint8_t proto = default_proto(p);
	out->pending = false;
	out->error = 0;
	out->hop_count = 0;
	if (p->protos == 0 || (p->proto != PLAN_PROTO_NONE && !supported(p, p->proto)))
		out->error = -EPROTONOSUPPORT;
	else if (p->literal.family && !supported(p, proto))
		out->error = -EPROTONOSUPPORT;
	else if (p->literal.family)
		push_hop(&r, &p->literal, proto, p->port ? p->port : default_port(proto));
	else
		run_name(&r);
	if (out->hop_count)
		out->error = 0;
	else if (!out->error && !out->pending)
		out->error = -ENOENT;
}
