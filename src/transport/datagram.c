#include "transport/acceptor_p.h"

#include "base/counters.h"
#include "transport/kind_p.h"
#include "transport/stun_p.h"

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

static void datagram_stun(const struct acceptor_source *s, const struct flow *f, struct slice b)
{
	unsigned char out[STUN_ANSWER_MAX];
	size_t n = stun_answer(b, &f->remote, out);

	if (!n)
		intake_drop(CNT_DROP_GARBAGE, "not a STUN binding request", &f->remote);
	else if (refuse_datagram(s, &f->remote, &f->local, slice_make((char *)out, n)) < 0)
		count(CNT_DROP_SEND);
	else
		count(CNT_STUN);
}

/* True if the bytes may be a request whose copies the in-flight filter recognises: anything but a response or an ACK
 * (which gets no answer that would end its flight). */
static bool datagram_is_filtered(struct slice b, enum kind k)
{
	return k != KIND_ACK && k < KIND_1XX && !(b.len > 4 && memcmp(b.p, "SIP/", 4) == 0);
}

void datagram_receive(struct acceptor *a, const struct acceptor_source *s, const struct datagram *d)
{
	struct flow f = {.proto = FLOW_UDP,
			 .acceptor = s->udp->acceptor,
			 .listener = s->udp->listener,
			 .remote = d->remote,
			 .local = d->local};
	struct origin o = {.udp = s};
	struct slice b = d->bytes;
	uint64_t key = 0;
	enum kind k;

	if (d->truncated) {
		intake_drop(CNT_DROP_TRUNCATED, "too large", &f.remote);
		return;
	}
	if (datagram_is_keepalive(b)) {
		count(CNT_DROP_KEEPALIVE);
		return;
	}
	if (stun_is(b)) {
		datagram_stun(s, &f, b);
		return;
	}
	while (*b.p == '\r' || *b.p == '\n')
		b.p++, b.len--;
	k = kind_of(b);
	if (datagram_is_filtered(b, k)) {
		key = inflight_key(b, &f.remote, f.listener);
		if (inflight_has(&a->inflight, key)) {
			count(CNT_ABSORBED_INFLIGHT);
			kind_count_in(FLOW_UDP, k);
			return;
		}
	}
	if (sip_msg_parse(&a->room, b.p, b.len, false) < 0) {
		intake_drop(CNT_DROP_GARBAGE, "not SIP", &f.remote);
		return;
	}
	kind_count_in(FLOW_UDP, k);
	if (a->room.msg.error)
		intake_malformed(a, &o, &f);
	else
		intake_deliver(a, &o, &f, d->received, key);
}
