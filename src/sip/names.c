#include "sip/message.h"

static const struct slice header_names[SIP_HDR_COUNT] = {
#define HEADER(id, name, compact, flags) [SIP_HDR_##id] = {name, sizeof(name) - 1},
#include "sip/headers.def"
#undef HEADER
};

static const struct slice method_names[SIP_METHOD_COUNT] = {
#define METHOD(m) [SIP_METHOD_##m] = {#m, sizeof(#m) - 1},
#include "sip/methods.def"
#undef METHOD
};

struct slice sip_hdr_id_name(enum sip_hdr_id id)
{
	return header_names[id];
}

struct slice sip_method_name(enum sip_method m)
{
	return method_names[m];
}

/* Names are letters and '-': with bit 5 set on both sides they compare without case, eight bytes at a time. The
 * literal's side folds to constants. A name is made of token characters, none of which bit 5 turns into '-'. */
static inline bool name_is(const char *p, const char *lit, size_t n)
{
	const uint64_t mask8 = 0x2020202020202020u;
	const uint32_t mask4 = 0x20202020u;
	uint64_t a, b;
	uint32_t c, d;
	size_t i = 0;

	for (; n - i >= 8; i += 8) {
		memcpy(&a, p + i, 8);
		memcpy(&b, lit + i, 8);
		if ((a | mask8) != (b | mask8))
			return false;
	}
	if (i == n)
		return true;
	if (n >= 8) {
		memcpy(&a, p + (n - 8), 8);
		memcpy(&b, lit + (n - 8), 8);
		return (a | mask8) == (b | mask8);
	}
	if (n >= 4) {
		memcpy(&c, p + (n - 4), 4);
		memcpy(&d, lit + (n - 4), 4);
		if ((c | mask4) != (d | mask4))
			return false;
		memcpy(&c, p, 4);
		memcpy(&d, lit, 4);
		return (c | mask4) == (d | mask4);
	}
	for (; i < n; i++)
		if ((p[i] | 0x20) != (lit[i] | 0x20))
			return false;
	return true;
}

enum sip_hdr_id sip_hdr_name_id(struct slice name)
{
	const char *p = name.p;
	char c;

	if (name.len == 0)
		return SIP_HDR_OTHER;
	c = (char)(p[0] | 0x20);
	if (name.len == 1) {
		if (slice_lower(p[0]) != c)
			return SIP_HDR_OTHER;
#define HEADER(id, text, compact, flags) \
	if ((compact) && c == (compact)) \
		return SIP_HDR_##id;
#include "sip/headers.def"
#undef HEADER
		return SIP_HDR_OTHER;
	}
	/* In the table's order: the headers that every message has come first. */
#define HEADER(id, text, compact, flags)                                                                   \
	if (name.len == sizeof(text) - 1 && c == ((text)[0] | 0x20) && name_is(p, text, sizeof(text) - 1)) \
		return SIP_HDR_##id;
#include "sip/headers.def"
#undef HEADER
	return SIP_HDR_OTHER;
}

enum sip_method sip_method_id(struct slice name)
{
#define METHOD(m)                                                                  \
	if (name.len == sizeof(#m) - 1 && memcmp(name.p, #m, sizeof(#m) - 1) == 0) \
		return SIP_METHOD_##m;
#include "sip/methods.def"
#undef METHOD
	return SIP_METHOD_OTHER;
}
