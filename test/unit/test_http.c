/* The HTTP endpoint over a real socket on loopback. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "control/http_p.h"
#include "unit.h"

static struct http *http;
static char answer[1 << 20];
static _Atomic bool healthy = true, ready = true;
static _Atomic unsigned more_lines;

static void on_metrics(void *ctx, struct buf *b)
{
	assert_ptr_equal(ctx, &http);
	buf_lit(b, "# HELP holdfast_test_lines Lines of the test\n# TYPE holdfast_test_lines gauge\n");
	for (unsigned i = 0; i < more_lines; i++)
		buf_printf(b, "holdfast_test_lines{n=\"%06u\"} 1\n", i);
}

static bool on_healthy(void *ctx, struct buf *b)
{
	(void)ctx;
	if (!healthy)
		buf_lit(b, "worker 3 made no progress for 7 s");
	return healthy;
}

static bool on_ready(void *ctx, struct buf *b)
{
	(void)ctx;
	if (!ready)
		buf_lit(b, "draining");
	return ready;
}

static const struct http_source source = {on_metrics, on_healthy, on_ready, &http};

static struct addr loopback(const char *ip, uint16_t port)
{
	struct addr a;
	assert_int_equal(addr_parse_ip(slice_str(ip), port, &a), 0);
	return a;
}

static int setup(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	healthy = ready = true;
	more_lines = 0;
	struct addr a = loopback("127.0.0.1", 0);
	return http_start(&a, &source, &http);
}

static int teardown(void **state)
{
	(void)state;
	http_stop(http);
	counters_reset_all();
	return 0;
}

static int dial(struct addr a)
{
	struct sockaddr_storage ss;
	struct timeval tv = {10, 0};
	socklen_t n = addr_to_sockaddr(&a, &ss);
	int fd = socket(a.family, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, n), 0);
	return fd;
}

/* One request; the whole answer, NUL-terminated, in `answer`. Returns the status, and where the body starts. */
static int ask(int fd, const char *method, const char *path, const char **body)
{
	char req[256];
	size_t len = 0;
	int n = snprintf(req, sizeof(req), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method,
			 path);
	assert_int_equal(write(fd, req, (size_t)n), n);
	for (ssize_t got; (got = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0;)
		len += (size_t)got;
	answer[len] = '\0';
	close(fd);
	int status = 0;
	assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
	const char *end = strstr(answer, "\r\n\r\n");
	assert_non_null(end);
	*body = end + 4;
	return status;
}

static int get(const char *method, const char *path, const char **body)
{
	return ask(dial(loopback("127.0.0.1", http_port(http))), method, path, body);
}

static void test_paths(void **state)
{
	(void)state;
	const char *body;
	assert_int_equal(get("GET", "/healthz", &body), 200);
	assert_string_equal(body, "ok\n");
	assert_int_equal(get("GET", "/readyz", &body), 200);
	assert_int_equal(get("HEAD", "/healthz", &body), 200);
	assert_string_equal(body, "");
	assert_non_null(strstr(answer, "Content-Length: 3\r\n"));
	assert_int_equal(get("GET", "/metrics?x=y", &body), 200);
	assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
	assert_int_equal(get("GET", "/", &body), 404);
	assert_non_null(strstr(body, "/metrics"));
	assert_non_null(strstr(body, "/healthz"));
	assert_non_null(strstr(body, "/readyz"));
	assert_int_equal(get("GET", "/metrics/", &body), 404);
	assert_int_equal(get("POST", "/metrics", &body), 405);
	assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
	assert_int_equal(get("DELETE", "/", &body), 405);
}

static void test_states(void **state)
{
	(void)state;
	const char *body;
	healthy = false;
	assert_int_equal(get("GET", "/healthz", &body), 503);
	assert_string_equal(body, "worker 3 made no progress for 7 s\n");
	assert_int_equal(get("GET", "/readyz", &body), 200);
	ready = false;
	assert_int_equal(get("GET", "/readyz", &body), 503);
	assert_string_equal(body, "draining\n");
	healthy = ready = true;
	assert_int_equal(get("GET", "/healthz", &body), 200);
	assert_int_equal(get("GET", "/readyz", &body), 200);
}

static unsigned occurrences(const char *text, const char *what)
{
	unsigned n = 0;
	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void test_counters(void **state)
{
	(void)state;
	const char *body;
	count_add(CNT_IN_UDP_INVITE, 7);
	count_sub(CNT_INFLIGHT, 5); /* seen below zero for a moment */
	count_generated(404);
	count_generated(404);
	count_generated(503);
	count_latency(20000);
	count_latency(60000);
	count_latency(60000);
	count_latency(2000000000);
	assert_int_equal(get("GET", "/metrics", &body), 200);
	assert_non_null(strstr(
		body, "\nholdfast_messages_total{transport=\"udp\",direction=\"in\",kind=\"INVITE\"} 7\n"));
	assert_non_null(strstr(body, "\nholdfast_invites_in_flight 0\n"));
	assert_non_null(strstr(body, "\nholdfast_responses_generated_total{code=\"404\"} 2\n"));
	assert_non_null(strstr(body, "\nholdfast_responses_generated_total{code=\"503\"} 1\n"));
	assert_int_equal(occurrences(body, "responses_generated_total{"), 2);
	assert_int_equal(occurrences(body, "# HELP holdfast_messages_total "), 1);
	assert_int_equal(occurrences(body, "# TYPE holdfast_messages_total counter\n"), 1);
	assert_int_equal(occurrences(body, "# TYPE holdfast_transactions gauge\n"), 1);
	assert_non_null(strstr(body, "\nholdfast_message_seconds_bucket{le=\"2.5e-05\"} 1\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_bucket{le=\"5e-05\"} 1\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_bucket{le=\"0.0001\"} 3\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_bucket{le=\"0.1\"} 3\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_bucket{le=\"+Inf\"} 4\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_sum 2.000140000\n"));
	assert_non_null(strstr(body, "\nholdfast_message_seconds_count 4\n"));
	assert_non_null(strstr(body, "\nholdfast_build_info{version=\"" HOLDFAST_VERSION "\"} 1\n"));
	assert_non_null(strstr(body, "\nprocess_resident_memory_bytes "));
	assert_non_null(strstr(body, "\nprocess_open_fds "));
	assert_non_null(strstr(body, "\nprocess_max_fds "));
	assert_non_null(strstr(body, "\nprocess_start_time_seconds "));
}

/* The answer grows with its text, and is never cut. */
static void test_large(void **state)
{
	(void)state;
	const char *body;
	more_lines = 20000;
	assert_int_equal(get("GET", "/metrics", &body), 200);
	assert_true(strlen(body) > 600000);
	assert_non_null(strstr(body, "holdfast_test_lines{n=\"019999\"} 1\n"));
}

static void fill(void *ctx, struct buf *b)
{
	for (size_t i = 0; i < *(size_t *)ctx; i++)
		buf_char(b, 'x');
}

static void test_grow(void **state)
{
	(void)state;
	size_t want[] = {0, 1, 65535, 65536, 65537, 200000, 1 << 18};
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		size_t len = 99;
		char *p = http_render_grow(fill, &want[i], 1 << 18, &len);
		assert_non_null(p);
		assert_int_equal(len, want[i]);
		free(p);
	}
	size_t len = 99, over = (1 << 18) + 1;
	assert_null(http_render_grow(fill, &over, 1 << 18, &len));
	assert_int_equal(len, 99);
}

static void test_promtool(void **state)
{
	(void)state;
	const char *body;
	if (system("command -v promtool >/dev/null 2>&1") != 0) {
		print_message("promtool is not installed: not checked\n");
		skip();
	}
	more_lines = 2;
	count_generated(404);
	count_latency(60000);
	assert_int_equal(get("GET", "/metrics", &body), 200);
	FILE *p = popen("promtool check metrics", "w");
	assert_non_null(p);
	assert_int_equal(fputs(body, p) < 0, 0);
	int rc = pclose(p);
	assert_true(WIFEXITED(rc));
	assert_int_equal(WEXITSTATUS(rc), 0);
}

static void test_in_use(void **state)
{
	(void)state;
	struct http *second = NULL;
	struct addr a = loopback("127.0.0.1", http_port(http));
	assert_int_equal(http_start(&a, &source, &second), -EADDRINUSE);
	assert_null(second);
}

static void test_ipv6(void **state)
{
	(void)state;
	const char *body;
	struct http *six = NULL;
	struct addr a = loopback("::1", 0);
	int rc = http_start(&a, &source, &six);
	if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
		print_message("no IPv6 loopback here\n");
		skip();
	}
	assert_int_equal(rc, 0);
	assert_int_equal(ask(dial(loopback("::1", http_port(six))), "GET", "/healthz", &body), 200);
	http_stop(six);
}

/* Beyond the limit a connection is closed, and the ones before it are still served. */
static void test_connections(void **state)
{
	(void)state;
	const char *body;
	int fd[80];
	struct addr a = loopback("127.0.0.1", http_port(http));
	for (size_t i = 0; i < 80; i++)
		fd[i] = dial(a);
	assert_int_equal(ask(fd[0], "GET", "/healthz", &body), 200);
	for (size_t i = 1; i < 80; i++)
		close(fd[i]);
	int tries = 0;
	for (;; tries++) { /* until the server has seen them go */
		char c;
		int s = dial(a);
		if (write(s, "GET /healthz HTTP/1.0\r\n\r\n", 25) == 25 && read(s, &c, 1) == 1) {
			close(s);
			break;
		}
		close(s);
		assert_true(tries < 10000);
	}
}

static void test_garbage(void **state)
{
	(void)state;
	const char *body;
	struct addr a = loopback("127.0.0.1", http_port(http));
	unsigned seed = 3;
	for (int i = 0; i < 50; i++) {
		char junk[512];
		int fd = dial(a);
		for (size_t k = 0; k < sizeof(junk); k++)
			junk[k] = (char)rand_r(&seed);
		if (i % 2)
			memcpy(junk, "GET /metrics HTTP/1.1\r\n", 23);
		assert_true(write(fd, junk, sizeof(junk)) > 0);
		close(fd);
	}
	assert_int_equal(get("GET", "/healthz", &body), 200);
}

static void oom_body(void)
{
	struct http *h = NULL;
	struct addr a = loopback("127.0.0.1", 0);
	int rc = http_start(&a, &source, &h);
	if (rc) {
		assert_int_equal(rc, -ENOMEM);
		assert_true(alloc_failed());
		return;
	}
	const char *body;
	int status = ask(dial(loopback("127.0.0.1", http_port(h))), "GET", "/metrics", &body);
	assert_true(status == 200 || (status == 500 && alloc_failed()));
	http_stop(h);
}

static void test_no_memory(void **state)
{
	(void)state;
	UNIT_OOM(oom_body);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_paths),
		TEST(test_states),
		TEST(test_counters),
		TEST(test_large),
		cmocka_unit_test(test_grow),
		TEST(test_promtool),
		TEST(test_in_use),
		TEST(test_ipv6),
		TEST(test_connections),
		TEST(test_garbage),
		cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
