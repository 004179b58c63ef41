#include "test_upper.h"

struct fixture {
	struct test_config t;
	struct udp *u;
	struct acceptor *a;
	struct upper up;
	struct addr at;   /* where the acceptor listens */
	struct addr self; /* the peer */
	int peer;
};

static struct packet *take(struct fixture *f, unsigned i)
{
	upper_await(&f->up, &f->up.flushed, i + 1);
	return f->up.taken[i];
}

static void fixture_open(struct fixture *f, const char *ip, const char *peer_ip, uint32_t gather,
			 uint32_t max_datagram)
{
	char err[200];
	memset(f, 0, sizeof(*f));
	upper_init(&f->up);
	test_config_init(&f->t, 1, 1, &ip);
	assert_int_equal(udp_open(&f->t.config, &f->u, err, sizeof(err)), 0);
	f->at = f->u->bound[0];
	f->peer = peer_open(peer_ip, &f->self);
	struct acceptor_config c = {.udp = f->u,
				    .gather = gather,
				    .retry_after = 7,
				    .max_datagram = max_datagram,
				    .upper = {upper_deliver, upper_send_failed, upper_flush, &f->up}};
	assert_int_equal(acceptor_create(&c, &f->a), 0);
	assert_int_equal(acceptor_start(f->a), 0);
}

static void fixture_close(struct fixture *f)
{
	acceptor_stop(f->a);
	upper_deinit(&f->up);
	acceptor_destroy(f->a);
	udp_close(f->u);
	close(f->peer);
}

static void send_message(struct fixture *f, const char *start, const char *call_id, const char *to_tag,
			 const char *cseq)
{
	char text[1000];
	peer_text(f->peer, &f->at, test_message(text, sizeof(text), start, call_id, to_tag, cseq));
}

static void send_invite(struct fixture *f, const char *call_id)
{
	send_message(f, "INVITE sip:b@example.com SIP/2.0", call_id, "", "1 INVITE");
}

static void test_delivered(void **state)
{
	struct fixture f;
	uint64_t in = counters_sum(CNT_IN_UDP_INVITE);
	nsec_t before = clock_wall_ns();
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	send_invite(&f, "one");
	const struct packet *p = take(&f, 0);
	upper_assert_call_id(p, "one");
	assert_true(p->msg->request);
	assert_int_equal(p->msg->method, SIP_METHOD_INVITE);
	assert_int_equal(p->flow.proto, FLOW_UDP);
	assert_int_equal(p->flow.listener, 0);
	assert_true(addr_eq(&p->flow.remote, &f.self));
	assert_true(addr_eq(&p->flow.local, &f.at));
	assert_true(p->received >= before && p->received <= clock_wall_ns());
	assert_non_null(p->inflight);
	assert_int_equal(f.up.percent[0], 100);
	assert_int_equal(counters_sum(CNT_IN_UDP_INVITE) - in, 1);
	assert_true(acceptor_alive(f.a, clock_mono_ms()));
	fixture_close(&f);
}

static void test_ipv6(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, "::1", "::1", 0, 0);
	send_invite(&f, "six");
	const struct packet *p = take(&f, 0);
	assert_true(addr_eq(&p->flow.remote, &f.self));
	assert_true(addr_eq(&p->flow.local, &f.at));
	fixture_close(&f);
}

static void test_wildcard_says_local(void **state)
{
	static const char *const any[] = {"0.0.0.0", "::"}, *const peer[] = {"127.0.0.1", "::1"},
				 *const to[] = {"127.0.0.42", "::1"};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture f;
		fixture_open(&f, any[i], peer[i], 0, 0);
		f.at = test_addr(to[i], f.at.port);
		send_invite(&f, "any");
		const struct packet *p = take(&f, 0);
		assert_true(addr_eq(&p->flow.local, &f.at));
		fixture_close(&f);
	}
}

static void test_copies_absorbed(void **state)
{
	struct fixture f;
	uint64_t absorbed = counters_sum(CNT_ABSORBED_INFLIGHT);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	for (unsigned i = 0; i < 20; i++)
		send_invite(&f, "copy");
	send_invite(&f, "other");
	upper_assert_call_id(take(&f, 0), "copy");
	upper_assert_call_id(take(&f, 1), "other");
	assert_int_equal(counters_sum(CNT_ABSORBED_INFLIGHT) - absorbed, 19);
	/* Answered: the next copy is the transaction's to recognise. */
	inflight_release(&f.up.taken[0]->inflight);
	send_invite(&f, "copy");
	upper_assert_call_id(take(&f, 2), "copy");
	/* Dropped by whoever held it: likewise. */
	packet_destroy(f.up.taken[2]);
	f.up.taken[2] = NULL;
	send_invite(&f, "copy");
	upper_assert_call_id(take(&f, 3), "copy");
	assert_int_equal(counters_sum(CNT_ABSORBED_INFLIGHT) - absorbed, 19);
	fixture_close(&f);
}

/* ACKs and responses have no answer that would end their flight: each copy passes. */
static void test_never_absorbed(void **state)
{
	struct fixture f;
	uint64_t absorbed = counters_sum(CNT_ABSORBED_INFLIGHT);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		send_message(&f, "ACK sip:b@example.com SIP/2.0", "ack", ";tag=2", "1 ACK");
		send_message(&f, "SIP/2.0 200 OK", "ok", ";tag=2", "1 INVITE");
	}
	take(&f, 5);
	for (unsigned i = 0; i < 6; i++) {
		upper_assert_call_id(f.up.taken[i], i % 2 ? "ok" : "ack");
		assert_null(f.up.taken[i]->inflight);
		assert_int_equal(f.up.percent[i], 200);
	}
	assert_int_equal(counters_sum(CNT_ABSORBED_INFLIGHT), absorbed);
	fixture_close(&f);
}

static void test_what_may_use_more_of_the_queue(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	send_message(&f, "BYE sip:b@example.com SIP/2.0", "bye", ";tag=2", "2 BYE");
	send_message(&f, "CANCEL sip:b@example.com SIP/2.0", "cancel", "", "1 CANCEL");
	send_message(&f, "OPTIONS sip:b@example.com SIP/2.0", "options", "", "1 OPTIONS");
	take(&f, 2);
	assert_int_equal(f.up.percent[0], 200);
	assert_int_equal(f.up.percent[1], 200);
	assert_int_equal(f.up.percent[2], 100);
	for (unsigned i = 0; i < 3; i++)
		assert_non_null(f.up.taken[i]->inflight);
	fixture_close(&f);
}

static void test_no_message(void **state)
{
	static const char ack[] = "ACK sip:b SIP/2.0\r\nCall-ID: x\r\n\r\n";
	static const char mute[] = "OPTIONS sip:b SIP/2.0\r\nCall-ID: x\r\n\r\n";
	static const char broken[] = "SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n";
	struct fixture f;
	uint64_t keepalive = counters_sum(CNT_DROP_KEEPALIVE), garbage = counters_sum(CNT_DROP_GARBAGE);
	uint64_t unanswerable = counters_sum(CNT_DROP_UNANSWERABLE);
	uint64_t response = counters_sum(CNT_DROP_MALFORMED_RESPONSE);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	peer_send(f.peer, &f.at, "", 0);
	peer_text(f.peer, &f.at, "\r\n");
	peer_text(f.peer, &f.at, "\r\n\r\n");
	peer_send(f.peer, &f.at, "\0", 1);
	peer_send(f.peer, &f.at, "\0\0\0\0", 4);
	peer_send(f.peer, &f.at, "\0\0\0\0\0", 5);
	peer_text(f.peer, &f.at, "hello");
	peer_text(f.peer, &f.at, "\r\n\r\nGET / HTTP/1.1\r\n\r\n");
	peer_text(f.peer, &f.at, ack);
	peer_text(f.peer, &f.at, mute);
	peer_text(f.peer, &f.at, broken);
	send_invite(&f, "end"); /* of one source, the order stays: what was before it has been looked at */
	upper_assert_call_id(take(&f, 0), "end");
	assert_int_equal(counters_sum(CNT_DROP_KEEPALIVE) - keepalive, 5);
	assert_int_equal(counters_sum(CNT_DROP_GARBAGE) - garbage, 3);
	assert_int_equal(counters_sum(CNT_DROP_UNANSWERABLE) - unanswerable, 2);
	assert_int_equal(counters_sum(CNT_DROP_MALFORMED_RESPONSE) - response, 1);
	assert_true(peer_is_empty(f.peer));
	fixture_close(&f);
}

static void test_leading_line_ends(void **state)
{
	struct fixture f;
	char text[1000] = "\r\n\r\n";
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	test_message(text + 4, sizeof(text) - 4, "INVITE sip:b@example.com SIP/2.0", "crlf", "", "1 INVITE");
	peer_text(f.peer, &f.at, text);
	upper_assert_call_id(take(&f, 0), "crlf");
	fixture_close(&f);
}

static void test_truncated(void **state)
{
	struct fixture f;
	char text[1000], big[1001];
	uint64_t truncated = counters_sum(CNT_DROP_TRUNCATED);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 1000);
	memset(big, ' ', sizeof(big));
	test_message(text, sizeof(text), "INVITE sip:b@example.com SIP/2.0", "big", "", "1 INVITE");
	memcpy(big, text, strlen(text));
	peer_send(f.peer, &f.at, big, sizeof(big));
	peer_send(f.peer, &f.at, big, sizeof(big) - 1);
	upper_assert_call_id(take(&f, 0), "big");
	send_invite(&f, "end");
	upper_assert_call_id(take(&f, 1), "end");
	assert_int_equal(counters_sum(CNT_DROP_TRUNCATED) - truncated, 1);
	fixture_close(&f);
}

static void test_malformed_answered(void **state)
{
	struct fixture f;
	char text[1000];
	struct addr from;
	uint64_t refused = counters_sum(CNT_REFUSED_MALFORMED), out = counters_sum(CNT_OUT_UDP_4XX);
	(void)state;
	fixture_open(&f, "0.0.0.0", "127.0.0.1", 0, 0);
	f.at = test_addr("127.0.0.42", f.at.port);
	/* The method of the CSeq is another one. */
	send_message(&f, "INVITE sip:b@example.com SIP/2.0", "bad", "", "1 OPTIONS");
	peer_receive(f.peer, text, sizeof(text), &from);
	assert_memory_equal(text, "SIP/2.0 400 ", 12);
	assert_non_null(strstr(text, "\r\nCall-ID: bad\r\n"));
	assert_non_null(strstr(text, "rport="));
	assert_true(addr_eq(&from, &f.at));
	send_invite(&f, "end");
	upper_assert_call_id(take(&f, 0), "end");
	assert_int_equal(counters_sum(CNT_REFUSED_MALFORMED) - refused, 1);
	assert_int_equal(counters_sum(CNT_OUT_UDP_4XX) - out, 1);
	fixture_close(&f);
}

/* RFC 3261 18.2.2: without rport the answer goes to the port that the Via names. */
static void test_answer_without_rport(void **state)
{
	struct fixture f;
	struct addr other;
	char text[1000];
	int second = peer_open("127.0.0.1", &other);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	snprintf(text, sizeof(text),
		 "INVITE sip:b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%u;branch=z9hG4bKx\r\nFrom: "
		 "<sip:a@b>;tag=1\r\n"
		 "To: <sip:b@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n",
		 other.port);
	peer_text(f.peer, &f.at, text);
	peer_receive(second, text, sizeof(text), NULL);
	assert_memory_equal(text, "SIP/2.0 400 ", 12);
	assert_true(peer_is_empty(f.peer));
	fixture_close(&f);
	close(second);
}

static void test_overload(void **state)
{
	struct fixture f;
	char text[1000];
	uint64_t refused = counters_sum(CNT_REFUSED_MAILBOX), dropped = counters_sum(CNT_DROP_MAILBOX);
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	pthread_mutex_lock(&f.up.lock);
	f.up.refuse = true;
	pthread_mutex_unlock(&f.up.lock);
	send_message(&f, "ACK sip:b@example.com SIP/2.0", "ack", ";tag=2", "1 ACK");
	send_message(&f, "SIP/2.0 180 Ringing", "ringing", ";tag=2", "1 INVITE");
	send_invite(&f, "new");
	peer_receive(f.peer, text, sizeof(text), NULL);
	assert_memory_equal(text, "SIP/2.0 503 ", 12);
	assert_non_null(strstr(text, "\r\nRetry-After: 7\r\n"));
	upper_await(&f.up, &f.up.refused, 3);
	acceptor_reconfigure(f.a, 0, 9);
	/* A copy is not held for one in flight: nobody works on it. */
	send_invite(&f, "new");
	peer_receive(f.peer, text, sizeof(text), NULL);
	assert_non_null(strstr(text, "\r\nRetry-After: 9\r\n"));
	assert_true(peer_is_empty(f.peer));
	acceptor_stop(f.a); /* what follows is not counted before the answer has left */
	assert_int_equal(counters_sum(CNT_REFUSED_MAILBOX) - refused, 2);
	assert_int_equal(counters_sum(CNT_DROP_MAILBOX) - dropped, 2);
	fixture_close(&f);
}

static void test_icmp(void **state)
{
	static const char *const ip[] = {"127.0.0.1", "::1"};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture f;
		struct addr gone;
		char text[2000];
		fixture_open(&f, ip[i], ip[i], 0, 0);
		int fd = peer_open(ip[i], &gone);
		close(fd);
		memset(text, 'x', sizeof(text));
		test_message(text, 1000, "INVITE sip:b@example.com SIP/2.0", "lost", "", "1 INVITE");
		text[strlen(text)] = 'x';
		peer_send(udp_socket(f.u, 0, 0)->fd, &gone, text, 1200);
		upper_await(&f.up, &f.up.failures, 1);
		assert_true(addr_eq(&f.up.remote, &gone));
		assert_in_range(f.up.quoted_len, 100, ACCEPTOR_QUOTE_MAX);
		assert_memory_equal(f.up.quoted, text, f.up.quoted_len);
		send_invite(&f, "next"); /* the socket goes on */
		upper_assert_call_id(take(&f, 0), "next");
		fixture_close(&f);
	}
}

/* Many messages, with and without gathering: all come, once, in order. */
static void test_flood(void **state)
{
	enum { FLOOD = 2000, WINDOW = 50 };
	(void)state;
	for (unsigned gather = 0; gather <= 200; gather += 200) {
		struct fixture f;
		char id[32];
		fixture_open(&f, "127.0.0.1", "127.0.0.1", gather, 0);
		for (unsigned i = 0; i < FLOOD; i++) {
			snprintf(id, sizeof(id), "flood-%u", i);
			send_invite(&f, id);
			if (i >= WINDOW) /* no more than the socket has room for */
				upper_await(&f.up, &f.up.flushed, i - WINDOW);
		}
		take(&f, FLOOD - 1);
		for (unsigned i = 0; i < FLOOD; i++) {
			snprintf(id, sizeof(id), "flood-%u", i);
			upper_assert_call_id(f.up.taken[i], id);
		}
		fixture_close(&f); /* also: stops while it gathers */
	}
}

static void test_stop(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 200, 0);
	acceptor_stop(f.a);
	acceptor_stop(f.a);
	fixture_close(&f);
	acceptor_destroy(NULL);
}

static struct udp *oom_udp;

static void acceptor_body(void)
{
	struct upper up = {0};
	struct acceptor_config c = {.udp = oom_udp,
				    .upper = {upper_deliver, upper_send_failed, upper_flush, &up}};
	struct acceptor *a;
	if (acceptor_create(&c, &a) < 0)
		assert_true(alloc_failed());
	else
		acceptor_destroy(a);
}

static void test_oom(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	acceptor_stop(f.a);
	oom_udp = f.u;
	UNIT_OOM(acceptor_body);
	fixture_close(&f);
}

/* RFC 5626 section 8: on the SIP port, and nothing of it goes to a worker. */
static void test_stun(void **state)
{
	static const char request[20] = {0, 1, 0, 0, 0x21, 0x12, (char)0xa4, 0x42, 1, 2, 3, 4};
	char answer[200];
	struct fixture f;
	struct addr from;
	uint64_t before = counters_sum(CNT_STUN), garbage = counters_sum(CNT_DROP_GARBAGE);

	(void)state;
	fixture_open(&f, "127.0.0.1", "127.0.0.1", 0, 0);
	peer_send(f.peer, &f.at, request, 19); /* cut short: dropped */
	peer_send(f.peer, &f.at, request, sizeof(request));
	assert_int_equal(peer_receive(f.peer, answer, sizeof(answer), &from), 32);
	assert_true(addr_eq(&from, &f.at));
	assert_memory_equal(answer, "\x01\x01\x00\x0c", 4);
	unsigned port = (unsigned)(unsigned char)answer[26] << 8 | (unsigned char)answer[27];
	assert_int_equal(port ^ 0x2112, f.self.port);
	send_invite(&f, "after");
	upper_assert_call_id(take(&f, 0), "after");
	assert_int_equal(counters_sum(CNT_STUN) - before, 1);
	assert_int_equal(counters_sum(CNT_DROP_GARBAGE) - garbage, 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delivered),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_wildcard_says_local),
		cmocka_unit_test(test_copies_absorbed),
		cmocka_unit_test(test_never_absorbed),
		cmocka_unit_test(test_what_may_use_more_of_the_queue),
		cmocka_unit_test(test_no_message),
		cmocka_unit_test(test_leading_line_ends),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_malformed_answered),
		cmocka_unit_test(test_answer_without_rport),
		cmocka_unit_test(test_overload),
		cmocka_unit_test(test_icmp),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_stun),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_oom),
	};
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
