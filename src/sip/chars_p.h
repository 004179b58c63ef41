/* Character classes and the scanners that every parser here shares. */
#ifndef SIP_CHARS_P_H
#define SIP_CHARS_P_H

#include "base/slice.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define SIP_C_TOKEN   0x01 /* RFC 3261 25.1 token */
#define SIP_C_LWS     0x02 /* SP, HT, and CR and LF, which within a value can only be a fold */
#define SIP_C_HOST    0x04 /* alphanumeric, '-', '.', '_' */
#define SIP_C_URI     0x08 /* may stand in a URI: no control, space, '<', '>', '"' */
#define SIP_C_VALUE   0x10 /* may stand in an unquoted parameter value */
#define SIP_C_DISPLAY 0x20 /* unquoted display name: token, white space, UTF-8 */
#define SIP_C_HEX     0x40
#define SIP_C_PARAM   0x80 /* may stand in a URI parameter, '=' included, which base64 values have */

extern const uint8_t sip_chars[256];

static inline bool sip_char_is(char c, unsigned class)
{
	return (sip_chars[(uint8_t)c] & class) != 0;
}

static inline const char *sip_skip(const char *p, const char *end, unsigned class)
{
	while (p < end && sip_char_is(*p, class))
		p++;
	return p;
}

static inline const char *sip_skip_lws(const char *p, const char *end)
{
	return sip_skip(p, end, SIP_C_LWS);
}

static inline const char *sip_trim_end(const char *p, const char *end)
{
	while (end > p && sip_char_is(end[-1], SIP_C_LWS))
		end--;
	return end;
}

static inline bool sip_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The value of a hex digit. */
static inline unsigned sip_hex(char c)
{
	return sip_is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* The first CR or LF, or end. */
static inline const char *sip_scan_eol(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');

	while (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		int hit = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, cr), _mm_cmpeq_epi8(v, lf)));
		if (hit)
			return p + __builtin_ctz((unsigned)hit);
		p += 16;
	}
#endif
	while (p < end && *p != '\r' && *p != '\n')
		p++;
	return p;
}

/* p stands on '"'. One past the closing quote, or NULL. */
static inline const char *sip_skip_quoted(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (*p == '"')
			return p + 1;
		if (*p == '\\')
			p++;
	}
	return NULL;
}

/* Equal without case to a literal made of letters, digits and '-'. */
static inline bool sip_ieq_lit(const char *p, const char *lit, size_t n)
{
	unsigned diff = 0;

	for (size_t i = 0; i < n; i++)
		diff |= (unsigned)((p[i] ^ lit[i]) & ~0x20) | (unsigned)(p[i] < 0x20);
	return diff == 0;
}

/* Host of a URI or a sent-by: a name, an IPv4 address, or an IPv6 reference; then ":port" (with white space
 * around the colon if `lws`). One past what was taken, or NULL. *port is 0 when absent. */
const char *sip_hostport_scan(const char *p, const char *end, bool lws, struct slice *host, uint16_t *port);

/* One parameter, p standing behind its ';'. One past it (trailing white space not taken), or NULL when
 * malformed. *value is as written, quotes included; p NULL for a flag. */
const char *sip_param_scan(const char *p, const char *end, struct slice *name, struct slice *value);

struct sip_nameaddr;
/* sip_nameaddr_parse that also finds the tag. */
int sip_nameaddr_scan(struct slice text, struct sip_nameaddr *out, struct slice *tag);

#endif
