/* Sockets on loopback and messages, for the tests of transport and worker. */
#ifndef TEST_TRANSPORT_H
#define TEST_TRANSPORT_H

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/hash.h"
#include "base/log.h"
#include "transport/udp.h"
#include "unit.h"

#define WAIT_MS 10000 /* what is awaited and has not come after so long is lost */

static inline struct addr test_addr(const char *ip, uint16_t port)
{
	struct addr a;
	assert_int_equal(addr_parse_ip(slice_str(ip), port, &a), 0);
	return a;
}

/* A socket of a peer's, on a free port; its address in *self. */
static inline int peer_open(const char *ip, struct addr *self)
{
	struct addr a = test_addr(ip, 0);
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&a, &ss);
	int big = 1 << 20, fd = socket(a.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
	len = sizeof(ss);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, self), 0);
	return fd;
}

static inline void peer_send(int fd, const struct addr *to, const void *p, size_t n)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	assert_int_equal(sendto(fd, p, n, 0, (struct sockaddr *)&ss, len), n);
}

static inline void peer_text(int fd, const struct addr *to, const char *text)
{
	peer_send(fd, to, text, strlen(text));
}

/* The next datagram, NUL-terminated; its length. */
static inline size_t peer_receive(int fd, char *buf, size_t cap, struct addr *from)
{
	struct pollfd pf = {.fd = fd, .events = POLLIN};
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	assert_int_equal(poll(&pf, 1, WAIT_MS), 1);
	ssize_t n = recvfrom(fd, buf, cap - 1, 0, (struct sockaddr *)&ss, &len);
	assert_true(n >= 0);
	buf[n] = '\0';
	if (from)
		assert_int_equal(addr_from_sockaddr((struct sockaddr *)&ss, from), 0);
	return (size_t)n;
}

static inline bool peer_is_empty(int fd)
{
	char c;
	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/* A configuration with `n` UDP listeners on free ports. */
struct test_config {
	struct config config;
	struct config_listen listen[4];
	char name[4][ADDR_STRLEN + 4];
};

static inline void test_config_init(struct test_config *t, unsigned acceptors, unsigned n,
				    const char *const *ip)
{
	memset(t, 0, sizeof(*t));
	t->config.workers = 1;
	t->config.acceptors = acceptors;
	t->config.mailbox_limit = 1000;
	t->config.listen = t->listen;
	t->config.listen_count = n;
	for (unsigned i = 0; i < n; i++) {
		snprintf(t->name[i], sizeof(t->name[i]), "udp:%s:0", ip[i]);
		t->listen[i] = (struct config_listen){.name = t->name[i],
						      .proto = FLOW_UDP,
						      .addr = test_addr(ip[i], 0),
						      .receive_buffer = 65536};
	}
}

static inline int test_setup(void **state)
{
	(void)state;
	hash_init(UINT64_C(0x5ca1ab1e));
	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	return 0;
}

static inline int test_teardown(void **state)
{
	(void)state;
	counters_reset_all();
	return 0;
}

/* A well-formed message with the given start line, Call-ID, To parameters and CSeq. */
static inline const char *test_message(char *buf, size_t cap, const char *start, const char *call_id,
				       const char *to_tag, const char *cseq)
{
	snprintf(buf, cap,
		 "%s\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK%s\r\nFrom: "
		 "<sip:a@example.com>;tag=1\r\n"
		 "To: <sip:b@example.com>%s\r\nCall-ID: %s\r\nCSeq: %s\r\nMax-Forwards: 70\r\nContent-Length: "
		 "0\r\n\r\n",
		 start, call_id, to_tag, call_id, cseq);
	return buf;
}

#endif
