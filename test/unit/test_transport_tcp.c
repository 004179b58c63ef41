#include <fcntl.h>
#include <sys/wait.h>

#include "test_stream.h"
#include "transport/socket_p.h"

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);
	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

static struct config_listen listen_on(const char *ip, uint16_t port)
{
	return (struct config_listen){.name = "tcp:test", .proto = FLOW_TCP, .addr = test_addr(ip, port)};
}

static void close_all(const int *fd, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
}

static void test_listen(void **state)
{
	static const char *const ip[] = {"127.0.0.1", "0.0.0.0", "::1", "::"};
	static const char *const to[] = {"127.0.0.1", "127.0.0.1", "::1", "::1"};
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct config_listen l = listen_on(ip[i], 0);
		struct addr bound = l.addr, named;
		int fd[3] = {-1, -1, -1};
		assert_int_equal(tcp_listen(&l, &bound, fd, 3), 0);
		assert_int_not_equal(bound.port, 0);
		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(socket_name(fd[k], &named), 0);
			assert_true(addr_eq(&named, &bound));
			assert_true(fcntl(fd[k], F_GETFL) & O_NONBLOCK);
			assert_true(fcntl(fd[k], F_GETFD) & FD_CLOEXEC);
			assert_int_equal(get(fd[k], SOL_SOCKET, SO_ACCEPTCONN), 1);
		}
		struct addr at = test_addr(to[i], bound.port);
		close(peer_connect(&at));
		close_all(fd, 3);
	}
}

/* An IPv6 wildcard leaves IPv4 to others. */
static void test_v6only(void **state)
{
	struct config_listen six = listen_on("::", 0);
	struct addr bound = six.addr;
	int fd[2] = {-1, -1};
	(void)state;
	assert_int_equal(tcp_listen(&six, &bound, &fd[0], 1), 0);
	struct config_listen four = listen_on("0.0.0.0", bound.port);
	struct addr b4 = four.addr;
	assert_int_equal(tcp_listen(&four, &b4, &fd[1], 1), 0);
	close_all(fd, 2);
}

static int check(const struct config_listen *l, unsigned n, const char **name)
{
	struct config c = {.listen = (struct config_listen *)(uintptr_t)l, .listen_count = n, .acceptors = 1};
	return socket_check(&c, SOCK_STREAM, NULL, name);
}

/* A port of another process's is refused, even if that one would share it. */
static void test_taken(void **state)
{
	const char *name = NULL;
	struct addr at;
	(void)state;
	int fd = peer_listen("127.0.0.1", 1, &at);
	struct config_listen l = listen_on("127.0.0.1", at.port);
	assert_int_equal(check(&l, 1, &name), -EADDRINUSE);
	assert_string_equal(name, "tcp:test");
	l = listen_on("0.0.0.0", at.port);
	assert_int_equal(check(&l, 1, &name), -EADDRINUSE);
	l.proto = FLOW_UDP; /* not ours to look at */
	assert_int_equal(check(&l, 1, &name), 0);
	close(fd);
	fd = -1;
	l = listen_on("127.0.0.1", 0);
	struct addr bound = l.addr;
	assert_int_equal(tcp_listen(&l, &bound, &fd, 1), 0); /* with SO_REUSEPORT, as another Holdfast would */
	l = listen_on("127.0.0.1", bound.port);
	assert_int_equal(check(&l, 1, &name), -EADDRINUSE);
	close(fd);
	assert_int_equal(check(&l, 1, &name), 0);
}

static void test_twice(void **state)
{
	struct config_listen l[2] = {listen_on("127.0.0.1", 0), listen_on("127.0.0.1", 0)};
	const char *name = NULL;
	struct addr at;
	(void)state;
	assert_int_equal(check(l, 2, &name), 0); /* two free ports */
	close(peer_listen("127.0.0.1", 1, &at));
	l[0].addr.port = l[1].addr.port = at.port;
	l[0].proto = FLOW_TLS;
	l[1].name = "tcp:second";
	assert_int_equal(check(l, 2, &name), -EADDRINUSE);
	assert_string_equal(name, "tcp:second");
	l[1].addr = test_addr("0.0.0.0", at.port); /* overlaps, but is not the same */
	assert_int_equal(check(l, 2, &name), 0);
}

/* What an earlier run has left in TIME_WAIT does not keep the port. */
static void test_restart(void **state)
{
	struct config_listen l = listen_on("127.0.0.1", 0);
	struct addr bound = l.addr;
	const char *name;
	int fd = -1;
	(void)state;
	assert_int_equal(tcp_listen(&l, &bound, &fd, 1), 0);
	l.addr.port = bound.port;
	int peer = peer_connect(&bound), c = peer_accept(fd);
	close(c); /* first, so that TIME_WAIT is on our side */
	peer_expect_end(peer);
	close(peer);
	close(fd);
	fd = -1;
	assert_int_equal(check(&l, 1, &name), 0);
	assert_int_equal(tcp_listen(&l, &bound, &fd, 1), 0);
	close(fd);
}

static void test_options(void **state)
{
	struct config_stream o = {.keepalive_idle = 30000,
				  .keepalive_interval = 9001,
				  .keepalive_probes = 3,
				  .user_timeout = 20000};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	(void)state;
	assert_int_equal(tcp_options(fd, &o), 0);
	assert_int_equal(get(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 30);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 10); /* rounded up */
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0); /* only while bytes are under way */
	tcp_arm(fd, 20000);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 20000);
	tcp_arm(fd, UINT32_MAX);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), INT32_MAX);
	tcp_arm(fd, 0);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	close(fd);
	/* What is more than the kernel takes is cut down. */
	o = (struct config_stream){
		.keepalive_idle = UINT32_MAX, .keepalive_interval = UINT32_MAX, .keepalive_probes = 1000};
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(tcp_options(fd, &o), 0);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
	assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPCNT), 127);
	close(fd);
	o = (struct config_stream){0};
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(tcp_options(fd, &o), 0);
	assert_int_equal(get(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	close(fd);
	assert_int_equal(tcp_options(-1, &o), -EBADF);
}

static void test_connect(void **state)
{
	static const char *const bound[] = {"127.0.0.1", "127.0.0.77", "0.0.0.0", "::1", "::"};
	static const char *const ip[] = {"127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::1"};
	struct config_stream o = {.keepalive_idle = 1000};
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		struct addr at, from = test_addr(bound[i], 5060), named;
		int l = peer_listen(ip[i], 5, &at), fd = tcp_connect(&from, &o, &at);
		assert_true(fd >= 0);
		int c = peer_accept(l);
		assert_int_equal(socket_name(fd, &named), 0);
		assert_true(addr_is_any(&from) || addr_eq_ip(&named, &from));
		assert_int_not_equal(named.port, 5060);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		assert_int_equal(get(fd, IPPROTO_TCP, TCP_NODELAY), 1);
		assert_int_equal(get(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
		peer_write(fd, "hello", 5);
		peer_expect(c, "hello");
		close(fd);
		close(c);
		close(l);
	}
}

static void test_connect_fails(void **state)
{
	struct config_stream o = {0};
	struct addr four = test_addr("127.0.0.1", 0), six = test_addr("::1", 9),
		    foreign = test_addr("192.0.2.7", 0), at;
	(void)state;
	assert_int_equal(tcp_connect(&four, &o, &six), -EAFNOSUPPORT);
	int l = peer_listen("127.0.0.1", 1, &at);
	assert_int_equal(tcp_connect(&foreign, &o, &at), -EADDRNOTAVAIL); /* not an address of ours */
	close(l);
}

static void test_unacked(void **state)
{
	struct config_stream o = {0};
	struct addr at, from = test_addr("127.0.0.1", 0);
	static char block[100000], sink[100000];
	size_t sent = 0;
	ssize_t n;
	(void)state;
	int l = peer_listen("127.0.0.1", 1, &at), fd = tcp_connect(&from, &o, &at), c = peer_accept(l);
	assert_int_equal(tcp_unacked(fd), 0);
	while ((n = send(fd, block, sizeof(block), MSG_DONTWAIT)) > 0)
		sent += (size_t)n;
	assert_in_range(tcp_unacked(fd), 1, sent);
	for (size_t got = 0; got < sent;)
		got += peer_some(c, sink, sizeof(sink));
	for (unsigned i = 0; i < 1000 && tcp_unacked(fd); i++)
		test_sleep(1);
	assert_int_equal(tcp_unacked(fd), 0);
	close(fd);
	assert_int_equal(tcp_unacked(fd), -EBADF);
	close(c);
	close(l);
}

/* streams_open says which listener it was and why. */
static void test_open_error(void **state)
{
	struct stream_fixture f;
	struct addr at;
	char err[200];
	(void)state;
	int fd = peer_listen("127.0.0.1", 1, &at);
	stream_prepare(&f, 1);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	snprintf(f.t.name[1], sizeof(f.t.name[1]), "tcp:127.0.0.1:%u", at.port);
	f.t.listen[1].addr.port = at.port;
	assert_int_equal(streams_open(&f.t.config, &f.s, err, sizeof(err)), -EADDRINUSE);
	char expect[200];
	snprintf(expect, sizeof(expect), "listen tcp:127.0.0.1:%u: Address already in use", at.port);
	assert_string_equal(err, expect);
	close(fd);
	/* A wildcard and an address of ours may overlap. */
	f.t.listen[0].addr = test_addr("0.0.0.0", at.port);
	assert_int_equal(streams_open(&f.t.config, &f.s, err, sizeof(err)), 0);
	assert_int_equal(streams_bound(f.s, 0)->port, at.port);
	assert_int_equal(streams_bound(f.s, 2)->family, 0);
	streams_stop(f.s);
	streams_close(f.s);
	upper_deinit(&f.up);
}

static struct stream_fixture *oom_fixture;

static void open_body(void)
{
	struct stream_fixture *f = oom_fixture;
	struct streams *s;
	char err[200];
	if (streams_open(&f->t.config, &s, err, sizeof(err)) < 0) {
		assert_true(alloc_failed());
		assert_non_null(strstr(err, "Cannot allocate memory"));
		return;
	}
	if (streams_reconfigure(s, &f->t.config, err, sizeof(err)) < 0)
		assert_true(alloc_failed());
	streams_stop(s);
	streams_close(s);
}

static void test_oom(void **state)
{
	struct stream_fixture f;
	(void)state;
	stream_prepare(&f, 2);
	stream_listener(&f, FLOW_TCP, "127.0.0.1");
	stream_listener(&f, FLOW_UDP, "127.0.0.1");
	stream_listener(&f, FLOW_TCP, "::1");
	oom_fixture = &f;
	UNIT_OOM(open_body);
	upper_deinit(&f.up);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen),  cmocka_unit_test(test_v6only),
		cmocka_unit_test(test_taken),   cmocka_unit_test(test_twice),
		cmocka_unit_test(test_restart), cmocka_unit_test(test_options),
		cmocka_unit_test(test_connect), cmocka_unit_test(test_connect_fails),
		cmocka_unit_test(test_unacked), cmocka_unit_test(test_open_error),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
