/* Users in the store: for each the hashes that digest authentication compares with, one for each algorithm. */
#include "users_p.h"

#include <errno.h>
#include <gnutls/gnutls.h>

#define USERS_FORMAT 1

/* "name\0realm", the realm in lower case: a realm is a domain here. */
static int users_key(struct slice name, struct slice realm, struct buf *key)
{
	if (!name.len || !realm.len || memchr(name.p, 0, name.len) || memchr(realm.p, 0, realm.len))
		return -EINVAL;
	buf_slice(key, name);
	buf_char(key, 0);
	for (size_t i = 0; i < realm.len; i++)
		buf_char(key, slice_lower(realm.p[i]));
	return key->full ? -EINVAL : 0;
}

int users_put(struct store_txn *t, struct slice name, struct slice realm, struct slice password)
{
	char room[STORE_KEY_MAX];
	unsigned char value[1 + USERS_HASHES];
	struct buf key;

	buf_init(&key, room, sizeof(room));
	if (users_key(name, realm, &key) < 0 || memchr(name.p, ':', name.len) || memchr(name.p, '"', name.len))
		return -EINVAL;
	struct slice domain = slice_make(room + name.len + 1, realm.len);
	value[0] = USERS_FORMAT;
	for (unsigned a = 0, at = 1; a < SIP_AUTH_ALGORITHMS; a++) {
		if (sip_auth_ha1((enum sip_auth_algorithm)a, name, domain, password, value + at) < 0)
			return -EIO;
		at += (unsigned)sip_auth_hash_len((enum sip_auth_algorithm)a);
	}
	int rc = store_put(t, STORE_USERS, buf_view(&key), slice_make((char *)value, sizeof(value)));
	gnutls_memset(value, 0, sizeof(value));
	return rc;
}

int users_del(struct store_txn *t, struct slice name, struct slice realm)
{
	char room[STORE_KEY_MAX];
	struct buf key;

	buf_init(&key, room, sizeof(room));
	return users_key(name, realm, &key) < 0 ? -ENOENT : store_del(t, STORE_USERS, buf_view(&key));
}

int users_hash(struct store_reader *r, struct slice name, struct slice realm, enum sip_auth_algorithm a,
	       unsigned char *out)
{
	char room[STORE_KEY_MAX];
	struct slice value;
	struct buf key;
	size_t at = 1;
	int rc;

	buf_init(&key, room, sizeof(room));
	if (users_key(name, realm, &key) < 0)
		return -ENOENT;
	rc = store_read_begin(r);
	if (!rc)
		rc = store_read(r, STORE_USERS, buf_view(&key), &value);
	if (rc)
		return rc;
	if (value.len != 1 + USERS_HASHES || value.p[0] != USERS_FORMAT)
		return -EBADMSG;
	for (unsigned i = 0; i < a; i++)
		at += sip_auth_hash_len((enum sip_auth_algorithm)i);
	if (out)
		memcpy(out, value.p + at, sip_auth_hash_len(a));
	return 0;
}

int users_exist(struct store_reader *r, struct slice name, struct slice realm, bool *exists)
{
	int rc = users_hash(r, name, realm, SIP_AUTH_SHA256, NULL);
	if (rc && rc != -ENOENT)
		return rc;
	*exists = rc == 0;
	return 0;
}

long users_each(struct store_reader *r, void (*fn)(void *ctx, struct slice name, struct slice realm), void *ctx)
{
	struct store_cursor *c;
	struct slice key, value;
	long n = 0;
	int rc = store_read_begin(r);

	if (!rc)
		rc = store_walk_reader(r, STORE_USERS, &c);
	if (rc)
		return rc;
	for (rc = store_seek(c, SLICE_NONE, &key, &value); rc != -ENOENT; rc = store_next(c, &key, &value)) {
		const char *zero;
		if (rc && rc != -EBADMSG)
			break;
		zero = memchr(key.p, 0, key.len);
		if (rc || !zero)
			continue;
		fn(ctx, slice_make(key.p, (size_t)(zero - key.p)),
		   slice_make(zero + 1, (size_t)(key.p + key.len - zero - 1)));
		n++;
	}
	store_walk_end(c);
	return rc == -ENOENT ? n : rc;
}
