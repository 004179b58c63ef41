/* Ways to a contact: Path (RFC 3327), flows, outbound (RFC 5626). */
#include "registrar_rules.h"

/* --- RFC 3327 --- */

static void test_path(void **state)
{
	(void)state;
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\nPath: <sip:p1.test;lr>, <sip:p2.test;lr;ob>\nPath: "
			     "\"x\" <sip:p3.test;lr>;y\n"),
			 200);
	assert_line("Path: <sip:p1.test;lr>, <sip:p2.test;lr;ob>, \"x\" <sip:p3.test;lr>;y");
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].path, "<sip:p1.test;lr>, <sip:p2.test;lr;ob>, \"x\" <sip:p3.test;lr>;y");
	assert_false(set.b[0].use_flow);
	assert_int_equal(reg("Contact: <sip:b@10.0.0.1>\nPath: sip:p1.test;lr\n"), 400);
	assert_int_equal(reg("Contact: <sip:b@10.0.0.1>\nPath: <p1.test>\n"), 400);
	static char line[3000];
	snprintf(line, sizeof(line), "Contact: <sip:b@10.0.0.1>\nPath: <sip:%01100d@p1.test;lr>\n", 1);
	assert_int_equal(reg(line), 400);
	assert_int_equal(load(), 1);
	/* a refresh without one has none */
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\n"), 200);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].path.len, 0);
}

/* --- ways to a contact --- */

static void test_flow(void **state)
{
	(void)state;
	/* UDP from another place than it says: through a NAT */
	assert_int_equal(reg("Contact: <sip:a@10.0.0.1>\n"), 200);
	load();
	assert_true(set.b[0].use_flow);
	assert_false(answer.attach);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10:5062>, <sip:b@phone.test>, <sip:c@192.0.2.10>\n"),
			 200);
	load();
	assert_true(set.b[1].use_flow);
	assert_true(set.b[2].use_flow);
	assert_false(set.b[3].use_flow);
	assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	/* a connection: whatever it says */
	from("192.0.2.10:5060", 77);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_true(answer.attach);
	load();
	assert_true(set.b[0].use_flow && set.b[0].unbind);
	assert_int_equal(set.b[0].flow.conn, 77);
	assert_true(location_has_conn(reader, 77));
	/* going, it depends on nothing */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>;expires=0\n"), 200);
	assert_false(answer.attach);
	domain.unbind = false;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	load();
	assert_true(set.b[0].use_flow);
	assert_false(location_has_conn(reader, 77));
	/* through another proxy the way back is not ours */
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:p@10.0.0.1>\n"), 200);
	load();
	assert_false(set.b[1].use_flow);
}

/* The newest way counts. */
static void test_newer_conn(void **state)
{
	(void)state;
	struct store_txn *t;
	from("192.0.2.10:40000", 1);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	from("192.0.2.10:40001", 2);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\n"), 200);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(location_drop_conn(t, 1), 0);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(load(), 1);
	assert_int_equal(set.b[0].flow.conn, 2);
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(location_drop_conn(t, 2), 1);
	assert_int_equal(store_commit(t), 0);
	assert_int_equal(load(), 0);
}

/* --- RFC 5626 --- */

#define INSTANCE ";+sip.instance=\"<urn:uuid:1>\""

static void test_outbound(void **state)
{
	(void)state;
	from("192.0.2.10:40000", 1);
	assert_int_equal(
		reg("Contact: <sip:a@192.0.2.10;ob>" INSTANCE ";reg-id=1\nSupported: path, outbound\n"), 200);
	assert_line("Contact: <sip:a@192.0.2.10;ob>;+sip.instance=\"<urn:uuid:1>\";reg-id=1;expires=3600");
	assert_line("Require: outbound");
	assert_line("Flow-Timer: 120");
	load();
	assert_true(set.b[0].outbound && set.b[0].use_flow);
	unit_assert_slice(set.b[0].instance, "urn:uuid:1");
	assert_int_equal(set.b[0].reg_id, 1);
	/* the same flow number from elsewhere with another URI and Call-ID: in the place of the old one */
	from("192.0.2.10:41000", 2);
	call_id = "call-2";
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>" INSTANCE ";reg-id=1\nSupported: outbound\n"),
			 200);
	assert_int_equal(load(), 1);
	unit_assert_slice(set.b[0].contact, "sip:other@192.0.2.99");
	assert_int_equal(set.b[0].flow.conn, 2);
	/* another flow, another instance, and one without: beside it */
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>" INSTANCE ";reg-id=2\nSupported: outbound\n"),
			 200);
	assert_int_equal(
		reg("Contact: <sip:other@192.0.2.99>;+sip.instance=\"<urn:uuid:2>\";reg-id=1\nSupported: "
		    "outbound\n"),
		200);
	assert_int_equal(reg("Contact: <sip:other@192.0.2.99>\n"), 200);
	assert_false(has("Require: outbound"));
	assert_int_equal(load(), 4);
	/* and each goes alone */
	assert_int_equal(
		reg("Contact: <sip:x@192.0.2.99>" INSTANCE ";reg-id=2;expires=0\nSupported: outbound\n"), 200);
	assert_int_equal(load(), 3);
	assert_int_equal(set.b[0].reg_id, 1);
	/* order counts for them too */
	cseq = 0;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 500);
	/* off */
	domain.flow_timer = 0;
	cseq = 50;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 200);
	assert_false(has("Flow-Timer: 0"));
	assert_line("Require: outbound");
}

static void test_outbound_refused(void **state)
{
	(void)state;
	/* section 6: several in one request */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1, <sip:b@192.0.2.10>" INSTANCE
			     ";reg-id=2\nSupported: outbound\n"),
			 400);
	assert_int_equal(load(), 0);
	/* a first hop that cannot */
	via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKy\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\n";
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 439);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"
			     "Path: <sip:p2.test;lr;ob>, <sip:p1.test;lr>\n"),
			 439);
	assert_int_equal(load(), 0);
	/* and one that can: the last of the Path is the first hop */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"
			     "Path: <sip:p2.test;lr>, <sip:p1.test;lr;ob>\n"),
			 200);
	assert_line("Require: outbound");
	load();
	assert_true(set.b[0].outbound);
	assert_false(set.b[0].use_flow); /* the Path is the way */
	/* who does not ask for outbound gets none, through whatever proxy */
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=5\n"), 200);
	assert_false(has("Require: outbound"));
	/* a reg-id without an instance means nothing */
	assert_int_equal(reg("Contact: <sip:c@192.0.2.10>;reg-id=5\nSupported: outbound\n"), 200);
	assert_false(has("Require: outbound"));
	assert_line("Contact: <sip:c@192.0.2.10>;expires=3600");
}

/* Over UDP too: the flow is the source's address. */
static void test_outbound_udp(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>" INSTANCE ";reg-id=1\nSupported: outbound\n"), 200);
	load();
	assert_true(set.b[0].use_flow && set.b[0].outbound);
	assert_false(answer.attach);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_path),
		T(test_flow),
		T(test_newer_conn),
		T(test_outbound),
		T(test_outbound_refused),
		T(test_outbound_udp),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
