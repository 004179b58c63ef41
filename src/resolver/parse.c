/* Replies are read here and not by c-ares' own functions, since those do not tell the time to live. */
#include <ares.h>
#include <errno.h>
#include <stdlib.h>

#include "resolver/rr_p.h"

#define HEADER      12 /* bytes */
#define RR_HEADER   10 /* bytes behind the owner's name: type, class, TTL, length */
#define CNAMES_MAX  8
#define ANSWERS_MAX 512

enum { TYPE_CNAME = 5, TYPE_SRV = 33, TYPE_NAPTR = 35, CLASS_IN = 1 };

struct msg {
	const unsigned char *p;
	int len;
};

struct record {
	char owner[RR_NAME_SIZE]; /* "": a name that is none of ours */
	unsigned type, class;
	uint32_t ttl;
	int data, len; /* offset and bytes */
};

static unsigned get16(const struct msg *m, int at)
{
	return (unsigned)m->p[at] << 8 | m->p[at + 1];
}

/* The name at `at`; `out` is "" for the root, and for what is no host name (*odd says which). Returns the bytes it
 * takes, or -EBADMSG. */
static int name_read(const struct msg *m, int at, char out[static RR_NAME_SIZE], bool *odd)
{
	char *text;
	long used;
	if (at < 0 || at >= m->len || ares_expand_name(m->p + at, m->p, m->len, &text, &used) != ARES_SUCCESS)
		return -EBADMSG;
	out[0] = '\0';
	*odd = text[0] && rr_name(slice_str(text), out) < 0;
	ares_free_string(text);
	return used > m->len - at ? -EBADMSG : (int)used;
}

/* A <character-string>. Returns the offset behind it, or -EBADMSG. */
static int string_read(const struct msg *m, int at, int end, struct slice *out)
{
	if (at >= end || m->p[at] > end - at - 1)
		return -EBADMSG;
	*out = slice_make((const char *)m->p + at + 1, m->p[at]);
	return at + 1 + m->p[at];
}

/* Returns the offset behind the record, or -EBADMSG. */
static int record_read(const struct msg *m, int at, struct record *r)
{
	bool odd;
	int n = name_read(m, at, r->owner, &odd);
	if (n < 0 || m->len - at - n < RR_HEADER)
		return -EBADMSG;
	at += n;
	r->type = get16(m, at);
	r->class = get16(m, at + 2);
	r->ttl = (uint32_t)get16(m, at + 4) << 16 | get16(m, at + 6);
	if (r->ttl > INT32_MAX) /* RFC 2181 8 */
		r->ttl = 0;
	r->len = (int)get16(m, at + 8);
	r->data = at + RR_HEADER;
	return r->len > m->len - r->data ? -EBADMSG : r->data + r->len;
}

static bool srv_read(const struct msg *m, const struct record *r, struct rr_srv *out)
{
	bool odd;
	if (r->len < 7)
		return false;
	*out = (struct rr_srv){.priority = (uint16_t)get16(m, r->data),
			       .weight = (uint16_t)get16(m, r->data + 2),
			       .port = (uint16_t)get16(m, r->data + 4)};
	int n = name_read(m, r->data + 6, out->target, &odd);
	return n > 0 && n <= r->len - 6 && !odd && (out->port || !out->target[0]);
}

/* RFC 3263 4.1 and 10.1: "SIP+D2U" and its kin. */
static bool service_read(struct slice s, struct rr_naptr *out)
{
	static const struct {
		struct slice name;
		bool secure;
		uint8_t proto;
	} services[] = {
		{{"SIP+D2U", 7}, false, FLOW_UDP},
		{{"SIP+D2T", 7}, false, FLOW_TCP},
		{{"SIPS+D2T", 8}, true, FLOW_TLS},
	};
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		if (slice_ieq(s, services[i].name)) {
			out->secure = services[i].secure;
			out->proto = services[i].proto;
			return true;
		}
	}
	out->secure = s.len > 7 && slice_ieq(slice_make(s.p, 7), SLICE_LIT("SIPS+D2"));
	out->proto = FLOW_PROTO_COUNT;
	return out->secure || (s.len > 6 && slice_ieq(slice_make(s.p, 6), SLICE_LIT("SIP+D2")));
}

static bool naptr_read(const struct msg *m, const struct record *r, struct rr_naptr *out)
{
	bool odd;
	int at = r->data + 4, end = r->data + r->len;
	struct slice flags, service, regexp;
	if (r->len < 8)
		return false;
	*out = (struct rr_naptr){.order = (uint16_t)get16(m, r->data),
				 .preference = (uint16_t)get16(m, r->data + 2)};
	if ((at = string_read(m, at, end, &flags)) < 0 || (at = string_read(m, at, end, &service)) < 0 ||
	    (at = string_read(m, at, end, &regexp)) < 0)
		return false;
	int n = name_read(m, at, out->target, &odd);
	if (n <= 0 || n > end - at || odd || !out->target[0] || flags.len != 1)
		return false;
	out->flag = slice_lower(flags.p[0]);
	return (out->flag == 's' || out->flag == 'a') && service_read(service, out);
}

/* Where the answers start and how many there are. */
static int answers_find(const struct msg *m, int *at, unsigned *count)
{
	char name[RR_NAME_SIZE];
	bool odd;
	if (m->len < HEADER)
		return -EBADMSG;
	*at = HEADER;
	for (unsigned i = get16(m, 4); i > 0; i--) {
		int n = name_read(m, *at, name, &odd);
		if (n < 0 || m->len - *at - n < 4)
			return -EBADMSG;
		*at += n + 4;
	}
	*count = get16(m, 6);
	return *count > ANSWERS_MAX ? -EBADMSG : 0;
}

/* One pass over the answers for the records of `owner`; a CNAME for it changes `owner`. */
static int answers_pass(enum rr_type type, const struct msg *m, char owner[static RR_NAME_SIZE],
			struct rr_set *s)
{
	int at;
	unsigned count;
	struct record r;
	const unsigned want = type == RR_SRV ? TYPE_SRV : TYPE_NAPTR;
	int rc = answers_find(m, &at, &count);
	for (; !rc && count > 0; count--) {
		at = record_read(m, at, &r);
		if (at < 0)
			return at;
		if (r.class != CLASS_IN || strcmp(r.owner, owner) != 0)
			continue;
		bool odd = true, ok = false;
		union rr *rr = &s->rr[s->count];
		if (r.type == TYPE_CNAME && s->count == 0)
			ok = name_read(m, r.data, owner, &odd) > 0 && !odd;
		else if (r.type == want && s->count < RR_MAX && type == RR_SRV)
			s->count += ok = srv_read(m, &r, &rr->srv);
		else if (r.type == want && s->count < RR_MAX)
			s->count += ok = naptr_read(m, &r, &rr->naptr);
		if (ok && r.ttl < s->ttl)
			s->ttl = r.ttl;
	}
	return rc;
}

int rr_parse(enum rr_type type, const char *name, const unsigned char *msg, int len, struct rr_set **out)
{
	struct msg m = {msg, len};
	char owner[RR_NAME_SIZE], before[RR_NAME_SIZE];
	struct rr_set *s = rr_set_create(type, name, 0, RR_MAX);
	if (!s)
		return -ENOMEM;
	memcpy(owner, s->name, sizeof(owner));
	s->ttl = RR_TTL_MAX;
	int rc = 0;
	for (int i = 0; i < CNAMES_MAX && !rc && s->count == 0; i++) {
		memcpy(before, owner, sizeof(before));
		rc = answers_pass(type, &m, owner, s);
		if (strcmp(before, owner) == 0)
			break;
	}
	if (rc) {
		rr_set_unref(s);
		return rc;
	}
	if (s->count == 0)
		s->error = -ENOENT;
	struct rr_set *fit = realloc(s, sizeof(*s) + s->count * sizeof(s->rr[0]));
	*out = fit ? fit : s;
	return 0;
}
