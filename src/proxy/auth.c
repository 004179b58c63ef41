/* Who is calling: digest authentication of the domains' own users (RFC 3261 22, RFC 8760), and refusals that are held
 * back because somebody tries out passwords. */
#include "proxy_p.h"

#include <stdlib.h>

#include "base/counters.h"
#include "base/log.h"
#include "registrar/digest.h"
#include "sip/auth.h"

#define HELD_MAX      1024 /* refusals waiting, of one worker; beyond it a request is dropped */
#define AUTH_LOG      5    /* lines a second */
#define CHALLENGE_MAX 1024 /* bytes: room for the challenges of a realm */

/* A refusal on its way. It keeps the request's packet, and with it the in-flight slot: copies that come meanwhile are
 * absorbed. */
struct held {
	struct timer timer;
	struct held *next, **prev; /* proxy->refusals */
	struct proxy *proxy;
	struct packet *pk;
	unsigned status;
	unsigned len; /* bytes */
	char extra[];
};

static void held_destroy(struct held *h)
{
	struct proxy *p = h->proxy;
	*h->prev = h->next;
	if (h->next)
		h->next->prev = h->prev;
	p->refusal_count--;
	timer_stop(p->wheel, &h->timer);
	packet_destroy(h->pk);
	free(h);
}

static void held_due(struct timer *t, msec_t now)
{
	struct held *h = container_of(t, struct held, timer);
	struct packet *pk = h->pk;

	(void)now;
	h->pk = NULL;
	reply_stateless(h->proxy, pk, h->status, NULL, slice_make(h->extra, h->len));
	held_destroy(h);
}

static void hold(struct proxy *p, struct packet *pk, unsigned status, struct slice extra, uint32_t delay)
{
	struct held *h = p->refusal_count < HELD_MAX ? malloc(sizeof(*h) + extra.len) : NULL;

	if (!h) {
		count(CNT_DROP_AUTH);
		packet_destroy(pk);
		return;
	}
	timer_init(&h->timer, held_due);
	h->proxy = p;
	h->pk = pk;
	h->status = status;
	h->len = (unsigned)extra.len;
	memcpy(h->extra, extra.p, extra.len);
	h->next = p->refusals;
	h->prev = &p->refusals;
	if (h->next)
		h->next->prev = &h->next;
	p->refusals = h;
	p->refusal_count++;
	timer_set(p->wheel, &h->timer, proxy_now(p) + delay);
}

void auth_destroy_all(struct proxy *p)
{
	for (struct held *h = p->refusals, *next; h; h = next) {
		next = h->next;
		held_destroy(h);
	}
}

static void challenge(struct proxy *p, struct packet *pk, const struct digest_realm *realm, bool stale,
		      uint32_t delay)
{
	unsigned status = realm->proxy ? 407 : 401;
	char text[CHALLENGE_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	digest_challenge(p->digest, &pk->flow.remote, realm, stale, proxy_wall(p), &b);
	if (b.full || !b.len)
		reply_stateless(p, pk, 500, NULL, SLICE_NONE);
	else if (delay)
		hold(p, pk, status, buf_view(&b), delay);
	else
		reply_stateless(p, pk, status, NULL, buf_view(&b));
}

static void log_wrong(const struct packet *pk, struct slice user, struct slice realm)
{
	static struct log_limiter limiter;
	char text[ADDR_STRLEN], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;

	if (log_limit(&limiter, AUTH_LOG, &missed))
		log_info("auth", "wrong credentials for " SLICE_FMT "@" SLICE_FMT " from %s%s", SLICE_ARG(user),
			 SLICE_ARG(realm), addr_str(&pk->flow.remote, text), log_left_out(missed, left_out));
}

/* True if `uri` is that of the user: "a user may register or call only as itself". */
static bool is_user(const struct proxy *p, struct slice uri, struct slice name, const struct config_domain *d)
{
	char room[256];
	struct sip_uri u;
	struct buf b;

	if (sip_uri_parse(uri, &u) < 0 || self_domain(p, u.host) != d - p->config->domain)
		return false;
	buf_init(&b, room, sizeof(room));
	sip_unescape(u.user, &b);
	return !b.full && slice_eq(buf_view(&b), name);
}

bool auth_require(struct proxy *p, struct packet *pk, const struct config_domain *d, bool proxy)
{
	const struct digest_realm realm = {
		.name = slice_str(d->name), .algorithm = d->algorithm, .proxy = proxy};
	const struct sip_msg *m = pk->msg;
	struct digest_user user;

	switch (digest_check(p->digest, p->reader, m, &realm, proxy_wall(p), &user)) {
	case DIGEST_OK: break;
	case DIGEST_NONE: challenge(p, pk, &realm, false, 0); return false;
	case DIGEST_STALE: challenge(p, pk, &realm, true, 0); return false;
	case DIGEST_WRONG:
		log_wrong(pk, user.name, realm.name);
		challenge(p, pk, &realm, false, user.delay);
		return false;
	case DIGEST_MALFORMED:
		count(CNT_REFUSED_MALFORMED);
		reply_stateless(p, pk, 400, "Bad Credentials", SLICE_NONE);
		return false;
	case DIGEST_ERROR: reply_stateless(p, pk, 500, NULL, SLICE_NONE); return false;
	}
	if (is_user(p, sip_slice(m, m->from_uri), user.name, d) &&
	    (m->method != SIP_METHOD_REGISTER || is_user(p, sip_slice(m, m->to_uri), user.name, d)))
		return true;
	count(CNT_REFUSED_IDENTITY);
	reply_stateless(p, pk, 403, "Not Your Address", SLICE_NONE);
	return false;
}

bool auth_caller(struct proxy *p, struct packet *pk, bool required)
{
	const struct sip_msg *m = pk->msg;
	struct sip_uri from;
	int d = -1;

	/* 22.1: they cannot be answered with a challenge. */
	if (m->method == SIP_METHOD_ACK || m->method == SIP_METHOD_CANCEL)
		return true;
	if (sip_uri_parse(sip_slice(m, m->from_uri), &from) == 0)
		d = self_domain(p, from.host);
	if (d >= 0 &&
	    addr_nets_have(p->config->domain[d].trusted, p->config->domain[d].trusted_count, &pk->flow.remote))
		return true;
	if (d >= 0 && (required || p->config->domain[d].authenticate))
		return auth_require(p, pk, &p->config->domain[d], true);
	if (!required)
		return true;
	/* Only our own users have passwords here. */
	count(CNT_REFUSED_IDENTITY);
	reply_stateless(p, pk, 403, "Not A Local User", SLICE_NONE);
	return false;
}

static bool is_asked_for(const struct proxy *p, int d)
{
	bool asked = p->config->domain[d].authenticate;

	for (unsigned i = 0; i < p->config->route_count && !asked; i++)
		asked = p->config->route[i].authenticate;
	return asked;
}

bool auth_consumes(const struct proxy *p, struct slice credentials)
{
	struct sip_auth c;
	int d;

	if (!p->digest || sip_auth_parse(credentials, &c) < 0)
		return false;
	d = self_domain(p, c.realm);
	return d >= 0 && is_asked_for(p, d);
}
