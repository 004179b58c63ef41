/* URIs, name-addrs and parameters (RFC 3261 19, 20.10, 25). Pure functions on slices; results point into
 * the input. Any thread. */
#ifndef SIP_URI_H
#define SIP_URI_H

#include "base/buf.h"
#include "base/slice.h"

enum sip_scheme { SIP_SCHEME_OTHER, SIP_SCHEME_SIP, SIP_SCHEME_SIPS, SIP_SCHEME_TEL };

struct sip_uri {
	struct slice whole;
	enum sip_scheme scheme;
	struct slice scheme_text;
	bool has_user;         /* an '@' was there */
	struct slice user;     /* as written, escapes included; for tel: the number without parameters */
	struct slice password; /* len 0: none */
	struct slice host;     /* IPv6 with its brackets */
	uint16_t port;         /* 0: not given */
	struct slice params;   /* from the first ';' (included) to before '?' */
	struct slice headers;  /* behind '?' */
	struct slice opaque;   /* SIP_SCHEME_OTHER: all behind the scheme's ':' */
};

/* A whole URI and nothing else. An unknown scheme gives SIP_SCHEME_OTHER with the bytes in `opaque`.
 * 0, or -EBADMSG: not a URI, or a sip:, sips: or tel: one that breaks the grammar. */
int sip_uri_parse(struct slice text, struct sip_uri *out);

/* 19.1.4: escapes decoded, host without case, parameters as the rules there have it. sip and sips only; other
 * schemes compare byte for byte. */
bool sip_uri_equal(const struct sip_uri *a, const struct sip_uri *b);

/* Value of ";name=value" in `params` (";a=b;c"), name without case. True if there; *value is empty for a flag, and
 * without its quotes for a quoted string. `value` may be NULL. */
bool sip_param_get(struct slice params, struct slice name, struct slice *value);
/* Walks parameters: start with *rest = params; false at the end. `whole` is the parameter with its leading ';'. */
bool sip_param_next(struct slice *rest, struct slice *name, struct slice *value, struct slice *whole);

struct sip_nameaddr {
	struct slice display; /* as written, quotes included; trimmed */
	struct slice uri;     /* without angle brackets */
	bool brackets;
	struct slice params; /* header parameters, from the first ';' */
};
/* name-addr or addr-spec with parameters (To, From, Contact, Route). Without brackets, ';' and '?' end
 * the URI (20.10). 0 or -EBADMSG. */
int sip_nameaddr_parse(struct slice text, struct sip_nameaddr *out);

/* %HH decoded into b. */
void sip_unescape(struct slice s, struct buf *b);

#endif
