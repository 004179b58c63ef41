#include <errno.h>

#include "sip/edit.h"
#include "unit.h"

static struct sip_msg_room room;

#define TOP "OPTIONS sip:a@b SIP/2.0\r\n"
#define REST                                                                                             \
	"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\n" \
	"CSeq: 1 OPTIONS\r\n\r\nbody"

static char text[4000], out[4000];

static const struct sip_msg *with(const char *lines)
{
	snprintf(text, sizeof(text), TOP "%s" REST, lines);
	assert_int_equal(sip_msg_parse(&room, text, strlen(text), false), 0);
	return &room.msg;
}

static const char *apply(const struct sip_edits *e)
{
	long n = sip_edits_apply(e, &room.msg, out, sizeof(out) - 1);

	assert_true(n >= 0);
	out[n] = 0;
	return out;
}

static void test_apply(void **state)
{
	const struct sip_msg *m = with("");
	struct sip_edits e = {0};

	(void)state;
	assert_string_equal(apply(&e), TOP REST);
	sip_edits_add(&e, m->len, 0, SLICE_LIT("!"));
	sip_edits_add(&e, m->ruri.off, m->ruri.len, SLICE_LIT("sip:new"));
	sip_edits_add(&e, m->hdrs[0].off, 0, SLICE_LIT("A: 1\r\n"));
	sip_edits_add(&e, m->hdrs[0].off, 0, SLICE_LIT("B: 2\r\n"));
	sip_edits_add(&e, 0, 0, SLICE_LIT("<"));
	assert_string_equal(apply(&e), "<OPTIONS sip:new SIP/2.0\r\nA: 1\r\nB: 2\r\n" REST "!");
	for (size_t cap = 0; cap < strlen(out); cap++) {
		char *exact = malloc(cap ? cap : 1);
		assert_non_null(exact);
		assert_int_equal(sip_edits_apply(&e, m, exact, cap), -ENOBUFS);
		free(exact);
	}
	assert_int_equal(sip_edits_apply(&e, m, out, strlen(out)), strlen(out));
}

static void test_full(void **state)
{
	struct sip_edits e = {0};

	(void)state;
	with("");
	for (unsigned i = 0; i < SIP_EDITS_MAX; i++)
		sip_edits_add(&e, i, 1, SLICE_NONE);
	assert_false(e.full);
	assert_string_equal(apply(&e), (TOP REST) + SIP_EDITS_MAX);
	sip_edits_add(&e, 100, 1, SLICE_NONE);
	assert_true(e.full);
	assert_int_equal(sip_edits_apply(&e, &room.msg, out, sizeof(out)), -ENOBUFS);
}

static void remove_nth(struct sip_edits *e, const struct sip_msg *m, unsigned n)
{
	struct sip_values it = {0};
	struct slice v;

	for (unsigned i = 0; i <= n; i++)
		assert_true(sip_values_next(m, SIP_HDR_ROUTE, &it, &v));
	sip_edits_remove_value(e, m, &it);
}

static void test_remove(void **state)
{
	static const struct {
		const char *lines, *which, *left; /* which: the order of removal */
	} row[] = {
		{"Route: <sip:a>\r\n", "0", ""},
		{"Route:\r\n <sip:a>\r\n  ,\r\n", "0", ""},
		{"X: 1\r\nRoute: <sip:a>\r\nY: 2\r\n", "0", "X: 1\r\nY: 2\r\n"},
		{"Route: <sip:a>, <sip:b>\r\n", "0", "Route: <sip:b>\r\n"},
		{"Route: <sip:a> , <sip:b> \r\n", "1", "Route: <sip:a> \r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "1", "Route: <sip:a>,<sip:c>\r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "12", "Route: <sip:a>\r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "21", "Route: <sip:a>\r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "01", "Route: <sip:c>\r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "20", "Route: <sip:b>\r\n"},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "012", ""},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "210", ""},
		{"Route: <sip:a>,<sip:b>,<sip:c>\r\n", "102", ""},
		{"Route: <sip:a>,<sip:b>,<sip:c>,<sip:d>\r\n", "30", "Route: <sip:b>,<sip:c>\r\n"},
		{"Route: <sip:a>,\r\n <sip:b>\r\nRoute: <sip:c>\r\n", "02", "Route: <sip:b>\r\n"},
		{"Route: <sip:a>,\"b,\" <sip:b>\r\nRoute: <sip:c>\r\n", "012", ""},
	};
	char want[4000];

	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct sip_msg *m = with(row[i].lines);
		struct sip_edits e = {0};

		for (const char *w = row[i].which; *w; w++)
			remove_nth(&e, m, (unsigned)(*w - '0'));
		snprintf(want, sizeof(want), TOP "%s" REST, row[i].left);
		assert_string_equal(apply(&e), want);
	}
}

/* A removal and other edits of the same line do not disturb each other. */
static void test_remove_beside_others(void **state)
{
	const struct sip_msg *m = with("Route: <sip:a;x=1>,<sip:b;x=1>\r\n");
	struct sip_edits e = {0};
	uint32_t at = (uint32_t)(strstr(text, "b;x=1") - text);

	(void)state;
	sip_edits_add(&e, m->hdrs[0].off, 0, SLICE_LIT("Route: <sip:n>\r\n"));
	sip_edits_add(&e, at + 1, 4, SLICE_NONE);
	remove_nth(&e, m, 0);
	assert_string_equal(apply(&e), TOP "Route: <sip:n>\r\nRoute: <sip:b>\r\n" REST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apply),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_remove_beside_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
