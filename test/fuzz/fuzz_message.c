/* Messages: whatever bytes come, the parser reads nothing outside of them; what it calls well-formed can be walked,
 * cloned, answered and edited, and what comes of it is well-formed again. */
#include <stdint.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sip/build.h"
#include "sip/edit.h"
#include "sip/message.h"
#include "sip/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

#define OUT_MAX (2 * SIP_MESSAGE_MAX)

static struct sip_msg_room room, room2;
static char out[OUT_MAX];

static void span_check(const struct sip_msg *m, struct sip_span s)
{
	NEED(s.off <= m->len && s.len <= m->len - s.off);
}

static void message_check(const struct sip_msg *m)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < m->hdr_count; i++) {
		const struct sip_hdr *h = &m->hdrs[i];
		NEED(h->off >= at && h->name_len && h->off + h->name_len < h->value + h->value_len + 2);
		NEED(h->value + h->value_len <= h->end && h->end <= m->len);
		NEED(h->next == -1 || (h->next > (int)i && m->hdrs[h->next].id == h->id));
		at = h->end;
	}
	span_check(m, m->method_name);
	span_check(m, m->ruri);
	span_check(m, m->reason);
	span_check(m, m->body);
	span_check(m, m->via.whole);
	span_check(m, m->via.rport);
	span_check(m, m->call_id);
	span_check(m, m->from_uri);
	span_check(m, m->from_tag);
	span_check(m, m->to_uri);
	span_check(m, m->to_tag);
	NEED(m->body.off + m->body.len == m->len);
	NEED(m->error == 0 || m->error_text);
	if (!m->error) {
		NEED(m->via.whole.len && m->call_id.len && m->from_uri.len && m->to_uri.len);
		NEED(m->request ? m->ruri.len && sip_msg_answerable(m) : m->status >= 100 && m->status < 700);
	}
}

static void values_walk(const struct sip_msg *m)
{
	for (int id = 1; id < SIP_HDR_COUNT; id++) {
		struct sip_values it = {0};
		struct slice v, rest, name, value, whole;
		struct sip_nameaddr na;
		struct sip_via via;
		struct sip_uri u;

		while (sip_values_next(m, (enum sip_hdr_id)id, &it, &v)) {
			NEED(v.len > 0);
			span_check(m, it.span);
			if (id == SIP_HDR_VIA && sip_via_parse(m, it.span, &via) == 0) {
				span_check(m, via.whole);
				span_check(m, via.branch);
				NEED(via.host.len && via.transport.len);
			}
			if (sip_nameaddr_parse(v, &na) == 0) {
				rest = na.params;
				while (sip_param_next(&rest, &name, &value, &whole))
					NEED(name.len && whole.p[0] == ';');
				if (sip_uri_parse(na.uri, &u) == 0)
					NEED(sip_uri_equal(&u, &u));
			}
		}
	}
}

static void reparse(const char *p, long n, unsigned method)
{
	NEED(n > 0);
	NEED(sip_msg_parse(&room2, p, (size_t)n, true) == 0);
	NEED(room2.msg.error == 0 && room2.msg.len == (size_t)n);
	NEED(room2.msg.method == method);
	message_check(&room2.msg);
}

static void build_all(const struct sip_msg *m)
{
	static const struct addr source = {.family = 2, .port = 5060, .ip = {127, 0, 0, 1}};
	static const struct addr source6 = {.family = 10, .port = 5060, .ip = {0x20, 1, 0xd, 0xb8}};
	struct sip_reply r = {.status = 404, .source = &source};

	if (!m->request)
		return;
	reparse(out, sip_reply_build(m, &r, out, sizeof(out)), m->method);
	NEED(room2.msg.status == 404 && room2.msg.to_tag.len);
	r.status = 100;
	r.source = &source6;
	reparse(out, sip_reply_build(m, &r, out, sizeof(out)), m->method);
	NEED(!m->via.has_rport || room2.msg.via.rport_value == 5060);
	NEED(sip_reply_build(m, &r, out, 20) < 0);
	reparse(out, sip_ack_build(m, m, out, sizeof(out)), SIP_METHOD_ACK);
	reparse(out,
		sip_cancel_build(m, m->len & 1 ? SLICE_LIT("SIP;cause=200") : SLICE_NONE, out, sizeof(out)),
		SIP_METHOD_CANCEL);
}

static unsigned values_count(const struct sip_msg *m, enum sip_hdr_id id)
{
	struct sip_values it = {0};
	struct slice v;
	unsigned n = 0;

	while (sip_values_next(m, id, &it, &v))
		n++;
	return n;
}

/* Takes away some of the values of a header, chosen by the bits of `pick`, and puts a Via on top. */
static void edit_some(const struct sip_msg *m, enum sip_hdr_id id, unsigned pick)
{
	unsigned before = values_count(m, id), gone = 0, vias = values_count(m, SIP_HDR_VIA);
	struct sip_edits e = {0};
	struct sip_values it = {0};
	struct slice v;
	long n;

	for (unsigned i = 0; i < 12 && sip_values_next(m, id, &it, &v); i++) {
		if (pick >> i & 1) {
			sip_edits_remove_value(&e, m, &it);
			gone++;
		}
	}
	sip_edits_add(&e, m->hdrs[m->first[SIP_HDR_VIA]].off, 0,
		      SLICE_LIT("Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n"));
	n = sip_edits_apply(&e, m, out, sizeof(out));
	NEED(n > 0);
	if (m->hdr_count == SIP_HDRS_MAX)
		return;
	NEED(sip_msg_parse(&room2, out, (size_t)n, false) == 0);
	NEED(room2.msg.error == 0);
	NEED(values_count(&room2.msg, id) == before - gone + (id == SIP_HDR_VIA));
	NEED(values_count(&room2.msg, SIP_HDR_VIA) == vias + 1 - (id == SIP_HDR_VIA ? gone : 0));
}

static void one(const char *p, size_t n, bool stream)
{
	struct sip_msg *m = &room.msg, *c;

	if (sip_msg_parse(&room, p, n, stream))
		return;
	message_check(m);
	values_walk(m);
	if (m->error) {
		struct sip_reply r = {.status = m->error, .reason = m->error_text};
		if (sip_msg_answerable(m))
			NEED(sip_reply_build(m, &r, out, sizeof(out)) > 0);
		return;
	}
	c = sip_msg_clone(m);
	NEED(c);
	message_check(c);
	NEED(c->len == m->len && memcmp(c->buf, m->buf, m->len) == 0);
	build_all(c);
	edit_some(c, SIP_HDR_ROUTE, 1);
	edit_some(c, SIP_HDR_ROUTE, (unsigned)(n % 4096));
	edit_some(c, SIP_HDR_SUPPORTED, (unsigned)(n * 7 % 4096));
	edit_some(c, SIP_HDR_RECORD_ROUTE, 0xfff);
	free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy;

	if (size > SIP_MESSAGE_MAX - 256)
		return 0;
	copy = malloc(size ? size : 1); /* of the exact size, so that ASan sees a read beyond */
	NEED(copy);
	memcpy(copy, data, size);
	one(copy, size, false);
	one(copy, size, true);
	free(copy);
	return 0;
}
