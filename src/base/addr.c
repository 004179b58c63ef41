#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Our sockets are V6ONLY: an IPv4-mapped address can only be reached as the IPv4 one that it stands for. */
static bool addr_unmap(struct addr *a)
{
	if (a->family != AF_INET6 || memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return false;
	memcpy(a->ip, a->ip + 12, 4);
	memset(a->ip + 4, 0, 12);
	a->family = AF_INET;
	a->scope = 0;
	return true;
}

static bool addr_is_link_local(const struct addr *a)
{
	return a->family == AF_INET6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* Four decimal numbers without leading zeros, which some would read as octal. */
static bool addr_parse_v4(struct slice s, uint8_t ip[static 4])
{
	if (s.len < 7 || s.len > 15)
		return false;
	const char *p = s.p, *end = s.p + s.len;

	for (int i = 0; i < 4; i++) {
		unsigned v = 0;
		const char *start;
		if (i && (p == end || *p++ != '.'))
			return false;
		start = p;
		while (p < end && *p >= '0' && *p <= '9' && p - start < 3)
			v = v * 10 + (unsigned)(*p++ - '0');
		if (p == start || v > 255 || (*start == '0' && p - start > 1))
			return false;
		ip[i] = (uint8_t)v;
	}
	return p == end;
}

static bool addr_parse_v6(struct slice s, uint8_t ip[static 16])
{
	char t[INET6_ADDRSTRLEN];

	if (s.len < 2 || s.len >= sizeof(t) || memchr(s.p, 0, s.len))
		return false;
	memcpy(t, s.p, s.len);
	t[s.len] = 0;
	return inet_pton(AF_INET6, t, ip) == 1;
}

static bool addr_parse_zone(struct slice s, uint32_t *scope)
{
	char name[IF_NAMESIZE];
	uint64_t v;
	unsigned i;

	if (slice_u64(s, UINT32_MAX, &v)) {
		*scope = (uint32_t)v;
		return v != 0;
	}
	if (s.len == 0 || s.len >= sizeof(name) || memchr(s.p, 0, s.len))
		return false;
	memcpy(name, s.p, s.len);
	name[s.len] = 0;
	i = if_nametoindex(name);
	*scope = i;
	return i != 0;
}

static int addr_parse_host(struct slice host, uint16_t port, bool zones, struct addr *out)
{
	struct addr a = {.port = port};
	const char *zone;
	bool brackets = host.len && host.p[0] == '[';

	if (brackets) {
		if (host.len < 4 || host.p[host.len - 1] != ']')
			return -EINVAL;
		host = slice_make(host.p + 1, host.len - 2);
	} else if (addr_parse_v4(host, a.ip)) {
		a.family = AF_INET;
		*out = a;
		return 0;
	}
	zone = zones && host.len ? memchr(host.p, '%', host.len) : NULL;
	if (zone) {
		size_t at = (size_t)(zone - host.p);
		if (!addr_parse_zone(slice_make(zone + 1, host.len - at - 1), &a.scope))
			return -EINVAL;
		host.len = at;
	}
	if (!addr_parse_v6(host, a.ip))
		return -EINVAL;
	a.family = AF_INET6;
	if (a.scope && !addr_is_link_local(&a))
		return -EINVAL;
	addr_unmap(&a);
	*out = a;
	return 0;
}

int addr_parse_ip(struct slice host, uint16_t port, struct addr *out)
{
	return addr_parse_host(host, port, false, out);
}

int addr_parse(struct slice text, struct addr *out)
{
	struct slice host = text;
	uint64_t port;

	while (host.len && host.p[host.len - 1] != ':')
		host.len--;
	if (host.len < 2)
		return -EINVAL;
	if (!slice_u64(slice_make(host.p + host.len, text.len - host.len), UINT16_MAX, &port))
		return -EINVAL;
	host.len--;
	/* Without brackets nobody can say where a v6 address ends and its port begins. */
	if (host.p[0] != '[' && memchr(host.p, ':', host.len))
		return -EINVAL;
	return addr_parse_host(host, (uint16_t)port, true, out);
}

static void addr_format_host(const struct addr *a, bool zone, struct buf *b)
{
	char t[INET6_ADDRSTRLEN];

	if (a->family == AF_INET) {
		for (int i = 0; i < 4; i++) {
			if (i)
				buf_char(b, '.');
			buf_u64(b, a->ip[i]);
		}
	} else if (a->family == AF_INET6 && inet_ntop(AF_INET6, a->ip, t, sizeof(t))) {
		buf_char(b, '[');
		buf_put(b, t, strlen(t));
		if (zone && a->scope) {
			buf_char(b, '%');
			buf_u64(b, a->scope);
		}
		buf_char(b, ']');
	} else {
		buf_lit(b, "none");
	}
}

void addr_format_ip(const struct addr *a, struct buf *b)
{
	addr_format_host(a, false, b);
}

void addr_format(const struct addr *a, struct buf *b)
{
	addr_format_host(a, true, b);
	buf_char(b, ':');
	buf_u64(b, a->port);
}

const char *addr_str(const struct addr *a, char out[static ADDR_STRLEN])
{
	struct buf b;

	buf_init(&b, out, ADDR_STRLEN - 1);
	addr_format(a, &b);
	out[b.len] = 0;
	return out;
}

int addr_from_sockaddr(const struct sockaddr *sa, struct addr *out)
{
	struct addr a = {.family = sa->sa_family};

	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof(in));
		a.port = ntohs(in.sin_port);
		memcpy(a.ip, &in.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof(in6));
		a.port = ntohs(in6.sin6_port);
		memcpy(a.ip, &in6.sin6_addr, 16);
		if (addr_is_link_local(&a))
			a.scope = in6.sin6_scope_id;
		addr_unmap(&a);
	} else {
		return -EAFNOSUPPORT;
	}
	*out = a;
	return 0;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
	if (a->family == AF_INET) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
		memcpy(&in.sin_addr, a->ip, 4);
		memcpy(ss, &in, sizeof(in));
		return sizeof(in);
	}
	if (a->family == AF_INET6) {
		struct sockaddr_in6 in6 = {
			.sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};
		memcpy(&in6.sin6_addr, a->ip, 16);
		memcpy(ss, &in6, sizeof(in6));
		return sizeof(in6);
	}
	ss->ss_family = AF_UNSPEC;
	return sizeof(ss->ss_family);
}

bool addr_eq_ip(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->port == b->port && addr_eq_ip(a, b);
}

bool addr_is_any(const struct addr *a)
{
	static const uint8_t zero[16];

	return a->family != 0 && memcmp(a->ip, zero, sizeof(zero)) == 0;
}

bool addr_is_loopback(const struct addr *a)
{
	static const uint8_t one[16] = {[15] = 1};

	if (a->family == AF_INET)
		return a->ip[0] == 127;
	return a->family == AF_INET6 && memcmp(a->ip, one, sizeof(one)) == 0;
}

int addr_net_parse(struct slice text, struct addr_net *out)
{
	struct addr_net n = {0};
	struct slice host = text;
	const char *slash = text.len ? memchr(text.p, '/', text.len) : NULL;
	uint64_t bits;

	if (slash)
		host.len = (size_t)(slash - text.p);
	if (addr_parse_ip(host, 0, &n.base) < 0)
		return -EINVAL;
	n.bits = n.base.family == AF_INET ? 32 : 128;
	if (slash) {
		struct slice s = slice_make(slash + 1, text.len - host.len - 1);
		/* A prefix of a mapped address counts from the start of its IPv6 form. */
		unsigned skip = n.base.family == AF_INET && memchr(host.p, ':', host.len) ? 96 : 0;
		if (!slice_u64(s, n.bits + skip, &bits) || bits < skip)
			return -EINVAL;
		n.bits = (unsigned)bits - skip;
	}
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = n.bits > 8 * i ? n.bits - 8 * i : 0;
		if (keep < 8)
			n.base.ip[i] = (uint8_t)(n.base.ip[i] & (0xff00u >> keep));
	}
	*out = n;
	return 0;
}

bool addr_net_has(const struct addr_net *n, const struct addr *a)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->base.family == 0 || n->base.family != a->family || memcmp(n->base.ip, a->ip, whole) != 0)
		return false;
	return rest == 0 || ((n->base.ip[whole] ^ a->ip[whole]) & (0xff00u >> rest) & 0xff) == 0;
}

bool addr_nets_have(const struct addr_net *n, unsigned count, const struct addr *a)
{
	for (unsigned i = 0; i < count; i++)
		if (addr_net_has(&n[i], a))
			return true;
	return false;
}

bool addr_is_unicast(const struct addr *a)
{
	static const uint8_t broadcast[4] = {255, 255, 255, 255};

	if (addr_is_any(a))
		return false;
	if (a->family == AF_INET)
		return (a->ip[0] & 0xf0) != 0xe0 && memcmp(a->ip, broadcast, sizeof(broadcast)) != 0;
	return a->ip[0] != 0xff;
}
