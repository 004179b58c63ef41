#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

/* Which local address the kernel uses towards a destination, for listeners bound to a wildcard. Direct-mapped; an entry
 * is asked for again after a while, since routes change. */
#define SOURCE_ENTRIES 256
#define SOURCE_AGE     10000 /* ms */

struct source_cache {
	struct source_entry {
		struct addr dest;
		struct addr local;
		msec_t when;
		unsigned listener;
	} entry[SOURCE_ENTRIES];
};

void self_cache_reset(struct proxy *p)
{
	free(p->sources);
	p->sources = NULL;
}

static bool source_find(struct proxy *p, unsigned listener, const struct addr *dest, struct addr *out)
{
	if (!p->lower.source)
		return false;
	if (!p->sources && !(p->sources = calloc(1, sizeof(*p->sources))))
		return p->lower.source(p->lower.ctx, listener, dest, out) == 0;
	uint64_t h = hash_bytes(dest->ip, sizeof(dest->ip), listener);
	struct source_entry *e = &p->sources->entry[h % SOURCE_ENTRIES];
	if (e->when == 0 || e->listener != listener || !addr_eq_ip(&e->dest, dest) ||
	    proxy_now(p) - e->when > SOURCE_AGE) {
		struct addr local;
		if (p->lower.source(p->lower.ctx, listener, dest, &local) < 0)
			return false;
		*e = (struct source_entry){*dest, local, proxy_now(p) | 1, listener};
	}
	*out = e->local;
	return true;
}

void self_sent_by(struct proxy *p, unsigned listener, const struct addr *dest, struct buf *b)
{
	const struct config_listen *l = &p->config->listen[listener];
	struct addr a = l->addr;

	if (l->advertise_host) {
		buf_slice(b, slice_str(l->advertise_host));
		buf_char(b, ':');
		buf_u64(b, l->advertise_port ? l->advertise_port : l->addr.port);
		return;
	}
	if (addr_is_any(&a)) {
		struct addr local;
		if (source_find(p, listener, dest, &local))
			memcpy(a.ip, local.ip, sizeof(a.ip));
	}
	addr_format_ip(&a, b);
	buf_char(b, ':');
	buf_u64(b, a.port);
}

static bool self_is_addr(const struct proxy *p, const struct addr *a)
{
	for (unsigned i = 0; i < p->self_count; i++)
		if (addr_eq(&p->self[i], a))
			return true;
	if (p->self)
		return false;
	for (unsigned i = 0; i < p->config->listen_count; i++)
		if (addr_eq(&p->config->listen[i].addr, a))
			return true;
	return false;
}

static struct slice without_dot(struct slice host)
{
	if (host.len > 1 && host.p[host.len - 1] == '.')
		host.len--;
	return host;
}

int self_domain(const struct proxy *p, struct slice host)
{
	return config_domain_find(p->config, without_dot(host));
}

bool self_is_domain(const struct proxy *p, struct slice host)
{
	return self_domain(p, host) >= 0;
}

bool self_is_host(const struct proxy *p, struct slice host, uint16_t port, bool secure)
{
	struct addr a;

	if (port == 0)
		port = secure ? 5061 : 5060;
	host = without_dot(host);
	for (unsigned i = 0; i < p->config->listen_count; i++) {
		const struct config_listen *l = &p->config->listen[i];
		if (l->advertise_host && slice_ieq(host, slice_str(l->advertise_host)) &&
		    port == (l->advertise_port ? l->advertise_port : l->addr.port))
			return true;
	}
	return addr_parse_ip(host, port, &a) == 0 && self_is_addr(p, &a);
}

static enum flow_proto uri_proto(const struct sip_uri *u)
{
	enum flow_proto proto = FLOW_UDP;
	struct slice v;

	if (u->scheme == SIP_SCHEME_SIPS)
		return FLOW_TLS;
	if (sip_param_get(u->params, SLICE_LIT("transport"), &v))
		flow_proto_parse(v, &proto);
	return proto;
}

bool self_is_uri(const struct proxy *p, const struct sip_uri *u)
{
	struct slice maddr;

	if (u->scheme != SIP_SCHEME_SIP && u->scheme != SIP_SCHEME_SIPS)
		return false;
	if (!sip_param_get(u->params, SLICE_LIT("maddr"), &maddr))
		maddr = u->host;
	return self_is_host(p, maddr, u->port, uri_proto(u) == FLOW_TLS);
}

int self_uri_listener(const struct proxy *p, const struct sip_uri *u)
{
	enum flow_proto proto = uri_proto(u);
	uint16_t port = u->port ? u->port : flow_proto_port(proto);
	struct slice host = without_dot(u->host);
	struct addr a;
	bool ip = addr_parse_ip(host, port, &a) == 0;

	for (unsigned i = 0; i < p->config->listen_count; i++) {
		const struct config_listen *l = &p->config->listen[i];
		if (l->proto != proto)
			continue;
		if (l->advertise_host && slice_ieq(host, slice_str(l->advertise_host)) &&
		    port == (l->advertise_port ? l->advertise_port : l->addr.port))
			return (int)i;
		if (!ip || l->addr.family != a.family || l->addr.port != port)
			continue;
		if (addr_eq(&a, &l->addr) || (addr_is_any(&l->addr) && self_is_addr(p, &a)))
			return (int)i;
	}
	return -1;
}

int self_listener(const struct proxy *p, enum flow_proto proto, const struct addr *dest, int prefer)
{
	const struct config *c = p->config;
	int found = -1;

	for (unsigned i = 0; i < c->listen_count; i++) {
		const struct config_listen *l = &c->listen[i];
		if (l->proto != proto || l->addr.family != dest->family)
			continue;
		/* A socket bound to loopback cannot reach another host, and the kernel would not say so. */
		if (addr_is_loopback(&l->addr) && !addr_is_loopback(dest))
			continue;
		if ((int)i == prefer)
			return prefer;
		if (found < 0)
			found = (int)i;
	}
	return found;
}
