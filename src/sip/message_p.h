#ifndef SIP_MESSAGE_P_H
#define SIP_MESSAGE_P_H

#include "sip/message.h"

/* The first error stands. */
static inline void sip_msg_fail(struct sip_msg *m, uint16_t status, const char *text)
{
	if (!m->error) {
		m->error = status;
		m->error_text = text;
	}
}

/* The start line, [p, end) without its line end. 0, or -EBADMSG: not SIP. */
int sip_start_parse(struct sip_msg *m, const char *p, const char *end);

#endif
