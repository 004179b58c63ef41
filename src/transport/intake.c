/* What becomes of a message that an acceptor has parsed, however it came. */
#include <stdio.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/acceptor_p.h"

#define INTAKE_LOG_BURST 5   /* lines a second, of each kind */
#define INTAKE_NEW       100 /* percent of the worker's queue that new requests may fill */
#define INTAKE_KNOWN     200 /* … and all that belongs to something that exists */

void intake_drop(enum counter_id why, const char *what, const struct addr *from)
{
	static struct log_limiter limiter;
	char text[ADDR_STRLEN];
	uint64_t missed = 0;
	count(why);
	if (log_enabled(LOG_LEVEL_DEBUG) && log_limit(&limiter, INTAKE_LOG_BURST, &missed))
		log_debug("transport", "dropped a message from %s: %s", addr_str(from, text), what);
}

bool intake_malformed(struct acceptor *a, const struct origin *o, const struct flow *f)
{
	static struct log_limiter limiter;
	const struct sip_msg *m = &a->room.msg;
	char text[ADDR_STRLEN], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	if (!m->request) {
		intake_drop(CNT_DROP_MALFORMED_RESPONSE, m->error_text, &f->remote);
		return false;
	}
	if (m->method == SIP_METHOD_ACK || !sip_msg_answerable(m)) {
		intake_drop(CNT_DROP_UNANSWERABLE, m->error_text, &f->remote);
		return false;
	}
	count(CNT_REFUSED_MALFORMED);
	refuse_send(a, o, m, f, m->error, m->error_text, SLICE_NONE);
	if (log_limit(&limiter, INTAKE_LOG_BURST, &missed))
		log_info("transport", "malformed request from %s: %s%s", addr_str(&f->remote, text),
			 m->error_text, log_left_out(missed, left_out));
	return true;
}

/* New work is refused first; what ends or answers something that exists makes room. */
static unsigned intake_percent(const struct sip_msg *m)
{
	bool fresh = m->request && m->to_tag.len == 0 && m->method != SIP_METHOD_ACK &&
		     m->method != SIP_METHOD_CANCEL;
	return fresh ? INTAKE_NEW : INTAKE_KNOWN;
}

static void intake_overload(struct acceptor *a, const struct origin *o, const struct flow *f)
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
	refuse_send(a, o, m, f, 503, NULL, slice_make(extra, (size_t)n));
}

void intake_deliver(struct acceptor *a, const struct origin *o, const struct flow *f, nsec_t received,
		    uint64_t key)
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
	if (a->upper.deliver(a->upper.ctx, p, intake_percent(m)) < 0) {
		packet_destroy(p);
		intake_overload(a, o, f);
	}
}
