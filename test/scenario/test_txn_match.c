/* Which transaction a message belongs to: RFC 3261 17.1.3 and 17.2.3. */
#include <errno.h>

#include "txn_fake.h"

#define OLD "SIP/2.0/UDP pc.example.com:5062" /* no branch: an RFC 2543 client */

static struct txn *find(const struct sip_msg *m)
{
	return txn_server_find(fake.tb, m, false);
}

static void test_branch_sent_by_method(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(), FLOW_UDP);

	/* The rest of the message does not matter. */
	assert_ptr_equal(find(REQ(.uri = "sip:x@y", .call_id = "z", .from_tag = "q", .to_tag = "u", .cseq = 9)),
			 t);
	assert_ptr_equal(find(REQ(.via = "SIP/2.0/TCP PC.Example.COM:5062;branch=z9hG4bKone")), t);
	assert_ptr_equal(find(REQ(.via = "SIP/2.0/UDP pc.example.com:5062;rport;branch=z9hG4bKone;x=y")), t);
	assert_ptr_equal(find(REQ(.method = "ACK")), t);
	assert_null(find(REQ(.via = "SIP/2.0/UDP pc.example.com:5063;branch=z9hG4bKone")));
	assert_null(find(REQ(.via = "SIP/2.0/UDP pc.example.com;branch=z9hG4bKone")));
	assert_null(find(REQ(.via = "SIP/2.0/UDP pd.example.com:5062;branch=z9hG4bKone")));
	assert_null(find(REQ(.via = "SIP/2.0/UDP pc.example.com:5062;branch=z9hG4bKonf")));
	assert_null(find(REQ(.via = "SIP/2.0/UDP pc.example.com:5062;branch=z9hG4bKoneone")));
	assert_null(find(REQ(.method = "OPTIONS")));
	assert_null(find(REQ(.method = "CANCEL")));
	assert_null(find(REQ(.method = "PING")));
}

static void test_methods_without_a_number(void **state)
{
	(void)state;
	struct txn *ping = fake_server(REQ(.method = "PING"), FLOW_UDP);
	struct txn *pong = fake_server(REQ(.method = "PONG"), FLOW_UDP);
	struct txn *low = fake_server(REQ(.method = "ping"), FLOW_UDP);

	assert_ptr_equal(find(REQ(.method = "PING")), ping);
	assert_ptr_equal(find(REQ(.method = "PONG")), pong);
	assert_ptr_equal(find(REQ(.method = "ping")), low);
	assert_null(find(REQ(.method = "PANG")));

	struct txn *c = fake_client(REQ(.method = "PING"), FLOW_UDP);
	assert_ptr_equal(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKone", "PING")), c);
	assert_null(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKone", "PONG")));
	assert_ptr_equal(txn_client_find_branch(fake.tb, SLICE_LIT("z9hG4bKone"), SLICE_LIT("PING")), c);
}

static void test_client_by_branch_and_cseq_method(void **state)
{
	(void)state;
	struct txn *i = fake_client(REQ(), FLOW_UDP), *c = fake_client(REQ(.method = "CANCEL"), FLOW_UDP);

	assert_ptr_equal(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKone", "INVITE")), i);
	assert_ptr_equal(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKone", "CANCEL")), c);
	assert_null(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKone", "BYE")));
	assert_null(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKtwo", "INVITE")));
	assert_ptr_equal(txn_client_find_branch(fake.tb, SLICE_LIT("z9hG4bKone"), SLICE_LIT("INVITE")), i);
	assert_ptr_equal(txn_client_find_branch(fake.tb, SLICE_LIT("z9hG4bKone"), SLICE_LIT("CANCEL")), c);
	assert_null(txn_client_find_branch(fake.tb, SLICE_LIT("z9hG4bKon"), SLICE_LIT("INVITE")));
	/* A client transaction is never found for a request, nor a server one for a response. */
	assert_null(find(REQ()));
	struct txn *s = fake_server(REQ(.via = "SIP/2.0/UDP h;branch=z9hG4bKs"), FLOW_UDP);
	assert_non_null(s);
	assert_null(txn_client_find(fake.tb, fake_reply(200, "z9hG4bKs", "INVITE")));
}

static void test_cookie(void **state)
{
	(void)state;
	/* Its case does not matter, the rest of the branch is compared as it is. */
	struct txn *t = fake_server(REQ(.via = OLD ";branch=Z9HG4BKaa"), FLOW_UDP);
	assert_ptr_equal(find(REQ(.via = OLD ";branch=Z9HG4BKaa", .call_id = "other")), t);
	assert_null(find(REQ(.via = OLD ";branch=Z9HG4BKAA")));
	/* A branch that is the cookie alone, or has none, says nothing. */
	const char *const via[] = {OLD ";branch=z9hG4bK", OLD ";branch=1", OLD};
	for (unsigned i = 0; i < 3; i++) {
		t = fake_server(REQ(.via = via[i]), FLOW_UDP);
		assert_ptr_equal(find(REQ(.via = via[i])), t);
		assert_null(find(REQ(.via = via[i], .call_id = "other")));
	}
}

static void test_rfc2543_request(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(.via = OLD), FLOW_UDP);

	assert_ptr_equal(find(REQ(.via = OLD)), t);
	assert_null(find(REQ(.via = "SIP/2.0/UDP pc.example.com:5063")));
	assert_null(find(REQ(.via = OLD ";branch=2")));
	assert_null(find(REQ(.via = OLD, .uri = "sip:c@example.com")));
	assert_null(find(REQ(.via = OLD, .to_tag = "t0")));
	assert_null(find(REQ(.via = OLD, .from_tag = "f2")));
	assert_null(find(REQ(.via = OLD, .call_id = "c2")));
	assert_null(find(REQ(.via = OLD, .cseq = 2)));
	assert_null(find(REQ(.via = OLD, .method = "OPTIONS")));
	/* In a dialog, with a To tag: another transaction. */
	struct txn *re = fake_server(REQ(.via = OLD, .to_tag = "t0"), FLOW_UDP);
	assert_ptr_equal(find(REQ(.via = OLD, .to_tag = "t0")), re);
	assert_ptr_equal(find(REQ(.via = OLD)), t);
	/* A CANCEL finds the INVITE, and has its own transaction. */
	assert_ptr_equal(txn_server_find(fake.tb, REQ(.via = OLD, .method = "CANCEL"), true), t);
	assert_null(find(REQ(.via = OLD, .method = "CANCEL")));
	struct txn *ping = fake_server(REQ(.via = OLD, .method = "PING"), FLOW_UDP);
	assert_ptr_equal(find(REQ(.via = OLD, .method = "PING")), ping);
	assert_null(find(REQ(.via = OLD, .method = "PONG")));
}

static void test_rfc2543_ack(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(.via = OLD), FLOW_UDP);
	const struct sip_msg *none = REQ(.via = OLD, .method = "ACK"),
			     *ours = REQ(.via = OLD, .method = "ACK", .to_tag = "t1"),
			     *other = REQ(.via = OLD, .method = "ACK", .to_tag = "t2");

	/* Nothing was sent that it could acknowledge. */
	assert_null(find(none));
	assert_null(find(ours));
	fake_respond(t, 180);
	assert_null(find(ours));
	fake_respond(t, 486);
	assert_ptr_equal(find(ours), t);
	assert_null(find(none));
	assert_null(find(other));
	assert_null(find(REQ(.via = OLD, .method = "ACK", .to_tag = "t1", .cseq = 2)));
	assert_ptr_equal(find(REQ(.via = OLD)), t);

	fake_again(t, ours = REQ(.via = OLD, .method = "ACK", .to_tag = "t1"), FLOW_UDP);
	assert_int_equal(txn_state(t), TXN_CONFIRMED);
	assert_ptr_equal(find(ours), t); /* again */
	fake_advance(5010);
	assert_null(find(ours));
	fake_expect("0>180 0>486 5000gone");

	/* After a 2xx it is the user's. */
	t = fake_server(REQ(.via = OLD), FLOW_UDP);
	fake_respond(t, 200);
	assert_null(find(ours));
	assert_ptr_equal(find(REQ(.via = OLD)), t);
}

static void test_rfc2543_tag_not_readable(void **state)
{
	(void)state;
	struct txn *t = fake_server(REQ(.via = OLD), FLOW_UDP);

	/* A response without a tag, and one that is no SIP: an ACK without a tag matches. */
	assert_int_equal(txn_server_respond(t, 486, SLICE_LIT("bytes")), 0);
	assert_ptr_equal(find(REQ(.via = OLD, .method = "ACK")), t);
	assert_null(find(REQ(.via = OLD, .method = "ACK", .to_tag = "t1")));
}

static void test_same_hash_is_bounded(void **state)
{
	(void)state;
	struct flow f = fake_flow(FLOW_UDP);
	unsigned made = 0;
	int r = 0;

	for (unsigned i = 0; i < 100; i++) {
		char tag[16];
		struct txn *t;
		snprintf(tag, sizeof(tag), "t%u", i);
		r = txn_server_create(fake.tb, REQ(.via = OLD, .to_tag = tag), &f, NULL, NULL, &t);
		if (r)
			break;
		made++;
	}
	assert_int_equal(r, -ENOBUFS);
	assert_in_range(made, 2, 50);
	assert_int_equal(counters_sum(CNT_TXN_REFUSED), 1);
	/* Others still get theirs. */
	fake_server(REQ(.via = OLD, .call_id = "c2"), FLOW_UDP);
}

static void test_long_texts(void **state)
{
	(void)state;
	static char via[7000];
	size_t n = (size_t)snprintf(via, sizeof(via), "SIP/2.0/UDP ");

	memset(via + n, 'h', 300);
	n += 300;
	n += (size_t)snprintf(via + n, sizeof(via) - n, ".com;branch=z9hG4bK");
	memset(via + n, 'b', 6000);
	via[n + 6000] = 0;
	struct txn *t = fake_server(REQ(.via = via), FLOW_UDP);
	via[100] = 'H';
	assert_ptr_equal(find(REQ(.via = via)), t);
	via[100] = 'x';
	assert_null(find(REQ(.via = via)));
	via[100] = 'h';
	via[n + 5999] = 'x';
	assert_null(find(REQ(.via = via)));
	via[n + 5999] = 0;
	assert_null(find(REQ(.via = via)));

	/* Longer than any message can have. */
	static char branch[70000];
	memset(branch, 'b', sizeof(branch));
	struct txn_client_args a = {.bytes = SLICE_LIT("x"),
				    .branch = slice_make(branch, sizeof(branch)),
				    .method = SIP_METHOD_INVITE,
				    .flow = fake_flow(FLOW_UDP)};
	assert_int_equal(txn_client_create(fake.tb, &a, &t), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_branch_sent_by_method),
		FAKE_TEST(test_methods_without_a_number),
		FAKE_TEST(test_client_by_branch_and_cseq_method),
		FAKE_TEST(test_cookie),
		FAKE_TEST(test_rfc2543_request),
		FAKE_TEST(test_rfc2543_ack),
		FAKE_TEST(test_rfc2543_tag_not_readable),
		FAKE_TEST(test_same_hash_is_bounded),
		FAKE_TEST(test_long_texts),
	};
	return cmocka_run_group_tests_name("txn_match", tests, NULL, NULL);
}
