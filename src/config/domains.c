/* Which domain a host name belongs to: the domains' own names and their aliases in one sorted table. */
#include <errno.h>
#include <stdlib.h>

#include "config/load_p.h"
#include "sip/message.h"

static int name_cmp(const void *a, const void *b)
{
	const struct config_domain_name *x = a, *y = b;
	int d = strcasecmp(x->name, y->name);

	return d ? d : (x->domain > y->domain) - (x->domain < y->domain);
}

/* Names alone have been found to be different before. */
static int duplicate(struct load *ld, const struct config_domain_name *a, const struct config_domain_name *b)
{
	const struct config *c = ld->c;
	const struct config_domain_name *later = b->domain >= a->domain ? b : a;
	const struct load_place at = {ld->item_line[OPTION_SECTION_domain][later->domain], "domain",
				      c->domain[later->domain].name, "alias"};

	return load_fail(&ld->e, &at, -EINVAL, "\"%.100s\" is given twice, expected names of one domain only",
			 b->name);
}

int domains_index(struct load *ld)
{
	struct config *c = ld->c;
	unsigned n = c->domain_count, k = 0;

	for (unsigned i = 0; i < c->domain_count; i++)
		n += c->domain[i].alias_count;
	c->domain_name = calloc(n ? n : 1, sizeof(*c->domain_name));
	if (!c->domain_name)
		return load_fail(&ld->e, NULL, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < c->domain_count; i++) {
		c->domain_name[k++] = (struct config_domain_name){c->domain[i].name, i};
		for (unsigned a = 0; a < c->domain[i].alias_count; a++)
			c->domain_name[k++] = (struct config_domain_name){c->domain[i].alias[a], i};
	}
	c->domain_name_count = n;
	qsort(c->domain_name, n, sizeof(*c->domain_name), name_cmp);
	for (unsigned i = 1; i < n; i++)
		if (strcasecmp(c->domain_name[i - 1].name, c->domain_name[i].name) == 0)
			return duplicate(ld, &c->domain_name[i - 1], &c->domain_name[i]);
	return 0;
}

int config_domain_find(const struct config *c, struct slice host)
{
	unsigned from = 0, to = c->domain_name_count;

	while (from < to) {
		unsigned mid = from + (to - from) / 2;
		const char *name = c->domain_name[mid].name;
		size_t len = strlen(name), n = len < host.len ? len : host.len;
		int d = n ? strncasecmp(name, host.p, n) : 0;

		if (d == 0)
			d = (len > host.len) - (len < host.len);
		if (d == 0)
			return (int)c->domain_name[mid].domain;
		if (d < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return -1;
}
