#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log_p.h"
#include "unit.h"

#define THREADS 4
#define LINES   500

/* Standard error, caught by a pipe and, while a reader is wanted, by a thread that empties it. */
static struct {
	int saved, out;
	pthread_t reader;
	char *text;
	size_t len, cap;
} cap;

static void *reader_main(void *arg)
{
	ssize_t n;

	(void)arg;
	while ((n = read(cap.out, cap.text + cap.len, cap.cap - cap.len - 1)) > 0)
		cap.len += (size_t)n;
	cap.text[cap.len] = 0;
	return NULL;
}

static void capture_start(void)
{
	int p[2];

	cap.cap = 4 << 20;
	cap.len = 0;
	cap.text = malloc(cap.cap);
	assert_non_null(cap.text);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	cap.out = p[0];
	cap.saved = dup(STDERR_FILENO);
	assert_int_equal(dup2(p[1], STDERR_FILENO), STDERR_FILENO);
	close(p[1]);
}

static void capture_read(void)
{
	assert_int_equal(pthread_create(&cap.reader, NULL, reader_main, NULL), 0);
}

static void capture_end(void)
{
	dup2(cap.saved, STDERR_FILENO);
	close(cap.saved);
	pthread_join(cap.reader, NULL);
	close(cap.out);
}

static void capture_free(void)
{
	free(cap.text);
	cap.text = NULL;
}

static unsigned count_of(const char *what)
{
	unsigned n = 0;

	for (const char *p = cap.text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void assert_line(enum log_format format, enum log_level level, struct slice component, struct slice text,
			const char *expected)
{
	/* 2026-11-21 03:43:49.123456789 UTC */
	struct log_line l = {UINT64_C(1795232629123456789), level, component, text};
	char bytes[LOG_LINE_MAX + 1];
	struct buf b;

	buf_init(&b, bytes, LOG_LINE_MAX);
	log_line_format(&l, format, &b);
	assert_false(b.full);
	bytes[b.len] = 0;
	assert_string_equal(bytes, expected);
}

static void test_line_text(void **state)
{
	(void)state;
	assert_line(LOG_FORMAT_TEXT, LOG_LEVEL_INFO, SLICE_LIT("worker"), SLICE_LIT("ready \"now\""),
		    "2026-11-21T03:43:49.123Z INFO worker: ready \"now\"\n");
	assert_line(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR, SLICE_LIT("a\nb"), SLICE_LIT("x\r\ny\0z\x7f\x1b[m\\"),
		    "2026-11-21T03:43:49.123Z ERROR a\\x0ab: x\\x0d\\x0ay\\x00z\\x7f\\x1b[m\\\\\n");
	assert_line(LOG_FORMAT_TEXT, LOG_LEVEL_WARNING, SLICE_LIT("c"),
		    SLICE_LIT("\xc3\xa9 \xc2\x9b \xff \xe2\x82"),
		    "2026-11-21T03:43:49.123Z WARNING c: \xc3\xa9 \\xc2\\x9b \\xff \\xe2\\x82\n");
	assert_line(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG, SLICE_LIT("c"), SLICE_NONE,
		    "2026-11-21T03:43:49.123Z DEBUG c: \n");
}

static void test_line_json(void **state)
{
#define HEAD "{\"time\":\"2026-11-21T03:43:49.123Z\",\"level\":\"info\",\"component\":\"c\",\"text\":\""
	static const struct {
		struct slice in;
		const char *out;
	} rows[] = {
		{SLICE_LIT("say \"a\\b\"/"), HEAD "say \\\"a\\\\b\\\"/\"}\n"},
		{SLICE_LIT("\n\t\0\x1f\x7f\xc2\x85"), HEAD "\\u000a\\u0009\\u0000\\u001f\\u007f\\u0085\"}\n"},
		{SLICE_LIT("\xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf"),
		 HEAD "\xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf\"}\n"},
		/* Overlong, a surrogate, too large, lone and missing continuation bytes: each byte alone. */
		{SLICE_LIT("\xc0\x80"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\xe0\x9f\xbf"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\xf0\x8f\xbf\xbf"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\xed\xa0\x80"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\xf4\x90\x80\x80"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\x80"), HEAD "\xef\xbf\xbd\"}\n"},
		{SLICE_LIT("\xe2\x82!"), HEAD "\xef\xbf\xbd\xef\xbf\xbd!\"}\n"},
		{SLICE_LIT("\xe2\x82"), HEAD "\xef\xbf\xbd\xef\xbf\xbd\"}\n"},
	};
#undef HEAD

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_line(LOG_FORMAT_JSON, LOG_LEVEL_INFO, SLICE_LIT("c"), rows[i].in, rows[i].out);
}

/* The longest line fits whatever it consists of. */
static void test_line_longest(void **state)
{
	char bytes[LOG_LINE_MAX], text[LOG_TEXT_MAX], component[LOG_COMPONENT_MAX];
	struct log_line l = {
		clock_wall_ns(), LOG_LEVEL_WARNING, {component, sizeof(component)}, {text, sizeof(text)}};
	struct buf b;

	(void)state;
	for (int c = 0; c < 256; c++) {
		memset(text, c, sizeof(text));
		memset(component, c, sizeof(component));
		for (int f = LOG_FORMAT_TEXT; f <= LOG_FORMAT_JSON; f++) {
			buf_init(&b, bytes, sizeof(bytes));
			log_line_format(&l, (enum log_format)f, &b);
			assert_false(b.full);
			assert_int_equal(bytes[b.len - 1], '\n');
			assert_ptr_equal(memchr(bytes, '\n', b.len), bytes + b.len - 1);
		}
	}
}

static void test_log_direct(void **state)
{
	char big[2000], *line;
	uint64_t before = counters_sum(CNT_LOG_LINES);

	(void)state;
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = 0;
	capture_start();
	capture_read();
	log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_TEXT);
	log_info("test", "not this");
	log_debug("test", "nor %s", "this");
	log_warning("test", "one %d\n", 1);
	log_error("test", "%s", big);
	log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
	log_debug("test", "two");
	log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	capture_end();
	assert_int_equal(count_of("\n"), 3);
	assert_int_equal(count_of("this"), 0);
	assert_int_equal(count_of(" WARNING test: one 1\\x0a\n"), 1);
	assert_int_equal(count_of("\"level\":\"debug\",\"component\":\"test\",\"text\":\"two\"}\n"), 1);
	line = strstr(cap.text, "xxx");
	assert_non_null(line);
	assert_int_equal(strspn(line, "x"), 1000);
	assert_int_equal(counters_sum(CNT_LOG_LINES) - before, 3);
	capture_free();
}

static void *writer_main(void *arg)
{
	for (unsigned i = 0; i < LINES; i++)
		log_info("test", "thread %u line %u", *(unsigned *)arg, i);
	return NULL;
}

/* Every line of every thread arrives whole, in its thread's order, before log_stop returns. */
static void test_log_threads(void **state)
{
	pthread_t t[THREADS];
	unsigned id[THREADS], next[THREADS] = {0};

	(void)state;
	capture_start();
	capture_read();
	assert_int_equal(log_start(), 0);
	assert_int_equal(log_start(), -EALREADY);
	for (unsigned i = 0; i < THREADS; i++) {
		id[i] = i;
		assert_int_equal(pthread_create(&t[i], NULL, writer_main, &id[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	log_stop();
	log_stop();
	log_info("test", "after");
	capture_end();
	for (char *p = cap.text; *p; p = strchr(p, '\n') + 1) {
		char *text = strstr(p, " INFO test: ");
		unsigned thread, line;
		assert_non_null(text);
		text += strlen(" INFO test: ");
		if (sscanf(text, "thread %u line %u\n", &thread, &line) != 2) {
			assert_string_equal(text, "after\n");
			break;
		}
		assert_in_range(thread, 0, THREADS - 1);
		assert_int_equal(line, next[thread]);
		next[thread]++;
	}
	assert_int_equal(count_of("\n"), THREADS * LINES + 1);
	assert_int_equal(log_dropped(), 0);
	capture_free();
}

/* Lines that are written while the logger thread starts and ends come out once, too. */
static void test_log_restart(void **state)
{
	pthread_t t[THREADS];
	unsigned id[THREADS];
	uint64_t before = counters_sum(CNT_LOG_LINES);

	(void)state;
	capture_start();
	capture_read();
	for (unsigned i = 0; i < THREADS; i++) {
		id[i] = i;
		assert_int_equal(pthread_create(&t[i], NULL, writer_main, &id[i]), 0);
	}
	while (counters_sum(CNT_LOG_LINES) - before < THREADS * LINES) {
		assert_int_equal(log_start(), 0);
		log_stop();
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	capture_end();
	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned j = 0; j < LINES; j++) {
			char text[64];
			snprintf(text, sizeof(text), "Z INFO test: thread %u line %u\n", i, j);
			assert_int_equal(count_of(text), 1);
		}
	assert_int_equal(count_of("\n"), THREADS * LINES);
	capture_free();
}

/* Nobody reads: lines are dropped, and nobody waits; then one line tells how many. */
static void test_log_dropped(void **state)
{
	uint64_t before = log_dropped(), lost;
	char expected[80];
	unsigned written = 0;

	(void)state;
	capture_start();
	assert_int_equal(log_start(), 0);
	while (log_dropped() - before < 100) {
		log_info("test", "line %0200u", written++);
		assert_true(written < 100000);
	}
	lost = log_dropped() - before;
	capture_read();
	log_stop();
	capture_end();
	snprintf(expected, sizeof(expected), " WARNING log: %u log lines were dropped: the queue was full\n",
		 (unsigned)lost);
	assert_int_equal(count_of(expected), 1);
	assert_int_equal(count_of(" INFO test: line "), written - lost);
	assert_int_equal(count_of("\n"), written - lost + 1);
	capture_free();
}

/* Nobody ever reads: log_stop gives up. */
static void test_log_stuck(void **state)
{
	(void)state;
	capture_start();
	assert_int_equal(log_start(), 0);
	for (unsigned i = 0; i < 2000; i++)
		log_info("test", "line %0200u", i);
	alarm(60);
	log_stop();
	alarm(0);
	capture_read();
	capture_end();
	assert_true(count_of("\n") >= 200);
	capture_free();
}

/* The reader is gone: no signal, no waiting. */
static void test_log_closed(void **state)
{
	(void)state;
	capture_start();
	close(cap.out);
	assert_int_equal(log_start(), 0);
	for (unsigned i = 0; i < 10; i++)
		log_info("test", "line %u", i);
	log_stop();
	dup2(cap.saved, STDERR_FILENO);
	close(cap.saved);
	capture_free();
}

static void oom_body(void)
{
	uint64_t before = log_dropped();

	assert_int_equal(log_start(), 0);
	log_info("test", "first");
	log_info("test", "second");
	log_stop();
	assert_int_equal(log_dropped() - before, alloc_failed() ? 1 : 0);
}

static void test_log_oom(void **state)
{
	(void)state;
	capture_start();
	capture_read();
	UNIT_OOM(oom_body);
	capture_end();
	/* Without the first, without the second, with both. */
	assert_int_equal(count_of("first"), 2);
	assert_int_equal(count_of("second"), 2);
	assert_int_equal(count_of("1 log lines were dropped"), 2);
	capture_free();
}

static void test_log_limit(void **state)
{
	struct log_limiter l = {0};
	uint64_t missed = 0, second = 1000000000u, now = 77 * second;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_true(log_limit_at(&l, 3, &missed, now + (uint64_t)i));
	for (int i = 0; i < 5; i++)
		assert_false(log_limit_at(&l, 3, &missed, now + second - 1));
	assert_int_equal(missed, 0);
	assert_true(log_limit_at(&l, 3, &missed, now + second));
	assert_int_equal(missed, 5);
	assert_true(log_limit_at(&l, 3, &missed, now + second));
	assert_int_equal(missed, 5);
	assert_false(log_limit_at(&l, 0, &missed, now + 2 * second));
	assert_true(log_limit(&l, 1000, &missed));
	assert_int_equal(missed, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line_text),    cmocka_unit_test(test_line_json),
		cmocka_unit_test(test_line_longest), cmocka_unit_test(test_log_direct),
		cmocka_unit_test(test_log_threads),  cmocka_unit_test(test_log_dropped),
		cmocka_unit_test(test_log_stuck),    cmocka_unit_test(test_log_closed),
		cmocka_unit_test(test_log_oom),      cmocka_unit_test(test_log_restart),
		cmocka_unit_test(test_log_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
