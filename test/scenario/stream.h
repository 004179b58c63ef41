/* What the scenario tests of TCP and TLS have in common: a proxy with a listener of each kind. */
#ifndef TEST_SCENARIO_STREAM_H
#define TEST_SCENARIO_STREAM_H

#include <string.h>

#include "base/counters.h"
#include "harness.h"

/* To example.test two targets in order, at to.test any way that a URI says. */
#define S_CONF                                                                   \
	"listen \"udp:192.0.2.1:5060\" { }\n"                                    \
	"listen \"udp:192.0.2.1:5061\" { }\n"                                    \
	"listen \"udp:192.0.2.1:5062\" { }\n"                                    \
	"gateway \"gw\" { target = {\"sip:192.0.2.21\", \"sip:192.0.2.22\"} }\n" \
	"route \"gateway\" { domain = \"example.test\" gateway = \"gw\" }\n"     \
	"route \"elsewhere\" { dns = true }\n"
#define S_LISTENERS "udp:192.0.2.1:5060 tcp:192.0.2.1:5060 tls:192.0.2.1:5061"
#define S_UDP       0
#define S_TCP       1
#define S_TLS       2

static inline struct harness *s_start(void)
{
	struct harness *h = h_start_on(S_CONF, S_LISTENERS);
	h_retarget(h, 0, "sip:192.0.2.21;transport=tcp");
	h_retarget(h, 1, "sip:192.0.2.22;transport=tcp");
	counters_reset_all();
	return h;
}

/* The URI of the n-th Record-Route, without brackets. */
static inline const char *s_record_route(struct harness *h, const struct sip_msg *m, unsigned n)
{
	const char *rr = h_hdr(h, m, "Record-Route", n);
	if (!rr)
		fail_msg("no Record-Route %u in:\n%.*s", n, (int)m->len, m->buf);
	return h_keepf(h, "%.*s", (int)strcspn(rr + 1, ">"), rr + 1);
}

static inline bool s_ends(const char *text, const char *end)
{
	size_t n = strlen(text), e = strlen(end);
	return n >= e && strcmp(text + n - e, end) == 0;
}
#define s_assert_ends(text, end)                                          \
	do {                                                              \
		if (!s_ends(text, end))                                   \
			fail_msg("'%s' does not end in '%s'", text, end); \
	} while (0)

static inline const char *s_via(struct harness *h, const struct sip_msg *m)
{
	struct slice v = sip_slice(m, m->via.whole);
	return h_keepf(h, SLICE_FMT, SLICE_ARG(v));
}

#endif
