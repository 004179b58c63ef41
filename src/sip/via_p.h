#ifndef SIP_VIA_P_H
#define SIP_VIA_P_H

#include "sip/message.h"

/* The Via value that starts at p; it ends before a comma or `end`, and *next is left there. -EBADMSG: malformed; *out
 * is filled nevertheless when the sent-by could be read (whole.len != 0), its value then being all up to `end`. */
int sip_via_scan(const struct sip_msg *m, const char *p, const char *end, struct sip_via *out,
		 const char **next);

static inline struct sip_span sip_span_of(const struct sip_msg *m, struct slice s)
{
	return (struct sip_span){(uint32_t)(s.p - m->buf), (uint32_t)s.len};
}

#endif
