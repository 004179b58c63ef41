/* Blocks of memory that one thread makes and others give back, without a lock (malloc would take its arena's for
 * every block that another thread frees). Blocks too large for a pool are malloc's. */
#ifndef TRANSPORT_POOL_P_H
#define TRANSPORT_POOL_P_H

#include <stdatomic.h>
#include <stddef.h>

#define POOL_CLASSES  2    /* blocks of 2 and 4 kB */
#define POOL_SMALLEST 2048 /* bytes */
#define POOL_IDLE_MAX 512  /* blocks of a class kept for reuse; more go back to malloc */

struct pool_block {
	struct pool_class *home; /* const; NULL: malloc's own */
	struct pool_block *next; /* who holds it, while it is free */
};

struct pool_class {
	size_t size;             /* const: bytes, struct pool_block included */
	struct pool_block *free; /* owner: taken back, ready for use */
	unsigned taken;          /* owner: blocks used up since it last took all */
	_Atomic(struct pool_block *) returned __attribute__((aligned(64))); /* atomic: given back by others */
	_Atomic unsigned idle; /* atomic: at least the blocks in `returned` and `free` */
};

struct pool {
	struct pool_class class[POOL_CLASSES];
};

void pool_init(struct pool *p);
/* When every block has been given back. */
void pool_deinit(struct pool *p);

/* Owner. Memory for `size` bytes, aligned for any type. p NULL: from malloc. NULL: no memory. */
void *pool_get(struct pool *p, size_t size);
/* Any thread. */
void pool_put(void *mem);

#endif
