/* Requests on their way out: RFC 3261 16.6, as edits of what was received. */
#include "proxy_p.h"

#include <errno.h>

/* The first URI of what goes on top of the Route headers: a URI alone, or the values of a Path. */
static struct slice forward_first(struct slice route)
{
	const char *end = route.len && route.p[0] == '<' ? memchr(route.p, '>', route.len) : NULL;

	return end ? slice_make(route.p + 1, (size_t)(end - route.p) - 1) : route;
}

int forward_hop_uri(const struct route_set *route, const struct target *t, struct sip_uri *out)
{
	if (t->route.len)
		return sip_uri_parse(forward_first(t->route), out);
	if (route->next.len)
		return sip_uri_parse(route->next, out);
	return sip_uri_parse(t->ruri, out);
}

static bool goes_to_strict(const struct forward_args *a)
{
	return a->route->next_strict && a->route->next.len && a->target->route.len == 0;
}

static bool is_sips(struct slice uri)
{
	return uri.len > 5 && slice_ieq(slice_make(uri.p, 5), SLICE_LIT("sips:"));
}

/* RFC 5630: what asks for TLS in its Request-URI is not sent on without. */
static bool wants_tls(const struct forward_args *a)
{
	return is_sips(goes_to_strict(a) ? a->route->next : a->target->ruri);
}

int forward_flow(struct proxy *p, const struct forward_args *a, const struct resolver_hop *hop,
		 struct flow *out, uint32_t *ack_timeout)
{
	int prefer = a->route->listener >= 0 ? a->route->listener : a->source->listener;
	int l = self_listener(p, (enum flow_proto)hop->proto, &hop->addr, prefer);

	if (l < 0)
		return -EHOSTUNREACH;
	if (hop->proto != FLOW_TLS && wants_tls(a))
		return -EPROTO;
	*out = (struct flow){.proto = hop->proto,
			     .acceptor = a->source->acceptor,
			     .listener = (uint16_t)l,
			     .remote = hop->addr};
	*ack_timeout = 0;
	if (hop->proto == FLOW_UDP)
		return 0;
	/* RFC 5922 7.3: the certificate is to be good for the name that we were sent to, not for one that the DNS has
	 * led on to. */
	struct sip_uri uri = {0};
	if (hop->proto == FLOW_TLS && forward_hop_uri(a->route, a->target, &uri) < 0)
		return -EHOSTUNREACH;
	return p->lower.connect ? p->lower.connect(p->lower.ctx, out, uri.host, ack_timeout) : -EPROTONOSUPPORT;
}

int forward_attach(struct proxy *p, const struct forward_args *a, struct flow *out, uint32_t *ack_timeout)
{
	struct flow f = a->target->flow;

	/* Who gave the flow may have had another configuration. */
	if (f.listener >= p->config->listen_count)
		return -ENOTCONN;
	const struct config_listen *l = &p->config->listen[f.listener];
	*ack_timeout = 0;
	f.acceptor = a->source->acceptor;
	if (f.conn) {
		if (!p->lower.attach || p->lower.attach(p->lower.ctx, &f, ack_timeout) < 0)
			return -ENOTCONN;
	} else if (f.remote.family != l->addr.family)
		return -ENOTCONN;
	if (f.proto != l->proto)
		return -ENOTCONN;
	if (f.proto != FLOW_TLS && wants_tls(a))
		return -EPROTO;
	*out = f;
	return 0;
}

void forward_length(const struct sip_msg *m, struct sip_edits *e, char text[static FORWARD_LENGTH_MAX])
{
	struct buf b;

	buf_init(&b, text, FORWARD_LENGTH_MAX);
	buf_lit(&b, "Content-Length: ");
	buf_u64(&b, m->body.len);
	buf_lit(&b, "\r\n");
	sip_edits_add(e, m->hdrs[m->hdr_count - 1].end, 0, buf_view(&b));
}

/* Requests that set up a dialog; those inside one keep its route set (16.6 step 4). */
static bool wants_record_route(const struct sip_msg *m)
{
	if (m->to_tag.len)
		return false;
	return m->method == SIP_METHOD_INVITE || m->method == SIP_METHOD_SUBSCRIBE ||
	       m->method == SIP_METHOD_REFER || m->method == SIP_METHOD_OTHER;
}

/* The URI of one of our sides, without its last bracket (RFC 3261 16.6 step 4, RFC 5630 5.3). */
static void put_side(struct proxy *p, const struct flow *side, bool sips, struct slice token, struct buf *b)
{
	static const char *const transport[FLOW_PROTO_COUNT] = {
		[FLOW_UDP] = "", [FLOW_TCP] = ";transport=tcp", [FLOW_TLS] = ";transport=tls"};

	sips = sips && side->proto == FLOW_TLS;
	buf_lit(b, "<sip");
	if (sips)
		buf_char(b, 's');
	buf_char(b, ':');
	buf_slice(b, token);
	buf_char(b, '@');
	self_sent_by(p, side->listener, &side->remote, b);
	if (!sips)
		buf_slice(b, slice_str(transport[side->proto]));
	buf_lit(b, ";lr");
}

static void put_record_route(struct proxy *p, const struct flow *side, bool sips, struct slice token,
			     struct buf *b)
{
	buf_lit(b, "Record-Route: ");
	put_side(p, side, sips, token, b);
	buf_lit(b, ">\r\n");
}

/* True if `host` is an address, but not that of the source; with a port to compare (not 0) another port is another
 * address. */
static bool is_elsewhere(struct slice host, uint16_t port, const struct addr *source)
{
	struct addr a;

	return addr_parse_ip(host, port, &a) == 0 &&
	       !(addr_eq_ip(&a, source) && (port == 0 || port == source->port));
}

bool forward_is_first_hop(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_VIA);

	return h->next < 0 && h->value_len == m->via.whole.len;
}

/* Whether what is said to the caller in the dialog comes to who sent this: a user agent, or a proxy that has recorded
 * itself. One that has not is passed by (RFC 5626 5.3 has a flow for the first hop only). By addresses it is seen whose
 * the topmost Record-Route is; a name may be anybody's. */
static bool is_way_back(const struct proxy *p, const struct sip_msg *m, const struct flow *source)
{
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct sip_uri uri;
	struct slice v;
	struct addr at, via;

	if (!sip_values_next(m, SIP_HDR_RECORD_ROUTE, &it, &v))
		return forward_is_first_hop(m);
	if (sip_nameaddr_parse(v, &na) < 0 || sip_uri_parse(na.uri, &uri) < 0)
		return true;
	if (self_is_uri(p, &uri))
		return false;
	return addr_parse_ip(uri.host, 0, &at) < 0 || addr_eq_ip(&at, &source->remote) ||
	       addr_parse_ip(sip_slice(m, m->via.host), 0, &via) < 0 || addr_eq_ip(&at, &via);
}

/* A caller over UDP behind a NAT: straight from it, and neither its Via nor its Contact names where it is. The Via
 * alone says less: it may send from another port than it listens on, unless it has asked for rport (RFC 3581). */
static bool is_behind_nat(const struct sip_msg *m, const struct flow *source)
{
	uint16_t port = m->via.port ? m->via.port : 5060;
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct sip_uri uri;
	struct slice v;

	if (!forward_is_first_hop(m) ||
	    !is_elsewhere(sip_slice(m, m->via.host), m->via.has_rport ? port : 0, &source->remote))
		return false;
	return sip_values_next(m, SIP_HDR_CONTACT, &it, &v) && sip_nameaddr_parse(v, &na) == 0 &&
	       sip_uri_parse(na.uri, &uri) == 0 &&
	       is_elsewhere(uri.host, uri.port ? uri.port : 5060, &source->remote);
}

/* Requests inside the dialog come back by these. A side that is reached over a connection of its own, or through a NAT,
 * is so then too. */
static void put_record_routes(struct proxy *p, const struct forward_args *a, struct buf *b)
{
	const struct sip_msg *m = a->m;
	struct slice top = a->target->route.len ? forward_first(a->target->route) : a->route->next;
	bool sips = wants_tls(a) || is_sips(top);
	bool flow = a->source->conn ? is_way_back(p, m, a->source) : is_behind_nat(m, a->source);
	const struct flow *caller = flow ? a->source : NULL;
	const struct flow *callee = a->target->has_flow ? a->out : NULL;
	char text[TOKEN_FLOW_MAX];
	unsigned n = TOKEN_ROUTE_LEN;

	if (caller || callee)
		n = token_flow_make(&p->keys, sip_slice(m, m->call_id), sip_slice(m, m->from_tag), caller,
				    callee, text);
	else
		token_route_make(&p->keys, sip_slice(m, m->call_id), sip_slice(m, m->from_tag), text);
	put_record_route(p, a->out, sips, slice_make(text, n), b);
	/* Between two listeners both sides need a way in (RFC 5658). */
	if (a->out->listener != a->source->listener)
		put_record_route(p, a->source, sips, slice_make(text, n), b);
}

/* What a UA needs to do for us to say that it and we do outbound (RFC 5626 5.1). */
static bool is_outbound(const struct sip_msg *m)
{
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct slice v;

	if (!sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("outbound")))
		return false;
	while (sip_values_next(m, SIP_HDR_CONTACT, &it, &v))
		if (sip_nameaddr_parse(v, &na) == 0 && sip_param_get(na.params, SLICE_LIT("reg-id"), NULL))
			return true;
	return false;
}

/* The way that a registrar has to the phone (RFC 3327): by the side that it is on. */
static void put_path(struct proxy *p, const struct forward_args *a, struct buf *b)
{
	struct slice top = a->target->route.len ? forward_first(a->target->route) : a->route->next;
	char text[TOKEN_PATH_MAX];
	unsigned n = token_path_make(&p->keys, a->source, text);

	buf_lit(b, "Path: ");
	put_side(p, a->out, wants_tls(a) || is_sips(top), slice_make(text, n), b);
	if (is_outbound(a->m))
		buf_lit(b, ";ob");
	buf_lit(b, ">\r\n");
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

/* Our own values off the top of the route set; the last one, when it became the Request-URI; the first, when it is a
 * strict router's and becomes the Request-URI (16.6 step 6). */
static void edit_routes(const struct forward_args *a, struct sip_edits *e)
{
	const struct route_set *route = a->route;
	bool strict = goes_to_strict(a);
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

static void edit_credentials(const struct proxy *p, const struct sip_msg *m, struct sip_edits *e)
{
	for (const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_PROXY_AUTHORIZATION); h; h = sip_hdr_next(m, h))
		if (auth_consumes(p, sip_hdr_value(m, h)))
			sip_edits_add(e, h->off, h->end - h->off, SLICE_NONE);
}

long forward_build(struct proxy *p, const struct forward_args *a, char branch[static TOKEN_BRANCH_LEN])
{
	const struct sip_msg *m = a->m;
	const struct route_set *route = a->route;
	const struct sip_hdr *via = sip_msg_hdr(m, SIP_HDR_VIA);
	const struct sip_hdr *rr = sip_msg_hdr(m, SIP_HDR_RECORD_ROUTE);
	const struct sip_hdr *first_route = sip_msg_hdr(m, SIP_HDR_ROUTE);
	bool strict = goes_to_strict(a);
	struct slice ruri = strict ? route->next : a->target->ruri;
	char text[2048], stamp[SIP_VIA_SCRATCH], wide[4096], length[FORWARD_LENGTH_MAX];
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
		mark = b.len;
		put_record_routes(p, a, &b);
		sip_edits_add(&e, rr ? rr->off : via->off, 0, slice_make(b.p + mark, b.len - mark));
	}
	if (a->target->path) {
		const struct sip_hdr *path = sip_msg_hdr(m, SIP_HDR_PATH);
		mark = b.len;
		put_path(p, a, &b);
		sip_edits_add(&e, path ? path->off : via->off, 0, slice_make(b.p + mark, b.len - mark));
	}
	if (m->max_forwards > 0)
		edit_number(m, SIP_HDR_MAX_FORWARDS, (unsigned)m->max_forwards - 1, &e, &b);
	if (a->breadth)
		edit_number(m, SIP_HDR_MAX_BREADTH, a->breadth, &e, &b);

	if (a->target->route.len) {
		bool values = a->target->route.p[0] == '<'; /* of a Path, as they are */
		buf_lit(&w, "Route: ");
		if (!values)
			buf_char(&w, '<');
		buf_slice(&w, a->target->route);
		if (!values)
			buf_char(&w, '>');
		buf_lit(&w, "\r\n");
		sip_edits_add(&e, first_route ? first_route->off : via->off, 0, buf_view(&w));
	}
	edit_routes(a, &e);
	edit_credentials(p, m, &e);
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
	if (flow_is_reliable(a->out) && m->content_length < 0)
		forward_length(m, &e, length);
	if (b.full || w.full)
		return -ENOBUFS;
	return sip_edits_apply(&e, m, p->out, sizeof(p->out));
}
