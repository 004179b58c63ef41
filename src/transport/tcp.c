/* TCP sockets: what connections, TLS ones included, ask of the kernel. */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* which has more than the C library's */
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/conn_p.h"
#include "transport/socket_p.h"

/* Bytes that the kernel takes beyond what the peer's window allows to send. More is queued here, where it is bounded
 * and counted, and a peer that reads slowly is seen to make progress; else the kernel says so only when a third of some
 * megabytes is free. */
#define TCP_UNSENT 65536
#define TCP_BACKLOG \
	4096 /* connections that wait to be accepted, for each acceptor; net.core.somaxconn bounds it */

static int tcp_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* The kernel counts these in whole seconds, and refuses more than 32,767 of them. */
static int tcp_seconds(uint32_t ms)
{
	uint32_t s = ms / 1000 + (ms % 1000 != 0);
	return s > INT16_MAX ? INT16_MAX : (int)s;
}

static int tcp_probes(unsigned n)
{
	return n > INT8_MAX ? INT8_MAX : (int)n;
}

int tcp_options(int fd, const struct config_stream *o)
{
	int rc = tcp_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!rc)
		rc = tcp_set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP_UNSENT);
	if (rc || !o->keepalive_idle)
		return rc;
	rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, tcp_seconds(o->keepalive_idle));
	if (!rc && o->keepalive_interval)
		rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, tcp_seconds(o->keepalive_interval));
	if (!rc && o->keepalive_probes)
		rc = tcp_set(fd, IPPROTO_TCP, TCP_KEEPCNT, tcp_probes(o->keepalive_probes));
	return rc ? rc : tcp_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

/* --- listening --- */

static int tcp_listen_one(const struct addr *bound, int *out)
{
	int rc, fd = socket_open(bound, SOCK_STREAM);
	if (fd < 0)
		return fd;
	rc = socket_on(fd, SOL_SOCKET, SO_REUSEADDR);
	if (!rc)
		rc = socket_on(fd, SOL_SOCKET, SO_REUSEPORT);
	if (!rc)
		rc = socket_bind(fd, bound);
	if (!rc && listen(fd, TCP_BACKLOG) < 0)
		rc = -errno;
	if (rc)
		close(fd);
	else
		*out = fd;
	return rc;
}

int tcp_listen(const struct config_listen *l, struct addr *bound, int *fd, unsigned n)
{
	bool opened = false;

	for (unsigned i = 0; i < n; i++) {
		struct addr named;
		if (fd[i] >= 0)
			continue;
		int rc = tcp_listen_one(bound, &fd[i]);
		if (!rc)
			rc = socket_name(fd[i], &named);
		if (rc)
			return rc;
		bound->port = named.port;
		opened = true;
	}
	if (opened)
		log_info("transport", "listen %s: port %u", l->name, bound->port);
	return 0;
}

/* --- connecting --- */

/* From the listener's address, where it has one, so that the peer sees who we are; the kernel chooses the port when it
 * knows the other side, and so can use one port for many peers. */
static int tcp_bind_source(int fd, const struct addr *bound)
{
	struct addr source = *bound;
	if (addr_is_any(bound))
		return 0;
	source.port = 0;
	socket_on(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
	return socket_bind(fd, &source);
}

int tcp_connect(const struct addr *bound, const struct config_stream *o, const struct addr *remote)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int rc, fd;

	if (bound->family != remote->family)
		return -EAFNOSUPPORT;
	fd = socket_open(remote, SOCK_STREAM);
	if (fd < 0) {
		if (fd == -EMFILE || fd == -ENFILE)
			count(CNT_CONN_REFUSED_DESCRIPTORS);
		return fd;
	}
	rc = tcp_options(fd, o);
	if (!rc)
		rc = tcp_bind_source(fd, bound);
	len = addr_to_sockaddr(remote, &ss);
	if (!rc && connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS && errno != EINTR)
		rc = -errno;
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

/* --- while it lives --- */

void tcp_arm(int fd, uint32_t ms)
{
	tcp_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

uint64_t tcp_acked(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info.tcpi_bytes_acked;
}

long tcp_unacked(int fd)
{
	int n = 0;
	return ioctl(fd, SIOCOUTQ, &n) < 0 ? -errno : n;
}
