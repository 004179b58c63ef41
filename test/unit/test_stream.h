/* Connections on loopback: an acceptor or two with TCP listeners, and peers. */
#ifndef TEST_STREAM_H
#define TEST_STREAM_H

#include <netinet/tcp.h>

#include "test_upper.h"
#include "transport/conn_p.h"

#define STREAM_ACCEPTORS 2

struct stream_fixture {
	struct test_config t;
	struct udp *u;
	struct streams *s;
	struct acceptor *a[STREAM_ACCEPTORS];
	struct upper up;
	struct addr at; /* where the first listener listens */
};

/* Listener number n, which must be the next: `proto` on a free port. */
static inline struct config_stream *stream_listener(struct stream_fixture *f, enum flow_proto proto,
						    const char *ip)
{
	unsigned n = f->t.config.listen_count++;
	struct config_listen *l = &f->t.listen[n];
	snprintf(f->t.name[n], sizeof(f->t.name[n]), "%s:%s:0", proto == FLOW_UDP ? "udp" : "tcp", ip);
	*l = (struct config_listen){.name = f->t.name[n],
				    .proto = proto,
				    .addr = test_addr(ip, 0),
				    .receive_buffer = 65536,
				    .stream = {.keepalive_idle = 30000,
					       .keepalive_interval = 10000,
					       .keepalive_probes = 3,
					       .ack_timeout = 2000,
					       .user_timeout = 20000,
					       .write_timeout = 10000,
					       .connect_timeout = 5000,
					       .handshake_timeout = 5000,
					       .message_timeout = 10000,
					       .queue_limit = 262144,
					       .max_message = 65536,
					       .max_connections = 1000,
					       .max_connections_per_address = 1000}};
	return &l->stream;
}

/* Without listeners: they are added before stream_start. */
static inline void stream_prepare(struct stream_fixture *f, unsigned acceptors)
{
	memset(f, 0, sizeof(*f));
	test_config_init(&f->t, acceptors, 0, NULL);
	f->t.config.writers = 64;
	upper_init(&f->up);
}

static inline void stream_start(struct stream_fixture *f)
{
	char err[200];
	assert_int_equal(udp_open(&f->t.config, &f->u, err, sizeof(err)), 0);
	if (streams_open(&f->t.config, &f->s, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	f->at = *streams_bound(f->s, 0);
	for (unsigned i = 0; i < f->t.config.acceptors; i++) {
		struct acceptor_config c = {.index = i,
					    .udp = f->u,
					    .streams = f->s,
					    .retry_after = 7,
					    .upper = {upper_deliver, upper_send_failed, upper_flush, &f->up}};
		assert_int_equal(acceptor_create(&c, &f->a[i]), 0);
		assert_int_equal(acceptor_start(f->a[i]), 0);
	}
}

static inline void stream_stop(struct stream_fixture *f)
{
	for (unsigned i = 0; i < f->t.config.acceptors; i++)
		acceptor_stop(f->a[i]);
	streams_stop(f->s);
	upper_deinit(&f->up);
	for (unsigned i = 0; i < f->t.config.acceptors; i++)
		acceptor_destroy(f->a[i]);
	streams_close(f->s);
	udp_close(f->u);
	assert_int_equal(counters_sum(CNT_CONN_QUEUED), 0);
	for (unsigned i = 0; i < 4 * CONN_STATES; i++)
		assert_int_equal(counters_sum((enum counter_id)(CNT_CONN_TCP_IN_CONNECTING + i)), 0);
	assert_int_equal(counters_sum(CNT_WRITERS), 0);
}

/* One acceptor, one TCP listener; options of it can be changed by `set` first. */
static inline void stream_open(struct stream_fixture *f, void (*set)(struct config_stream *o))
{
	stream_prepare(f, 1);
	struct config_stream *o = stream_listener(f, FLOW_TCP, "127.0.0.1");
	if (set)
		set(o);
	stream_start(f);
}

/* --- peers --- */

static inline int peer_connect_from(const struct addr *to, const struct addr *from)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int one = 1, fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (from) {
		len = addr_to_sockaddr(from, &ss);
		assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	}
	len = addr_to_sockaddr(to, &ss);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
	return fd;
}

static inline int peer_connect(const struct addr *to)
{
	return peer_connect_from(to, NULL);
}

/* A listening socket of a peer's, that takes `backlog` connections without accepting them. */
static inline int peer_listen(const char *ip, int backlog, struct addr *self)
{
	struct addr a = test_addr(ip, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	int small = 65536, mss = 1400, fd = socket(a.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	/* Inherited: a connection that is not read is full soon. Segments as large as loopback has would then stall. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss));
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	len = sizeof(ss);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, self), 0);
	return fd;
}

static inline int peer_accept(int fd)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(c >= 0);
	return c;
}

static inline void peer_write(int fd, const void *p, size_t n)
{
	assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

static inline void peer_say(int fd, const char *text)
{
	peer_write(fd, text, strlen(text));
}

/* Some bytes, at most n; 0: the end (a reset too). */
static inline size_t peer_some(int fd, char *p, size_t n)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
	ssize_t r = recv(fd, p, n, 0);
	assert_true(r >= 0 || errno == ECONNRESET);
	return r < 0 ? 0 : (size_t)r;
}

/* Exactly n bytes. */
static inline void peer_read(int fd, char *p, size_t n)
{
	while (n) {
		size_t r = peer_some(fd, p, n);
		assert_true(r > 0);
		p += r;
		n -= r;
	}
}

static inline void peer_expect(int fd, const char *text)
{
	char buf[4096];
	size_t n = strlen(text);
	assert_true(n < sizeof(buf));
	peer_read(fd, buf, n);
	assert_memory_equal(buf, text, n);
}

/* All until the end, NUL-terminated. */
static inline size_t peer_rest(int fd, char *p, size_t cap)
{
	size_t n = 0, r;
	while (n < cap - 1 && (r = peer_some(fd, p + n, cap - 1 - n)) > 0)
		n += r;
	p[n] = '\0';
	return n;
}

static inline void peer_expect_end(int fd)
{
	char c;
	assert_int_equal(peer_some(fd, &c, 1), 0);
}

/* With a RST. */
static inline void peer_reset(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* Our side. */
static inline void conn_say(struct conn *c, const char *text)
{
	struct iovec v = {(void *)(uintptr_t)text, strlen(text)};
	conn_send(c, &v, 1, clock_mono_ms());
}

/* Waits until a counter has reached `want`. Nothing signals that: looks often. */
static inline void await_count(enum counter_id id, uint64_t want)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	msec_t limit = clock_mono_ms() + WAIT_MS;
	while (counters_sum(id) < want) {
		if (clock_mono_ms() > limit)
			fail_msg("counter %d: waited for %llu, have %llu", (int)id, (unsigned long long)want,
				 (unsigned long long)counters_sum(id));
		nanosleep(&pause, NULL);
	}
}

static inline void await_gauge(enum counter_id id, uint64_t want)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	msec_t limit = clock_mono_ms() + WAIT_MS;
	while (counters_sum(id) != want) {
		if (clock_mono_ms() > limit)
			fail_msg("gauge %d: waited for %llu, have %llu", (int)id, (unsigned long long)want,
				 (unsigned long long)counters_sum(id));
		nanosleep(&pause, NULL);
	}
}

/* A connection that ends is out of the gauges a moment before the tables forget it. */
static inline void await_forgotten(struct streams *s, uint64_t id)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	msec_t limit = clock_mono_ms() + WAIT_MS;
	for (struct conn *c; (c = streams_get(s, id)) != NULL;) {
		conn_put(c);
		if (clock_mono_ms() > limit)
			fail_msg("connection %llu is still known", (unsigned long long)id);
		nanosleep(&pause, NULL);
	}
}

static inline void test_sleep(unsigned ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	nanosleep(&pause, NULL);
}

#endif
