#include "transport/acceptor_p.h"

#include <errno.h>

#include "base/counters.h"
#include "sip/build.h"
#include "transport/kind_p.h"

#define REFUSE_PORT 5060 /* RFC 3261 18.2.2: where a Via names none */

/* RFC 3261 18.2.2, RFC 3581 4: back to the source's address; to its port if rport was asked for, else to the port in
 * the Via. A maddr is not followed here: whoever is answered without a look must not choose the addressee. */
static struct addr refuse_target(const struct sip_msg *m, const struct addr *source)
{
	struct addr to = *source;
	if (m->via.whole.len && !m->via.has_rport)
		to.port = m->via.port ? m->via.port : REFUSE_PORT;
	return to;
}

int refuse_datagram(const struct acceptor_source *s, const struct addr *to, const struct addr *from,
		    struct slice bytes)
{
	struct udp_header uh;
	struct msghdr h;

	if (udp_header_fill(&uh, &h, s->udp, to, from, bytes) < 0)
		return -EAFNOSUPPORT;
	for (unsigned tries = 1; sendmsg(s->udp->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0; tries++)
		if (udp_send_verdict(errno, tries) != UDP_AGAIN)
			return -errno;
	return 0;
}

static void refuse_stream(struct conn *c, msec_t now, struct slice bytes)
{
	struct iovec v = {(void *)(uintptr_t)bytes.p, bytes.len};
	kind_count_out(conn_proto(c), kind_of(bytes));
	conn_send(c, &v, 1, now);
}

void refuse_send(struct acceptor *a, const struct origin *o, const struct sip_msg *m, const struct flow *f,
		 unsigned status, const char *reason, struct slice extra)
{
	struct sip_reply r = {.status = status, .reason = reason, .source = &f->remote, .extra = extra};
	struct addr to = refuse_target(m, &f->remote);
	long n = sip_reply_build(m, &r, a->reply, sizeof(a->reply));
	struct slice bytes = slice_make(a->reply, n < 0 ? 0 : (size_t)n);

	if (n < 0 || (o->udp && refuse_datagram(o->udp, &to, &f->local, bytes) < 0)) {
		count(CNT_DROP_SEND);
		return;
	}
	if (o->udp)
		kind_count_out(FLOW_UDP, kind_of(bytes));
	if (o->conn)
		refuse_stream(o->conn, a->begun / 1000000u, bytes);
	count_generated(status);
}
