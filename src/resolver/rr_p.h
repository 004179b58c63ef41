/* Names and record sets. Record sets are shared by the cache and the jobs, all of them the resolver thread's. */
#ifndef RESOLVER_RR_P_H
#define RESOLVER_RR_P_H

#include "base/addr.h"
#include "base/clock.h"
#include "base/flow.h"
#include "base/slice.h"

#define RR_NAME_SIZE 254  /* bytes: 253 of a name without its last dot, and NUL */
#define RR_MAX       32   /* records kept of one set */
#define RR_TTL_MAX   3600 /* s */

enum rr_type { RR_ADDR, RR_SRV, RR_NAPTR };

struct rr_srv {
	uint16_t priority, weight, port;
	char target[RR_NAME_SIZE]; /* "": the service is decidedly not available (RFC 2782) */
};

struct rr_naptr {
	uint16_t order, preference;
	char flag;     /* 's' or 'a' */
	bool secure;   /* SIPS+… */
	uint8_t proto; /* enum flow_proto; FLOW_PROTO_COUNT: a SIP service over something else */
	char target[RR_NAME_SIZE];
};

union rr {
	struct addr addr; /* port 0 */
	struct rr_srv srv;
	struct rr_naptr naptr;
};

struct rr_set {
	unsigned refs;
	enum rr_type type;
	int error;      /* 0, or -ENOENT, -ETIMEDOUT, -EIO: then there are no records */
	uint32_t ttl;   /* s */
	unsigned count; /* with error 0: at least one */
	char name[RR_NAME_SIZE];
	union rr rr[];
};

/* A host name in lower case without its last dot. 0, or -EINVAL: too long, or a label that is not of letters, digits,
 * '-' and '_'. */
int rr_name(struct slice text, char out[static RR_NAME_SIZE]);
/* `prefix` before `name`. 0 or -E2BIG. */
int rr_name_join(const char *prefix, const char *name, char out[static RR_NAME_SIZE]);

/* A set with room for `count` records and one reference. NULL: no memory. */
struct rr_set *rr_set_create(enum rr_type type, const char *name, int error, unsigned count);
struct rr_set *rr_set_ref(struct rr_set *s);
void rr_set_unref(struct rr_set *s); /* NULL does nothing */
bool rr_set_is(const struct rr_set *s, enum rr_type type, const char *name);
uint64_t rr_hash(enum rr_type type, const char *name);

/* The SRV or NAPTR records for `name` in a server's reply, behind its CNAMEs. What cannot be used is left out. 0 with a
 * set (perhaps of error -ENOENT), -EBADMSG or -ENOMEM. A pure function of its input. */
int rr_parse(enum rr_type type, const char *name, const unsigned char *msg, int len, struct rr_set **out);

#endif
