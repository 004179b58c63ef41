#include "token_p.h"

#include <errno.h>

#include "base/hash.h"
#include "transport/flow_key.h"

#define BRANCH_COOKIE     "z9hG4bKhf"
#define BRANCH_COOKIE_LEN 9
#define BRANCH_RAW        18 /* bytes: 6 loop hash, 2 index, 10 MAC */
#define BRANCH_MAC        10
#define ROUTE_COOKIE      "hfr"
#define ROUTE_COOKIE_LEN  3
#define ROUTE_RAW         9                                /* bytes of MAC */
#define FLOW_COOKIE       "hff"                            /* as long as the other */
#define FLOW_KEYS_MAX     ((2 * FLOW_KEY_MAX + 2) / 3 * 3) /* bytes: two keys, filled up to a multiple of 3 */
#define PATH_COOKIE       "hfp"                            /* as long as the others */
#define PATH_KEY_MAX      ((FLOW_KEY_MAX + 2) / 3 * 3)     /* bytes: a key, filled up */
#define PATH_MAC          12                               /* bytes: it is good for longer than a dialog */
#define MAC_LEN           32                               /* SHA-256 */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* base64url of n bytes, n a multiple of 3. */
static void text_encode(const unsigned char *in, size_t n, char *out)
{
	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)in[i] << 16 | (unsigned)in[i + 1] << 8 | in[i + 2];
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = digits[v >> 6 & 63];
		*out++ = digits[v & 63];
	}
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool text_decode(const char *in, size_t n, unsigned char *out)
{
	for (size_t i = 0; i < n; i += 4) {
		unsigned v = 0;
		for (size_t j = 0; j < 4; j++) {
			int d = digit_value(in[i + j]);
			if (d < 0)
				return false;
			v = v << 6 | (unsigned)d;
		}
		*out++ = (unsigned char)(v >> 16);
		*out++ = (unsigned char)(v >> 8);
		*out++ = (unsigned char)v;
	}
	return true;
}

static bool mac_equal(const unsigned char *a, const unsigned char *b, size_t n)
{
	unsigned char diff = 0;
	for (size_t i = 0; i < n; i++)
		diff = (unsigned char)(diff | (a[i] ^ b[i]));
	return diff == 0;
}

static int key_init(gnutls_hmac_hd_t *hd, const unsigned char *secret, const char *purpose)
{
	unsigned char key[MAC_LEN];
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, STORE_SECRET_LEN, purpose, strlen(purpose), key) < 0)
		return -EIO;
	return gnutls_hmac_init(hd, GNUTLS_MAC_SHA256, key, sizeof(key)) < 0 ? -EIO : 0;
}

int token_init(struct token_keys *k, const unsigned char secret[static STORE_SECRET_LEN])
{
	unsigned char seed[MAC_LEN];
	if (key_init(&k->branch, secret, "branch") < 0)
		return -EIO;
	if (key_init(&k->route, secret, "route") < 0)
		goto no_route;
	if (key_init(&k->path, secret, "path") < 0)
		goto no_path;
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, STORE_SECRET_LEN, "loop", 4, seed) < 0)
		goto no_seed;
	memcpy(&k->loop_seed, seed, sizeof(k->loop_seed));
	return 0;
no_seed:
	gnutls_hmac_deinit(k->path, NULL);
no_path:
	gnutls_hmac_deinit(k->route, NULL);
no_route:
	gnutls_hmac_deinit(k->branch, NULL);
	return -EIO;
}

void token_deinit(struct token_keys *k)
{
	gnutls_hmac_deinit(k->branch, NULL);
	gnutls_hmac_deinit(k->route, NULL);
	gnutls_hmac_deinit(k->path, NULL);
}

/* Bytes on their way into a MAC: joined in a small buffer so that one library call takes them. A part is led by its
 * length, so that "ab","c" and "a","bc" differ. */
struct mac_input {
	gnutls_hmac_hd_t hd;
	size_t len;
	char p[448];
};

static void mac_bytes(struct mac_input *in, const void *p, size_t n)
{
	if (n > sizeof(in->p) - in->len) {
		gnutls_hmac(in->hd, in->p, in->len);
		in->len = 0;
		if (n > sizeof(in->p)) {
			gnutls_hmac(in->hd, p, n);
			return;
		}
	}
	if (n)
		memcpy(in->p + in->len, p, n);
	in->len += n;
}

static void mac_part(struct mac_input *in, struct slice s)
{
	uint32_t len = (uint32_t)s.len;
	mac_bytes(in, &len, sizeof(len));
	mac_bytes(in, s.p, s.len);
}

static void mac_finish(struct mac_input *in, unsigned char out[static MAC_LEN])
{
	if (in->len)
		gnutls_hmac(in->hd, in->p, in->len);
	gnutls_hmac_output(in->hd, out); /* resets the handle for the next message */
}

uint64_t token_loop_hash(const struct token_keys *k, const struct sip_msg *m)
{
	static const enum sip_hdr_id also[] = {SIP_HDR_ROUTE, SIP_HDR_PROXY_REQUIRE,
					       SIP_HDR_PROXY_AUTHORIZATION};
	uint64_t h = hash_bytes(m->buf + m->ruri.off, m->ruri.len, k->loop_seed);
	h = hash_join(h, hash_bytes(m->buf + m->call_id.off, m->call_id.len, k->loop_seed));
	h = hash_join(h, hash_bytes(m->buf + m->from_tag.off, m->from_tag.len, k->loop_seed));
	h = hash_join(h, hash_bytes(m->buf + m->to_tag.off, m->to_tag.len, k->loop_seed));
	h = hash_join(h, m->cseq);
	for (size_t i = 0; i < sizeof(also) / sizeof(also[0]); i++)
		for (const struct sip_hdr *hd = sip_msg_hdr(m, also[i]); hd; hd = sip_hdr_next(m, hd))
			h = hash_join(h, hash_bytes(m->buf + hd->value, hd->value_len, k->loop_seed + also[i]));
	return h;
}

uint64_t token_loop_prefix(uint64_t loop)
{
	return loop & 0xffffffffffffu;
}

/* The MAC covers what the response will still show: our Via below which `in` stands, and the request's identity. */
static void branch_mac(const struct token_keys *k, const struct sip_msg *m, const struct sip_via *in,
		       const unsigned char lead[static 8], unsigned char mac[static MAC_LEN])
{
	struct mac_input input;
	struct {
		uint32_t cseq;
		uint16_t port;
		uint16_t pad;
	} nums = {m->cseq, in->port, 0};

	input.hd = k->branch;
	input.len = 0;
	mac_bytes(&input, lead, 8);
	mac_bytes(&input, &nums, sizeof(nums));
	mac_part(&input, sip_slice(m, in->branch));
	mac_part(&input, sip_slice(m, in->host));
	mac_part(&input, sip_slice(m, m->call_id));
	mac_part(&input, sip_slice(m, m->from_tag));
	mac_finish(&input, mac);
}

void token_branch_make(const struct token_keys *k, const struct sip_msg *m, uint64_t loop, uint16_t index,
		       char out[static TOKEN_BRANCH_LEN])
{
	unsigned char raw[BRANCH_RAW], mac[MAC_LEN];

	for (int i = 0; i < 6; i++)
		raw[i] = (unsigned char)(loop >> (8 * i));
	raw[6] = (unsigned char)(index >> 8);
	raw[7] = (unsigned char)index;
	branch_mac(k, m, &m->via, raw, mac);
	memcpy(raw + 8, mac, BRANCH_MAC);
	memcpy(out, BRANCH_COOKIE, BRANCH_COOKIE_LEN);
	text_encode(raw, sizeof(raw), out + BRANCH_COOKIE_LEN);
}

static bool branch_decode(struct slice branch, unsigned char raw[static BRANCH_RAW])
{
	return branch.len == TOKEN_BRANCH_LEN && memcmp(branch.p, BRANCH_COOKIE, BRANCH_COOKIE_LEN) == 0 &&
	       text_decode(branch.p + BRANCH_COOKIE_LEN, TOKEN_BRANCH_LEN - BRANCH_COOKIE_LEN, raw);
}

static uint64_t raw_loop(const unsigned char raw[static BRANCH_RAW])
{
	uint64_t v = 0;
	for (int i = 5; i >= 0; i--)
		v = v << 8 | raw[i];
	return v;
}

bool token_branch_peek(struct slice branch, uint64_t *loop_prefix)
{
	unsigned char raw[BRANCH_RAW];
	if (!branch_decode(branch, raw))
		return false;
	*loop_prefix = raw_loop(raw);
	return true;
}

bool token_branch_check(const struct token_keys *k, const struct sip_msg *m, const struct sip_via *ours,
			const struct sip_via *next, uint64_t *loop_prefix)
{
	unsigned char raw[BRANCH_RAW], mac[MAC_LEN];

	if (!branch_decode(sip_slice(m, ours->branch), raw))
		return false;
	branch_mac(k, m, next, raw, mac);
	if (!mac_equal(mac, raw + 8, BRANCH_MAC))
		return false;
	*loop_prefix = raw_loop(raw);
	return true;
}

/* `keys`: of the flows; empty: a token without them. As the parts are led by their lengths, a token of one form is none
 * of the other. */
static void route_mac(const struct token_keys *k, struct slice keys, struct slice call_id, struct slice tag,
		      unsigned char mac[static MAC_LEN])
{
	struct mac_input input;

	input.hd = k->route;
	input.len = 0;
	if (keys.len)
		mac_part(&input, keys);
	mac_part(&input, call_id);
	mac_part(&input, tag);
	mac_finish(&input, mac);
}

void token_route_make(const struct token_keys *k, struct slice call_id, struct slice caller_tag,
		      char out[static TOKEN_ROUTE_LEN])
{
	unsigned char mac[MAC_LEN];

	route_mac(k, SLICE_NONE, call_id, caller_tag, mac);
	memcpy(out, ROUTE_COOKIE, ROUTE_COOKIE_LEN);
	text_encode(mac, ROUTE_RAW, out + ROUTE_COOKIE_LEN);
}

/* To a multiple of 3, for text_encode. */
static void fill_up(struct buf *b)
{
	while (b->len % 3)
		buf_char(b, 0);
}

static bool is_filling(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.p[i])
			return false;
	return s.len < 3;
}

unsigned token_flow_make(const struct token_keys *k, struct slice call_id, struct slice caller_tag,
			 const struct flow *caller, const struct flow *callee, char out[static TOKEN_FLOW_MAX])
{
	unsigned char raw[FLOW_KEYS_MAX + ROUTE_RAW], mac[MAC_LEN];
	struct buf b;

	buf_init(&b, (char *)raw, FLOW_KEYS_MAX);
	flow_key_put(caller, &b);
	flow_key_put(callee, &b);
	fill_up(&b);
	route_mac(k, buf_view(&b), call_id, caller_tag, mac);
	memcpy(raw + b.len, mac, ROUTE_RAW);
	memcpy(out, FLOW_COOKIE, ROUTE_COOKIE_LEN);
	text_encode(raw, b.len + ROUTE_RAW, out + ROUTE_COOKIE_LEN);
	return (unsigned)(ROUTE_COOKIE_LEN + (b.len + ROUTE_RAW) / 3 * 4);
}

static bool is_flow_form(struct slice user)
{
	return user.len > TOKEN_ROUTE_LEN && user.len <= TOKEN_FLOW_MAX &&
	       (user.len - ROUTE_COOKIE_LEN) % 4 == 0 && memcmp(user.p, FLOW_COOKIE, ROUTE_COOKIE_LEN) == 0;
}

bool token_route_is_form(struct slice user)
{
	return is_flow_form(user) ||
	       (user.len == TOKEN_ROUTE_LEN && memcmp(user.p, ROUTE_COOKIE, ROUTE_COOKIE_LEN) == 0);
}

/* Two keys and what fills them up. */
static bool flow_keys_read(struct slice keys, struct flow *caller, struct flow *callee)
{
	*caller = *callee = (struct flow){0};
	if (keys.len == 0)
		return true;
	return flow_key_get(&keys, caller) == 0 && flow_key_get(&keys, callee) == 0 && is_filling(keys);
}

bool token_route_check(const struct token_keys *k, const struct sip_msg *m, struct slice user,
		       struct flow *toward)
{
	unsigned char raw[FLOW_KEYS_MAX + ROUTE_RAW], mac[MAC_LEN];
	struct slice call_id = sip_slice(m, m->call_id);
	struct flow caller, callee;

	if (!token_route_is_form(user) ||
	    !text_decode(user.p + ROUTE_COOKIE_LEN, user.len - ROUTE_COOKIE_LEN, raw))
		return false;
	struct slice keys = slice_make((const char *)raw, (user.len - ROUTE_COOKIE_LEN) / 4 * 3 - ROUTE_RAW);
	/* The caller of the dialog may be either side of this request. */
	route_mac(k, keys, call_id, sip_slice(m, m->from_tag), mac);
	bool by_caller = mac_equal(mac, raw + keys.len, ROUTE_RAW);
	if (!by_caller) {
		if (m->to_tag.len == 0)
			return false;
		route_mac(k, keys, call_id, sip_slice(m, m->to_tag), mac);
		if (!mac_equal(mac, raw + keys.len, ROUTE_RAW))
			return false;
	}
	if (!flow_keys_read(keys, &caller, &callee))
		return false;
	*toward = by_caller ? callee : caller;
	return true;
}

static void path_mac(const struct token_keys *k, struct slice key, unsigned char mac[static MAC_LEN])
{
	struct mac_input input = {.hd = k->path};

	mac_part(&input, key);
	mac_finish(&input, mac);
}

unsigned token_path_make(const struct token_keys *k, const struct flow *flow, char out[static TOKEN_PATH_MAX])
{
	unsigned char raw[PATH_KEY_MAX + PATH_MAC], mac[MAC_LEN];
	struct buf b;

	buf_init(&b, (char *)raw, PATH_KEY_MAX);
	flow_key_put(flow, &b);
	fill_up(&b);
	path_mac(k, buf_view(&b), mac);
	memcpy(raw + b.len, mac, PATH_MAC);
	memcpy(out, PATH_COOKIE, ROUTE_COOKIE_LEN);
	text_encode(raw, b.len + PATH_MAC, out + ROUTE_COOKIE_LEN);
	return (unsigned)(ROUTE_COOKIE_LEN + (b.len + PATH_MAC) / 3 * 4);
}

bool token_path_is_form(struct slice user)
{
	return user.len > ROUTE_COOKIE_LEN && memcmp(user.p, PATH_COOKIE, ROUTE_COOKIE_LEN) == 0;
}

bool token_path_check(const struct token_keys *k, struct slice user, struct flow *flow)
{
	unsigned char raw[PATH_KEY_MAX + PATH_MAC], mac[MAC_LEN];
	struct flow f;

	if (!token_path_is_form(user) || user.len > TOKEN_PATH_MAX || (user.len - ROUTE_COOKIE_LEN) % 4 ||
	    (user.len - ROUTE_COOKIE_LEN) / 4 * 3 <= PATH_MAC ||
	    !text_decode(user.p + ROUTE_COOKIE_LEN, user.len - ROUTE_COOKIE_LEN, raw))
		return false;
	struct slice key = slice_make((const char *)raw, (user.len - ROUTE_COOKIE_LEN) / 4 * 3 - PATH_MAC);
	path_mac(k, key, mac);
	if (!mac_equal(mac, raw + key.len, PATH_MAC) || flow_key_get(&key, &f) < 0 || flow_is_none(&f) ||
	    !is_filling(key))
		return false;
	*flow = f;
	return true;
}
