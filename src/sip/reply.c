#include <errno.h>

#include "base/hash.h"
#include "edit_p.h"
#include "lines_p.h"
#include "sip/build.h"

void sip_via_stamp(const struct sip_msg *req, const struct addr *source, struct sip_edits *e,
		   char scratch[static SIP_VIA_SCRATCH])
{
	const struct sip_via *v = &req->via;
	struct addr host;
	struct buf b;
	size_t start;
	struct slice ip;

	if (!v->whole.len)
		return;
	buf_init(&b, scratch, SIP_VIA_SCRATCH);
	if (v->has_rport) {
		buf_lit(&b, "rport=");
		buf_u64(&b, source->port);
		sip_edits_add(e, v->rport.off, v->rport.len, buf_view(&b));
	} else if (!v->received.len && addr_parse_ip(sip_slice(req, v->host), 0, &host) == 0 &&
		   addr_eq_ip(&host, source)) {
		return;
	}
	start = b.len;
	if (!v->received.len)
		buf_lit(&b, ";received=");
	addr_format_ip(source, &b);
	ip = slice_make(scratch + start, b.len - start);
	/* RFC 3261's grammar has no brackets here: take them out of the text just written. */
	if (ip.p[ip.len - 1] == ']') {
		char *open = memchr(scratch + start, '[', ip.len);
		memmove(open, open + 1, (size_t)(ip.p + ip.len - open - 2));
		ip.len -= 2;
	}
	/* A value that the sender wrote there itself would lead the response astray. */
	if (v->received.len)
		sip_edits_add(e, v->received.off, v->received.len, ip);
	else
		sip_edits_add(e, v->whole.off + v->whole.len, 0, ip);
}

static void vias_copy(const struct sip_msg *req, const struct addr *source, struct buf *b)
{
	const struct sip_hdr *h = sip_msg_hdr(req, SIP_HDR_VIA);
	char scratch[SIP_VIA_SCRATCH];
	struct sip_edits e;

	if (!h)
		return;
	if (source) {
		e.count = 0;
		e.full = false;
		sip_via_stamp(req, source, &e, scratch);
		sip_edits_copy(&e, req, h->off, h->value + h->value_len, b);
		buf_lit(b, "\r\n");
		h = sip_hdr_next(req, h);
	}
	for (; h; h = sip_hdr_next(req, h))
		sip_line_copy(req, h, b);
}

/* The same for every copy of a request, and known to nobody else: the seed is ours. */
void sip_reply_tag(const struct sip_msg *req, char text[static SIP_REPLY_TAG_LEN])
{
	static const char hex[16] = "0123456789abcdef";
	uint64_t h = hash_slice(sip_slice(req, req->via.branch.len ? req->via.branch : req->via.whole));

	h = hash_join(h, hash_slice(sip_slice(req, req->call_id)));
	h = hash_join(h, hash_slice(sip_slice(req, req->from_tag)));
	h = hash_join(h, req->cseq);
	for (int i = 0; i < SIP_REPLY_TAG_LEN; i++)
		text[i] = hex[h >> (i * 4) & 15];
}

static void to_copy(const struct sip_msg *req, const struct sip_reply *r, struct buf *b)
{
	const struct sip_hdr *h = sip_msg_hdr(req, SIP_HDR_TO);

	if (!h)
		return;
	buf_put(b, req->buf + h->off, h->value + h->value_len - h->off);
	if (!req->to_tag.len && r->status != 100) {
		buf_lit(b, ";tag=");
		if (r->to_tag.len) {
			buf_slice(b, r->to_tag);
		} else {
			char tag[SIP_REPLY_TAG_LEN];
			sip_reply_tag(req, tag);
			buf_put(b, tag, sizeof(tag));
		}
	}
	buf_lit(b, "\r\n");
}

long sip_reply_build(const struct sip_msg *req, const struct sip_reply *r, char *out, size_t cap)
{
	struct buf b;

	buf_init(&b, out, cap);
	buf_lit(&b, "SIP/2.0 ");
	buf_u64(&b, r->status);
	buf_char(&b, ' ');
	buf_slice(&b, slice_str(r->reason ? r->reason : sip_reason_default(r->status)));
	buf_lit(&b, "\r\n");
	vias_copy(req, r->source, &b);
	if (r->status > 100 && r->status < 300)
		sip_lines_copy(req, SIP_HDR_RECORD_ROUTE, &b);
	sip_lines_copy(req, SIP_HDR_FROM, &b);
	to_copy(req, r, &b);
	sip_lines_copy(req, SIP_HDR_CALL_ID, &b);
	sip_lines_copy(req, SIP_HDR_CSEQ, &b);
	if (r->status == 100)
		sip_lines_copy(req, SIP_HDR_TIMESTAMP, &b);
	buf_slice(&b, r->extra);
	buf_lit(&b, "Content-Length: ");
	buf_u64(&b, r->body.len);
	buf_lit(&b, "\r\n\r\n");
	buf_slice(&b, r->body);
	return b.full ? -ENOBUFS : (long)b.len;
}
