/* Connections over TLS or TCP: see link.h. */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* 1.3 with X25519, as most clients have it, so that all servers compute the same. */
#define PRIORITY  "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519"
#define OUT_LARGE (16u << 20)
#define EVENTS    256

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

_Noreturn void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void link_watch(struct link *l, int op)
{
	bool out = l->state == LINK_CONNECTING || l->blocked || l->out_sent < l->out_len ||
		   (l->state == LINK_SHAKING && gnutls_record_get_direction(l->tls));
	struct epoll_event e = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0), .data.ptr = l};

	if (epoll_ctl(l->of->epoll, op, l->fd, &e))
		die("epoll_ctl");
}

static void link_free_tls(struct link *l)
{
	if (l->tls)
		gnutls_deinit(l->tls);
	l->tls = NULL;
}

/* Not in the midst of its own events' handling, but for the last thing that is done with it. */
void link_close(struct link *l, bool reset)
{
	struct linger hard = {.l_onoff = 1};

	if (l->state == LINK_CLOSED)
		return;
	if (reset)
		setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	else if (l->tls && l->state == LINK_OPEN)
		gnutls_bye(l->tls, GNUTLS_SHUT_WR);
	link_free_tls(l);
	close(l->fd);
	l->state = LINK_CLOSED;
	l->blocked = false;
	l->in_len = l->out_len = l->out_sent = 0;
}

static void link_lost(struct link *l)
{
	link_close(l, true);
	l->of->closed(l);
}

static void link_secure(struct link *l)
{
	if (l->of->plain)
		return;
	if (gnutls_init(&l->tls,
			(l->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
	    gnutls_priority_set_direct(l->tls, PRIORITY, NULL) < 0 ||
	    gnutls_credentials_set(l->tls, GNUTLS_CRD_CERTIFICATE,
				   l->server ? l->of->server_cred : l->of->client_cred) < 0)
		die("TLS");
	gnutls_transport_set_int(l->tls, l->fd);
	if (l->session.size && gnutls_session_set_data(l->tls, l->session.data, l->session.size) < 0)
		die("session");
}

void link_connect(struct links *s, struct link *l, size_t in_size)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(s->to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;

	l->of = s;
	l->in_size = in_size;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		die("socket");
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(l->fd, (struct sockaddr *)&a, sizeof(a)) && errno != EINPROGRESS)
		die("connect");
	if (!l->in && !(l->in = malloc(l->in_size)))
		die("memory");
	l->state = LINK_CONNECTING;
	link_secure(l);
	link_watch(l, EPOLL_CTL_ADD);
}

static bool again(ssize_t rc)
{
	return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

/* 0, or -1: it is broken. */
static int link_flush(struct link *l)
{
	while (l->blocked || l->out_sent < l->out_len) {
		const char *from = l->out + l->out_sent;
		size_t len = l->out_len - l->out_sent;
		ssize_t n;

		if (!l->tls) {
			n = send(l->fd, from, len, MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN ? 0 : -1;
		} else {
			n = l->blocked ? gnutls_record_send(l->tls, NULL, 0)
				       : gnutls_record_send(l->tls, from, len);
			l->blocked = again(n);
			if (n < 0)
				return l->blocked ? 0 : -1;
		}
		l->out_sent += (size_t)n;
	}
	l->out_len = l->out_sent = 0;
	return 0;
}

void link_send(struct link *l, const char *text, size_t len)
{
	bool waits = l->blocked || l->out_sent < l->out_len;

	if (l->state != LINK_OPEN)
		return;
	if (!l->out && !(l->out = malloc(l->in_size == LINK_SMALL ? LINK_SMALL : OUT_LARGE)))
		die("memory");
	if (l->out_len + len > (l->in_size == LINK_SMALL ? LINK_SMALL : OUT_LARGE))
		die("the server does not read");
	memcpy(l->out + l->out_len, text, len);
	l->out_len += len;
	if (waits)
		return;
	/* A break shows at the next read as well. */
	if (link_flush(l) || l->blocked || l->out_len)
		link_watch(l, EPOLL_CTL_MOD);
}

/* Hands over every whole message of `in`. Whoever takes one may close the connection. */
static void link_split(struct link *l)
{
	size_t used = 0;

	while (l->state == LINK_OPEN) {
		char *text = l->in + used, *end, *length, keep;
		size_t body = 0, whole;

		l->in[l->in_len] = '\0';
		while (used < l->in_len && (*text == '\r' || *text == '\n'))
			text++, used++;
		end = strstr(text, "\r\n\r\n");
		if (!end)
			break;
		length = strcasestr(text, "\r\nContent-Length:");
		if (length && length < end)
			body = strtoul(length + 17, NULL, 10);
		whole = (size_t)(end + 4 - text) + body;
		if (used + whole > l->in_len)
			break;
		keep = text[whole];
		text[whole] = '\0';
		l->of->message(l, text, whole);
		text[whole] = keep;
		used += whole;
	}
	if (l->state != LINK_OPEN)
		return;
	memmove(l->in, l->in + used, l->in_len - used);
	l->in_len -= used;
}

static void link_read(struct link *l)
{
	while (l->state == LINK_OPEN) {
		size_t room = l->in_size - 1 - l->in_len;
		ssize_t n = l->tls ? gnutls_record_recv(l->tls, l->in + l->in_len, room)
				   : recv(l->fd, l->in + l->in_len, room, 0);

		if (l->tls ? again(n) : n < 0 && errno == EAGAIN)
			return;
		if (l->tls && n < 0 && !gnutls_error_is_fatal((int)n))
			continue;
		if (n <= 0 || !room) {
			link_lost(l);
			return;
		}
		l->in_len += (size_t)n;
		link_split(l);
	}
}

static void link_shake(struct link *l)
{
	int rc = l->tls ? gnutls_handshake(l->tls) : 0;
	char *text;

	l->state = LINK_SHAKING;
	if (rc < 0 && !gnutls_error_is_fatal(rc)) {
		link_watch(l, EPOLL_CTL_MOD);
		return;
	}
	if (rc < 0) {
		fprintf(stderr, "load: handshake: %s\n", gnutls_strerror(rc));
		link_lost(l);
		return;
	}
	l->state = LINK_OPEN;
	link_watch(l, EPOLL_CTL_MOD);
	if (!l->server && l->tls) {
		l->of->resumed += gnutls_session_is_resumed(l->tls) != 0;
		if (!l->of->description[0] && (text = gnutls_session_get_desc(l->tls))) {
			snprintf(l->of->description, sizeof(l->of->description), "%s", text);
			gnutls_free(text);
		}
	}
	l->of->opened(l);
}

static void link_event(struct link *l, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (l->state == LINK_CONNECTING) {
		if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
			link_lost(l);
			return;
		}
		link_shake(l);
	} else if (l->state == LINK_SHAKING) {
		link_shake(l);
	} else if (l->state == LINK_OPEN && (events & EPOLLOUT)) {
		if (link_flush(l)) {
			link_lost(l);
			return;
		}
		link_watch(l, EPOLL_CTL_MOD);
	}
	link_read(l);
}

static void links_accept(struct links *s)
{
	int on = 1, fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct link *l = &s->accepted[s->accepted_count];

	if (fd < 0)
		return;
	if (s->accepted_count == LINKS_ACCEPT) {
		close(fd);
		return;
	}
	s->accepted_count++;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*l = (struct link){.of = s, .fd = fd, .server = true, .state = LINK_CONNECTING, .in_size = LINK_LARGE};
	if (!(l->in = malloc(l->in_size)))
		die("memory");
	link_secure(l);
	link_watch(l, EPOLL_CTL_ADD);
}

void links_turn(struct links *s, int ms)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(s->epoll, e, EVENTS, ms);

	for (int i = 0; i < n; i++) {
		if (e[i].data.ptr)
			link_event(e[i].data.ptr, e[i].events);
		else
			links_accept(s);
	}
}

void links_open(struct links *s)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0)
		die("epoll_create1");
	if (gnutls_certificate_allocate_credentials(&s->client_cred) < 0 ||
	    gnutls_certificate_allocate_credentials(&s->server_cred) < 0)
		die("memory");
}

void links_listen(struct links *s, uint16_t port, const char *cert, const char *key)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event e = {.events = EPOLLIN};
	int on = 1;

	if (cert && gnutls_certificate_set_x509_key_file(s->server_cred, cert, key, GNUTLS_X509_FMT_PEM) < 0)
		die("certificate");
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(s->listener, LINKS_ACCEPT) || epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &e))
		die("the port to listen on");
}
