#include <errno.h>

#include "sip/message.h"
#include "sip/uri.h"
#include "unit.h"

static struct sip_msg_room room;

#define HEAD                                                                                         \
	"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n" \
	"To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n"

static const struct sip_msg *with(const char *lines)
{
	static char text[4000];

	snprintf(text, sizeof(text), HEAD "%s\r\n", lines);
	assert_int_equal(sip_msg_parse(&room, text, strlen(text), false), 0);
	return &room.msg;
}

static void test_walk(void **state)
{
	static const struct {
		enum sip_hdr_id id;
		const char *lines;
		const char *values[6];
		const char *sole; /* a '1' for each value that is alone in its line */
	} row[] = {
		{SIP_HDR_ROUTE, "X: y\r\n", {NULL}, ""},
		{SIP_HDR_ROUTE, "Route: <sip:a>\r\n", {"<sip:a>"}, "1"},
		{SIP_HDR_ROUTE,
		 "Route: <sip:a>,<sip:b>\r\nX: y\r\nroute:<sip:c>\r\n",
		 {"<sip:a>", "<sip:b>", "<sip:c>"},
		 "001"},
		{SIP_HDR_ROUTE,
		 "Route: <sip:a,b> ;c=\"d,\\\"e\" \r\n , \"F, G\" <sip:h>\r\n",
		 {"<sip:a,b> ;c=\"d,\\\"e\"", "\"F, G\" <sip:h>"},
		 "00"},
		{SIP_HDR_ROUTE,
		 "Route: , <sip:a>, ,\r\nRoute:\r\nRoute: ,\r\nRoute: <sip:b>\r\n",
		 {"<sip:a>", "<sip:b>"},
		 "11"},
		{SIP_HDR_ROUTE,
		 "Route: \"a, <sip:b>\r\nRoute: <sip:c, <sip:d\r\n",
		 {"\"a, <sip:b>", "<sip:c, <sip:d"},
		 "11"},
		{SIP_HDR_SUPPORTED, "k: a, b\r\nSupported:\r\nSupported: c\r\n", {"a", "b", "c"}, "001"},
		{SIP_HDR_AUTHORIZATION,
		 "Authorization: Digest a=\"b\", c=d\r\nAuthorization: x\r\n",
		 {"Digest a=\"b\", c=d", "x"},
		 "11"},
		{SIP_HDR_CALL_ID, "", {"x"}, "1"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct sip_msg *m = with(row[i].lines);
		struct sip_values it = {0};
		struct slice v;
		unsigned n = 0;

		while (sip_values_next(m, row[i].id, &it, &v)) {
			if (!row[i].values[n])
				fail_msg("one too many: %s", row[i].lines);
			unit_assert_slice(v, row[i].values[n]);
			if (it.sole != (row[i].sole[n] == '1'))
				fail_msg("sole: %s", row[i].lines);
			n++;
		}
		assert_null(row[i].values[n]);
		assert_false(sip_values_next(m, row[i].id, &it, &v)); /* and stays at the end */
	}
}

static void test_token(void **state)
{
	const struct sip_msg *m = with("Supported: 100rel , PATH\r\nk: gruu\r\nRequire: foo\r\n");

	(void)state;
	assert_true(sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("100rel")));
	assert_true(sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("path")));
	assert_true(sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("gruu")));
	assert_false(sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("100re")));
	assert_false(sip_msg_has_token(m, SIP_HDR_SUPPORTED, SLICE_LIT("foo")));
	assert_false(sip_msg_has_token(m, SIP_HDR_UNSUPPORTED, SLICE_LIT("foo")));
}

static void test_via(void **state)
{
	const struct sip_msg *m;
	struct sip_values it = {0};
	struct sip_via v = {0};
	struct slice s;

	(void)state;
	m = with("Via: SIP / 2.0\r\n / TLS  [2001:db8::1] : 5061 ; Branch = z9hG4bKx;rport=4000 "
		 ";received=192.0.2.1\r\n"
		 " ;maddr=224.2.0.1;ttl=16;other=\"a,b;c\" , SIP/2.0/UDP nope;;\r\n");
	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &s));
	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &s));
	assert_int_equal(sip_via_parse(m, it.span, &v), 0);
	unit_assert_slice(sip_slice(m, v.transport), "TLS");
	unit_assert_slice(sip_slice(m, v.host), "[2001:db8::1]");
	assert_int_equal(v.port, 5061);
	unit_assert_slice(sip_slice(m, v.branch), "z9hG4bKx");
	unit_assert_slice(sip_slice(m, v.rport), "rport=4000");
	assert_int_equal(v.rport_value, 4000);
	unit_assert_slice(sip_slice(m, v.received), "192.0.2.1");
	unit_assert_slice(sip_slice(m, v.maddr), "224.2.0.1");
	assert_int_equal(v.ttl, 16);
	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &s));
	assert_int_equal(sip_via_parse(m, it.span, &v), -EBADMSG);
	assert_int_equal(v.ttl, 16); /* written only on success */

	m = with("Via: SIP/2.0/UDP h;branch;rport\r\n");
	it = (struct sip_values){0};
	sip_values_next(m, SIP_HDR_VIA, &it, &s);
	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &s));
	assert_int_equal(sip_via_parse(m, it.span, &v), 0);
	assert_int_equal(v.branch.len, 0);
	unit_assert_slice(sip_slice(m, v.rport), "rport");
	assert_int_equal(v.rport_value, 0);
}

static void test_nameaddr(void **state)
{
	static const struct {
		const char *text, *display, *uri;
		bool brackets;
		const char *params;
	} row[] = {
		{"sip:a@b", "", "sip:a@b", false, ""},
		{" sip:a@b ; x = y ", "", "sip:a@b", false, "; x = y"},
		{"<sip:a@b;lr?x=y>;q=1", "", "sip:a@b;lr?x=y", true, ";q=1"},
		{"Ann B <sip:a@b>", "Ann B", "sip:a@b", true, ""},
		{"Ann<tel:+1>", "Ann", "tel:+1", true, ""},
		{"\"A, \\\"<x>\" <sip:a@b> ;tag=\"q;r\";z", "\"A, \\\"<x>\"", "sip:a@b", true,
		 ";tag=\"q;r\";z"},
		{"\xd0\x9f\xd1\x80 <sip:a@b>", "\xd0\x9f\xd1\x80", "sip:a@b", true, ""},
		{"<urn:a:b>;x=[::1];y=a@b/c", "", "urn:a:b", true, ";x=[::1];y=a@b/c"},
		{"A\r\n B\r\n <sip:a@b>\r\n ;\r\n x\r\n =\r\n y", "A\r\n B", "sip:a@b", true,
		 ";\r\n x\r\n =\r\n y"},
	};
	static const char *const bad[] = {
		"",
		" ",
		"*",
		"<>",
		"<sip:>",
		"<a@b>",
		"sip:",
		"sip:a@b?x=y",
		"sip:a@b x",
		"sip:a@b,c",
		"< sip:a@b>",
		"<sip:a@b >",
		"<sip:a@b",
		"sip:a@b>",
		"\"A <sip:a@b>",
		"\"A\" sip:a@b",
		"\"A\"",
		"A, B <sip:a@b>",
		"A (x) <sip:a@b>",
		"<sip:a@b>;",
		"<sip:a@b>;;x",
		"<sip:a@b>;x=",
		"<sip:a@b>;=y",
		"<sip:a@b>;x=\"y",
		"<sip:a@b>x",
		"<sip:a@b>;x=y z",
		"<sip:a@b>;x=\"y\"z",
		"<sip:a b@c>",
		"<sip:a@b>,<sip:c@d>",
	};
	struct sip_nameaddr na;

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		if (sip_nameaddr_parse(slice_str(row[i].text), &na))
			fail_msg("refused: %s", row[i].text);
		unit_assert_slice(na.display, row[i].display);
		unit_assert_slice(na.uri, row[i].uri);
		assert_int_equal(na.brackets, row[i].brackets);
		unit_assert_slice(na.params, row[i].params);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (sip_nameaddr_parse(slice_str(bad[i]), &na) != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
}

static void test_params(void **state)
{
	struct slice all = SLICE_LIT(";a=1; B ;c = \"x;\\\"y\" ;;=z;d=e=f;E=\"\";a=2"), rest = all, name, value,
		     whole;
	static const char *const want[][3] = {
		{"a", "1", ";a=1"},     {"B", "", "; B"},     {"c", "x;\\\"y", ";c = \"x;\\\"y\""},
		{"d", "e=f", ";d=e=f"}, {"E", "", ";E=\"\""}, {"a", "2", ";a=2"},
	};
	unsigned n = 0;

	(void)state;
	for (; sip_param_next(&rest, &name, &value, &whole); n++) {
		assert_true(n < 6);
		unit_assert_slice(name, want[n][0]);
		unit_assert_slice(value, want[n][1]);
		unit_assert_slice(whole, want[n][2]);
	}
	assert_int_equal(n, 6);
	assert_true(sip_param_get(all, SLICE_LIT("A"), &value));
	unit_assert_slice(value, "1");
	assert_true(sip_param_get(all, SLICE_LIT("b"), NULL));
	assert_false(sip_param_get(all, SLICE_LIT("y"), &value));
	assert_false(sip_param_get(SLICE_NONE, SLICE_LIT("y"), &value));
	assert_false(sip_param_get(SLICE_LIT("a=1"), SLICE_LIT("a"), &value)); /* no ';' */
}

/* A quote that is never closed must not make the walk quadratic: this ends at once or not in a lifetime. */
static void test_params_linear(void **state)
{
	static char text[1 << 22];
	struct slice rest = slice_make(text, sizeof(text)), name, value, whole;

	(void)state;
	for (size_t i = 0; i + 1 < sizeof(text); i += 2)
		memcpy(text + i, "\"\\", 2);
	text[0] = ';';
	text[1] = '=';
	assert_false(sip_param_next(&rest, &name, &value, &whole));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walk),   cmocka_unit_test(test_token),
		cmocka_unit_test(test_via),    cmocka_unit_test(test_nameaddr),
		cmocka_unit_test(test_params), cmocka_unit_test(test_params_linear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
