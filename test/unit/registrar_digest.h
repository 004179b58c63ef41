/* A realm with users in a store, and requests with credentials for it. */
#ifndef TEST_REGISTRAR_DIGEST_H
#define TEST_REGISTRAR_DIGEST_H

#include "base/hash.h"
#include "digest_client.h"
#include "registrar/digest.h"
#include "registrar_store.h"

#define REALM "local.test"

static const unsigned char SECRET[STORE_SECRET_LEN] = "a secret of thirty-two bytes...";
static const struct digest_realm www = {.name = {REALM, sizeof(REALM) - 1}};
static const struct digest_realm proxy = {.name = {REALM, sizeof(REALM) - 1}, .proxy = true};
static struct digest *d;
static struct sip_msg_room room;
static struct addr source;
static uint64_t now;

static inline int put(const char *name, const char *realm, const char *password)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	int rc = users_put(t, slice_str(name), slice_str(realm), slice_str(password));
	if (rc)
		store_abort(t);
	else
		assert_int_equal(store_commit(t), 0);
	store_read_end(reader);
	return rc;
}

static inline int setup(void **state)
{
	(void)state;
	hash_init(42);
	store_setup(8u << 20);
	assert_int_equal(digest_create(SECRET, &d), 0);
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.10:5060"), &source), 0);
	now = clock_wall_ns() / 1000000u + 10;
	assert_int_equal(put("alice", REALM, "secret"), 0);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	digest_destroy(d);
	return store_teardown();
}

/* The nonce of a fresh challenge. */
static inline const char *nonce_at(uint64_t when, char out[static 128])
{
	char text[1024];
	struct buf b;
	buf_init(&b, text, sizeof(text) - 1);
	digest_challenge(d, &source, &www, false, when, &b);
	text[b.len] = 0;
	const char *p = strstr(text, "nonce=\"");
	assert_non_null(p);
	assert_int_equal(sscanf(p, "nonce=\"%100[^\"]", out), 1);
	return out;
}

static inline const struct sip_msg *request(const char *header, const char *value, const char *body)
{
	static char text[4096];
	int n = snprintf(text, sizeof(text),
			 "REGISTER sip:" REALM " SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx\r\n"
			 "Max-Forwards: 70\r\nFrom: <sip:alice@" REALM ">;tag=a\r\nTo: <sip:alice@" REALM
			 ">\r\n"
			 "Call-ID: c\r\nCSeq: 1 REGISTER\r\n%s: %s\r\nContent-Length: %zu\r\n\r\n%s",
			 header, value, strlen(body), body);
	assert_int_equal(sip_msg_parse(&room, text, (size_t)n, false), 0);
	assert_int_equal(room.msg.error, 0);
	return &room.msg;
}

static struct digest_user user;

static inline enum digest_result check_value(const char *value, const char *body)
{
	enum digest_result r = digest_check(d, reader, request("Authorization", value, body), &www, now, &user);
	store_read_end(reader);
	return r;
}

static inline enum digest_result check(const struct digest_client *c)
{
	char value[1024];
	digest_answer(c, value);
	return check_value(value, c->body ? c->body : "");
}

static inline struct digest_client client(const char *nonce)
{
	return (struct digest_client){.user = "alice",
				      .realm = REALM,
				      .password = "secret",
				      .method = "REGISTER",
				      .uri = "sip:" REALM,
				      .nonce = nonce,
				      .sha256 = true};
}

#endif
