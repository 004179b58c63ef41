#include "resolver/resolver.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "resolver/dns_p.h"
#include "resolver/job_p.h"

#define EVENTS       64
#define TURN_MAX     1000   /* ms: the thread shows that it lives at least so often */
#define ALIVE_WITHIN 5000   /* ms */
#define QUERIES_MAX  200000 /* largest max_queries */

struct resolver {
	struct resolver_config config; /* const; server is not kept */
	pthread_t thread;              /* main */
	int epoll_fd, event_fd;        /* const */
	struct dns *dns;               /* resolver */
	struct jobs jobs;              /* resolver, but for under_way */
	struct mailbox inbox;          /* any thread posts */
	_Atomic unsigned sleeping;     /* atomic: 1 while the thread waits in epoll, or is about to */
	_Atomic bool stop;             /* atomic: main sets it */
	_Atomic msec_t beat;           /* atomic: when the thread last came round */
};

int resolver_literal(const struct sip_uri *uri, unsigned protos, struct resolver_hop *out)
{
	struct plan plan;
	struct plan_result r;
	int rc = plan_init(&plan, uri, protos, true, true);
	if (rc)
		return rc;
	if (plan.literal.family == 0)
		return -EAGAIN;
	plan_run(&plan, NULL, NULL, &r);
	if (r.error)
		return r.error;
	*out = r.hop[0];
	return 0;
}

/* The mailbox wakes by futex, the thread sleeps in epoll: an eventfd tells it. Both sides exchange `sleeping`: either
 * this exchange comes first, and the thread sees the post when it looks once more, or we see that it sleeps. */
static void wake(struct resolver *r)
{
	const uint64_t one = 1;
	if (atomic_exchange(&r->sleeping, 0) && write(r->event_fd, &one, sizeof(one)) < 0)
		log_debug("resolver", "eventfd: it is full, so it will wake all the same");
}

int resolver_ask(struct resolver *r, const struct sip_uri *uri, struct mailbox *reply_to, unsigned kind,
		 uint64_t ref)
{
	int rc;
	if (atomic_fetch_add_explicit(&r->jobs.under_way, 1, memory_order_relaxed) >= r->config.max_queries) {
		count(CNT_DNS_REFUSED);
		rc = -ENOBUFS;
		goto out;
	}
	struct job *j = job_create(uri, &r->config, &rc);
	if (!j)
		goto out;
	j->answer->item.kind = kind;
	j->answer->ref = ref;
	j->reply_to = reply_to;
	j->deadline = clock_mono_ms() + r->config.timeout;
	mailbox_post_always(&r->inbox, &j->item);
	wake(r);
	return 0;
out:
	atomic_fetch_sub_explicit(&r->jobs.under_way, 1, memory_order_relaxed);
	return rc;
}

static void on_seen(void *ctx, struct rr_set *s)
{
	struct resolver *r = ctx;
	cache_put(r->jobs.cache, s, r->jobs.now);
}

static void inbox_drain(struct resolver *r)
{
	struct mailbox_item *it;
	while ((it = mailbox_take(&r->inbox)) != NULL)
		jobs_start(&r->jobs, (struct job *)it);
}

/* How long the thread may sleep, ms. */
static int turn_time(struct resolver *r)
{
	int max = TURN_MAX;
	msec_t deadline = jobs_deadline(&r->jobs);
	if (queries_backlog(r->jobs.queries))
		max = 1;
	else if (deadline <= r->jobs.now)
		max = 0;
	else if (deadline - r->jobs.now < TURN_MAX)
		max = (int)(deadline - r->jobs.now);
	return dns_wait(r->dns, max);
}

static int turn_sleep(struct resolver *r, struct epoll_event ev[static EVENTS])
{
	int timeout = turn_time(r);
	atomic_exchange(&r->sleeping, 1);
	if (mailbox_depth(&r->inbox) || atomic_load(&r->stop))
		timeout = 0;
	int n = epoll_wait(r->epoll_fd, ev, EVENTS, timeout);
	atomic_exchange(&r->sleeping, 0);
	return n;
}

static void *resolver_main(void *arg)
{
	struct resolver *r = arg;
	struct epoll_event ev[EVENTS];
	counters_use(counters_create());
	while (!atomic_load(&r->stop)) {
		r->jobs.now = clock_mono_ms();
		atomic_store_explicit(&r->beat, r->jobs.now, memory_order_relaxed);
		inbox_drain(r);
		do
			queries_pump(r->jobs.queries, r->jobs.now);
		while (jobs_run(&r->jobs));
		int n = turn_sleep(r, ev);
		r->jobs.now = clock_mono_ms();
		for (int i = 0; i < n; i++) {
			uint64_t v;
			if (ev[i].data.fd != r->event_fd)
				dns_event(r->dns, ev[i].data.fd, ev[i].events);
			else if (read(r->event_fd, &v, sizeof(v)) < 0 && errno != EAGAIN)
				log_debug("resolver", "eventfd cannot be read");
		}
		dns_tick(r->dns);
	}
	counters_use(NULL);
	return NULL;
}

static int thread_start(struct resolver *r)
{
	sigset_t all, old;
	/* Signals are main's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&r->thread, NULL, resolver_main, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(r->thread, "resolver");
	return -rc;
}

static void resolver_free(struct resolver *r)
{
	struct mailbox_item *it;
	while ((it = mailbox_take(&r->inbox)) != NULL)
		job_destroy((struct job *)it);
	jobs_drop_all(&r->jobs);
	dns_destroy(r->dns);
	queries_destroy(r->jobs.queries);
	cache_destroy(r->jobs.cache);
	mailbox_deinit(&r->inbox);
	if (r->event_fd >= 0)
		close(r->event_fd);
	if (r->epoll_fd >= 0)
		close(r->epoll_fd);
	free(r);
}

int resolver_create(const struct resolver_config *c, struct resolver **out)
{
	uint64_t seed;
	struct epoll_event ev = {.events = EPOLLIN};
	if (c->max_queries == 0 || c->max_queries > QUERIES_MAX || (!c->ipv4 && !c->ipv6))
		return -EINVAL;
	struct resolver *r = aligned_alloc(_Alignof(struct resolver), sizeof(*r)); /* the mailbox asks for it */
	if (!r)
		return -ENOMEM;
	memset(r, 0, sizeof(*r));
	r->config = *c;
	r->config.server = NULL;
	mailbox_init(&r->inbox, c->max_queries);
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = clock_wall_ns();
	jobs_init(&r->jobs, seed);
	r->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	ev.data.fd = r->event_fd;
	int rc = 0;
	if (r->event_fd < 0 || r->epoll_fd < 0 || epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->event_fd, &ev) < 0)
		rc = -errno;
	struct dns_config dc = {c->server, c->timeout, c->ipv4, c->ipv6};
	if (!rc)
		rc = dns_create(&dc, r->epoll_fd, &r->dns);
	if (rc)
		goto out;
	rc = -ENOMEM;
	r->jobs.cache = cache_create(c->cache);
	r->jobs.queries = queries_create(r->dns, c->max_queries * JOB_WAITS_MAX, on_seen, r);
	if (!r->jobs.cache || !r->jobs.queries)
		goto out;
	atomic_store(&r->beat, clock_mono_ms());
	rc = thread_start(r);
	if (rc)
		goto out;
	*out = r;
	return 0;
out:
	resolver_free(r);
	return rc;
}

void resolver_destroy(struct resolver *r)
{
	if (!r)
		return;
	atomic_store(&r->stop, true);
	wake(r);
	pthread_join(r->thread, NULL);
	resolver_free(r);
}

bool resolver_alive(const struct resolver *r, msec_t now)
{
	msec_t beat = atomic_load_explicit(&r->beat, memory_order_relaxed);
	return now <= beat + ALIVE_WITHIN;
}
