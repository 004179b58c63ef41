#include "transport/stun_p.h"
#include "unit.h"

/* The example of RFC 5769 in its addresses and transaction number; the attributes are ours. */
#define HEAD(type, len) \
	"\x00" type "\x00" len "\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
#define BYTES(s) slice_make(s, sizeof(s) - 1)

static struct addr source(const char *text)
{
	struct addr a;
	assert_int_equal(addr_parse(slice_str(text), &a), 0);
	return a;
}

static void answered(struct slice request, const char *from, struct slice want)
{
	unsigned char out[STUN_ANSWER_MAX];
	struct addr a = source(from);
	size_t n = stun_answer(request, &a, out);

	assert_int_equal(n, want.len);
	assert_memory_equal(out, want.p, n);
	assert_true(n <= 3 * request.len);
}

static void not_answered(struct slice request)
{
	unsigned char out[STUN_ANSWER_MAX];
	struct addr a = source("192.0.2.1:32853");
	assert_int_equal(stun_answer(request, &a, out), 0);
}

static void test_ipv4(void **state)
{
	(void)state;
	answered(BYTES(HEAD("\x01", "\x00")), "192.0.2.1:32853",
		 BYTES("\x01\x01\x00\x0c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
		       "\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"));
}

static void test_ipv6(void **state)
{
	(void)state;
	answered(BYTES(HEAD("\x01", "\x00")), "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
		 BYTES("\x01\x01\x00\x18\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
		       "\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe"
		       "\xd2\xb9\xd9"));
}

static void test_attributes(void **state)
{
	static const char ok[] =
		"\x01\x01\x00\x0c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
		"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
	(void)state;
	/* SOFTWARE, which need not be understood, with padding; USERNAME, which is for authentication. */
	answered(BYTES(HEAD("\x01", "\x10") "\x80\x22\x00\x03xyz\x00\x00\x06\x00\x04user"), "192.0.2.1:32853",
		 BYTES(ok));
	/* CHANGE-REQUEST must be understood: we have no other address. */
	answered(BYTES(HEAD("\x01", "\x08") "\x00\x03\x00\x04\x00\x00\x00\x06"), "192.0.2.1:32853",
		 BYTES("\x01\x11\x00\x10\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
		       "\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x02\x00\x03\x00\x00"));
	/* Six of them: four are named. */
	answered(BYTES(HEAD("\x01", "\x18") "\x70\x01\x00\x00\x70\x02\x00\x00\x70\x03\x00\x00"
					    "\x70\x04\x00\x00\x70\x05\x00\x00\x70\x06\x00\x00"),
		 "192.0.2.1:32853",
		 BYTES("\x01\x11\x00\x14\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
		       "\x00\x09\x00\x04\x00\x00\x04\x14\x00\x0a\x00\x08\x70\x01\x70\x02\x70\x03\x70\x04"));
}

static void test_refused(void **state)
{
	static const char whole[] = HEAD("\x01", "\x08") "\x80\x22\x00\x04wxyz";
	(void)state;
	assert_true(stun_is(BYTES(whole)));
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		char *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read beyond */
		memcpy(exact, whole, n);
		not_answered(slice_make(exact, n));
		free(exact);
	}
	not_answered(BYTES(HEAD("\x11", "\x00")));                           /* an indication */
	not_answered(BYTES(HEAD("\x02", "\x00")));                           /* another method */
	not_answered(BYTES(HEAD("\x01", "\x04")));                           /* shorter than it says */
	not_answered(BYTES(HEAD("\x01", "\x00") "more"));                    /* longer */
	not_answered(BYTES(HEAD("\x01", "\x06") "\x80\x22\x00\x02xy"));      /* no multiple of four */
	not_answered(BYTES(HEAD("\x01", "\x08") "\x80\x22\x00\x05wxyz"));    /* an attribute beyond the end */
	not_answered(BYTES("\x00\x01\x00\x00\x00\x00\x00\x00gggghhhhiiii")); /* no cookie: RFC 3489 */
	not_answered(BYTES("\x01\x01\x00\x00\x21\x12\xa4\x42gggghhhhiiii")); /* a response: never answered */
	assert_false(stun_is(BYTES("OPTIONS sip:a@example.com SIP/2.0\r\n\r\n"))); /* SIP */
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ipv4), cmocka_unit_test(test_ipv6),
					   cmocka_unit_test(test_attributes), cmocka_unit_test(test_refused)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
