#include <errno.h>

#include "sip/message.h"
#include "unit.h"

static struct sip_msg_room room;

static const char invite[] = "INVITE sip:ben@right.example SIP/2.0\r\n"
			     "Via: SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bK-1;rport\r\n"
			     "v: SIP/2.0/TCP c.left.example\r\n"
			     "Max-Forwards: 68\r\n"
			     "X-Own: \"a\0"
			     "b\", \xc3\xa9\r\n"
			     "Route: <sip:p1.example;lr>,\r\n <sip:p2.example;lr>\r\n"
			     "From: \"Ann \\\"A\\\" N., x\" <sip:ann@left.example>;tag=f1\r\n"
			     "To: sip:ben@right.example;x=y\r\n"
			     "Call-ID: c1@left.example\r\n"
			     "CSeq: 7 INVITE\r\n"
			     "Contact: <sip:ann@192.0.2.1>\r\n"
			     "Content-Length: 5\r\n"
			     "\r\n"
			     "hello";

static const struct sip_msg *parse_n(const char *p, size_t n, bool stream)
{
	assert_int_equal(sip_msg_parse(&room, p, n, stream), 0);
	return &room.msg;
}

static const struct sip_msg *parse(const char *text)
{
	return parse_n(text, strlen(text), false);
}

static void test_request(void **state)
{
	const struct sip_msg *m = parse_n(invite, sizeof(invite) - 1, true);
	const struct sip_hdr *h;

	(void)state;
	assert_int_equal(m->error, 0);
	assert_true(m->request);
	assert_true(sip_msg_answerable(m));
	assert_int_equal(m->method, SIP_METHOD_INVITE);
	unit_assert_slice(sip_slice(m, m->method_name), "INVITE");
	unit_assert_slice(sip_slice(m, m->ruri), "sip:ben@right.example");
	unit_assert_slice(sip_slice(m, m->via.whole), "SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bK-1;rport");
	unit_assert_slice(sip_slice(m, m->via.branch), "z9hG4bK-1");
	assert_int_equal(m->via.port, 5061);
	assert_true(m->via.has_rport);
	unit_assert_slice(sip_slice(m, m->from_uri), "sip:ann@left.example");
	unit_assert_slice(sip_slice(m, m->from_tag), "f1");
	unit_assert_slice(sip_slice(m, m->to_uri), "sip:ben@right.example");
	assert_int_equal(m->to_tag.len, 0);
	unit_assert_slice(sip_slice(m, m->call_id), "c1@left.example");
	assert_int_equal(m->cseq, 7);
	assert_int_equal(m->max_forwards, 68);
	assert_int_equal(m->content_length, 5);
	unit_assert_slice(sip_slice(m, m->body), "hello");
	assert_int_equal(m->len, sizeof(invite) - 1);
	assert_int_equal(m->hdr_count, 11);

	h = sip_msg_hdr(m, SIP_HDR_VIA);
	unit_assert_slice(sip_hdr_name(m, h), "Via");
	h = sip_hdr_next(m, h);
	unit_assert_slice(sip_hdr_name(m, h), "v");
	unit_assert_slice(sip_hdr_value(m, h), "SIP/2.0/TCP c.left.example");
	assert_null(sip_hdr_next(m, h));
	assert_null(sip_msg_hdr(m, SIP_HDR_EXPIRES));
	h = sip_msg_hdr(m, SIP_HDR_ROUTE);
	unit_assert_slice(sip_hdr_value(m, h), "<sip:p1.example;lr>,\r\n <sip:p2.example;lr>");
	/* the NUL is kept */
	assert_int_equal(m->hdrs[3].id, SIP_HDR_OTHER);
	assert_int_equal(m->hdrs[3].value_len, 9);
	assert_memory_equal(m->buf + m->hdrs[3].value,
			    "\"a\0"
			    "b\", \xc3\xa9",
			    9);
}

static void test_response(void **state)
{
	const struct sip_msg *m =
		parse("\r\n\r\nSIP/2.0 183 Session Progress\r\n"
		      "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-1\r\nFrom: <sip:a@b>;tag=1\r\n"
		      "To: <sip:c@d>;tag=\"2\"\r\nCall-ID: x\r\nCSeq: 0 SUBSCRIBE\r\n\r\nbody");

	(void)state;
	assert_int_equal(m->error, 0);
	assert_false(m->request);
	assert_false(sip_msg_answerable(m));
	assert_memory_equal(m->buf, "SIP/2.0", 7);
	assert_int_equal(m->status, 183);
	unit_assert_slice(sip_slice(m, m->reason), "Session Progress");
	assert_int_equal(m->method, SIP_METHOD_SUBSCRIBE);
	unit_assert_slice(sip_slice(m, m->method_name), "SUBSCRIBE");
	unit_assert_slice(sip_slice(m, m->to_tag), "2");
	assert_int_equal(m->max_forwards, -1);
	assert_int_equal(m->content_length, -1);
	unit_assert_slice(sip_slice(m, m->body), "body");
}

#define REST                                                                                             \
	"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\n" \
	"CSeq: 1 OPTIONS\r\n"
#define OPT "OPTIONS sip:a@b SIP/2.0\r\n"

static void test_errors(void **state)
{
	static const struct {
		const char *text;
		int error;
		bool answerable;
	} row[] = {
		{OPT REST "\r\n", 0, true},
		{"OPTIONS sip:a@b sip/2.0\r\n" REST "\r\n", 0, true},
		{"OPTIONS tel:+1234 SIP/2.0\r\n" REST "\r\n", 0, true},
		{"OPTIONS x:y SIP/2.0\r\n" REST "\r\n", 0, true},
		{OPT "Max-Forwards : 070\r\n" REST "\r\n", 0, true},
		{OPT "max-forwards:\r\n 255\r\n" REST "\r\n", 0, true},
		{OPT "Contact: *\r\n" REST "\r\n", 0, true},
		{OPT "Contact:\r\n" REST "\r\n", 0, true},
		{OPT "Supported:\r\n" REST "\r\n", 0, true},
		{OPT "X:\r\n" REST "\r\n", 0, true},
		{OPT "Session-Expires: anything\r\nTimestamp: 1 2\r\n" REST "\r\n", 0, true},
		/* start line */
		{"OPTIONS sip:a@b  SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS\tsip:a@b SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS sip:a@b\tSIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0 \r\n" REST "\r\n", 400, true},
		{"OPTIONS SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS  SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS nothing SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS sip: SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS sip:a@b?x=y SIP/2.0\r\n" REST "\r\n", 400, true},
		{"OPTIONS sip:a@b SIP/3.0\r\n" REST "\r\n", 505, true},
		{"OPTIONS sip:a@b SIP/2.1\r\n" REST "\r\n", 505, true},
		{"OPTIONS sip:a@b SIP/02.0\r\n" REST "\r\n", 505, true},
		{"OPTIONS sip:a@b SIP/2.0\n" REST "\r\n", 400, true},
		{"OPTIONS sip:a@b SIP/2.0\r\n folded\r\n" REST "\r\n", 400, true},
		/* lines */
		{OPT REST "X-No-Colon\r\n\r\n", 400, true},
		{OPT REST "X Y: z\r\n\r\n", 400, true},
		{OPT REST ": z\r\n\r\n", 400, true},
		{OPT REST "X\r\n : z\r\n\r\n", 400, true},
		{OPT REST "X: a\nY: b\r\n\r\n", 400, true},
		{OPT REST "X: a\rY: b\r\n\r\n", 400, true},
		{OPT REST "X: a\n\n", 400, true},
		{OPT REST, 400, true},
		{OPT REST "X: y", 400, true},
		/* missing */
		{OPT "From: <sip:a@b>\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n", 400, false},
		{OPT "Via: SIP/2.0/UDP h\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n", 400, true},
		{OPT "Via: SIP/2.0/UDP h\r\nFrom: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n", 400,
		 true},
		{OPT "Via: SIP/2.0/UDP h\r\nFrom: <sip:c@d>\r\nTo: <sip:c@d>\r\nCSeq: 1 OPTIONS\r\n\r\n", 400,
		 true},
		{OPT "Via: SIP/2.0/UDP h\r\nFrom: <sip:c@d>\r\nTo: <sip:c@d>\r\nCall-ID: 1\r\n\r\n", 400, true},
		/* values */
		{OPT REST "Max-Forwards: -1\r\n\r\n", 400, true},
		{OPT REST "Max-Forwards: 1, 2\r\n\r\n", 400, true},
		{OPT REST "Max-Forwards:\r\n\r\n", 400, true},
		{OPT REST "Max-Breadth: many\r\n\r\n", 400, true},
		{OPT REST "Expires: 4294967296\r\n\r\n", 400, true},
		{OPT REST "Expires: 4294967295\r\n\r\n", 0, true},
		{OPT REST "Content-Length: 1\r\n\r\n", 400, true},
		{OPT REST "Content-Length: +0\r\n\r\n", 400, true},
		{OPT REST "Content-Length: 0 0\r\n\r\n", 400, true},
		{OPT REST "Content-Length: 99999999999999999999999\r\n\r\n", 400, true},
		{OPT REST "Contact: <sip:a@b\r\n\r\n", 0, true},
		{OPT REST "Contact: <sip:a@b>, , <>\r\n\r\n", 0, true},
		{OPT REST "Contact: \"A <sip:a@b>\r\n\r\n", 0, true},
		/* twice */
		{OPT REST "t: <sip:c@d>\r\n\r\n", 400, true},
		{OPT REST "CSeq: 1 OPTIONS\r\n\r\n", 400, true},
		{OPT REST "c: a/b\r\nContent-Type: a/b\r\n\r\n", 400, true},
		{OPT REST "l: 0\r\nContent-Length: 0\r\n\r\n", 400, true},
		{OPT REST "Authorization: A b\r\nAuthorization: A c\r\n\r\n", 0, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct sip_msg *m = parse(row[i].text);
		if (m->error != row[i].error)
			fail_msg("%u %s: %s", m->error, m->error_text ? m->error_text : "", row[i].text);
		if (sip_msg_answerable(m) != row[i].answerable)
			fail_msg("answerable: %s", row[i].text);
		assert_true(m->error == 0 || m->error_text[0]);
	}
}

static void test_via_errors(void **state)
{
	static const struct {
		const char *via;
		int error;
		bool answerable;
	} row[] = {
		{"SIP/2.0/UDP h", 0, true},
		{"SIP/2.0/UDP [::1]:1;ttl=3;maddr=224.0.0.1", 0, true},
		{"SIP/2.0/UDP h ; branch = \"z\"", 0, true},
		{"SIP/2.0/UDP h;branch=abc==", 0, true},
		{"SIP/2.0/UDP h;rport=", 400, true},
		{"SIP/2.0/UDP h;rport=x", 400, true},
		{"SIP/2.0/UDP h;rport;rport", 400, true},
		{"SIP/2.0/UDP h;received", 400, true},
		{"SIP/2.0/UDP h;ttl=256", 400, true},
		{"SIP/2.0/UDP h;branch=z;", 400, true},
		{"SIP/2.0/UDP h;branch=z,", 400, true},
		{"SIP/2.0/UDP h garbage", 400, true},
		{"SIP/2.0/UDP h:0", 400, false},
		{"SIP/2.0/UDP h:65536", 400, false},
		{"SIP/2.0/UDP h:", 400, false},
		{"SIP/2.0/UDP", 400, false},
		{"SIP/2.0 UDP h", 400, false},
		{"SIP/2.0/UDP ;branch=z", 400, false},
		{"SIP/2.0/UDP 2001:db8::1", 400, false},
		{"SIP/2.0/UDP [2001:db8::1", 400, false},
		{"", 400, false},
	};
	char text[500];

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		snprintf(text, sizeof(text),
			 OPT "Via: %s\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n"
			     "CSeq: 1 OPTIONS\r\n\r\n",
			 row[i].via);
		const struct sip_msg *m = parse(text);
		if (m->error != row[i].error || sip_msg_answerable(m) != row[i].answerable)
			fail_msg("%u %d: %s", m->error, sip_msg_answerable(m), row[i].via);
	}
}

static void test_not_sip(void **state)
{
	static const char *const row[] = {
		"",
		"\r\n",
		"\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"SIP",
		"SIP/2.0",
		"hello world\r\n\r\n",
		"\x16\x03\x01",
		" INVITE sip:a SIP/2.0\r\n\r\n",
		"INVITE\r\n\r\n",
		"INVITE sip:a\r\n\r\n",
		"SIP/x 200 OK\r\n\r\n",
		"IN(ITE sip:a SIP/2.0\r\n\r\n",
		"INVITE sip:a SIP/2\r\n\r\n",
		"INVITE sip:a xSIP/2.0\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (sip_msg_parse(&room, row[i], strlen(row[i]), false) !=
		    (strcmp(row[i], "SIP/2.0") ? -EBADMSG : 0))
			fail_msg("%s", row[i]);
}

static void test_responses_dropped(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} row[] = {
		{"SIP/2.0 200 OK\r\n" REST "\r\n", true},
		{"SIP/2.0 200\r\n" REST "\r\n", true},
		{"SIP/2.0 699 \r\n" REST "\r\n", true},
		{"SIP/2.0 200 OK\r\n" REST "Contact: <broken\r\nExpires: soon\r\n\r\n", true},
		{"SIP/2.0 200 OK\r\n" REST "Content-Type: a/b\r\nc: a/b\r\n\r\n", true},
		{"SIP/2.0 099 OK\r\n" REST "\r\n", false},
		{"SIP/2.0 700 OK\r\n" REST "\r\n", false},
		{"SIP/2.0 20 OK\r\n" REST "\r\n", false},
		{"SIP/2.0 2000 OK\r\n" REST "\r\n", false},
		{"SIP/2.0  200 OK\r\n" REST "\r\n", false},
		{"SIP/3.0 200 OK\r\n" REST "\r\n", false},
		{"SIP/2.0 200 OK\r\n" REST "CSeq: 2 OPTIONS\r\n\r\n", false},
		{"SIP/2.0 200 OK\r\n" REST "Content-Length: 3\r\n\r\nab", false},
		{"SIP/2.0 200 OK\r\nCSeq: 1 A\r\n\r\n", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if ((parse(row[i].text)->error == 0) != row[i].good)
			fail_msg("%s", row[i].text);
}

static void test_body_bounds(void **state)
{
	const struct sip_msg *m;

	(void)state;
	m = parse(OPT REST "Content-Length: 2\r\n\r\nabc");
	assert_int_equal(m->error, 0);
	unit_assert_slice(sip_slice(m, m->body), "ab");
	assert_int_equal(m->len, m->body_start + 2);
	m = parse(OPT REST "\r\nabc");
	unit_assert_slice(sip_slice(m, m->body), "abc");
	/* in a stream nothing but the length could say where it ends */
	m = parse_n(OPT REST "\r\n", strlen(OPT REST "\r\n"), true);
	assert_int_equal(m->error, 400);
}

/* No prefix may make it read beyond; only the whole is good. (A datagram cut within its body is not whole either.) */
static void test_every_prefix(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(invite) - 1; n++) {
		char *exact = malloc(n ? n : 1);
		assert_non_null(exact);
		memcpy(exact, invite, n);
		for (int stream = 0; stream < 2; stream++)
			if (sip_msg_parse(&room, exact, n, stream) == 0)
				assert_int_not_equal(room.msg.error, 0);
		free(exact);
	}
}

/* Any one byte changed to any of some nasty ones: no crash, and offsets stay within. */
static void test_every_byte(void **state)
{
	static const char nasty[] = "\0\r\n \t\",;<>:=\\[]%@?/\x7f\xff"
				    "0a";
	size_t len = sizeof(invite) - 1;
	char *exact = malloc(len);

	(void)state;
	assert_non_null(exact);
	for (size_t i = 0; i < len; i++) {
		for (size_t k = 0; k < sizeof(nasty); k++) {
			struct sip_values it = {0};
			struct slice v;

			memcpy(exact, invite, len);
			exact[i] = nasty[k];
			if (sip_msg_parse(&room, exact, len, false))
				continue;
			while (sip_values_next(&room.msg, SIP_HDR_ROUTE, &it, &v))
				assert_true(it.span.off + it.span.len <= room.msg.len);
		}
	}
	free(exact);
}

static void test_limits(void **state)
{
	static char text[2 * SIP_MESSAGE_MAX];
	size_t n = (size_t)sprintf(text, OPT REST);
	size_t rest = n;
	const struct sip_msg *m;

	(void)state;
	for (int i = 5; i < SIP_HDRS_MAX; i++)
		n += (size_t)sprintf(text + n, "Y: y\r\n");
	memcpy(text + n, "\r\n", 3);
	m = parse(text);
	assert_int_equal(m->error, 0);
	assert_int_equal(m->hdr_count, SIP_HDRS_MAX);
	memcpy(text + n, "Y: z\r\n\r\n", 9);
	m = parse(text);
	assert_int_equal(m->error, 400);
	assert_true(sip_msg_answerable(m));
	assert_int_equal(m->hdr_count, SIP_HDRS_MAX);

	n = rest;
	memcpy(text + n, "\r\n", 2);
	memset(text + n + 2, 'b', sizeof(text) - n - 2);
	m = parse_n(text, SIP_MESSAGE_MAX, false);
	assert_int_equal(m->error, 0);
	m = parse_n(text, SIP_MESSAGE_MAX + 1, false);
	assert_int_equal(m->error, 513);
	assert_true(sip_msg_answerable(m));
}

static void clone_body(void)
{
	struct sip_msg *c;
	char *copy = malloc(sizeof(invite));

	UNIT_NEED(copy);
	memcpy(copy, invite, sizeof(invite));
	parse_n(copy, sizeof(invite) - 1, false);
	c = sip_msg_clone(&room.msg);
	free(copy);
	UNIT_NEED(c);
	memset(&room, 0xee, sizeof(room));
	unit_assert_slice(sip_slice(c, c->call_id), "c1@left.example");
	unit_assert_slice(sip_hdr_value(c, sip_msg_hdr(c, SIP_HDR_CONTACT)), "<sip:ann@192.0.2.1>");
	assert_int_equal(sip_msg_clone_size(c), sizeof(*c) + 11 * sizeof(struct sip_hdr) + sizeof(invite) - 1);
	free(c);
}

static void test_clone(void **state)
{
	(void)state;
	UNIT_OOM(clone_body);
}

static void test_names(void **state)
{
	char up[64];

	(void)state;
	for (int id = 1; id < SIP_HDR_COUNT; id++) {
		struct slice n = sip_hdr_id_name((enum sip_hdr_id)id);
		assert_int_equal(sip_hdr_name_id(n), id);
		for (size_t i = 0; i < n.len; i++)
			up[i] = n.p[i] >= 'a' && n.p[i] <= 'z' ? (char)(n.p[i] - 32) : slice_lower(n.p[i]);
		assert_int_equal(sip_hdr_name_id(slice_make(up, n.len)), id);
		if (n.len > 2)
			assert_int_equal(sip_hdr_name_id(slice_make(n.p, n.len - 1)), SIP_HDR_OTHER);
		for (size_t i = 0; i < n.len; i++) { /* one letter off is another header */
			memcpy(up, n.p, n.len);
			up[i] = up[i] == 'q' ? 'z' : 'q';
			assert_int_equal(sip_hdr_name_id(slice_make(up, n.len)), SIP_HDR_OTHER);
		}
	}
	for (int c = 0; c < 256; c++) {
		char one = (char)c;
		enum sip_hdr_id id = sip_hdr_name_id(slice_make(&one, 1));
		bool compact = c && strchr("vftilcmkxVFTILCMKX", c);
		assert_int_equal(id != SIP_HDR_OTHER, compact);
	}
	assert_int_equal(sip_hdr_name_id(SLICE_LIT("M")), SIP_HDR_CONTACT);
	assert_int_equal(sip_hdr_name_id(SLICE_NONE), SIP_HDR_OTHER);
	for (int id = 1; id < SIP_METHOD_COUNT; id++)
		assert_int_equal(sip_method_id(sip_method_name((enum sip_method)id)), id);
	assert_int_equal(sip_method_id(SLICE_LIT("invite")), SIP_METHOD_OTHER);
	assert_int_equal(sip_method_name(SIP_METHOD_OTHER).len, 0);
	assert_string_equal(sip_reason_default(503), "Service Unavailable");
	for (unsigned s = 0; s < 1000; s++)
		assert_non_null(sip_reason_default(s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),     cmocka_unit_test(test_response),
		cmocka_unit_test(test_errors),      cmocka_unit_test(test_via_errors),
		cmocka_unit_test(test_not_sip),     cmocka_unit_test(test_responses_dropped),
		cmocka_unit_test(test_body_bounds), cmocka_unit_test(test_every_prefix),
		cmocka_unit_test(test_every_byte),  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_clone),       cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
