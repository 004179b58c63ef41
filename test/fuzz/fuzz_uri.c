/* URIs, name-addrs and parameters from any bytes. */
#include <stdint.h>
#include <stdlib.h>

#include "sip/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static void inside(struct slice whole, struct slice part)
{
	NEED(part.len == 0 || (part.p >= whole.p && part.p + part.len <= whole.p + whole.len));
}

static void params_walk(struct slice params)
{
	struct slice rest = params, name, value, whole;
	size_t left = rest.len + 1;

	while (sip_param_next(&rest, &name, &value, &whole)) {
		NEED(rest.len < left);
		left = rest.len;
		inside(params, name);
		inside(params, value);
		inside(params, whole);
		NEED(sip_param_get(params, name, NULL));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy, plain[4096];
	struct sip_nameaddr na;
	struct sip_uri u, w;
	struct slice s;
	struct buf b;

	if (size > sizeof(plain))
		return 0;
	copy = malloc(size ? size : 1);
	NEED(copy);
	memcpy(copy, data, size);
	s = slice_make(copy, size);
	buf_init(&b, plain, sizeof(plain));
	sip_unescape(s, &b);
	NEED(!b.full && b.len <= size);
	params_walk(s);
	if (sip_uri_parse(s, &u) == 0) {
		inside(s, u.scheme_text);
		inside(s, u.user);
		inside(s, u.password);
		inside(s, u.host);
		inside(s, u.params);
		inside(s, u.headers);
		inside(s, u.opaque);
		NEED(u.scheme == SIP_SCHEME_OTHER || u.scheme == SIP_SCHEME_TEL || u.host.len);
		NEED(sip_uri_equal(&u, &u));
		params_walk(u.params);
		/* compare with what its second half makes, both ways */
		if (size > 8 && sip_uri_parse(slice_make(copy, size / 2), &w) == 0)
			NEED(sip_uri_equal(&u, &w) == sip_uri_equal(&w, &u));
	}
	if (sip_nameaddr_parse(s, &na) == 0) {
		inside(s, na.display);
		inside(s, na.uri);
		inside(s, na.params);
		NEED(na.uri.len);
		params_walk(na.params);
	}
	free(copy);
	return 0;
}
