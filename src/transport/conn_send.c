/* The sending side of a connection: the queue and the drain token. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/counters.h"
#include "transport/conn_p.h"
#include "transport/tls_p.h"

#define SEND_RECORD 16384 /* bytes gathered for one TLS record: the most that one holds */

/* --- the queue; under the lock --- */

static void queue_sub(struct conn *c, size_t n)
{
	c->queued -= n;
	count_sub(CNT_CONN_QUEUED, n);
}

static int queue_add(struct conn *c, const struct iovec *v, unsigned n, msec_t now, bool front)
{
	size_t len = 0;
	for (unsigned i = 0; i < n; i++)
		len += v[i].iov_len;
	struct conn_message *m = malloc(sizeof(*m) + len);
	if (!m)
		return -ENOMEM;
	m->when = now;
	m->len = len;
	m->sent = 0;
	m->next = NULL;
	for (unsigned i = 0, at = 0; i < n; i++) {
		memcpy(m->bytes + at, v[i].iov_base, v[i].iov_len);
		at += (unsigned)v[i].iov_len;
	}
	if (front) {
		m->next = c->first;
		c->first = m;
		if (!c->last)
			c->last = m;
	} else {
		if (c->last)
			c->last->next = m;
		else
			c->first = m;
		c->last = m;
	}
	c->queued += len;
	count_add(CNT_CONN_QUEUED, len);
	return 0;
}

static void message_free(struct conn *c, struct conn_message *m)
{
	queue_sub(c, m->len - m->sent);
	free(m);
}

void conn_drop_queue(struct conn *c)
{
	while (c->first) {
		struct conn_message *m = c->first;
		c->first = m->next;
		message_free(c, m);
	}
	c->last = NULL;
}

/* --- writing; the token's holder, without the lock --- */

static ssize_t write_tcp(struct conn *c, const struct iovec *v, unsigned n)
{
	struct msghdr h = {.msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = n};
	ssize_t r = sendmsg(c->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	c->written += (uint64_t)r;
	return r;
}

/* Several small messages in one record. What is offered again after -EAGAIN must begin with the same bytes, and does:
 * nothing is taken out of the queue before it has been sent. */
static ssize_t write_tls(struct conn *c, const struct iovec *v, unsigned n)
{
	char record[SEND_RECORD];
	size_t len = 0;
	if (n == 1 || v[0].iov_len >= sizeof(record))
		return tls_send(c->tls, v[0].iov_base, v[0].iov_len);
	for (unsigned i = 0; i < n && v[i].iov_len <= sizeof(record) - len; i++) {
		memcpy(record + len, v[i].iov_base, v[i].iov_len);
		len += v[i].iov_len;
	}
	return tls_send(c->tls, record, len);
}

/* Bytes taken, or -errno. */
static ssize_t write_some(struct conn *c, const struct iovec *v, unsigned n)
{
	count(CNT_CONN_WRITE_CALLS);
	ssize_t r = c->tls ? write_tls(c, v, n) : write_tcp(c, v, n);
	return r == -EWOULDBLOCK ? -EAGAIN : r;
}

/* Lock held. So many bytes of the queue are in the kernel. */
static void queue_sent(struct conn *c, size_t n)
{
	while (n && c->first) {
		struct conn_message *m = c->first;
		size_t take = m->len - m->sent < n ? m->len - m->sent : n;
		m->sent += take;
		n -= take;
		queue_sub(c, take);
		if (m->sent < m->len)
			return;
		marks_note(c, m->when, c->raw);
		c->first = m->next;
		if (!c->first)
			c->last = NULL;
		free(m);
	}
}

/* Lock held. While bytes are under way the kernel watches over them. */
static void arm(struct conn *c)
{
	if (c->armed)
		return;
	c->armed = true;
	if (c->profile->options.user_timeout)
		tcp_arm(c->fd, c->profile->options.user_timeout);
}

void conn_shut(struct conn *c)
{
	if (c->tls)
		tls_bye(c->tls);
	shutdown(c->fd, SHUT_WR);
}

/* Lock held; the queue is empty. */
static void give_back(struct conn *c)
{
	c->draining = false;
	if (c->finishing)
		conn_shut(c);
}

int conn_drain(struct conn *c)
{
	for (;;) {
		struct iovec v[CONN_WRITE_IOV];
		unsigned n = 0;
		pthread_mutex_lock(&c->lock);
		if (c->state == CONN_CLOSED) {
			conn_drop_queue(c);
			c->draining = false;
			pthread_mutex_unlock(&c->lock);
			return -EPIPE;
		}
		if (!c->first) {
			give_back(c);
			pthread_mutex_unlock(&c->lock);
			return 0;
		}
		arm(c);
		/* Others add behind these; only the holder takes away, so they stay without the lock. */
		for (struct conn_message *m = c->first; m && n < CONN_WRITE_IOV; m = m->next)
			v[n++] = (struct iovec){m->bytes + m->sent, m->len - m->sent};
		pthread_mutex_unlock(&c->lock);

		ssize_t r = write_some(c, v, n);
		if (r == -EAGAIN)
			return -EAGAIN;
		pthread_mutex_lock(&c->lock);
		c->raw = c->written;
		if (r > 0)
			queue_sent(c, (size_t)r);
		pthread_mutex_unlock(&c->lock);
		if (r < 0)
			conn_fail(c, (int)-r); /* the loop finds it closed */
	}
}

/* The token's holder, with an empty queue: straight from the caller's memory. Returns how many bytes of v are sent, or
 * -errno other than -EAGAIN. */
static ssize_t send_direct(struct conn *c, const struct iovec *v, unsigned n)
{
	ssize_t r = write_some(c, v, n);
	return r == -EAGAIN ? 0 : r;
}

/* Lock held: puts what `sent` bytes leave of v in front of the queue. */
static int send_rest(struct conn *c, const struct iovec *v, unsigned n, size_t sent, msec_t now)
{
	struct iovec rest[CONN_WRITE_IOV];
	unsigned k = 0;
	for (unsigned i = 0; i < n; i++) {
		if (sent >= v[i].iov_len) {
			sent -= v[i].iov_len;
			continue;
		}
		rest[k++] = (struct iovec){(char *)v[i].iov_base + sent, v[i].iov_len - sent};
		sent = 0;
	}
	return queue_add(c, rest, k, now, true);
}

static size_t iov_len(const struct iovec *v, unsigned n)
{
	size_t len = 0;
	for (unsigned i = 0; i < n; i++)
		len += v[i].iov_len;
	return len;
}

/* With the token: drains; what cannot be written at once is the writer's. */
static void send_on(struct conn *c)
{
	if (conn_drain(c) == -EAGAIN)
		writer_start(c);
}

/* With the token and an empty queue. */
static void send_first(struct conn *c, const struct iovec *v, unsigned n, msec_t now)
{
	size_t len = iov_len(v, n);
	ssize_t r = send_direct(c, v, n);
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	c->raw = c->written;
	if (r == (ssize_t)len) {
		marks_note(c, now, c->raw);
		if (!c->first && c->state == CONN_OPEN) {
			give_back(c);
			pthread_mutex_unlock(&c->lock);
			return;
		}
	} else if (r >= 0 && c->state == CONN_OPEN) {
		rc = send_rest(c, v, n, (size_t)r, now);
	}
	pthread_mutex_unlock(&c->lock);
	if (r < 0)
		conn_fail(c, (int)-r);
	else if (rc)
		conn_close(c, CONN_LIMIT);
	send_on(c);
}

void conn_send(struct conn *c, const struct iovec *v, unsigned n, msec_t now)
{
	size_t len = iov_len(v, n);
	bool connect = false;
	int rc = 0;

	if (!len)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->state == CONN_CLOSED || c->finishing) {
		pthread_mutex_unlock(&c->lock);
		count_add(CNT_DROP_SEND, n);
		return;
	}
	if (c->state == CONN_OPEN && !c->draining && n <= CONN_WRITE_IOV) {
		c->draining = true;
		arm(c);
		pthread_mutex_unlock(&c->lock);
		send_first(c, v, n, now);
		return;
	}
	if (c->queued + len > c->profile->options.queue_limit)
		rc = -ENOBUFS;
	else
		rc = queue_add(c, v, n, now, false);
	/* The first bytes for a connection that is not there yet make its writer connect. */
	connect = !rc && !c->draining;
	if (connect)
		c->draining = true;
	pthread_mutex_unlock(&c->lock);
	if (rc)
		conn_close(c, rc == -ENOBUFS ? CONN_QUEUE_LIMIT : CONN_LIMIT);
	else if (connect)
		writer_start(c);
}

bool conn_acked(struct conn *c, msec_t since)
{
	bool acked = true;
	pthread_mutex_lock(&c->lock);
	if (c->state == CONN_CLOSED) {
		acked = true; /* its watchers are told that it is gone */
	} else if (c->state != CONN_OPEN || (c->first && c->first->when <= since)) {
		acked = !c->first || c->first->when > since;
	} else {
		/* Not c->raw less what is unacknowledged: somebody may be writing, and have given the kernel more than
		 * is in c->raw. */
		if (tcp_unacked(c->fd) > 0) {
			uint64_t all = tcp_acked(c->fd);
			acked = marks_acked(c, since, all > c->acked ? all - c->acked : 0);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return acked;
}
