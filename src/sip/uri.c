#include <errno.h>

#include "chars_p.h"
#include "sip/uri.h"

/* "[…]" with hex digits, colons and dots. What an address may be is decided by whoever uses it (RFC 5118 4.10
 * wants even ":::" read). */
static const char *reference_scan(const char *p, const char *end)
{
	const char *q = p + 1;

	while (q < end && (sip_char_is(*q, SIP_C_HEX) || *q == ':' || *q == '.'))
		q++;
	if (q == end || *q != ']' || q - p < 3)
		return NULL;
	return q + 1;
}

static const char *port_scan(const char *p, const char *end, uint16_t *port)
{
	const char *q = p;
	uint32_t v = 0;

	for (; q < end && sip_is_digit(*q); q++) {
		v = v * 10 + (uint32_t)(*q - '0');
		if (v > UINT16_MAX)
			return NULL;
	}
	if (q == p || v == 0)
		return NULL;
	*port = (uint16_t)v;
	return q;
}

const char *sip_hostport_scan(const char *p, const char *end, bool lws, struct slice *host, uint16_t *port)
{
	const char *start = p, *q;

	*port = 0;
	if (p < end && *p == '[')
		p = reference_scan(p, end);
	else
		p = sip_skip(p, end, SIP_C_HOST);
	if (!p || p == start)
		return NULL;
	*host = slice_make(start, (size_t)(p - start));
	q = lws ? sip_skip_lws(p, end) : p;
	if (q == end || *q != ':')
		return p;
	q++;
	if (lws)
		q = sip_skip_lws(q, end);
	return port_scan(q, end, port);
}

/* Every '%' is followed by two hex digits, every other byte is of the class. */
static bool text_ok(const char *p, const char *end, unsigned class)
{
	for (; p < end; p++) {
		if (*p == '%') {
			if (end - p < 3 || !sip_char_is(p[1], SIP_C_HEX) || !sip_char_is(p[2], SIP_C_HEX))
				return false;
			p += 2;
		} else if (!sip_char_is(*p, class)) {
			return false;
		}
	}
	return true;
}

/* ";name=value;flag": no empty parameter, no empty name. */
static bool params_ok(const char *p, const char *end)
{
	while (p < end) {
		const char *name = ++p, *q;

		q = p;
		while (q < end && *q != ';' && *q != '=')
			q++;
		if (q == name || !text_ok(name, q, SIP_C_PARAM))
			return false;
		if (q < end && *q == '=') {
			p = ++q;
			while (q < end && *q != ';')
				q++;
			if (q == p || !text_ok(p, q, SIP_C_PARAM))
				return false;
		}
		p = q;
	}
	return true;
}

static int sip_parse(const char *p, const char *end, struct sip_uri *u)
{
	const char *at = memchr(p, '@', (size_t)(end - p)), *q;

	if (at) {
		const char *colon = memchr(p, ':', (size_t)(at - p));

		u->has_user = true;
		u->user = slice_make(p, (size_t)((colon ? colon : at) - p));
		if (colon)
			u->password = slice_make(colon + 1, (size_t)(at - colon - 1));
		if (u->user.len == 0 || !text_ok(p, at, SIP_C_URI))
			return -EBADMSG;
		p = at + 1;
	}
	p = sip_hostport_scan(p, end, false, &u->host, &u->port);
	if (!p)
		return -EBADMSG;
	if (p == end)
		return 0;
	q = memchr(p, '?', (size_t)(end - p));
	if (!q)
		q = end;
	if (*p == ';') {
		u->params = slice_make(p, (size_t)(q - p));
		if (!params_ok(p, q))
			return -EBADMSG;
		p = q;
	}
	if (p == end)
		return 0;
	if (*p != '?' || end - p < 2 || !text_ok(p + 1, end, SIP_C_URI))
		return -EBADMSG;
	u->headers = slice_make(p + 1, (size_t)(end - p - 1));
	return 0;
}

static int tel_parse(const char *p, const char *end, struct sip_uri *u)
{
	const char *q = memchr(p, ';', (size_t)(end - p)), *c = p;
	bool global = p < end && *p == '+';
	size_t digits = 0;

	if (!q)
		q = end;
	for (c += global; c < q; c++) {
		if (sip_is_digit(*c) || (!global && (sip_char_is(*c, SIP_C_HEX) || *c == '*' || *c == '#')))
			digits++;
		else if (*c != '-' && *c != '.' && *c != '(' && *c != ')')
			return -EBADMSG;
	}
	if (digits == 0 || !params_ok(q, end))
		return -EBADMSG;
	u->user = slice_make(p, (size_t)(q - p));
	u->params = slice_make(q, (size_t)(end - q));
	return 0;
}

int sip_uri_parse(struct slice text, struct sip_uri *out)
{
	const char *p = text.p, *end, *q = p;
	struct sip_uri u = {.whole = text};
	int err;

	if (!text.len)
		return -EBADMSG;
	end = p + text.len;
	while (q < end && sip_char_is(*q, SIP_C_TOKEN))
		q++;
	if (q == end || *q != ':' || q == p || !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z'))
		return -EBADMSG;
	u.scheme_text = slice_make(p, (size_t)(q - p));
	q++;
	if (u.scheme_text.len == 3 && sip_ieq_lit(p, "sip", 3))
		u.scheme = SIP_SCHEME_SIP;
	else if (u.scheme_text.len == 4 && sip_ieq_lit(p, "sips", 4))
		u.scheme = SIP_SCHEME_SIPS;
	else if (u.scheme_text.len == 3 && sip_ieq_lit(p, "tel", 3))
		u.scheme = SIP_SCHEME_TEL;

	if (u.scheme == SIP_SCHEME_OTHER) {
		u.opaque = slice_make(q, (size_t)(end - q));
		err = q < end && sip_skip(q, end, SIP_C_URI) == end ? 0 : -EBADMSG;
	} else if (u.scheme == SIP_SCHEME_TEL) {
		err = tel_parse(q, end, &u);
	} else {
		err = sip_parse(q, end, &u);
	}
	if (!err)
		*out = u;
	return err;
}

void sip_unescape(struct slice s, struct buf *b)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '%' && s.len - i > 2 && sip_char_is(s.p[i + 1], SIP_C_HEX) &&
		    sip_char_is(s.p[i + 2], SIP_C_HEX)) {
			c = (char)(sip_hex(s.p[i + 1]) << 4 | sip_hex(s.p[i + 2]));
			i += 2;
		}
		buf_char(b, c);
	}
}
