/* How far a request may spread (RFC 5393 5.3.3). What is tried at the same time shares the breadth. A request that has
 * been here before shares it among all its targets, those that are tried one after the other too: the contacts of a few
 * users that point back here make a tree, of which every path would be walked in turn. */
#include "proxy_p.h"

unsigned breadth_of(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_MAX_BREADTH);
	uint64_t v = PROXY_MAX_BREADTH;

	if (h && (!slice_u64(sip_hdr_value(m, h), UINT32_MAX, &v) || v > PROXY_MAX_BREADTH))
		v = PROXY_MAX_BREADTH;
	return (unsigned)v;
}

/* True if one of the Via values below the top looks like ours. */
static bool been_here(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_VIA);
	struct sip_values it = {0};
	struct sip_via via;
	struct slice v;
	uint64_t loop;

	if (h->next < 0 && h->value_len == m->via.whole.len)
		return false; /* straight from a user agent */
	while (sip_values_next(m, SIP_HDR_VIA, &it, &v))
		if (sip_via_parse(m, it.span, &via) == 0 && token_branch_peek(sip_slice(m, via.branch), &loop))
			return true;
	return false;
}

static unsigned in_group(const struct target *t, unsigned count, unsigned group)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		n += t[i].group == group && !t[i].alternate;
	return n;
}

static unsigned in_all(const struct target *t, unsigned count)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		n += !t[i].alternate;
	return n;
}

bool breadth_enough(const struct sip_msg *m, const struct target_set *set, unsigned breadth)
{
	if (breadth == 0)
		return false;
	if (set->count <= 1)
		return true;
	if (!set->failover && in_all(set->target, set->count) > breadth && been_here(m))
		return false;
	for (unsigned i = 0; set->parallel && i < set->count; i++)
		if (in_group(set->target, set->count, set->target[i].group) > breadth)
			return false;
	return true;
}

unsigned breadth_share(const struct sip_msg *m, const struct target *t, unsigned count, unsigned i,
		       bool failover, unsigned breadth)
{
	unsigned together = in_group(t, count, t[i].group), all = failover ? together : in_all(t, count);

	if (all > together && been_here(m))
		together = all;
	return together && breadth > together ? breadth / together : together > 1 || !breadth ? 1 : breadth;
}
