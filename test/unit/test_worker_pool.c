/* The workers under real acceptors and sockets, with a core that answers, records and resolves as it is told. */
#include <pthread.h>
#include <time.h>

#include "test_transport.h"
#include "worker/worker.h"

#define WORKERS 3

/* What all workers' cores have seen. */
static struct record {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned created, destroyed, received, failed, resolved, timers, reconfigured, commits;
	struct addr remote;
	char quoted[ACCEPTOR_QUOTE_MAX];
	size_t quoted_len;
	uint64_t ref;
	unsigned calls[WORKERS]; /* by worker, when it is destroyed */
	/* what should not have happened: a message at a worker that does not own it, two threads in one worker, a
	 * message that left before its commit */
	unsigned strangers;
} rec = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct proxy {
	struct proxy_env env;
	struct timer timer;
	const struct config *config;
	unsigned calls;
	bool inside;      /* one of the functions below is running */
	bool uncommitted; /* something was decided since the last commit */
};

static int watched = -1; /* the peer's socket: nothing may be in it before the commit */

static void note(unsigned *number)
{
	pthread_mutex_lock(&rec.lock);
	++*number;
	pthread_cond_signal(&rec.changed);
	pthread_mutex_unlock(&rec.lock);
}

static void await(const unsigned *number, unsigned want)
{
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&rec.lock);
	while (*number < want)
		if (pthread_cond_timedwait(&rec.changed, &rec.lock, &limit) != 0) {
			unsigned have = *number;
			pthread_mutex_unlock(&rec.lock);
			fail_msg("waited for %u, have %u", want, have);
		}
	pthread_mutex_unlock(&rec.lock);
}

static void on_timer(struct timer *t, msec_t now)
{
	struct proxy *p = container_of(t, struct proxy, timer);
	if (now != *p->env.now)
		note(&rec.strangers);
	note(&rec.timers);
}

static int core_create(const struct proxy_env *env, struct proxy **out)
{
	struct proxy *p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->env = *env;
	p->config = env->config;
	timer_init(&p->timer, on_timer);
	rec.created++;
	*out = p;
	return 0;
}

static void core_destroy(struct proxy *p)
{
	rec.destroyed++;
	rec.calls[p->env.worker] = p->calls;
	free(p);
}

/* One thread at a time, whichever it is: nothing here is atomic, so that ThreadSanitizer looks on too. */
static void enter(struct proxy *p)
{
	if (p->inside)
		note(&rec.strangers);
	p->inside = true;
}

static void check_owner(struct proxy *p, struct slice call_id)
{
	if (shard_worker(call_id, WORKERS) != p->env.worker || !p->env.lower.mine(p->env.lower.ctx, call_id))
		note(&rec.strangers);
	p->calls++;
}

/* The user part of the Request-URI says what to do. */
static void core_receive(struct proxy *p, struct packet *pk)
{
	struct slice ruri = sip_slice(pk->msg, pk->msg->ruri), call_id = sip_slice(pk->msg, pk->msg->call_id);
	enter(p);
	check_owner(p, call_id);
	p->uncommitted = true;
	if (slice_eq(ruri, SLICE_LIT("sip:timer@x"))) {
		timer_set(p->env.wheel, &p->timer, *p->env.now + 30);
	} else if (slice_eq(ruri, SLICE_LIT("sip:resolve@x"))) {
		struct sip_uri u = {.whole = ruri};
		if (p->env.lower.resolve(p->env.lower.ctx, &u, 4711) != 0)
			note(&rec.strangers);
	} else if (slice_eq(ruri, SLICE_LIT("sip:unreachable@x"))) {
		static char huge[65530]; /* more than a datagram can carry */
		memcpy(huge, "INVITE huge ", 12);
		p->env.lower.send(p->env.lower.ctx, &pk->flow, slice_make(huge, sizeof(huge)));
	} else {
		p->env.lower.send(p->env.lower.ctx, &pk->flow, call_id);
	}
	packet_destroy(pk);
	note(&rec.received);
	p->inside = false;
}

static void core_resolved(struct proxy *p, const struct resolver_answer *a)
{
	(void)p;
	pthread_mutex_lock(&rec.lock);
	rec.ref = a->ref;
	pthread_mutex_unlock(&rec.lock);
	note(&rec.resolved);
}

static void core_send_failed(struct proxy *p, const struct addr *remote, struct slice quoted)
{
	(void)p;
	pthread_mutex_lock(&rec.lock);
	rec.remote = *remote;
	rec.quoted_len = quoted.len;
	memcpy(rec.quoted, quoted.p, quoted.len);
	pthread_mutex_unlock(&rec.lock);
	note(&rec.failed);
}

static void core_conn_lost(struct proxy *p, uint64_t conn)
{
	(void)p, (void)conn;
}

static void core_reconfigure(struct proxy *p, const struct config *c)
{
	p->config = c;
	note(&rec.reconfigured);
}

static void core_commit(struct proxy *p)
{
	if (!p->uncommitted)
		return;
	p->uncommitted = false;
	if (watched >= 0 && !peer_is_empty(watched))
		note(&rec.strangers); /* something has left before its commit */
	note(&rec.commits);
}

static const struct worker_core core = {.create = core_create,
					.destroy = core_destroy,
					.receive = core_receive,
					.resolved = core_resolved,
					.send_failed = core_send_failed,
					.conn_lost = core_conn_lost,
					.reconfigure = core_reconfigure,
					.commit = core_commit};

/* Stands for the resolver: answers at once. */
int resolver_ask(struct resolver *r, const struct sip_uri *uri, struct mailbox *reply_to, unsigned kind,
		 uint64_t ref)
{
	struct resolver_answer *a = calloc(1, sizeof(*a));
	(void)r;
	(void)uri;
	if (!a)
		return -ENOMEM;
	a->item.kind = kind;
	a->ref = ref;
	if (mailbox_post_always(reply_to, &a->item) > 0)
		mailbox_wake(reply_to);
	return 0;
}

struct fixture {
	struct test_config t;
	struct udp *u;
	struct worker_pool *pool;
	struct acceptor *acceptor[2];
	struct proxy_shared shared;
	struct addr at, self;
	int peer;
};

static void fixture_open(struct fixture *f, bool start)
{
	static const char *const ip[] = {"127.0.0.1"};
	static const unsigned char secret[32];
	char err[200];
	memset(f, 0, sizeof(*f));
	memset((char *)&rec + offsetof(struct record, created), 0,
	       sizeof(rec) - offsetof(struct record, created));
	test_config_init(&f->t, 2, 1, ip);
	f->t.config.workers = WORKERS;
	assert_int_equal(udp_open(&f->t.config, &f->u, err, sizeof(err)), 0);
	f->at = f->u->bound[0];
	f->peer = peer_open("127.0.0.1", &f->self);
	struct worker_pool_config c = {.config = &f->t.config,
				       .secret = secret,
				       .shared = &f->shared,
				       .resolver = (struct resolver *)f, /* never looked into */
				       .udp = f->u,
				       .core = &core};
	assert_int_equal(worker_pool_create(&c, &f->pool), 0);
	assert_int_equal(worker_pool_count(f->pool), WORKERS);
	assert_int_equal(rec.created, WORKERS);
	for (unsigned i = 0; i < 2; i++) {
		struct acceptor_config ac = {.index = i, .udp = f->u};
		worker_pool_upper(f->pool, i, &ac.upper);
		assert_int_equal(acceptor_create(&ac, &f->acceptor[i]), 0);
	}
	if (start)
		assert_int_equal(worker_pool_start(f->pool), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(acceptor_start(f->acceptor[i]), 0);
}

static void fixture_close(struct fixture *f)
{
	for (unsigned i = 0; i < 2; i++)
		acceptor_stop(f->acceptor[i]);
	worker_pool_stop(f->pool);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_true(rec.received == 0 || worker_pool_depth(f->pool, i) == 0);
	worker_pool_destroy(f->pool);
	assert_int_equal(rec.destroyed, WORKERS);
	assert_int_equal(rec.strangers, 0);
	for (unsigned i = 0; i < 2; i++)
		acceptor_destroy(f->acceptor[i]);
	udp_close(f->u);
	close(f->peer);
	watched = -1;
}

static void send_request(struct fixture *f, const char *user, const char *call_id)
{
	char text[1000], start[100];
	snprintf(start, sizeof(start), "INVITE sip:%s@x SIP/2.0", user);
	peer_text(f->peer, &f->at, test_message(text, sizeof(text), start, call_id, "", "1 INVITE"));
}

/* Each message reaches its owner, and its answer comes back; messages of one call in their order. */
static void test_calls(void **state)
{
	enum { CALLS = 600, WINDOW = 50 };
	struct fixture f;
	uint64_t buckets[COUNTERS_LATENCY_BUCKETS], ns, seen = 0;
	static bool answered[CALLS];
	(void)state;
	fixture_open(&f, true);
	memset(answered, 0, sizeof(answered));
	for (unsigned i = 0; i < CALLS; i++) {
		char id[32], answer[100];
		snprintf(id, sizeof(id), "call-%u", i);
		send_request(&f, "echo", id);
		if (i + 1 < WINDOW)
			continue;
		/* Answers of different calls may overtake each other. */
		unsigned rest = i + 1 == CALLS ? WINDOW : 1;
		while (rest--) {
			unsigned n;
			peer_receive(f.peer, answer, sizeof(answer), NULL);
			assert_int_equal(sscanf(answer, "call-%u", &n), 1);
			assert_in_range(n, 0, CALLS - 1);
			assert_false(answered[n]);
			answered[n] = true;
		}
	}
	for (unsigned i = 0; i < WORKERS; i++)
		assert_true(worker_pool_alive(f.pool, i, clock_mono_ms()));
	fixture_close(&f);
	assert_int_equal(rec.received, CALLS);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_true(rec.calls[i] > 0);
	counters_sum_latency(buckets, &ns);
	for (unsigned i = 0; i < COUNTERS_LATENCY_BUCKETS; i++)
		seen += buckets[i];
	assert_true(seen >= CALLS);
	assert_true(counters_sum(CNT_MAILBOX_POSTED) >= CALLS);
}

static void test_commit_before_send(void **state)
{
	struct fixture f;
	char answer[100];
	(void)state;
	fixture_open(&f, false);
	watched = f.peer; /* before the threads that look at it */
	assert_int_equal(worker_pool_start(f.pool), 0);
	for (unsigned i = 0; i < 20; i++) {
		send_request(&f, "echo", "one");
		peer_receive(f.peer, answer, sizeof(answer), NULL);
		assert_string_equal(answer, "one");
	}
	fixture_close(&f);
	assert_int_equal(rec.commits, 20);
}

static void test_timer_wakes(void **state)
{
	struct fixture f;
	msec_t start = clock_mono_ms();
	(void)state;
	fixture_open(&f, true);
	send_request(&f, "timer", "t");
	await(&rec.timers, 1);
	assert_true(clock_mono_ms() - start >= 30);
	fixture_close(&f);
}

static void test_resolve(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, true);
	send_request(&f, "resolve", "r");
	await(&rec.resolved, 1);
	assert_true(rec.ref == 4711);
	fixture_close(&f);
}

/* What the kernel refuses at once comes back to the worker that sent it. */
static void test_send_failed(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, true);
	send_request(&f, "unreachable", "u");
	await(&rec.failed, 1);
	assert_true(addr_eq(&rec.remote, &f.self));
	assert_int_equal(rec.quoted_len, ACCEPTOR_QUOTE_MAX);
	assert_memory_equal(rec.quoted, "INVITE huge ", 12);
	fixture_close(&f);
	assert_int_equal(rec.failed, 1);
}

/* What comes back by ICMP could be anybody's: all workers hear of it. */
static void test_icmp(void **state)
{
	struct fixture f;
	struct addr gone;
	(void)state;
	fixture_open(&f, true);
	close(peer_open("127.0.0.1", &gone));
	peer_text(udp_socket(f.u, 0, 1)->fd, &gone, "INVITE lost");
	await(&rec.failed, WORKERS);
	assert_true(addr_eq(&rec.remote, &gone));
	assert_int_equal(rec.quoted_len, 11);
	fixture_close(&f);
	assert_int_equal(rec.failed, WORKERS);
}

static void test_reconfigure(void **state)
{
	struct fixture f;
	struct config other;
	char answer[100];
	(void)state;
	fixture_open(&f, true);
	other = f.t.config;
	for (unsigned i = 1; i <= 10; i++) {
		send_request(&f, "echo", "busy");
		worker_pool_reconfigure(f.pool, i % 2 ? &other : &f.t.config);
		pthread_mutex_lock(&rec.lock);
		assert_int_equal(rec.reconfigured, i * WORKERS); /* done when the call returns */
		pthread_mutex_unlock(&rec.lock);
		peer_receive(f.peer, answer, sizeof(answer), NULL);
	}
	fixture_close(&f);
}

/* Callers that each wait for their answer, while timers fire and main posts too: acceptors and the workers' own threads
 * pass the workers to and fro, and nothing may be left lying. */
#define CALLERS 4
#define ROUNDS  1500

static struct fixture *stressed;
static _Atomic unsigned callers_done;

static void *caller(void *arg)
{
	struct addr self;
	int fd = peer_open("127.0.0.1", &self);
	for (unsigned i = 0; i < ROUNDS; i++) {
		char text[1000], id[32], answer[64];
		snprintf(id, sizeof(id), "%s-%u", (const char *)arg, i);
		if (i % 64 == 0)
			peer_text(fd, &stressed->at,
				  test_message(text, sizeof(text), "INVITE sip:timer@x SIP/2.0", id, "",
					       "1 INVITE"));
		peer_text(fd, &stressed->at,
			  test_message(text, sizeof(text), "INVITE sip:echo@x SIP/2.0", id, "", "1 INVITE"));
		peer_receive(fd, answer, sizeof(answer), NULL);
		assert_string_equal(answer, id);
	}
	close(fd);
	atomic_fetch_add(&callers_done, 1);
	return NULL;
}

static void test_stress(void **state)
{
	static char *const name[CALLERS] = {"a", "b", "c", "d"};
	struct fixture f;
	pthread_t id[CALLERS];
	(void)state;
	fixture_open(&f, true);
	stressed = &f;
	callers_done = 0;
	for (unsigned i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&id[i], NULL, caller, name[i]), 0);
	while (atomic_load(&callers_done) < CALLERS)
		worker_pool_reconfigure(f.pool, &f.t.config);
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(id[i], NULL);
	fixture_close(&f);
	assert_int_equal(rec.received, CALLERS * (ROUNDS + (ROUNDS + 63) / 64));
}

/* Workers that never ran: what is in their mailboxes is freed. */
static void test_never_started(void **state)
{
	struct fixture f;
	char answer[1000];
	(void)state;
	fixture_open(&f, false);
	for (unsigned i = 0; i < 5; i++)
		send_request(&f, "echo", i % 2 ? "a" : "b");
	peer_text(f.peer, &f.at,
		  test_message(answer, sizeof(answer), "OPTIONS sip:x SIP/2.0", "c", "", "1 INVITE"));
	peer_receive(f.peer, answer, sizeof(answer), NULL); /* 400: the acceptor has seen all */
	fixture_close(&f);
	assert_int_equal(rec.received, 0);
}

static struct fixture oom;

static void pool_body(void)
{
	struct worker_pool_config c = {
		.config = &oom.t.config, .shared = &oom.shared, .udp = oom.u, .core = &core};
	struct worker_pool *pool;
	if (worker_pool_create(&c, &pool) < 0)
		assert_true(alloc_failed());
	else
		worker_pool_destroy(pool);
}

static void test_oom(void **state)
{
	(void)state;
	fixture_open(&oom, true);
	UNIT_OOM(pool_body);
	rec.destroyed = 0; /* those of pool_body */
	fixture_close(&oom);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),       cmocka_unit_test(test_commit_before_send),
		cmocka_unit_test(test_timer_wakes), cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_send_failed), cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_reconfigure), cmocka_unit_test(test_never_started),
		cmocka_unit_test(test_stress),      cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
