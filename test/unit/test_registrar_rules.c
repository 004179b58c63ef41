/* What a REGISTER does to the bindings of its address (RFC 3261 10.3), over a real store, and over one that cannot. */
#include <errno.h>

#include "registrar_rules.h"

/* --- RFC 3261 10.3 --- */

static void test_one(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: \"Bob\" <sip:bob@192.0.2.10:5060;ob>;Expires=120;x=\"a;b\"\nUser-Agent: "
			     "phone/1\n"),
			 200);
	assert_true(answer.changed);
	assert_false(answer.attach);
	assert_line("Contact: <sip:bob@192.0.2.10:5060;ob>;x=\"a;b\";expires=120");
	assert_int_equal(lines_of("Contact:"), 1);
	assert_int_equal(load(), 1);
	const struct binding *b = &set.b[0];
	unit_assert_slice(b->contact, "sip:bob@192.0.2.10:5060;ob");
	unit_assert_slice(b->call_id, "call-1");
	unit_assert_slice(b->user_agent, "phone/1");
	assert_int_equal(b->cseq, 1);
	assert_int_equal(b->q, 1000);
	assert_int_equal(b->expires, NOW + 120000);
	assert_int_equal(b->updated, NOW);
	assert_false(b->use_flow);
	assert_true(addr_eq(&b->flow.remote, &flow.remote));
	/* time passes: it is listed with what is left, rounded up, then it is gone */
	now += 119001;
	assert_int_equal(reg(""), 200);
	assert_false(answer.changed);
	assert_line("Contact: <sip:bob@192.0.2.10:5060;ob>;x=\"a;b\";expires=1");
	now += 999;
	assert_int_equal(reg(""), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(load(), 0);
}

static void test_several(void **state)
{
	(void)state;
	assert_int_equal(
		reg("Contact: <sip:a@192.0.2.10>;q=0.5, <sip:b@192.0.2.10>;q=1.0\nm: sip:c@192.0.2.10;q=0.123\n"
		    "Contact: <sip:d@192.0.2.10>;q=0\n"
		    "Expires: 300\n"),
		200);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.500;expires=300");
	assert_line("Contact: <sip:b@192.0.2.10>;expires=300");
	assert_line("Contact: <sip:c@192.0.2.10>;q=0.123;expires=300");
	assert_line("Contact: <sip:d@192.0.2.10>;q=0.000;expires=300");
	assert_int_equal(load(), 4);
	assert_int_equal(set.b[2].q, 123);
	/* a refresh of one leaves the others alone, and lists them all */
	now += 10000;
	assert_int_equal(reg("Contact: <sip:b@192.0.2.10>;expires=600;q=0.9\n"), 200);
	assert_int_equal(lines_of("Contact:"), 4);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.500;expires=290");
	assert_line("Contact: <sip:b@192.0.2.10>;q=0.900;expires=600");
	assert_int_equal(load(), 4);
	/* one goes */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(lines_of("Contact:"), 3);
	/* one goes that is not there */
	assert_int_equal(reg("Contact: <sip:zz@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 3);
}

static void test_q(void **state)
{
	(void)state;
	static const char *const bad[] = {"1.1", "0.1234", "-1", "2", "1.001", "0,5", "x", ".5", "00.5"};
	char line[128];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:b@192.0.2.10>;q=%s\n", bad[i]);
		unsigned status = reg(line);
		/* a comma ends the value: what follows is a Contact that is none */
		if (status != 400)
			fail_msg("q=%s: %u", bad[i], status);
	}
	assert_int_equal(load(), 0);
	static const char *const good[] = {"1", "1.", "1.0", "1.000", "0", "0.", "0.001", "0.99"};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:b%zu@192.0.2.10>;q=%s\n", i, good[i]);
		assert_int_equal(reg(line), 200);
	}
	assert_int_equal(load(), 8);
	assert_int_equal(set.b[6].q, 1);
	assert_int_equal(set.b[7].q, 990);
}

static void test_star(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>, <sip:b@192.0.2.10>\n"), 200);
	/* 10.2.2: only with Expires: 0, and alone */
	assert_int_equal(reg("Contact: *\n"), 400);
	assert_int_equal(reg("Contact: *\nExpires: 1\n"), 400);
	assert_int_equal(reg("Contact: *, <sip:a@192.0.2.10>\nExpires: 0\n"), 400);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nContact: *\nExpires: 0\n"), 400);
	assert_int_equal(reg("Contact: *;expires=0\n"), 400);
	assert_int_equal(load(), 2);
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(load(), 0);
	assert_int_equal(store_count(env, STORE_LOCATION), 0);
	/* of nobody */
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
}

static void test_star_late(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	cseq = 0;
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 500); /* of the same Call-ID, not newer */
	assert_int_equal(load(), 1);
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

static void test_expires(void **state)
{
	(void)state;
	/* the default, the header, the parameter over it; a parameter that is broken counts as the default */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=3600");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=100\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=100");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=200");
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=soon\nExpires: 200\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=3600");
	/* shortened */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=4294967295\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=86400");
	/* 10.3 step 7: too brief */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=59\n"), 423);
	assert_line("Min-Expires: 60");
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(reg("Contact: <sip:z@192.0.2.10>;expires=100, <sip:a@192.0.2.10>;expires=1\n"), 423);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 86400000);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=60\n"), 200);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

static void test_order(void **state)
{
	(void)state;
	cseq = 9;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=600\n"), 200);
	/* older, or the same number again: nothing of it */
	cseq = 9;
	assert_int_equal(reg("Contact: <sip:new@192.0.2.10>, <sip:a@192.0.2.10>;expires=700\n"), 500);
	cseq = 5;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 500);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 600000);
	/* another Call-ID: whatever its number */
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=800\n"), 200);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].expires, NOW + 800000);
	/* a fetch has no order */
	cseq = 0;
	assert_int_equal(reg(""), 200);
	assert_line("Contact: <sip:a@192.0.2.10>;expires=800");
}

/* One REGISTER that names a contact twice is one that says it twice, not one that is late. */
static void test_twice(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=100, <sip:A2@192.0.2.10>, "
			     "<sip:a@192.0.2.10;x>;expires=200\n"),
			 200);
	assert_int_equal(load(), 2);
	assert_int_equal(set.b[0].expires, NOW + 200000);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0, <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 1);
}

/* 19.1.4 */
static void test_comparison(void **state)
{
	(void)state;
	static const char *const same[] = {"sip:%61lice@192.0.2.10;Transport=UDP",
					   "SIP:alice@192.0.2.10;transport=udp",
					   "sip:alice@192.0.2.10;transport=udp;newparam=5"};
	static const char *const other[] = {"sip:Alice@192.0.2.10;transport=udp",
					    "sips:alice@192.0.2.10;transport=udp",
					    "sip:alice@192.0.2.10:5060;transport=udp", "sip:alice@192.0.2.10",
					    "sip:alice@192.0.2.11;transport=udp"};
	char line[128];
	assert_int_equal(reg("Contact: <sip:alice@192.0.2.10;transport=udp>\n"), 200);
	uint64_t number = (load(), set.b[0].number);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <%s>\n", same[i]);
		assert_int_equal(reg(line), 200);
		if (load() != 1)
			fail_msg("another one: %s", same[i]);
		unit_assert_slice(set.b[0].contact, same[i]);
		assert_int_equal(set.b[0].number, number);
	}
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <%s>\n", other[i]);
		assert_int_equal(reg(line), 200);
		if (load() != i + 2)
			fail_msg("the same: %s", other[i]);
	}
}

static void test_fetch(void **state)
{
	(void)state;
	assert_int_equal(reg(""), 200);
	assert_int_equal(lines_of("Contact:"), 0);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;q=0.3\n"), 200);
	assert_true(answer.changed);
	assert_int_equal(reg(""), 200);
	assert_false(answer.changed);
	assert_line("Contact: <sip:a@192.0.2.10>;q=0.300;expires=3600");
	/* a Contact line without one asks for nothing either, or is refused; it removes nothing */
	unsigned status = reg("Contact:\n");
	assert_true(status == 200 || status == 400);
	assert_int_equal(load(), 1);
}

static void test_max_contacts(void **state)
{
	(void)state;
	domain.max_contacts = 2;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>, <sip:b@192.0.2.10>\n"), 200);
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>\n"), 403);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=90, <sip:c@192.0.2.10>\n"), 403);
	assert_int_equal(load(), 2);
	assert_int_equal(set.b[0].expires, NOW + 3600000);
	/* a refresh, or one for another, is not one more */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=90\n"), 200);
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>, <sip:b@192.0.2.10>;expires=0\n"), 200);
	assert_int_equal(load(), 2);
	unit_assert_slice(set.b[1].contact, "sip:c@192.0.2.10");
	/* what has expired makes room */
	now += 90000;
	assert_int_equal(reg("Contact: <sip:d@192.0.2.10>\n"), 200);
	assert_int_equal(load(), 2);
}

/* More in one request than any address may have. */
static void test_max_bindings(void **state)
{
	(void)state;
	static char lines[8192];
	size_t n = 0;
	domain.max_contacts = LOCATION_BINDINGS_MAX;
	for (unsigned i = 0; i < LOCATION_BINDINGS_MAX; i++)
		n += (size_t)snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:u%u@192.0.2.10>\n", i);
	assert_int_equal(reg(lines), 200);
	assert_int_equal(lines_of("Contact:"), LOCATION_BINDINGS_MAX);
	assert_int_equal(load(), LOCATION_BINDINGS_MAX);
	snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:more@192.0.2.10>\n");
	assert_int_equal(reg(lines), 403);
	assert_int_equal(reg("Contact: <sip:more@192.0.2.10>\n"), 403);
	assert_int_equal(load(), LOCATION_BINDINGS_MAX);
}

/* What does not fit into an answer is not stored either. */
static void test_answer_too_long(void **state)
{
	(void)state;
	static char lines[60000];
	size_t n = 0;
	domain.max_contacts = LOCATION_BINDINGS_MAX;
	for (unsigned i = 0; i < 40; i++)
		n += (size_t)snprintf(lines + n, sizeof(lines) - n, "Contact: <sip:u%u@192.0.2.10;x=%0900u>\n",
				      i, 1);
	assert_int_equal(reg(lines), 500);
	assert_int_equal(answer.extra.len, 0);
	assert_int_equal(load(), 0);
}

/* --- a store that cannot --- */

static void test_damaged(void **state)
{
	(void)state;
	struct store_txn *t;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	char key[64];
	uint64_t h = hash_bytes(AOR, strlen(AOR), 0);
	int n = snprintf(key, sizeof(key), "%c%c" AOR, (char)(h >> 8), (char)h);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(store_put(t, STORE_LOCATION, slice_make(key, (size_t)n), SLICE_LIT("junk")), 0);
	assert_int_equal(store_commit(t), 0);
	/* it counts as none, and is replaced */
	assert_int_equal(reg("Contact: <sip:b@192.0.2.10>\n"), 200);
	assert_int_equal(load(), 1);
}

static void body_oom(void)
{
	static char lines[3000];
	struct store_txn *t = NULL;
	alloc_fail_off();
	snprintf(lines, sizeof(lines),
		 "Contact: <sip:%0900d@192.0.2.10>\nContact: <sip:b%0900d@192.0.2.10>;x=%0900d\n", 1, 2, 3);
	cseq++;
	struct registrar_args a = args(lines);
	answer = (struct registrar_answer){0};
	buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
	assert_int_equal(store_begin(env, &t), 0);
	alloc_fail_at(1);
	registrar_apply(t, &a, &answer);
	alloc_fail_off();
	assert_true(alloc_failed());
	assert_int_equal(answer.status, 500);
	assert_false(answer.changed);
	assert_int_equal(answer.extra.len, 0);
	/* what others do in the same transaction is not spoiled by it */
	assert_int_equal(store_commit(t), 0);
}

/* A record that is too large for the stack needs memory. */
static void test_memory(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	body_oom();
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].contact, "sip:a@192.0.2.10");
}

/* The map is full: 500, an error that the caller can tell, and what was there is there. */
static void test_full(void **state)
{
	(void)state;
	static char lines[1200];
	unsigned status = 200, n;
	store_teardown();
	store_setup(1u << 20);
	domain.max_contacts = 64;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	for (n = 0; status == 200 && n < 5000; n++) {
		char aor[32];
		struct store_txn *t = NULL;
		snprintf(lines, sizeof(lines), "Contact: <sip:%0900d@192.0.2.10>\n", 1);
		snprintf(aor, sizeof(aor), "u%u@local.test", n);
		struct registrar_args a = args(lines);
		a.aor = slice_str(aor);
		answer = (struct registrar_answer){0};
		buf_init(&answer.extra, extra, REGISTRAR_EXTRA_MAX);
		assert_int_equal(store_begin(env, &t), 0);
		registrar_apply(t, &a, &answer);
		status = answer.status;
		if (answer.changed) {
			int rc = store_commit(t);
			assert_true(rc == 0 || rc == -ENOSPC);
			status = rc ? 500 : status;
		} else {
			assert_int_equal(answer.error, -ENOSPC);
			store_abort(t);
		}
	}
	assert_int_equal(status, 500);
	assert_true(n > 10);
	assert_int_equal(load(), 1);
	/* removing makes room again */
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	assert_int_equal(load(), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_one),
		T(test_several),
		T(test_q),
		T(test_star),
		T(test_star_late),
		T(test_expires),
		T(test_order),
		T(test_twice),
		T(test_comparison),
		T(test_fetch),
		T(test_max_contacts),
		T(test_max_bindings),
		T(test_answer_too_long),
		T(test_damaged),
		T(test_memory),
		T(test_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
