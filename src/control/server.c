#include "control/server.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/hash.h"
#include "control.h"
#include "control/http.h"
#include "keeper.h"
#include "proxy/gateway.h"
#include "registrar/digest.h"
#include "server_p.h"
#include "store/store.h"
#include "takeover.h"
#include "transport/conn.h"

static const struct worker_core core = {
	.create = proxy_create,
	.destroy = proxy_destroy,
	.receive = proxy_receive,
	.resolved = proxy_resolved,
	.send_failed = proxy_send_failed,
	.conn_lost = proxy_conn_lost,
	.reconfigure = proxy_reconfigure,
	.commit = proxy_commit,
	.flush = proxy_flush,
};

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void server_hold_reload(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void server_block_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* a new process that could not take over leaves nothing behind */
	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* --- start --- */

/* The certificates, which are the likeliest to be wrong, are read before the old process gives anything away. */
static int take_over(struct server *s, char *err, size_t errlen)
{
	int rc = streams_check(s->config, err, errlen);

	if (rc < 0)
		return rc;
	rc = takeover_receive(s->config, &s->inherited, err, errlen);
	if (rc == -EPIPE || rc == -ECONNRESET) {
		/* It has ended in the middle of it, and nobody serves: the store has the calls, as after a crash. */
		log_error("main", "%s; starting as usual", err);
		inherit_deinit(&s->inherited);
		s->inherited = (struct inheritance){0};
		err[0] = 0;
		return 0;
	}
	if (rc != -ENOENT)
		return rc;
	log_info("main", "takeover: no process runs behind %s; starting as usual", s->config->control.socket);
	err[0] = 0;
	return 0;
}

/* From the store's secret: nobody outside knows it, and a Call-ID has the same worker after a restart, so that no
 * record has to move. */
static int hash_seed_from(const unsigned char *secret)
{
	unsigned char mac[32];
	uint64_t seed;

	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, STORE_SECRET_LEN, "hash", 4, mac) < 0)
		return -EIO;
	memcpy(&seed, mac, sizeof(seed));
	hash_init(seed);
	return 0;
}

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

/* Every connection is a descriptor: as many as the system allows. */
static void raise_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur >= r.rlim_max)
		return;
	rlim_t before = r.rlim_cur;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) == 0)
		log_info("main", "descriptors: the limit is raised from %llu to %llu",
			 (unsigned long long)before, (unsigned long long)r.rlim_cur);
}

static bool has_streams(const struct config *c)
{
	for (unsigned i = 0; i < c->listen_count; i++)
		if (c->listen[i].proto != FLOW_UDP)
			return true;
	return false;
}

static int start_sockets(struct server *s, char *err, size_t errlen)
{
	int rc = udp_open_with(s->config, &s->inherited, &s->udp, err, errlen);

	if (rc < 0 || !has_streams(s->config))
		return rc;
	raise_descriptors();
	return streams_open_with(s->config, &s->inherited, &s->streams, err, errlen);
}

static int start_control(struct server *s, char *err, size_t errlen)
{
	const char *path = s->config->control.socket;
	int rc = *path ? control_start(path, s, &s->control, err, errlen) : 0;

	/* Where nobody has asked for it, a user who cannot write to /run, or a second proxy, does without. */
	if (rc < 0 && strcmp(path, CONTROL_SOCKET_DEFAULT) == 0) {
		log_warning("main", "%s; going on without", err);
		err[0] = 0;
		rc = 0;
	}
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

static int start_threads(struct server *s, const unsigned char *secret)
{
	const struct config *c = s->config;
	struct worker_pool_config wc = {.config = c,
					.secret = secret,
					.shared = &s->shared,
					.resolver = s->resolver,
					.udp = s->udp,
					.streams = s->streams,
					.store = s->store,
					.digest = s->digest,
					.core = &core};
	int rc = worker_pool_create(&wc, &s->workers);

	if (!rc)
		rc = worker_pool_recover(s->workers);
	if (rc < 0)
		return rc;
	s->acceptor = calloc(c->acceptors, sizeof(struct acceptor *));
	if (!s->acceptor)
		return -ENOMEM;
	s->acceptor_count = c->acceptors;
	for (unsigned i = 0; i < c->acceptors; i++) {
		struct acceptor_config ac = {.index = i,
					     .udp = s->udp,
					     .streams = s->streams,
					     .gather = c->gather,
					     .retry_after = config_retry_after(c)};
		worker_pool_upper(s->workers, i, &ac.upper);
		if ((rc = acceptor_create(&ac, &s->acceptor[i])) < 0)
			return rc;
	}
	if (s->streams && s->inherited.conns)
		log_info("main", "takeover: %u connections go on", streams_import(s->streams, &s->inherited));
	inherit_deinit(&s->inherited);
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
	s->started = (double)clock_wall_ns() / 1e9;
	if ((rc = commands_init(&s->commands)) < 0)
		goto out_text;
	if (!(states = gateway_states_create(c)))
		goto out_text;
	atomic_store(&s->shared.states, states);
	/* Pages that no phone has used are never there. */
	if (!(s->shared.rtt = calloc(PROXY_RTT_SLOTS, sizeof(*s->shared.rtt))))
		goto out_text;
	if (src->takeover && (rc = take_over(s, err, errlen)) < 0)
		goto out_text;
	if ((rc = start_store(s, secret, err, errlen)) < 0)
		goto out_text;
	if ((rc = hash_seed_from(secret)) < 0 || (rc = digest_create(secret, &s->digest)) < 0)
		goto out_text;
	if ((rc = start_sockets(s, err, errlen)) < 0)
		goto out_text;
	if ((rc = start_resolver(s)) < 0) {
		snprintf(err, errlen, "dns: the resolver cannot be started: %s", strerror(-rc));
		goto out_text;
	}
	if ((rc = start_http(s, err, errlen)) < 0)
		goto out_text;
	if ((rc = start_threads(s, secret)) < 0)
		goto out_text;
	if ((rc = keeper_start(s->store, s->workers, c->store.sync, &s->keeper)) < 0)
		goto out_text;
	if ((rc = start_control(s, err, errlen)) < 0)
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

static void stop_threads(struct server *s)
{
	/* First those who bring work, then those who do it, then what they use. HTTP reads from them all. */
	commands_close(&s->commands);
	control_stop(s->control);
	s->control = NULL;
	if (s->http)
		http_stop(s->http);
	s->http = NULL;
	for (unsigned i = 0; i < s->acceptor_count; i++)
		if (s->acceptor[i])
			acceptor_stop(s->acceptor[i]);
	if (s->workers)
		worker_pool_stop(s->workers);
	if (s->resolver)
		resolver_destroy(s->resolver);
	s->resolver = NULL;
}

void server_end_workers(struct server *s)
{
	worker_pool_destroy(s->workers);
	s->workers = NULL;
}

void server_close_store(struct server *s)
{
	if (s->store)
		store_close(s->store);
	s->store = NULL;
}

void server_destroy(struct server *s)
{
	if (!s)
		return;
	stop_threads(s);
	if (s->streams)
		streams_stop(s->streams);
	keeper_stop(s->keeper);
	server_end_workers(s);
	for (unsigned i = 0; i < s->acceptor_count; i++)
		acceptor_destroy(s->acceptor[i]);
	free(s->acceptor);
	streams_close(s->streams);
	udp_close(s->udp);
	digest_destroy(s->digest);
	server_close_store(s);
	inherit_deinit(&s->inherited);
	free(atomic_load(&s->shared.states));
	free((void *)s->shared.rtt);
	config_destroy(s->config);
	commands_deinit(&s->commands);
	free(s);
}

/* --- what is asked of main --- */

uint64_t server_dialogs(const struct server *s)
{
	int64_t n = (int64_t)counters_sum(CNT_DIALOGS);

	(void)s;
	return n > 0 ? (uint64_t)n : 0;
}

bool server_qualify_rtt(const struct server *s, uint64_t number, uint32_t *rtt)
{
	return qualify_rtt(&s->shared, number, rtt);
}

double server_started(const struct server *s)
{
	return s->started;
}

static uint64_t work_left(const struct server *s)
{
	return atomic_load(&s->shared.inflight) + counters_sum(CNT_TXN_NIST_TRYING) +
	       counters_sum(CNT_TXN_NIST_PROCEEDING) + server_dialogs(s);
}

static void drain(struct server *s, bool on, char *text, size_t len)
{
	bool was = atomic_exchange(&s->shared.draining, on) != 0;

	snprintf(text, len, "%s%s", was == on ? "still " : "", on ? "draining" : "taking new calls");
	if (was != on)
		log_info("main", "%s: %llu calls are being set up, %llu are established", text,
			 (unsigned long long)atomic_load(&s->shared.inflight),
			 (unsigned long long)server_dialogs(s));
}

/* Another process goes on with our sockets: to close a connection as one does would end it for the peer. */
static _Noreturn void server_leave(struct server *s, int fd)
{
	if (s->control)
		control_disown(s->control);
	stop_threads(s);
	keeper_stop(s->keeper);
	takeover_give(s, fd);
	log_stop();
	_exit(0);
}

static int takeover_start(struct server *s, struct command *cmd, int *fd)
{
	int rc;

	if (!cmd->text[0]) {
		pid_t heir = 0;
		rc = s->source.argv ? takeover_spawn(s->source.argv, &heir) : -ENOSYS;
		atomic_store(&s->heir, heir);
		snprintf(cmd->text, sizeof(cmd->text),
			 rc < 0 ? "a new process cannot be started: %s" : "a new process is started",
			 strerror(-rc));
		return rc;
	}
	rc = *fd = takeover_call(cmd->text);
	snprintf(cmd->text, sizeof(cmd->text),
		 rc < 0 ? "the new process cannot be reached: %s" : "handing over", strerror(-rc));
	return rc < 0 ? rc : 0;
}

static void server_command(struct server *s)
{
	struct command *cmd = commands_take(&s->commands);
	int leave = -1;

	if (!cmd)
		return;
	cmd->rc = 0;
	switch (cmd->kind) {
	case COMMAND_DRAIN: drain(s, true, cmd->text, sizeof(cmd->text)); break;
	case COMMAND_UNDRAIN: drain(s, false, cmd->text, sizeof(cmd->text)); break;
	case COMMAND_RELOAD: cmd->rc = server_reload(s, cmd->text, sizeof(cmd->text)); break;
	case COMMAND_TAKEOVER: cmd->rc = takeover_start(s, cmd, &leave); break;
	}
	commands_done(&s->commands, cmd);
	if (leave >= 0)
		server_leave(s, leave);
}

/* The next signal, or 0 after `timeout` ms (-1: none); commands are done meanwhile. */
static int server_wait(struct server *s, int signals, int timeout)
{
	struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = s->commands.event, .events = POLLIN}};
	struct signalfd_siginfo info;

	if (poll(p, 2, timeout) <= 0)
		return 0;
	if (p[1].revents)
		server_command(s);
	if (p[0].revents && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		return (int)info.ssi_signo;
	return 0;
}

#define DRAIN_TICK 20 /* ms */

/* No new calls; those being set up go on. Looks several times a second whether any is left: there is nobody who could
 * say so without slowing every call's end. */
static void server_drain(struct server *s, int signals)
{
	char text[512];
	msec_t end = clock_mono_ms() + s->config->drain.timeout;

	drain(s, true, text, sizeof(text));
	log_info("main", "ending when nothing is under way, at most in %u s", s->config->drain.timeout / 1000);
	while (work_left(s) > 0 && clock_mono_ms() < end) {
		int sig = server_wait(s, signals, DRAIN_TICK);
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
	char text[512];
	sigset_t set;
	int sig = 0;

	signal_set(&set);
	int signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0) {
		log_error("main", "signals cannot be waited for: %s", strerror(errno));
		return;
	}
	while (sig != SIGTERM && sig != SIGINT) {
		sig = server_wait(s, signals, -1);
		if (sig == SIGHUP)
			server_reload(s, text, sizeof(text));
	}
	server_drain(s, signals);
	close(signals);
	log_info("main", "ended as asked");
}
