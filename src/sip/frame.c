#include "sip/frame.h"

#include "chars_p.h"
#include "sip/message.h"

/* The request line ends, or the status line begins, with the protocol's name. What else is wrong with it is for
 * the parser to say. */
static bool start_is_sip(const char *p, const char *end)
{
	const char *last;

	if (end - p > 4 && sip_ieq_lit(p, "SIP", 3) && p[3] == '/')
		return true;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (last = end; last > p && last[-1] != ' ' && last[-1] != '\t'; last--)
		;
	return last > p && end - last > 4 && sip_ieq_lit(last, "SIP", 3) && last[3] == '/';
}

/* One past the first empty line in [p, end), or NULL. */
static const char *header_end(const char *p, const char *end)
{
	for (p = sip_scan_eol(p, end); end - p > 3; p = sip_scan_eol(p + 1, end))
		if (p[0] == '\r' && p[1] == '\n' && p[2] == '\r' && p[3] == '\n')
			return p + 4;
	return NULL;
}

/* The one Content-Length in the header lines [p, end), or -1. A line ended by LF alone makes it unusable: where
 * the header ends would be a matter of opinion. */
static int64_t length_find(const char *p, const char *end)
{
	const char *name = p, *q, *v;
	int64_t length = -1;
	uint64_t n;

	for (;;) {
		p = sip_scan_eol(p, end);
		if (p == end)
			return length;
		if (*p == '\n')
			return -1;
		if (p[1] != '\n') {
			p++;
			continue;
		}
		p += 2;
		if (p < end && (*p == ' ' || *p == '\t'))
			continue;
		q = sip_skip(name, end, SIP_C_TOKEN);
		for (v = q; *v == ' ' || *v == '\t'; v++)
			;
		if (*v == ':' &&
		    sip_hdr_name_id(slice_make(name, (size_t)(q - name))) == SIP_HDR_CONTENT_LENGTH) {
			v++;
			if (length >= 0 ||
			    !slice_u64(slice_trim(slice_make(v, (size_t)(p - v))), INT32_MAX, &n))
				return -1;
			length = (int64_t)n;
		}
		name = p;
	}
}

/* buf begins with CR. */
static enum sip_frame_kind crlf_next(const char *buf, size_t len, struct sip_frame *f)
{
	static const char ping[] = "\r\n\r\n";
	size_t n = 1;

	while (n < len && n < 4 && buf[n] == ping[n])
		n++;
	if (n == 4) {
		f->used = 4;
		return SIP_FRAME_PING;
	}
	if (n == len) {
		f->used = n & ~(size_t)1;
		return SIP_FRAME_INCOMPLETE;
	}
	if (n < 2)
		return SIP_FRAME_GARBAGE;
	f->used = 2;
	return SIP_FRAME_PONG;
}

enum sip_frame_kind sip_frame_next(const char *buf, size_t len, size_t max, struct sip_frame *f)
{
	size_t from = f->scan > 3 ? f->scan - 3 : 0;
	size_t limit = len < max ? len : max, head;
	const char *end, *line;
	int64_t length;

	f->skip = 0;
	f->used = 0;
	if (len < f->total)
		return SIP_FRAME_INCOMPLETE;
	f->scan = 0;
	f->total = 0;
	if (len == 0)
		return SIP_FRAME_INCOMPLETE;
	if (buf[0] == '\r')
		return crlf_next(buf, len, f);
	if (!sip_char_is(buf[0], SIP_C_TOKEN))
		return SIP_FRAME_GARBAGE;
	end = from < limit ? header_end(buf + from, buf + limit) : NULL;
	if (!end) {
		f->scan = limit;
		if (len < max)
			return SIP_FRAME_INCOMPLETE;
		f->used = limit;
		return SIP_FRAME_TOO_LARGE;
	}
	line = sip_scan_eol(buf, end);
	if (!start_is_sip(buf, line))
		return SIP_FRAME_GARBAGE;
	head = (size_t)(end - buf);
	f->used = head;
	/* from the start line's end to before the empty line */
	length = length_find(line, end - 2);
	if (length < 0)
		return SIP_FRAME_BAD_LENGTH;
	if ((uint64_t)length > max - head)
		return SIP_FRAME_TOO_LARGE;
	if ((size_t)length > len - head) {
		f->used = 0;
		f->scan = head - 1; /* from where the header's end is found at the first look */
		f->total = head + (size_t)length;
		return SIP_FRAME_INCOMPLETE;
	}
	f->used = head + (size_t)length;
	return SIP_FRAME_MESSAGE;
}
