/* A transport address: family, IP and port, small enough to be copied and compared everywhere. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/slice.h"

struct addr {
	uint16_t family; /* AF_INET, AF_INET6, or 0: none */
	uint16_t port;   /* host byte order */
	uint32_t scope;  /* IPv6 link-local interface index, else 0 */
	uint8_t ip[16];  /* network byte order; IPv4 in the first four bytes, the rest 0 */
};

/* "[v6%zone]:port" or "v4:port" and nothing else, for the longest of addr_format. */
#define ADDR_STRLEN 72

/* An IPv4 address, or an IPv6 one with or without brackets and without a zone; no name look-up. An IPv4-mapped
 * IPv6 address becomes the IPv4 one. 0 or -EINVAL. */
int addr_parse_ip(struct slice host, uint16_t port, struct addr *out);

/* "192.0.2.1:5060", "[2001:db8::1]:5060" or, with the name or the number of an interface, "[fe80::1%eth0]:5060"; the
 * port is required. For configuration and our own records: a zone's name costs system calls. 0 or -EINVAL. */
int addr_parse(struct slice text, struct addr *out);

/* The IP alone, IPv6 in brackets as SIP writes it, without a zone. */
void addr_format_ip(const struct addr *a, struct buf *b);
/* IP and port as addr_parse takes them; a zone is written as a number. */
void addr_format(const struct addr *a, struct buf *b);
/* For log lines: NUL-terminated text in `out`; returns out. */
const char *addr_str(const struct addr *a, char out[static ADDR_STRLEN]);

/* An IPv4-mapped IPv6 address becomes the IPv4 one. 0 or -EAFNOSUPPORT. */
int addr_from_sockaddr(const struct sockaddr *sa, struct addr *out);
/* Returns the length of what was written to ss. A v4 address for a v6 socket is not mapped: sockets are V6ONLY. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_eq_ip(const struct addr *a, const struct addr *b);
bool addr_is_any(const struct addr *a);
bool addr_is_loopback(const struct addr *a);
bool addr_is_unicast(const struct addr *a); /* neither any, multicast, nor the limited broadcast */

/* A CIDR block, "192.0.2.0/24", or an address alone; bits of the address beyond the prefix are ignored. */
struct addr_net {
	struct addr base;
	unsigned bits;
};
int addr_net_parse(struct slice text, struct addr_net *out); /* 0 or -EINVAL */
bool addr_net_has(const struct addr_net *n, const struct addr *a);
bool addr_nets_have(const struct addr_net *n, unsigned count, const struct addr *a); /* any of them */

#endif
