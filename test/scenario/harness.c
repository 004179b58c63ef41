#include "harness_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "proxy/gateway.h"
#include "store/store.h"

static const unsigned char SECRET[STORE_SECRET_LEN] = "the secret of every scenario";

char *h_keep(struct harness *h, size_t len)
{
	struct h_text *t = calloc(1, sizeof(*t) + len + 1);
	if (!t)
		fail_msg("no memory");
	t->next = h->texts;
	h->texts = t;
	return t->text;
}

char *h_keepf(struct harness *h, const char *fmt, ...)
{
	char *made = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&made, fmt, ap);
	va_end(ap);
	if (n < 0)
		fail_msg("no memory");
	char *text = h_keep(h, (size_t)n);
	memcpy(text, made, (size_t)n);
	free(made);
	return text;
}

/* --- what the proxy sees below --- */

static int on_send(void *ctx, const struct flow *to, struct slice bytes)
{
	struct harness *h = ctx;
	struct h_conn *conn = to->conn ? h_conn_find(h, to->conn) : NULL;
	if (flow_is_reliable(to) && !to->conn)
		fail_msg("sent over TCP or TLS without a connection:\n" SLICE_FMT, SLICE_ARG(bytes));
	if (to->conn && (!conn || conn->dead))
		return -ENOTCONN;
	if (slice_eq(bytes, SLICE_LIT("\r\n\r\n"))) {
		h->keepalives++;
		return 0;
	}
	for (struct h_sent *s = h->running ? h->sent : NULL; s; s = s->next)
		if (addr_eq(&s->to.remote, &to->remote) &&
		    slice_eq(slice_make(s->msg->buf, s->msg->len), bytes)) {
			s->copies++;
			return 0;
		}
	int rc = sip_msg_parse(&h->room, bytes.p, bytes.len, conn != NULL);
	/* what refuses a malformed request has to repeat what was wrong: a CSeq, for instance (8.2.6.2) */
	if (rc || (h->room.msg.error && h->room.msg.status != 400 && h->room.msg.status != 505))
		fail_msg("what was sent does not parse (%s):\n" SLICE_FMT, h->room.msg.error_text,
			 SLICE_ARG(bytes));
	if (h->room.msg.len != bytes.len)
		fail_msg("what was sent has bytes behind its end:\n" SLICE_FMT, SLICE_ARG(bytes));
	struct h_sent *s = calloc(1, sizeof(*s));
	if (!s)
		fail_msg("no memory");
	s->to = *to;
	addr_str(conn ? &conn->remote : &to->remote, s->to_text);
	s->at = h->now;
	s->msg = sip_msg_clone(&h->room.msg);
	*h->sent_tail = s;
	h->sent_tail = &s->next;
	return 0;
}

static int on_resolve(void *ctx, const struct sip_uri *uri, uint64_t ref)
{
	struct harness *h = ctx;
	struct h_resolve *r = calloc(1, sizeof(*r));
	if (!r)
		fail_msg("no memory");
	r->ref = ref;
	snprintf(r->uri, sizeof(r->uri), SLICE_FMT, SLICE_ARG(uri->whole));
	*h->resolves_tail = r;
	h->resolves_tail = &r->next;
	return 0;
}

static int on_source(void *ctx, unsigned listener, const struct addr *dest, struct addr *out)
{
	struct harness *h = ctx;
	(void)dest;
	struct addr a = h->config->listen[listener].addr;
	const char *ip = a.family == AF_INET ? "192.0.2.1" : "2001:db8::1";
	return addr_parse_ip(slice_str(ip), a.port, out);
}

/* --- life --- */

static struct config *load(const char *conf)
{
	char path[] = "/tmp/holdfast-scenario-XXXXXX", err[256] = "";
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, conf, strlen(conf)) != (ssize_t)strlen(conf))
		fail_msg("%s: cannot be written", path);
	close(fd);
	struct config *c = NULL;
	struct config_overrides one = {.workers = 1};
	int rc = config_load(path, &one, &c, err, sizeof(err));
	unlink(path);
	if (rc)
		fail_msg("configuration: %s", err);
	return c;
}

static struct harness *start(const char *conf, const char *listeners, uint64_t map)
{
	struct harness *h = calloc(1, sizeof(*h));
	if (!h)
		fail_msg("no memory");
	h->sent_tail = h->flushed = &h->sent;
	h->resolves_tail = &h->resolves;
	h->now = 1000 * WHEEL_TICK_MS;
	wheel_init(&h->wheel, h->now);
	hash_init(42);
	h->config = load(conf);
	if (listeners)
		h_conn_listeners(h->config, listeners);
	h->shared.states = gateway_states_create(h->config);
	h->env = (struct proxy_env){
		.config = h->config,
		.secret = SECRET,
		.shared = &h->shared,
		.lower = {.send = on_send, .resolve = on_resolve, .source = on_source, .ctx = h},
		.wheel = &h->wheel,
		.now = &h->now,
	};
	h_conn_lower(&h->env.lower);
	if (map)
		h_store_open(h, map, &h->env);
	if (proxy_create(&h->env, &h->proxy))
		fail_msg("proxy_create failed");
	return h;
}

struct harness *h_start_on(const char *conf, const char *listeners)
{
	return start(conf, listeners, 0);
}

struct harness *h_start(const char *conf)
{
	return h_start_on(conf, NULL);
}

struct harness *h_start_store(const char *conf, const char *listeners, uint64_t map)
{
	return start(conf, listeners, map ? map : H_MAP);
}

void h_retarget(struct harness *h, unsigned i, const char *uri)
{
	struct config_target *t = &h->config->gateway[0].target[i];
	t->text = h_keepf(h, "%s", uri);
	if (sip_uri_parse(slice_str(t->text), &t->uri))
		fail_msg("%s is no URI", uri);
}

void h_stop(struct harness *h)
{
	proxy_destroy(h->proxy);
	h_store_close(h);
	config_destroy(h->config);
	free(h->shared.states);
	for (struct h_sent *s = h->sent, *next; s; s = next) {
		next = s->next;
		free(s->msg);
		free(s);
	}
	for (struct h_resolve *r = h->resolves, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	for (struct h_text *t = h->texts, *next; t; t = next) {
		next = t->next;
		free(t);
	}
	h_conn_stop(h);
	free(h->last);
	free(h);
}

static void set_config(struct harness *h, struct config *c, struct gateway_states *states)
{
	h->config = c;
	h->shared.states = states;
	proxy_reconfigure(h->proxy, c);
}

void h_swap_config(struct harness *h, struct harness *other)
{
	struct config *c = h->config;
	struct gateway_states *states = h->shared.states;
	set_config(h, other->config, other->shared.states);
	set_config(other, c, states);
}

struct proxy *h_proxy(struct harness *h)
{
	return h->proxy;
}

struct proxy_shared *h_shared(struct harness *h)
{
	return &h->shared;
}

msec_t h_now(const struct harness *h)
{
	return h->now;
}

unsigned h_keepalives(const struct harness *h)
{
	return h->keepalives;
}

unsigned h_slots_held(const struct harness *h)
{
	unsigned n = 0;
	for (unsigned i = 0; i < h->slots; i++)
		n += h->slot[i] != 0;
	return n;
}

void h_assert_idle(const struct harness *h)
{
	assert_int_equal(proxy_contexts(h->proxy), 0);
	assert_int_equal(h->shared.inflight, 0);
	assert_int_equal(h_slots_held(h), 0);
}

void h_batch_begin(struct harness *h)
{
	h->batch++;
}

void h_batch_end(struct harness *h)
{
	if (--h->batch)
		return;
	proxy_commit(h->proxy);
	for (struct h_sent *s = *h->flushed; s && h->flush; s = s->next)
		h->flush(h, s->msg, h->flush_ctx);
	h->flushed = h->sent_tail;
}

/* --- in --- */

static struct flow flow_from(struct harness *h, const char *from)
{
	struct flow f = {.proto = FLOW_UDP};
	struct h_conn *c = h->from_conn ? h_conn_find(h, h->from_conn) : NULL;
	if (c) {
		f = (struct flow){
			.proto = c->proto, .listener = c->listener, .remote = c->remote, .conn = c->id};
		return f;
	}
	if (addr_parse(slice_str(from), &f.remote))
		fail_msg("%s is no address", from);
	for (unsigned i = 0; i < h->config->listen_count; i++)
		if (h->config->listen[i].proto == FLOW_UDP &&
		    h->config->listen[i].addr.family == f.remote.family) {
			f.listener = (uint16_t)i;
			f.local = h->config->listen[i].addr;
			return f;
		}
	fail_msg("no listener for %s", from);
	return f;
}

bool h_recv_bytes(struct harness *h, const char *from, struct slice bytes)
{
	char *copy = malloc(bytes.len + 1);
	if (!copy)
		fail_msg("no memory");
	memcpy(copy, bytes.p, bytes.len);
	free(h->last);
	h->last = copy;
	h->last_len = bytes.len;
	/* Parsed from a block of its exact size, so that a sanitizer sees a read behind the end. */
	struct packet *pk = NULL;
	char *exact = malloc(bytes.len ? bytes.len : 1);
	if (!exact)
		fail_msg("no memory");
	memcpy(exact, bytes.p, bytes.len);
	if (sip_msg_parse(&h->room, exact, bytes.len, h->from_conn != 0) == 0) {
		struct flow f = flow_from(h, from);
		pk = packet_create(&h->room.msg, &f, h->now * 1000000);
		if (!pk)
			fail_msg("no memory");
	}
	free(exact);
	if (!pk)
		return false;
	if (pk->msg->request && h->slots < H_SLOTS) {
		h->slot[h->slots] = 1;
		pk->inflight = &h->slot[h->slots++];
	}
	h_batch_begin(h);
	proxy_receive(h->proxy, pk);
	h_batch_end(h);
	return true;
}

bool h_recv(struct harness *h, const char *from, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(h->scratch, sizeof(h->scratch), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(h->scratch))
		fail_msg("message too long for the harness");
	char *wire = malloc(2 * (size_t)n + 1);
	if (!wire)
		fail_msg("no memory");
	size_t len = 0;
	for (int i = 0; i < n; i++) {
		if (h->scratch[i] == '\n' && (i == 0 || h->scratch[i - 1] != '\r'))
			wire[len++] = '\r';
		wire[len++] = h->scratch[i];
	}
	bool sip = h_recv_bytes(h, from, slice_make(wire, len));
	free(wire);
	return sip;
}

struct slice h_last_received(const struct harness *h)
{
	return slice_make(h->last, h->last_len);
}

static struct h_sent *sent_of(const struct harness *h, const struct sip_msg *m)
{
	for (struct h_sent *s = h->sent; s; s = s->next)
		if (s->msg == m)
			return s;
	fail_msg("not a message that was sent");
	return NULL;
}

void h_undeliverable(struct harness *h, const struct sip_msg *m)
{
	struct h_sent *s = sent_of(h, m);
	h_batch_begin(h);
	proxy_send_failed(h->proxy, &s->to.remote, slice_make(m->buf, m->len));
	h_batch_end(h);
}

/* --- time --- */

void h_run(struct harness *h, msec_t ms)
{
	msec_t end = h->now + ms;
	h->running = true;
	while (h->now < end) {
		msec_t step = end - h->now < WHEEL_TICK_MS ? end - h->now : WHEEL_TICK_MS;
		h->now += step;
		h->wall += step;
		h_batch_begin(h);
		wheel_run(&h->wheel, h->now);
		h_batch_end(h);
	}
	h->running = false;
}

/* --- out --- */

const struct sip_msg *h_take_request(struct harness *h, const char *to, const char *method)
{
	for (struct h_sent *s = h->sent; s; s = s->next)
		if (!s->taken && s->msg->request && (!to || strcmp(s->to_text, to) == 0) &&
		    (!method || slice_eq(sip_slice(s->msg, s->msg->method_name), slice_str(method)))) {
			s->taken = true;
			return s->msg;
		}
	return NULL;
}

const struct sip_msg *h_take_response(struct harness *h, const char *to, unsigned status)
{
	for (struct h_sent *s = h->sent; s; s = s->next)
		if (!s->taken && !s->msg->request && (!to || strcmp(s->to_text, to) == 0) &&
		    (status ? s->msg->status == status : s->msg->status >= 200)) {
			s->taken = true;
			return s->msg;
		}
	return NULL;
}

/* Everything not taken, for a failing test's message. */
const char *h_pending(struct harness *h)
{
	char *all = h_keepf(h, "(nothing)");
	bool any = false;
	for (struct h_sent *s = h->sent; s; s = s->next)
		if (!s->taken) {
			all = h_keepf(h, "%s--- to %s:\n%.*s", any ? all : "", s->to_text, (int)s->msg->len,
				      s->msg->buf);
			any = true;
		}
	return all;
}

const struct sip_msg *h_expect_request(struct harness *h, const char *to, const char *method)
{
	const struct sip_msg *m = h_take_request(h, to, method);
	if (!m)
		fail_msg("no %s to %s, but:\n%s", method, to, h_pending(h));
	return m;
}

const struct sip_msg *h_expect_response(struct harness *h, const char *to, unsigned status)
{
	const struct sip_msg *m = h_take_response(h, to, status);
	if (!m)
		fail_msg("no %u to %s, but:\n%s", status, to, h_pending(h));
	return m;
}

void h_expect_silence(struct harness *h)
{
	for (struct h_sent *s = h->sent; s; s = s->next)
		if (!s->taken)
			fail_msg("silence expected, but:\n%s", h_pending(h));
}

void h_forget(struct harness *h)
{
	for (struct h_sent *s = h->sent; s; s = s->next)
		s->taken = true;
}

unsigned h_copies(const struct harness *h, const struct sip_msg *m)
{
	return sent_of(h, m)->copies;
}

const char *h_sent_to(const struct harness *h, const struct sip_msg *m)
{
	return sent_of(h, m)->to_text;
}

unsigned h_sent_listener(const struct harness *h, const struct sip_msg *m)
{
	return sent_of(h, m)->to.listener;
}

uint64_t h_sent_conn(const struct harness *h, const struct sip_msg *m)
{
	return sent_of(h, m)->to.conn;
}

msec_t h_sent_at(const struct harness *h, const struct sip_msg *m)
{
	return sent_of(h, m)->at;
}

unsigned h_sent_count(const struct harness *h)
{
	unsigned n = 0;
	for (struct h_sent *s = h->sent; s; s = s->next)
		n++;
	return n;
}

/* --- name look-ups --- */

unsigned h_resolves(const struct harness *h)
{
	unsigned n = 0;
	for (struct h_resolve *r = h->resolves; r; r = r->next)
		n += !r->taken;
	return n;
}

uint64_t h_expect_resolve(struct harness *h, const char *text)
{
	for (struct h_resolve *r = h->resolves; r; r = r->next)
		if (!r->taken) {
			if (!strstr(r->uri, text))
				fail_msg("look-up of %s, not %s", r->uri, text);
			r->taken = true;
			return r->ref;
		}
	fail_msg("no look-up of %s", text);
	return 0;
}

void h_resolved(struct harness *h, uint64_t ref, int error, const char *hops)
{
	struct resolver_answer a = {.ref = ref, .error = error};
	for (const char *p = hops; p && *p && a.hop_count < RESOLVER_HOPS_MAX;) {
		size_t n = strcspn(p, " ");
		struct resolver_hop *hop = &a.hop[a.hop_count++];
		const char *at = p;
		hop->proto = (uint8_t)h_proto(&at);
		if (addr_parse(slice_make(at, n - (size_t)(at - p)), &hop->addr))
			fail_msg("%s is no address", p);
		p += n;
		p += strspn(p, " ");
	}
	h_batch_begin(h);
	proxy_resolved(h->proxy, &a);
	h_batch_end(h);
}
