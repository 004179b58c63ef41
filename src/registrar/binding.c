#include "binding_p.h"

#include <errno.h>

#define VERSION  1
#define HEAD     2      /* bytes: version, number of bindings */
#define FIXED    48     /* bytes of a binding before its addresses */
#define TEXTS    6      /* slices, each with its length */
#define TEXT_MAX 0xffff /* bytes */
#define Q_MAX    1000

enum { B_USE_FLOW = 1, B_OUTBOUND = 2, B_UNREACHABLE = 4, B_UNBIND = 8, B_ALL = 15 };
enum { A_NONE, A_V4, A_V6 };

/* In this order in the record. */
static void texts_of(const struct binding *b, struct slice out[static TEXTS])
{
	out[0] = b->contact;
	out[1] = b->instance;
	out[2] = b->call_id;
	out[3] = b->path;
	out[4] = b->user_agent;
	out[5] = b->params;
}

static size_t addr_size(const struct addr *a)
{
	return a->family == AF_INET ? 7 : a->family == AF_INET6 ? 23 : 1;
}

size_t binding_size(const struct binding_set *set)
{
	size_t n = HEAD;
	if (set->count > LOCATION_BINDINGS_MAX)
		return 0;
	for (unsigned i = 0; i < set->count; i++) {
		const struct binding *b = &set->b[i];
		struct slice text[TEXTS];
		texts_of(b, text);
		n += FIXED + addr_size(&b->flow.remote) + addr_size(&b->flow.local);
		for (unsigned t = 0; t < TEXTS; t++) {
			if (text[t].len > TEXT_MAX)
				return 0;
			n += 2 + text[t].len;
		}
	}
	return n;
}

/* Little-endian, whatever the machine. */
static char *put(char *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*p++ = (char)(v >> (8 * i));
	return p;
}

static char *put_addr(char *p, const struct addr *a)
{
	unsigned n = a->family == AF_INET ? 4 : 16;
	if (a->family != AF_INET && a->family != AF_INET6)
		return put(p, A_NONE, 1);
	p = put(p, n == 4 ? A_V4 : A_V6, 1);
	p = put(p, a->port, 2);
	memcpy(p, a->ip, n);
	p += n;
	return n == 4 ? p : put(p, a->scope, 4);
}

void binding_encode(const struct binding_set *set, char *out)
{
	char *p = put(out, VERSION, 1);
	p = put(p, set->count, 1);
	for (unsigned i = 0; i < set->count; i++) {
		const struct binding *b = &set->b[i];
		struct slice text[TEXTS];
		texts_of(b, text);
		p = put(p,
			(b->use_flow ? B_USE_FLOW : 0) | (b->outbound ? B_OUTBOUND : 0) |
				(b->unreachable ? B_UNREACHABLE : 0) | (b->unbind ? B_UNBIND : 0),
			1);
		p = put(p, b->flow.proto, 1);
		p = put(p, b->flow.listener, 2);
		p = put(p, b->q, 2);
		p = put(p, b->flow.acceptor, 1);
		p = put(p, 0, 1);
		p = put(p, b->reg_id, 4);
		p = put(p, b->cseq, 4);
		p = put(p, b->expires, 8);
		p = put(p, b->updated, 8);
		p = put(p, b->number, 8);
		p = put(p, b->flow.conn, 8);
		p = put_addr(p, &b->flow.remote);
		p = put_addr(p, &b->flow.local);
		for (unsigned t = 0; t < TEXTS; t++) {
			p = put(p, text[t].len, 2);
			if (text[t].len)
				memcpy(p, text[t].p, text[t].len);
			p += text[t].len;
		}
	}
}

static uint64_t get(struct slice *s, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)(unsigned char)s->p[i] << (8 * i);
	s->p += bytes, s->len -= bytes;
	return v;
}

static int get_addr(struct slice *s, struct addr *a)
{
	if (s->len < 1)
		return -EBADMSG;
	uint64_t kind = get(s, 1);
	*a = (struct addr){0};
	if (kind == A_NONE)
		return 0;
	unsigned n = kind == A_V4 ? 4 : 16;
	if (kind > A_V6 || s->len < 2 + n + (n == 16 ? 4u : 0u))
		return -EBADMSG;
	a->family = n == 4 ? AF_INET : AF_INET6;
	a->port = (uint16_t)get(s, 2);
	memcpy(a->ip, s->p, n);
	s->p += n, s->len -= n;
	if (n == 16)
		a->scope = (uint32_t)get(s, 4);
	return 0;
}

static int get_text(struct slice *s, struct slice *out)
{
	if (s->len < 2)
		return -EBADMSG;
	size_t n = get(s, 2);
	if (n > s->len)
		return -EBADMSG;
	*out = slice_make(s->p, n);
	s->p += n, s->len -= n;
	return 0;
}

static int get_binding(struct slice *s, struct binding *b)
{
	if (s->len < FIXED)
		return -EBADMSG;
	uint64_t flags = get(s, 1);
	b->use_flow = flags & B_USE_FLOW;
	b->outbound = flags & B_OUTBOUND;
	b->unreachable = flags & B_UNREACHABLE;
	b->unbind = flags & B_UNBIND;
	b->flow.proto = (uint8_t)get(s, 1);
	b->flow.listener = (uint16_t)get(s, 2);
	b->q = (uint16_t)get(s, 2);
	b->flow.acceptor = (uint8_t)get(s, 1);
	uint64_t spare = get(s, 1);
	b->reg_id = (uint32_t)get(s, 4);
	b->cseq = (uint32_t)get(s, 4);
	b->expires = get(s, 8);
	b->updated = get(s, 8);
	b->number = get(s, 8);
	b->flow.conn = get(s, 8);
	if (flags & ~(uint64_t)B_ALL || spare || b->flow.proto >= FLOW_PROTO_COUNT || b->q > Q_MAX)
		return -EBADMSG;
	if (get_addr(s, &b->flow.remote) || get_addr(s, &b->flow.local))
		return -EBADMSG;
	if (get_text(s, &b->contact) || get_text(s, &b->instance) || get_text(s, &b->call_id) ||
	    get_text(s, &b->path) || get_text(s, &b->user_agent) || get_text(s, &b->params))
		return -EBADMSG;
	return b->contact.len ? 0 : -EBADMSG;
}

int binding_decode(struct slice record, uint64_t now, struct binding_set *out)
{
	unsigned kept = 0;
	if (record.len < HEAD || get(&record, 1) != VERSION)
		return -EBADMSG;
	unsigned count = (unsigned)get(&record, 1);
	if (count > LOCATION_BINDINGS_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < count; i++) {
		/* In place: the next one overwrites what has expired. */
		struct binding *b = &out->b[kept];
		if (get_binding(&record, b))
			return -EBADMSG;
		kept += now == 0 || b->expires > now;
	}
	if (record.len)
		return -EBADMSG;
	out->count = kept;
	return 0;
}
