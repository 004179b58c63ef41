#include "chars_p.h"
#include "sip/message.h"

enum { LIST, ONE, MANY };

static const uint8_t header_form[SIP_HDR_COUNT] = {
#define HEADER(id, name, compact, flags) [SIP_HDR_##id] = (flags),
#include "sip/headers.def"
#undef HEADER
};

/* The comma that ends the value at p, or end. A quote or bracket that is never closed takes all the rest. */
static const char *value_end(const char *p, const char *end)
{
	while (p < end) {
		switch (*p) {
		case ',': return p;
		case '"':
			p = sip_skip_quoted(p, end);
			if (!p)
				return end;
			continue;
		case '<':
			p = memchr(p, '>', (size_t)(end - p));
			if (!p)
				return end;
			break;
		default: break;
		}
		p++;
	}
	return end;
}

static const char *skip_commas(const char *p, const char *end)
{
	while (p < end && (*p == ',' || sip_char_is(*p, SIP_C_LWS)))
		p++;
	return p;
}

bool sip_values_next(const struct sip_msg *m, enum sip_hdr_id id, struct sip_values *it, struct slice *value)
{
	const struct sip_hdr *h = it->hdr;
	const char *p, *end, *stop;
	bool fresh = false;

	if (!it->started) {
		it->started = true;
		h = sip_msg_hdr(m, id);
		fresh = true;
	}
	for (; h; h = sip_hdr_next(m, h), fresh = true) {
		p = m->buf + (fresh ? h->value : it->at);
		end = m->buf + h->value + h->value_len;
		if (header_form[id] == LIST)
			p = skip_commas(p, end);
		if (p < end)
			break;
	}
	it->hdr = h;
	if (!h)
		return false;
	stop = header_form[id] == LIST ? value_end(p, end) : end;
	it->at = (uint32_t)(stop - m->buf);
	it->sole = fresh && skip_commas(stop, end) == end;
	it->span.off = (uint32_t)(p - m->buf);
	it->span.len = (uint32_t)(sip_trim_end(p, stop) - p);
	*value = sip_slice(m, it->span);
	return true;
}

bool sip_msg_has_token(const struct sip_msg *m, enum sip_hdr_id id, struct slice token)
{
	struct sip_values it = {0};
	struct slice v;

	while (sip_values_next(m, id, &it, &v))
		if (slice_ieq(v, token))
			return true;
	return false;
}
