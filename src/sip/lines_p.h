#ifndef SIP_LINES_P_H
#define SIP_LINES_P_H

#include "base/buf.h"
#include "sip/message.h"

/* One header line, ended as it should be even where the received one was not. */
static inline void sip_line_copy(const struct sip_msg *m, const struct sip_hdr *h, struct buf *b)
{
	buf_put(b, m->buf + h->off, h->value + h->value_len - h->off);
	buf_lit(b, "\r\n");
}

static inline void sip_lines_copy(const struct sip_msg *m, enum sip_hdr_id id, struct buf *b)
{
	for (const struct sip_hdr *h = sip_msg_hdr(m, id); h; h = sip_hdr_next(m, h))
		sip_line_copy(m, h, b);
}

#endif
