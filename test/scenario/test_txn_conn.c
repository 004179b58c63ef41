/* The end of a connection: which transactions hear of it, and what they may do about it. */
#include "txn_fake.h"

#define MANY 3000u

static struct txn *on_conn(uint64_t conn, unsigned i, const char *method)
{
	char via[64];

	snprintf(via, sizeof(via), "SIP/2.0/TCP h;branch=z9hG4bK%u", i);
	fake.conn = conn;
	return fake_client(REQ(.via = via, .method = method), FLOW_TCP);
}

static void test_those_that_wait(void **state)
{
	(void)state;
	struct txn *calling = on_conn(7, 1, "INVITE"), *ringing = on_conn(7, 2, "INVITE");
	struct txn *other = on_conn(8, 3, "INVITE"), *same_bucket = on_conn(7 + TXN_CONN_BUCKETS, 4, "INVITE");
	struct txn *accepted = on_conn(7, 5, "INVITE"), *bye = on_conn(7, 6, "BYE");
	struct txn *server = fake_server(REQ(), FLOW_TCP); /* on 7 too */

	(void)calling;
	fake_receive(ringing, fake_reply(180, "z9hG4bK2", "INVITE"));
	fake_receive(accepted, fake_reply(200, "z9hG4bK5", "INVITE"));
	fake_receive(bye, fake_reply(100, "z9hG4bK6", "BYE"));
	fake_mark();
	txn_table_conn_lost(fake.tb, 7);
	fake_expect("0error 0gone 0error 0gone 0error 0gone");
	assert_int_equal(txn_table_count(fake.tb), 4);
	assert_int_equal(txn_state(accepted), TXN_ACCEPTED);
	assert_int_equal(txn_state(server), TXN_PROCEEDING);
	txn_table_conn_lost(fake.tb, 7); /* nothing is left to tell */
	txn_table_conn_lost(fake.tb, 99);
	txn_table_conn_lost(fake.tb, 0);
	fake_expect("");
	txn_table_conn_lost(fake.tb, 8);
	fake_expect("0error 0gone");
	assert_int_equal(txn_state(same_bucket), TXN_CALLING);
	(void)other;
	fake_advance(32010);
	fake_expect("32000timeout 32000gone 32000gone");
}

/* Upcalls inside: each ends another one of the same connection, and starts one there and one elsewhere. */
static struct txn *made[MANY];
static unsigned started;

static void busy_hook(struct txn *t, const char *what, unsigned status)
{
	(void)status;
	if (strcmp(what, "error") != 0)
		return;
	for (unsigned i = 0; i < MANY; i++)
		if (made[i] == t)
			made[i] = NULL;
	for (unsigned i = 0; i < MANY; i++)
		if (made[i]) {
			struct txn *victim = made[i];
			made[i] = NULL;
			txn_client_abandon(victim);
			break;
		}
	on_conn(7, MANY + started++, "INVITE");
	on_conn(8, MANY + started++, "INVITE");
}

static void test_reentrancy(void **state)
{
	(void)state;
	started = 0;
	for (unsigned i = 0; i < MANY; i++)
		made[i] = on_conn(7, i, "INVITE");
	fake.hook = busy_hook;
	txn_table_conn_lost(fake.tb, 7);
	for (unsigned i = 0; i < MANY; i++)
		assert_null(made[i]);
	assert_int_equal(fake.gone, MANY);
	assert_int_equal(started, MANY); /* half were told, two each */
	assert_int_equal(txn_table_count(fake.tb), MANY);
	fake.hook = NULL;
	txn_table_conn_lost(fake.tb, 7);
	assert_int_equal(txn_table_count(fake.tb), MANY / 2);
	txn_table_conn_lost(fake.tb, 8);
	assert_int_equal(txn_table_count(fake.tb), 0);
}

/* What has its final response is out of the index, in whatever order they end. */
static void test_index_is_empty_afterwards(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		made[i] = on_conn(1 + i % 5, i, "INVITE");
	for (unsigned n = 0; n < MANY; n++) {
		unsigned i = n * 7919u % MANY;
		char branch[32];

		snprintf(branch, sizeof(branch), "z9hG4bK%u", i);
		if (n % 3)
			fake_receive(made[i], fake_reply(n % 3 == 1 ? 200 : 486, branch, "INVITE"));
		else
			txn_client_abandon(made[i]);
	}
	for (unsigned i = 0; i < TXN_CONN_BUCKETS; i++)
		assert_null(fake.tb->conn[i]);
	fake_mark();
	for (uint64_t conn = 1; conn <= 5; conn++)
		txn_table_conn_lost(fake.tb, conn);
	fake_expect("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_those_that_wait),
		FAKE_TEST(test_reentrancy),
		FAKE_TEST(test_index_is_empty_afterwards),
	};
	return cmocka_run_group_tests_name("txn_conn", tests, NULL, NULL);
}
