#include "resolver/job_p.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "base/log.h"

static const struct rr_set timed_out = {.refs = 1, .error = -ETIMEDOUT};
static const struct rr_set refused = {.refs = 1, .error = -EIO};
static const struct rr_set too_many = {.refs = 1, .error = -E2BIG};

struct job *job_create(const struct sip_uri *uri, const struct resolver_config *c, int *rc)
{
	struct plan plan;
	*rc = plan_init(&plan, uri, c->protos, c->ipv4, c->ipv6);
	if (*rc)
		return NULL;
	struct job *j = calloc(1, sizeof(*j));
	if (j)
		j->answer = calloc(1, sizeof(*j->answer));
	if (!j || !j->answer) {
		free(j);
		*rc = -ENOMEM;
		return NULL;
	}
	j->plan = plan;
	return j;
}

void job_destroy(struct job *j)
{
	for (unsigned i = 0; i < JOB_WAITS_MAX; i++)
		waiter_leave(&j->wait[i].waiter);
	for (unsigned i = 0; i < j->known_count; i++)
		rr_set_unref(j->known[i]);
	free(j->answer);
	free(j);
}

void jobs_init(struct jobs *js, uint64_t seed)
{
	*js = (struct jobs){.seed = seed};
	js->ready_end = &js->ready;
}

static void job_ready(struct job *j)
{
	struct jobs *js = j->jobs;
	if (j->ready)
		return;
	j->ready = true;
	j->ready_next = NULL;
	*js->ready_end = j;
	js->ready_end = &j->ready_next;
}

void jobs_start(struct jobs *js, struct job *j)
{
	j->jobs = js;
	js->seed += 0x9e3779b97f4a7c15u;
	j->plan.seed = hash_join(js->seed, js->seed >> 9);
	/* All have the same time, so the newest is nearly always the last; those asked at once may be swapped. */
	struct job *after = js->last;
	while (after && after->deadline > j->deadline)
		after = after->prev;
	j->prev = after;
	j->next = after ? after->next : js->first;
	*(after ? &after->next : &js->first) = j;
	*(j->next ? &j->next->prev : &js->last) = j;
	job_ready(j);
}

static void job_unlink(struct job *j)
{
	struct jobs *js = j->jobs;
	*(j->prev ? &j->prev->next : &js->first) = j->next;
	*(j->next ? &j->next->prev : &js->last) = j->prev;
}

static const struct rr_set *job_keep(struct job *j, struct rr_set *s)
{
	if (j->known_count == PLAN_SETS_MAX)
		return &too_many;
	j->known[j->known_count++] = rr_set_ref(s);
	return s;
}

static const struct rr_set *job_find(const struct job *j, enum rr_type type, const char *name)
{
	for (unsigned i = 0; i < j->known_count; i++)
		if (rr_set_is(j->known[i], type, name))
			return j->known[i];
	return NULL;
}

static void on_set(struct waiter *w, struct rr_set *s)
{
	struct job *j = ((struct job_wait *)w)->job;
	if (s)
		job_keep(j, s);
	else
		j->no_memory = true;
	if (--j->waiting == 0)
		job_ready(j);
}

/* What is known already, also to others; else the question is asked. */
static const struct rr_set *lookup(void *ctx, enum rr_type type, const char *name)
{
	struct job *j = ctx;
	struct jobs *js = j->jobs;
	const struct rr_set *s = job_find(j, type, name);
	if (s)
		return s;
	if (j->known_count + j->waiting >= PLAN_SETS_MAX)
		return &too_many;
	if (j->no_memory)
		return &refused;
	struct rr_set *kept = cache_get(js->cache, type, name, js->now);
	if (kept)
		return job_keep(j, kept);
	if (j->waiting == JOB_WAITS_MAX)
		return NULL;
	struct job_wait *w = &j->wait[j->waiting];
	w->job = j;
	w->waiter.done = on_set;
	int rc = queries_join(js->queries, type, name, &w->waiter);
	if (rc)
		return &refused;
	j->waiting++;
	j->asked = true;
	return NULL;
}

/* The time is over: what is not known now will not be. */
static const struct rr_set *lookup_late(void *ctx, enum rr_type type, const char *name)
{
	const struct job *j = ctx;
	const struct rr_set *s = job_find(j, type, name);
	return s ? s : &timed_out;
}

static void job_answer(struct job *j, const struct plan_result *r)
{
	static struct log_limiter limiter;
	uint64_t missed;
	struct jobs *js = j->jobs;
	struct resolver_answer *a = j->answer;
	struct mailbox *to = j->reply_to;
	int error = r->error;
	a->error = error;
	a->hop_count = error ? 0 : r->hop_count;
	memcpy(a->hop, r->hop, a->hop_count * sizeof(a->hop[0]));
	a->cached = !j->asked;
	count(error ? CNT_DNS_FAILED : a->cached ? CNT_DNS_CACHED : CNT_DNS_QUERIES);
	if ((error == -ETIMEDOUT || error == -EIO) && log_limit(&limiter, 1, &missed))
		log_warning("resolver", "look-up of %s failed: %s (%llu such lines left out)", j->plan.host,
			    error == -EIO ? "the name servers failed" : "no answer in time",
			    (unsigned long long)missed);
	job_unlink(j);
	j->answer = NULL;
	job_destroy(j);
	/* Before the answer: whoever has it may ask again. */
	atomic_fetch_sub_explicit(&js->under_way, 1, memory_order_relaxed);
	if (mailbox_post_always(to, &a->item))
		mailbox_wake(to);
}

static void job_run(struct job *j)
{
	struct plan_result r = {0};
	plan_run(&j->plan, lookup, j, &r);
	if (!r.pending)
		job_answer(j, &r);
}

static void job_late(struct job *j)
{
	struct plan_result r = {0};
	plan_run(&j->plan, lookup_late, j, &r);
	job_answer(j, &r);
}

static void ready_remove(struct jobs *js, struct job *j)
{
	struct job **at = &js->ready;
	while (*at != j)
		at = &(*at)->ready_next;
	*at = j->ready_next;
	if (!*at)
		js->ready_end = at;
	j->ready = false;
}

bool jobs_run(struct jobs *js)
{
	bool any = false;
	struct job *j;
	while ((j = js->ready) != NULL) {
		ready_remove(js, j);
		job_run(j);
		any = true;
	}
	while ((j = js->first) != NULL && j->deadline <= js->now) {
		job_late(j);
		any = true;
	}
	return any;
}

msec_t jobs_deadline(const struct jobs *js)
{
	return js->first ? js->first->deadline : UINT64_MAX;
}

void jobs_drop_all(struct jobs *js)
{
	struct job *j;
	while ((j = js->first) != NULL) {
		job_unlink(j);
		job_destroy(j);
	}
	js->ready = NULL;
	js->ready_end = &js->ready;
}
