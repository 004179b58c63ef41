/* What the parts of the log share: a line's bytes, and the limiter with its time as an argument. */
#ifndef BASE_LOG_P_H
#define BASE_LOG_P_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#define LOG_TEXT_MAX      1000 /* bytes of a line's text before escaping */
#define LOG_COMPONENT_MAX 32   /* bytes */
/* Of a line as written, in bytes: an escape makes 6 of one. */
#define LOG_LINE_MAX ((LOG_TEXT_MAX + LOG_COMPONENT_MAX) * 6 + 128)

struct log_line {
	nsec_t time; /* wall clock */
	enum log_level level;
	struct slice component;
	struct slice text;
};

/* The line with its newline, if b has LOG_LINE_MAX bytes of room. Any thread. */
void log_line_format(const struct log_line *l, enum log_format format, struct buf *b);

/* log_limit at a given time. */
bool log_limit_at(struct log_limiter *l, unsigned burst, uint64_t *suppressed, nsec_t now);

#endif
