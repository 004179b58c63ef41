/* The best of the final responses so far, and what the caller gets of them: RFC 3261 16.7, steps 6 and 7. */
#include "proxy_p.h"

#include <errno.h>
#include <stdlib.h>

#define CHALLENGES_MAX 8192 /* bytes of challenges kept for aggregation */

/* Lower is better. A 6xx beats all; then the lowest class, within 4xx those that tell the caller how to try again; what
 * we made up ourselves comes last in its class. */
static unsigned response_rank(const struct context *c, unsigned status, bool local)
{
	unsigned rank;

	if (status >= 600)
		rank = 0;
	else if (status < 400)
		rank = 100;
	else if (status < 500) {
		rank = 230;
		if (c->cancelled && status == 487)
			rank = 200;
		else if (status == 401 || status == 407 || status == 415 || status == 420 || status == 484)
			rank = 210;
		else if (status == 408 || status == 487)
			rank = 240;
	} else
		rank = status == 503 ? 330 : 300;
	return rank + (local ? 5 : 0);
}

/* Adds the challenge lines of a response to those of the others (16.7 step 7). */
static void challenges_add(struct context *c, struct slice bytes)
{
	static const enum sip_hdr_id ids[] = {SIP_HDR_WWW_AUTHENTICATE, SIP_HDR_PROXY_AUTHENTICATE};
	struct proxy *p = c->proxy;

	if (sip_msg_parse(&p->room, bytes.p, bytes.len, false) < 0)
		return;
	if (!c->challenges.p && !(c->challenges.p = malloc(CHALLENGES_MAX)))
		return;
	c->challenges.cap = CHALLENGES_MAX;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		for (const struct sip_hdr *h = sip_msg_hdr(&p->room.msg, ids[i]); h;
		     h = sip_hdr_next(&p->room.msg, h))
			buf_put(&c->challenges, p->room.msg.buf + h->off, h->end - h->off);
}

void best_offer(struct context *c, struct branch *b, unsigned status, const struct sip_msg *m)
{
	bool challenge = m && (status == 401 || status == 407);
	bool better = c->best == 0 || response_rank(c, status, !m) < response_rank(c, c->best, c->best_local);
	char *bytes = NULL;
	long n = 0;

	if ((better || challenge) && m) {
		n = reply_strip(c->proxy, m, flow_is_reliable(context_source(c)));
		if (n < 0)
			return;
		bytes = malloc((size_t)n);
		if (!bytes)
			return;
		memcpy(bytes, c->proxy->out, (size_t)n);
	}
	if (!better) {
		if (challenge)
			challenges_add(c, slice_make(bytes, (size_t)n));
		free(bytes);
		return;
	}
	if (c->best_bytes && (c->best == 401 || c->best == 407))
		challenges_add(c, slice_make(c->best_bytes, c->best_len));
	free(c->best_bytes);
	c->best = status;
	c->best_local = !m;
	c->best_branch = b;
	c->best_bytes = bytes;
	c->best_len = (size_t)n;
}

/* False: they do not fit into one message. */
static bool best_send_challenges(struct context *c)
{
	struct proxy *p = c->proxy;
	struct sip_edits e = {0};

	if (sip_msg_parse(&p->room, c->best_bytes, c->best_len, false) < 0)
		return false;
	const struct sip_msg *m = &p->room.msg;
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_WWW_AUTHENTICATE);
	if (!h)
		h = sip_msg_hdr(m, SIP_HDR_PROXY_AUTHENTICATE);
	if (!h)
		h = sip_msg_hdr(m, SIP_HDR_CSEQ);
	if (!h)
		return false;
	while (sip_hdr_next(m, h))
		h = sip_hdr_next(m, h);
	sip_edits_add(&e, h->end, 0, buf_view(&c->challenges));
	long n = sip_edits_apply(&e, m, p->out, sizeof(p->out));
	if (n > 0)
		context_respond(c, c->best, slice_make(p->out, (size_t)n));
	return n > 0;
}

/* True if its targets are where a user of ours has registered. */
static bool context_is_user(const struct context *c)
{
	return c->target && c->target_count && c->target[0].aor.len;
}

void best_send(struct context *c)
{
	unsigned status = c->best ? c->best : 500;

	context_finished(c);
	if (!c->invite && status == 408 && c->best_local) {
		/* RFC 4320 4.2: the caller's own timer has fired by now; a 408 would only add to the storm. */
		if (c->server) {
			struct txn *t = c->server;
			c->server = NULL;
			txn_set_owner(t, NULL);
			txn_server_abandon(t);
		}
	} else if (c->best_local && context_is_user(c) && !c->overload &&
		   (status == 404 || status == 408 || status == 416 || status == 430 || status == 503)) {
		/* A user of ours who is registered and not there. The registrar is here: nobody behind us could try
		 * another flow (RFC 5626 5.3). */
		context_respond_local(c, 480, SLICE_NONE);
	} else if (status == 503 && c->overload) {
		char text[REPLY_RETRY_AFTER_MAX];
		context_respond_local(c, 503, reply_retry_after(c->proxy, text));
	} else if (status == 503)
		/* 16.7 step 6: a 503 says that the sender is overloaded; that is not us. */
		context_respond_local(c, 500, SLICE_NONE);
	else if (!c->best_bytes)
		context_respond_local(c, status, SLICE_NONE);
	else if (!c->challenges.len || (status != 401 && status != 407) || !best_send_challenges(c))
		context_respond(c, status, slice_make(c->best_bytes, c->best_len));
}

int best_keep_challenges(struct context *c, struct slice text)
{
	size_t cap = text.len > CHALLENGES_MAX ? text.len : CHALLENGES_MAX;
	char *p = malloc(cap);

	if (!p)
		return -ENOMEM;
	buf_init(&c->challenges, p, cap);
	buf_slice(&c->challenges, text);
	return 0;
}
