/* The Contact headers of a REGISTER: what is refused, and what is given back. */
#include "registrar_rules.h"

static void test_broken(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"<sip:@192.0.2.10>",
		"<sip:b@>",
		"<sip:b@192.0.2.10",
		"<192.0.2.10>",
		"<sip:b@192.0.2.10:99999>",
		"<sip:b@[::1>",
		"\"Bob <sip:b@192.0.2.10>",
		"sip:b>ob@192.0.2.10",
		"<sip:b@192.0.2.10>;q=7",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=0",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=2147483648",
		"<sip:b@192.0.2.10>;+sip.instance=\"<urn:x>\";reg-id=x",
	};
	char line[256];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "Contact: <sip:good@192.0.2.10>, %s\n", bad[i]);
		unsigned status = reg(line);
		if (status != 400)
			fail_msg("%s: %u", bad[i], status);
		assert_false(answer.changed);
		assert_int_equal(lines_of("Contact:"), 0);
	}
	static char long_line[4000];
	snprintf(long_line, sizeof(long_line), "Contact: <sip:%01100d@192.0.2.10>\n", 1);
	assert_int_equal(reg(long_line), 400);
	snprintf(long_line, sizeof(long_line), "Contact: <sip:b@192.0.2.10>;+sip.instance=\"<%01100d>\"\n", 1);
	assert_int_equal(reg(long_line), 400);
	assert_int_equal(load(), 0);
	/* parameters that are kept have their bounds */
	static char many[20000];
	size_t n = (size_t)snprintf(many, sizeof(many), "Contact: <sip:b@192.0.2.10>");
	for (unsigned i = 0; i < 500; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n, ";parameter%u=value", i);
	snprintf(many + n, sizeof(many) - n, "\n");
	assert_int_equal(reg(many), 400);
	assert_int_equal(load(), 0);
}

/* What is given back in a Contact header is a Contact header. */
static void test_echo(void **state)
{
	(void)state;
	static const char *const odd[] = {
		"<sip:b@192.0.2.10>;a=\"x\n y\";b",
		"<sip:b@192.0.2.10>;a=\"\\\"\"",
		"<sip:b@192.0.2.10>;a=b c",
		"<sip:b@192.0.2.10>;;a",
		"<sip:b@192.0.2.10>;a=\"open",
		"<sip:b@192.0.2.10>;+sip.instance=\"a\\\"b\"",
		"<sip:b@192.0.2.10>;+sip.instance=\"<a>b\"",
		"<sip:b@192.0.2.10>;+sip.instance=x>y",
		"<sip:b@192.0.2.10?Route=%3Csip:x%3E>",
		"sip:b@192.0.2.10;a=b",
	};
	char line[256];
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		static char answered[4096];
		struct sip_values it = {0};
		struct sip_nameaddr na;
		struct sip_uri uri;
		struct slice v;
		unsigned n = 0;
		snprintf(line, sizeof(line), "Contact: %s\n", odd[i]);
		unsigned status = reg(line);
		if (status == 400)
			continue;
		assert_int_equal(status, 200);
		int len = snprintf(
			answered, sizeof(answered),
			"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK\r\nFrom: <sip:a@b>;tag=x\r\n"
			"To: <sip:a@b>;tag=y\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n%sContent-Length: 0\r\n\r\n",
			extra);
		assert_int_equal(sip_msg_parse(&room, answered, (size_t)len, false), 0);
		if (room.msg.error)
			fail_msg("%s gives\n%s", odd[i], extra);
		while (sip_values_next(&room.msg, SIP_HDR_CONTACT, &it, &v)) {
			n++;
			if (sip_nameaddr_parse(v, &na) || sip_uri_parse(na.uri, &uri) ||
			    !sip_param_get(na.params, SLICE_LIT("expires"), NULL))
				fail_msg("%s gives\n%s", odd[i], extra);
		}
		if (n != 1)
			fail_msg("%s gives\n%s", odd[i], extra);
		assert_int_equal(reg("Contact: *\nExpires: 0\n"), 200);
	}
}

static void test_require(void **state)
{
	(void)state;
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nRequire: path, foo\nRequire: outbound, bar\n"), 420);
	assert_line("Unsupported: foo, bar");
	assert_int_equal(load(), 0);
	assert_int_equal(reg("Contact: <sip:a@192.0.2.10>\nRequire: Path\n"), 200);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_broken),
		T(test_echo),
		T(test_require),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
