/* RFC 3263 4.1 and 4.2 as a pure function: from a URI, and from the records that are known, to hops. */
#ifndef RESOLVER_PLAN_P_H
#define RESOLVER_PLAN_P_H

#include "resolver/resolver.h"
#include "resolver/rr_p.h"

#define PLAN_PROTO_NONE FLOW_PROTO_COUNT
/* Sets that one plan can ask for: its NAPTR, SRV for the records of it, addresses of the targets. */
#define PLAN_SETS_MAX 40

struct plan {
	char host[RR_NAME_SIZE]; /* maddr or the host, when it is a name */
	struct addr literal;     /* when it is an address; else family 0 */
	uint16_t port;           /* 0: not given */
	uint8_t proto;           /* enum flow_proto, or PLAN_PROTO_NONE: not given */
	bool secure;             /* sips: */
	bool ipv4, ipv6;         /* families wanted */
	unsigned protos;         /* 1 << FLOW_*: what may come out */
	uint64_t seed;           /* of the draws by weight: the same seed and records give the same order */
};

struct plan_result {
	bool pending; /* something is not known yet: what follows is not final */
	int error;    /* as resolver_answer's */
	unsigned hop_count;
	struct resolver_hop hop[RESOLVER_HOPS_MAX];
};

/* The records for a question, or NULL when they are not known yet (the plan goes on to questions that do not depend
 * on them, so that these can be asked together). */
typedef const struct rr_set *plan_lookup_fn(void *ctx, enum rr_type type, const char *name);

/* 0, or -EINVAL: not sip or sips, unknown transport, no host name. */
int plan_init(struct plan *p, const struct sip_uri *uri, unsigned protos, bool ipv4, bool ipv6);
void plan_run(const struct plan *p, plan_lookup_fn *lookup, void *ctx, struct plan_result *out);

#endif
