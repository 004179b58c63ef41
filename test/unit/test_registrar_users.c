/* Users in the store: names, hashes and no passwords. */
#include <errno.h>

#include "registrar/users_p.h"
#include "registrar_digest.h"

/* A name that does not exist is told by nothing from a wrong password. */
static void test_unknown_user(void **state)
{
	(void)state;
	char nonce[128];
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "nobody";
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(check(&c), DIGEST_WRONG);
	assert_int_equal(user.delay, 500);
	/* nor can a hash of zeros be guessed */
	unsigned char zero[SIP_AUTH_HASH_MAX] = {0}, right[SIP_AUTH_HASH_MAX];
	assert_int_equal(
		sip_auth_ha1(SIP_AUTH_MD5, SLICE_LIT("nobody"), SLICE_LIT(REALM), SLICE_LIT("secret"), right),
		0);
	assert_true(memcmp(zero, right, 16) != 0);
}

static char listed[512];

static void list_one(void *ctx, struct slice name, struct slice realm)
{
	(void)ctx;
	size_t n = strlen(listed);
	snprintf(listed + n, sizeof(listed) - n, SLICE_FMT "@" SLICE_FMT " ", SLICE_ARG(name),
		 SLICE_ARG(realm));
}

static int del(const char *name, const char *realm)
{
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	int rc = users_del(t, slice_str(name), slice_str(realm));
	if (rc)
		store_abort(t);
	else
		assert_int_equal(store_commit(t), 0);
	store_read_end(reader);
	return rc;
}

static bool exists(const char *name, const char *realm)
{
	bool yes = false;
	assert_int_equal(users_exist(reader, slice_str(name), slice_str(realm), &yes), 0);
	store_read_end(reader);
	return yes;
}

static void test_users(void **state)
{
	(void)state;
	char nonce[128];
	assert_int_equal(put("bob", "Local.TEST", "one"), 0);
	assert_int_equal(put("bob", "other.test", "two"), 0);
	assert_true(exists("bob", "local.test"));
	assert_true(exists("bob", "LOCAL.test"));
	assert_false(exists("Bob", "local.test"));
	assert_false(exists("bo", "blocal.test"));
	assert_int_equal(users_each(reader, list_one, NULL), 3);
	assert_string_equal(listed, "alice@local.test bob@local.test bob@other.test ");
	store_read_end(reader);
	/* the hash is of the realm as we send it, whatever the administrator typed */
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "bob", c.password = "one";
	assert_int_equal(check(&c), DIGEST_OK);
	/* a new password */
	assert_int_equal(put("bob", REALM, "three"), 0);
	c.nc = 2;
	assert_int_equal(check(&c), DIGEST_WRONG);
	c.password = "three", c.nc = 3;
	assert_int_equal(check(&c), DIGEST_OK);
	assert_int_equal(del("bob", "LOCAL.TEST"), 0);
	assert_int_equal(del("bob", REALM), -ENOENT);
	assert_false(exists("bob", REALM));
	assert_true(exists("bob", "other.test"));
	c.nc = 4;
	assert_int_equal(check(&c), DIGEST_WRONG);
	/* names that no header can carry, or that would stand for another name's hash */
	char longest[600];
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(put("", REALM, "p"), -EINVAL);
	assert_int_equal(put("a", "", "p"), -EINVAL);
	assert_int_equal(put("a:b", REALM, "p"), -EINVAL);
	assert_int_equal(put("a\"b", REALM, "p"), -EINVAL);
	assert_int_equal(put(longest, REALM, "p"), -EINVAL);
	assert_int_equal(del(longest, REALM), -ENOENT);
	assert_false(exists(longest, REALM));
}

/* The store has hashes and no password. */
static void test_users_no_password(void **state)
{
	(void)state;
	struct slice value;
	assert_int_equal(put("carol", REALM, "xyzzyplughxyzzyplugh"), 0);
	assert_int_equal(store_read_begin(reader), 0);
	assert_int_equal(store_read(reader, STORE_USERS, SLICE_LIT("carol\0" REALM), &value), 0);
	assert_int_equal(value.len, 1 + USERS_HASHES);
	assert_null(memmem(value.p, value.len, "xyzzy", 5));
	store_read_end(reader);
}

/* A user whose record is of another format is an error of ours, not a wrong password. */
static void test_users_damaged(void **state)
{
	(void)state;
	char nonce[128];
	struct store_txn *t = NULL;
	assert_int_equal(store_begin(env, &t), 0);
	assert_int_equal(store_put(t, STORE_USERS, SLICE_LIT("alice\0" REALM), SLICE_LIT("\x7fwhatever")), 0);
	assert_int_equal(store_commit(t), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	assert_int_equal(check(&c), DIGEST_ERROR);
}

static void test_parts_of_names(void **state)
{
	(void)state;
	char nonce[128], value[1024];
	/* escapes of the quoted string are undone before the name is looked up */
	assert_int_equal(put("do\\main", REALM, "p"), 0);
	struct digest_client c = client(nonce_at(now, nonce));
	c.user = "do\\main", c.password = "p";
	digest_answer(&c, value);
	char *p = strstr(value, "do\\main"), escaped[1100];
	snprintf(escaped, sizeof(escaped), "%.*sdo\\\\main%s", (int)(p - value), value, p + 7);
	assert_int_equal(check_value(escaped, ""), DIGEST_OK);
	unit_assert_slice(user.name, "do\\main");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_unknown_user),  T(test_users),          T(test_users_no_password),
		T(test_users_damaged), T(test_parts_of_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
