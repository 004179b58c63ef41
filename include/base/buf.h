/* A bounded writer over memory that the caller owns. Writing past the end sets `full` and drops the
 * bytes; the caller checks once at the end. Any thread, one at a time. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
	char *p;
	size_t len; /* bytes written */
	size_t cap; /* bytes */
	bool full;  /* something did not fit */
};

static inline void buf_init(struct buf *b, char *p, size_t cap)
{
	*b = (struct buf){p, 0, cap, false};
}

static inline void buf_put(struct buf *b, const char *p, size_t n)
{
	if (n > b->cap - b->len) {
		b->full = true;
		return;
	}
	if (n)
		memcpy(b->p + b->len, p, n);
	b->len += n;
}

static inline void buf_slice(struct buf *b, struct slice s)
{
	buf_put(b, s.p, s.len);
}

#define buf_lit(b, s) buf_put((b), (s), sizeof(s) - 1)

static inline void buf_char(struct buf *b, char c)
{
	buf_put(b, &c, 1);
}

static inline void buf_u64(struct buf *b, uint64_t v)
{
	char t[20];
	size_t i = sizeof(t);
	do
		t[--i] = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	buf_put(b, t + i, sizeof(t) - i);
}

void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline struct slice buf_view(const struct buf *b)
{
	return (struct slice){b->p, b->len};
}

#endif
