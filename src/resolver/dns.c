#include "resolver/dns_p.h"

#include <ares.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define TRIES          3
#define TRIES_SHARE    14  /* c-ares doubles its patience: 1 + 2 + 4 of 14 parts are half of the whole time */
#define TRY_MIN        100 /* ms */
#define RECEIVE_BUFFER (1 << 20)
#define CLASS_IN       1

struct dns {
	ares_channel channel;
	int epoll_fd;
	int family; /* const: of addresses asked for */
};

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct dns *d = arg;
	struct epoll_event ev = {.data.fd = fd};
	if (readable)
		ev.events |= EPOLLIN;
	if (writable)
		ev.events |= EPOLLOUT;
	if (!ev.events)
		epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT)
		epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
	/* Should the kernel refuse, the question ends by its time. */
}

int dns_create(const struct dns_config *c, int epoll_fd, struct dns **out)
{
	char files_first[] = "fb", servers_only[] = "b";
	bool own = c->server && c->server[0];
	uint32_t share = c->timeout / TRIES_SHARE;
	struct dns *d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->epoll_fd = epoll_fd;
	d->family = c->ipv4 && c->ipv6 ? AF_UNSPEC : c->ipv6 ? AF_INET6 : AF_INET;
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = share < TRY_MIN ? TRY_MIN : (int)share,
		.tries = TRIES,
		.lookups = own ? servers_only : files_first,
		.sock_state_cb = on_socket,
		.sock_state_cb_data = d,
		.socket_receive_buffer_size = RECEIVE_BUFFER,
	};
	const int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
			 ARES_OPT_DOMAINS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_SOCK_RCVBUF;
	int rc = ares_library_init(ARES_LIB_INIT_ALL);
	if (rc != ARES_SUCCESS) {
		free(d);
		return rc == ARES_ENOMEM ? -ENOMEM : -EIO;
	}
	rc = ares_init_options(&d->channel, &o, mask);
	if (rc != ARES_SUCCESS) {
		ares_library_cleanup();
		free(d);
		return rc == ARES_ENOMEM ? -ENOMEM : -EIO;
	}
	if (own && (rc = ares_set_servers_ports_csv(d->channel, c->server)) != ARES_SUCCESS) {
		dns_destroy(d);
		return rc == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	*out = d;
	return 0;
}

void dns_destroy(struct dns *d)
{
	if (!d)
		return;
	ares_destroy(d->channel);
	ares_library_cleanup();
	free(d);
}

static int status_errno(int status)
{
	switch (status) {
	case ARES_SUCCESS: return 0;
	case ARES_ENODATA:
	case ARES_ENOTFOUND:
	case ARES_EBADNAME:
	case ARES_ENONAME: return -ENOENT;
	case ARES_ETIMEOUT: return -ETIMEDOUT;
	case ARES_ENOMEM: return -ENOMEM;
	case ARES_EDESTRUCTION:
	case ARES_ECANCELLED: return -ECANCELED;
	default: return -EIO;
	}
}

/* Ends the question with `s`, or with a set that says what went wrong. */
static void finish(struct dns_question *q, int rc, struct rr_set *s)
{
	if (rc && rc != -ENOMEM && rc != -ECANCELED)
		s = rr_set_create(q->type, q->name, rc == -EBADMSG ? -EIO : rc, 0);
	q->done(q, rc == -ENOMEM || rc == -ECANCELED ? NULL : s);
}

static void on_reply(void *arg, int status, int timeouts, unsigned char *msg, int len)
{
	struct dns_question *q = arg;
	struct rr_set *s = NULL;
	int rc = status_errno(status);
	(void)timeouts;
	if (!rc)
		rc = rr_parse(q->type, q->name, msg, len, &s);
	finish(q, rc, s);
}

static struct rr_set *addresses(const struct dns_question *q, const struct ares_addrinfo *ai)
{
	struct addr a;
	struct rr_set *s = rr_set_create(RR_ADDR, q->name, 0, RR_MAX);
	if (!s)
		return NULL;
	s->ttl = RR_TTL_MAX;
	for (const struct ares_addrinfo_node *n = ai->nodes; n && s->count < RR_MAX; n = n->ai_next) {
		if (addr_from_sockaddr(n->ai_addr, &a) < 0)
			continue;
		a.port = 0;
		s->rr[s->count++].addr = a;
		uint32_t ttl = n->ai_ttl > 0 ? (uint32_t)n->ai_ttl : 0;
		s->ttl = ttl < s->ttl ? ttl : s->ttl;
	}
	for (const struct ares_addrinfo_cname *n = ai->cnames; n; n = n->next) {
		uint32_t ttl = n->ttl > 0 ? (uint32_t)n->ttl : 0;
		s->ttl = n->alias && ttl < s->ttl ? ttl : s->ttl;
	}
	if (s->count == 0)
		s->error = -ENOENT;
	struct rr_set *fit = realloc(s, sizeof(*s) + s->count * sizeof(s->rr[0]));
	return fit ? fit : s;
}

static void on_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
	struct dns_question *q = arg;
	struct rr_set *s = NULL;
	int rc = status_errno(status);
	(void)timeouts;
	if (!rc && !ai)
		rc = -ENOENT;
	if (!rc && !(s = addresses(q, ai)))
		rc = -ENOMEM;
	if (ai)
		ares_freeaddrinfo(ai);
	finish(q, rc, s);
}

void dns_ask(struct dns *d, struct dns_question *q)
{
	enum { TYPE_SRV = 33, TYPE_NAPTR = 35 };
	q->dns = d;
	if (q->type == RR_ADDR) {
		/* One node an address; sorted by RFC 6724, so that a family without a route comes last. */
		struct ares_addrinfo_hints hints = {.ai_family = d->family, .ai_socktype = SOCK_DGRAM};
		ares_getaddrinfo(d->channel, q->name, NULL, &hints, on_addresses, q);
		return;
	}
	ares_query(d->channel, q->name, CLASS_IN, q->type == RR_SRV ? TYPE_SRV : TYPE_NAPTR, on_reply, q);
}

void dns_event(struct dns *d, int fd, uint32_t events)
{
	bool in = events & (EPOLLIN | EPOLLERR | EPOLLHUP), out = events & (EPOLLOUT | EPOLLERR | EPOLLHUP);
	ares_process_fd(d->channel, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
}

void dns_tick(struct dns *d)
{
	ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

int dns_wait(struct dns *d, int max)
{
	struct timeval tv, limit = {max / 1000, max % 1000 * 1000};
	const struct timeval *t = ares_timeout(d->channel, &limit, &tv);
	return (int)(t->tv_sec * 1000 + (t->tv_usec + 999) / 1000);
}
