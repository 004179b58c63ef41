#include "transport/udp_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/socket_p.h"

#define UDP_TRIES       3  /* sends of one datagram before it is given up for want of room */
#define UDP_ERROR_TRIES 16 /* … when each try may have reported the error of another datagram */

/* Without CAP_NET_ADMIN the kernel cuts the size down to net.core.rmem_max or wmem_max. Returns what it granted. */
static int udp_buffer(int fd, int force, int plain, uint32_t bytes)
{
	int want = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes, got = 0;
	socklen_t len = sizeof(got);
	if (want && setsockopt(fd, SOL_SOCKET, force, &want, sizeof(want)) < 0)
		setsockopt(fd, SOL_SOCKET, plain, &want, sizeof(want));
	getsockopt(fd, SOL_SOCKET, plain, &got, &len);
	return got / 2; /* the kernel doubles the number for its own overhead */
}

static int udp_options(int fd, const struct addr *a)
{
	bool v6 = a->family == AF_INET6;
	int rc = socket_on(fd, SOL_SOCKET, SO_REUSEPORT);
	if (!rc)
		rc = socket_on(fd, SOL_SOCKET, SO_TIMESTAMPNS);
	if (!rc)
		rc = socket_on(fd, SOL_SOCKET, SO_RXQ_OVFL);
	if (!rc)
		rc = v6 ? socket_on(fd, IPPROTO_IPV6, IPV6_RECVERR) : socket_on(fd, IPPROTO_IP, IP_RECVERR);
	if (!rc && addr_is_any(a))
		rc = v6 ? socket_on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO) : socket_on(fd, IPPROTO_IP, IP_PKTINFO);
	return rc;
}

/* Opens one socket; *bound gets the port where it was 0. */
static int udp_socket_open(struct udp_socket *s, const struct config_listen *l, struct addr *bound,
			   struct inheritance *in)
{
	s->family = bound->family;
	s->wildcard = addr_is_any(bound);
	s->fd = inherit_take(in, FLOW_UDP, bound, s->acceptor);
	if (s->fd >= 0)
		return 0;

	struct addr named;
	int rc, fd = socket_open(bound, SOCK_DGRAM);
	if (fd < 0)
		return fd;
	rc = udp_options(fd, bound);
	if (!rc)
		rc = socket_bind(fd, bound);
	if (!rc)
		rc = socket_name(fd, &named);
	if (rc)
		goto fail;
	bound->port = named.port;
	int room = udp_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, l->receive_buffer);
	int got = udp_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, l->receive_buffer);
	if (s->acceptor == 0) {
		bool small = (uint32_t)got < l->receive_buffer;
		log_write(small ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "transport",
			  "listen %s: port %u, receive buffer %d bytes%s", l->name, bound->port, got,
			  small ? ", less than asked for: raise net.core.rmem_max" : "");
	}
	/* What waits for the hardware address of a neighbour that is gone counts against the socket (unres_qlen_bytes
	 * for each). */
	if (s->acceptor == 0 && (uint32_t)room < l->receive_buffer)
		log_warning("transport",
			    "listen %s: send buffer %d bytes, less than asked for: some dead hosts of the same "
			    "network could "
			    "fill it; raise net.core.wmem_max",
			    l->name, room);
	s->fd = fd;
	return 0;
fail:
	close(fd);
	return rc;
}

static struct udp *udp_alloc(unsigned listeners, unsigned acceptors)
{
	struct udp *u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->listeners = listeners;
	u->acceptors = acceptors;
	u->bound = calloc(listeners ? listeners : 1, sizeof(*u->bound));
	u->socket = calloc(listeners && acceptors ? listeners * acceptors : 1, sizeof(*u->socket));
	if (!u->bound || !u->socket) {
		free(u->bound);
		free(u->socket);
		free(u);
		return NULL;
	}
	for (unsigned i = 0; i < listeners * acceptors; i++)
		u->socket[i] = (struct udp_socket){
			.fd = -1, .listener = (uint16_t)(i / acceptors), .acceptor = (uint8_t)(i % acceptors)};
	return u;
}

int udp_open(const struct config *c, struct udp **out, char *err, size_t errlen)
{
	return udp_open_with(c, NULL, out, err, errlen);
}

int udp_open_with(const struct config *c, struct inheritance *in, struct udp **out, char *err, size_t errlen)
{
	const char *name = "";
	struct udp *u = NULL;
	int rc = c->listen_count <= UINT16_MAX && c->acceptors <= UINT8_MAX ? 0 : -E2BIG;
	if (!rc)
		rc = socket_check(c, SOCK_DGRAM, in, &name);
	if (rc)
		goto fail;
	u = udp_alloc(c->listen_count, c->acceptors);
	if (!u) {
		rc = -ENOMEM;
		goto fail;
	}
	for (unsigned i = 0; i < c->listen_count; i++) {
		const struct config_listen *l = &c->listen[i];
		if (l->proto != FLOW_UDP)
			continue;
		name = l->name;
		u->bound[i] = l->addr;
		for (unsigned a = 0; a < c->acceptors; a++) {
			rc = udp_socket_open(&u->socket[i * c->acceptors + a], l, &u->bound[i], in);
			if (rc)
				goto fail;
		}
	}
	*out = u;
	return 0;
fail:
	snprintf(err, errlen, "listen %s: %s", name, strerror(-rc));
	udp_close(u);
	return rc;
}

void udp_export(const struct udp *u, void (*fn)(void *ctx, const struct inherited_socket *s), void *ctx)
{
	for (unsigned i = 0; i < u->listeners * u->acceptors; i++) {
		const struct udp_socket *s = &u->socket[i];
		struct inherited_socket e = {FLOW_UDP, s->acceptor, u->bound[s->listener], s->fd};
		if (e.fd >= 0)
			fn(ctx, &e);
	}
}

void udp_close(struct udp *u)
{
	if (!u)
		return;
	for (unsigned i = 0; i < u->listeners * u->acceptors; i++)
		if (u->socket[i].fd >= 0)
			close(u->socket[i].fd);
	free(u->bound);
	free(u->socket);
	free(u);
}

static void udp_control_put(struct udp_header *uh, struct msghdr *h, int level, int type, const void *data,
			    size_t n)
{
	struct cmsghdr *c = &uh->control.align;
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(c), data, n);
	h->msg_control = &uh->control;
	h->msg_controllen = CMSG_SPACE(n);
}

int udp_header_fill(struct udp_header *uh, struct msghdr *h, const struct udp_socket *s,
		    const struct addr *remote, const struct addr *local, struct slice bytes)
{
	if (remote->family != s->family)
		return -EAFNOSUPPORT;
	uh->iov = (struct iovec){.iov_base = (void *)(uintptr_t)bytes.p, .iov_len = bytes.len};
	*h = (struct msghdr){.msg_name = &uh->to,
			     .msg_namelen = addr_to_sockaddr(remote, &uh->to),
			     .msg_iov = &uh->iov,
			     .msg_iovlen = 1};
	if (!s->wildcard || local->family != s->family || addr_is_any(local))
		return 0;
	if (s->family == AF_INET) {
		struct in_pktinfo pi = {0};
		memcpy(&pi.ipi_spec_dst, local->ip, sizeof(pi.ipi_spec_dst));
		udp_control_put(uh, h, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
	} else {
		struct in6_pktinfo pi = {.ipi6_ifindex = local->scope};
		memcpy(&pi.ipi6_addr, local->ip, sizeof(pi.ipi6_addr));
		udp_control_put(uh, h, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
	}
	return 0;
}

enum udp_verdict udp_send_verdict(int error, unsigned tries)
{
	switch (error) {
	case EINTR: return UDP_AGAIN; /* takes no time and does not repeat: nothing here handles a signal */
	case EAGAIN:
	case ENOBUFS:
	case ENOMEM: return tries < UDP_TRIES ? UDP_AGAIN : UDP_FULL;
	case EMSGSIZE:
	case EINVAL:
	case EBADF: return UDP_FAILED; /* never an earlier datagram's */
	case ECONNREFUSED:
	case ENOPROTOOPT:
	case EPROTO:
	case EHOSTDOWN:
	case EOPNOTSUPP:
	case ENONET:
		/* Only ICMP says so: it is an earlier datagram's, whoever sent that. Its own error comes by the error
		 * queue. */
		return tries < UDP_ERROR_TRIES ? UDP_AGAIN : UDP_FULL;
	default: return tries < UDP_ERROR_TRIES ? UDP_AGAIN : UDP_FAILED; /* no route; or likewise */
	}
}
