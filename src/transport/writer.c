/* A connection's own writer: the thread that waits for it. It begins with the drain token and a connection that cannot
 * go on at once, does what its state asks for (connect, TLS handshake, write), each with its deadline, and is done when
 * the queue is empty. It then waits a moment for another connection to do the same for: a thread that begins and ends
 * costs about as much as half a resumed handshake. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/conn_p.h"
#include "transport/tls_p.h"

#define WRITER_NICE 5 /* calls in progress come first: a storm of handshakes must not delay them */

#define WRITER_KEPT 4 /* one part in so many of all writers is not for handshakes that others begin */

#define WRITER_PARK    1000 /* ms that a thread waits for its next connection */
#define WRITERS_PARKED 64   /* of them at most: what one burst of connections uses, not a storm */

/* A thread that waits for a connection; on its stack. */
struct writer_parked {
	struct conn *c;      /* under writers_lock: the next connection; NULL: none yet */
	pthread_cond_t wake; /* c is set, or all are to end */
	struct writer_parked *next;
};

/* Waits for events until the deadline. 0; -ETIMEDOUT; -ECANCELED: leave it as it is. */
static int wait_for(const struct conn *c, short events, msec_t deadline)
{
	struct pollfd p[2] = {{.fd = c->fd, .events = events}, {.fd = c->streams->leave, .events = POLLIN}};
	for (;;) {
		msec_t now = clock_mono_ms();
		if (atomic_load_explicit(&c->streams->leaving, memory_order_relaxed))
			return -ECANCELED;
		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(p, 2, deadline - now < INT_MAX ? (int)(deadline - now) : INT_MAX) < 0 &&
		    errno != EINTR)
			return -errno;
		if (p[0].revents && !p[1].revents)
			return 0;
	}
}

static int socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

static enum conn_state state_of(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	enum conn_state s = (enum conn_state)c->state;
	pthread_mutex_unlock(&c->lock);
	return s;
}

/* True if the connection may go on to `state`; else it was closed meanwhile. */
static bool enter(struct conn *c, enum conn_state state)
{
	pthread_mutex_lock(&c->lock);
	bool ok = c->state != CONN_CLOSED;
	if (ok)
		conn_set_state(c, state);
	pthread_mutex_unlock(&c->lock);
	return ok;
}

static void local_name(const struct conn *c, struct addr *out)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	out->family = 0;
	if (getsockname(c->fd, (struct sockaddr *)&ss, &len) == 0)
		addr_from_sockaddr((struct sockaddr *)&ss, out);
}

/* 0: connected; -errno: not. */
static int do_connect(struct conn *c)
{
	const struct config_stream *o = &c->profile->options;
	msec_t deadline = clock_mono_ms() + o->connect_timeout;
	struct addr local = {0};
	int rc, fd = tcp_connect(&c->streams->listener[c->listener].bound, o, &c->remote);

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&c->lock);
	bool closed = c->state == CONN_CLOSED;
	if (!closed)
		c->fd = fd;
	pthread_mutex_unlock(&c->lock);
	if (closed) {
		close(fd);
		return -EPIPE;
	}
	rc = wait_for(c, POLLOUT, deadline);
	if (!rc)
		rc = socket_error(fd);
	if (rc)
		return rc;
	local_name(c, &local);
	pthread_mutex_lock(&c->lock);
	c->local = local;
	c->acked = tcp_acked(fd);
	pthread_mutex_unlock(&c->lock);
	count(CNT_CONN_OPENED);
	return 0;
}

static void log_handshake(const struct conn *c, const char *err)
{
	static struct log_limiter limiter;
	char text[ADDR_STRLEN], left_out[LOG_LEFT_OUT_MAX];
	uint64_t missed = 0;
	if (log_limit(&limiter, 5, &missed))
		log_warning("transport", "TLS handshake %s %s failed: %s%s",
			    c->inbound ? "with client" : "with server", addr_str(&c->remote, text), err,
			    log_left_out(missed, left_out));
}

/* 0, or -errno; the failure is logged. */
static int do_handshake(struct conn *c)
{
	msec_t deadline = clock_mono_ms() + c->profile->options.handshake_timeout;
	char err[256] = "";
	short events = POLLIN;
	int rc = tls_session_create(c->profile->tls, c->fd, c->inbound, c->name, &c->written, &c->tls);

	while (!rc && (rc = tls_handshake(c->tls, &events, err, sizeof(err))) == -EAGAIN)
		rc = wait_for(c, events, deadline);
	if (rc == -ETIMEDOUT) {
		count(CNT_TLS_TIMEOUT);
		snprintf(err, sizeof(err), "not done within handshake_timeout");
	}
	if (rc && state_of(c) != CONN_CLOSED) /* else it is our own doing */
		log_handshake(c, err[0] ? err : strerror(-rc));
	return rc;
}

/* Writes until the queue is empty, or the connection is closed. The token is given back. */
static void do_drain(struct conn *c)
{
	uint32_t limit = c->profile->options.write_timeout;
	msec_t deadline = clock_mono_ms() + limit;
	uint64_t before = c->written;

	while (conn_drain(c) == -EAGAIN) {
		if (c->written != before) {
			before = c->written;
			deadline = clock_mono_ms() + limit;
		}
		int rc = wait_for(c, POLLOUT, deadline);
		if (rc == -ECANCELED)
			return; /* with the token: nobody is to write any more */
		if (rc == -ETIMEDOUT)
			conn_close(c, CONN_WRITE_TIMEOUT); /* and conn_drain finds it closed */
	}
}

/* Everything before the connection is open. False: it has been closed. */
static bool do_open(struct conn *c)
{
	int rc = 0;

	if (state_of(c) == CONN_CONNECTING) {
		rc = do_connect(c);
		if (rc) {
			conn_fail(c, -rc);
			return false;
		}
		if (!enter(c, c->proto == FLOW_TLS ? CONN_HANDSHAKING : CONN_OPEN))
			return false;
	}
	if (state_of(c) == CONN_HANDSHAKING) {
		if (do_handshake(c) < 0) {
			conn_close(c, CONN_HANDSHAKE);
			return false;
		}
		if (!enter(c, CONN_OPEN))
			return false;
	}
	return true;
}

static void unpark(struct streams *s, struct writer_parked *w)
{
	struct writer_parked **at = &s->parked;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	s->parked_count--;
}

/* The connection's writer is done; its thread may have another one. NULL: the thread ends, and s may be gone. */
static struct conn *writer_next(struct streams *s, bool guest)
{
	struct writer_parked w = {.wake = PTHREAD_COND_INITIALIZER};
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WRITER_PARK / 1000;
	pthread_mutex_lock(&s->writers_lock);
	s->writers--;
	s->guests -= guest;
	if (!s->ending && s->parked_count < WRITERS_PARKED) {
		w.next = s->parked;
		s->parked = &w; /* cppcheck-suppress autoVariables ; out of the list before we return */
		s->parked_count++;
		while (!w.c && !s->ending &&
		       pthread_cond_clockwait(&w.wake, &s->writers_lock, CLOCK_MONOTONIC, &until) == 0)
			;
		if (!w.c)
			unpark(s, &w);
	}
	if (!s->writers && !s->parked_count)
		pthread_cond_broadcast(&s->writers_none);
	pthread_mutex_unlock(&s->writers_lock);
	pthread_cond_destroy(&w.wake);
	return w.c;
}

static void *writer_main(void *arg)
{
	struct conn *c = arg;
	struct streams *s = c->streams;
	bool guest;

	prctl(PR_SET_NAME, "hf-writer");
	setpriority(PRIO_PROCESS, 0, WRITER_NICE); /* of this thread, on Linux */
	for (; c; c = writer_next(s, guest)) {
		enum conn_state state = state_of(c);
		guest = c->guest;
		if ((state == CONN_CONNECTING || state == CONN_HANDSHAKING) && do_open(c))
			stream_adopt(conn_ref(c));
		do_drain(c);
		conn_put(c);
		count_sub(CNT_WRITERS, 1);
	}
	return NULL;
}

static int writer_thread(struct conn *c)
{
	pthread_attr_t attr;
	pthread_t id;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CONN_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = -pthread_create(&id, &attr, writer_main, c);
	pthread_attr_destroy(&attr);
	return rc;
}

/* -EAGAIN: `writers` is reached. Anybody may begin a handshake and let it hang: some are kept for the connections that work. */
static int writer_give(struct streams *s, struct conn *c, bool guest)
{
	unsigned max = atomic_load_explicit(&s->writers_max, memory_order_relaxed);

	c->guest = guest;
	pthread_mutex_lock(&s->writers_lock);
	bool ok = s->writers < max && (!guest || s->guests < max - max / WRITER_KEPT);
	struct writer_parked *w = ok ? s->parked : NULL;
	if (ok) {
		s->writers++;
		s->guests += guest;
		count(CNT_WRITERS);
	}
	if (w) {
		unpark(s, w);
		w->c = c;
		pthread_cond_signal(&w->wake);
	}
	pthread_mutex_unlock(&s->writers_lock);
	if (!ok)
		return -EAGAIN;
	int rc = w ? 0 : writer_thread(c);
	if (rc) {
		count_sub(CNT_WRITERS, 1);
		pthread_mutex_lock(&s->writers_lock);
		s->guests -= guest;
		if (--s->writers == 0 && !s->parked_count)
			pthread_cond_broadcast(&s->writers_none);
		pthread_mutex_unlock(&s->writers_lock);
	}
	return rc;
}

static int writer_begin(struct conn *c, bool guest)
{
	static struct log_limiter limiter;
	uint64_t missed;
	int rc;

	conn_ref(c);
	rc = writer_give(c->streams, c, guest);
	if (!rc)
		return 0;
	count(CNT_CONN_REFUSED_WRITERS);
	if (log_limit(&limiter, 1, &missed))
		log_warning("transport", "no writer thread for a connection: %s",
			    rc == -EAGAIN ? "writers reached" : strerror(-rc));
	conn_close(c, CONN_LIMIT);
	conn_drain(c); /* gives the token back */
	conn_put(c);
	return rc;
}

int writer_start(struct conn *c)
{
	return writer_begin(c, false);
}

void writer_handshake(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	bool go = c->state == CONN_HANDSHAKING && !c->draining;
	if (go)
		c->draining = true;
	pthread_mutex_unlock(&c->lock);
	if (go)
		writer_begin(c, true);
}

void writers_wait(struct streams *s)
{
	pthread_mutex_lock(&s->writers_lock);
	s->ending = true;
	for (struct writer_parked *w = s->parked; w; w = w->next)
		pthread_cond_signal(&w->wake);
	while (s->writers || s->parked_count)
		pthread_cond_wait(&s->writers_none, &s->writers_lock);
	pthread_mutex_unlock(&s->writers_lock);
}
