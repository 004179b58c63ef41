/* The location service: sets come back as they were stored, dead connections take only their own bindings, parts of a
 * walk are everything once. */
#include <errno.h>

#include "base/hash.h"
#include "registrar/binding_p.h"
#include "registrar_store.h"

#define MANY 5000

static struct binding_set set, got; /* too large for each test's stack */

static int setup(void **state)
{
	(void)state;
	return store_setup(64u << 20);
}

static int teardown(void **state)
{
	(void)state;
	return store_teardown();
}

static struct binding binding(const char *contact, uint64_t expires)
{
	return (struct binding){.contact = slice_str(contact),
				.call_id = SLICE_LIT("call@host"),
				.cseq = 7,
				.q = 1000,
				.expires = expires,
				.flow = {.proto = FLOW_UDP,
					 .listener = 1,
					 .remote = {.family = AF_INET, .port = 5060, .ip = {192, 0, 2, 1}}}};
}

static struct binding on_conn(const char *contact, uint64_t conn)
{
	struct binding b = binding(contact, 1000);
	b.flow.proto = FLOW_TCP;
	b.flow.conn = conn;
	b.use_flow = b.unbind = true;
	return b;
}

static struct store_txn *begin(void)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	return t;
}

static void save_in(struct store_txn *t, const char *aor, unsigned n, const struct binding *b)
{
	set.count = n;
	for (unsigned i = 0; i < n; i++)
		set.b[i] = b[i];
	assert_int_equal(location_save(t, slice_str(aor), &set), 0);
}

static void save(const char *aor, unsigned n, const struct binding *b)
{
	struct store_txn *t = begin();
	save_in(t, aor, n, b);
	assert_int_equal(store_commit(t), 0);
}

/* Valid until the next call. */
static unsigned find(const char *aor, uint64_t now)
{
	store_read_end(reader);
	assert_int_equal(store_read_begin(reader), 0);
	assert_int_equal(location_find(reader, slice_str(aor), now, &got), 0);
	return got.count;
}

static int drop(uint64_t conn)
{
	struct store_txn *t = begin();
	int n = location_drop_conn(t, conn);
	assert_int_equal(store_commit(t), 0);
	return n;
}

static void assert_binding(const struct binding *a, const struct binding *b)
{
	assert_true(slice_eq(a->contact, b->contact) && slice_eq(a->instance, b->instance) &&
		    slice_eq(a->call_id, b->call_id) && slice_eq(a->path, b->path) &&
		    slice_eq(a->user_agent, b->user_agent) && slice_eq(a->params, b->params));
	assert_int_equal(a->reg_id, b->reg_id);
	assert_int_equal(a->cseq, b->cseq);
	assert_int_equal(a->q, b->q);
	assert_int_equal(a->expires, b->expires);
	assert_int_equal(a->updated, b->updated);
	assert_int_equal(a->number, b->number);
	assert_true(a->use_flow == b->use_flow && a->unbind == b->unbind && a->outbound == b->outbound &&
		    a->unreachable == b->unreachable);
	assert_int_equal(a->flow.proto, b->flow.proto);
	assert_int_equal(a->flow.acceptor, b->flow.acceptor);
	assert_int_equal(a->flow.listener, b->flow.listener);
	assert_int_equal(a->flow.conn, b->flow.conn);
	assert_true(addr_eq(&a->flow.remote, &b->flow.remote) && addr_eq(&a->flow.local, &b->flow.local));
}

static void test_aor(void **state)
{
	(void)state;
	static const struct {
		const char *user, *domain, *aor;
	} row[] = {
		{"alice", "example.com", "alice@example.com"},
		{"Alice", "EXAMPLE.Com", "Alice@example.com"},
		{"%61lic%65", "example.com", "alice@example.com"},
		{"j%C3%B6rg", "example.com", "j\xc3\xb6rg@example.com"},
		/* Reserved characters differ from their escapes (19.1.4), whatever the case of the digits. */
		{"a%3bb", "example.com", "a%3Bb@example.com"},
		{"a;b", "example.com", "a;b@example.com"},
		{"a%40b", "example.com", "a%40b@example.com"},
		/* What would look like another escape, or could not be written, stays one. */
		{"a%253b", "example.com", "a%253b@example.com"},
		{"a%00%0A%7f", "example.com", "a%00%0A%7F@example.com"},
		{"", "example.com", NULL},
		{"alice", "", NULL},
		{"a%4", "example.com", NULL},
		{"a%", "example.com", NULL},
		{"a%zz", "example.com", NULL},
	};
	char text[LOCATION_AOR_MAX + 1], longest[LOCATION_AOR_MAX];
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct buf b;
		buf_init(&b, text, sizeof(text));
		int rc = location_aor(slice_str(row[i].user), slice_str(row[i].domain), &b);
		assert_int_equal(rc, row[i].aor ? 0 : -EINVAL);
		if (rc == 0)
			unit_assert_slice(buf_view(&b), row[i].aor);
		else
			assert_int_equal(b.len, 0);
	}
	struct buf b;
	memset(longest, 'a', sizeof(longest));
	buf_init(&b, text, sizeof(text));
	assert_int_equal(location_aor(slice_make(longest, LOCATION_AOR_MAX - 1), SLICE_LIT("d"), &b), -EINVAL);
	assert_int_equal(location_aor(slice_make(longest, LOCATION_AOR_MAX - 2), SLICE_LIT("d"), &b), 0);
	assert_int_equal(b.len, LOCATION_AOR_MAX);
	assert_int_equal(location_aor(SLICE_LIT("u"), SLICE_LIT("d"), &b), -EINVAL); /* no room behind it */
	assert_false(b.full);
}

static void test_save_find(void **state)
{
	(void)state;
	struct binding b[3] = {binding("sip:a@192.0.2.1", 100), binding("sip:a@192.0.2.2", 200),
			       on_conn("sip:a@h", 9)};
	b[1].instance = SLICE_LIT("urn:uuid:1");
	b[1].reg_id = 0xfffffffe;
	b[1].cseq = 0xfffffffd;
	b[1].q = 0;
	b[1].path = SLICE_LIT("<sip:p1;lr>,<sip:p2;lr>");
	b[1].user_agent = SLICE_LIT("UA \x01");
	b[1].params = SLICE_LIT(";a=b;c");
	b[1].updated = UINT64_MAX - 1;
	b[1].number = UINT64_MAX - 2;
	b[1].outbound = b[1].unreachable = true;
	b[1].flow.acceptor = 255;
	b[1].flow.listener = 0xffff;
	b[1].flow.remote = (struct addr){
		.family = AF_INET6, .port = 0xffff, .scope = 0xffffffff, .ip = {0xfe, 0x80, [15] = 1}};
	b[1].flow.local = (struct addr){.family = AF_INET, .port = 1, .ip = {255, 255, 255, 255}};
	assert_int_equal(find("a@d", 0), 0);
	save("a@d", 3, b);
	assert_int_equal(find("a@d", 0), 3);
	for (unsigned i = 0; i < 3; i++)
		assert_binding(&got.b[i], &b[i]);
	/* Expired ones are not given, the others keep their order. */
	assert_int_equal(find("a@d", 99), 3);
	assert_int_equal(find("a@d", 100), 2);
	assert_binding(&got.b[0], &b[1]);
	assert_binding(&got.b[1], &b[2]);
	assert_int_equal(find("a@d", 2000), 0);
	assert_int_equal(find("A@d", 0), 0);
	save("a@d", 0, b);
	assert_int_equal(find("a@d", 0), 0);
	assert_int_equal(store_count(env, STORE_LOCATION), 0);
	assert_int_equal(store_count(env, STORE_FLOWS), 0);
	save("a@d", 0, b);
}

/* What was loaded points into the record that is replaced. */
static void test_load_change_save(void **state)
{
	(void)state;
	struct binding b[2] = {binding("sip:a@192.0.2.1", 100), binding("sip:a@192.0.2.2", 200)};
	save("a@d", 2, b);
	struct store_txn *t = begin();
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(location_load(t, SLICE_LIT("a@d"), 0, &got), 0);
		assert_int_equal(got.count, 2);
		struct binding first = got.b[0];
		got.b[0] = got.b[1];
		got.b[1] = first;
		got.b[0].cseq++;
		assert_int_equal(location_save(t, SLICE_LIT("a@d"), &got), 0);
	}
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(find("a@d", 0), 2);
	b[0].cseq = b[1].cseq = 107;
	assert_binding(&got.b[0], &b[0]);
	assert_binding(&got.b[1], &b[1]);
}

static void test_limits(void **state)
{
	(void)state;
	static char text[0x10000];
	static struct binding b[LOCATION_BINDINGS_MAX];
	static char aor[LOCATION_AOR_MAX + 2];
	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < LOCATION_BINDINGS_MAX; i++) {
		b[i] = on_conn("sip:a@b", i + 1);
		b[i].path = slice_make(text, i * 1000);
	}
	memset(aor, 'a', LOCATION_AOR_MAX);
	save(aor, LOCATION_BINDINGS_MAX, b);
	assert_int_equal(find(aor, 0), LOCATION_BINDINGS_MAX);
	for (unsigned i = 0; i < LOCATION_BINDINGS_MAX; i++)
		assert_binding(&got.b[i], &b[i]);
	assert_int_equal(store_count(env, STORE_FLOWS), LOCATION_BINDINGS_MAX);

	struct store_txn *t = begin();
	aor[LOCATION_AOR_MAX] = 'a';
	assert_int_equal(location_save(t, slice_str(aor), &got), -EINVAL);
	assert_int_equal(location_load(t, SLICE_NONE, 0, &got), -EINVAL);
	set.count = 1;
	set.b[0] = b[0];
	set.b[0].params = slice_make(text, sizeof(text));
	assert_int_equal(location_save(t, SLICE_LIT("a@d"), &set), -EINVAL);
	set.b[0] = b[0];
	set.b[0].contact = SLICE_NONE;
	assert_int_equal(location_save(t, SLICE_LIT("a@d"), &set), -EINVAL);
	set.b[0] = b[0];
	set.b[0].q = 1001;
	assert_int_equal(location_save(t, SLICE_LIT("a@d"), &set), -EINVAL);
	set.count = LOCATION_BINDINGS_MAX + 1;
	assert_int_equal(location_save(t, SLICE_LIT("a@d"), &set), -EINVAL);
	store_abort(t);
}

static void test_drop_conn(void **state)
{
	(void)state;
	struct binding a[3] = {on_conn("sip:a@1", 5), binding("sip:a@2", 1000), on_conn("sip:a@3", 6)};
	struct binding b[2] = {on_conn("sip:b@1", 5), on_conn("sip:b@2", 5)};
	struct binding c[1] = {on_conn("sip:c@1", 5)};
	struct binding d[1] = {on_conn("sip:d@1", 0x0506)};
	save("a@d", 3, a);
	save("b@d", 2, b);
	save("c@d", 1, c);
	save("d@d", 1, d);
	/* Reached at its own address as well: it only came over the connection. */
	a[1].flow.conn = 5;
	save("a@d", 3, a);
	/* Refreshed over a newer connection before the older one's death is known. */
	c[0].flow.conn = 7;
	save("c@d", 1, c);
	assert_int_equal(drop(5), 3);
	assert_int_equal(find("a@d", 0), 2);
	assert_binding(&got.b[0], &a[1]);
	assert_binding(&got.b[1], &a[2]);
	assert_int_equal(find("b@d", 0), 0);
	assert_int_equal(find("c@d", 0), 1);
	assert_int_equal(find("d@d", 0), 1);
	assert_int_equal(drop(5), 0);
	assert_int_equal(drop(7), 1);
	assert_int_equal(drop(6), 1);
	assert_int_equal(drop(0x0506), 1);
	assert_int_equal(drop(UINT64_MAX), 0);
	assert_int_equal(store_count(env, STORE_FLOWS), 0);
	assert_int_equal(store_count(env, STORE_LOCATION), 1);
}

/* A trunk that has registered many, whose connection ends while one of them is damaged. */
static void test_drop_many(void **state)
{
	(void)state;
	char aor[32];
	struct binding b = on_conn("sip:t@trunk", 77);
	struct store_txn *t = begin();
	for (int i = 0; i < 1000; i++) {
		snprintf(aor, sizeof(aor), "user%d@d", i);
		save_in(t, aor, 1, &b);
	}
	assert_int_equal(store_commit(t), 0);
	t = begin();
	char key[32];
	uint64_t h = hash_bytes("user500@d", 9, 0);
	key[0] = (char)(h >> 8), key[1] = (char)h;
	memcpy(key + 2, "user500@d", 9);
	assert_int_equal(store_put(t, STORE_LOCATION, slice_make(key, 11), SLICE_LIT("\xff")), 0);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(drop(77), 999);
	assert_int_equal(store_count(env, STORE_FLOWS), 0);
	assert_int_equal(counters_sum(CNT_STORE_DAMAGED), 1);
	assert_int_equal(find("user500@d", 0), 0);
	/* The next REGISTER replaces it. */
	save("user500@d", 1, &b);
	assert_int_equal(find("user500@d", 0), 1);
}

static unsigned visits[MANY], empty_sets;

static void visit(void *ctx, struct slice aor, const struct binding_set *s)
{
	uint64_t n = 0;
	(void)ctx;
	assert_true(slice_u64(slice_make(aor.p, aor.len - 2), MANY - 1, &n));
	visits[n]++;
	empty_sets += s->count == 0;
	assert_int_equal(s->b[0].number, n);
}

static void test_walk(void **state)
{
	(void)state;
	static const unsigned parts_of[] = {1, 2, 7, 256, 70000}, max_of[] = {MANY + 1, 100, 1};
	char aor[32];
	struct store_txn *t = begin();
	for (unsigned i = 0; i < MANY; i++) {
		struct binding b = binding("sip:a@b", i % 10 ? 1000 : 1);
		b.number = i;
		snprintf(aor, sizeof(aor), "%u@d", i);
		save_in(t, aor, 1, &b);
	}
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(store_read_begin(reader), 0);
	for (unsigned round = 0; round < 5; round++) {
		unsigned parts = parts_of[round], max = max_of[round % 3], largest = 0;
		memset(visits, 0, sizeof(visits));
		for (unsigned part = 0; part < parts; part++) {
			struct location_place where = {0};
			unsigned in_part = 0;
			do {
				int n = location_walk(reader, part, parts, &where, max, visit, NULL);
				assert_true(n >= 0 && (unsigned)n <= max);
				in_part += (unsigned)n;
			} while (where.len);
			largest = in_part > largest ? in_part : largest;
		}
		for (unsigned i = 0; i < MANY; i++)
			assert_int_equal(visits[i], 1);
		/* The parts are about as large as each other. */
		assert_true(parts > 7 || largest < MANY / parts + MANY / 10);
	}
	struct location_place where = {0};
	assert_int_equal(location_walk(reader, 1, 1, &where, 1, visit, NULL), -EINVAL);
	assert_int_equal(location_walk(reader, 0, 0, &where, 1, visit, NULL), -EINVAL);
	assert_int_equal(location_walk(reader, 0, 1, &where, 0, visit, NULL), -EINVAL);
	assert_int_equal(empty_sets, 0);
}

/* Between two steps of a walk the one that it stands at is removed: none is left out or met twice. */
static void test_walk_while_removing(void **state)
{
	(void)state;
	char aor[32];
	struct location_place where = {0};
	unsigned seen = 0;
	for (unsigned i = 0; i < 50; i++) {
		struct binding b = binding("sip:a@b", 1);
		b.number = i;
		snprintf(aor, sizeof(aor), "%u@d", i);
		save(aor, 1, &b);
	}
	memset(visits, 0, sizeof(visits));
	do {
		store_read_end(reader);
		assert_int_equal(store_read_begin(reader), 0);
		seen += (unsigned)location_walk(reader, 0, 1, &where, 1, visit, NULL);
		store_read_end(reader);
		for (unsigned i = 0; i < 50; i++)
			if (visits[i] == 1) {
				snprintf(aor, sizeof(aor), "%u@d", i);
				save(aor, 0, NULL);
				visits[i] = 2;
			}
	} while (where.len);
	assert_int_equal(seen, 50);
	assert_int_equal(store_count(env, STORE_LOCATION), 0);
}

/* Every cut, and every changed byte, is refused or decodes to something within bounds. */
static void test_decode(void **state)
{
	(void)state;
	static struct binding_set out;
	char good[1024], bad[1024];
	set.count = 2;
	set.b[0] = on_conn("sip:a@b", 3);
	set.b[1] = binding("sip:c@d", 50);
	set.b[1].flow.local = (struct addr){.family = AF_INET6, .port = 7};
	size_t n = binding_size(&set);
	assert_true(n > 0 && n < sizeof(good));
	binding_encode(&set, good);
	assert_int_equal(binding_decode(slice_make(good, n), 0, &out), 0);
	assert_int_equal(out.count, 2);
	for (size_t i = 0; i < n; i++) {
		out.count = 99;
		assert_int_equal(binding_decode(slice_make(good, i), 0, &out), -EBADMSG);
		assert_int_equal(out.count, 99);
		for (int v = 0; v < 256; v++) {
			memcpy(bad, good, n);
			bad[i] = (char)v;
			if (binding_decode(slice_make(bad, n), 0, &out) == 0)
				assert_true(out.count == 2);
		}
	}
	good[n] = 0;
	assert_int_equal(binding_decode(slice_make(good, n + 1), 0, &out), -EBADMSG);
	memcpy(bad, good, n);
	bad[0]++; /* of a later version */
	assert_int_equal(binding_decode(slice_make(bad, n), 0, &out), -EBADMSG);
	memcpy(bad, good, n);
	bad[1] = LOCATION_BINDINGS_MAX + 1;
	assert_int_equal(binding_decode(slice_make(bad, n), 0, &out), -EBADMSG);
}

static void test_full(void **state)
{
	(void)state;
	static char path[60000];
	char folder[FOLDER_LEN + 8], err[256], aor[32];
	struct store *s = NULL;
	struct store_txn *t;
	snprintf(folder, sizeof(folder), "%s/small", store_root);
	assert_int_equal(store_open(folder, 1 << 20, &s, err, sizeof(err)), 0);
	int rc = 0;
	unsigned n = 0;
	for (; rc == 0; n++) {
		assert_true(n < 1000);
		set.count = 1;
		set.b[0] = on_conn("sip:a@b", n + 1);
		set.b[0].path = slice_make(path, sizeof(path));
		snprintf(aor, sizeof(aor), "%u@d", n);
		assert_int_equal(store_begin(store_shared(s), &t), 0);
		rc = location_save(t, slice_str(aor), &set);
		if (rc)
			store_abort(t);
		else
			rc = store_commit(t);
	}
	assert_int_equal(rc, -ENOSPC);
	/* All or nothing: the index knows as many as there are. */
	assert_int_equal(store_count(store_shared(s), STORE_LOCATION), n - 1);
	assert_int_equal(store_count(store_shared(s), STORE_FLOWS), n - 1);
	for (unsigned i = 1; i < n; i++) {
		assert_int_equal(store_begin(store_shared(s), &t), 0);
		assert_int_equal(location_drop_conn(t, i), 1);
		assert_int_equal(store_commit(t), 0);
	}
	store_close(s);
}

static void oom_body(void)
{
	static char path[4000];
	struct binding b = on_conn("sip:a@b", 4);
	struct store_txn *t = begin();
	b.path = slice_make(path, sizeof(path)); /* a record too large for the stack */
	set.count = 1;
	set.b[0] = b;
	int rc = location_save(t, SLICE_LIT("a@d"), &set);
	if (rc == 0)
		rc = location_drop_conn(t, 4);
	if (rc < 0) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		store_abort(t);
		return;
	}
	assert_int_equal(rc, 1);
	assert_int_equal(store_commit(t), 0);
	struct location_place where = {0};
	assert_int_equal(store_read_begin(reader), 0);
	rc = location_walk(reader, 0, 1, &where, 10, visit, NULL);
	store_read_end(reader);
	if (rc)
		assert_int_equal(rc, -ENOMEM);
}

static void test_no_memory(void **state)
{
	(void)state;
	UNIT_OOM(oom_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aor),
		cmocka_unit_test(test_decode),
		cmocka_unit_test_setup_teardown(test_save_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_change_save, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_conn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk_while_removing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
