/* Which transaction a message belongs to: RFC 3261 17.1.3 and 17.2.3. */
#include "txn_p.h"

#include "base/hash.h"

#define COOKIE     "z9hG4bK"
#define COOKIE_LEN (sizeof(COOKIE) - 1)

/* The cookie alone says nothing: clients that send it as their whole branch are matched as if they had none. */
static bool branch_is_unique(struct slice b)
{
	return b.len > COOKIE_LEN && slice_ieq(slice_make(b.p, COOKIE_LEN), SLICE_LIT(COOKIE));
}

static uint64_t hash_host(uint64_t h, struct slice host)
{
	char low[64];

	for (size_t at = 0; at < host.len;) {
		size_t n = host.len - at < sizeof(low) ? host.len - at : sizeof(low);
		for (size_t i = 0; i < n; i++)
			low[i] = slice_lower(host.p[at + i]);
		h = hash_join(h, hash_bytes(low, n, hash_seed));
		at += n;
	}
	return h;
}

static void key_hash(struct txn_key *k)
{
	if (!k->server) {
		k->hash = hash_slice(k->part[TXN_PART_VIA]);
		return;
	}
	k->hash = hash_slice(k->part[TXN_PART_VIA]);
	if (!k->legacy) {
		k->hash = hash_host(k->hash, k->part[TXN_PART_HOST]);
		return;
	}
	/* Without the To tag: an ACK has another one than its INVITE. */
	k->hash = hash_join(k->hash, hash_slice(k->part[TXN_PART_CALL_ID]));
	k->hash = hash_join(k->hash, hash_slice(k->part[TXN_PART_URI]));
	k->hash = hash_join(k->hash, hash_slice(k->part[TXN_PART_FROM]));
}

static void key_method(struct txn_key *k, uint8_t method, struct slice name)
{
	k->method = method;
	k->part[TXN_PART_METHOD] = method == SIP_METHOD_OTHER ? name : SLICE_NONE;
	k->hash = hash_join(k->hash, (uint64_t)k->num << 16 | (uint64_t)method << 8 | k->server);
	if (method == SIP_METHOD_OTHER)
		k->hash = hash_join(k->hash, hash_slice(name));
}

void txn_key_server(const struct sip_msg *m, bool as_invite, struct txn_key *k)
{
	struct slice branch = sip_slice(m, m->via.branch);
	uint8_t method = as_invite || m->method == SIP_METHOD_ACK ? SIP_METHOD_INVITE : m->method;

	*k = (struct txn_key){.server = true};
	if (branch_is_unique(branch)) {
		k->part[TXN_PART_VIA] = branch;
		k->part[TXN_PART_HOST] = sip_slice(m, m->via.host);
		k->num = m->via.port;
	} else {
		k->legacy = true;
		k->ack = m->method == SIP_METHOD_ACK;
		k->part[TXN_PART_VIA] = sip_slice(m, m->via.whole);
		k->part[TXN_PART_CALL_ID] = sip_slice(m, m->call_id);
		k->part[TXN_PART_URI] = sip_slice(m, m->ruri);
		k->part[TXN_PART_FROM] = sip_slice(m, m->from_tag);
		k->part[TXN_PART_TO] = sip_slice(m, m->to_tag);
		k->num = m->cseq;
	}
	key_hash(k);
	key_method(k, method, sip_slice(m, m->method_name));
}

void txn_key_client(struct slice branch, enum sip_method method, struct slice method_name, struct txn_key *k)
{
	*k = (struct txn_key){.part[TXN_PART_VIA] = branch};
	key_hash(k);
	key_method(k, (uint8_t)method, method_name);
}

void txn_key_rehash(struct txn_key *k, uint8_t method)
{
	key_hash(k);
	key_method(k, method, k->part[TXN_PART_METHOD]);
}

bool txn_key_matches(const struct txn_key *k, const struct txn *t)
{
	bool server = t->kind == TXN_IST || t->kind == TXN_NIST;
	const char *p = t->key;

	if (k->server != server || k->legacy != t->legacy || k->method != t->method || k->num != t->num)
		return false;
	for (unsigned i = 0; i < TXN_PARTS; i++) {
		struct slice have = slice_make(p, t->part_len[i]);
		p += t->part_len[i];
		if (i == TXN_PART_HOST && !k->legacy) {
			if (!slice_ieq(have, k->part[i]))
				return false;
			continue;
		}
		if (i == TXN_PART_TO && k->ack) {
			if (t->state != TXN_COMPLETED && t->state != TXN_CONFIRMED)
				return false;
			if (!t->kept)
				continue; /* no memory for the response: its tag is not known */
			have = slice_make(t->kept + t->tag_off, t->tag_len);
		}
		if (!slice_eq(have, k->part[i]))
			return false;
	}
	return true;
}

bool txn_key_fits(const struct txn_key *k)
{
	for (unsigned i = 0; i < TXN_PARTS; i++)
		if (k->part[i].len > UINT16_MAX)
			return false;
	return true;
}

size_t txn_key_size(const struct txn_key *k)
{
	size_t n = 0;

	for (unsigned i = 0; i < TXN_PARTS; i++)
		n += k->part[i].len;
	return n;
}

void txn_key_store(const struct txn_key *k, struct txn *t)
{
	char *p = t->key;

	t->hash = k->hash;
	t->method = k->method;
	t->num = k->num;
	t->legacy = k->legacy;
	for (unsigned i = 0; i < TXN_PARTS; i++) {
		t->part_len[i] = (uint16_t)k->part[i].len;
		if (k->part[i].len)
			memcpy(p, k->part[i].p, k->part[i].len);
		p += k->part[i].len;
	}
}
