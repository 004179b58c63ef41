/* Requests on their way out: RFC 3261 16.6, as edits of what was received. */
#include "proxy_p.h"

#include <errno.h>

int forward_hop_uri(const struct route_set *route, const struct target *t, struct sip_uri *out)
{
	if (t->route.len)
		return sip_uri_parse(t->route, out);
	if (route->next.len)
		return sip_uri_parse(route->next, out);
	return sip_uri_parse(t->ruri, out);
}

int forward_flow(const struct proxy *p, const struct resolver_hop *hop, const struct route_set *route,
		 const struct flow *source, struct flow *out)
{
	int prefer = route->listener >= 0 ? route->listener : source->listener;
	int l = self_listener(p, hop->proto, &hop->addr, prefer);

	if (l < 0)
		return -EHOSTUNREACH;
	*out = (struct flow){.proto = hop->proto,
			     .acceptor = source->acceptor,
			     .listener = (uint16_t)l,
			     .remote = hop->addr};
	return 0;
}

/* Requests that set up a dialog; those inside one keep its route set (16.6 step 4). */
static bool wants_record_route(const struct sip_msg *m)
{
	if (m->to_tag.len)
		return false;
	return m->method == SIP_METHOD_INVITE || m->method == SIP_METHOD_SUBSCRIBE ||
	       m->method == SIP_METHOD_REFER || m->method == SIP_METHOD_OTHER;
}

static void put_record_route(struct proxy *p, const struct sip_msg *m, unsigned listener,
			     const struct addr *toward, const char token[static TOKEN_ROUTE_LEN], struct buf *b)
{
	(void)m;
	buf_lit(b, "Record-Route: <sip:");
	buf_put(b, token, TOKEN_ROUTE_LEN);
	buf_char(b, '@');
	self_sent_by(p, listener, toward, b);
	buf_lit(b, ";lr>\r\n");
}

/* The lines that go on top: our Via, and what the request lacks. */
static void put_top(struct proxy *p, const struct forward_args *a, const char *branch, struct buf *b)
{
	const struct sip_msg *m = a->m;

	buf_lit(b, "Via: SIP/2.0/");
	buf_slice(b, flow_proto_name(a->out->proto));
	buf_char(b, ' ');
	self_sent_by(p, a->out->listener, &a->out->remote, b);
	buf_lit(b, ";branch=");
	buf_put(b, branch, TOKEN_BRANCH_LEN);
	buf_lit(b, "\r\n");
	if (m->max_forwards < 0)
		buf_lit(b, "Max-Forwards: 70\r\n");
	if (a->breadth && !sip_msg_hdr(m, SIP_HDR_MAX_BREADTH)) {
		buf_lit(b, "Max-Breadth: ");
		buf_u64(b, a->breadth);
		buf_lit(b, "\r\n");
	}
}

static void edit_number(const struct sip_msg *m, enum sip_hdr_id id, unsigned value, struct sip_edits *e,
			struct buf *b)
{
	const struct sip_hdr *h = sip_msg_hdr(m, id);
	size_t mark = b->len;

	if (!h)
		return;
	buf_u64(b, value);
	sip_edits_add(e, h->value, h->value_len, slice_make(b->p + mark, b->len - mark));
}

/* Our own values off the top of the route set; the last one, when it became the Request-URI; the first, when it is a strict
 * router's and becomes the Request-URI (16.6 step 6). */
static void edit_routes(const struct forward_args *a, struct sip_edits *e)
{
	const struct route_set *route = a->route;
	bool strict = route->next_strict && route->next.len && a->target->route.len == 0;
	struct sip_values it = {0};
	struct slice v;
	unsigned head = route->own + (strict ? 1 : 0), total = 0, i = 0;

	if (route->own == 0 && !route->last_used && !strict)
		return;
	if (route->last_used) {
		while (sip_values_next(a->m, SIP_HDR_ROUTE, &it, &v))
			total++;
		it = (struct sip_values){0};
	}
	for (; (i < head || i < total) && sip_values_next(a->m, SIP_HDR_ROUTE, &it, &v); i++)
		if (i < head || i + 1 == total)
			sip_edits_remove_value(e, a->m, &it);
}

long forward_build(struct proxy *p, const struct forward_args *a, char branch[static TOKEN_BRANCH_LEN])
{
	const struct sip_msg *m = a->m;
	const struct route_set *route = a->route;
	const struct sip_hdr *via = sip_msg_hdr(m, SIP_HDR_VIA);
	const struct sip_hdr *rr = sip_msg_hdr(m, SIP_HDR_RECORD_ROUTE);
	const struct sip_hdr *first_route = sip_msg_hdr(m, SIP_HDR_ROUTE);
	bool strict = route->next_strict && route->next.len && a->target->route.len == 0;
	struct slice ruri = strict ? route->next : a->target->ruri;
	char text[2048], stamp[SIP_VIA_SCRATCH], wide[4096];
	struct sip_edits e;
	struct buf b, w;
	size_t mark;

	e.count = 0;
	e.full = false;
	buf_init(&b, text, sizeof(text));
	buf_init(&w, wide, sizeof(wide));
	if (!slice_eq(ruri, sip_slice(m, m->ruri)))
		sip_edits_add(&e, m->ruri.off, m->ruri.len, ruri);

	token_branch_make(&p->keys, m, a->loop, a->index, branch);
	put_top(p, a, branch, &b);
	sip_edits_add(&e, via->off, 0, buf_view(&b));
	sip_via_stamp(m, &a->source->remote, &e, stamp);

	if (wants_record_route(m)) {
		char token[TOKEN_ROUTE_LEN];
		token_route_make(&p->keys, sip_slice(m, m->call_id), sip_slice(m, m->from_tag), token);
		mark = b.len;
		put_record_route(p, m, a->out->listener, &a->out->remote, token, &b);
		/* Between two listeners both sides need a way in (RFC 5658). */
		if (a->out->listener != a->source->listener)
			put_record_route(p, m, a->source->listener, &a->source->remote, token, &b);
		sip_edits_add(&e, rr ? rr->off : via->off, 0, slice_make(b.p + mark, b.len - mark));
	}
	if (m->max_forwards > 0)
		edit_number(m, SIP_HDR_MAX_FORWARDS, (unsigned)m->max_forwards - 1, &e, &b);
	if (a->breadth)
		edit_number(m, SIP_HDR_MAX_BREADTH, a->breadth, &e, &b);

	if (a->target->route.len) {
		buf_lit(&w, "Route: <");
		buf_slice(&w, a->target->route);
		buf_lit(&w, ">\r\n");
		sip_edits_add(&e, first_route ? first_route->off : via->off, 0, buf_view(&w));
	}
	edit_routes(a, &e);
	if (strict) {
		/* Behind all other Route values: a line of its own after the last header. */
		mark = w.len;
		buf_lit(&w, "Route: <");
		buf_slice(&w, a->target->ruri);
		buf_lit(&w, ">\r\n");
		const struct sip_hdr *last = first_route;
		while (last && sip_hdr_next(m, last))
			last = sip_hdr_next(m, last);
		sip_edits_add(&e, last ? last->end : via->off, 0, slice_make(w.p + mark, w.len - mark));
	}
	if (b.full || w.full)
		return -ENOBUFS;
	return sip_edits_apply(&e, m, p->out, sizeof(p->out));
}
