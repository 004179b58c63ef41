/* The Contacts of a REGISTER, and what else of it says how they are to be stored. */
#include <errno.h>

#include "base/hash.h"
#include "registrar_p.h"

#define REG_ID_MAX 2147483647u /* RFC 5626 4.2: 2^31 - 1 */

static unsigned refuse(struct registrar_answer *out, unsigned status, const char *reason)
{
	out->status = status;
	out->reason = reason;
	return status;
}

static unsigned refuse_brief(struct registrar_answer *out, const struct registrar_args *a)
{
	buf_lit(&out->extra, "Min-Expires: ");
	buf_u64(&out->extra, a->domain->min_expires / 1000);
	buf_lit(&out->extra, "\r\n");
	return refuse(out, 423, NULL);
}

/* 20.19: a malformed value counts as the default. */
static uint64_t expires_parse(struct slice text, uint64_t otherwise)
{
	uint64_t s;
	return slice_u64(text, UINT32_MAX, &s) ? s * 1000 : otherwise;
}

static bool q_parse(struct slice text, uint16_t *q)
{
	unsigned v = 0, unit = 1000;

	if (!text.len || (text.p[0] != '0' && text.p[0] != '1') || text.len > 5 ||
	    (text.len > 1 && text.p[1] != '.'))
		return false;
	v = text.p[0] == '1' ? 1000 : 0;
	for (size_t i = 2; i < text.len; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		unit /= 10;
		v += (unsigned)(text.p[i] - '0') * unit;
	}
	if (v > 1000)
		return false;
	*q = (uint16_t)v;
	return true;
}

/* "<urn:uuid:…>" within quotes: what is in the brackets, or all of it without. */
static struct slice instance_of(struct slice v)
{
	if (v.len >= 2 && v.p[0] == '<' && v.p[v.len - 1] == '>')
		return slice_make(v.p + 1, v.len - 2);
	return v;
}

/* A parameter of the Contact that we do not understand is given back as it came. Bytes that would break a header line
 * cannot be in it: line ends within a folded header become spaces. */
static void keep_param(struct buf *b, struct slice whole)
{
	for (size_t i = 0; i < whole.len; i++)
		buf_char(b, whole.p[i] == '\r' || whole.p[i] == '\n' ? ' ' : whole.p[i]);
}

static unsigned read_params(const struct registrar_args *a, struct slice params, struct contact *c,
			    struct buf *kept, struct registrar_answer *out, uint64_t otherwise)
{
	struct slice rest = params, name, value, whole;
	size_t mark = kept->len;
	uint64_t n;

	c->expires = otherwise;
	c->binding.q = 1000;
	while (sip_param_next(&rest, &name, &value, &whole)) {
		if (slice_ieq(name, SLICE_LIT("expires"))) {
			c->expires = expires_parse(value, a->domain->default_expires);
		} else if (slice_ieq(name, SLICE_LIT("q"))) {
			if (!q_parse(value, &c->binding.q))
				return refuse(out, 400, "Bad q In Contact");
		} else if (slice_ieq(name, SLICE_LIT("+sip.instance"))) {
			c->binding.instance = instance_of(value);
			if (c->binding.instance.len > REGISTRAR_CONTACT_MAX || memchr(value.p, '\n', value.len))
				return refuse(out, 400, "Bad Instance In Contact");
		} else if (slice_ieq(name, SLICE_LIT("reg-id"))) {
			if (!slice_u64(value, REG_ID_MAX, &n) || n == 0)
				return refuse(out, 400, "Bad reg-id In Contact");
			c->binding.reg_id = (uint32_t)n;
		} else {
			keep_param(kept, whole);
		}
	}
	if (!c->binding.instance.len)
		c->binding.reg_id = 0; /* RFC 5626 6: means nothing without an instance */
	c->binding.params = slice_make(kept->p + mark, kept->len - mark);
	return 0;
}

static unsigned read_contact(const struct registrar_args *a, struct slice value, uint64_t otherwise,
			     struct contact *c, struct buf *kept, struct registrar_answer *out)
{
	struct sip_nameaddr na;
	unsigned status;

	*c = (struct contact){0};
	if (sip_nameaddr_parse(value, &na) < 0 || sip_uri_parse(na.uri, &c->uri) < 0 ||
	    na.uri.len > REGISTRAR_CONTACT_MAX || memchr(na.uri.p, '\n', na.uri.len))
		return refuse(out, 400, "Bad Contact");
	c->binding.contact = na.uri;
	status = read_params(a, na.params, c, kept, out, otherwise);
	if (status)
		return status;
	if (c->expires > a->domain->max_expires)
		c->expires = a->domain->max_expires;
	else if (c->expires && c->expires < a->domain->min_expires)
		return refuse_brief(out, a);
	return 0;
}

/* The values of Path, joined as they go into a Route header. */
static unsigned read_path(const struct registrar_args *a, struct contact_list *l, bool *ob,
			  struct registrar_answer *out)
{
	struct sip_values it = {0};
	struct sip_nameaddr na;
	struct sip_uri uri;
	struct slice v;
	struct buf b;

	*ob = false;
	buf_init(&b, l->path_room, sizeof(l->path_room));
	while (sip_values_next(a->m, SIP_HDR_PATH, &it, &v)) {
		if (sip_nameaddr_parse(v, &na) < 0 || !na.brackets || sip_uri_parse(na.uri, &uri) < 0 ||
		    memchr(v.p, '\n', v.len))
			return refuse(out, 400, "Bad Path");
		if (b.len)
			buf_lit(&b, ", ");
		buf_slice(&b, v);
		*ob = sip_param_get(uri.params, SLICE_LIT("ob"), NULL); /* the last one is the first hop's */
	}
	if (b.full)
		return refuse(out, 400, "Path Too Long");
	l->path = buf_view(&b);
	return 0;
}

static bool is_direct(const struct sip_msg *m)
{
	const struct sip_hdr *h = sip_msg_hdr(m, SIP_HDR_VIA);
	return h && h->next < 0 && h->value_len == m->via.whole.len;
}

/* True if the contact is the very place that the request came from. */
static bool is_source(const struct sip_uri *u, const struct flow *f)
{
	struct addr a;
	uint16_t port = u->port ? u->port : u->scheme == SIP_SCHEME_SIPS ? 5061 : 5060;
	return addr_parse_ip(u->host, port, &a) == 0 && addr_eq(&a, &f->remote);
}

/* RFC 5626 6. */
static unsigned check_outbound(const struct registrar_args *a, struct contact_list *l, bool direct, bool ob,
			       struct registrar_answer *out)
{
	unsigned with = 0;

	for (unsigned i = 0; i < l->count; i++)
		if (l->contact[i].binding.reg_id && l->contact[i].expires)
			with++;
	if (!with)
		return 0;
	if (with > 1)
		return refuse(out, 400, "More Than One reg-id");
	if (!sip_msg_has_token(a->m, SIP_HDR_SUPPORTED, SLICE_LIT("outbound")) &&
	    !sip_msg_has_token(a->m, SIP_HDR_REQUIRE, SLICE_LIT("outbound")))
		return 0; /* instance and reg-id name the binding, that is all */
	if (!direct && !ob)
		return refuse(out, 439, "First Hop Lacks Outbound Support");
	l->outbound = true;
	return 0;
}

static unsigned check_require(const struct registrar_args *a, struct registrar_answer *out)
{
	struct sip_values it = {0};
	struct slice v;
	size_t mark = out->extra.len;

	while (sip_values_next(a->m, SIP_HDR_REQUIRE, &it, &v)) {
		if (!v.len || slice_ieq(v, SLICE_LIT("outbound")) || slice_ieq(v, SLICE_LIT("path")) ||
		    memchr(v.p, '\n', v.len))
			continue;
		if (out->extra.len == mark)
			buf_lit(&out->extra, "Unsupported: ");
		else
			buf_lit(&out->extra, ", ");
		buf_slice(&out->extra, v);
	}
	if (out->extra.len == mark)
		return 0;
	buf_lit(&out->extra, "\r\n");
	return refuse(out, 420, NULL);
}

static unsigned read_star(const struct registrar_args *a, struct contact_list *l, unsigned values,
			  struct registrar_answer *out)
{
	const struct sip_hdr *h = sip_msg_hdr(a->m, SIP_HDR_EXPIRES);

	if (values != 1 || !h || !slice_eq(sip_hdr_value(a->m, h), SLICE_LIT("0")))
		return refuse(out, 400, "Contact * Needs Expires 0");
	l->star = true;
	return 0;
}

static unsigned read_all(const struct registrar_args *a, struct contact_list *l, struct registrar_answer *out)
{
	const struct sip_hdr *h = sip_msg_hdr(a->m, SIP_HDR_EXPIRES);
	uint64_t otherwise = h ? expires_parse(sip_hdr_value(a->m, h), a->domain->default_expires)
			       : a->domain->default_expires;
	struct sip_values it = {0};
	unsigned values = 0, status;
	bool star = false;
	struct slice v;
	struct buf kept;

	buf_init(&kept, l->param_room, sizeof(l->param_room));
	while (sip_values_next(a->m, SIP_HDR_CONTACT, &it, &v)) {
		values++;
		if (slice_eq(v, SLICE_LIT("*"))) {
			star = true;
			continue;
		}
		if (l->count == LOCATION_BINDINGS_MAX)
			return refuse(out, 403, "Too Many Contacts");
		status = read_contact(a, v, otherwise, &l->contact[l->count], &kept, out);
		if (status)
			return status;
		l->count++;
	}
	if (kept.full)
		return refuse(out, 400, "Contact Parameters Too Long");
	return star ? read_star(a, l, values, out) : 0;
}

static void finish(const struct registrar_args *a, struct contact_list *l, bool direct)
{
	const struct sip_hdr *ua = NULL;
	struct slice agent = SLICE_NONE;

	for (unsigned i = 0; i < a->m->hdr_count && !ua; i++)
		if (slice_ieq(sip_hdr_name(a->m, &a->m->hdrs[i]), SLICE_LIT("User-Agent")))
			ua = &a->m->hdrs[i];
	if (ua) {
		agent = sip_hdr_value(a->m, ua);
		agent.len = agent.len > 64 ? 64 : agent.len;
	}
	for (unsigned i = 0; i < l->count; i++) {
		struct contact *c = &l->contact[i];
		struct binding *b = &c->binding;
		b->call_id = sip_slice(a->m, a->m->call_id);
		b->cseq = a->m->cseq;
		b->path = l->path;
		b->user_agent = agent;
		b->expires = a->now + c->expires;
		b->updated = a->now;
		b->flow = *a->flow;
		b->outbound = l->outbound && b->reg_id;
		/* Over its connection, or behind a NAT: where it came from is the only way back. What came through
		 * another proxy goes back through it, by Path or by its own address. */
		b->unbind = a->domain->unbind;
		b->use_flow = direct && !l->path.len &&
			      (b->outbound || flow_is_reliable(a->flow) || !is_source(&c->uri, a->flow));
	}
}

unsigned contacts_read(const struct registrar_args *a, struct contact_list *l, struct registrar_answer *out)
{
	bool direct = is_direct(a->m), ob;
	unsigned status;

	l->star = l->outbound = false;
	l->count = 0;
	status = check_require(a, out);
	if (!status)
		status = read_path(a, l, &ob, out);
	if (!status)
		status = read_all(a, l, out);
	if (!status)
		status = check_outbound(a, l, direct, ob, out);
	if (!status)
		finish(a, l, direct);
	return status;
}

uint64_t registrar_number(const struct sip_msg *m, const struct contact *c)
{
	struct slice id = sip_slice(m, m->call_id);
	uint64_t h = hash_bytes(c->binding.contact.p, c->binding.contact.len, m->cseq);
	h = hash_bytes(id.p, id.len, h);
	h = hash_bytes(c->binding.instance.p, c->binding.instance.len, h + c->binding.reg_id);
	return h | 1;
}
