/* What the control socket shows. Runs on its thread. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/counters.h"
#include "control_p.h"
#include "proxy/gateway.h"
#include "registrar/location.h"
#include "transport/conn.h"

/* Bytes from the network, as JSON wants them: what is not UTF-8 becomes '?'. */
static json_t *text_of(struct slice s)
{
	json_t *j = json_stringn(s.p ? s.p : "", s.len);
	char room[1024];

	if (j)
		return j;
	size_t n = !s.p ? 0 : s.len < sizeof(room) ? s.len : sizeof(room);
	for (size_t i = 0; i < n; i++)
		room[i] = s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?';
	return json_stringn(room, n);
}

static json_t *addr_of(const struct addr *a)
{
	char text[ADDR_STRLEN];
	return json_string(a->family ? addr_str(a, text) : "");
}

static uint64_t sum(enum counter_id first, unsigned n)
{
	uint64_t total = 0;
	for (unsigned i = 0; i < n; i++)
		total += counters_sum((enum counter_id)(first + i));
	return total;
}

/* Of the process that holdfastctl had us start. It is reaped by the kernel as soon as it ends. */
static const char *takeover_state(const struct server *s)
{
	pid_t heir = atomic_load(&s->heir);

	if (!heir)
		return "none";
	return kill(heir, 0) == 0 ? "starting" : "failed";
}

void view_status(struct control_call *c, struct control_answer *a)
{
	struct server *s = c->control->server;
	uint64_t used = 0, max = 0;
	struct store_env *e = s->store ? store_shared(s->store) : NULL;

	if (e)
		store_env_size(e, &used, &max);
	pthread_mutex_lock(&s->report);
	const char *path = s->config->store.path;
	a->body = json_pack(
		"{s:s, s:i, s:s, s:b, s:b, s:f, s:i, s:i, s:{s:I, s:I}, s:I, s:I, s:I, s:{s:s, s:I, s:I}}",
		"version", HOLDFAST_VERSION, "pid", (int)getpid(), "takeover", takeover_state(s), "ready",
		atomic_load(&s->ready), "draining", atomic_load(&s->shared.draining) != 0, "uptime",
		(double)clock_wall_ns() / 1e9 - server_started(s), "workers",
		(int)worker_pool_count(s->workers), "acceptors", (int)s->acceptor_count, "calls", "setting_up",
		(json_int_t)atomic_load(&s->shared.inflight), "established", (json_int_t)server_dialogs(s),
		"transactions",
		(json_int_t)sum(CNT_TXN_ICT_CALLING, CNT_TXN_NIST_COMPLETED - CNT_TXN_ICT_CALLING + 1),
		"connections", (json_int_t)sum(CNT_CONN_TCP_IN_CONNECTING, 4 * CONN_STATES), "registered",
		(json_int_t)(e ? store_count(e, STORE_LOCATION) : 0), "store", "path", path, "used",
		(json_int_t)used, "size", (json_int_t)max);
	pthread_mutex_unlock(&s->report);
}

/* --- connections --- */

struct connections_ctx {
	json_t *list;
	unsigned limit;
	uint64_t total;
	msec_t now;
};

static void connections_add(void *ctx, struct conn *conn, const struct conn_info *i)
{
	struct connections_ctx *x = ctx;
	char id[24]; /* as text: it has more digits than a double, which many readers of JSON make of a number */

	(void)conn;
	x->total++;
	if (json_array_size(x->list) >= x->limit)
		return;
	snprintf(id, sizeof(id), "%" PRIu64, i->id);
	json_array_append_new(x->list,
			      json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:f, s:f}", "id", id, "transport",
					flow_proto_label(i->proto), "direction", i->inbound ? "in" : "out",
					"state", conn_state_name(i->state), "remote", addr_of(&i->remote),
					"local", addr_of(&i->local), "queued", (json_int_t)i->queued, "age",
					(double)(x->now - i->opened) / 1e3, "idle",
					i->received ? (double)(x->now - i->received) / 1e3 : -1.0));
}

void view_connections(struct control_call *c, struct control_answer *a)
{
	struct connections_ctx x = {json_array(), control_limit(c), 0, clock_mono_ms()};

	if (c->control->server->streams)
		streams_each(c->control->server->streams, connections_add, &x);
	a->body = json_pack("{s:I, s:o}", "total", (json_int_t)x.total, "connections", x.list);
}

/* --- transactions: their owners are the workers, so there are numbers only --- */

void view_transactions(struct control_call *c, struct control_answer *a)
{
	static const struct {
		enum counter_id id;
		const char *kind, *state;
	} rows[] = {
#define ROW(K, k, S, s) {CNT_TXN_##K##_##S, k, s}
		ROW(ICT, "invite client", CALLING, "calling"),
		ROW(ICT, "invite client", PROCEEDING, "proceeding"),
		ROW(ICT, "invite client", COMPLETED, "completed"),
		ROW(ICT, "invite client", ACCEPTED, "accepted"),
		ROW(NICT, "client", TRYING, "trying"),
		ROW(NICT, "client", PROCEEDING, "proceeding"),
		ROW(NICT, "client", COMPLETED, "completed"),
		ROW(IST, "invite server", PROCEEDING, "proceeding"),
		ROW(IST, "invite server", COMPLETED, "completed"),
		ROW(IST, "invite server", CONFIRMED, "confirmed"),
		ROW(IST, "invite server", ACCEPTED, "accepted"),
		ROW(NIST, "server", TRYING, "trying"),
		ROW(NIST, "server", PROCEEDING, "proceeding"),
		ROW(NIST, "server", COMPLETED, "completed"),
#undef ROW
	};
	json_t *list = json_array();

	(void)c;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t n = (int64_t)counters_sum(rows[i].id);
		json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "kind", rows[i].kind, "state",
						      rows[i].state, "count", (json_int_t)(n < 0 ? 0 : n)));
	}
	a->body = json_pack("{s:o}", "transactions", list);
}

/* --- registrations --- */

struct registrations_ctx {
	json_t *list;
	unsigned limit;
	uint64_t now;
	struct server *server;
};

static void bindings_add(struct registrations_ctx *x, struct slice aor, const struct binding_set *set)
{
	for (unsigned i = 0; i < set->count && json_array_size(x->list) < x->limit; i++) {
		const struct binding *b = &set->b[i];
		uint32_t rtt;
		if (b->expires <= x->now)
			continue;
		bool measured = server_qualify_rtt(x->server, b->number, &rtt);
		json_array_append_new(
			x->list,
			json_pack("{s:o, s:o, s:I, s:f, s:s, s:o, s:b, s:b, s:f, s:o, s:o, s:i}", "aor",
				  text_of(aor), "contact", text_of(b->contact), "expires",
				  (json_int_t)((b->expires - x->now) / 1000), "q", (double)b->q / 1000,
				  "transport", flow_proto_label((enum flow_proto)b->flow.proto), "source",
				  addr_of(&b->flow.remote), "reachable", !b->unreachable, "flow", b->use_flow,
				  "rtt", measured ? (double)rtt / 1e6 : -1.0, "instance", text_of(b->instance),
				  "agent", text_of(b->user_agent), "reg_id", (int)b->reg_id));
	}
}

static void registrations_add(void *ctx, struct slice aor, const struct binding_set *set)
{
	bindings_add(ctx, aor, set);
}

static int registrations_all(struct store_reader *r, struct registrations_ctx *x)
{
	struct location_place at = {0};
	int n;

	do {
		n = location_walk(r, 0, 1, &at, 1000, registrations_add, x);
	} while (n >= 0 && at.len && json_array_size(x->list) < x->limit);
	return n < 0 ? n : 0;
}

static int registrations_one(struct store_reader *r, const char *text, struct registrations_ctx *x)
{
	const char *at = strrchr(text, '@');
	char room[LOCATION_AOR_MAX];
	struct binding_set set;
	struct buf aor;

	if (strncmp(text, "sip:", 4) == 0)
		text += 4;
	buf_init(&aor, room, sizeof(room));
	if (!at || location_aor(slice_make(text, (size_t)(at - text)), slice_str(at + 1), &aor) < 0)
		return -EINVAL;
	int rc = location_find(r, buf_view(&aor), x->now, &set);
	if (!rc)
		bindings_add(x, buf_view(&aor), &set);
	return rc;
}

void view_registrations(struct control_call *c, struct control_answer *a)
{
	struct registrations_ctx x = {
		.limit = control_limit(c), .now = clock_wall_ns() / 1000000u, .server = c->control->server};
	const char *aor = control_arg(c, "aor");
	struct store_reader *r = c->control->reader;
	int rc = r ? store_read_begin(r) : -ENOENT;

	if (rc) {
		control_error(a, MHD_HTTP_INTERNAL_SERVER_ERROR, "the store cannot be read");
		return;
	}
	x.list = json_array();
	rc = aor ? registrations_one(r, aor, &x) : registrations_all(r, &x);
	if (rc) {
		json_decref(x.list);
		control_error(a, rc == -EINVAL ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_INTERNAL_SERVER_ERROR,
			      rc == -EINVAL ? "an address is user@domain" : "the store cannot be read");
		return;
	}
	a->body = json_pack("{s:I, s:o}", "addresses",
			    (json_int_t)store_count(store_shared(c->control->server->store), STORE_LOCATION),
			    "registrations", x.list);
}

/* --- gateways --- */

void view_gateways(struct control_call *c, struct control_answer *a)
{
	struct server *s = c->control->server;
	json_t *list = json_array();

	pthread_mutex_lock(&s->report);
	const struct gateway_states *g = atomic_load(&s->shared.states);
	for (unsigned i = 0; i < g->count; i++) {
		const char *gateway, *target;
		gateway_states_name(s->config, i, &gateway, &target);
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:I, s:I, s:f}", "gateway", gateway,
						      "target", target, "up", !atomic_load(&g->state[i].down),
						      "probes", (json_int_t)atomic_load(&g->state[i].probes),
						      "failed", (json_int_t)atomic_load(&g->state[i].failed),
						      "rtt", (double)atomic_load(&g->state[i].rtt) / 1e9));
	}
	pthread_mutex_unlock(&s->report);
	a->body = json_pack("{s:o}", "gateways", list);
}
