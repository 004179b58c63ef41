#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "config/load_p.h"
#include "config/regex_p.h"
#include "sip/message.h"

/* A relative path begins at the folder of the configuration file. */
static int path_resolve(struct load *ld, char **path, const struct load_place *at)
{
	const char *slash = at->line ? strrchr(ld->e.file, '/') : NULL;
	size_t n = slash ? (size_t)(slash - ld->e.file) + 1 : 0;
	char *whole;

	if (!n || **path == '/' || !**path)
		return 0;
	whole = malloc(n + strlen(*path) + 1);
	if (!whole)
		return load_fail(&ld->e, at, -ENOMEM, "out of memory");
	memcpy(whole, ld->e.file, n);
	memcpy(whole + n, *path, strlen(*path) + 1);
	free(*path);
	*path = whole;
	return 0;
}

/* An option that the transport has no use for is a mistake that would go unnoticed. */
static int listen_useless(struct load *ld, const struct config_listen *l, const struct load_place *at)
{
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_row *o = &option_rows[i];
		const struct load_place there = {ld->given[i], at->section, at->title, o->name};
		unsigned good = option_transports(o);

		if (o->section == OPTION_SECTION_listen && ld->given[i] && !(good & 1u << l->proto))
			return load_fail(&ld->e, &there, -EINVAL, "means nothing here, expected only with %s",
					 good == 1u << FLOW_UDP   ? "udp"
					 : good == 1u << FLOW_TLS ? "tls"
								  : "tcp and tls");
	}
	return 0;
}

static int listen_certificates(struct load *ld, struct config_listen *l, struct load_place *at)
{
	/* What was given in the file's section; a listener of the command line has none. */
	int rc = at->line ? listen_useless(ld, l, at) : 0;

	if (rc || l->proto != FLOW_TLS)
		return rc;
	if (!l->certificate_count) {
		at->option = "certificate";
		return load_fail(&ld->e, at, -EINVAL, "is missing, expected a file in PEM format%s",
				 at->line ? "" : ", in the configuration file's section of the same title");
	}
	if (l->key_count != l->certificate_count) {
		at->option = "key";
		return load_fail(&ld->e, at, -EINVAL, "has %u files, expected one for each of %u certificates",
				 l->key_count, l->certificate_count);
	}
	for (unsigned i = 0; i < l->certificate_count && !rc; i++) {
		rc = path_resolve(ld, &l->certificate[i], at);
		if (!rc)
			rc = path_resolve(ld, &l->key[i], at);
	}
	return rc ? rc : path_resolve(ld, &l->ca, at);
}

static int listen_check(struct load *ld, struct config_listen *l, struct load_place *at)
{
	const char *colon = strchr(l->name, ':');
	struct slice proto = slice_make(l->name, colon ? (size_t)(colon - l->name) : 0), host;

	if (!flow_proto_parse(proto, &l->proto))
		return load_fail(&ld->e, at, -EINVAL,
				 "no known transport, expected udp:, tcp: or tls:ADDRESS:PORT");
	if (addr_parse(slice_str(colon + 1), &l->addr) != 0 || l->addr.port == 0)
		return load_fail(&ld->e, at, -EINVAL,
				 "not an IP address and port, expected for example udp:192.0.2.1:5060 or "
				 "udp:[2001:db8::1]:5060");
	if (*l->advertise && value_host_port(slice_str(l->advertise), &host, &l->advertise_port)) {
		l->advertise_host = value_copy(host);
		if (!l->advertise_host)
			return load_fail(&ld->e, at, -ENOMEM, "out of memory");
	}
	return listen_certificates(ld, l, at);
}

static int networks(struct load *ld, const char *option, char **text, unsigned n, struct addr_net **out,
		    struct load_place *at)
{
	struct addr_net *net = n ? calloc(n, sizeof(*net)) : NULL;

	*out = net;
	if (n && !net)
		return load_fail(&ld->e, at, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < n; i++)
		if (addr_net_parse(slice_str(text[i]), &net[i]) != 0)
			return load_fail(&ld->e, at, -EINVAL, "%s: \"%.100s\" is not valid", option, text[i]);
	return 0;
}

static int domain_check(struct load *ld, struct config_domain *d, struct load_place *at)
{
	if (!value_is_host(slice_str(d->name)))
		return load_fail(&ld->e, at, -EINVAL, "not a host name, expected one such as example.com");
	if (d->min_expires > d->max_expires || d->default_expires < d->min_expires ||
	    d->default_expires > d->max_expires)
		return load_fail(&ld->e, at, -EINVAL,
				 "the times of a registration contradict each other, expected min_expires <= "
				 "default_expires "
				 "<= max_expires");
	at->option = "alias";
	for (unsigned i = 0; i < d->alias_count; i++)
		if (!d->alias[i][0])
			return load_fail(&ld->e, at, -EINVAL,
					 "\"\" is not valid, expected a host name or IP address");
	at->option = NULL;
	d->trusted_count = d->trusted_text_count;
	return networks(ld, "trusted", d->trusted_text, d->trusted_count, &d->trusted, at);
}

static int gateway_check(struct load *ld, struct config_gateway *g, struct load_place *at)
{
	char why[VALUE_WHY_LEN];

	at->option = "target";
	if (g->target_text_count == 0)
		return load_fail(&ld->e, at, -EINVAL, "is missing, expected at least one SIP URI");
	g->target = calloc(g->target_text_count, sizeof(*g->target));
	if (!g->target)
		return load_fail(&ld->e, at, -ENOMEM, "out of memory");
	g->target_count = g->target_text_count;
	for (unsigned i = 0; i < g->target_count; i++)
		if (value_target(g->target_text[i], &g->target[i], why) != 0)
			return load_fail(&ld->e, at, -EINVAL, "%s", why);
	return 0;
}

static int route_reject(struct load *ld, struct config_route *r, struct load_place *at)
{
	uint64_t status = 0;

	if (!*r->reject_text)
		return 0;
	slice_u64(slice_make(r->reject_text, 3), 699, &status);
	r->reject = (unsigned)status;
	r->reject_reason =
		value_copy(slice_str(r->reject_text[3] ? r->reject_text + 4 : sip_reason_default(r->reject)));
	return r->reject_reason ? 0 : load_fail(&ld->e, at, -ENOMEM, "out of memory");
}

static int route_check(struct load *ld, struct config_route *r, struct load_place *at)
{
	const struct option_row *user = option_find(OPTION_SECTION_route, "user");
	static const char *const several[8] = {[3] = "gateway and reject",
					       [5] = "gateway and dns",
					       [6] = "reject and dns",
					       [7] = "gateway, reject and dns"};
	char why[200];
	unsigned actions = (*r->gateway_name ? 1u : 0) | (*r->reject_text ? 2u : 0) | (r->dns ? 4u : 0);
	int rc;

	r->line = at->line;
	r->gateway = -1;
	if (actions == 0)
		return load_fail(&ld->e, at, -EINVAL,
				 "does not say where to send requests, expected gateway, reject or dns = true");
	if (several[actions])
		return load_fail(&ld->e, at, -EINVAL, "has %s, expected only one of them", several[actions]);
	rc = route_reject(ld, r, at);
	r->from_count = r->from_text_count;
	if (rc == 0)
		rc = networks(ld, "from", r->from_text, r->from_count, &r->from, at);
	if (rc != 0 || !*r->user)
		return rc;
	rc = regex_compile(r->user, &r->user_re, why, sizeof(why));
	if (rc != 0) {
		at->option = user->name;
		if (ld->given[user - option_rows])
			at->line = ld->given[user - option_rows];
		return load_fail(&ld->e, at, rc,
				 "\"%.100s\" is not valid (%s), expected a POSIX extended regular expression",
				 r->user, why);
	}
	return 0;
}

int check_item(struct load *ld, enum option_section section, void *item, struct load_place *at)
{
	switch (section) {
	case OPTION_SECTION_listen: return listen_check(ld, item, at);
	case OPTION_SECTION_domain: return domain_check(ld, item, at);
	case OPTION_SECTION_gateway: return gateway_check(ld, item, at);
	case OPTION_SECTION_route: return route_check(ld, item, at);
	default: return 0;
	}
}

void check_free(enum option_section section, void *item)
{
	if (section == OPTION_SECTION_listen) {
		free(((struct config_listen *)item)->advertise_host);
	} else if (section == OPTION_SECTION_domain) {
		free(((struct config_domain *)item)->trusted);
	} else if (section == OPTION_SECTION_gateway) {
		free(((struct config_gateway *)item)->target);
	} else if (section == OPTION_SECTION_route) {
		struct config_route *r = item;

		free(r->from);
		free(r->reject_reason);
		regfree(&r->user_re); /* nothing for one that is still all zero, or did not compile */
	}
}

/* The names of a titled section, sorted. */
struct named {
	const char *name;
	unsigned index;
};

static int named_cmp(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int d = strcmp(x->name, y->name);

	return d ? d : (x->index > y->index) - (x->index < y->index);
}

static int named_cmp_nocase(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int d = strcasecmp(x->name, y->name);

	return d ? d : (x->index > y->index) - (x->index < y->index);
}

/* Refuses duplicates. *out, if wanted, is the sorted table, for the caller to free. */
static int names_check(struct load *ld, enum option_section section, struct named **out)
{
	const struct option_section_row *row = &option_sections[section];
	const char *items = *(char **)((char *)ld->c + row->offset);
	unsigned n = *(unsigned *)((char *)ld->c + row->count);
	const unsigned *line = ld->item_line[section];
	bool nocase = section == OPTION_SECTION_domain;
	struct named *t = calloc(n ? n : 1, sizeof(*t));
	int rc = 0;

	if (!t)
		return load_fail(&ld->e, NULL, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < n; i++)
		t[i] = (struct named){*(char *const *)(items + i * row->size), i};
	qsort(t, n, sizeof(*t), nocase ? named_cmp_nocase : named_cmp);
	for (unsigned i = 1; i < n && rc == 0; i++) {
		if ((nocase ? strcasecmp : strcmp)(t[i - 1].name, t[i].name) == 0) {
			const struct load_place at = {line[t[i].index], row->name, t[i].name, NULL};

			rc = load_fail(&ld->e, &at, -EINVAL,
				       "is given twice, expected different titles (first in line %u)",
				       line[t[i - 1].index]);
		}
	}
	if (rc == 0 && out)
		*out = t;
	else
		free(t);
	return rc;
}

static int listeners_check(struct load *ld)
{
	const struct config *c = ld->c;
	const unsigned *line = ld->item_line[OPTION_SECTION_listen];

	for (unsigned i = 0; i < c->listen_count; i++) {
		for (unsigned j = 0; j < i; j++) {
			const struct load_place at = {line[i], line[i] ? "listen" : "-l", c->listen[i].name,
						      NULL};

			/* tls is tcp to the kernel */
			if ((c->listen[i].proto == FLOW_UDP) != (c->listen[j].proto == FLOW_UDP) ||
			    !addr_eq(&c->listen[i].addr, &c->listen[j].addr))
				continue;
			if (line[i] == 0) {
				ld->e.file = "command line";
				return load_fail(&ld->e, &at, -EINVAL,
						 "is given twice, expected different addresses");
			}
			return load_fail(&ld->e, &at, -EINVAL,
					 "is given twice, expected different addresses (first in line %u)",
					 line[j]);
		}
	}
	return 0;
}

static int routes_resolve(struct load *ld, const struct named *gateways)
{
	const unsigned *line = ld->item_line[OPTION_SECTION_route];

	for (unsigned i = 0; i < ld->c->route_count; i++) {
		struct config_route *r = &ld->c->route[i];
		const struct load_place at = {line[i], "route", r->name, "gateway"};
		unsigned lo = 0, hi = ld->c->gateway_count;

		if (!*r->gateway_name)
			continue;
		while (lo < hi) {
			unsigned mid = (lo + hi) / 2;

			if (strcmp(gateways[mid].name, r->gateway_name) < 0)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == ld->c->gateway_count || strcmp(gateways[lo].name, r->gateway_name) != 0)
			return load_fail(&ld->e, &at, -EINVAL,
					 "\"%.100s\" is not known, expected the title of a gateway section",
					 r->gateway_name);
		r->gateway = (int)gateways[lo].index;
	}
	return 0;
}

/* A target that names a transport needs a listener to go out from. */
static int targets_check(struct load *ld)
{
	const struct config *c = ld->c;
	unsigned have = 0;

	for (unsigned i = 0; i < c->listen_count; i++)
		have |= 1u << c->listen[i].proto;
	for (unsigned i = 0; i < c->gateway_count; i++) {
		for (unsigned j = 0; j < c->gateway[i].target_count; j++) {
			const struct sip_uri *u = &c->gateway[i].target[j].uri;
			const struct load_place at = {ld->item_line[OPTION_SECTION_gateway][i], "gateway",
						      c->gateway[i].name, "target"};
			enum flow_proto p = FLOW_PROTO_COUNT;
			struct slice t;

			if (u->scheme == SIP_SCHEME_SIPS)
				p = FLOW_TLS;
			else if (sip_param_get(u->params, SLICE_LIT("transport"), &t))
				flow_proto_parse(t, &p);
			if (p == FLOW_PROTO_COUNT || (have & 1u << p))
				continue;
			return load_fail(&ld->e, &at, -EINVAL,
					 "\"%.100s\" needs a listener of its transport, expected a section "
					 "listen \"%s:...\"",
					 c->gateway[i].target[j].text, flow_proto_label(p));
		}
	}
	return 0;
}

static int timers_check(struct load *ld)
{
	const unsigned t1 = ld->given[option_find(OPTION_SECTION_timers, "t1") - option_rows];
	const unsigned t2 = ld->given[option_find(OPTION_SECTION_timers, "t2") - option_rows];
	const struct load_place at = {t2 ? t2 : t1, "timers", NULL, "t2"};

	if (ld->c->timers.t2 >= ld->c->timers.t1)
		return 0;
	return load_fail(&ld->e, &at, -EINVAL, "%ums is less than t1, expected at least %ums", ld->c->timers.t2,
			 ld->c->timers.t1);
}

static unsigned cpus(void)
{
	cpu_set_t set;
	long n;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}

int check_all(struct load *ld)
{
	struct config *c = ld->c;
	struct named *gateways = NULL;
	unsigned n = cpus();
	int rc;

	rc = listeners_check(ld);
	if (rc == 0)
		rc = names_check(ld, OPTION_SECTION_domain, NULL);
	if (rc == 0)
		rc = domains_index(ld);
	if (rc == 0)
		rc = names_check(ld, OPTION_SECTION_route, NULL);
	if (rc == 0)
		rc = names_check(ld, OPTION_SECTION_gateway, &gateways);
	if (rc == 0 && gateways)
		rc = routes_resolve(ld, gateways);
	if (rc == 0)
		rc = targets_check(ld);
	if (rc == 0)
		rc = timers_check(ld);
	free(gateways);
	if (rc != 0)
		return rc;
	if (*c->stats.listen_text)
		addr_parse(slice_str(c->stats.listen_text), &c->stats.listen);
	if (n > 256)
		n = 256; /* the options' upper bound */
	if (c->workers == 0)
		c->workers = n;
	if (c->acceptors == 0)
		c->acceptors = n < 2 ? 1 : n / 2;
	return 0;
}
