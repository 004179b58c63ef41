#include "proxy/proxy.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "proxy_p.h"

/* --- what the transactions tell: to whom it belongs --- */

static void up_response(void *owner, struct txn *t, const struct sip_msg *m)
{
	(void)t;
	if (*(uint8_t *)owner == OWNER_BRANCH)
		context_response(owner, m);
	else if (*(uint8_t *)owner == OWNER_PROBE)
		probe_response(owner, m->status);
	else if (*(uint8_t *)owner == OWNER_QUALIFY)
		qualify_response(owner, m->status);
}

static void up_timeout(void *owner, struct txn *t)
{
	(void)t;
	if (*(uint8_t *)owner == OWNER_BRANCH)
		context_client_failed(owner, 408, CNT_BRANCH_TIMEOUT);
	else if (*(uint8_t *)owner == OWNER_PROBE)
		probe_failed(owner, "nothing came in time");
	else if (*(uint8_t *)owner == OWNER_QUALIFY)
		qualify_response(owner, 408);
}

static void up_transport_error(void *owner, struct txn *t)
{
	(void)t;
	if (*(uint8_t *)owner == OWNER_BRANCH) {
		struct branch *b = owner;
		context_client_failed(
			b, 503, b->context->proxy->conn_lost ? CNT_BRANCH_CONN_LOST : CNT_BRANCH_TRANSPORT);
	} else if (*(uint8_t *)owner == OWNER_PROBE)
		probe_lost(owner);
	else if (*(uint8_t *)owner == OWNER_QUALIFY)
		qualify_response(owner, 503);
}

static void up_unacked(void *owner, struct txn *t)
{
	(void)t;
	if (*(uint8_t *)owner == OWNER_BRANCH)
		context_client_unacked(owner);
	else if (*(uint8_t *)owner == OWNER_PROBE)
		probe_failed(owner, "its host does not acknowledge what it is sent");
	else if (*(uint8_t *)owner == OWNER_QUALIFY)
		qualify_response(owner, 408);
}

static void up_gone(void *owner, struct txn *t)
{
	(void)t;
	if (*(uint8_t *)owner == OWNER_BRANCH)
		context_client_gone(owner);
	else if (*(uint8_t *)owner == OWNER_CONTEXT)
		context_server_gone(owner);
	else if (*(uint8_t *)owner == OWNER_QUALIFY)
		qualify_gone(owner);
	else
		probe_gone(owner);
}

static const struct txn_user user = {.response = up_response,
				     .timeout = up_timeout,
				     .transport_error = up_transport_error,
				     .unacked = up_unacked,
				     .gone = up_gone};

/* --- sending --- */

/* 18.2.2: a response whose connection is gone goes over a new one, to where reply_flow has put its remote. */
static int response_reopen(struct proxy *p, const struct flow *to, struct slice bytes)
{
	struct sip_msg_room room; /* the proxy's own may be in use */
	struct flow again = *to;
	struct slice name = SLICE_NONE;
	uint32_t ack_timeout;

	if (!p->lower.connect)
		return -ENOTCONN;
	if (to->proto == FLOW_TLS) {
		if (sip_msg_parse(&room, bytes.p, bytes.len, false) < 0)
			return -ENOTCONN;
		name = sip_slice(&room.msg, room.msg.via.host);
	}
	again.conn = 0;
	int err = p->lower.connect(p->lower.ctx, &again, name, &ack_timeout);
	return err < 0 ? err : p->lower.send(p->lower.ctx, &again, bytes);
}

void proxy_send(struct proxy *p, const struct flow *to, struct slice bytes)
{
	static const char status_line[] = "SIP/2.0 ";
	size_t n = sizeof(status_line) - 1;

	if (p->lower.send(p->lower.ctx, to, bytes) != -ENOTCONN)
		return;
	if (bytes.len < n || memcmp(bytes.p, status_line, n) != 0 || response_reopen(p, to, bytes) < 0)
		count(CNT_DROP_SEND);
}

static void lower_send(void *ctx, const struct flow *to, struct slice bytes)
{
	proxy_send(ctx, to, bytes);
}

static bool lower_acked(void *ctx, const struct flow *to, msec_t since)
{
	struct proxy *p = ctx;

	return p->lower.acked(p->lower.ctx, to, since);
}

/* --- life --- */

static unsigned protos_of(const struct config *c)
{
	unsigned mask = 0;
	for (unsigned i = 0; i < c->listen_count; i++)
		mask |= 1u << c->listen[i].proto;
	return mask;
}

struct txn_timers proxy_txn_timers(const struct config *c)
{
	return (struct txn_timers){c->timers.t1, c->timers.t2, c->timers.t4};
}

int proxy_create(const struct proxy_env *env, struct proxy **out)
{
	struct proxy *p = calloc(1, sizeof(*p));
	struct txn_timers timers = proxy_txn_timers(env->config);
	struct txn_lower lower = {.send = lower_send, .acked = env->lower.acked ? lower_acked : NULL, .ctx = p};
	unsigned workers = env->config->workers ? env->config->workers : 1;
	int err;

	if (!p)
		return -ENOMEM;
	p->config = env->config;
	p->shared = env->shared;
	p->states = atomic_load_explicit(&env->shared->states, memory_order_acquire);
	p->lower = env->lower;
	p->wheel = env->wheel;
	p->now = env->now;
	p->wall = env->wall;
	p->self = env->self;
	p->self_count = env->self_count;
	p->worker = env->worker;
	p->protos = protos_of(env->config);
	err = token_init(&p->keys, env->secret);
	if (err < 0)
		goto out_free;
	err = txn_table_create(&timers, &user, &lower, p->wheel, p->now,
			       (env->config->timers.max_transactions + workers - 1) / workers, &p->txns);
	if (err < 0)
		goto out_keys;
	err = probe_start(p);
	if (err < 0)
		goto out_table;
	if (env->store && (err = store_reader_create(env->store, &p->reader)) < 0)
		goto out_probe;
	if (env->calls && (err = store_reader_create(env->calls, &p->calls_reader)) < 0)
		goto out_reader;
	p->store = env->store;
	p->digest = env->digest;
	p->registrations_tail = &p->registrations;
	p->calls = env->calls;
	p->started = proxy_now(p);
	p->next_record = proxy_wall(p) << 20;
	snapshot_init(p);
	dialog_start(p);
	sweep_start(p);
	*out = p;
	return 0;
out_reader:
	store_reader_destroy(p->reader);
out_probe:
	probe_stop(p);
out_table:
	txn_table_destroy(p->txns);
out_keys:
	token_deinit(&p->keys);
out_free:
	free(p);
	return err;
}

void proxy_destroy(struct proxy *p)
{
	if (!p)
		return;
	probe_stop(p);
	dialog_stop(p);
	sweep_stop(p);
	qualify_stop(p);
	stateless_destroy_all(p);
	auth_destroy_all(p);
	register_destroy_all(p);
	while (p->all)
		context_destroy(p->all);
	snapshot_deinit(p);
	txn_table_destroy(p->txns);
	token_deinit(&p->keys);
	self_cache_reset(p);
	store_reader_destroy(p->reader);
	store_reader_destroy(p->calls_reader);
	free(p);
}

void proxy_reconfigure(struct proxy *p, const struct config *c)
{
	struct txn_timers timers = proxy_txn_timers(c);

	probe_stop(p);
	p->config = c;
	p->states = atomic_load_explicit(&p->shared->states, memory_order_acquire);
	txn_table_set_timers(p->txns, &timers);
	self_cache_reset(p);
	probe_start(p); /* without memory nothing is probed, and every target counts as up */
}

void proxy_conn_lost(struct proxy *p, uint64_t conn)
{
	p->conn_lost = true;
	txn_table_conn_lost(p->txns, conn);
	p->conn_lost = false;
	register_conn_lost(p, conn);
}

void proxy_commit(struct proxy *p)
{
	snapshot_commit(p);
	register_commit(p);
	if (p->reader)
		store_read_end(p->reader);
}

void proxy_flush(struct proxy *p)
{
	snapshot_flush(p);
}

unsigned proxy_contexts(const struct proxy *p)
{
	return p->contexts;
}

/* --- what comes in --- */

static void response_receive(struct proxy *p, struct packet *pk)
{
	struct txn *t = pk->msg->error ? NULL : txn_client_find(p->txns, pk->msg);

	if (t)
		txn_client_receive(t, pk->msg);
	else if (pk->msg->error || !stray_forward(p, pk->msg))
		count(CNT_DROP_STRAY_RESPONSE); /* RFC 6026 7.3 */
	packet_destroy(pk);
}

void proxy_receive(struct proxy *p, struct packet *pk)
{
	if (pk->msg->request)
		request_receive(p, pk);
	else
		response_receive(p, pk);
}

void proxy_resolved(struct proxy *p, const struct resolver_answer *a)
{
	struct pending *w = pending_take(p, a->ref);

	if (!w)
		return; /* it was cancelled meanwhile */
	switch (w->kind) {
	case PENDING_BRANCH: context_resolved(container_of(w, struct branch, pending), a); break;
	case PENDING_STATELESS: stateless_resolved(p, w, a); break;
	case PENDING_PROBE: probe_resolved(p, w, a); break;
	}
}

/* The quoted start of a request of ours: its method, and the branch of the Via that we put on top. */
static bool quoted_request(struct slice q, struct slice *method, struct slice *branch)
{
	static const char key[] = ";branch=";
	const char *sp = q.len ? memchr(q.p, ' ', q.len) : NULL;
	const char *line = q.len ? memchr(q.p, '\n', q.len) : NULL;

	if (!sp || !line || sp > line)
		return false;
	*method = slice_make(q.p, (size_t)(sp - q.p));
	const char *b = memmem(line, (size_t)(q.p + q.len - line), key, sizeof(key) - 1);
	if (!b)
		return false;
	b += sizeof(key) - 1;
	size_t left = (size_t)(q.p + q.len - b), n = 0;
	while (n < left && b[n] > ' ' && b[n] != ';' && b[n] != ',')
		n++;
	*branch = slice_make(b, n);
	return n > 0 && n < left;
}

void proxy_send_failed(struct proxy *p, const struct addr *remote, struct slice quoted)
{
	struct slice method, branch;

	if (!quoted_request(quoted, &method, &branch))
		return;
	struct txn *t = txn_client_find_branch(p->txns, branch, method);
	if (t && addr_eq(&txn_flow(t)->remote, remote))
		txn_client_error(t);
}
