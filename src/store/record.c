#include <errno.h>
#include <xxhash.h>

#include "base/counters.h"
#include "base/log.h"
#include "store/store_p.h"

/* The key goes into the checksum, so that a value found under a damaged key is known too. */
static uint64_t record_sum(uint8_t version, const void *key, size_t klen, const void *p, size_t len)
{
	return XXH64(p, len, XXH64(key, klen, version));
}

void record_seal(unsigned char *out, const void *key, size_t klen, const void *p, size_t len)
{
	uint64_t sum = record_sum(RECORD_VERSION, key, klen, p, len);
	out[0] = RECORD_VERSION;
	for (int i = 0; i < 8; i++)
		out[1 + i] = (unsigned char)(sum >> (8 * i));
	if (len)
		memcpy(out + RECORD_HEAD, p, len);
}

int record_open(const void *key, size_t klen, const void *rec, size_t reclen, struct slice *out)
{
	const unsigned char *r = rec;
	if (reclen < RECORD_HEAD || r[0] != RECORD_VERSION)
		return -EBADMSG;
	uint64_t sum = 0;
	for (int i = 0; i < 8; i++)
		sum |= (uint64_t)r[1 + i] << (8 * i);
	if (sum != record_sum(r[0], key, klen, r + RECORD_HEAD, reclen - RECORD_HEAD))
		return -EBADMSG;
	*out = slice_make((const char *)r + RECORD_HEAD, reclen - RECORD_HEAD);
	return 0;
}

int record_take(const MDB_val *key, const MDB_val *rec, struct slice *out)
{
	static struct log_limiter limit;
	uint64_t missed = 0;
	int rc = record_open(key->mv_data, key->mv_size, rec->mv_data, rec->mv_size, out);
	if (rc == 0)
		return 0;
	count(CNT_STORE_DAMAGED);
	if (log_limit(&limit, 5, &missed))
		log_warning("store",
			    "a record is damaged or of an unknown version and is left out (%llu such lines "
			    "suppressed)",
			    (unsigned long long)missed);
	return rc;
}

int record_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const void *p, size_t len)
{
	/* Reserved in the page, so that the envelope is built in place. */
	MDB_val rec = {RECORD_HEAD + len, NULL};
	int rc = mdb_put(txn, dbi, key, &rec, MDB_RESERVE);
	if (rc)
		return store_errno(rc);
	record_seal(rec.mv_data, key->mv_data, key->mv_size, p, len);
	return 0;
}
