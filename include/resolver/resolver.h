/* Finding where a URI leads (RFC 3263): a plan of NAPTR, SRV, A and AAAA look-ups, done with c-ares in a thread of its
 * own, with a cache. Workers ask by resolver_ask and get the answer in their mailbox. */
#ifndef RESOLVER_RESOLVER_H
#define RESOLVER_RESOLVER_H

#include "base/flow.h"
#include "base/mailbox.h"
#include "sip/uri.h"

#define RESOLVER_HOPS_MAX 16

struct resolver_hop {
	uint8_t proto; /* enum flow_proto */
	struct addr addr;
};

struct resolver_answer {
	struct mailbox_item item; /* item.kind as given to resolver_ask */
	uint64_t ref;             /* as given */
	int error; /* 0, or -ENOENT (no such name, no records), -ETIMEDOUT, -EIO (servers failed), -E2BIG,
	                           * -EPROTONOSUPPORT (no transport in common) */
	unsigned hop_count; /* with error 0: at least one, in the order to try (RFC 2782 weights drawn afresh
	                           * for each answer) */
	struct resolver_hop hop[RESOLVER_HOPS_MAX];
	bool cached; /* answered without asking a server */
};

struct resolver_config {
	const char *server; /* "ip:port" or "" for /etc/resolv.conf */
	uint32_t timeout;   /* ms, for a whole plan */
	unsigned cache; /* entries; oldest out first; TTLs honoured, at most 1 h; a failure is kept for 5 s */
	unsigned max_queries; /* look-ups under way; beyond it resolver_ask gives -ENOBUFS */
	unsigned protos;      /* bit mask 1 << FLOW_*: transports that we can send on */
	bool ipv4, ipv6;      /* address families that we can send from */
};

struct resolver;

/* Main thread. Starts the thread. 0 or -errno. */
int resolver_create(const struct resolver_config *c, struct resolver **out);
/* Main thread, after the workers have ended: stops the thread; answers not delivered are dropped. */
void resolver_destroy(struct resolver *r);

/* Any thread, no look-up: the hops of a URI whose host (or maddr) is an IP address. 0, -EAGAIN (a name: resolver_ask),
 * -EPROTONOSUPPORT, -EINVAL (not sip or sips, unknown transport). Pure. */
int resolver_literal(const struct sip_uri *uri, unsigned protos, struct resolver_hop *out);

/* Any thread. Asks for the hops of `uri` (copied); the answer is posted to `reply_to` with `kind` and `ref`, always
 * exactly once if this returned 0, and freed by the receiver with free(). -ENOBUFS, -ENOMEM, -EINVAL. Never blocks. */
int resolver_ask(struct resolver *r, const struct sip_uri *uri, struct mailbox *reply_to, unsigned kind,
		 uint64_t ref);

/* any thread: for /healthz: made progress in the last 5 s */
bool resolver_alive(const struct resolver *r, msec_t now);

#endif
