#include "control/server.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <signal.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "control/http.h"
#include "proxy/gateway.h"
#include "server_p.h"
#include "store/store.h"

static const struct worker_core core = {
	.create = proxy_create,
	.destroy = proxy_destroy,
	.receive = proxy_receive,
	.resolved = proxy_resolved,
	.send_failed = proxy_send_failed,
	.reconfigure = proxy_reconfigure,
};

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void server_block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* --- start --- */

static int start_store(struct server *s, unsigned char secret[static STORE_SECRET_LEN], char *err,
		       size_t errlen)
{
	int rc = store_open(s->config->store.path, s->config->store.map_size, &s->store, err, errlen);
	if (rc < 0)
		return rc;
	rc = store_secret(s->store, secret);
	if (rc < 0)
		snprintf(err, errlen, "store %s: the secret cannot be read or written: %s",
			 s->config->store.path, strerror(-rc));
	return rc;
}

static int start_resolver(struct server *s)
{
	const struct config *c = s->config;
	struct resolver_config rc = {.server = c->dns.server,
				     .timeout = c->dns.timeout,
				     .cache = c->dns.cache,
				     .max_queries = c->dns.max_queries};

	for (unsigned i = 0; i < c->listen_count; i++) {
		rc.protos |= 1u << c->listen[i].proto;
		rc.ipv4 = rc.ipv4 || c->listen[i].addr.family == AF_INET;
		rc.ipv6 = rc.ipv6 || c->listen[i].addr.family == AF_INET6;
	}
	return resolver_create(&rc, &s->resolver);
}

static uint32_t retry_after(const struct config *c)
{
	return (c->drain.retry_after + 999) / 1000;
}

static int start_threads(struct server *s, const unsigned char *secret)
{
	const struct config *c = s->config;
	struct worker_pool_config wc = {.config = c,
					.secret = secret,
					.shared = &s->shared,
					.resolver = s->resolver,
					.udp = s->udp,
					.core = &core};
	int rc = worker_pool_create(&wc, &s->workers);

	if (rc < 0)
		return rc;
	s->acceptor = calloc(c->acceptors, sizeof(struct acceptor *));
	if (!s->acceptor)
		return -ENOMEM;
	s->acceptor_count = c->acceptors;
	for (unsigned i = 0; i < c->acceptors; i++) {
		struct acceptor_config ac = {
			.index = i, .udp = s->udp, .gather = c->gather, .retry_after = retry_after(c)};
		worker_pool_upper(s->workers, i, &ac.upper);
		if ((rc = acceptor_create(&ac, &s->acceptor[i])) < 0)
			return rc;
	}
	if ((rc = worker_pool_start(s->workers)) < 0)
		return rc;
	for (unsigned i = 0; i < c->acceptors; i++)
		if ((rc = acceptor_start(s->acceptor[i])) < 0)
			return rc;
	return 0;
}

static int start_http(struct server *s, char *err, size_t errlen)
{
	struct http_source src;

	if (!s->config->stats.listen_text[0])
		return 0;
	server_http_source(s, &src);
	int rc = http_start(&s->config->stats.listen, &src, &s->http);
	if (rc < 0)
		snprintf(err, errlen, "stats.listen %s: %s", s->config->stats.listen_text, strerror(-rc));
	return rc;
}

static void say_hello(const struct server *s)
{
	const struct config *c = s->config;
	char a[ADDR_STRLEN];

	for (unsigned i = 0; i < c->listen_count; i++)
		log_info("main", "listening on udp:%s", addr_str(&s->udp->bound[i], a));
	if (s->http) {
		struct addr stats = c->stats.listen;
		stats.port = http_port(s->http);
		log_info("main", "metrics on http://%s/metrics", addr_str(&stats, a));
	}
	log_info("main", "holdfast " HOLDFAST_VERSION " is ready: %u worker%s, %u acceptor%s, store %s",
		 c->workers, c->workers == 1 ? "" : "s", c->acceptors, c->acceptors == 1 ? "" : "s",
		 c->store.path);
}

int server_start(struct config *c, const struct server_source *src, struct server **out, char *err,
		 size_t errlen)
{
	unsigned char secret[STORE_SECRET_LEN];
	struct server *s = calloc(1, sizeof(*s));
	struct gateway_states *states = NULL;
	uint64_t seed;
	int rc = -ENOMEM;

	err[0] = 0;
	if (!s) {
		config_destroy(c);
		goto out_text;
	}
	s->config = c;
	s->source = *src;
	pthread_mutex_init(&s->report, NULL);
	counters_use(counters_create());
	if (gnutls_rnd(GNUTLS_RND_NONCE, &seed, sizeof(seed)) < 0) {
		rc = -EIO;
		goto out_text;
	}
	hash_init(seed);
	if (!(states = gateway_states_create(c)))
		goto out_text;
	atomic_store(&s->shared.states, states);
	if ((rc = start_store(s, secret, err, errlen)) < 0)
		goto out_text;
	if ((rc = udp_open(c, &s->udp, err, errlen)) < 0)
		goto out_text;
	if ((rc = start_resolver(s)) < 0) {
		snprintf(err, errlen, "dns: the resolver cannot be started: %s", strerror(-rc));
		goto out_text;
	}
	if ((rc = start_http(s, err, errlen)) < 0)
		goto out_text;
	if ((rc = start_threads(s, secret)) < 0)
		goto out_text;
	gnutls_memset(secret, 0, sizeof(secret));
	atomic_store_explicit(&s->ready, true, memory_order_release);
	say_hello(s);
	*out = s;
	return 0;
out_text:
	if (!err[0])
		snprintf(err, errlen, "cannot start: %s", strerror(-rc));
	server_destroy(s);
	return rc;
}

/* --- the end --- */

void server_destroy(struct server *s)
{
	if (!s)
		return;
	/* First those who bring work, then those who do it, then what they use. HTTP reads from them all. */
	if (s->http)
		http_stop(s->http);
	for (unsigned i = 0; i < s->acceptor_count; i++)
		if (s->acceptor[i])
			acceptor_stop(s->acceptor[i]);
	if (s->workers)
		worker_pool_stop(s->workers);
	if (s->resolver)
		resolver_destroy(s->resolver);
	worker_pool_destroy(s->workers);
	for (unsigned i = 0; i < s->acceptor_count; i++)
		acceptor_destroy(s->acceptor[i]);
	free(s->acceptor);
	udp_close(s->udp);
	if (s->store)
		store_close(s->store);
	free(atomic_load(&s->shared.states));
	config_destroy(s->config);
	free(s);
}

/* --- signals --- */

static uint64_t work_left(const struct server *s)
{
	return atomic_load(&s->shared.inflight) + counters_sum(CNT_TXN_NIST_TRYING) +
	       counters_sum(CNT_TXN_NIST_PROCEEDING);
}

/* No new calls; those being set up go on. Looks several times a second whether any is left: there is nobody who could
 * say so without slowing every call's end. */
static void server_drain(struct server *s, const sigset_t *set)
{
	struct timespec tick = {0, 20000000};
	msec_t end = clock_mono_ms() + s->config->drain.timeout;

	atomic_store(&s->shared.draining, 1);
	log_info("main", "draining: %llu transactions are under way, at most %u s",
		 (unsigned long long)work_left(s), s->config->drain.timeout / 1000);
	while (work_left(s) > 0 && clock_mono_ms() < end) {
		int sig = sigtimedwait(set, NULL, &tick);
		if (sig == SIGTERM || sig == SIGINT) {
			log_info("main", "second signal: ending at once");
			return;
		}
	}
	if (work_left(s) > 0)
		log_warning("main", "drain.timeout: ending with %llu transactions under way",
			    (unsigned long long)work_left(s));
}

void server_run(struct server *s)
{
	sigset_t set;

	signal_set(&set);
	for (;;) {
		int sig = sigwaitinfo(&set, NULL);
		if (sig == SIGHUP)
			server_reload(s);
		else if (sig == SIGTERM || sig == SIGINT)
			break;
	}
	server_drain(s, &set);
	log_info("main", "ended as asked");
}
