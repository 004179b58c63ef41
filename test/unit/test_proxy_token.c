/* The HMAC tokens: who made them, for what, and that nobody else can. */
#include "unit.h"

#include "../../src/proxy/token_p.h"
#include "transport/flow_key.h"

#define REST                                                                                          \
	"From: <sip:a@example.com>;tag=caller\r\nTo: <sip:b@example.com>\r\nCall-ID: %s\r\nCSeq: %d " \
	"INVITE\r\n\r\n"

static const unsigned char secret[STORE_SECRET_LEN] = "a secret of thirty-two bytes....";
static const unsigned char other[STORE_SECRET_LEN] = "another one, as long as it is...";
static struct sip_msg_room room;

static const struct sip_msg *parse(const char *fmt, ...)
{
	static char text[2048];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	assert_int_equal(sip_msg_parse(&room, text, (size_t)n, false), 0);
	assert_int_equal(room.msg.error, 0);
	return &room.msg;
}

static const struct sip_msg *request(const char *call_id, int cseq)
{
	return parse(
		"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKin\r\n" REST,
		call_id, cseq);
}

/* The response to the request that left with `branch`: our Via on top of the one that came in. */
static bool response_is_ours(struct token_keys *k, const char *branch, const char *call_id, int cseq)
{
	const struct sip_msg *m =
		parse("SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=%.33s\r\n"
		      "Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKin;received=192.0.2.7\r\n" REST,
		      branch, call_id, cseq);
	struct sip_values it = {0};
	struct sip_via ours, next;
	struct slice v;
	uint64_t prefix;

	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &v));
	assert_int_equal(sip_via_parse(m, it.span, &ours), 0);
	assert_true(sip_values_next(m, SIP_HDR_VIA, &it, &v));
	assert_int_equal(sip_via_parse(m, it.span, &next), 0);
	return token_branch_check(k, m, &ours, &next, &prefix);
}

static void test_branch(void **state)
{
	struct token_keys k, same, foreign;
	char a[TOKEN_BRANCH_LEN], b[TOKEN_BRANCH_LEN];
	uint64_t prefix;

	(void)state;
	assert_int_equal(token_init(&k, secret), 0);
	assert_int_equal(token_init(&same, secret), 0);
	assert_int_equal(token_init(&foreign, other), 0);

	const struct sip_msg *m = request("call-1", 1);
	uint64_t loop = token_loop_hash(&k, m);
	token_branch_make(&k, m, loop, 0, a);
	assert_memory_equal(a, "z9hG4bK", 7);
	assert_true(token_branch_peek(slice_make(a, sizeof(a)), &prefix));
	assert_true(prefix == token_loop_prefix(loop));

	/* After a restart the same request gives the same branch; another index or another secret does not. */
	assert_true(token_loop_hash(&same, m) == loop);
	token_branch_make(&same, m, loop, 0, b);
	assert_memory_equal(a, b, sizeof(a));
	token_branch_make(&k, m, loop, 1, b);
	assert_memory_not_equal(a, b, sizeof(a));
	token_branch_make(&foreign, m, loop, 0, b);
	assert_memory_not_equal(a, b, sizeof(a));

	assert_true(response_is_ours(&k, a, "call-1", 1));
	assert_true(response_is_ours(&same, a, "call-1", 1));
	assert_false(response_is_ours(&foreign, a, "call-1", 1));
	assert_false(response_is_ours(&k, a, "call-2", 1));
	assert_false(response_is_ours(&k, a, "call-1", 2));
	for (size_t i = 9; i < sizeof(a); i++) {
		memcpy(b, a, sizeof(a));
		b[i] = b[i] == 'A' ? 'B' : 'A';
		assert_false(response_is_ours(&k, b, "call-1", 1));
	}
	token_deinit(&k);
	token_deinit(&same);
	token_deinit(&foreign);
}

static void test_loop_hash(void **state)
{
	struct token_keys k;

	(void)state;
	assert_int_equal(token_init(&k, secret), 0);
	uint64_t h = token_loop_hash(&k, request("call-1", 1));
	assert_true(h == token_loop_hash(&k, request("call-1", 1)));
	assert_false(h == token_loop_hash(&k, request("call-1", 2)));
	assert_false(h == token_loop_hash(&k, request("call-2", 1)));
	token_deinit(&k);
}

static struct flow toward; /* of the last one that was */

static bool user_is_ours(struct token_keys *k, struct slice token, const char *from, const char *to,
			 const char *call_id)
{
	const struct sip_msg *m =
		parse("BYE sip:b@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n"
		      "From: <sip:a@b>;tag=%s\r\nTo: <sip:c@d>;tag=%s\r\nCall-ID: %s\r\n"
		      "CSeq: 2 BYE\r\n\r\n",
		      from, to, call_id);
	return token_route_check(k, m, token, &toward);
}

static bool route_is_ours(struct token_keys *k, const char *token, const char *from, const char *to,
			  const char *call_id)
{
	return user_is_ours(k, slice_make(token, TOKEN_ROUTE_LEN), from, to, call_id);
}

static void test_route(void **state)
{
	struct token_keys k;
	char t[TOKEN_ROUTE_LEN], bad[TOKEN_ROUTE_LEN];

	(void)state;
	assert_int_equal(token_init(&k, secret), 0);
	token_route_make(&k, SLICE_LIT("call-1"), SLICE_LIT("caller"), t);
	assert_true(token_route_is_form(slice_make(t, sizeof(t))));
	assert_true(route_is_ours(&k, t, "caller", "callee", "call-1"));
	assert_true(flow_is_none(&toward));
	assert_true(route_is_ours(&k, t, "callee", "caller", "call-1"));
	assert_false(route_is_ours(&k, t, "callee", "third", "call-1"));
	assert_false(route_is_ours(&k, t, "caller", "callee", "call-2"));
	for (size_t i = 3; i < sizeof(t); i++) {
		memcpy(bad, t, sizeof(t));
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		assert_false(route_is_ours(&k, bad, "caller", "callee", "call-1"));
	}
	token_deinit(&k);
}

static struct flow flow_of(enum flow_proto proto, const char *remote, uint64_t conn)
{
	struct flow f = {.proto = (uint8_t)proto, .listener = 513, .conn = conn};
	if (remote)
		assert_int_equal(addr_parse(slice_str(remote), &f.remote), 0);
	return f;
}

/* Each side is told the way to the other. */
static void test_flows(void **state)
{
	struct token_keys k, foreign;
	struct flow flow[] = {
		{0},
		flow_of(FLOW_TCP, "192.0.2.7:4711", 0x0123456789abcdefu),
		flow_of(FLOW_UDP, "192.0.2.8:65535", 0),
		flow_of(FLOW_UDP, "[2001:db8::8]:5060", 0),
	};
	size_t n = sizeof(flow) / sizeof(flow[0]), longest = 0;

	(void)state;
	assert_int_equal(token_init(&k, secret), 0);
	assert_int_equal(token_init(&foreign, other), 0);
	for (size_t i = 0; i < n * n; i++) {
		const struct flow *a = &flow[i / n], *b = &flow[i % n];
		char t[TOKEN_FLOW_MAX], bad[TOKEN_FLOW_MAX];
		size_t len = token_flow_make(&k, SLICE_LIT("call-1"), SLICE_LIT("caller"), i / n ? a : NULL,
					     i % n ? b : NULL, t);
		struct slice token = slice_make(t, len);
		longest = len > longest ? len : longest;
		assert_true(len <= sizeof(t));
		assert_true(token_route_is_form(token));
		assert_true(user_is_ours(&k, token, "caller", "callee", "call-1"));
		assert_true(flow_eq(&toward, b) && toward.listener == b->listener);
		assert_true(user_is_ours(&k, token, "callee", "caller", "call-1"));
		assert_true(flow_eq(&toward, a) && toward.listener == a->listener);
		assert_false(user_is_ours(&k, token, "callee", "third", "call-1"));
		assert_false(user_is_ours(&k, token, "caller", "callee", "call-2"));
		assert_false(user_is_ours(&foreign, token, "caller", "callee", "call-1"));
		for (size_t at = 0; at < len; at++) {
			memcpy(bad, t, len);
			bad[at] = bad[at] == 'A' ? 'B' : 'A';
			assert_false(user_is_ours(&k, slice_make(bad, len), "caller", "callee", "call-1"));
			assert_false(user_is_ours(&k, slice_make(t, at), "caller", "callee", "call-1"));
		}
		for (size_t at = 3; at < len; at++) {
			memcpy(bad, t, len);
			bad[at] = '!';
			assert_false(user_is_ours(&k, slice_make(bad, len), "caller", "callee", "call-1"));
		}
	}
	assert_int_equal(longest, TOKEN_FLOW_MAX);
	char huge[400];
	memset(huge, 'A', sizeof(huge));
	memcpy(huge, "hff", 3);
	for (size_t len = 0; len < sizeof(huge); len++)
		assert_false(user_is_ours(&k, slice_make(huge, len), "caller", "callee", "call-1"));
	token_deinit(&foreign);
	token_deinit(&k);
}

/* One flow, and nobody's but ours. */
static void test_path(void **state)
{
	struct token_keys k, same, foreign;
	struct flow flow[] = {
		flow_of(FLOW_TCP, "192.0.2.7:4711", 0x0123456789abcdefu),
		flow_of(FLOW_UDP, "192.0.2.8:65535", 0),
		flow_of(FLOW_UDP, "[2001:db8::8]:5060", 0),
	};
	size_t longest = 0;

	(void)state;
	assert_int_equal(token_init(&k, secret), 0);
	assert_int_equal(token_init(&same, secret), 0);
	assert_int_equal(token_init(&foreign, other), 0);
	for (size_t i = 0; i < sizeof(flow) / sizeof(flow[0]); i++) {
		char t[TOKEN_PATH_MAX], bad[TOKEN_PATH_MAX + 4];
		size_t len = token_path_make(&k, &flow[i], t);
		struct slice token = slice_make(t, len);
		struct flow got = {0};
		longest = len > longest ? len : longest;
		assert_true(token_path_is_form(token));
		assert_false(token_route_is_form(token));
		assert_false(user_is_ours(&k, token, "caller", "callee", "call-1"));
		assert_true(token_path_check(&same, token, &got)); /* after a restart */
		assert_true(flow_eq(&got, &flow[i]) && got.listener == flow[i].listener);
		got = (struct flow){.listener = 7};
		assert_false(token_path_check(&foreign, token, &got));
		for (size_t at = 0; at < len; at++) {
			memcpy(bad, t, len);
			bad[at] = bad[at] == 'A' ? 'B' : 'A';
			assert_false(token_path_check(&k, slice_make(bad, len), &got));
			bad[at] = '!';
			assert_false(token_path_check(&k, slice_make(bad, len), &got));
			assert_false(token_path_check(&k, slice_make(t, at), &got));
		}
		memcpy(bad, t, len);
		memcpy(bad + len, "AAAA", 4);
		assert_false(token_path_check(&k, slice_make(bad, len + 4), &got));
		assert_true(got.listener == 7 && flow_is_none(&got)); /* written on success only */
	}
	assert_int_equal(longest, TOKEN_PATH_MAX);

	/* A Record-Route's token does not become one by another name, and none is made of no flow. */
	char t[TOKEN_FLOW_MAX];
	struct flow got;
	size_t len = token_flow_make(&k, SLICE_LIT("call-1"), SLICE_LIT("caller"), NULL, &flow[1], t);
	memcpy(t, "hfp", 3);
	assert_false(token_path_check(&k, slice_make(t, len), &got));
	len = token_path_make(&k, NULL, t);
	assert_false(token_path_check(&k, slice_make(t, len), &got));
	token_deinit(&foreign);
	token_deinit(&same);
	token_deinit(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_branch), cmocka_unit_test(test_loop_hash), cmocka_unit_test(test_route),
		cmocka_unit_test(test_flows),  cmocka_unit_test(test_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
