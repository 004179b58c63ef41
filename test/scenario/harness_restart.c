/* A restart under the scenarios: the proxy is gone between two instructions, and another begins on the same store. */
#include <errno.h>
#include <stdlib.h>

#include "harness_p.h"
#include "store/db.h"

static void make(struct harness *h)
{
	wheel_init(&h->wheel, h->now);
	if (proxy_create(&h->env, &h->proxy))
		fail_msg("proxy_create failed");
}

static void destroy(struct harness *h)
{
	proxy_destroy(h->proxy);
	h->proxy = NULL;
	assert_int_equal(h->wheel.count, 0); /* a timer that outlives its owner */
	assert_int_equal(h->shared.inflight, 0);
}

struct harness *h_start_calls(const char *conf, const char *listeners, uint64_t map)
{
	struct harness *h = h_start_store(conf, listeners, map);
	char err[256] = "";
	destroy(h);
	if (store_worker(h->store, 0, &h->calls, err, sizeof(err)))
		fail_msg("no store: %s", err);
	h->wall = clock_wall_ns() / 1000000u;
	h->env.wall = &h->wall;
	h->env.calls = h->calls;
	make(h);
	return h;
}

/* What the batch had decided to send, and did not. */
static void drop_unsent(struct harness *h)
{
	for (struct h_sent *s = *h->flushed, *next; s; s = next) {
		next = s->next;
		free(s->msg);
		free(s);
	}
	*h->flushed = NULL;
	h->sent_tail = h->flushed;
}

void h_crash(struct harness *h)
{
	drop_unsent(h);
	h->batch = 0;
	destroy(h);
	for (struct h_conn *c = h->conns; c; c = c->next)
		c->dead = c->told = true;
	for (struct h_resolve *r = h->resolves; r; r = r->next)
		r->taken = true;
	h->slots = 0;
}

void h_crash_unsent(struct harness *h)
{
	proxy_commit(h->proxy);
	h_crash(h);
}

void h_down(struct harness *h, msec_t ms)
{
	h->now += ms;
	h->wall += ms;
}

int h_restore(struct harness *h, uint64_t record, struct slice bytes, bool moved)
{
	return proxy_restore(h->proxy, record, bytes, moved);
}

/* As the worker pool does it. */
static unsigned up(struct harness *h, bool all)
{
	struct store_reader *reader;
	struct store_cursor *c;
	struct slice key, value;
	unsigned n = 0;
	make(h);
	if (store_reader_create(h->calls, &reader) || store_read_begin(reader) ||
	    store_walk_reader(reader, STORE_CALLS, &c))
		fail_msg("the store cannot be read");
	for (int rc = store_seek(c, SLICE_NONE, &key, &value); rc != -ENOENT;
	     rc = store_next(c, &key, &value)) {
		uint64_t record = 0;
		for (size_t i = 0; i < key.len; i++)
			record = record << 8 | (unsigned char)key.p[i];
		assert_int_equal(rc, 0);
		if (proxy_restore(h->proxy, record, value, false) == 0)
			n++;
		else if (all)
			fail_msg("a record is left out");
	}
	store_walk_end(c);
	store_reader_destroy(reader);
	return n;
}

unsigned h_up(struct harness *h)
{
	return up(h, true);
}

unsigned h_up_some(struct harness *h)
{
	return up(h, false);
}

void h_take_config(struct harness *h, struct harness *other)
{
	struct config *c = h->config;
	struct gateway_states *states = h->shared.states;
	h->env.config = h->config = other->config;
	h->shared.states = other->shared.states;
	other->config = c;
	other->shared.states = states;
	proxy_reconfigure(other->proxy, c);
}

unsigned h_restart(struct harness *h)
{
	h_crash(h);
	unsigned n = h_up(h);
	h_run(h, WHEEL_TICK_MS);
	return n;
}

unsigned h_records(struct harness *h, enum store_table table)
{
	return (unsigned)store_count(h->calls, table);
}

struct slice h_record(struct harness *h, unsigned n)
{
	struct store_reader *reader;
	struct store_cursor *c;
	struct slice key, value;
	if (store_reader_create(h->calls, &reader) || store_read_begin(reader) ||
	    store_walk_reader(reader, STORE_CALLS, &c))
		fail_msg("the store cannot be read");
	int rc = store_seek(c, SLICE_NONE, &key, &value);
	while (rc == 0 && n--)
		rc = store_next(c, &key, &value);
	assert_int_equal(rc, 0);
	char *copy = h_keep(h, value.len);
	memcpy(copy, value.p, value.len);
	store_walk_end(c);
	store_reader_destroy(reader);
	return slice_make(copy, value.len);
}

struct store_env *h_calls(struct harness *h)
{
	return h->calls;
}

void h_on_flush(struct harness *h, void (*see)(struct harness *h, const struct sip_msg *m, void *ctx),
		void *ctx)
{
	h->flush = see;
	h->flush_ctx = ctx;
}
