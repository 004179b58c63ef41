#include "transport/local.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

int local_source(const struct addr *bound, const struct addr *dest, struct addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len;
	struct addr a;
	int fd, rc = 0;

	if (bound->family != dest->family)
		return -EAFNOSUPPORT;
	if (!addr_is_any(bound)) {
		*out = *bound;
		return 0;
	}
	fd = socket(dest->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* connect on a UDP socket sends nothing: it only asks the routing table. */
	len = addr_to_sockaddr(dest, &ss);
	if (connect(fd, (struct sockaddr *)&ss, len) < 0) {
		rc = -errno;
		goto out;
	}
	len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
		rc = -errno;
		goto out;
	}
	rc = addr_from_sockaddr((struct sockaddr *)&ss, &a);
	if (rc)
		goto out;
	a.port = bound->port;
	*out = a;
out:
	close(fd);
	return rc;
}

int local_list(const struct addr *bound, struct addr *out, unsigned max)
{
	struct ifaddrs *list;
	unsigned n = 0;

	if (max == 0)
		return 0;
	if (!addr_is_any(bound)) {
		*out = *bound;
		return 1;
	}
	if (getifaddrs(&list) < 0)
		return -errno;
	for (const struct ifaddrs *i = list; i && n < max; i = i->ifa_next) {
		struct addr a;
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || i->ifa_addr->sa_family != bound->family)
			continue;
		if (addr_from_sockaddr(i->ifa_addr, &a) < 0)
			continue;
		a.port = bound->port;
		out[n++] = a;
	}
	freeifaddrs(list);
	return (int)n;
}
