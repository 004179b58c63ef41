/* The target set: RFC 3261 16.5 by the `route` sections, and nobody's open relay. */
#include "proxy_p.h"

#include "base/counters.h"

static bool route_matches_method(const struct config_route *r, const struct sip_msg *m)
{
	if (r->method_count == 0)
		return true;
	/* An ACK and a CANCEL go where their INVITE went. */
	struct slice name = m->method == SIP_METHOD_ACK || m->method == SIP_METHOD_CANCEL
				    ? SLICE_LIT("INVITE")
				    : sip_slice(m, m->method_name);
	for (unsigned i = 0; i < r->method_count; i++)
		if (slice_eq(name, slice_str(r->method[i])))
			return true;
	return false;
}

static bool route_matches_source(const struct config_route *r, const struct addr *source)
{
	return r->from_count == 0 || addr_nets_have(r->from, r->from_count, source);
}

static bool route_matches_user(const struct config_route *r, const char *user)
{
	return !r->user || !r->user[0] || (user && regexec(&r->user_re, user, 0, NULL, 0) == 0);
}

static bool route_matches(const struct config_route *r, const struct sip_msg *m, const struct plan *plan,
			  const char *user, const struct addr *source)
{
	struct slice host = plan->uri.host;

	if (host.len > 1 && host.p[host.len - 1] == '.')
		host.len--;
	return route_matches_method(r, m) && route_matches_source(r, source) &&
	       (!r->domain || !r->domain[0] || slice_ieq(host, slice_str(r->domain))) &&
	       route_matches_user(r, user);
}

/* The user part with its escapes undone, as a C string for the regular expressions; NULL when it is too long or
 * has a NUL, and then it matches none. */
static const char *user_text(const struct plan *plan, char text[static PROXY_USER_MAX + 1])
{
	struct buf b;

	buf_init(&b, text, PROXY_USER_MAX);
	sip_unescape(plan->uri.user, &b);
	if (b.full || memchr(b.p, 0, b.len))
		return NULL;
	text[b.len] = 0;
	return text;
}

static void target_add(struct target_set *set, struct slice ruri)
{
	set->target[set->count] = (struct target){.ruri = ruri, .group = set->count};
	set->count++;
}

static void targets_reject(struct target_set *set, unsigned status, const char *reason)
{
	set->reject = status;
	set->reject_reason = reason;
}

/* Along our own route set. The flow in it is a peer's own connection, or its way through a NAT; should that be gone,
 * its URI may still lead there (RFC 5626 5.3.1 has the 430 for what has no other way). */
static void targets_dialog(const struct plan *plan, struct target_set *set)
{
	struct target *t = &set->target[0];

	target_add(set, plan->ruri);
	if (flow_is_none(&plan->toward))
		return;
	t->flow = plan->toward;
	t->has_flow = t->fallback = true;
}

/* Along our own Path. The flow is all that its token permits, and all that the registrar asked for (RFC 5626 5.3.1). */
static void targets_path(const struct plan *plan, struct target_set *set)
{
	target_add(set, plan->ruri);
	set->target[0].flow = plan->toward;
	set->target[0].has_flow = true;
}

/* Where the phone is that sends this REGISTER is for the first hop to say (RFC 5626 5.1). */
static void targets_add_path(const struct config_route *r, const struct sip_msg *m, struct target_set *set)
{
	if (!r->path || m->method != SIP_METHOD_REGISTER || !forward_is_first_hop(m))
		return;
	for (unsigned i = 0; i < set->count; i++)
		set->target[i].path = true;
}

/* What nobody has a route for. */
static void targets_refuse(const struct proxy *p, const struct sip_msg *m, const struct plan *plan,
			   struct target_set *set)
{
	if (plan->uri.scheme == SIP_SCHEME_OTHER)
		targets_reject(set, 416, NULL);
	else if (self_is_domain(p, plan->uri.host) || self_is_uri(p, &plan->uri)) {
		if (m->method == SIP_METHOD_REGISTER)
			targets_reject(set, 501, NULL);
		else if (plan->uri.has_user && plan->uri.user.len)
			targets_reject(set, self_is_domain(p, plan->uri.host) ? 480 : 404, NULL);
		else
			targets_reject(set, 404, NULL);
	} else {
		count(CNT_REFUSED_RELAY);
		targets_reject(set, 403, "Relaying Forbidden");
	}
}

void targets_find(struct proxy *p, const struct packet *pk, const struct plan *plan, uint64_t loop,
		  struct target_set *set)
{
	const struct sip_msg *m = pk->msg;
	char room[PROXY_USER_MAX + 1];
	const char *user = user_text(plan, room);

	set->count = 0;
	set->parallel = set->failover = set->authenticate = false;
	set->reject = 0;
	set->reject_reason = NULL;
	buf_init(&set->text, set->room, sizeof(set->room));
	if (plan->authorized) {
		if (plan->route.next.len == 0 && self_is_uri(p, &plan->uri))
			targets_reject(set, 404, NULL); /* the dialog's other end would be we ourselves */
		else
			targets_dialog(plan, set);
		return;
	}
	if (plan->route.next.len) {
		count(CNT_REFUSED_RELAY);
		targets_reject(set, 403, "Route Not Permitted");
		return;
	}
	if (plan->path) {
		targets_path(plan, set);
		return;
	}
	for (unsigned i = 0; i < p->config->route_count; i++) {
		const struct config_route *r = &p->config->route[i];
		if (!route_matches(r, m, plan, user, &pk->flow.remote))
			continue;
		set->authenticate = r->authenticate;
		if (r->reject)
			targets_reject(set, r->reject, r->reject_reason);
		else if (r->gateway >= 0)
			gateway_targets(p, (unsigned)r->gateway, m, plan, loop, set);
		else if (plan->uri.scheme != SIP_SCHEME_SIP && plan->uri.scheme != SIP_SCHEME_SIPS)
			targets_reject(set, 416, NULL);
		else
			target_add(set, plan->ruri);
		targets_add_path(r, m, set);
		return;
	}
	int domain = p->reader && plan->uri.user.len && m->method != SIP_METHOD_REGISTER
			     ? self_domain(p, plan->uri.host)
			     : -1;
	if (domain >= 0)
		locate_targets(p, m, plan, (unsigned)domain, set);
	else
		targets_refuse(p, m, plan, set);
}
