/* What has been acknowledged, by time: a short history of how many bytes had been given to the kernel when. A mark
 * stands for all that was sent within a quarter of ack_timeout, so that eight of them reach back twice as far as
 * anybody asks. */
#include "transport/conn_p.h"

#define MARK_SPAN_MIN 16 /* ms */

void marks_note(struct conn *c, msec_t when, uint64_t raw)
{
	msec_t span = c->profile->options.ack_timeout / (CONN_MARKS / 2);
	struct conn_mark *last = &c->mark[(c->mark_next + CONN_MARKS - 1) % CONN_MARKS];

	if (span < MARK_SPAN_MIN)
		span = MARK_SPAN_MIN;
	if (c->mark_count && when < last->when + span) {
		last->raw = raw;
		return;
	}
	c->mark[c->mark_next] = (struct conn_mark){when, raw};
	c->mark_next = (uint8_t)((c->mark_next + 1) % CONN_MARKS);
	if (c->mark_count < CONN_MARKS)
		c->mark_count++;
}

bool marks_acked(const struct conn *c, msec_t since, uint64_t acked)
{
	/* From the newest to the oldest: the first that began at or before `since` ends where it ended. */
	for (unsigned i = 0; i < c->mark_count; i++) {
		const struct conn_mark *m = &c->mark[(c->mark_next + CONN_MARKS - 1u - i) % CONN_MARKS];
		if (m->when <= since)
			return m->raw <= acked;
	}
	return true; /* nothing was sent then, or so long ago that the marks of it are gone */
}
