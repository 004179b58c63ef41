/* Bytes of a record: whole numbers in little-endian order and texts with their length, written into a struct buf and
 * read back. Reading never goes past the end: what is not there sets `bad` and gives zeros, and the caller looks once
 * at the end. */
#ifndef BASE_PACK_H
#define BASE_PACK_H

#include "base/buf.h"

static inline void pack_uint(struct buf *b, uint64_t v, unsigned bytes)
{
	char t[8];
	for (unsigned i = 0; i < bytes; i++)
		t[i] = (char)(v >> (8 * i));
	buf_put(b, t, bytes);
}

static inline void pack_u8(struct buf *b, uint8_t v)
{
	pack_uint(b, v, 1);
}

static inline void pack_u16(struct buf *b, uint16_t v)
{
	pack_uint(b, v, 2);
}

static inline void pack_u32(struct buf *b, uint32_t v)
{
	pack_uint(b, v, 4);
}

static inline void pack_u64(struct buf *b, uint64_t v)
{
	pack_uint(b, v, 8);
}

/* At most 4 GB. */
static inline void pack_slice(struct buf *b, struct slice s)
{
	pack_u32(b, (uint32_t)s.len);
	buf_slice(b, s);
}

struct unpack {
	const char *p;
	size_t len; /* bytes left */
	bool bad;   /* something was not there */
};

static inline struct unpack unpack_init(struct slice s)
{
	return (struct unpack){s.p, s.len, false};
}

static inline struct slice unpack_bytes(struct unpack *u, size_t n)
{
	if (u->bad || n > u->len) {
		u->bad = true;
		return SLICE_NONE;
	}
	struct slice s = slice_make(u->p, n);
	u->p += n;
	u->len -= n;
	return s;
}

static inline uint64_t unpack_uint(struct unpack *u, unsigned bytes)
{
	struct slice s = unpack_bytes(u, bytes);
	uint64_t v = 0;
	for (size_t i = 0; i < s.len; i++)
		v |= (uint64_t)(unsigned char)s.p[i] << (8 * i);
	return v;
}

static inline uint8_t unpack_u8(struct unpack *u)
{
	return (uint8_t)unpack_uint(u, 1);
}

static inline uint16_t unpack_u16(struct unpack *u)
{
	return (uint16_t)unpack_uint(u, 2);
}

static inline uint32_t unpack_u32(struct unpack *u)
{
	return (uint32_t)unpack_uint(u, 4);
}

static inline uint64_t unpack_u64(struct unpack *u)
{
	return unpack_uint(u, 8);
}

static inline struct slice unpack_slice(struct unpack *u)
{
	return unpack_bytes(u, unpack_u32(u));
}

#endif
