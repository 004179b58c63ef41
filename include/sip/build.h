/* Messages that we make ourselves. Each function writes into memory of the caller and returns the number of
 * bytes, or -ENOBUFS. Any thread. */
#ifndef SIP_BUILD_H
#define SIP_BUILD_H

#include "base/addr.h"
#include "sip/message.h"

/* A response to a request (RFC 3261 8.2.6): Vias (the topmost with received and rport as 18.2.1 and RFC 3581 have
 * it), From, To with `to_tag` unless it has one or the status is 100, Call-ID, CSeq; Timestamp in a 100;
 * Record-Route in 101 to 299; Content-Length: 0 unless `body` is given. */
struct sip_reply {
	unsigned status;
	const char *reason;  /* NULL: the default */
	struct slice to_tag; /* empty: a tag is made from the request's bytes, the same for every copy of it */
	const struct addr *source; /* where the request came from; NULL: the Via is left as it is */
	struct slice extra;        /* whole header lines, each ended by CRLF */
	struct slice body;         /* its Content-Type is in `extra` */
};

#define SIP_REPLY_TAG_LEN 16
/* The To tag that a reply to `req` gets when none is given. The ACK to a final response carries the same branch,
 * Call-ID, From tag and CSeq number as the request, and so gives the same tag: by it we know the ACK of a reply that we
 * kept no trace of. */
void sip_reply_tag(const struct sip_msg *req, char out[static SIP_REPLY_TAG_LEN]);

long sip_reply_build(const struct sip_msg *req, const struct sip_reply *r, char *out, size_t cap);

/* RFC 3261 18.2.1 and RFC 3581 4: ";received=" when the sent-by host is not the source, or rport was asked for, and the
 * value of rport. Fills edits for the topmost Via; `scratch` holds the text until they are applied. */
struct sip_edits;
#define SIP_VIA_SCRATCH 128
void sip_via_stamp(const struct sip_msg *req, const struct addr *source, struct sip_edits *e,
		   char scratch[static SIP_VIA_SCRATCH]);

/* ACK for a non-2xx final response (17.1.1.3) and CANCEL (9.1), from the INVITE as it was sent: its Request-URI, top
 * Via, From, Call-ID, CSeq number, Route; To from the response (ACK) or the request (CANCEL); Max-Forwards: 70; for an
 * ACK and a CANCEL alike, Authorization headers of the INVITE are carried over (22.1), Require and Proxy-Require are
 * not. `reason`: the value of a CANCEL's Reason (RFC 3326); empty: none. */
long sip_ack_build(const struct sip_msg *invite, const struct sip_msg *response, char *out, size_t cap);
long sip_cancel_build(const struct sip_msg *invite, struct slice reason, char *out, size_t cap);

#endif
