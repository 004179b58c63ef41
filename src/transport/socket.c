#include "transport/socket_p.h"

#include <errno.h>
#include <unistd.h>

int socket_on(int fd, int level, int name)
{
	int one = 1;
	return setsockopt(fd, level, name, &one, sizeof(one)) < 0 ? -errno : 0;
}

int socket_bind(int fd, const struct addr *a)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(a, &ss);
	return bind(fd, (struct sockaddr *)&ss, len) < 0 ? -errno : 0;
}

int socket_name(int fd, struct addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	return addr_from_sockaddr((struct sockaddr *)&ss, out);
}

int socket_open(const struct addr *a, int type)
{
	int fd = socket(a->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (a->family == AF_INET6) {
		int rc = socket_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
		if (rc) {
			close(fd);
			return rc;
		}
	}
	return fd;
}

/* SO_REUSEPORT would let us share a port with another process of the same user and steal what it should get: a socket
 * without it tells. SO_REUSEADDR, for TCP: what an earlier run has left in TIME_WAIT is no obstacle, a listening socket
 * is. */
static int socket_probe(const struct addr *a, int type)
{
	int rc = 0, fd = socket_open(a, type);
	if (fd < 0)
		return fd;
	if (type == SOCK_STREAM)
		rc = socket_on(fd, SOL_SOCKET, SO_REUSEADDR);
	if (!rc)
		rc = socket_bind(fd, a);
	close(fd);
	return rc;
}

int inherit_probe(enum flow_proto proto, const struct addr *bound)
{
	return socket_probe(bound, proto == FLOW_UDP ? SOCK_DGRAM : SOCK_STREAM);
}

static bool socket_is(const struct config_listen *l, int type)
{
	return (l->proto == FLOW_UDP) == (type == SOCK_DGRAM);
}

int socket_check(const struct config *c, int type, const struct inheritance *in, const char **name)
{
	for (unsigned i = 0; i < c->listen_count; i++) {
		const struct config_listen *l = &c->listen[i];
		if (!socket_is(l, type))
			continue;
		*name = l->name;
		for (unsigned j = 0; l->addr.port && j < i; j++)
			if (socket_is(&c->listen[j], type) && addr_eq(&c->listen[j].addr, &l->addr))
				return -EADDRINUSE;
		if (inherit_has(in, l->proto, &l->addr))
			continue;
		int rc = socket_probe(&l->addr, type);
		if (rc)
			return rc;
	}
	return 0;
}
