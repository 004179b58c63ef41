#include <errno.h>

#include "chars_p.h"
#include "message_p.h"
#include "sip/uri.h"
#include "via_p.h"

/* "SIP/" digits "." digits, without case; *current says whether it is 2.0. One past it, or NULL. */
static const char *version_scan(const char *p, const char *end, bool *current)
{
	const char *start = p, *q;

	if (end - p < 7 || !sip_ieq_lit(p, "SIP", 3) || p[3] != '/')
		return NULL;
	p += 4;
	for (q = p; q < end && sip_is_digit(*q); q++)
		;
	if (q == p || q == end || *q != '.')
		return NULL;
	for (p = ++q; q < end && sip_is_digit(*q); q++)
		;
	if (q == p)
		return NULL;
	*current = q - start == 7 && start[4] == '2' && start[6] == '0';
	return q;
}

static int status_parse(struct sip_msg *m, const char *p, const char *end)
{
	bool current;

	p = version_scan(p, end, &current);
	if (!p)
		return -EBADMSG;
	m->request = false;
	if (!current)
		sip_msg_fail(m, 505, "Version Not Supported");
	/* A reason may be empty; the space before it, which is then easily lost, is not insisted on. */
	if (end - p < 4 || p[0] != ' ' || p[1] < '1' || p[1] > '6' || !sip_is_digit(p[2]) ||
	    !sip_is_digit(p[3]) || (end - p > 4 && p[4] != ' ')) {
		sip_msg_fail(m, 400, "Malformed Status-Line");
		return 0;
	}
	m->status = (uint16_t)((p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0'));
	p += end - p > 4 ? 5 : 4;
	m->reason = sip_span_of(m, slice_make(p, (size_t)(end - p)));
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A request line with white space where none belongs, or another version: what can be read is, for the answer. */
static int request_salvage(struct sip_msg *m, const char *p, const char *end)
{
	const char *last, *stop = end;
	bool current = false;

	while (stop > p && is_blank(stop[-1]))
		stop--;
	for (last = stop; last > p && !is_blank(last[-1]); last--)
		;
	if (version_scan(last, stop, &current) != stop)
		return -EBADMSG;
	if (!current)
		sip_msg_fail(m, 505, "Version Not Supported");
	else
		sip_msg_fail(m, 400, "Malformed Request-Line");
	while (p < last && is_blank(*p))
		p++;
	while (last > p && is_blank(last[-1]))
		last--;
	m->ruri = sip_span_of(m, slice_make(p, (size_t)(last - p)));
	return 0;
}

static void ruri_check(struct sip_msg *m)
{
	struct sip_uri u;

	if (sip_uri_parse(sip_slice(m, m->ruri), &u))
		sip_msg_fail(m, 400, "Malformed Request-URI");
	else if (u.headers.len)
		sip_msg_fail(m, 400, "Header Fields in Request-URI");
}

int sip_start_parse(struct sip_msg *m, const char *p, const char *end)
{
	const char *q = sip_skip(p, end, SIP_C_TOKEN), *sp;
	bool current;
	int err;

	if (q == p || q == end)
		return -EBADMSG;
	if (*q == '/')
		return status_parse(m, p, end);
	if (!is_blank(*q))
		return -EBADMSG;
	m->request = true;
	m->method_name = sip_span_of(m, slice_make(p, (size_t)(q - p)));
	m->method = (uint8_t)sip_method_id(slice_make(p, (size_t)(q - p)));
	p = q + 1;
	sp = end - p >= 8 ? end - 8 : NULL;
	if (*q == ' ' && sp && *sp == ' ' && sp > p && !memchr(p, ' ', (size_t)(sp - p)) &&
	    version_scan(sp + 1, end, &current) == end && current) {
		m->ruri = sip_span_of(m, slice_make(p, (size_t)(sp - p)));
	} else {
		err = request_salvage(m, p, end);
		if (err)
			return err;
	}
	if (!m->error)
		ruri_check(m);
	return 0;
}
