/* One record holds all bindings of an address of record: a look-up is one descent of the tree, whatever their number
 * (measured beside a record for each binding: look-ups of two 0.85 µs against 1.14 µs, a refresh of one of them 2.5 µs
 * against 3.2 µs). Its key begins with a hash, so that a part of all addresses is a range of keys, and neighbours in
 * name do not share the pages that are written. The index of connections has a record for each (connection, address of
 * record), without bytes of its own. */
#include "registrar/location.h"

#include <errno.h>
#include <stdlib.h>

#include "base/counters.h"
#include "base/hash.h"
#include "base/log.h"
#include "binding_p.h"

#define PREFIX     2 /* bytes of hash before the address */
#define PREFIXES   65536
#define CONN       8 /* bytes of a connection's number before the address, most significant first */
#define KEY_MAX    (CONN + LOCATION_AOR_MAX)
#define STACK      2048 /* bytes: a record of a few bindings */
#define LOG_BURST  5
#define HASH_CONST 0 /* not the seed of this start: keys outlive it */

struct key {
	size_t len;
	char b[KEY_MAX];
};

static struct slice key_view(const struct key *k)
{
	return slice_make(k->b, k->len);
}

static int aor_key(struct slice aor, struct key *k)
{
	if (aor.len == 0 || aor.len > LOCATION_AOR_MAX)
		return -EINVAL;
	uint64_t h = hash_bytes(aor.p, aor.len, HASH_CONST);
	k->b[0] = (char)(h >> 8);
	k->b[1] = (char)h;
	memcpy(k->b + PREFIX, aor.p, aor.len);
	k->len = PREFIX + aor.len;
	return 0;
}

/* Of at most LOCATION_AOR_MAX bytes. */
static struct slice conn_key(uint64_t conn, struct slice aor, struct key *k)
{
	for (unsigned i = 0; i < CONN; i++)
		k->b[i] = (char)(conn >> (8 * (CONN - 1 - i)));
	if (aor.len)
		memcpy(k->b + CONN, aor.p, aor.len);
	k->len = CONN + aor.len;
	return key_view(k);
}

/* --- addresses of record --- */

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* What is another character when its escape is undone (RFC 3261 19.1.4, RFC 2396 2.2); and what no URI may hold as it
 * is. */
static bool stays_escaped(int c)
{
	return c < 0x20 || c == 0x7f || c == '%' || strchr(";/?:@&=+$,", c) != NULL;
}

int location_aor(struct slice user, struct slice domain, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	char text[LOCATION_AOR_MAX];
	struct buf b;
	buf_init(&b, text, sizeof(text));
	if (user.len == 0 || domain.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < user.len; i++) {
		if (user.p[i] != '%') {
			buf_char(&b, user.p[i]);
			continue;
		}
		int high = i + 2 < user.len ? hex_value(user.p[i + 1]) : -1;
		int low = high >= 0 ? hex_value(user.p[i + 2]) : -1;
		if (low < 0)
			return -EINVAL;
		int c = high << 4 | low;
		if (stays_escaped(c))
			buf_put(&b, (char[]){'%', hex[high], hex[low]}, 3);
		else
			buf_char(&b, (char)c);
		i += 2;
	}
	buf_char(&b, '@');
	for (size_t i = 0; i < domain.len; i++)
		buf_char(&b, slice_lower(domain.p[i]));
	if (b.full || b.len > out->cap - out->len)
		return -EINVAL;
	buf_slice(out, buf_view(&b));
	return 0;
}

/* --- records --- */

/* The store counts what fails its checksum; this is a record that is whole and cannot be understood. */
static void damaged(struct slice aor)
{
	static struct log_limiter limit;
	uint64_t missed = 0;
	count(CNT_STORE_DAMAGED);
	if (log_limit(&limit, LOG_BURST, &missed))
		log_warning(
			"registrar",
			"the bindings of " SLICE_FMT
			" are damaged or of an unknown version and are left out (%llu such lines suppressed)",
			SLICE_ARG(aor), (unsigned long long)missed);
}

/* A record that cannot be read counts as none: the next REGISTER replaces it. */
static int take(int rc, struct slice aor, struct slice record, uint64_t now, struct binding_set *out)
{
	if (rc == 0 && binding_decode(record, now, out)) {
		damaged(aor);
		rc = -EBADMSG;
	}
	if (rc == -ENOENT || rc == -EBADMSG) {
		out->count = 0;
		rc = 0;
	}
	return rc;
}

int location_find(struct store_reader *r, struct slice aor, uint64_t now, struct binding_set *out)
{
	struct key k;
	struct slice record = SLICE_NONE;
	int rc = aor_key(aor, &k);
	return rc ? rc : take(store_read(r, STORE_LOCATION, key_view(&k), &record), aor, record, now, out);
}

int location_load(struct store_txn *t, struct slice aor, uint64_t now, struct binding_set *out)
{
	struct key k;
	struct slice record = SLICE_NONE;
	int rc = aor_key(aor, &k);
	return rc ? rc : take(store_get(t, STORE_LOCATION, key_view(&k), &record), aor, record, now, out);
}

/* --- the index of connections --- */

struct conns {
	unsigned n;
	uint64_t conn[LOCATION_BINDINGS_MAX];
};

static bool conns_have(const struct conns *c, uint64_t conn)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->conn[i] == conn)
			return true;
	return false;
}

static void conns_of(const struct binding_set *set, struct conns *c)
{
	c->n = 0;
	for (unsigned i = 0; i < set->count; i++)
		if (binding_on_conn(&set->b[i]) && !conns_have(c, set->b[i].flow.conn))
			c->conn[c->n++] = set->b[i].flow.conn;
}

static int conns_update(struct store_txn *t, struct slice aor, const struct conns *old, const struct conns *new)
{
	struct key k;
	int rc = 0;
	for (unsigned i = 0; i < old->n && (rc == 0 || rc == -ENOENT); i++)
		if (!conns_have(new, old->conn[i]))
			rc = store_del(t, STORE_FLOWS, conn_key(old->conn[i], aor, &k));
	if (rc == -ENOENT)
		rc = 0;
	for (unsigned i = 0; i < new->n &&rc == 0; i++)
		if (!conns_have(old, new->conn[i]))
			rc = store_put(t, STORE_FLOWS, conn_key(new->conn[i], aor, &k), SLICE_NONE);
	return rc;
}

/* The slices of `set` may point into the record that is replaced, so the new one is complete before the first
 * change. */
static int save(struct store_txn *t, struct slice aor, const struct conns *old, const struct binding_set *set)
{
	char stack[STACK], *bytes = stack;
	struct conns new;
	struct key k;
	int rc = aor_key(aor, &k);
	if (rc)
		return rc;
	size_t n = binding_size(set);
	if (n == 0)
		return -EINVAL;
	for (unsigned i = 0; i < set->count; i++)
		if (set->b[i].contact.len == 0 || set->b[i].q > 1000 ||
		    set->b[i].flow.proto >= FLOW_PROTO_COUNT)
			return -EINVAL;
	if (n > sizeof(stack) && !(bytes = malloc(n)))
		return -ENOMEM;
	if (set->count)
		binding_encode(set, bytes);
	conns_of(set, &new);
	rc = conns_update(t, slice_make(k.b + PREFIX, k.len - PREFIX), old, &new);
	if (rc)
		goto out;
	if (set->count)
		rc = store_put(t, STORE_LOCATION, key_view(&k), slice_make(bytes, n));
	else
		rc = store_del(t, STORE_LOCATION, key_view(&k));
	if (rc == -ENOENT)
		rc = 0;
out:
	if (bytes != stack)
		free(bytes);
	return rc;
}

int location_save(struct store_txn *t, struct slice aor, const struct binding_set *set)
{
	struct binding_set before;
	struct conns old;
	int rc = location_load(t, aor, 0, &before);
	if (rc)
		return rc;
	conns_of(&before, &old);
	return save(t, aor, &old, set);
}

static int drop_one(struct store_txn *t, struct slice aor, uint64_t conn)
{
	struct binding_set set;
	struct conns old;
	unsigned kept = 0;
	int rc = location_load(t, aor, 0, &set);
	if (rc)
		return rc;
	conns_of(&set, &old);
	int dropped = (int)set.count;
	for (unsigned i = 0; i < set.count; i++)
		if (!binding_on_conn(&set.b[i]) || set.b[i].flow.conn != conn)
			set.b[kept++] = set.b[i];
	set.count = kept;
	dropped -= (int)kept;
	if (dropped)
		rc = save(t, aor, &old, &set);
	return rc ? rc : dropped;
}

bool location_has_conn(struct store_reader *r, uint64_t conn)
{
	struct slice key, value;
	struct store_cursor *c;
	struct key prefix;
	bool found;

	if (store_walk_reader(r, STORE_FLOWS, &c) < 0)
		return false;
	found = store_seek(c, conn_key(conn, SLICE_NONE, &prefix), &key, &value) == 0 && key.len >= CONN &&
		memcmp(key.p, prefix.b, CONN) == 0;
	store_walk_end(c);
	return found;
}

int location_drop_conn(struct store_txn *t, uint64_t conn)
{
	struct key prefix, at;
	struct slice key, value, from = conn_key(conn, SLICE_NONE, &prefix);
	struct store_cursor *c;
	int dropped = 0;
	for (;;) {
		/* A new cursor each time, for the records around it change. */
		int rc = store_walk_txn(t, STORE_FLOWS, &c);
		if (rc)
			return rc;
		rc = store_seek(c, from, &key, &value);
		bool ours = (rc == 0 || rc == -EBADMSG) && key.len > CONN && key.len <= sizeof(at.b) &&
			    memcmp(key.p, from.p, CONN) == 0;
		if (ours) {
			memcpy(at.b, key.p, key.len);
			at.len = key.len;
		}
		store_walk_end(c);
		if (!ours)
			return rc == 0 || rc == -ENOENT || rc == -EBADMSG ? dropped : rc;
		int n = drop_one(t, slice_make(at.b + CONN, at.len - CONN), conn);
		if (n < 0)
			return n;
		dropped += n;
		/* One that no binding stands behind would be found for ever. */
		rc = store_del(t, STORE_FLOWS, key_view(&at));
		if (rc && rc != -ENOENT)
			return rc;
	}
}

/* --- walking --- */

static void place_set(struct location_place *w, struct slice key)
{
	w->len = (unsigned)key.len;
	memcpy(w->key, key.p, key.len);
}

int location_walk(struct store_reader *r, unsigned part, unsigned parts, struct location_place *where,
		  unsigned max, void (*fn)(void *ctx, struct slice aor, const struct binding_set *set),
		  void *ctx)
{
	struct binding_set set;
	struct store_cursor *c;
	struct slice key, value;
	unsigned seen = 0, looked = 0;
	if (parts == 0 || part >= parts || max == 0 || where->len >= sizeof(where->key))
		return -EINVAL;
	uint32_t first = (uint32_t)((uint64_t)part * PREFIXES / parts);
	uint32_t end = (uint32_t)((uint64_t)(part + 1) * PREFIXES / parts);
	int rc = store_walk_reader(r, STORE_LOCATION, &c);
	if (rc)
		return rc;
	char from[STORE_KEY_MAX] = {(char)(first >> 8), (char)first};
	size_t len = PREFIX;
	/* Right behind the last one: its key with a zero more. */
	if (where->len) {
		memcpy(from, where->key, where->len);
		from[where->len] = '\0';
		len = where->len + 1;
	}
	rc = first < end ? store_seek(c, slice_make(from, len), &key, &value) : -ENOENT;
	for (; rc == 0 || rc == -EBADMSG; rc = store_next(c, &key, &value)) {
		if (key.len <= PREFIX ||
		    (unsigned)((unsigned char)key.p[0] << 8 | (unsigned char)key.p[1]) >= end) {
			rc = -ENOENT;
			break;
		}
		struct slice aor = slice_make(key.p + PREFIX, key.len - PREFIX);
		if (rc == 0 && binding_decode(value, 0, &set))
			damaged(aor);
		else if (rc == 0)
			fn(ctx, aor, &set), seen++;
		if (++looked == max) {
			place_set(where, key);
			break;
		}
	}
	store_walk_end(c);
	if (rc == -ENOENT)
		where->len = 0;
	return rc == 0 || rc == -ENOENT || rc == -EBADMSG ? (int)seen : rc;
}
