#include "base/log_p.h"

#include <time.h>

static const struct {
	const char *text, *json;
} level_names[] = {
	[LOG_LEVEL_ERROR] = {"ERROR", "error"},
	[LOG_LEVEL_WARNING] = {"WARNING", "warning"},
	[LOG_LEVEL_INFO] = {"INFO", "info"},
	[LOG_LEVEL_DEBUG] = {"DEBUG", "debug"},
};

static const char hex[] = "0123456789abcdef";

/* The length of the UTF-8 character that s begins with (RFC 3629: shortest form, no surrogates), or 0. */
static size_t utf8_length(struct slice s)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (n == 0 || n > s.len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)s.p[i] & 0xc0) != 0x80)
			return 0;
	if (n >= 3) {
		unsigned char d = (unsigned char)s.p[1];
		if ((c == 0xe0 && d < 0xa0) || (c == 0xed && d >= 0xa0) || (c == 0xf0 && d < 0x90) ||
		    (c == 0xf4 && d >= 0x90))
			return 0;
	}
	return n;
}

/* What a terminal would act on rather than show: C0, DEL, and C1 (U+0080 to U+009F). */
static bool utf8_is_control(struct slice ch)
{
	unsigned char c = (unsigned char)ch.p[0];

	return c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)ch.p[1] < 0xa0);
}

static void escape_text(struct buf *b, struct slice ch)
{
	for (size_t i = 0; i < ch.len; i++) {
		unsigned char c = (unsigned char)ch.p[i];
		char t[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
		buf_put(b, t, sizeof(t));
	}
}

static void escape_json(struct buf *b, struct slice ch)
{
	/* A two-byte control is C2 80 to C2 9F: its number is its second byte. */
	unsigned char c = (unsigned char)ch.p[ch.len - 1];
	char t[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	buf_put(b, t, sizeof(t));
}

static void log_escape(struct buf *b, struct slice s, bool json)
{
	while (s.len) {
		size_t n = utf8_length(s);
		struct slice ch = {s.p, n ? n : 1};
		if (n == 0 && json)
			buf_lit(b, "\xef\xbf\xbd"); /* U+FFFD */
		else if (n == 0)
			escape_text(b, ch);
		else if (utf8_is_control(ch))
			json ? escape_json(b, ch) : escape_text(b, ch);
		else if (*ch.p == '\\' || (json && *ch.p == '"'))
			buf_char(b, '\\'), buf_char(b, *ch.p);
		else
			buf_slice(b, ch);
		s.p += ch.len;
		s.len -= ch.len;
	}
}

static void log_time(struct buf *b, nsec_t at)
{
	time_t sec = (time_t)(at / 1000000000u);
	struct tm tm;

	gmtime_r(&sec, &tm);
	buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		   tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(at / 1000000u % 1000u));
}

void log_line_format(const struct log_line *l, enum log_format format, struct buf *b)
{
	bool json = format == LOG_FORMAT_JSON;

	if (json) {
		buf_lit(b, "{\"time\":\"");
		log_time(b, l->time);
		buf_printf(b, "\",\"level\":\"%s\",\"component\":\"", level_names[l->level].json);
		log_escape(b, l->component, true);
		buf_lit(b, "\",\"text\":\"");
		log_escape(b, l->text, true);
		buf_lit(b, "\"}\n");
		return;
	}
	log_time(b, l->time);
	buf_printf(b, " %s ", level_names[l->level].text);
	log_escape(b, l->component, false);
	buf_lit(b, ": ");
	log_escape(b, l->text, false);
	buf_char(b, '\n');
}
