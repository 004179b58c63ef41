#include "transport/acceptor_p.h"

#include <stdio.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/kind_p.h"

#define DATAGRAM_LOG_BURST 5   /* lines a second, of each kind */
#define DATAGRAM_NEW       100 /* percent of the worker's queue that new requests may fill */
#define DATAGRAM_KNOWN     200 /* … and all that belongs to something that exists */

static void datagram_drop(enum counter_id why, const char *what, const struct addr *from)
{
	static struct log_limiter limiter;
	char text[ADDR_STRLEN];
	uint64_t missed = 0;
	count(why);
	if (log_enabled(LOG_LEVEL_DEBUG) && log_limit(&limiter, DATAGRAM_LOG_BURST, &missed))
		log_debug("transport", "dropped a datagram from %s: %s", addr_str(from, text), what);
}

/* Line ends alone, or up to four zero bytes, as devices behind NAT send them; also an empty datagram. */
static bool datagram_is_keepalive(struct slice b)
{
	size_t i = 0;
	while (i < b.len && (b.p[i] == '\r' || b.p[i] == '\n'))
		i++;
	if (i == b.len)
		return true;
	if (b.len > 4)
		return false;
	for (i = 0; i < b.len && b.p[i] == '\0'; i++)
		;
	return i == b.len;
}

/* True if the bytes may be a request whose copies the in-flight filter recognises: anything but a response or an ACK (which gets no
 * answer that would end its flight). */
static bool datagram_is_filtered(struct slice b, enum kind k)
{
	return k != KIND_ACK && k < KIND_1XX && !(b.len > 4 && memcmp(b.p, "SIP/", 4) == 0);
}

static void datagram_malformed(struct acceptor *a, const struct acceptor_source *s, const struct flow *f)
{
	static struct log_limiter limiter;
	const struct sip_msg *m = &a->room.msg;
	char text[ADDR_STRLEN];
	uint64_t missed = 0;

	if (!m->request) {
		datagram_drop(CNT_DROP_MALFORMED_RESPONSE, m->error_text, &f->remote);
		return;
	}
	if (m->method == SIP_METHOD_ACK || !sip_msg_answerable(m)) {
		datagram_drop(CNT_DROP_UNANSWERABLE, m->error_text, &f->remote);
		return;
	}
	count(CNT_REFUSED_MALFORMED);
	refuse_send(a, s, m, f, m->error, m->error_text, SLICE_NONE);
	if (log_limit(&limiter, DATAGRAM_LOG_BURST, &missed))
		log_info("transport", "malformed request from %s: %s", addr_str(&f->remote, text),
			 m->error_text);
}

/* New work is refused first; what ends or answers something that exists makes room. */
static unsigned datagram_percent(const struct sip_msg *m)
{
	bool fresh = m->request && m->to_tag.len == 0 && m->method != SIP_METHOD_ACK &&
		     m->method != SIP_METHOD_CANCEL;
	return fresh ? DATAGRAM_NEW : DATAGRAM_KNOWN;
}

static void datagram_overload(struct acceptor *a, const struct acceptor_source *s, const struct flow *f)
{
	static struct log_limiter limiter;
	const struct sip_msg *m = &a->room.msg;
	uint64_t missed = 0;
	char extra[32];
	int n;

	if (log_limit(&limiter, 1, &missed))
		log_warning("transport", "a worker's mailbox is full (mailbox_limit): messages are refused");
	if (!m->request || m->method == SIP_METHOD_ACK) {
		count(CNT_DROP_MAILBOX);
		return;
	}
	count(CNT_REFUSED_MAILBOX);
	n = snprintf(extra, sizeof(extra), "Retry-After: %u\r\n",
		     atomic_load_explicit(&a->retry_after, memory_order_relaxed));
	refuse_send(a, s, m, f, 503, NULL, slice_make(extra, (size_t)n));
}

static void datagram_deliver(struct acceptor *a, const struct acceptor_source *s, const struct flow *f,
			     nsec_t received, uint64_t key)
{
	const struct sip_msg *m = &a->room.msg;
	struct packet *p = packet_create(m, f, received);
	if (!p) {
		count(CNT_DROP_NO_MEMORY);
		return;
	}
	if (key && m->request && m->method != SIP_METHOD_ACK) {
		p->inflight = inflight_enter(&a->inflight, key);
		if (!p->inflight)
			count(CNT_INFLIGHT_FULL);
	}
	if (a->upper.deliver(a->upper.ctx, p, datagram_percent(m)) < 0) {
		packet_destroy(p);
		datagram_overload(a, s, f);
	}
}

void datagram_receive(struct acceptor *a, const struct acceptor_source *s, const struct datagram *d)
{
	struct flow f = {.proto = FLOW_UDP,
			 .acceptor = s->udp->acceptor,
			 .listener = s->udp->listener,
			 .remote = d->remote,
			 .local = d->local};
	struct slice b = d->bytes;
	uint64_t key = 0;
	enum kind k;

	if (d->truncated) {
		datagram_drop(CNT_DROP_TRUNCATED, "too large", &f.remote);
		return;
	}
	if (datagram_is_keepalive(b)) {
		count(CNT_DROP_KEEPALIVE);
		return;
	}
	while (*b.p == '\r' || *b.p == '\n')
		b.p++, b.len--;
	k = kind_of(b);
	if (datagram_is_filtered(b, k)) {
		key = inflight_key(b, &f.remote, f.listener);
		if (inflight_has(&a->inflight, key)) {
			count(CNT_ABSORBED_INFLIGHT);
			kind_count(CNT_IN_UDP_INVITE, k);
			return;
		}
	}
	if (sip_msg_parse(&a->room, b.p, b.len, false) < 0) {
		datagram_drop(CNT_DROP_GARBAGE, "not SIP", &f.remote);
		return;
	}
	kind_count(CNT_IN_UDP_INVITE, k);
	if (a->room.msg.error)
		datagram_malformed(a, s, &f);
	else
		datagram_deliver(a, s, &f, d->received, key);
}
