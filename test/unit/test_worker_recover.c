/* What the workers find at start: records of a number of workers that was another, and records that cannot be read. */
#include "base/pack.h"
#include "folder.h"
#include "proxy/gateway.h"
#include "test_transport.h"
#include "worker/worker.h"

#define WORKERS_MAX 4
#define CALLS       40

static const struct worker_core core = {.create = proxy_create,
					.destroy = proxy_destroy,
					.receive = proxy_receive,
					.resolved = proxy_resolved,
					.send_failed = proxy_send_failed,
					.conn_lost = proxy_conn_lost,
					.reconfigure = proxy_reconfigure,
					.commit = proxy_commit};

static char root[FOLDER_LEN];
static struct store *store;

static void store_up(void)
{
	char err[256] = "";
	if (store_open(root, 16u << 20, &store, err, sizeof(err)))
		fail_msg("%s", err);
}

static int setup(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	hash_init(42);
	folder_make("recover", root);
	store_up();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_close(store);
	return folder_remove(root);
}

static struct store_env *worker_env(unsigned i)
{
	struct store_env *e;
	char err[256] = "";
	if (store_worker(store, i, &e, err, sizeof(err)))
		fail_msg("%s", err);
	return e;
}

static void put(unsigned worker, enum store_table table, struct slice key, struct slice value)
{
	struct store_txn *t;
	assert_int_equal(store_begin(worker_env(worker), &t), 0);
	assert_int_equal(store_put(t, table, key, value), 0);
	assert_int_equal(store_commit(t), 0);
}

static struct slice call_id(unsigned n, char room[static 32])
{
	snprintf(room, 32, "call-%u@test", n);
	return slice_str(room);
}

/* As dialog_record.c writes it; what is in the key does not matter here. */
static void put_dialog(unsigned worker, unsigned n)
{
	char room[256], id[32], key[17];
	struct buf b;
	buf_init(&b, room, sizeof(room));
	pack_u8(&b, 2);
	pack_u64(&b, 1);
	pack_u64(&b, UINT64_MAX);
	pack_slice(&b, call_id(n, id));
	for (unsigned i = 0; i < 8; i++) /* tag, URI, target and routes of both sides */
		pack_slice(&b, SLICE_NONE);
	snprintf(key, sizeof(key), "%016u", n);
	put(worker, STORE_DIALOGS, slice_make(key, 16), buf_view(&b));
}

/* A run with so many workers, up to where the first packet would be read. */
static void start(unsigned workers)
{
	static const char *const ip[] = {"127.0.0.1"};
	static const unsigned char secret[STORE_SECRET_LEN];
	struct test_config t;
	struct proxy_shared shared = {0};
	struct worker_pool *pool;
	struct udp *u;
	char err[200];

	store_close(store);
	store_up();
	counters_reset_all();
	test_config_init(&t, 1, 1, ip);
	t.config.workers = workers;
	t.config.store.transactions = true;
	t.config.timers.max_transactions = 1000;
	shared.states = gateway_states_create(&t.config);
	assert_non_null(shared.states);
	assert_int_equal(udp_open(&t.config, &u, err, sizeof(err)), 0);
	struct worker_pool_config c = {.config = &t.config,
				       .secret = secret,
				       .shared = &shared,
				       .udp = u,
				       .store = store,
				       .core = &core};
	assert_int_equal(worker_pool_create(&c, &pool), 0);
	assert_int_equal(worker_pool_recover(pool), 0);
	worker_pool_destroy(pool);
	udp_close(u);
	free(shared.states);
}

/* Each dialog is at its worker's, once, and counted once. */
static void check_dialogs(unsigned workers)
{
	unsigned want[WORKERS_MAX] = {0};
	char id[32];
	for (unsigned n = 0; n < CALLS; n++)
		want[shard_worker(call_id(n, id), workers)]++;
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		assert_int_equal(store_count(worker_env(i), STORE_DIALOGS), i < workers ? want[i] : 0);
	assert_int_equal(counters_sum(CNT_DIALOGS), CALLS);
}

static void test_dialogs_move(void **state)
{
	(void)state;
	static const unsigned workers[] = {1, 4, 4, 2, 3, 1};
	for (unsigned n = 0; n < CALLS; n++)
		put_dialog(0, n);
	for (unsigned i = 0; i < sizeof(workers) / sizeof(workers[0]); i++) {
		start(workers[i]);
		check_dialogs(workers[i]);
	}
}

/* The process ended after some were written to their new place, and before they were deleted from the old one. */
static void test_dialogs_in_two_places(void **state)
{
	(void)state;
	char id[32];
	for (unsigned n = 0; n < CALLS; n++) {
		put_dialog(0, n);
		if (n % 2)
			put_dialog(shard_worker(call_id(n, id), 3), n);
	}
	start(3);
	check_dialogs(3);
}

/* Left out, counted by its cause, and not found again. */
static void test_records_that_cannot_be_read(void **state)
{
	(void)state;
	char room[64];
	struct buf b;
	buf_init(&b, room, sizeof(room));
	pack_u8(&b, 1); /* of this version, and ends too early */
	pack_slice(&b, SLICE_LIT("call-1@test"));
	put(0, STORE_CALLS, SLICE_LIT("00000001"), buf_view(&b));
	put(0, STORE_CALLS, SLICE_LIT("00000002"), SLICE_LIT("\x01"));
	put(0, STORE_CALLS, SLICE_LIT("00000003"), SLICE_LIT("\xff what a later version writes"));
	for (unsigned i = 0; i < 2; i++) {
		start(2);
		assert_int_equal(counters_sum(CNT_RECOVER_DAMAGED), i ? 0 : 2);
		assert_int_equal(counters_sum(CNT_RECOVER_VERSION), i ? 0 : 1);
		assert_int_equal(counters_sum(CNT_RECOVERED), 0);
		assert_int_equal(store_count(worker_env(0), STORE_CALLS), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dialogs_move, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dialogs_in_two_places, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records_that_cannot_be_read, setup, teardown),
	};
	return cmocka_run_group_tests_name("worker recover", tests, NULL, NULL);
}
