/* After a restart: response contexts from their records, and what each then does to go on. Nothing is sent while
 * records are read; what is due happens in the first batches, when timers run. */
#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "snapshot_p.h"

#define RECOVER_RETRY 500 /* ms between two looks whether a phone has come back with a new connection */

/* --- reading --- */

/* The configuration may have changed: a listener of the same kind does as well. */
static bool flow_fit(const struct proxy *p, struct flow *f)
{
	const struct config *c = p->config;
	int l;

	if (f->listener < c->listen_count && c->listen[f->listener].proto == f->proto &&
	    c->listen[f->listener].addr.family == f->remote.family)
		return true;
	l = self_listener(p, (enum flow_proto)f->proto, &f->remote, -1);
	if (l < 0)
		return false;
	f->listener = (uint16_t)l;
	return true;
}

static int txn_fit(const struct proxy *p, struct txn *t)
{
	struct flow f = *txn_flow(t);

	if (!flow_fit(p, &f))
		return -EHOSTUNREACH;
	if (f.listener != txn_flow(t)->listener)
		txn_set_flow(t, &f);
	return 0;
}

static int get_request(struct proxy *p, struct context *c, struct unpack *u)
{
	struct slice bytes = unpack_slice(u);
	struct flow flow;
	flow_unpack(u, &flow);
	uint64_t received = unpack_u64(u);
	uint32_t off = unpack_u32(u), len = unpack_u32(u);
	uint16_t listener = unpack_u16(u);
	uint8_t own = unpack_u8(u), flags = unpack_u8(u);

	if (u->bad || (uint64_t)off + len > bytes.len ||
	    sip_msg_parse(&p->room, bytes.p, bytes.len, false) < 0 || p->room.msg.error ||
	    !p->room.msg.request || p->room.msg.method != SIP_METHOD_INVITE)
		return -EBADMSG;
	if (!flow_fit(p, &flow))
		return -EHOSTUNREACH;
	c->pk = packet_create(&p->room.msg, &flow, received);
	if (!c->pk)
		return -ENOMEM;
	c->route = (struct route_set){.next = len ? slice_make(c->pk->msg->buf + off, len) : SLICE_NONE,
				      .listener = (int16_t)listener,
				      .own = own,
				      .last_used = flags & 1,
				      .next_strict = (flags >> 1) & 1};
	return 0;
}

static void keep_text(struct slice *s, char **at)
{
	if (s->len)
		memcpy(*at, s->p, s->len);
	s->p = *at;
	*at += s->len;
}

static int get_targets(struct context *c, struct unpack *u)
{
	struct unpack start = *u;
	size_t size = 0;

	if (c->target_count > PROXY_TARGETS_MAX)
		return -EBADMSG;
	c->target = calloc(c->target_count ? c->target_count : 1, sizeof(*c->target));
	if (!c->target)
		return -ENOMEM;
	for (unsigned i = 0; i < c->target_count; i++) {
		struct target *t = &c->target[i];
		t->ruri = unpack_slice(u);
		t->route = unpack_slice(u);
		t->aor = unpack_slice(u);
		t->instance = unpack_slice(u);
		t->group = unpack_u32(u);
		uint8_t flags = unpack_u8(u);
		t->has_flow = flags & 1;
		t->fallback = (flags >> 1) & 1;
		t->alternate = (flags >> 2) & 1;
		t->started = (flags >> 3) & 1;
		if (t->has_flow)
			flow_unpack(u, &t->flow);
		size += t->ruri.len + t->route.len + t->aor.len + t->instance.len;
	}
	if (u->bad || size > start.len)
		return -EBADMSG;
	/* One block with its text, as context_take_targets makes it. */
	struct target *block = malloc(c->target_count * sizeof(*block) + size + 1);
	if (!block)
		return -ENOMEM;
	memcpy(block, c->target, c->target_count * sizeof(*block));
	char *at = (char *)(block + c->target_count);
	for (unsigned i = 0; i < c->target_count; i++) {
		keep_text(&block[i].ruri, &at);
		keep_text(&block[i].route, &at);
		keep_text(&block[i].aor, &at);
		keep_text(&block[i].instance, &at);
	}
	free(c->target);
	c->target = block;
	return 0;
}

static int get_hops(struct branch *br, struct unpack *u)
{
	unsigned n = unpack_u8(u);

	if (n > RESOLVER_HOPS_MAX)
		return -EBADMSG;
	if (!n)
		return 0;
	br->hop = calloc(n, sizeof(*br->hop));
	if (!br->hop)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		struct flow f;
		flow_unpack(u, &f);
		br->hop[i].proto = f.proto;
		br->hop[i].addr = f.remote;
	}
	br->hop_count = n;
	return 0;
}

/* Timer C, or 64*T1 after a CANCEL; neither is longer than it began. After so long without us the caller has gone:
 * nobody else is to be rung for him. */
static void branch_set_deadline(struct context *c, struct branch *br, const struct txn_clock *k, uint64_t wall)
{
	const struct config *config = c->proxy->config;
	uint64_t patience = 64 * (uint64_t)config->timers.t1;
	uint64_t life = config->timers.c > patience ? config->timers.c : patience;
	msec_t when = txn_clock_mono(k, wall);

	timer_set(c->proxy->wheel, &br->timer, when < k->mono + life ? when : k->mono + life);
	if (k->wall > wall && k->wall - wall > patience)
		c->target_next = c->target_count;
}

static int get_branch(struct context *c, struct unpack *u, const struct txn_clock *k, struct branch ***tail)
{
	struct proxy *p = c->proxy;
	struct branch *br = branch_make(c);
	int rc;

	if (!br)
		return -ENOMEM;
	**tail = br;
	*tail = &br->next;
	uint16_t flags = unpack_u16(u);
	br->provisional = !!(flags & SNAP_B_PROVISIONAL);
	br->cancel_wanted = !!(flags & SNAP_B_CANCEL_WANTED);
	br->cancel_sent = !!(flags & SNAP_B_CANCEL_SENT);
	br->done = !!(flags & SNAP_B_DONE);
	br->unacked = !!(flags & SNAP_B_UNACKED);
	br->udp_only = !!(flags & SNAP_B_UDP_ONLY);
	br->udp_next = !!(flags & SNAP_B_UDP_NEXT);
	br->flow_failed = !!(flags & SNAP_B_FLOW_FAILED);
	br->index = unpack_u16(u);
	br->status = unpack_u16(u);
	br->breadth = unpack_u16(u);
	br->target = unpack_u32(u);
	br->confirmed = unpack_u64(u);
	uint64_t wall = unpack_u64(u);
	rc = get_hops(br, u);
	if (rc)
		return rc;
	if (u->bad || (c->target && br->target >= c->target_count) ||
	    (!br->done && !(c->pk && c->target) && !(flags & SNAP_B_CLIENT)))
		return -EBADMSG;
	if (!br->done && (flags & SNAP_B_CLIENT) && wall == UINT64_MAX)
		return -EBADMSG; /* nothing would ever end it */
	if (wall != UINT64_MAX)
		branch_set_deadline(c, br, k, wall);
	if (!(flags & SNAP_B_CLIENT))
		return 0;
	rc = txn_restore(p->txns, u, TXN_ICT, k, br, &br->client);
	if (rc)
		return rc;
	if (!br->done && !txn_request_bytes(br->client).len)
		return -EBADMSG; /* it has its final response: then so has the branch */
	br->resumed = !flow_is_reliable(txn_flow(br->client)) && !br->cancel_sent;
	return txn_fit(p, br->client);
}

static int get_best(struct context *c, struct unpack *u)
{
	unsigned index, i = 0;
	bool has_bytes;

	c->best = unpack_u16(u);
	index = unpack_u16(u);
	for (struct branch *b = c->branches; b; b = b->next, i++)
		if (i == index)
			c->best_branch = b;
	has_bytes = unpack_u8(u) != 0;
	struct slice bytes = unpack_slice(u), challenges = unpack_slice(u);
	if (u->bad || (c->best && (c->best < 300 || c->best > 699)))
		return -EBADMSG;
	if (has_bytes) {
		c->best_bytes = malloc(bytes.len ? bytes.len : 1);
		if (!c->best_bytes)
			return -ENOMEM;
		if (bytes.len)
			memcpy(c->best_bytes, bytes.p, bytes.len);
		c->best_len = bytes.len;
	}
	return challenges.len ? best_keep_challenges(c, challenges) : 0;
}

static int get_reason(struct context *c, struct unpack *u)
{
	struct slice s = unpack_slice(u);

	if (!s.len || s.len > CONTEXT_REASON_MAX || memchr(s.p, 0, s.len))
		return -EBADMSG;
	c->reason = strndup(s.p, s.len);
	return c->reason ? 0 : -ENOMEM;
}

static bool is_proceeding(const struct txn *t)
{
	return t && txn_state(t) == TXN_PROCEEDING; /* where a transaction has no timer of its own */
}

/* What no batch leaves behind: a call that nothing would bring to its end. */
static bool is_stuck(const struct context *c)
{
	bool pending = false;

	for (const struct branch *b = c->branches; b; b = b->next) {
		if (b->done && is_proceeding(b->client))
			return true;
		pending = pending || !b->done;
	}
	return c->final_sent ? is_proceeding(c->server) : !pending;
}

static int get_context(struct proxy *p, struct context *c, struct unpack *u, const struct txn_clock *k)
{
	struct branch **tail = &c->branches;
	uint16_t flags = unpack_u16(u);
	int rc = 0;

	c->parallel = !!(flags & SNAP_PARALLEL);
	c->failover = !!(flags & SNAP_FAILOVER);
	c->overload = !!(flags & SNAP_OVERLOAD);
	c->final_sent = !!(flags & SNAP_FINAL);
	c->cancelled = !!(flags & SNAP_CANCELLED);
	c->best_local = !!(flags & SNAP_BEST_LOCAL);
	c->next_index = unpack_u16(u);
	c->loop = unpack_u64(u);
	c->target_count = unpack_u32(u);
	c->target_next = unpack_u32(u);
	c->breadth = unpack_u32(u);
	flow_unpack(u, &c->source);
	/* Without these nothing more can be decided: then all must be. */
	if (u->bad || (!c->final_sent && (~flags & (SNAP_REQUEST | SNAP_TARGETS))))
		return -EBADMSG;
	if (!(flags & SNAP_TARGETS))
		c->target_count = c->target_next = 0;
	if (!flow_fit(p, &c->source))
		return -EHOSTUNREACH;
	if (flags & SNAP_REQUEST)
		rc = get_request(p, c, u);
	if (!rc && (flags & SNAP_TARGETS))
		rc = get_targets(c, u);
	if (!rc && (flags & SNAP_SERVER))
		rc = txn_restore(p->txns, u, TXN_IST, k, c, &c->server);
	if (!rc && c->server)
		rc = txn_fit(p, c->server);
	for (unsigned n = rc ? 0 : unpack_u16(u); n && !rc; n--)
		rc = get_branch(c, u, k, &tail);
	if (!rc)
		rc = get_best(c, u);
	if (!rc && (flags & SNAP_REASON))
		rc = get_reason(c, u);
	return !rc && is_stuck(c) ? -EBADMSG : rc;
}

int recover_call_id(struct slice bytes, struct slice *call_id)
{
	struct unpack u = unpack_init(bytes);

	if (unpack_u8(&u) != SNAPSHOT_FORMAT)
		return -EPROTONOSUPPORT;
	*call_id = unpack_slice(&u);
	return u.bad ? -EBADMSG : 0;
}

int proxy_restore(struct proxy *p, uint64_t record, struct slice bytes, bool moved)
{
	struct txn_clock k = {proxy_now(p), proxy_wall(p)};
	struct unpack u = unpack_init(bytes);
	struct slice call_id;
	struct context *c;
	int rc;

	if (unpack_u8(&u) != SNAPSHOT_FORMAT)
		return -EPROTONOSUPPORT;
	call_id = unpack_slice(&u);
	if (u.bad)
		return -EBADMSG;
	c = context_make(p, call_id);
	if (!c)
		return -ENOMEM;
	c->invite = 1;
	rc = get_context(p, c, &u, &k);
	if (rc) {
		context_discard(c);
		return rc;
	}
	c->record = moved ? 0 : record;
	c->stored = !moved;
	if (!c->final_sent)
		context_count(c);
	if (moved)
		snapshot_touch(c);
	else if ((record & ~SNAPSHOT_SETTLED) >= p->next_record)
		p->next_record = (record & ~SNAPSHOT_SETTLED) + 1;
	/* Decided, but for what the first batch must do: then, with a commit before it is sent. */
	if (recover_look(c))
		timer_set(p->wheel, &c->trying, proxy_now(p));
	count(CNT_RECOVERED);
	return 0;
}

/* --- going on --- */

/* A connection of the run before is gone. A phone that has registered again has a new one; to others we open one. 0; 1:
 * it is there after all, and what was sent over it has been sent; -EAGAIN: not now; -errno. */
static int flow_again(struct branch *b, struct flow *out, uint32_t *ack_timeout)
{
	struct context *c = b->context;
	struct proxy *p = c->proxy;
	const struct target *t = c->target ? &c->target[b->target] : NULL;
	struct flow f = *txn_flow(b->client);
	struct sip_uri uri;

	/* After a takeover. */
	if (f.conn && p->lower.attach && p->lower.attach(p->lower.ctx, &f, ack_timeout) == 0) {
		*out = f;
		return 1;
	}
	if (t && t->has_flow && t->flow.conn) {
		if (!t->aor.len)
			return -ENOTCONN; /* known by that connection alone */
		if (!location_flow(p, t, &f) || !f.conn)
			return -EAGAIN;
		f.acceptor = txn_flow(b->client)->acceptor;
		if (!p->lower.attach || p->lower.attach(p->lower.ctx, &f, ack_timeout) < 0)
			return -EAGAIN;
		*out = f;
		return 0;
	}
	f.conn = 0;
	if (!t || forward_hop_uri(&c->route, t, &uri) < 0 || !p->lower.connect ||
	    p->lower.connect(p->lower.ctx, &f, uri.host, ack_timeout) < 0)
		return -EHOSTUNREACH;
	*out = f;
	return 0;
}

/* False: its flow is still sought. */
static bool branch_resume(struct branch *b)
{
	uint32_t ack_timeout;
	struct flow f;

	if (flow_is_reliable(txn_flow(b->client))) {
		int rc = flow_again(b, &f, &ack_timeout);
		if (rc == -EAGAIN)
			return false;
		if (rc < 0) {
			struct proxy *p = b->context->proxy;
			p->conn_lost = true;
			txn_client_error(b->client);
			p->conn_lost = false;
			return true;
		}
		txn_set_flow(b->client, &f);
		if (rc == 0)
			txn_client_resume(b->client, ack_timeout);
	}
	branch_cancel_again(b);
	return true;
}

/* It waited for its name's look-up. */
static bool branch_is_unborn(const struct branch *b)
{
	return !b->client && !b->done;
}

/* Whether there is something to be sent. One that rings over a connection that is gone needs none until it is to be
 * cancelled. */
static bool branch_needs(const struct branch *b)
{
	if (b->resumed || b->done)
		return false;
	if (!b->client || b->cancel_sent)
		return true;
	return flow_is_reliable(txn_flow(b->client)) && txn_state(b->client) == TXN_CALLING;
}

/* A failure over a connection that is gone, or whose end has not been told, may not have arrived. */
static void server_resume(struct context *c)
{
	struct proxy *p = c->proxy;
	struct flow f = *txn_flow(c->server);
	uint32_t ack_timeout;

	if (!p->lower.attach || p->lower.attach(p->lower.ctx, &f, &ack_timeout) < 0)
		txn_server_resume(c->server);
}

bool recover_look(struct context *c)
{
	bool needs = c->server && txn_server_resumes(c->server), alive = c->server != NULL;

	for (struct branch *b = c->branches; b; b = b->next) {
		needs = needs || branch_needs(b);
		alive = alive || b->client;
	}
	return needs || !alive;
}

void recover_run(struct context *c)
{
	bool again = false;

	if (!c->resumed && c->server && txn_server_resumes(c->server))
		server_resume(c);
	c->resumed = 1;
	/* A branch that ends here may add others in front: those are new, and need nothing. */
	for (struct branch *b = c->branches, *next; b; b = next) {
		next = b->next;
		if (!branch_needs(b))
			continue;
		snapshot_touch(c);
		b->resumed = 1;
		if (branch_is_unborn(b))
			branch_go(b);
		else if (!branch_resume(b)) {
			b->resumed = 0;
			again = true;
		}
	}
	if (again)
		timer_set(c->proxy->wheel, &c->trying, proxy_now(c->proxy) + RECOVER_RETRY);
}
