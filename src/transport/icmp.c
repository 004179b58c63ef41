#include "transport/acceptor_p.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>

#include "base/log.h"

#define ICMP_BATCH 64 /* errors taken from one socket at once */

/* RFC 3261 18.4: unreachable and parameter problem are failures, source quench and an exceeded TTL are not.
 * A datagram that must be fragmented is sent again by its transaction, and then the kernel knows better. */
static bool icmp_is_failure(const struct sock_extended_err *e)
{
	if (e->ee_origin == SO_EE_ORIGIN_ICMP)
		return (e->ee_type == ICMP_DEST_UNREACH && e->ee_code != ICMP_FRAG_NEEDED) ||
		       e->ee_type == ICMP_PARAMETERPROB;
	if (e->ee_origin == SO_EE_ORIGIN_ICMP6)
		return e->ee_type == ICMPV6_DEST_UNREACH || e->ee_type == ICMPV6_PARAMPROB;
	return false; /* local errors are what sendmmsg returned */
}

static bool icmp_budget(struct acceptor *a)
{
	nsec_t second = clock_mono_ns() / 1000000000u;
	if (second != a->icmp_second) {
		a->icmp_second = second;
		a->icmp_count = 0;
	}
	return a->icmp_count++ < ACCEPTOR_ERRORS_MAX;
}

static void icmp_message(struct acceptor *a, struct msghdr *h, struct slice quoted)
{
	static struct log_limiter limiter;
	char text[ADDR_STRLEN];
	uint64_t missed;
	struct addr remote;

	if (addr_from_sockaddr(h->msg_name, &remote) < 0)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		struct sock_extended_err e;
		if (!(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) &&
		    !(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		if (!icmp_is_failure(&e) || !icmp_budget(a))
			continue;
		if (log_enabled(LOG_LEVEL_DEBUG) && log_limit(&limiter, 5, &missed))
			log_debug("transport", "%s is unreachable (ICMP type %u, code %u)",
				  addr_str(&remote, text), e.ee_type, e.ee_code);
		a->upper.send_failed(a->upper.ctx, &remote, quoted);
	}
}

void icmp_read(struct acceptor *a, const struct acceptor_source *s)
{
	for (unsigned i = 0; i < ICMP_BATCH; i++) {
		union {
			struct cmsghdr align;
			char bytes[512];
		} control;
		char quoted[ACCEPTOR_QUOTE_MAX];
		struct sockaddr_in6 name;
		struct iovec iov = {quoted, sizeof(quoted)};
		struct msghdr h = {.msg_name = &name,
				   .msg_namelen = sizeof(name),
				   .msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = &control,
				   .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(s->udp->fd, &h, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		icmp_message(a, &h, slice_make(quoted, (size_t)n));
	}
}
