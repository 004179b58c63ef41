#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_printf(struct buf *b, const char *fmt, ...)
{
	size_t room = b->cap - b->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? b->p + b->len : NULL, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n > room) {
		b->full = true;
		return;
	}
	if ((size_t)n < room) {
		b->len += (size_t)n;
		return;
	}
	/* It fits but for the NUL that vsnprintf wants to add: once more, elsewhere. */
	char t[1024];
	if ((size_t)n >= sizeof(t)) {
		b->full = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(t, sizeof(t), fmt, ap);
	va_end(ap);
	buf_put(b, t, (size_t)n);
}
