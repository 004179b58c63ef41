#include "sip/message.h"

#include <errno.h>

#include "chars_p.h"
#include "message_p.h"
#include "sip/uri.h"
#include "via_p.h"

enum { LIST, ONE, MANY };

static const uint8_t header_form[SIP_HDR_COUNT] = {
#define HEADER(id, name, compact, flags) [SIP_HDR_##id] = (flags),
#include "sip/headers.def"
#undef HEADER
};

struct parser {
	struct sip_msg *m;
	const char *end;             /* of the bytes given */
	int16_t last[SIP_HDR_COUNT]; /* index of the last header with the id */
};

/* The end of the line, folds included, that p stands in. *stop is where its text ends. */
static const char *line_end(struct parser *ps, const char *p, const char **stop)
{
	const char *end = ps->end, *next;

	for (;;) {
		p = sip_scan_eol(p, end);
		if (p == end) {
			sip_msg_fail(ps->m, 400, "Incomplete Header");
			*stop = end;
			return end;
		}
		if (*p == '\n') {
			sip_msg_fail(ps->m, 400, "Line Ended by LF Alone");
			next = p + 1;
		} else if (end - p > 1 && p[1] == '\n') {
			next = p + 2;
		} else {
			sip_msg_fail(ps->m, 400, "CR Without LF");
			p++;
			continue;
		}
		if (next == end || (*next != ' ' && *next != '\t')) {
			*stop = p;
			return next;
		}
		p = next + 1;
	}
}

static void number_check(struct sip_msg *m, struct slice v, uint64_t max, const char *text)
{
	uint64_t n;

	if (!slice_u64(v, max, &n))
		sip_msg_fail(m, 400, text);
}

static void cseq_read(struct sip_msg *m, struct slice v)
{
	const char *p = v.p, *end = p + v.len, *q = p;
	struct slice method;
	uint64_t n = 0;

	while (q < end && sip_is_digit(*q))
		q++;
	if (q == p || q == end || !sip_char_is(*q, SIP_C_LWS)) {
		sip_msg_fail(m, 400, "Malformed CSeq");
		return;
	}
	if (!slice_u64(slice_make(p, (size_t)(q - p)), INT32_MAX, &n)) {
		sip_msg_fail(m, 400, "CSeq Number Out of Range");
		return;
	}
	p = sip_skip_lws(q, end);
	q = sip_skip(p, end, SIP_C_TOKEN);
	method = slice_make(p, (size_t)(q - p));
	if (q == p || q != end) {
		sip_msg_fail(m, 400, "Malformed CSeq");
		return;
	}
	m->cseq = (uint32_t)n;
	if (!m->request) {
		m->method_name = sip_span_of(m, method);
		m->method = (uint8_t)sip_method_id(method);
	} else if (!slice_eq(method, sip_slice(m, m->method_name))) {
		sip_msg_fail(m, 400, "CSeq Method Mismatch");
	}
}

static void party_read(struct sip_msg *m, struct slice v, struct sip_span *uri, struct sip_span *tag,
		       const char *text)
{
	struct sip_nameaddr na;
	struct slice t;

	if (sip_nameaddr_scan(v, &na, &t)) {
		sip_msg_fail(m, 400, text);
		return;
	}
	*uri = sip_span_of(m, na.uri);
	if (t.len)
		*tag = sip_span_of(m, t);
}

static void call_id_read(struct sip_msg *m, struct slice v)
{
	const char *end = v.p + v.len;

	for (const char *p = v.p; p < end; p++) {
		if ((uint8_t)*p <= ' ' || *p == 0x7f) {
			sip_msg_fail(m, 400, "Malformed Call-ID");
			return;
		}
	}
	if (v.len == 0)
		sip_msg_fail(m, 400, "Malformed Call-ID");
	else
		m->call_id = sip_span_of(m, v);
}

static void via_read(struct sip_msg *m, struct slice v)
{
	const char *next, *end = v.p + v.len;

	if (sip_via_scan(m, v.p, end, &m->via, &next) || (next != end && sip_skip_lws(next + 1, end) == end))
		sip_msg_fail(m, 400, "Malformed Via");
}

static void request_value_check(struct sip_msg *m, uint8_t id, struct slice v)
{
	switch (id) {
	case SIP_HDR_EXPIRES: number_check(m, v, UINT32_MAX, "Malformed Expires"); break;
	case SIP_HDR_MIN_EXPIRES: number_check(m, v, UINT32_MAX, "Malformed Min-Expires"); break;
	case SIP_HDR_MAX_BREADTH: number_check(m, v, INT32_MAX, "Malformed Max-Breadth"); break;
	default: break;
	}
}

/* The first header with its id: what is needed of every message. */
static void value_read(struct sip_msg *m, uint8_t id, struct slice v)
{
	uint64_t n;

	switch (id) {
	case SIP_HDR_VIA: via_read(m, v); break;
	case SIP_HDR_FROM: party_read(m, v, &m->from_uri, &m->from_tag, "Malformed From"); break;
	case SIP_HDR_TO: party_read(m, v, &m->to_uri, &m->to_tag, "Malformed To"); break;
	case SIP_HDR_CALL_ID: call_id_read(m, v); break;
	case SIP_HDR_CSEQ: cseq_read(m, v); break;
	case SIP_HDR_MAX_FORWARDS:
		if (slice_u64(v, UINT8_MAX, &n))
			m->max_forwards = (int32_t)n;
		else if (m->request)
			sip_msg_fail(m, 400, "Malformed Max-Forwards");
		break;
	case SIP_HDR_CONTENT_LENGTH:
		if (slice_u64(v, INT32_MAX, &n))
			m->content_length = (int64_t)n;
		else
			sip_msg_fail(m, 400, "Malformed Content-Length");
		break;
	default:
		if (m->request)
			request_value_check(m, id, v);
		break;
	}
}

static void again_check(struct sip_msg *m, uint8_t id)
{
	if (header_form[id] != ONE)
		return;
	/* A response is dropped only for what decides about its way. */
	if (m->request || id == SIP_HDR_FROM || id == SIP_HDR_TO || id == SIP_HDR_CALL_ID ||
	    id == SIP_HDR_CSEQ || id == SIP_HDR_CONTENT_LENGTH)
		sip_msg_fail(m, 400, "Header Field Given Twice");
}

static void header_add(struct parser *ps, struct sip_hdr h)
{
	struct sip_msg *m = ps->m;
	int16_t index = (int16_t)m->hdr_count;
	int16_t *last;

	if (m->hdr_count == SIP_HDRS_MAX) {
		sip_msg_fail(m, 400, "Too Many Header Fields");
		return;
	}
	m->hdrs[m->hdr_count++] = h;
	if (h.id == SIP_HDR_OTHER)
		return;
	last = &ps->last[h.id];
	if (*last < 0) {
		m->first[h.id] = index;
		value_read(m, h.id, sip_hdr_value(m, &h));
	} else {
		m->hdrs[*last].next = index;
		again_check(m, h.id);
	}
	*last = index;
}

/* Header lines from p on. Returns where the body starts. */
static const char *headers_parse(struct parser *ps, const char *p)
{
	struct sip_msg *m = ps->m;
	const char *end = ps->end, *stop, *next, *q, *v;
	struct sip_hdr h;

	for (;;) {
		if (end - p >= 2 && p[0] == '\r' && p[1] == '\n')
			return p + 2;
		if (p == end) {
			sip_msg_fail(m, 400, "Incomplete Header");
			return end;
		}
		if (*p == '\n') {
			sip_msg_fail(m, 400, "Line Ended by LF Alone");
			return p + 1;
		}
		q = sip_skip(p, end, SIP_C_TOKEN);
		for (v = q; v < end && (*v == ' ' || *v == '\t'); v++)
			;
		if (q == p || v == end || *v != ':') {
			sip_msg_fail(m, 400, "Malformed Header Field");
			p = line_end(ps, p, &stop);
			continue;
		}
		v++;
		if (v < end && *v == ' ') /* nearly always one */
			v++;
		next = line_end(ps, v, &stop);
		v = sip_skip_lws(v, stop);
		stop = sip_trim_end(v, stop);
		h.off = (uint32_t)(p - m->buf);
		h.end = (uint32_t)(next - m->buf);
		h.value = (uint32_t)(v - m->buf);
		h.value_len = (uint32_t)(stop - v);
		h.name_len = (uint16_t)(q - p);
		h.next = -1;
		h.id = (uint8_t)sip_hdr_name_id(slice_make(p, (size_t)(q - p)));
		header_add(ps, h);
		p = next;
	}
}

static void required_check(struct sip_msg *m)
{
	if (m->first[SIP_HDR_VIA] < 0)
		sip_msg_fail(m, 400, "Missing Via");
	else if (m->first[SIP_HDR_FROM] < 0)
		sip_msg_fail(m, 400, "Missing From");
	else if (m->first[SIP_HDR_TO] < 0)
		sip_msg_fail(m, 400, "Missing To");
	else if (m->first[SIP_HDR_CALL_ID] < 0)
		sip_msg_fail(m, 400, "Missing Call-ID");
	else if (m->first[SIP_HDR_CSEQ] < 0)
		sip_msg_fail(m, 400, "Missing CSeq");
}

static void body_delimit(struct sip_msg *m, const char *body, const char *end, bool stream)
{
	size_t there = (size_t)(end - body);

	if (m->content_length < 0) {
		if (stream)
			sip_msg_fail(m, 400, "Missing Content-Length");
	} else if ((uint64_t)m->content_length > there) {
		sip_msg_fail(m, 400, "Body Shorter Than Content-Length");
	} else {
		there = (size_t)m->content_length;
	}
	m->body_start = (uint32_t)(body - m->buf);
	m->body = (struct sip_span){m->body_start, (uint32_t)there};
	m->len = m->body_start + (uint32_t)there;
}

int sip_msg_parse(struct sip_msg_room *room, const char *buf, size_t len, bool stream)
{
	struct sip_msg *m = &room->msg;
	const char *end = buf + len, *stop, *p;
	struct parser ps;
	int err;

	while (end - buf >= 2 && buf[0] == '\r' && buf[1] == '\n')
		buf += 2;
	memset(m, 0, sizeof(*m));
	m->buf = buf;
	m->hdrs = room->hdrs;
	m->max_forwards = -1;
	m->content_length = -1;
	memset(m->first, 0xff, sizeof(m->first));
	memset(ps.last, 0xff, sizeof(ps.last));
	ps.m = m;
	if (end - buf > SIP_MESSAGE_MAX) {
		end = buf + SIP_MESSAGE_MAX;
		sip_msg_fail(m, 513, "Message Too Large");
	}
	ps.end = end;

	stop = sip_scan_eol(buf, end);
	err = sip_start_parse(m, buf, stop);
	if (err)
		return err;
	/* A line that begins with white space is no header: the start line cannot be folded. */
	p = stop;
	if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') {
		p += 2;
	} else if (p < end) {
		sip_msg_fail(m, 400, "Malformed Start Line");
		p++;
	}
	p = headers_parse(&ps, p);
	required_check(m);
	body_delimit(m, p, end, stream);
	return 0;
}

bool sip_msg_answerable(const struct sip_msg *m)
{
	return m->request && m->via.whole.len;
}
