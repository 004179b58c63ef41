/* Which targets of the gateways answer their probes. One block for each configuration; worker 0 probes and writes,
 * every worker reads. */
#ifndef PROXY_GATEWAY_H
#define PROXY_GATEWAY_H

#include <stdatomic.h>

#include "base/buf.h"
#include "config/config.h"

struct gateway_states {
	unsigned count;
	struct gateway_state {
		_Atomic unsigned down;   /* atomic: 1: the last probe failed */
		_Atomic uint64_t rtt;    /* atomic: ns of the last answered probe; 0: none yet */
		_Atomic uint64_t probes; /* atomic */
		_Atomic uint64_t failed; /* atomic: probes without an answer, or with 503 */
	} state[];                       /* the targets of all gateways, in order */
};

/* Main thread: for a new configuration; put it into proxy_shared.states before the workers get the configuration, and
 * free the old one with free() after they have. NULL: no memory. */
struct gateway_states *gateway_states_create(const struct config *c);
/* Any thread: gateway and target of the index-th state. */
void gateway_states_name(const struct config *c, unsigned index, const char **gateway, const char **target);

#endif
