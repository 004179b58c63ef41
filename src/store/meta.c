#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "base/log.h"
#include "store/store_p.h"

#define SECRET_NAME "secret"

static int name_key(const char *name, MDB_val *key)
{
	size_t n = strlen(name);
	if (n == 0 || n > STORE_NAME_MAX)
		return -EINVAL;
	*key = (MDB_val){n, (void *)(uintptr_t)name};
	return 0;
}

/* Of main.mdb, which outlives a loss of power. */
static struct store_file *meta_file(struct store *s)
{
	return &s->shared.file[1];
}

static int meta_read(struct store *s, MDB_txn *txn, MDB_val *key, void *out, size_t cap, size_t *len)
{
	MDB_val rec;
	struct slice v;
	int rc = mdb_get(txn, meta_file(s)->meta, key, &rec);
	if (rc)
		return store_errno(rc);
	rc = record_open(key->mv_data, key->mv_size, rec.mv_data, rec.mv_size, &v);
	if (rc)
		return rc;
	if (v.len > cap)
		return -EMSGSIZE;
	if (v.len)
		memcpy(out, v.p, v.len);
	*len = v.len;
	return 0;
}

int store_meta_get(struct store *s, const char *name, void *out, size_t cap, size_t *len)
{
	MDB_txn *txn;
	MDB_val key;
	int rc = name_key(name, &key);
	if (rc)
		return rc;
	rc = mdb_txn_begin(meta_file(s)->env, NULL, MDB_RDONLY, &txn);
	if (rc)
		return store_errno(rc);
	rc = meta_read(s, txn, &key, out, cap, len);
	mdb_txn_abort(txn);
	return rc;
}

int store_meta_put(struct store *s, const char *name, const void *p, size_t len)
{
	MDB_txn *txn;
	MDB_val key;
	int rc = name_key(name, &key);
	if (rc)
		return rc;
	if (len > STORE_META_MAX)
		return -EMSGSIZE;
	rc = mdb_txn_begin(meta_file(s)->env, NULL, 0, &txn);
	if (rc)
		return store_errno(rc);
	rc = record_put(txn, meta_file(s)->meta, &key, p, len);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	return store_errno(mdb_txn_commit(txn));
}

int store_secret(struct store *s, unsigned char out[static STORE_SECRET_LEN])
{
	unsigned char secret[STORE_SECRET_LEN];
	size_t len = 0;
	MDB_txn *txn;
	MDB_val key;
	int rc = name_key(SECRET_NAME, &key);
	if (!rc)
		rc = store_errno(mdb_txn_begin(meta_file(s)->env, NULL, 0, &txn));
	if (rc)
		return rc;
	rc = meta_read(s, txn, &key, secret, sizeof(secret), &len);
	if (rc == 0 && len == sizeof(secret)) {
		mdb_txn_abort(txn);
		goto done;
	}
	if (rc && rc != -ENOENT && rc != -EBADMSG && rc != -EMSGSIZE)
		goto abort;
	if (rc != -ENOENT)
		log_warning("store",
			    "the secret in store %s is damaged: a new one is made, and routes that were "
			    "recorded before are refused",
			    s->path);
	rc = gnutls_rnd(GNUTLS_RND_KEY, secret, sizeof(secret)) < 0 ? -EIO : 0;
	if (!rc)
		rc = record_put(txn, meta_file(s)->meta, &key, secret, sizeof(secret));
	if (rc)
		goto abort;
	rc = store_errno(mdb_txn_commit(txn));
	if (rc)
		goto clear;
done:
	memcpy(out, secret, sizeof(secret));
clear:
	gnutls_memset(secret, 0, sizeof(secret));
	return rc;
abort:
	mdb_txn_abort(txn);
	goto clear;
}

int meta_verify(struct store_file *f)
{
	int bad = 0;
	MDB_txn *txn;
	MDB_cursor *cur = NULL;
	MDB_val key, rec;
	struct slice v;
	int rc = mdb_txn_begin(f->env, NULL, MDB_RDONLY, &txn);
	if (rc)
		return store_errno(rc);
	rc = mdb_cursor_open(txn, f->meta, &cur);
	if (rc)
		goto out;
	while ((rc = mdb_cursor_get(cur, &key, &rec, MDB_NEXT)) == 0)
		bad += record_open(key.mv_data, key.mv_size, rec.mv_data, rec.mv_size, &v) != 0;
	if (rc == MDB_NOTFOUND)
		rc = 0;
out:
	if (cur)
		mdb_cursor_close(cur);
	mdb_txn_abort(txn);
	return rc ? store_errno(rc) : bad;
}
