/* Stream framing (RFC 3261 18.3, RFC 5626 3.5.1) as a pure function of the bytes received so far. */
#ifndef SIP_FRAME_H
#define SIP_FRAME_H

#include "base/slice.h"

enum sip_frame_kind {
	SIP_FRAME_INCOMPLETE, /* more bytes are needed. `used` is 0, or 2 when the buffer begins with a CRLF that may be
	                        * a pong or half a ping: the caller that has read all there is may take it for a
	                        * pong and drop it, or keep it until the next byte tells */
	SIP_FRAME_MESSAGE,    /* bytes [skip, used) are one message */
	SIP_FRAME_PING,       /* CRLFCRLF: to be answered by CRLF */
	SIP_FRAME_PONG,       /* a single CRLF, with something else behind it */
	SIP_FRAME_BAD_LENGTH, /* [skip, used) is a header without a usable Content-Length: 400, then close */
	SIP_FRAME_TOO_LARGE, /* the header, or header and body, exceed max: 513 if a header is there, then close */
	SIP_FRAME_GARBAGE, /* not SIP: close */
};

struct sip_frame {
	size_t skip; /* bytes of CRLF before the message */
	size_t used; /* bytes to take out of the buffer, skip included */
	/* Passed back next time with the same buffer grown, so that bytes arriving one by one are looked at once: */
	size_t scan;  /* where the search for the header's end goes on */
	size_t total; /* bytes that a message takes whose header is there and whose body is not; else 0 */
};

/* `f->scan` and `f->total` are 0 for a fresh buffer. max: bytes of the largest message. Any thread. */
enum sip_frame_kind sip_frame_next(const char *buf, size_t len, size_t max, struct sip_frame *f);

#endif
