/* OPTIONS probes of gateway targets. One worker sends them (their Call-IDs are its own) and notes who answers. */
#include "proxy_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

struct probe {
	uint8_t kind; /* OWNER_PROBE */
	struct proxy *proxy;
	const struct config_gateway *gateway;
	const struct config_target *target;
	struct gateway_state *state;
	struct timer next;    /* the next probe */
	struct timer timeout; /* of this one */
	struct pending pending;
	struct txn *client;
	nsec_t sent;
};

struct prober {
	unsigned count;
	struct probe probe[];
};

/* `why` it failed; NULL: it did not. */
static void probe_result(struct probe *b, const char *why)
{
	bool ok = !why;

	timer_stop(b->proxy->wheel, &b->timeout);
	atomic_fetch_add_explicit(&b->state->probes, 1, memory_order_relaxed);
	if (ok)
		atomic_store_explicit(&b->state->rtt, clock_mono_ns() - b->sent, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&b->state->failed, 1, memory_order_relaxed);
	if (atomic_exchange_explicit(&b->state->down, !ok, memory_order_relaxed) == !ok)
		return;
	if (ok)
		log_warning("gateway", "%s: target %s answers again", b->gateway->name, b->target->text);
	else
		log_warning("gateway", "%s: target %s does not answer, it is skipped: %s", b->gateway->name,
			    b->target->text, why);
}

static void probe_send(struct probe *b, const struct resolver_hop *hop)
{
	struct proxy *p = b->proxy;
	int l = self_listener(p, hop->proto, &hop->addr, -1);

	if (l < 0) {
		probe_result(b, "no listen section for its transport and address family");
		return;
	}
	struct flow out = {.proto = hop->proto, .listener = (uint16_t)l, .remote = hop->addr};
	uint32_t ack_timeout = 0;
	if (out.proto != FLOW_UDP &&
	    (!p->lower.connect ||
	     p->lower.connect(p->lower.ctx, &out, b->target->uri.host, &ack_timeout) < 0)) {
		probe_result(b, "no connection can be opened");
		return;
	}
	struct options_args a = {
		.uri = b->target->uri.whole, .flow = out, .ack_timeout = ack_timeout, .owner = b};
	b->sent = clock_mono_ns();
	if (options_send(p, &a, &b->client) < 0) {
		b->client = NULL;
		probe_result(b, "no room for another transaction");
	}
}

static void probe_next(struct timer *t, msec_t now)
{
	struct probe *b = container_of(t, struct probe, next);
	struct proxy *p = b->proxy;
	struct resolver_hop hop;

	timer_set(p->wheel, &b->next, now + b->gateway->probe_interval);
	if (b->client || b->pending.ref)
		return; /* the last one is still out */
	timer_set(p->wheel, &b->timeout, now + b->gateway->probe_timeout);
	int err = resolver_literal(&b->target->uri, p->protos, &hop);
	if (err == 0) {
		probe_send(b, &hop);
	} else {
		pending_add(p, &b->pending, PENDING_PROBE);
		if (err != -EAGAIN || p->lower.resolve(p->lower.ctx, &b->target->uri, b->pending.ref) < 0) {
			pending_remove(p, &b->pending);
			probe_result(b, "its name cannot be looked up");
		}
	}
}

/* What is answered lingers on its own, and the next one need not wait for its end. */
static void probe_drop(struct probe *b)
{
	struct txn *t = b->client;

	pending_remove(b->proxy, &b->pending);
	b->client = NULL;
	if (t) {
		txn_set_owner(t, NULL);
		txn_client_abandon(t);
	}
}

static void probe_timeout(struct timer *t, msec_t now)
{
	struct probe *b = container_of(t, struct probe, timeout);

	(void)now;
	probe_drop(b);
	probe_result(b, "nothing came within probe_timeout");
}

void probe_response(void *owner, unsigned status)
{
	struct probe *b = owner;
	char why[32];

	if (status < 200)
		return;
	probe_drop(b);
	/* 408 and 503 are what stands between us and the target saying that it is not there. */
	snprintf(why, sizeof(why), "it says %u", status);
	if (timer_is_set(&b->timeout))
		probe_result(b, status == 408 || status == 503 ? why : NULL);
}

void probe_failed(void *owner, const char *why)
{
	struct probe *b = owner;

	probe_drop(b);
	if (timer_is_set(&b->timeout))
		probe_result(b, why);
}

void probe_lost(void *owner)
{
	const struct probe *b = owner;

	probe_failed(owner, b->proxy->conn_lost ? "its connection has ended, or cannot be opened"
						: "its host or port cannot be reached");
}

void probe_gone(void *owner)
{
	struct probe *b = owner;

	b->client = NULL;
}

void probe_resolved(struct proxy *p, struct pending *w, const struct resolver_answer *a)
{
	struct probe *b = container_of(w, struct probe, pending);

	(void)p;
	if (a->error)
		probe_result(b,
			     a->error == -ENOENT ? "its name does not exist" : "its name cannot be looked up");
	else
		probe_send(b, &a->hop[0]);
}

int probe_start(struct proxy *p)
{
	const struct config *c = p->config;
	unsigned n = 0, state = 0, total = 0;

	for (unsigned g = 0; g < c->gateway_count; g++)
		if (c->gateway[g].probe_interval)
			total += c->gateway[g].target_count;
	if (total == 0 || p->worker != 0 || !p->states)
		return 0;
	p->prober = calloc(1, sizeof(*p->prober) + total * sizeof(p->prober->probe[0]));
	if (!p->prober)
		return -ENOMEM;
	p->prober->count = total;
	for (unsigned g = 0; g < c->gateway_count; g++) {
		const struct config_gateway *gw = &c->gateway[g];
		for (unsigned t = 0; t < gw->target_count; t++, state++) {
			if (!gw->probe_interval)
				continue;
			struct probe *b = &p->prober->probe[n];
			b->kind = OWNER_PROBE;
			b->proxy = p;
			b->gateway = gw;
			b->target = &gw->target[t];
			b->state = &p->states->state[state];
			timer_init(&b->next, probe_next);
			timer_init(&b->timeout, probe_timeout);
			/* Spread over the interval, the first at once. */
			timer_set(p->wheel, &b->next, proxy_now(p) + (uint64_t)gw->probe_interval * n / total);
			n++;
		}
	}
	return 0;
}

void probe_stop(struct proxy *p)
{
	if (!p->prober)
		return;
	for (unsigned i = 0; i < p->prober->count; i++) {
		struct probe *b = &p->prober->probe[i];
		timer_stop(p->wheel, &b->next);
		timer_stop(p->wheel, &b->timeout);
		probe_drop(b);
	}
	free(p->prober);
	p->prober = NULL;
}
