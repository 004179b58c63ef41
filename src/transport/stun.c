#include "transport/stun_p.h"

#include <string.h>

#define HEADER           20
#define COOKIE           0x2112A442u
#define BINDING_REQUEST  0x0001
#define BINDING_RESPONSE 0x0101
#define BINDING_ERROR    0x0111

#define ATTR_USERNAME           0x0006
#define ATTR_MESSAGE_INTEGRITY  0x0008
#define ATTR_ERROR_CODE         0x0009
#define ATTR_UNKNOWN_ATTRIBUTES 0x000A
#define ATTR_REALM              0x0014
#define ATTR_NONCE              0x0015
#define ATTR_XOR_MAPPED_ADDRESS 0x0020
#define ATTR_OPTIONAL           0x8000 /* from here on, what is not understood is passed over */

#define UNKNOWN_MAX 4 /* unknown attributes that an answer names */

static unsigned get16(const char *p)
{
	return (unsigned)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static uint32_t get32(const char *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static unsigned char *put16(unsigned char *o, unsigned v)
{
	*o++ = (unsigned char)(v >> 8);
	*o++ = (unsigned char)v;
	return o;
}

bool stun_is(struct slice d)
{
	return d.len >= HEADER && (unsigned char)d.p[0] < 4 && get32(d.p + 4) == COOKIE;
}

/* Who asks is not authenticated (RFC 5626 section 8), so what serves only for that may be there and says nothing. */
static bool is_understood(unsigned type)
{
	return type >= ATTR_OPTIONAL || type == ATTR_USERNAME || type == ATTR_MESSAGE_INTEGRITY ||
	       type == ATTR_REALM || type == ATTR_NONCE;
}

/* How many attributes are not understood; -1: not well-formed. */
static int unknown_attributes(struct slice d, unsigned unknown[static UNKNOWN_MAX])
{
	size_t at = HEADER;
	int n = 0;

	while (at < d.len) {
		if (d.len - at < 4)
			return -1;
		unsigned type = get16(d.p + at);
		size_t len = (get16(d.p + at + 2) + 3u) & ~(size_t)3;
		if (len > d.len - at - 4)
			return -1;
		if (!is_understood(type) && n < UNKNOWN_MAX)
			unknown[n++] = type;
		at += 4 + len;
	}
	return n;
}

static unsigned char *put_header(unsigned char *o, unsigned type, struct slice d)
{
	o = put16(o, type);
	o = put16(o, 0); /* the length, when it is known */
	memcpy(o, d.p + 4, 16);
	return o + 16;
}

static unsigned char *put_address(unsigned char *o, struct slice d, const struct addr *source)
{
	size_t len = source->family == AF_INET6 ? 16 : 4;

	o = put16(o, ATTR_XOR_MAPPED_ADDRESS);
	o = put16(o, 4 + (unsigned)len);
	o = put16(o, source->family == AF_INET6 ? 2 : 1);
	o = put16(o, source->port ^ COOKIE >> 16);
	/* With the cookie, and for IPv6 with the transaction's number behind it: both are where the request has
	 * them. */
	for (size_t i = 0; i < len; i++)
		*o++ = source->ip[i] ^ (unsigned char)d.p[4 + i];
	return o;
}

static unsigned char *put_error(unsigned char *o, const unsigned *unknown, int n)
{
	o = put16(o, ATTR_ERROR_CODE);
	o = put16(o, 4); /* the reason phrase may be empty */
	o = put16(o, 0);
	o = put16(o, 4 << 8 | 20);
	o = put16(o, ATTR_UNKNOWN_ATTRIBUTES);
	o = put16(o, 2 * (unsigned)n);
	for (int i = 0; i < n; i++)
		o = put16(o, unknown[i]);
	return n & 1 ? put16(o, 0) : o;
}

size_t stun_answer(struct slice d, const struct addr *source, unsigned char out[static STUN_ANSWER_MAX])
{
	unsigned unknown[UNKNOWN_MAX];
	unsigned char *o;

	if (!stun_is(d) || get16(d.p) != BINDING_REQUEST || get16(d.p + 2) != d.len - HEADER)
		return 0;
	int n = unknown_attributes(d, unknown);
	if (n < 0)
		return 0;
	if (n)
		o = put_error(put_header(out, BINDING_ERROR, d), unknown, n);
	else
		o = put_address(put_header(out, BINDING_RESPONSE, d), d, source);
	put16(out + 2, (unsigned)(o - out) - HEADER);
	return (size_t)(o - out);
}
