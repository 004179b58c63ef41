#include <errno.h>

#include "chars_p.h"
#include "sip/uri.h"

const char *sip_param_scan(const char *p, const char *end, struct slice *name, struct slice *value)
{
	const char *start, *q;

	p = sip_skip_lws(p, end);
	start = p;
	p = sip_skip(p, end, SIP_C_TOKEN);
	if (p == start)
		return NULL;
	*name = slice_make(start, (size_t)(p - start));
	*value = SLICE_NONE;
	q = sip_skip_lws(p, end);
	if (q == end || *q != '=')
		return p;
	q = sip_skip_lws(q + 1, end);
	if (q < end && *q == '"') {
		p = sip_skip_quoted(q, end);
		if (!p)
			return NULL;
	} else {
		p = sip_skip(q, end, SIP_C_VALUE);
		if (p == q)
			return NULL;
	}
	*value = slice_make(q, (size_t)(p - q));
	return p;
}

static struct slice unquote(struct slice v)
{
	if (v.len >= 2 && v.p[0] == '"')
		return slice_make(v.p + 1, v.len - 2);
	return v;
}

bool sip_param_next(struct slice *rest, struct slice *name, struct slice *value, struct slice *whole)
{
	const char *p = rest->p, *end, *semi;

	if (!rest->len)
		return false;
	end = p + rest->len;
	for (;;) {
		struct slice n, v;

		p = sip_skip_lws(p, end);
		if (p == end || *p != ';')
			return false;
		semi = p;
		p = sip_param_scan(semi + 1, end, &n, &v);
		if (!p) { /* unreadable: go on behind it */
			p = semi + 1;
			while (p < end && *p != ';') {
				const char *q = *p == '"' ? sip_skip_quoted(p, end) : NULL;
				p = q ? q : *p == '"' ? end : p + 1; /* unclosed: all the rest */
			}
			continue;
		}
		*name = n;
		*value = unquote(v);
		*whole = slice_make(semi, (size_t)(p - semi));
		/* what stands between the value and the next ';' is not ours to judge */
		while (p < end && *p != ';')
			p++;
		*rest = slice_make(p, (size_t)(end - p));
		return true;
	}
}

bool sip_param_get(struct slice params, struct slice name, struct slice *value)
{
	struct slice n, v, w;

	while (sip_param_next(&params, &n, &v, &w)) {
		if (slice_ieq(n, name)) {
			if (value)
				*value = v;
			return true;
		}
	}
	return false;
}

/* scheme ":" and something, all of it bytes that a URI may have; '>' or what `stop` names ends it. NULL: no. */
static const char *uri_scan(const char *p, const char *end, bool brackets)
{
	const char *q = sip_skip(p, end, SIP_C_TOKEN);

	if (q == p || q == end || *q != ':')
		return NULL;
	p = ++q;
	if (brackets) {
		q = sip_skip(q, end, SIP_C_URI);
		return q > p && q < end && *q == '>' ? q : NULL;
	}
	while (q < end && sip_char_is(*q, SIP_C_VALUE) && *q != '?')
		q++;
	return q > p ? q : NULL;
}

/* Moves *pp behind the display name and the '<' when there are any. */
static int display_scan(const char **pp, const char *end, struct sip_nameaddr *na)
{
	const char *p = *pp, *q;

	if (p < end && *p == '"') {
		q = sip_skip_quoted(p, end);
		if (!q)
			return -EBADMSG;
		na->display = slice_make(p, (size_t)(q - p));
		q = sip_skip_lws(q, end);
		if (q == end || *q != '<')
			return -EBADMSG;
	} else {
		q = sip_skip(p, end, SIP_C_DISPLAY);
		if (q == end || *q != '<')
			return 0; /* an address without brackets, or not one at all: its scan will tell */
		na->display = slice_make(p, (size_t)(sip_trim_end(p, q) - p));
	}
	na->brackets = true;
	*pp = q + 1;
	return 0;
}

int sip_nameaddr_scan(struct slice text, struct sip_nameaddr *out, struct slice *tag)
{
	const char *p, *end, *q;
	struct sip_nameaddr na = {0};
	struct slice name, value, t = SLICE_NONE;
	int err;

	if (!text.len)
		return -EBADMSG;
	end = sip_trim_end(text.p, text.p + text.len);
	p = sip_skip_lws(text.p, end);
	err = display_scan(&p, end, &na);
	if (err)
		return err;
	q = uri_scan(p, end, na.brackets);
	if (!q)
		return -EBADMSG;
	na.uri = slice_make(p, (size_t)(q - p));
	p = sip_skip_lws(q + na.brackets, end);
	if (p < end)
		na.params = slice_make(p, (size_t)(end - p));
	while (p < end) {
		if (*p != ';')
			return -EBADMSG;
		p = sip_param_scan(p + 1, end, &name, &value);
		if (!p)
			return -EBADMSG;
		if (!t.len && name.len == 3 && sip_ieq_lit(name.p, "tag", 3))
			t = unquote(value);
		p = sip_skip_lws(p, end);
	}
	*out = na;
	if (tag)
		*tag = t;
	return 0;
}

int sip_nameaddr_parse(struct slice text, struct sip_nameaddr *out)
{
	return sip_nameaddr_scan(text, out, NULL);
}
