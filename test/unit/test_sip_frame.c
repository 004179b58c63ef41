#include "sip/frame.h"
#include "unit.h"

#define MAX 400

#define REQ "OPTIONS sip:a@b SIP/2.0\r\n"

/* One letter a frame: M message, P ping, O pong, L bad length, T too large, G garbage; '.' at the end: incomplete. */
static const char letters[] = {
	[SIP_FRAME_INCOMPLETE] = '.', [SIP_FRAME_MESSAGE] = 'M',    [SIP_FRAME_PING] = 'P',
	[SIP_FRAME_PONG] = 'O',       [SIP_FRAME_BAD_LENGTH] = 'L', [SIP_FRAME_TOO_LARGE] = 'T',
	[SIP_FRAME_GARBAGE] = 'G'};

static void feed(const char *text, size_t step, char *seen, size_t *taken)
{
	struct sip_frame f = {0};
	size_t size = strlen(text), start = 0, have = step < size ? step : size;

	*taken = 0;
	for (;;) {
		size_t len = have - start;
		char *exact = malloc(len ? len : 1);
		enum sip_frame_kind k;

		assert_non_null(exact);
		memcpy(exact, text + start, len);
		k = sip_frame_next(exact, len, MAX, &f);
		free(exact);
		assert_true(f.used <= len && f.scan <= len);
		if (k == SIP_FRAME_INCOMPLETE) {
			if (have == size)
				break;
			have = have + step < size ? have + step : size;
			continue;
		}
		*seen++ = letters[k];
		if (k == SIP_FRAME_MESSAGE)
			*taken += f.used - f.skip;
		if (k >= SIP_FRAME_BAD_LENGTH) {
			*seen = 0;
			return;
		}
		start += f.used;
	}
	if (start < size)
		*seen++ = '.';
	*seen = 0;
}

static void test_frames(void **state)
{
	char big[3][1000];
	const struct {
		const char *text, *want;
	} row[] = {
		{REQ "l: 0\r\n\r\n", "M"},
		{REQ "X: y\r\nContent-Length : 3\r\n\r\nabc" REQ "L:\r\n 2\r\n\r\nab", "MM"},
		{REQ "l: 4\r\n\r\n\r\n\r\n" REQ "l: 0\r\n\r\n", "MM"},
		{"SIP/2.0 200 OK\r\nl: 1\r\n\r\nx", "M"},
		{"\r\n\r\n", "P"},
		{"\r\n\r\n\r\n\r\n" REQ "l: 0\r\n\r\n", "PPM"},
		{"\r\n" REQ "l: 0\r\n\r\n\r\n\r\n", "OMP"},
		{REQ "l: 0\r\n\r\n\r\n" REQ "l: 0\r\n\r\n", "MOM"},
		{"\r\n\r" REQ, "OG"},
		{REQ "l: 0\r\n\r\n\r\n", "M."},
		{REQ "l: 0\r\n\r", "."},
		{REQ "l: 5\r\n\r\nabcd", "."},
		{"\r\n\r", "."},
		/* header without a usable length */
		{REQ "X: y\r\n\r\n", "L"},
		{REQ "\r\n", "L"},
		{REQ "l: -1\r\n\r\n", "L"},
		{REQ "l: 1 2\r\n\r\n", "L"},
		{REQ "l:\r\n\r\n", "L"},
		{REQ "l: 1\r\nContent-Length: 1\r\n\r\na", "L"},
		{REQ "l: 99999999999999999999\r\n\r\n", "L"},
		{REQ "X: y\nl: 0\r\n\r\n", "L"},
		{REQ "Xl: 0\r\n\r\n", "L"},
		{REQ "X: y\r\n l: 0\r\n\r\n", "L"},
		/* too large */
		{REQ "l: 400\r\n\r\n", "T"},
		{big[0], "T"},
		{big[1], "T"},
		{big[2], "M"},
		/* not SIP */
		{"\r\rX", "G"},
		{"\n", "G"},
		{" x", "G"},
		{"\x16\x03\x01", "G"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "G"},
		{"HELLO\r\n\r\n", "G"},
		{REQ "l: 0\r\n\r\n\n", "MG"},
	};

	(void)state;
	memset(big, 0, sizeof(big));
	memset(big[0], 'a', MAX + 1); /* no end of the header */
	snprintf(big[1], sizeof(big[1]), REQ "X: %0380d\r\nl: 0\r\n\r\n", 0);
	snprintf(big[2], sizeof(big[2]), REQ "l: 365\r\n\r\n%0365d", 0); /* MAX bytes to the byte */
	assert_int_equal(strlen(big[2]), MAX);
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		for (size_t step = 1; step < 40; step++) {
			char seen[64];
			size_t taken;
			feed(row[i].text, step == 39 ? 5000 : step, seen, &taken);
			if (strcmp(seen, row[i].want) != 0)
				fail_msg("step %zu: %s, not %s: %s", step, seen, row[i].want, row[i].text);
			if (strspn(seen, "M") == strlen(seen))
				assert_int_equal(taken, strlen(row[i].text));
		}
	}
}

/* A lone CRLF is a pong, or half a ping that is still on its way: it may go, or be kept. */
static void test_lone_crlf(void **state)
{
	struct sip_frame f = {0};

	(void)state;
	assert_int_equal(sip_frame_next("\r\n", 2, MAX, &f), SIP_FRAME_INCOMPLETE);
	assert_int_equal(f.used, 2);
	assert_int_equal(sip_frame_next("\r\n\r\n", 4, MAX, &f), SIP_FRAME_PING);
	assert_int_equal(f.used, 4);
	assert_int_equal(sip_frame_next("\r\nO", 3, MAX, &f), SIP_FRAME_PONG);
	assert_int_equal(f.used, 2);
	assert_int_equal(sip_frame_next("\r", 1, MAX, &f), SIP_FRAME_INCOMPLETE);
	assert_int_equal(f.used, 0);
}

/* What a caller needs for its 400 or 513: the header, when it is there. */
static void test_refused_header(void **state)
{
	static const char bad[] = REQ "X: y\r\n\r\nrest", large[] = REQ "l: 1000\r\n\r\nrest";
	struct sip_frame f = {0};

	(void)state;
	assert_int_equal(sip_frame_next(bad, sizeof(bad) - 1, MAX, &f), SIP_FRAME_BAD_LENGTH);
	assert_int_equal(f.used, sizeof(bad) - 1 - 4);
	assert_int_equal(sip_frame_next(large, sizeof(large) - 1, MAX, &f), SIP_FRAME_TOO_LARGE);
	assert_int_equal(f.used, sizeof(large) - 1 - 4);
}

/* A long header before a body that comes byte by byte is looked at when it is whole, not with every byte. */
static void test_header_read_once(void **state)
{
	char text[] = REQ "X: y\r\nl: 9\r\n\r\n123456789";
	size_t whole = sizeof(text) - 1;
	struct sip_frame f = {0};

	(void)state;
	assert_int_equal(sip_frame_next(text, whole - 8, MAX, &f), SIP_FRAME_INCOMPLETE);
	text[0] = ' '; /* would be garbage to whoever looked */
	for (size_t n = whole - 7; n < whole; n++) {
		assert_int_equal(sip_frame_next(text, n, MAX, &f), SIP_FRAME_INCOMPLETE);
		assert_int_equal(f.used, 0);
	}
	text[0] = 'O';
	assert_int_equal(sip_frame_next(text, whole, MAX, &f), SIP_FRAME_MESSAGE);
	assert_int_equal(f.used, whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_header_read_once),
		cmocka_unit_test(test_lone_crlf),
		cmocka_unit_test(test_refused_header),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
