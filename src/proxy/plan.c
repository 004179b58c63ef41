/* Route preprocessing: RFC 3261 16.4, with strict routers before and behind us. */
#include <limits.h>

#include "proxy_p.h"

/* A strict router before us has put our Record-Route into the Request-URI, and the Request-URI to the end of the
 * route set. */
static unsigned undo_strict(const struct sip_msg *m, struct plan *plan)
{
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct slice v, last = SLICE_NONE;

	while (sip_values_next(m, SIP_HDR_ROUTE, &it, &v))
		last = v;
	if (last.len == 0)
		return 0; /* nothing to put back: the request is for us */
	if (sip_nameaddr_parse(last, &na) < 0 || sip_uri_parse(na.uri, &plan->uri) < 0)
		return 400;
	plan->ruri = na.uri;
	plan->route.last_used = true;
	return 0;
}

/* 16.4: a maddr that is ours has done its work; without it the URI is what the routing is about. */
static void drop_maddr(const struct proxy *p, struct plan *plan, char *text, size_t textlen)
{
	struct slice maddr, rest = plan->uri.params, name, value, whole;
	struct buf b;

	if (plan->uri.scheme != SIP_SCHEME_SIP && plan->uri.scheme != SIP_SCHEME_SIPS)
		return;
	if (!sip_param_get(plan->uri.params, SLICE_LIT("maddr"), &maddr) || !self_is_uri(p, &plan->uri))
		return;
	buf_init(&b, text, textlen);
	buf_slice(&b, plan->uri.scheme_text);
	buf_char(&b, ':');
	if (plan->uri.has_user) {
		buf_slice(&b, plan->uri.user);
		if (plan->uri.password.len) {
			buf_char(&b, ':');
			buf_slice(&b, plan->uri.password);
		}
		buf_char(&b, '@');
	}
	buf_slice(&b, plan->uri.host);
	while (sip_param_next(&rest, &name, &value, &whole))
		if (!slice_ieq(name, SLICE_LIT("maddr")) && !slice_ieq(name, SLICE_LIT("transport")))
			buf_slice(&b, whole);
	struct sip_uri u;
	if (!b.full && sip_uri_parse(buf_view(&b), &u) == 0) {
		plan->uri = u;
		plan->ruri = buf_view(&b);
	}
}

/* On top, the name of a domain of ours with nothing before it: a user agent has its outbound proxy by that name, and by
 * it has come here. */
static bool is_own_domain(const struct proxy *p, const struct sip_uri *u)
{
	if ((u->scheme != SIP_SCHEME_SIP && u->scheme != SIP_SCHEME_SIPS) || u->has_user ||
	    !self_is_domain(p, u->host))
		return false;
	for (unsigned i = 0; u->port && i < p->config->listen_count; i++)
		if (p->config->listen[i].addr.port == u->port)
			return true;
	return u->port == 0;
}

/* A Path of ours in a Route, from the registrar's side. From the phone itself it permits nothing, and is only taken off
 * (RFC 5626 5.3.2). False: it has our form, and is none. */
static bool take_path(struct proxy *p, const struct packet *pk, struct slice user, struct plan *plan)
{
	struct flow flow;

	if (!token_path_check(&p->keys, user, &flow))
		return false;
	if (!flow_eq(&flow, &pk->flow)) {
		plan->path = true;
		plan->toward = flow;
	}
	return true;
}

#define ROUTES_OWN_MAX 64

/* Takes our own values off the top of the route set: two when the request changes listeners here (RFC 5658), more when
 * it passed us more than once (a spiral) and nobody in between stayed in the dialog. The last one is of the side that
 * the request goes to. What has our Path's form and is none, and whatever follows one, is not ours. */
static unsigned take_own_routes(struct proxy *p, const struct packet *pk, bool authorized, struct plan *plan)
{
	const struct sip_msg *m = pk->msg;
	struct sip_values it = {0};
	struct slice v, token = SLICE_NONE;
	struct sip_uri u;
	unsigned total = UINT_MAX, i;

	if (!sip_msg_hdr(m, SIP_HDR_ROUTE))
		return 0;
	if (plan->route.last_used) {
		for (total = 0; sip_values_next(m, SIP_HDR_ROUTE, &it, &v); total++)
			;
		total--;
		it = (struct sip_values){0};
	}
	for (i = 0; i < total && sip_values_next(m, SIP_HDR_ROUTE, &it, &v); i++) {
		struct sip_nameaddr na;
		if (sip_nameaddr_parse(v, &na) < 0 || sip_uri_parse(na.uri, &u) < 0)
			return 400;
		bool own = plan->route.own < ROUTES_OWN_MAX && !plan->path &&
			   (self_is_uri(p, &u) || (i == 0 && is_own_domain(p, &u)));
		if (own && !authorized && token_path_is_form(u.user))
			own = take_path(p, pk, u.user, plan);
		if (own) {
			if (!slice_eq(u.user, token) && token_route_check(&p->keys, m, u.user, &plan->toward)) {
				authorized = true;
				token = u.user;
			}
			/* Any but the first may name another side than the request came in on. */
			if (i > 0 || plan->route.last_used)
				plan->route.listener = (int16_t)self_uri_listener(p, &u);
			plan->route.own++;
			continue;
		}
		plan->route.next = na.uri;
		plan->route.next_strict = !sip_param_get(u.params, SLICE_LIT("lr"), NULL);
		i++;
		break;
	}
	if (i == 0 && !plan->route.last_used)
		return 400; /* a Route header without a route */
	/* A request along our own route set is one inside a dialog; without a To tag the token permits nothing. */
	plan->authorized = authorized && m->to_tag.len > 0;
	return 0;
}

/* What its receiver may act on without knowing the dialog: a call, above all. */
static bool begins_something(enum sip_method method)
{
	return method == SIP_METHOD_INVITE || method == SIP_METHOD_MESSAGE || method == SIP_METHOD_REFER ||
	       method == SIP_METHOD_PUBLISH || method == SIP_METHOD_REGISTER;
}

/* The token says which dialog it is, not where that leads: with it alone, who was once let through to one user could go
 * on to anybody. What comes back to ourselves is looked at again. */
static bool leads_to_dialog(struct proxy *p, const struct sip_msg *m, const struct sip_uri *uri,
			    const struct plan *plan)
{
	struct slice next = plan->route.next;
	struct sip_uri u;

	if (!begins_something(m->method))
		return true;
	if (next.len && sip_uri_parse(next, &u) == 0 && self_is_uri(p, &u))
		next = SLICE_NONE;
	return dialog_permits(p, m, uri, next);
}

unsigned plan_make(struct proxy *p, const struct packet *pk, struct plan *plan, char *text, size_t textlen)
{
	const struct sip_msg *m = pk->msg;
	bool authorized = false;

	*plan = (struct plan){.ruri = sip_slice(m, m->ruri), .route.listener = -1};
	if (sip_uri_parse(plan->ruri, &plan->uri) < 0)
		return 400;
	if (token_route_is_form(plan->uri.user) && self_is_uri(p, &plan->uri)) {
		authorized = token_route_check(&p->keys, m, plan->uri.user, &plan->toward);
		unsigned status = undo_strict(m, plan);
		if (status)
			return status;
	}
	struct sip_uri asked = plan->uri;
	drop_maddr(p, plan, text, textlen);
	unsigned status = take_own_routes(p, pk, authorized, plan);
	if (plan->authorized)
		plan->authorized = leads_to_dialog(p, m, &asked, plan);
	return status;
}
