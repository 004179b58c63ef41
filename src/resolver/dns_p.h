/* c-ares on the resolver thread's epoll descriptor. */
#ifndef RESOLVER_DNS_P_H
#define RESOLVER_DNS_P_H

#include "resolver/rr_p.h"

struct dns;
struct dns_question;

/* The set is the callee's; NULL: no memory, or the channel is being destroyed. May be called within dns_ask. */
typedef void dns_done_fn(struct dns_question *q, struct rr_set *s);

struct dns_question {
	enum rr_type type;
	const char *name; /* stays until done */
	dns_done_fn *done;
	struct dns *dns;
};

struct dns_config {
	const char *server; /* "ip:port" or "" */
	uint32_t timeout;   /* ms: a server that is silent is given up after about half of it */
	bool ipv4, ipv6;
};

/* Main thread. 0, -EINVAL (server), -ENOMEM, -EIO. */
int dns_create(const struct dns_config *c, int epoll_fd, struct dns **out);
/* After the thread: ends every question with NULL. */
void dns_destroy(struct dns *d);

/* Resolver thread, as all below. q->type, name and done are set. */
void dns_ask(struct dns *d, struct dns_question *q);
/* Something happened on a descriptor (epoll events). */
void dns_event(struct dns *d, int fd, uint32_t events);
/* Lets c-ares repeat and give up. */
void dns_tick(struct dns *d);
/* Until the next dns_tick is due, at most `max`, ms. */
int dns_wait(struct dns *d, int max);

#endif
