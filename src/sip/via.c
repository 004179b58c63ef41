#include "via_p.h"

#include <errno.h>

#include "chars_p.h"

static bool param_is(struct slice name, const char *lit, size_t n)
{
	return name.len == n && sip_ieq_lit(name.p, lit, n);
}

/* Takes note of one parameter that means something to us. False: its value cannot be. */
static bool param_note(const struct sip_msg *m, struct slice name, struct slice value, const char *end,
		       struct sip_via *v)
{
	struct slice plain = value;
	uint64_t n;

	if (value.len >= 2 && value.p[0] == '"')
		plain = slice_make(value.p + 1, value.len - 2);
	switch (name.len) {
	case 6:
		if (param_is(name, "branch", 6) && plain.len && !v->branch.len)
			v->branch = sip_span_of(m, plain);
		break;
	case 5:
		if (param_is(name, "rport", 5)) {
			if (v->has_rport)
				return false;
			v->has_rport = true;
			v->rport = sip_span_of(m, slice_make(name.p, (size_t)(end - name.p)));
			if (value.len) {
				if (!slice_u64(value, UINT16_MAX, &n))
					return false;
				v->rport_value = (uint16_t)n;
			}
		} else if (param_is(name, "maddr", 5)) {
			if (!plain.len)
				return false;
			v->maddr = sip_span_of(m, plain);
		}
		break;
	case 8:
		if (param_is(name, "received", 8)) {
			if (!plain.len || v->received.len)
				return false;
			v->received = sip_span_of(m, plain);
		}
		break;
	case 3:
		if (param_is(name, "ttl", 3)) {
			if (!slice_u64(value, UINT8_MAX, &n))
				return false;
			v->ttl = (uint8_t)n;
		}
		break;
	default: break;
	}
	return true;
}

/* "SIP / 2.0 / UDP" and the white space behind it. NULL: malformed. */
static const char *protocol_scan(const struct sip_msg *m, const char *p, const char *end, struct sip_via *v)
{
	const char *start;

	if (end - p > 8 && memcmp(p, "SIP/2.0/", 8) == 0 && sip_char_is(p[8], SIP_C_TOKEN)) {
		p += 8;
	} else {
		for (int i = 0; i < 2; i++) { /* name, version; each followed by a slash */
			start = p;
			p = sip_skip(p, end, SIP_C_TOKEN);
			if (p == start)
				return NULL;
			p = sip_skip_lws(p, end);
			if (p == end || *p != '/')
				return NULL;
			p = sip_skip_lws(p + 1, end);
		}
	}
	start = p;
	p = sip_skip(p, end, SIP_C_TOKEN);
	if (p == start || p == end || !sip_char_is(*p, SIP_C_LWS))
		return NULL;
	v->transport = sip_span_of(m, slice_make(start, (size_t)(p - start)));
	return sip_skip_lws(p, end);
}

int sip_via_scan(const struct sip_msg *m, const char *p, const char *end, struct sip_via *out,
		 const char **next)
{
	const char *start = p, *q;
	struct sip_via v = {0};
	struct slice host, name, value;

	p = protocol_scan(m, p, end, &v);
	if (!p)
		return -EBADMSG;
	p = sip_hostport_scan(p, end, true, &host, &v.port);
	if (!p)
		return -EBADMSG;
	v.host = sip_span_of(m, host);

	for (;;) {
		q = sip_skip_lws(p, end);
		if (q == end || *q == ',')
			break;
		if (*q != ';')
			goto bad;
		p = sip_param_scan(q + 1, end, &name, &value);
		if (!p || !param_note(m, name, value, p, &v))
			goto bad;
	}
	v.whole = sip_span_of(m, slice_make(start, (size_t)(p - start)));
	*out = v;
	*next = q;
	return 0;
bad:
	v.whole = sip_span_of(m, slice_make(start, (size_t)(end - start)));
	*out = v;
	*next = end;
	return -EBADMSG;
}

int sip_via_parse(const struct sip_msg *m, struct sip_span at, struct sip_via *out)
{
	const char *p = m->buf + at.off, *end = p + at.len, *next;
	struct sip_via v = {0};
	int err;

	p = sip_skip_lws(p, end);
	err = sip_via_scan(m, p, sip_trim_end(p, end), &v, &next);
	if (err || next != sip_trim_end(p, end))
		return -EBADMSG;
	*out = v;
	return 0;
}
