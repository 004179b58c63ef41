/* The record of a confirmed call: its two sides, where each is to be reached (RFC 3261 12.1, 12.2), and since when. */
#include "dialog_p.h"

#include <errno.h>
#include <string.h>

#include "base/pack.h"

#define DIALOG_FORMAT 2
#define DIALOG_LIFE   43200000u /* ms: 12 hours, without a session timer */
#define TIMER_MAX     86400     /* s of a session timer that is believed */
#define USER_ROOM     256       /* bytes of a user part that is compared without its escapes */

int dialog_record_read(struct slice bytes, struct dialog_record *r)
{
	struct unpack u = unpack_init(bytes);
	struct dialog_record found;

	if (unpack_u8(&u) != DIALOG_FORMAT)
		return -EPROTONOSUPPORT;
	found.since = unpack_u64(&u);
	found.until = unpack_u64(&u);
	found.call_id = unpack_slice(&u);
	for (unsigned i = 0; i < DIALOG_SIDES; i++) {
		struct dialog_side *s = &found.side[i];
		s->tag = unpack_slice(&u);
		s->uri = unpack_slice(&u);
		s->target = unpack_slice(&u);
		s->routes = unpack_slice(&u);
	}
	if (u.bad)
		return -EBADMSG;
	*r = found;
	return 0;
}

void dialog_record_write(const struct dialog_record *r, struct buf *b)
{
	pack_u8(b, DIALOG_FORMAT);
	pack_u64(b, r->since);
	pack_u64(b, r->until);
	pack_slice(b, r->call_id);
	for (unsigned i = 0; i < DIALOG_SIDES; i++) {
		pack_slice(b, r->side[i].tag);
		pack_slice(b, r->side[i].uri);
		pack_slice(b, r->side[i].target);
		pack_slice(b, r->side[i].routes);
	}
}

/* Session-Expires (RFC 4028), with room for a refresh that is late. */
static uint64_t life_of(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_SESSION_EXPIRES);
	struct slice v = h ? sip_hdr_value(m, h) : SLICE_NONE;
	uint64_t s;

	for (size_t i = 0; i < v.len; i++)
		if (v.p[i] < '0' || v.p[i] > '9') {
			v.len = i;
			break;
		}
	return v.len && slice_u64(v, TIMER_MAX, &s) && s ? 2 * s * 1000 : DIALOG_LIFE;
}

static struct slice target_of(const struct sip_msg *m)
{
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct slice v;

	if (!m || !sip_values_next(m, SIP_HDR_CONTACT, &it, &v) || sip_nameaddr_parse(v, &na) < 0)
		return SLICE_NONE;
	return na.uri;
}

static bool value_uri(struct slice value, struct sip_uri *u)
{
	struct sip_nameaddr na;

	return sip_nameaddr_parse(value, &na) == 0 && sip_uri_parse(na.uri, u) == 0;
}

static unsigned routes_count(const struct sip_msg *m)
{
	struct sip_values it = {0};
	struct slice v;
	unsigned n = 0;

	while (sip_values_next(m, SIP_HDR_RECORD_ROUTE, &it, &v))
		n++;
	return n;
}

static void routes_add(struct buf *routes, struct slice *all, struct slice uri)
{
	if (all->len + uri.len + 1 > DIALOG_ROUTES_MAX || routes->cap - routes->len <= uri.len)
		return;
	buf_slice(routes, uri);
	buf_char(routes, '\n');
	all->len += uri.len + 1;
}

/* The 2xx names, from the called side to the caller's: proxies that followed us, ourselves, and those that the request
 * had already come through. How many these are only the request tells: names can be made up, and the caller's own are
 * good for nobody but the caller. */
static void routes_read(const struct proxy *p, const struct sip_msg *ok, const struct sip_msg *request,
			struct buf *routes, struct dialog_record *r)
{
	unsigned total = routes_count(ok), before = routes_count(request);
	struct sip_values it = {0};
	struct slice v;
	struct sip_uri u;

	if (total < before)
		return;
	for (unsigned i = 0, side = DIALOG_CALLED; sip_values_next(ok, SIP_HDR_RECORD_ROUTE, &it, &v); i++) {
		if (i == total - before)
			side = DIALOG_CALLER;
		if (!r->side[side].routes.len)
			r->side[side].routes = slice_make(routes->p + routes->len, 0);
		if (value_uri(v, &u) && !self_is_uri(p, &u))
			routes_add(routes, &r->side[side].routes, u.whole);
	}
}

void dialog_record_make(const struct proxy *p, const struct sip_msg *ok, const struct sip_msg *request,
			struct buf *routes, struct dialog_record *r)
{
	uint64_t now = proxy_wall(p);

	*r = (struct dialog_record){
		.since = now, .until = now + life_of(ok), .call_id = sip_slice(ok, ok->call_id)};
	r->side[DIALOG_CALLER] = (struct dialog_side){.tag = sip_slice(ok, ok->from_tag),
						      .uri = sip_slice(ok, ok->from_uri),
						      .target = target_of(request)};
	r->side[DIALOG_CALLED] = (struct dialog_side){
		.tag = sip_slice(ok, ok->to_tag), .uri = sip_slice(ok, ok->to_uri), .target = target_of(ok)};
	/* The route set is that of the dialog's first request for good (12.2). */
	if (request && !request->to_tag.len)
		routes_read(p, ok, request, routes, r);
}

static bool routes_have(struct slice routes, struct slice line)
{
	return routes.len && line.len && memmem(routes.p, routes.len, line.p, line.len);
}

/* A request that comes by here twice (a spiral) has a part of its way known from each time. */
static struct slice routes_join(struct slice a, struct slice b, struct buf *routes)
{
	struct slice all = slice_make(routes->p + routes->len, 0), rest = b;

	if (!a.len || !b.len)
		return a.len ? a : b;
	if (routes->cap - routes->len < a.len || a.len > DIALOG_ROUTES_MAX)
		return a;
	buf_slice(routes, a);
	all.len = a.len;
	while (rest.len) {
		const char *end = memchr(rest.p, '\n', rest.len);
		size_t n = end ? (size_t)(end - rest.p) : rest.len;
		if (!routes_have(a, slice_make(rest.p, n + (end != NULL))))
			routes_add(routes, &all, slice_make(rest.p, n));
		rest = slice_make(rest.p + n + (end != NULL), rest.len - n - (end != NULL));
	}
	return all;
}

void dialog_record_join(struct dialog_record *r, const struct dialog_record *known, struct buf *routes)
{
	if (slice_eq(r->side[DIALOG_CALLER].tag, known->side[DIALOG_CALLED].tag)) {
		struct dialog_side caller = r->side[DIALOG_CALLED];
		r->side[DIALOG_CALLED] = r->side[DIALOG_CALLER];
		r->side[DIALOG_CALLER] = caller;
	}
	r->since = known->since;
	for (unsigned i = 0; i < DIALOG_SIDES; i++) {
		struct dialog_side *s = &r->side[i];
		if (!s->target.len)
			s->target = known->side[i].target;
		s->routes = routes_join(s->routes, known->side[i].routes, routes);
	}
}

static bool same_user(struct slice a, struct slice b)
{
	char room[2][USER_ROOM];
	struct buf plain[2];

	if (slice_eq(a, b))
		return true;
	buf_init(&plain[0], room[0], USER_ROOM);
	buf_init(&plain[1], room[1], USER_ROOM);
	sip_unescape(a, &plain[0]);
	sip_unescape(b, &plain[1]);
	return !plain[0].full && !plain[1].full && slice_eq(buf_view(&plain[0]), buf_view(&plain[1]));
}

/* What decides where a request goes; other parameters may be lost on the way from a Contact into a Request-URI. */
static bool same_place(const struct sip_uri *a, const struct sip_uri *b)
{
	struct slice maddr_a = SLICE_NONE, maddr_b = SLICE_NONE;

	if (a->scheme != b->scheme)
		return false;
	if (a->scheme != SIP_SCHEME_SIP && a->scheme != SIP_SCHEME_SIPS)
		return slice_eq(a->whole, b->whole);
	sip_param_get(a->params, SLICE_LIT("maddr"), &maddr_a);
	sip_param_get(b->params, SLICE_LIT("maddr"), &maddr_b);
	return a->port == b->port && slice_ieq(a->host, b->host) && slice_ieq(maddr_a, maddr_b) &&
	       same_user(a->user, b->user);
}

static bool routes_permit(struct slice routes, const struct sip_uri *next)
{
	while (routes.len) {
		const char *end = memchr(routes.p, '\n', routes.len);
		struct slice line = slice_make(routes.p, end ? (size_t)(end - routes.p) : routes.len);
		struct sip_uri u;
		if (sip_uri_parse(line, &u) == 0 && same_place(&u, next))
			return true;
		size_t used = line.len + (end != NULL);
		routes = slice_make(routes.p + used, routes.len - used);
	}
	return false;
}

bool dialog_record_permits(const struct dialog_record *r, const struct sip_msg *m, const struct sip_uri *uri,
			   struct slice next)
{
	struct slice from = sip_slice(m, m->from_tag), to = sip_slice(m, m->to_tag);
	struct sip_uri u;

	for (unsigned i = 0; i < DIALOG_SIDES; i++) {
		const struct dialog_side *s = &r->side[i];
		if (!slice_eq(to, s->tag) || !slice_eq(from, r->side[!i].tag))
			continue;
		if (!s->target.len || sip_uri_parse(s->target, &u) < 0 || !same_place(&u, uri))
			return false;
		return !next.len || (sip_uri_parse(next, &u) == 0 && routes_permit(s->routes, &u));
	}
	return false;
}
