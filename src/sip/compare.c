#include "base/hash.h"
#include "chars_p.h"
#include "sip/uri.h"

#define PARTS_MAX 64 /* parameters or headers of one URI that are compared; more than that compare by bytes */

/* One character of escaped text. What is reserved differs from its escaped form (19.1.4), hence the mark. */
#define ESCAPED 0x100u

static unsigned char_next(struct slice *s)
{
	unsigned c = (uint8_t)s->p[0];
	size_t n = 1;

	if (c == '%' && s->len > 2 && sip_char_is(s->p[1], SIP_C_HEX) && sip_char_is(s->p[2], SIP_C_HEX)) {
		c = sip_hex(s->p[1]) << 4 | sip_hex(s->p[2]);
		n = 3;
		if (c && strchr(";/?:@&=+$,", (int)c))
			c |= ESCAPED;
	}
	s->p += n;
	s->len -= n;
	return c;
}

static unsigned char_lower(unsigned c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool text_equal(struct slice a, struct slice b, bool fold)
{
	while (a.len && b.len) {
		unsigned x = char_next(&a), y = char_next(&b);
		if (fold ? char_lower(x) != char_lower(y) : x != y)
			return false;
	}
	return a.len == b.len;
}

/* The same for what text_equal() takes for equal. */
static uint64_t text_hash(struct slice s, bool fold)
{
	uint64_t h = hash_seed;
	uint16_t c[64];

	while (s.len) {
		size_t n = 0;
		for (; s.len && n < sizeof(c) / sizeof(c[0]); n++) {
			unsigned next = char_next(&s);
			c[n] = (uint16_t)(fold ? char_lower(next) : next);
		}
		h = hash_bytes(c, n * sizeof(c[0]), h);
	}
	return h;
}

struct part {
	struct slice name, value;
	uint64_t hash; /* of the name of a parameter; of a header, with its value */
	bool has_value;
};

/* Splits "a=b;c" or "a=b&c=d". False: too many. A user may register many contacts of many parameters, and all of the
 * contacts are compared with all: hence the hashes. */
static bool parts_split(struct slice s, char sep, struct part part[PARTS_MAX], unsigned *count)
{
	const char *p = s.p, *end = s.len ? p + s.len : p, *stop, *eq;
	unsigned n = 0;

	for (; p < end; p = stop < end ? stop + 1 : end) {
		stop = memchr(p, sep, (size_t)(end - p));
		if (!stop)
			stop = end;
		if (stop == p)
			continue;
		if (n == PARTS_MAX)
			return false;
		eq = memchr(p, '=', (size_t)(stop - p));
		part[n].name = slice_make(p, (size_t)((eq ? eq : stop) - p));
		part[n].has_value = eq != NULL;
		part[n].value = eq ? slice_make(eq + 1, (size_t)(stop - eq - 1)) : SLICE_NONE;
		part[n].hash = text_hash(part[n].name, true);
		if (sep == '&')
			part[n].hash = hash_join(part[n].hash, text_hash(part[n].value, false));
		n++;
	}
	*count = n;
	return true;
}

static const struct part *part_find(const struct part *in, unsigned n, const struct part *as)
{
	for (unsigned i = 0; i < n; i++)
		if (in[i].hash == as->hash && text_equal(in[i].name, as->name, true))
			return &in[i];
	return NULL;
}

/* Parameters that may not be in one URI only: they change where a request goes or what it is (19.1.4; for
 * transport its examples say so). */
static bool param_counts(struct slice name)
{
	static const struct slice list[] = {SLICE_LIT("user"), SLICE_LIT("ttl"), SLICE_LIT("method"),
					    SLICE_LIT("maddr"), SLICE_LIT("transport")};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (text_equal(list[i], name, true))
			return true;
	return false;
}

/* Each parameter of x is in y with the same value, or is of no account. */
static bool params_match(const struct part *x, unsigned nx, const struct part *y, unsigned ny)
{
	for (unsigned i = 0; i < nx; i++) {
		const struct part *o = part_find(y, ny, &x[i]);
		if (!o && param_counts(x[i].name))
			return false;
		if (o && (o->has_value != x[i].has_value || !text_equal(o->value, x[i].value, true)))
			return false;
	}
	return true;
}

static bool params_equal(struct slice a, struct slice b)
{
	struct part pa[PARTS_MAX], pb[PARTS_MAX];
	unsigned na, nb;

	if (slice_eq(a, b))
		return true;
	if (!parts_split(a, ';', pa, &na) || !parts_split(b, ';', pb, &nb))
		return false;
	return params_match(pa, na, pb, nb) && params_match(pb, nb, pa, na);
}

/* The same headers, in any order; each one of b can stand for one of a only. */
static bool headers_equal(struct slice a, struct slice b)
{
	struct part pa[PARTS_MAX], pb[PARTS_MAX];
	unsigned na, nb;
	uint64_t used = 0;

	if (slice_eq(a, b))
		return true;
	if (!parts_split(a, '&', pa, &na) || !parts_split(b, '&', pb, &nb) || na != nb)
		return false;
	for (unsigned i = 0; i < na; i++) {
		unsigned k = 0;
		while (k < nb && ((used >> k & 1) || pa[i].hash != pb[k].hash ||
				  !text_equal(pa[i].name, pb[k].name, true) ||
				  !text_equal(pa[i].value, pb[k].value, false)))
			k++;
		if (k == nb)
			return false;
		used |= (uint64_t)1 << k;
	}
	return true;
}

bool sip_uri_equal(const struct sip_uri *a, const struct sip_uri *b)
{
	if (a->scheme != b->scheme)
		return false;
	if (a->scheme != SIP_SCHEME_SIP && a->scheme != SIP_SCHEME_SIPS)
		return slice_eq(a->whole, b->whole);
	return a->has_user == b->has_user && text_equal(a->user, b->user, false) &&
	       text_equal(a->password, b->password, false) && slice_ieq(a->host, b->host) &&
	       a->port == b->port && params_equal(a->params, b->params) &&
	       headers_equal(a->headers, b->headers);
}
