#include "transport/flow_key.h"

#include <errno.h>

static void put_number(struct buf *b, uint64_t v, unsigned bytes)
{
	while (bytes--)
		buf_char(b, (char)(v >> (8 * bytes)));
}

static uint64_t get_number(const unsigned char **p, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *(*p)++;
	return v;
}

void flow_key_put(const struct flow *f, struct buf *b)
{
	if (!f || flow_is_none(f) || (flow_is_reliable(f) && !f->conn)) {
		put_number(b, FLOW_KEY_NONE, 1);
		return;
	}
	bool v4 = f->remote.family == AF_INET;
	put_number(b, f->conn ? FLOW_KEY_CONN : v4 ? FLOW_KEY_V4 : FLOW_KEY_V6, 1);
	put_number(b, f->listener, 2);
	if (f->conn) {
		put_number(b, f->conn, 8);
		return;
	}
	buf_put(b, (const char *)f->remote.ip, v4 ? 4 : 16);
	put_number(b, f->remote.port, 2);
	if (!v4)
		put_number(b, f->remote.scope, 4);
}

int flow_key_get(struct slice *rest, struct flow *out)
{
	static const uint8_t size[] = {
		[FLOW_KEY_NONE] = 1, [FLOW_KEY_CONN] = 11, [FLOW_KEY_V4] = 9, [FLOW_KEY_V6] = 25};
	const unsigned char *p = (const unsigned char *)rest->p;
	struct flow f = {0};

	if (rest->len == 0 || *p >= sizeof(size) || rest->len < size[*p])
		return -EBADMSG;
	unsigned type = *p++, n = size[type];
	if (type != FLOW_KEY_NONE)
		f.listener = (uint16_t)get_number(&p, 2);
	if (type == FLOW_KEY_CONN) {
		f.proto = FLOW_TCP;
		f.conn = get_number(&p, 8);
		if (!f.conn)
			return -EBADMSG;
	} else if (type != FLOW_KEY_NONE) {
		unsigned len = type == FLOW_KEY_V4 ? 4 : 16;
		f.proto = FLOW_UDP;
		f.remote.family = type == FLOW_KEY_V4 ? AF_INET : AF_INET6;
		memcpy(f.remote.ip, p, len);
		p += len;
		f.remote.port = (uint16_t)get_number(&p, 2);
		if (type == FLOW_KEY_V6)
			f.remote.scope = (uint32_t)get_number(&p, 4);
	}
	*out = f;
	rest->p += n;
	rest->len -= n;
	return 0;
}

bool flow_eq(const struct flow *a, const struct flow *b)
{
	if (a->conn || b->conn)
		return a->conn == b->conn;
	return a->proto == b->proto && a->listener == b->listener && addr_eq(&a->remote, &b->remote);
}
