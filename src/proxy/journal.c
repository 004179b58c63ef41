/* What becomes of a request, for who looks for it afterwards: a log line for each that we refuse and for each branch
 * that fails, with the Call-ID; at level debug also where requests go. */
#include <stdio.h>

#include "base/log.h"
#include "proxy_p.h"
#include "sip/message.h"

#define JOURNAL_BURST 5   /* lines a second: of refusals with a status, of branches with a cause */
#define JOURNAL_TEXT  160 /* bytes of a URI or a Call-ID; what follows is left out */

struct request_names {
	struct slice method, uri, from, call_id;
};

static struct slice brief(struct slice s)
{
	return slice_make(s.p, s.len < JOURNAL_TEXT ? s.len : JOURNAL_TEXT);
}

static struct request_names names_of(const struct sip_msg *m)
{
	return (struct request_names){.method = brief(sip_slice(m, m->method_name)),
				      .uri = brief(sip_slice(m, m->ruri)),
				      .from = brief(sip_slice(m, m->from_uri)),
				      .call_id = brief(sip_slice(m, m->call_id))};
}

/* "udp:192.0.2.1:5060" */
static const char *flow_text(const struct flow *f, char out[static JOURNAL_TEXT])
{
	char text[ADDR_STRLEN];

	snprintf(out, JOURNAL_TEXT, "%s:%s", flow_proto_label((enum flow_proto)f->proto),
		 addr_str(&f->remote, text));
	return out;
}

void journal_refused(const struct packet *pk, unsigned status, const char *reason)
{
	static struct log_limiter
		limiters[700 - 300]; /* of each status: a flood of one does not hide the others */
	const struct sip_msg *m = pk->msg;
	char source[JOURNAL_TEXT], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	/* Being asked for a password and the end of a cancelled call are no refusals; what is malformed has had its
	 * line. */
	if (status < 300 || status >= 700 || status == 401 || status == 407 || status == 487 || m->error)
		return;
	if (!log_enabled(LOG_LEVEL_INFO) || !log_limit(&limiters[status - 300], JOURNAL_BURST, &missed))
		return;
	struct request_names n = names_of(m);
	/* What the sender has written comes last: it cannot pass for the address. */
	log_info("proxy",
		 "refused %s: %u %s: " SLICE_FMT " " SLICE_FMT ", From " SLICE_FMT ", Call-ID " SLICE_FMT "%s",
		 flow_text(&pk->flow, source), status, reason ? reason : sip_reason_default(status),
		 SLICE_ARG(n.method), SLICE_ARG(n.uri), SLICE_ARG(n.from), SLICE_ARG(n.call_id),
		 log_left_out(missed, left_out));
}

/* Where it went: the address, or the URI when it did not get as far as that. */
static const char *branch_text(const struct branch *b, char out[static JOURNAL_TEXT])
{
	const struct context *c = b->context;
	struct slice s = c->target ? c->target[b->target].ruri : SLICE_NONE;

	if (b->client)
		return flow_text(txn_flow(b->client), out);
	snprintf(out, JOURNAL_TEXT, SLICE_FMT, SLICE_ARG(s));
	return out;
}

static struct request_names context_names(const struct context *c)
{
	if (c->pk)
		return names_of(c->pk->msg);
	return (struct request_names){.method = c->invite ? SLICE_LIT("INVITE") : SLICE_LIT("request"),
				      .call_id = brief(slice_make(c->call_id, c->call_id_len))};
}

void journal_branch_failed(const struct branch *b, enum counter_id cause)
{
	static const struct {
		enum counter_id id;
		const char *name; /* as in branch_failures_total */
	} causes[] = {{CNT_BRANCH_TRANSPORT, "transport"},  {CNT_BRANCH_ACK_TIMEOUT, "ack-timeout"},
		      {CNT_BRANCH_CONN_LOST, "connection"}, {CNT_BRANCH_TIMEOUT, "timeout"},
		      {CNT_BRANCH_TIMER_C, "timer-c"},      {CNT_BRANCH_DNS, "dns"}};
	static struct log_limiter limiters[sizeof(causes) / sizeof(causes[0])];
	char to[JOURNAL_TEXT], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;
	unsigned i = 0;

	count(cause);
	while (causes[i].id != cause)
		i++;
	if (!log_enabled(LOG_LEVEL_INFO) || !log_limit(&limiters[i], JOURNAL_BURST, &missed))
		return;
	struct request_names n = context_names(b->context);
	log_info("proxy", SLICE_FMT " to %s failed: %s, Call-ID " SLICE_FMT "%s", SLICE_ARG(n.method),
		 branch_text(b, to), causes[i].name, SLICE_ARG(n.call_id), log_left_out(missed, left_out));
}

void journal_branch_sent(const struct branch *b)
{
	char source[JOURNAL_TEXT], to[JOURNAL_TEXT];

	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	struct request_names n = context_names(b->context);
	log_debug("proxy", SLICE_FMT " " SLICE_FMT " from %s goes to %s, Call-ID " SLICE_FMT,
		  SLICE_ARG(n.method), SLICE_ARG(n.uri), flow_text(&b->context->source, source),
		  branch_text(b, to), SLICE_ARG(n.call_id));
}

void journal_branch_answered(const struct branch *b, unsigned status)
{
	static struct log_limiter limiter;
	bool failed = status >= 500 && status < 600;
	char to[JOURNAL_TEXT], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	if (!log_enabled(failed ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG) ||
	    (failed && !log_limit(&limiter, JOURNAL_BURST, &missed)))
		return;
	struct request_names n = context_names(b->context);
	log_write(failed ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "proxy",
		  SLICE_FMT " to %s is answered with %u, Call-ID " SLICE_FMT "%s", SLICE_ARG(n.method),
		  branch_text(b, to), status, SLICE_ARG(n.call_id), log_left_out(missed, left_out));
}
