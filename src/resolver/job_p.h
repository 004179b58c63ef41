/* One question of a worker, from resolver_ask to its answer. */
#ifndef RESOLVER_JOB_P_H
#define RESOLVER_JOB_P_H

#include "resolver/cache_p.h"
#include "resolver/plan_p.h"
#include "resolver/query_p.h"

#define JOB_WAITS_MAX 8 /* look-ups that one job has under way at a time */

struct jobs;
struct job;

struct job_wait {
	struct waiter waiter; /* first */
	struct job *job;
};

struct job {
	struct mailbox_item item; /* on its way to the resolver thread */
	struct jobs *jobs;
	struct job *next, *prev; /* by deadline */
	struct job *ready_next;
	struct resolver_answer *answer; /* made by resolver_ask, so that no answer is lost for want of memory */
	struct mailbox *reply_to;
	msec_t deadline;
	struct plan plan;
	bool ready;       /* to be run */
	bool asked;       /* waited for a server at least once */
	bool no_memory;   /* for a set that came: the plan must do without what it does not know */
	unsigned waiting; /* look-ups not answered yet */
	unsigned known_count;
	struct rr_set *known[PLAN_SETS_MAX];
	struct job_wait wait[JOB_WAITS_MAX];
};

/* The jobs of a resolver. Resolver thread, but for `under_way`. */
struct jobs {
	struct cache *cache;
	struct queries *queries;
	struct job *first, *last; /* by deadline */
	struct job *ready, **ready_end;
	uint64_t seed;              /* of the draws */
	_Atomic unsigned under_way; /* atomic: asked and not answered */
	msec_t now;
};

void jobs_init(struct jobs *js, uint64_t seed);
void jobs_start(struct jobs *js, struct job *j);
/* Runs what is ready and ends what is late. True when something was done. */
bool jobs_run(struct jobs *js);
/* When the first deadline is; UINT64_MAX: none. */
msec_t jobs_deadline(const struct jobs *js);
void jobs_drop_all(struct jobs *js);

struct job *job_create(const struct sip_uri *uri, const struct resolver_config *c, int *rc);
void job_destroy(struct job *j);

#endif
