/* Look-ups under way: one a question, however many jobs wait for it. Resolver thread. */
#ifndef RESOLVER_QUERY_P_H
#define RESOLVER_QUERY_P_H

#include "resolver/dns_p.h"
#include "resolver/rr_p.h"

struct waiter {
	struct waiter *next, **link; /* link NULL: does not wait */
	/* The set, borrowed, or NULL: no memory. The waiter is unlinked already. */
	void (*done)(struct waiter *w, struct rr_set *s);
};

struct queries;

/* `limit`: questions under way; those beyond it are refused. `finished` sees each set first (to keep it). */
typedef void queries_seen_fn(void *ctx, struct rr_set *s);
struct queries *queries_create(struct dns *dns, unsigned limit, queries_seen_fn *seen, void *ctx);
/* After dns_destroy: waiters must be gone. */
void queries_destroy(struct queries *qs);

/* Waits for the answer to a question, which is asked by the next queries_pump if it is not under way. 0, -ENOBUFS,
 * -ENOMEM. */
int queries_join(struct queries *qs, enum rr_type type, const char *name, struct waiter *w);
void waiter_leave(struct waiter *w); /* does nothing if it does not wait */

/* Asks what is due to be asked. Waiters may be told within. */
void queries_pump(struct queries *qs, msec_t now);
/* True while questions are held back. */
bool queries_backlog(const struct queries *qs);

#endif
