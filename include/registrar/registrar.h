/* The registrar's rules: what a REGISTER does to the bindings of its address of record (RFC 3261 10.3, RFC 3327, RFC
 * 5626). No sockets, no clock, no threads: a function from a request and a set of bindings to an answer and a new
 * set. */
#ifndef REGISTRAR_REGISTRAR_H
#define REGISTRAR_REGISTRAR_H

#include "config/config.h"
#include "registrar/location.h"
#include "sip/message.h"

#define REGISTRAR_EXTRA_MAX 32768 /* bytes of the header lines of an answer */

struct registrar_args {
	const struct sip_msg *m;            /* a REGISTER for the domain, well-formed, from whom may send it */
	const struct flow *flow;            /* what it came over */
	const struct config_domain *domain; /* its rules */
	struct slice aor;                   /* location_aor of its To */
	uint64_t now;                       /* ms of the wall clock */
};

struct registrar_answer {
	unsigned status;
	const char *reason; /* NULL: the default */
	/* header lines, each ended by CRLF; over memory of the caller, REGISTRAR_EXTRA_MAX bytes */
	struct buf extra;
	bool changed; /* something was written: the answer may leave only after the commit */
	int error;    /* why the store could not do it: -errno; 0 otherwise */
	bool attach; /* a binding depends on the connection that the request came over: its end is to be watched */
};

/* By write transaction `t`, of which it does its part or nothing: all contacts of the request, or none. out->extra is
 * set up by the caller. Never fails: a store that cannot be written makes a 500. */
void registrar_apply(struct store_txn *t, const struct registrar_args *a, struct registrar_answer *out);

#endif
