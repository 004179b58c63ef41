/* The fake connections of the scenario tests. */
#include "harness_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum flow_proto h_proto(const char **text)
{
	static const char *const prefix[FLOW_PROTO_COUNT] = {"udp:", "tcp:", "tls:"};
	for (unsigned i = 0; i < FLOW_PROTO_COUNT; i++)
		if (strncmp(*text, prefix[i], 4) == 0) {
			*text += 4;
			return (enum flow_proto)i;
		}
	return FLOW_UDP;
}

static struct addr address(const char *text, size_t len)
{
	struct addr a;
	if (addr_parse(slice_make(text, len), &a))
		fail_msg("%.*s is no address", (int)len, text);
	return a;
}

/* In the place of those of the file, whose memory the configuration knows how to free. */
void h_conn_listeners(struct config *c, const char *listeners)
{
	unsigned n = 0;
	for (const char *p = listeners; *p; p += strcspn(p, " "), p += strspn(p, " "), n++)
		if (n == c->listen_count)
			fail_msg("the configuration has %u listeners, not as many as %s", n, listeners);
		else {
			const char *at = p;
			c->listen[n].proto = h_proto(&at);
			c->listen[n].addr = address(at, strcspn(at, " "));
		}
	if (n != c->listen_count)
		fail_msg("the configuration has %u listeners, not as many as %s", c->listen_count, listeners);
}

struct h_conn *h_conn_find(const struct harness *h, uint64_t id)
{
	for (struct h_conn *c = h->conns; c; c = c->next)
		if (c->id == id)
			return c;
	return NULL;
}

static struct h_conn *conn_of(const struct harness *h, uint64_t id)
{
	struct h_conn *c = h_conn_find(h, id);
	if (!c)
		fail_msg("no connection %llu", (unsigned long long)id);
	return c;
}

static struct h_conn *conn_create(struct harness *h, uint8_t proto, uint16_t listener,
				  const struct addr *remote, struct slice name)
{
	struct h_conn *c = calloc(1, sizeof(*c));
	if (!c)
		fail_msg("no memory");
	c->id = h->conns ? h->conns->id + 1 : 1;
	c->proto = proto;
	c->listener = listener;
	c->remote = *remote;
	if (proto == FLOW_TLS)
		snprintf(c->name, sizeof(c->name), SLICE_FMT, SLICE_ARG(name));
	c->next = h->conns;
	h->conns = c;
	return c;
}

static struct h_peer *peer_of(const struct harness *h, const struct addr *remote)
{
	for (struct h_peer *p = h->peers; p; p = p->next)
		if (addr_eq(&p->remote, remote))
			return p;
	return NULL;
}

static struct h_peer *peer_make(struct harness *h, const char *remote)
{
	struct addr a = address(remote, strlen(remote));
	struct h_peer *p = peer_of(h, &a);
	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		fail_msg("no memory");
	p->remote = a;
	p->next = h->peers;
	h->peers = p;
	return p;
}

/* --- what the proxy sees below --- */

static int on_connect(void *ctx, struct flow *to, struct slice name, uint32_t *ack_timeout)
{
	struct harness *h = ctx;
	const struct h_peer *p = peer_of(h, &to->remote);
	struct h_conn *c = h->conns;
	if (h->config->listen[to->listener].proto != to->proto || to->proto == FLOW_UDP)
		fail_msg("a connection from a listener of another kind");
	if (to->proto == FLOW_TLS && !name.len)
		fail_msg("TLS to nobody in particular");
	if (p && p->refused)
		return -ENOBUFS;
	while (c && (c->dead || c->inbound || c->proto != to->proto || !addr_eq(&c->remote, &to->remote) ||
		     (c->proto == FLOW_TLS && !slice_ieq(slice_str(c->name), name))))
		c = c->next;
	if (!c)
		c = conn_create(h, to->proto, to->listener, &to->remote, name);
	c->watched = true;
	to->conn = c->id;
	*ack_timeout = H_ACK_TIMEOUT;
	return 0;
}

static int on_attach(void *ctx, struct flow *to, uint32_t *ack_timeout)
{
	struct h_conn *c = h_conn_find(ctx, to->conn);
	if (!c || c->dead)
		return -ENOTCONN;
	c->watched = true;
	to->proto = c->proto;
	to->remote = c->remote;
	*ack_timeout = H_ACK_TIMEOUT;
	return 0;
}

static bool on_acked(void *ctx, const struct flow *to, msec_t since)
{
	struct harness *h = ctx;
	const struct h_peer *p = peer_of(h, &conn_of(h, to->conn)->remote);
	if (since > h->now)
		fail_msg("asked of the future");
	return !p || !p->silent;
}

static void on_alias(void *ctx, const struct flow *from, uint16_t port, struct slice name)
{
	struct harness *h = ctx;
	size_t n = strlen(h->aliases);
	snprintf(h->aliases + n, sizeof(h->aliases) - n, "%s%llu:%u/" SLICE_FMT, n ? " " : "",
		 (unsigned long long)from->conn, port, SLICE_ARG(name));
}

/* As the real one: it is dead at once, and who watches is told by the mailbox. */
static void on_hangup(void *ctx, const struct flow *to)
{
	h_conn_cut(ctx, to->conn);
}

void h_conn_lower(struct proxy_lower *lower)
{
	lower->connect = on_connect;
	lower->attach = on_attach;
	lower->acked = on_acked;
	lower->alias = on_alias;
	lower->hangup = on_hangup;
}

/* --- what the tests do --- */

uint64_t h_conn_open(struct harness *h, const char *from)
{
	enum flow_proto proto = h_proto(&from);
	struct addr a = address(from, strlen(from));
	for (unsigned i = 0; i < h->config->listen_count; i++)
		if (h->config->listen[i].proto == proto && h->config->listen[i].addr.family == a.family) {
			struct h_conn *c = conn_create(h, (uint8_t)proto, (uint16_t)i, &a, SLICE_NONE);
			c->inbound = true;
			return c->id;
		}
	fail_msg("no listener for %s", from);
	return 0;
}

void h_conn_cut(struct harness *h, uint64_t conn)
{
	conn_of(h, conn)->dead = true;
}

void h_conn_news(struct harness *h)
{
	h_batch_begin(h);
	for (struct h_conn *c = h->conns; c; c = c->next)
		if (c->dead && !c->told) {
			c->told = true;
			if (c->watched)
				proxy_conn_lost(h->proxy, c->id);
		}
	h_batch_end(h);
}

void h_conn_lose(struct harness *h, uint64_t conn)
{
	h_conn_cut(h, conn);
	h_conn_news(h);
}

void h_conn_silent(struct harness *h, const char *remote, bool silent)
{
	peer_make(h, remote)->silent = silent;
}

void h_conn_refuse(struct harness *h, const char *remote)
{
	peer_make(h, remote)->refused = true;
}

unsigned h_conns_opened(const struct harness *h)
{
	unsigned n = 0;
	for (struct h_conn *c = h->conns; c; c = c->next)
		n += !c->inbound;
	return n;
}

const char *h_conn_name(const struct harness *h, uint64_t conn)
{
	return conn_of(h, conn)->name;
}

const char *h_conn_remote(struct harness *h, uint64_t conn)
{
	char text[ADDR_STRLEN];
	return h_keepf(h, "%s", addr_str(&conn_of(h, conn)->remote, text));
}

const char *h_aliases(struct harness *h)
{
	return h_keepf(h, "%s", h->aliases);
}

void h_conn_stop(struct harness *h)
{
	for (struct h_conn *c = h->conns, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	for (struct h_peer *p = h->peers, *next; p; p = next) {
		next = p->next;
		free(p);
	}
}
