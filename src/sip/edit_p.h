#ifndef SIP_EDIT_P_H
#define SIP_EDIT_P_H

#include "base/buf.h"
#include "sip/edit.h"

/* The bytes [from, to) with the edits that begin there. */
void sip_edits_copy(const struct sip_edits *e, const struct sip_msg *m, uint32_t from, uint32_t to,
		    struct buf *b);

#endif
