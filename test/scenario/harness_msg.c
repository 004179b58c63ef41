/* Messages that the scenario tests make, and what they look at in those that the proxy sends. */
#include <stdio.h>
#include <stdlib.h>

#include "harness_p.h"

static const char *dflt(const char *s, const char *otherwise)
{
	return s ? s : otherwise;
}

/* Only the port's presence matters to a sent-by: the source's own. */
void h_request(struct harness *h, const struct h_req *r)
{
	const char *method = dflt(r->method, "INVITE"), *from = dflt(r->from, H_CALLER);
	const char *call_id = dflt(r->call_id, "call-1"), *mf = dflt(r->max_forwards, "70");
	unsigned cseq = r->cseq ? r->cseq : 1;
	const char *branch = r->branch ? r->branch : h_keepf(h, "z9hG4bK-%s-%u", call_id, cseq);
	const char *contact =
		strcmp(method, "INVITE") == 0 ? h_keepf(h, "Contact: <sip:contact@%s>\n", from) : "";
	struct h_conn *conn = r->conn ? h_conn_find(h, r->conn) : NULL;
	if (conn)
		from = h_conn_remote(h, conn->id);
	struct slice proto = flow_proto_name(conn ? (enum flow_proto)conn->proto : FLOW_UDP);
	h->from_conn = r->conn;
	h_recv(h, from,
	       "%s %s SIP/2.0\n"
	       "Via: SIP/2.0/%.*s %s;branch=%s\n"
	       "%s%s%s"
	       "From: %s;tag=%s\n"
	       "To: %s%s%s\n"
	       "Call-ID: %s\n"
	       "CSeq: %u %s\n"
	       "%s%s"
	       "Content-Length: %zu\n"
	       "\n%s",
	       method, dflt(r->ruri, "sip:bob@example.test"), (int)proto.len, proto.p, dflt(r->via, from),
	       branch, *mf ? "Max-Forwards: " : "", mf, *mf ? "\n" : "",
	       dflt(r->from_hdr, "<sip:alice@caller.test>"), dflt(r->from_tag, "alice"),
	       dflt(r->to_hdr, "<sip:bob@example.test>"), r->to_tag ? ";tag=" : "", dflt(r->to_tag, ""),
	       call_id, cseq, method, contact, dflt(r->extra, ""), r->body ? strlen(r->body) : 0,
	       dflt(r->body, ""));
	h->from_conn = 0;
}

/* Lines of m with a header name, as received. */
static char *lines_of(struct harness *h, const struct sip_msg *m, enum sip_hdr_id id)
{
	char *all = h_keepf(h, "%s", "");
	for (const struct sip_hdr *x = sip_msg_hdr(m, id); x; x = sip_hdr_next(m, x))
		all = h_keepf(h, "%s%.*s", all, (int)(x->end - x->off), m->buf + x->off);
	return all;
}

void h_reply(struct harness *h, const struct sip_msg *req, unsigned status, const struct h_rep *r)
{
	const char *from = r->from ? r->from : h_sent_to(h, req);
	const char *to = h_hdr(h, req, "To", 0);
	bool tag = status > 100 && req->to_tag.len == 0;
	bool dialog = status > 100 && status < 300;
	h->from_conn = r->conn ? r->conn : h_sent_conn(h, req);
	h_recv(h, from,
	       "SIP/2.0 %u %s\n"
	       "%s"
	       "%s"
	       "From: %s\n"
	       "To: %s%s%s\n"
	       "Call-ID: %s\n"
	       "CSeq: %s\n"
	       "%s%s%s"
	       "%s"
	       "Content-Length: %zu\n"
	       "\n%s",
	       status, dflt(r->reason, "Whatever"), lines_of(h, req, SIP_HDR_VIA),
	       dialog ? lines_of(h, req, SIP_HDR_RECORD_ROUTE) : "", h_hdr(h, req, "From", 0), to,
	       tag ? ";tag=" : "", tag ? dflt(r->to_tag, "bob") : "", h_hdr(h, req, "Call-ID", 0),
	       h_hdr(h, req, "CSeq", 0), dialog ? "Contact: <sip:callee@" : "", dialog ? from : "",
	       dialog ? ">\n" : "", dflt(r->extra, ""), r->body ? strlen(r->body) : 0, dflt(r->body, ""));
	h->from_conn = 0;
}

const char *h_route_set(struct harness *h, const struct sip_msg *m)
{
	char *all = h_keepf(h, "%s", "");
	struct sip_values it = {0};
	struct slice v;
	while (sip_values_next(m, SIP_HDR_RECORD_ROUTE, &it, &v)) {
		char *line = h_keepf(h, "Route: " SLICE_FMT "\n", SLICE_ARG(v));
		all = m->request ? h_keepf(h, "%s%s", all, line) : h_keepf(h, "%s%s", line, all);
	}
	return all;
}

const struct sip_msg *h_call(struct harness *h, const char *to, const struct h_req *r)
{
	h_request(h, r);
	h_expect_response(h, r->conn ? h_conn_remote(h, r->conn) : dflt(r->from, H_CALLER), 100);
	return h_expect_request(h, to, "INVITE");
}

void h_ack(struct harness *h, const struct h_req *invite, const struct sip_msg *final)
{
	struct h_req ack = *invite;
	ack.method = "ACK";
	ack.body = NULL;
	ack.extra = NULL;
	struct slice tag = sip_slice(final, final->to_tag);
	ack.to_tag = h_keepf(h, SLICE_FMT, SLICE_ARG(tag));
	h_request(h, &ack);
}

/* --- looking --- */

static const struct sip_hdr *nth(const struct sip_msg *m, const char *name, unsigned n)
{
	enum sip_hdr_id id = sip_hdr_name_id(slice_str(name));
	for (unsigned i = 0; i < m->hdr_count; i++) {
		const struct sip_hdr *x = &m->hdrs[i];
		if (id != SIP_HDR_OTHER ? x->id != id : !slice_ieq(sip_hdr_name(m, x), slice_str(name)))
			continue;
		if (n-- == 0)
			return x;
	}
	return NULL;
}

const char *h_hdr(struct harness *h, const struct sip_msg *m, const char *name, unsigned n)
{
	const struct sip_hdr *x = nth(m, name, n);
	if (!x)
		return NULL;
	char *text = h_keep(h, x->value_len);
	memcpy(text, m->buf + x->value, x->value_len);
	return text;
}

unsigned h_hdr_count(const struct sip_msg *m, const char *name)
{
	unsigned n = 0;
	while (nth(m, name, n))
		n++;
	return n;
}

bool h_has(const struct sip_msg *m, const char *text)
{
	return memmem(m->buf, m->len, text, strlen(text)) != NULL;
}

const char *h_ruri(struct harness *h, const struct sip_msg *m)
{
	struct slice s = sip_slice(m, m->ruri);
	return h_keepf(h, SLICE_FMT, SLICE_ARG(s));
}

const char *h_branch(struct harness *h, const struct sip_msg *m)
{
	struct slice s = sip_slice(m, m->via.branch);
	return h_keepf(h, SLICE_FMT, SLICE_ARG(s));
}

void h_assert_hdr(struct harness *h, const struct sip_msg *m, const char *name, const char *value)
{
	const char *v = h_hdr(h, m, name, 0);
	if (!v || strcmp(v, value) != 0)
		fail_msg("%s is '%s', not '%s' in:\n%.*s", name, v ? v : "(absent)", value, (int)m->len,
			 m->buf);
}

/* A Via line without received and the value of rport in its first value. */
static char *via_normal(struct harness *h, struct slice line)
{
	char *out = h_keep(h, line.len);
	size_t n = 0;
	bool first = true;
	for (size_t i = 0; i < line.len;) {
		struct slice rest = slice_make(line.p + i, line.len - i);
		bool received =
			first && rest.len > 10 && slice_ieq(slice_make(rest.p, 10), SLICE_LIT(";received="));
		bool rport = first && rest.len > 7 && slice_ieq(slice_make(rest.p, 7), SLICE_LIT(";rport="));
		if (received || rport) {
			i += received ? 10 : 7;
			if (rport) {
				memcpy(out + n, ";rport", 6);
				n += 6;
			}
			while (i < line.len && !strchr(";, \t\r\n", line.p[i]))
				i++;
			continue;
		}
		if (line.p[i] == ',')
			first = false;
		out[n++] = line.p[i++];
	}
	out[n] = 0;
	return out;
}

static unsigned skip_of(const struct sip_msg *sent, const struct sip_msg *was, enum sip_hdr_id id)
{
	unsigned a = 0, b = 0;
	for (unsigned i = 0; i < sent->hdr_count; i++)
		a += sent->hdrs[i].id == id;
	for (unsigned i = 0; i < was->hdr_count; i++)
		b += was->hdrs[i].id == id;
	return a > b ? a - b : 0;
}

static struct slice line_of(const struct sip_msg *m, const struct sip_hdr *x)
{
	return slice_make(m->buf + x->off, x->end - x->off);
}

void h_assert_forwarded(struct harness *h, struct slice received, const struct sip_msg *sent, bool same_ruri)
{
	if (sip_msg_parse(&h->room, received.p, received.len, false))
		fail_msg("what was received is no SIP");
	const struct sip_msg *was = &h->room.msg;
	if (same_ruri) {
		struct slice a = slice_make(was->buf, was->hdrs[0].off),
			     b = slice_make(sent->buf, sent->hdrs[0].off);
		if (!slice_eq(a, b))
			fail_msg("request line '" SLICE_FMT "', was '" SLICE_FMT "'", SLICE_ARG(b),
				 SLICE_ARG(a));
	}
	unsigned vias = 1, rrs = skip_of(sent, was, SIP_HDR_RECORD_ROUTE), i = 0, j = 0;
	bool top = true;
	for (;;) {
		/* what the proxy may add, or change, is stepped over on both sides */
		for (; i < sent->hdr_count; i++) {
			unsigned id = sent->hdrs[i].id;
			if (id == SIP_HDR_VIA && vias)
				vias--;
			else if (id == SIP_HDR_RECORD_ROUTE && rrs)
				rrs--;
			else if (id != SIP_HDR_MAX_FORWARDS && id != SIP_HDR_ROUTE && id != SIP_HDR_MAX_BREADTH)
				break;
		}
		while (j < was->hdr_count &&
		       (was->hdrs[j].id == SIP_HDR_MAX_FORWARDS || was->hdrs[j].id == SIP_HDR_ROUTE ||
			was->hdrs[j].id == SIP_HDR_MAX_BREADTH))
			j++;
		if (i == sent->hdr_count || j == was->hdr_count)
			break;
		struct slice a = line_of(was, &was->hdrs[j]), b = line_of(sent, &sent->hdrs[i]);
		bool same = slice_eq(a, b);
		if (!same && was->hdrs[j].id == SIP_HDR_VIA && top)
			same = strcmp(via_normal(h, a), via_normal(h, b)) == 0;
		if (was->hdrs[j].id == SIP_HDR_VIA)
			top = false;
		if (!same)
			fail_msg("line '" SLICE_FMT "', was '" SLICE_FMT "'", SLICE_ARG(b), SLICE_ARG(a));
		i++, j++;
	}
	if (i != sent->hdr_count || j != was->hdr_count)
		fail_msg("%u header lines sent, %u received, in:\n%.*s", sent->hdr_count, was->hdr_count,
			 (int)sent->len, sent->buf);
	if (!slice_eq(sip_slice(was, was->body), sip_slice(sent, sent->body)))
		fail_msg("the body was changed");
}

void h_assert_passed(struct harness *h, struct slice received, const struct sip_msg *sent)
{
	if (sip_msg_parse(&h->room, received.p, received.len, false))
		fail_msg("what was received is no SIP");
	const struct sip_msg *was = &h->room.msg;
	const struct sip_hdr *via = sip_msg_hdr(was, SIP_HDR_VIA);
	size_t tail = was->len - via->end;
	if (sent->len != via->off + tail || memcmp(sent->buf, was->buf, via->off) != 0 ||
	    memcmp(sent->buf + via->off, was->buf + via->end, tail) != 0)
		fail_msg("more than the top Via was changed:\n%.*s", (int)sent->len, sent->buf);
}
