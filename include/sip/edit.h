/* Edits: what is to leave is the received bytes with a list of changes; whatever no edit names leaves byte for byte, in
 * order (RFC 3261 16.6: a proxy must not touch what it need not). */
#ifndef SIP_EDIT_H
#define SIP_EDIT_H

#include "sip/message.h"

#define SIP_EDITS_MAX 48

struct sip_edit {
	uint32_t off;     /* where, from the start of the message */
	uint32_t del;     /* bytes to leave out from there */
	struct slice ins; /* bytes to write there; the caller's, alive until applied */
};

struct sip_edits {
	unsigned count;
	bool full; /* an edit did not fit: apply will fail */
	struct sip_edit edit[SIP_EDITS_MAX];
};

/* Kept sorted by offset; edits at one offset keep the order in which they were added. Deleted ranges may not
 * overlap. */
void sip_edits_add(struct sip_edits *e, uint32_t off, uint32_t del, struct slice ins);

/* Removes the value that `it` stands on: its whole line when it is the only one there, else the value with its comma.
 * Several values of a line may be removed, in any order. Start with (struct sip_edits){0}, or set count and full. */
void sip_edits_remove_value(struct sip_edits *e, const struct sip_msg *m, const struct sip_values *it);

/* Bytes written to out, or -ENOBUFS. Any thread. */
long sip_edits_apply(const struct sip_edits *e, const struct sip_msg *m, char *out, size_t cap);

#endif
