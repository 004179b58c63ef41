#include <errno.h>

#include "base/hash.h"
#include "sip/build.h"
#include "sip/edit.h"
#include "unit.h"

static struct sip_msg_room room, room2;
static char text[4000], out[4000];

static const struct sip_msg *parse(struct sip_msg_room *r, const char *p)
{
	assert_int_equal(sip_msg_parse(r, p, strlen(p), false), 0);
	assert_int_equal(r->msg.error, 0);
	return &r->msg;
}

static const struct sip_msg *request(const char *via, const char *to, const char *more)
{
	snprintf(text, sizeof(text),
		 "INVITE sip:ben@right.example SIP/2.0\r\nv: %s\r\nvia: SIP/2.0/TCP next.example\r\n"
		 "Max-Forwards: 70\r\nf: Ann <sip:ann@left.example>;tag=f\r\nTo: %s\r\n"
		 "Call-ID: c@left.example\r\nCSeq: 00005 INVITE\r\n%sContent-Length: 2\r\n\r\nhi",
		 via, to, more);
	return parse(&room, text);
}

static const char *reply(const struct sip_msg *m, struct sip_reply r)
{
	long n = sip_reply_build(m, &r, out, sizeof(out) - 1);

	assert_true(n > 0);
	out[n] = 0;
	for (size_t cap = 0; cap < (size_t)n; cap += 7)
		assert_int_equal(sip_reply_build(m, &r, (char[4000]){0}, cap), -ENOBUFS);
	return out;
}

static void test_reply(void **state)
{
	const struct sip_msg *m =
		request("SIP/2.0/UDP h;branch=z9hG4bK1", "Ben <sip:ben@right.example>",
			"Record-Route: <sip:r1>, <sip:r2>\r\nTimestamp: 54\r\nRecord-Route: <sip:r3>\r\n");

	(void)state;
	assert_string_equal(
		reply(m, (struct sip_reply){.status = 100}),
		"SIP/2.0 100 Trying\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nvia: SIP/2.0/TCP next.example\r\n"
		"f: Ann <sip:ann@left.example>;tag=f\r\nTo: Ben <sip:ben@right.example>\r\n"
		"Call-ID: c@left.example\r\nCSeq: 00005 INVITE\r\nTimestamp: 54\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(
		reply(m, (struct sip_reply){.status = 180, .to_tag = SLICE_LIT("tt"), .reason = "Ping"}),
		"SIP/2.0 180 Ping\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nvia: SIP/2.0/TCP next.example\r\n"
		"Record-Route: <sip:r1>, <sip:r2>\r\nRecord-Route: <sip:r3>\r\n"
		"f: Ann <sip:ann@left.example>;tag=f\r\nTo: Ben <sip:ben@right.example>;tag=tt\r\n"
		"Call-ID: c@left.example\r\nCSeq: 00005 INVITE\r\nContent-Length: 0\r\n\r\n");
	assert_string_equal(
		reply(m, (struct sip_reply){.status = 503,
					    .to_tag = SLICE_LIT("tt"),
					    .extra = SLICE_LIT("Retry-After: 9\r\nContent-Type: a/b\r\n"),
					    .body = SLICE_LIT("body")}),
		"SIP/2.0 503 Service Unavailable\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\n"
		"via: SIP/2.0/TCP next.example\r\n"
		"f: Ann <sip:ann@left.example>;tag=f\r\nTo: Ben <sip:ben@right.example>;tag=tt\r\n"
		"Call-ID: c@left.example\r\nCSeq: 00005 INVITE\r\nRetry-After: 9\r\nContent-Type: a/b\r\n"
		"Content-Length: 4\r\n\r\nbody");
}

static void test_reply_tag(void **state)
{
	char first[64];
	const struct sip_msg *m;

	(void)state;
	/* one that is there stays alone */
	m = request("SIP/2.0/UDP h;branch=z9hG4bK1", "<sip:ben@right.example>;tag=own", "");
	reply(m, (struct sip_reply){.status = 404, .to_tag = SLICE_LIT("other")});
	assert_non_null(strstr(out, "To: <sip:ben@right.example>;tag=own\r\n"));
	/* one that we make: each copy of the request gets the same */
	m = request("SIP/2.0/UDP h;branch=z9hG4bK1", "sip:ben@right.example", "");
	parse(&room2, reply(m, (struct sip_reply){.status = 404}));
	assert_int_equal(room2.msg.to_tag.len, 16);
	memcpy(first, room2.msg.buf + room2.msg.to_tag.off, 16);
	m = request("SIP/2.0/UDP h;branch=z9hG4bK1", "sip:ben@right.example", "X: 1\r\n");
	parse(&room2, reply(m, (struct sip_reply){.status = 404}));
	assert_memory_equal(first, room2.msg.buf + room2.msg.to_tag.off, 16);
	m = request("SIP/2.0/UDP h;branch=z9hG4bK2", "sip:ben@right.example", "");
	parse(&room2, reply(m, (struct sip_reply){.status = 404}));
	assert_memory_not_equal(first, room2.msg.buf + room2.msg.to_tag.off, 16);
}

static void test_via_stamp(void **state)
{
	static const struct {
		const char *via, *source, *want;
	} row[] = {
		{"SIP/2.0/UDP 192.0.2.1;branch=z", "192.0.2.1:5060", "SIP/2.0/UDP 192.0.2.1;branch=z"},
		{"SIP/2.0/UDP 192.0.2.1:9;branch=z", "192.0.2.1:5060", "SIP/2.0/UDP 192.0.2.1:9;branch=z"},
		{"SIP/2.0/UDP 192.0.2.1;branch=z", "192.0.2.2:5060",
		 "SIP/2.0/UDP 192.0.2.1;branch=z;received=192.0.2.2"},
		{"SIP/2.0/UDP h.example;branch=z", "192.0.2.2:5060",
		 "SIP/2.0/UDP h.example;branch=z;received=192.0.2.2"},
		{"SIP/2.0/UDP 192.0.2.1;rport;branch=z", "192.0.2.1:4444",
		 "SIP/2.0/UDP 192.0.2.1;rport=4444;branch=z;received=192.0.2.1"},
		{"SIP/2.0/UDP 192.0.2.1;rport=1;branch=z", "192.0.2.9:4444",
		 "SIP/2.0/UDP 192.0.2.1;rport=4444;branch=z;received=192.0.2.9"},
		{"SIP/2.0/UDP h;received=203.0.113.1;branch=z", "192.0.2.9:4444",
		 "SIP/2.0/UDP h;received=192.0.2.9;branch=z"},
		{"SIP/2.0/UDP h;received=[::1];rport", "[2001:db8::1]:4444",
		 "SIP/2.0/UDP h;received=2001:db8::1;rport=4444"},
		{"SIP/2.0/UDP [2001:db8:0::1];branch=z", "[2001:db8::1]:5060",
		 "SIP/2.0/UDP [2001:db8:0::1];branch=z"},
		{"SIP/2.0/UDP [2001:db8::2];branch=z;rport", "[2001:db8::1]:65535",
		 "SIP/2.0/UDP [2001:db8::2];branch=z;rport=65535;received=2001:db8::1"},
		{"SIP/2.0/UDP h ; branch=z , SIP/2.0/UDP k;branch=y", "192.0.2.2:5060",
		 "SIP/2.0/UDP h ; branch=z;received=192.0.2.2 , SIP/2.0/UDP k;branch=y"},
	};
	char want[1000], scratch[SIP_VIA_SCRATCH];

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct sip_msg *m = request(row[i].via, "sip:b@c", "");
		struct sip_edits e = {0};
		struct addr a;

		assert_int_equal(addr_parse(slice_str(row[i].source), &a), 0);
		reply(m, (struct sip_reply){.status = 100, .source = &a});
		snprintf(want, sizeof(want), "SIP/2.0 100 Trying\r\nv: %s\r\nvia: SIP/2.0/TCP next.example\r\n",
			 row[i].want);
		if (strncmp(out, want, strlen(want)) != 0)
			fail_msg("%s\n%s", want, out);
		/* the same as edits of the request */
		sip_via_stamp(m, &a, &e, scratch);
		long n = sip_edits_apply(&e, m, out, sizeof(out) - 1);
		assert_true(n > 0);
		out[n] = 0;
		snprintf(want, sizeof(want), "\r\nv: %s\r\n", row[i].want);
		assert_non_null(strstr(out, want));
	}
}

static void test_ack_cancel(void **state)
{
	static const char invite[] =
		"INVITE sip:ben@192.0.2.9;x=y SIP/2.0\r\n"
		"Via: SIP/2.0/UDP us.example;branch=z9hG4bKus, SIP/2.0/UDP below.example\r\n"
		"Via: SIP/2.0/UDP caller.example\r\nRoute: <sip:r1;lr>\r\nMax-Forwards: 3\r\n"
		"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: id\r\nCSeq: 42 INVITE\r\n"
		"Require: 100rel\r\nProxy-Require: x\r\nRoute: <sip:r2;lr>\r\n"
		"Proxy-Authorization: Digest a=b\r\nAuthorization: Digest c=d\r\n"
		"Contact: <sip:a@b>\r\nContent-Length: 2\r\n\r\nhi";
	static const char response[] =
		"SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP us.example;branch=z9hG4bKus\r\n"
		"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: id\r\n"
		"CSeq: 42 INVITE\r\n\r\n";
	const struct sip_msg *m = parse(&room, invite), *r = parse(&room2, response);
	long n = sip_ack_build(m, r, out, sizeof(out) - 1);

	(void)state;
	assert_true(n > 0);
	out[n] = 0;
	assert_string_equal(
		out, "ACK sip:ben@192.0.2.9;x=y SIP/2.0\r\nVia: SIP/2.0/UDP us.example;branch=z9hG4bKus\r\n"
		     "Max-Forwards: 70\r\nRoute: <sip:r1;lr>\r\nRoute: <sip:r2;lr>\r\n"
		     "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: id\r\nCSeq: 42 ACK\r\n"
		     "Authorization: Digest c=d\r\nProxy-Authorization: Digest a=b\r\n"
		     "Content-Length: 0\r\n\r\n");
	assert_int_equal(sip_ack_build(m, r, out, (size_t)n - 1), -ENOBUFS);
	n = sip_cancel_build(m, SLICE_LIT("SIP;cause=200"), out, sizeof(out) - 1);
	assert_true(n > 0);
	out[n] = 0;
	assert_string_equal(
		out, "CANCEL sip:ben@192.0.2.9;x=y SIP/2.0\r\nVia: SIP/2.0/UDP us.example;branch=z9hG4bKus\r\n"
		     "Max-Forwards: 70\r\nRoute: <sip:r1;lr>\r\nRoute: <sip:r2;lr>\r\n"
		     "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: id\r\nCSeq: 42 CANCEL\r\n"
		     "Authorization: Digest c=d\r\nProxy-Authorization: Digest a=b\r\n"
		     "Reason: SIP;cause=200\r\n"
		     "Content-Length: 0\r\n\r\n");
	assert_int_equal(sip_cancel_build(m, SLICE_LIT("SIP;cause=200"), out, (size_t)n - 1), -ENOBUFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_reply_tag),
		cmocka_unit_test(test_via_stamp),
		cmocka_unit_test(test_ack_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
