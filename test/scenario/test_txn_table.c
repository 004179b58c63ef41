/* The table of transactions as a whole: its limit, its growth and shrinking, its memory, its documentation, and a long
 * walk of random events. */
#include <errno.h>
#include <malloc.h>

#include "base/hash.h"
#include "txn_fake.h"

static const char *branch_name(unsigned i)
{
	static char text[64];

	snprintf(text, sizeof(text), "SIP/2.0/UDP h%u.example.com;branch=z9hG4bK%u", i % 97, i);
	return text;
}

static void test_limit(void **state)
{
	(void)state;
	struct flow f = fake_flow(FLOW_UDP);
	struct txn *t[3], *more = NULL;

	fake_create(3);
	for (unsigned i = 0; i < 3; i++)
		t[i] = fake_server(REQ(.via = branch_name(i)), FLOW_UDP);
	assert_int_equal(txn_table_count(fake.tb), 3);
	_Atomic uint64_t slot = 4;
	assert_int_equal(txn_server_create(fake.tb, REQ(), &f, NULL, &slot, &more), -ENOBUFS);
	assert_int_equal(slot, 4); /* still the caller's */
	struct txn_client_args a = {.bytes = SLICE_LIT("x"), .branch = SLICE_LIT("y"), .flow = f};
	assert_int_equal(txn_client_create(fake.tb, &a, &more), -ENOBUFS);
	assert_null(more);
	assert_int_equal(counters_sum(CNT_TXN_REFUSED), 2);
	fake_expect("");
	/* Room again. */
	txn_server_abandon(t[1]);
	assert_int_equal(txn_table_count(fake.tb), 2);
	fake_server(REQ(), FLOW_UDP);
	/* destroy releases what is held, and calls nobody */
	slot = 4;
	txn_server_abandon(t[0]);
	assert_int_equal(txn_server_create(fake.tb, REQ(.method = "BYE"), &f, &fake_owner, &slot, &t[0]), 0);
	unsigned gone = fake.gone;
	fake_destroy();
	assert_int_equal(slot, 0);
	assert_int_equal(fake.gone, gone);
	txn_table_destroy(NULL);
}

#define MANY 20000u

static void test_grows_and_shrinks(void **state)
{
	(void)state;
	static struct txn *t[MANY];

	for (unsigned i = 0; i < MANY; i++) {
		t[i] = fake_server(REQ(.via = branch_name(i)), FLOW_UDP);
		if (i % 1000 == 0)
			for (unsigned j = 0; j <= i; j += 37)
				assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = branch_name(j)), false),
						 t[j]);
	}
	assert_true(fake.tb->buckets >= MANY / 3);
	for (unsigned i = 0; i < MANY; i++)
		assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = branch_name(i)), false), t[i]);
	for (unsigned n = 0; n < MANY; n++) {
		unsigned i = n * 7919u % MANY; /* each once, in no order */
		txn_server_abandon(t[i]);
		assert_null(txn_server_find(fake.tb, REQ(.via = branch_name(i)), false));
		t[i] = NULL;
		if (n % 1000 == 0)
			for (unsigned j = 0; j < MANY; j += 37)
				assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = branch_name(j)), false),
						 t[j]);
	}
	assert_int_equal(txn_table_count(fake.tb), 0);
	assert_in_range(fake.tb->buckets, 1, 1024);
	assert_in_range(fake.tb->cap, 1, 4096);
}

/* The same with few transactions and other hashes each time, so that every way in which a bucket can be full when it is
 * joined with another comes by. */
static void test_shrinks_with_full_buckets(void **state)
{
	(void)state;
	static struct txn *t[1500];

	for (uint64_t seed = 1; seed <= 60; seed++) {
		hash_init(seed);
		for (unsigned i = 0; i < 1500; i++)
			t[i] = fake_server(REQ(.via = branch_name(i)), FLOW_UDP);
		for (unsigned i = 0; i < 1500; i++) {
			txn_server_abandon(t[i]);
			if (i % 100 && i < 1300)
				continue;
			for (unsigned j = i + 1; j < 1500; j++)
				assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = branch_name(j)), false),
						 t[j]);
		}
		assert_int_equal(txn_table_count(fake.tb), 0);
		assert_int_equal(fake.tb->buckets, 256);
	}
	hash_init(0);
}

/* Few buckets are full, and none has many: as with random hashes at this load. */
static void test_chains_are_short(void **state)
{
	(void)state;
	unsigned longest = 0, full = 0;

	for (unsigned i = 0; i < MANY; i++)
		fake_server(REQ(.via = branch_name(i)), FLOW_UDP);
	for (size_t b = 0; b < fake.tb->buckets; b++) {
		const struct txn_bucket *k = &fake.tb->bucket[b];
		longest = (unsigned)k->more > longest ? k->more : longest;
		full += k->more > 0;
	}
	assert_in_range(longest, 1, 12);
	assert_in_range(full, 1, fake.tb->buckets / 4);
}

/* What a transaction costs with messages of about 700 bytes. */
static void test_memory(void **state)
{
	(void)state;
	char filler[512];

	memset(filler, 'x', 400);
	snprintf(filler, 12, "Subject: xx");
	filler[11] = 'x';
	snprintf(filler + 400, 8, CRLF);
	const struct sip_msg *m = REQ(.extra = filler);
	assert_in_range(m->len, 600, 800);
	struct txn *t = fake_client(m, FLOW_UDP);
	assert_in_range(malloc_usable_size(t) + malloc_usable_size(t->kept), 700, 1500);
	fake_receive(t, fake_reply(200, "z9hG4bKone", "INVITE"));
	assert_null(t->kept);
	assert_in_range(malloc_usable_size(t), 100, 400);
	t = fake_server(m, FLOW_UDP);
	fake_respond(t, 200);
	assert_null(t->kept);
	assert_in_range(malloc_usable_size(t), 100, 400);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(txn_kind_name(TXN_NICT), "nict");
	assert_string_equal(txn_kind_name(TXN_KIND_COUNT), "?");
	assert_string_equal(txn_state_name(TXN_CALLING), "calling");
	assert_string_equal(txn_state_name(TXN_TERMINATED), "terminated");
	assert_string_equal(txn_state_name(TXN_STATE_COUNT), "?");
}

/* src/txn/states.md is what the tables say; run from the project's root. */
static void test_diagram_is_current(void **state)
{
	(void)state;
	FILE *made = popen("scripts/txn-diagram", "r"), *kept = fopen("src/txn/states.md", "r");
	char a[512], b[512], *more;
	unsigned lines = 0;

	assert_non_null(made);
	assert_non_null(kept);
	while ((more = fgets(a, sizeof(a), made))) {
		assert_non_null(fgets(b, sizeof(b), kept));
		assert_string_equal(a, b);
		lines++;
	}
	assert_null(fgets(b, sizeof(b), kept));
	assert_int_equal(pclose(made), 0);
	fclose(kept);
	assert_true(lines > 100);
}

/* --- the random walk --- */

#define WALKERS 64u
static struct txn *walker[WALKERS];
static int walker_owner[WALKERS];
static unsigned walker_alive;
static uint64_t walk_seed;

static unsigned pick(unsigned n)
{
	walk_seed = walk_seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(walk_seed >> 33) % n;
}

static void walk_step(unsigned depth);

static void walk_hook(struct txn *t, const char *what, unsigned status)
{
	(void)status;
	if (strcmp(what, "gone") == 0) {
		for (unsigned i = 0; i < WALKERS; i++) {
			if (walker[i] == t) {
				walker[i] = NULL;
				walker_alive--;
				break;
			}
		}
	}
	/* Inside upcalls, too; at most a few deep. */
	static unsigned depth;
	if (depth < 3 && pick(2)) {
		depth++;
		walk_step(depth);
		depth--;
	}
}

static void walk_create(unsigned i)
{
	static const char *const method[] = {"INVITE", "OPTIONS", "BYE", "PING"};
	static const char *const cookie[] = {"z9hG4bKw", ""};
	char via[64];
	struct flow f = fake_flow(pick(4) ? FLOW_UDP : FLOW_TCP);

	snprintf(via, sizeof(via), "SIP/2.0/UDP w.example.com;branch=%s%u", cookie[pick(8) == 0], i);
	const struct sip_msg *m = REQ(.via = via, .method = method[pick(4)]);
	if (pick(2)) {
		if (txn_server_find(fake.tb, m, false))
			return;
		assert_int_equal(txn_server_create(fake.tb, m, &f, &walker_owner[i], NULL, &walker[i]), 0);
	} else {
		struct txn_client_args a = {.bytes = slice_make(m->buf, m->len),
					    .branch = sip_slice(m, m->via.branch),
					    .method = m->method,
					    .method_name = sip_slice(m, m->method_name),
					    .flow = f,
					    .ack_timeout = 500,
					    .owner = &walker_owner[i]};
		assert_int_equal(txn_client_create(fake.tb, &a, &walker[i]), 0);
	}
	walker_alive++;
}

static void walk_step(unsigned depth)
{
	static const unsigned status[] = {100, 180, 200, 202, 302, 404, 486, 603};
	unsigned i = pick(WALKERS), what = pick(8);
	struct txn *t = walker[i];
	struct flow f = fake_flow(pick(8) ? FLOW_UDP : FLOW_TCP);

	if (!t) {
		walk_create(i);
		return;
	}
	bool server = txn_kind(t) == TXN_IST || txn_kind(t) == TXN_NIST;
	const char *method = server || txn_kind(t) == TXN_ICT ? "INVITE" : "BYE";
	if (pick(50) == 0)
		txn_table_conn_lost(fake.tb, 7);
	else if (what == 0 && server)
		txn_server_error(t);
	else if (what == 0)
		txn_client_error(t);
	else if (what == 1 && server)
		txn_server_abandon(t);
	else if (what == 1)
		txn_client_abandon(t);
	else if (what == 2 && depth == 0)
		fake_advance(pick(4000));
	else if (what < 5 && server)
		txn_server_receive(t, REQ(.method = pick(2) ? "INVITE" : "ACK"), &f);
	else if (server)
		fake_respond(t, status[pick(8)]);
	else
		txn_client_receive(t, fake_reply(status[pick(8)], "z9hG4bKw", method));
}

static void test_random_walk(void **state)
{
	(void)state;
	for (walk_seed = 1; walk_seed < 4; walk_seed++) {
		uint64_t seed = walk_seed;
		fake_create(1000);
		fake.hook = walk_hook;
		walker_alive = 0;
		memset(walker, 0, sizeof(walker));
		for (unsigned n = 0; n < 20000; n++) {
			walk_step(0);
			fake.log_len = 0;
			if (n % 64)
				continue;
			assert_int_equal(txn_table_count(fake.tb), walker_alive);
			assert_int_equal(fake_gauges(), walker_alive);
		}
		assert_true(fake.gone > 1000);
		fake_destroy();
		walk_seed = seed;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		FAKE_TEST(test_grows_and_shrinks),
		FAKE_TEST(test_shrinks_with_full_buckets),
		FAKE_TEST(test_chains_are_short),
		FAKE_TEST(test_memory),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_random_walk),
		cmocka_unit_test(test_diagram_is_current),
	};
	return cmocka_run_group_tests_name("txn_table", tests, NULL, NULL);
}
