#include "transport/pool_p.h"

#include <stdlib.h>

/* The header before each block keeps malloc's alignment. */
#define POOL_HEAD ((sizeof(struct pool_block) + 15) & ~(size_t)15)

void pool_init(struct pool *p)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		p->class[i] = (struct pool_class){.size = (size_t)POOL_SMALLEST << i};
		atomic_init(&p->class[i].returned, NULL);
		atomic_init(&p->class[i].idle, 0);
	}
}

static void pool_free_list(struct pool_block *b)
{
	while (b) {
		struct pool_block *next = b->next;
		free(b);
		b = next;
	}
}

void pool_deinit(struct pool *p)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++) {
		pool_free_list(p->class[i].free);
		pool_free_list(atomic_exchange(&p->class[i].returned, NULL));
	}
	pool_init(p);
}

static struct pool_block *pool_class_get(struct pool_class *c)
{
	struct pool_block *b;
	if (!c->free) {
		/* `idle` is lowered here, once for many blocks, so that its cache line stays with those who give
		 * back. */
		if (c->taken)
			atomic_fetch_sub_explicit(&c->idle, c->taken, memory_order_relaxed);
		c->taken = 0;
		if (atomic_load_explicit(&c->returned, memory_order_relaxed))
			c->free = atomic_exchange_explicit(&c->returned, NULL, memory_order_acquire);
	}
	b = c->free;
	if (b) {
		c->free = b->next;
		c->taken++;
		return b;
	}
	b = malloc(c->size);
	if (b)
		b->home = c;
	return b;
}

void *pool_get(struct pool *p, size_t size)
{
	struct pool_block *b = NULL;
	size += POOL_HEAD;
	for (unsigned i = 0; p && i < POOL_CLASSES; i++) {
		if (size <= p->class[i].size) {
			b = pool_class_get(&p->class[i]);
			return b ? (char *)b + POOL_HEAD : NULL;
		}
	}
	b = malloc(size);
	if (!b)
		return NULL;
	b->home = NULL;
	return (char *)b + POOL_HEAD;
}

void pool_put(void *mem)
{
	struct pool_block *b = (struct pool_block *)(void *)((char *)mem - POOL_HEAD), *head;
	struct pool_class *c = b->home;
	if (!c) {
		free(b);
		return;
	}
	if (atomic_fetch_add_explicit(&c->idle, 1, memory_order_relaxed) >= POOL_IDLE_MAX) {
		atomic_fetch_sub_explicit(&c->idle, 1, memory_order_relaxed);
		free(b);
		return;
	}
	/* The owner takes the whole list at once, so that no block can come back while we link to it. */
	head = atomic_load_explicit(&c->returned, memory_order_relaxed);
	do
		b->next = head;
	while (!atomic_compare_exchange_weak_explicit(&c->returned, &head, b, memory_order_release,
						      memory_order_relaxed));
}
