/* LMDB trusts the file that it maps: a page number or an offset that damage has changed leads it out of the map, and
 * a file cut short ends in SIGBUS. So the file is read here first, without mapping it. The layout is that of data
 * version 1, which every LMDB 0.9 writes; any other version is refused by LMDB itself as well. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_p.h"

#define MAGIC        0xBEEFC0DEu
#define DATA_VERSION 1
#define NO_PAGE      UINT64_MAX
#define DEPTH_MAX    32                  /* LMDB's cursor stack */
#define LEVELS_MAX   (2 * DEPTH_MAX + 1) /* of a database within the main one */
#define AHEAD        (256u << 10)        /* bytes that a question for read-ahead is about */
#define PSIZE_MAX    32768
#define SPARE_PAGES  16384 /* that last_page may run ahead of the file beyond twice its length */

enum { P_BRANCH = 0x01, P_LEAF = 0x02, P_OVERFLOW = 0x04, P_META = 0x08 };
enum { NODE_BIG = 0x01, NODE_SUB = 0x02, NODE_DUP = 0x04 };
enum { DB_REVERSE_KEY = 0x02, DB_INTEGER_KEY = 0x08, ENV_NOSUBDIR = 0x4000 /* kept with the free list */ };
enum { PAGE_HEAD = 16, NODE_HEAD = 8, DB_SIZE = 48 };
enum tree { TREE_FREE, TREE_MAIN, TREE_SUB };

struct db {
	uint16_t flags, depth;
	uint64_t root;
};

struct meta {
	uint32_t psize;  /* bytes */
	struct db db[2]; /* free list, main */
	uint64_t last_page, txn;
};

struct check {
	int fd;
	uint32_t psize;                  /* bytes */
	uint64_t file_pages;             /* whole pages in the file */
	uint64_t last_page;              /* that the newest commit knows */
	unsigned char *seen;             /* bit per page: already reached */
	unsigned char *page[LEVELS_MAX]; /* buffers, one a level that is being walked */
	unsigned level;
	const char *why;
};

static uint16_t get16(const unsigned char *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const unsigned char *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static int damaged(struct check *c, const char *why)
{
	c->why = why;
	return -EBADMSG;
}

static int read_all(int fd, unsigned char *p, size_t n, uint64_t off)
{
	while (n) {
		ssize_t got = pread(fd, p, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG;
		p += got, off += (uint64_t)got, n -= (size_t)got;
	}
	return 0;
}

static struct db db_read(const unsigned char *p)
{
	return (struct db){.flags = get16(p + 4), .depth = get16(p + 6), .root = get64(p + 40)};
}

/* A page may be reached once: else it is shared, or part of a circle. */
static int page_claim(struct check *c, uint64_t pg)
{
	if (pg < 2 || pg > c->last_page)
		return damaged(c, "a page number is out of range");
	if (c->seen[pg / 8] & (1u << (pg % 8)))
		return damaged(c, "a page is used twice");
	c->seen[pg / 8] |= (unsigned char)(1u << (pg % 8));
	return 0;
}

static int page_read(struct check *c, uint64_t pg, unsigned char *page)
{
	int rc = page_claim(c, pg);
	if (rc)
		return rc;
	if (pg >= c->file_pages)
		return damaged(c, "the file is cut short");
	rc = read_all(c->fd, page, c->psize, pg * c->psize);
	if (rc)
		return rc == -EBADMSG ? damaged(c, "the file is cut short") : rc;
	if (get64(page) != pg)
		return damaged(c, "a page carries another page's number");
	return 0;
}

/* The pages of a value that is too large for a leaf. */
static int big_check(struct check *c, uint64_t pg, uint32_t size)
{
	unsigned char head[PAGE_HEAD];
	uint64_t need = ((uint64_t)PAGE_HEAD + size + c->psize - 1) / c->psize;
	if (pg >= c->file_pages || need > c->file_pages - pg)
		return damaged(c, "the file is cut short");
	int rc = read_all(c->fd, head, sizeof(head), pg * c->psize);
	if (rc)
		return rc;
	uint64_t pages = get32(head + 12);
	if (get64(head) != pg || !(get16(head + 10) & P_OVERFLOW) || pages < need || pages > c->last_page)
		return damaged(c, "a large value's page is damaged");
	for (uint64_t i = 0; i < pages && !rc; i++)
		rc = page_claim(c, pg + i);
	return rc;
}

/* A record of the free list: a count, then that many page numbers. */
static int free_check(struct check *c, const unsigned char *p, uint32_t size)
{
	if (size < 8 || size % 8 || get64(p) > size / 8 - 1)
		return damaged(c, "the free list is damaged");
	int rc = 0;
	for (uint64_t i = 1; i <= get64(p) && !rc; i++)
		rc = page_claim(c, get64(p + 8 * i));
	return rc;
}

static int free_check_big(struct check *c, uint64_t pg, uint32_t size)
{
	unsigned char *p = malloc(size);
	if (!p)
		return -ENOMEM;
	int rc = read_all(c->fd, p, size, pg * c->psize + PAGE_HEAD);
	if (!rc)
		rc = free_check(c, p, size);
	free(p);
	return rc;
}

static int tree_check(struct check *c, const struct db *db, enum tree tree);

static int leaf_node_check(struct check *c, const unsigned char *node, size_t room, enum tree tree)
{
	uint32_t size = get16(node) | (uint32_t)get16(node + 2) << 16;
	uint16_t flags = get16(node + 4), klen = get16(node + 6);
	const unsigned char *data = node + NODE_HEAD + klen;
	uint32_t inside = flags & NODE_BIG ? 8 : size;
	if ((size_t)NODE_HEAD + klen > room || inside > room - NODE_HEAD - klen)
		return damaged(c, "a record reaches beyond its page");
	if (flags & ~(NODE_BIG | NODE_SUB) || (flags & NODE_SUB && (tree != TREE_MAIN || size != DB_SIZE)))
		return damaged(c, "a record is of an unknown kind");
	if (flags & NODE_BIG) {
		int rc = big_check(c, get64(data), size);
		return rc || tree != TREE_FREE ? rc : free_check_big(c, get64(data), size);
	}
	if (tree == TREE_FREE)
		return klen != 8 ? damaged(c, "the free list is damaged") : free_check(c, data, size);
	if (flags & NODE_SUB) {
		struct db sub = db_read(data);
		return tree_check(c, &sub, TREE_SUB);
	}
	return 0;
}

static int node_walk(struct check *c, uint64_t pg, unsigned depth, enum tree tree)
{
	/* Depths are bounded by tree_check, and databases lie in the main one only. */
	unsigned char *page = c->page[c->level];
	if (!page)
		page = c->page[c->level] = malloc(c->psize);
	if (!page)
		return -ENOMEM;
	c->level++;
	int rc = page_read(c, pg, page);
	if (rc)
		goto out;
	uint16_t flags = get16(page + 10), lower = get16(page + 12), upper = get16(page + 14);
	if (flags != (depth == 1 ? P_LEAF : P_BRANCH) || lower <= PAGE_HEAD || lower % 2 || lower > upper ||
	    upper > c->psize) {
		rc = damaged(c, "a page's head is damaged");
		goto out;
	}
	for (unsigned at = PAGE_HEAD; at < lower && !rc; at += 2) {
		uint32_t off = get16(page + at);
		if (off < upper || off % 2 || off + NODE_HEAD > c->psize) {
			rc = damaged(c, "a record lies outside of its page");
			break;
		}
		const unsigned char *node = page + off;
		if (depth == 1) {
			rc = leaf_node_check(c, node, c->psize - off, tree);
			continue;
		}
		if ((uint32_t)NODE_HEAD + get16(node + 6) > c->psize - off) {
			rc = damaged(c, "a key reaches beyond its page");
			break;
		}
		uint64_t child =
			get16(node) | (uint64_t)get16(node + 2) << 16 | (uint64_t)get16(node + 4) << 32;
		rc = node_walk(c, child, depth - 1, tree);
	}
out:
	c->level--;
	return rc;
}

static int tree_check(struct check *c, const struct db *db, enum tree tree)
{
	uint16_t allowed = tree == TREE_FREE  ? DB_INTEGER_KEY | ENV_NOSUBDIR
			   : tree == TREE_SUB ? DB_INTEGER_KEY | DB_REVERSE_KEY
					      : 0;
	if (db->flags & ~allowed)
		return damaged(c, "a database is of an unknown kind");
	if (db->root == NO_PAGE)
		return 0;
	if (db->depth == 0 || db->depth > DEPTH_MAX)
		return damaged(c, "a database's head is damaged");
	return node_walk(c, db->root, db->depth, tree);
}

static int meta_read(struct check *c, uint64_t off, uint64_t page_number, struct meta *out)
{
	unsigned char b[152];
	int rc = read_all(c->fd, b, sizeof(b), off);
	if (rc)
		return rc == -EBADMSG ? damaged(c, "the file is cut short") : rc;
	if (get64(b) != page_number || !(get16(b + 10) & P_META) || get32(b + 16) != MAGIC)
		return damaged(c, "it is no LMDB file");
	if (get32(b + 20) != DATA_VERSION)
		return damaged(c, "it is of another version of LMDB");
	*out = (struct meta){.psize = get32(b + 40), .last_page = get64(b + 136), .txn = get64(b + 144)};
	out->db[0] = db_read(b + 40);
	out->db[1] = db_read(b + 88);
	if (out->psize < 512 || out->psize > PSIZE_MAX || (out->psize & (out->psize - 1)))
		return damaged(c, "its page size is damaged");
	return 0;
}

/* The walk goes through the file in the order of the keys, which a disk does not like; nor does the kernel take all of
 * a large file at once. */
static void read_ahead(int fd, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += AHEAD)
		posix_fadvise(fd, (off_t)at, AHEAD, POSIX_FADV_WILLNEED);
}

int store_check(int fd, uint64_t *used, const char **why)
{
	struct check c = {.fd = fd};
	struct meta m[2];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0) {
		*used = 0;
		return 0;
	}
	int rc = meta_read(&c, 0, 0, &m[0]);
	if (!rc)
		rc = meta_read(&c, m[0].psize, 1, &m[1]);
	if (rc)
		goto out;
	c.psize = m[0].psize;
	c.file_pages = (uint64_t)st.st_size / c.psize;
	const struct meta *newest = &m[m[1].txn > m[0].txn];
	c.last_page = newest->last_page;
	/* Pages at the end that were freed in the commit which made them are never written, so the file may
	 * be a little shorter than last_page says; but no damaged number may make us allocate without bound. */
	if (m[1].psize != c.psize || (uint64_t)st.st_size % c.psize || c.file_pages < 2 || c.last_page < 1 ||
	    c.last_page / 2 > c.file_pages + SPARE_PAGES) {
		rc = damaged(&c, "the file is cut short");
		goto out;
	}
	read_ahead(fd, (c.last_page + 1) * c.psize);
	c.seen = calloc(c.last_page / 8 + 1, 1);
	if (!c.seen) {
		rc = -ENOMEM;
		goto out;
	}
	rc = tree_check(&c, &newest->db[0], TREE_FREE);
	if (!rc)
		rc = tree_check(&c, &newest->db[1], TREE_MAIN);
	free(c.seen);
	for (unsigned i = 0; i < LEVELS_MAX; i++)
		free(c.page[i]);
	if (!rc)
		*used = (c.last_page + 1) * c.psize;
out:
	if (rc == -EBADMSG)
		*why = c.why ? c.why : "the file is cut short";
	return rc;
}
