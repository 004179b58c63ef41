/* Listening sockets: connections that are waiting to be taken. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "transport/socket_p.h"
#include "transport/stream_p.h"

#define ACCEPT_BATCH 32    /* taken from one socket before others have their turn */
#define ACCEPT_PAUSE 200   /* ms */
#define ACCEPT_LOG   10000 /* ms between two lines about pauses */

static void accept_events(struct acceptor *a, struct acceptor_listen *l, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = &l->source};
	epoll_ctl(a->epoll, EPOLL_CTL_MOD, l->fd, &ev);
	l->paused = !events;
}

static void accept_resume(struct timer *t, msec_t now)
{
	struct acceptor *a = container_of(t, struct acceptor, resume);
	(void)now;
	for (unsigned i = 0; i < a->listens; i++)
		if (a->listen[i].paused)
			accept_events(a, &a->listen[i], EPOLLIN);
}

/* Without descriptors epoll would report the same connections for ever. They wait in the kernel's backlog; those that
 * we have go on, and give descriptors back. */
static void accept_pause(struct acceptor *a, struct acceptor_listen *l, int error)
{
	msec_t now = stream_now(a);
	count(CNT_ACCEPT_PAUSES);
	accept_events(a, l, 0);
	if (!timer_is_set(&a->resume))
		timer_set(&a->wheel, &a->resume, now + ACCEPT_PAUSE);
	if (a->pause_logged && now - a->pause_logged < ACCEPT_LOG)
		return;
	a->pause_logged = now;
	log_warning("transport", "no connections are accepted for now: %s", strerror(error));
}

/* What accept4 reports of one connection, which is gone then. */
static bool accept_goes_on(int error)
{
	switch (error) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ETIMEDOUT: return true;
	default: return false;
	}
}

static void accept_one(struct acceptor *a, const struct acceptor_listen *l, int fd, const struct sockaddr *from)
{
	struct addr remote, local = *streams_bound(a->streams, l->listener);
	struct conn *c;

	if (addr_from_sockaddr(from, &remote) < 0 || (addr_is_any(&local) && socket_name(fd, &local) < 0))
		close(fd);
	else if (conn_create_inbound(a->streams, l->listener, a->index, fd, &remote, &local, &c) == 0)
		stream_own(a, c);
}

void stream_accept(struct acceptor *a, struct acceptor_listen *l)
{
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			accept_one(a, l, fd, (struct sockaddr *)&ss);
		} else if (errno == EAGAIN) {
			return;
		} else if (!accept_goes_on(errno)) {
			accept_pause(a, l, errno);
			return;
		}
	}
}

int stream_listen_init(struct acceptor *a)
{
	const struct streams *s = a->streams;
	timer_init(&a->resume, accept_resume);
	a->listen = calloc(s->listeners ? s->listeners : 1, sizeof(*a->listen));
	if (!a->listen)
		return -ENOMEM;
	for (unsigned i = 0; i < s->listeners; i++) {
		if (s->listener[i].proto == FLOW_UDP)
			continue;
		struct acceptor_listen *l = &a->listen[a->listens];
		*l = (struct acceptor_listen){
			.source = {SOURCE_LISTEN}, .listener = (uint16_t)i, .fd = s->listener[i].fd[a->index]};
		int rc = acceptor_watch(a, l->fd, EPOLLIN, &l->source);
		if (rc)
			return rc;
		a->listens++;
	}
	return 0;
}
