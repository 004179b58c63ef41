/* STUN on the SIP port (RFC 5389 as RFC 5626 section 8 uses it): binding requests, so that a phone learns its address
 * as seen from here and keeps its way through a NAT open. Pure. */
#ifndef TRANSPORT_STUN_P_H
#define TRANSPORT_STUN_P_H

#include <stdbool.h>

#include "base/addr.h"

#define STUN_ANSWER_MAX 64 /* bytes */

/* Whether a datagram is meant to be STUN: no SIP message begins so. */
bool stun_is(struct slice datagram);

/* The answer to a binding request from `source`, in `out`: a success, or 420 for an attribute that has to be understood
 * and is not. Returns its length, never more than three times that of the request; 0: not a well-formed binding
 * request, nothing is answered. */
size_t stun_answer(struct slice datagram, const struct addr *source, unsigned char out[static STUN_ANSWER_MAX]);

#endif
