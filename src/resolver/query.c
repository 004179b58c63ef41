#include "resolver/query_p.h"

#include <errno.h>
#include <stdlib.h>

/* A burst must not overflow the socket of a name server: what is beyond BURST under way is asked at a rate. */
#define BURST 128
#define RATE  32 /* questions a ms */

struct query {
	struct dns_question question; /* first */
	struct queries *owner;
	struct query *next;       /* in the bucket */
	struct query *queue_next; /* not asked yet */
	struct waiter *waiters;
	char name[RR_NAME_SIZE];
};

struct queries {
	struct dns *dns;
	queries_seen_fn *seen;
	void *ctx;
	unsigned limit, count;
	unsigned asked; /* of count */
	size_t mask;
	struct query **bucket;
	struct query *queue, **queue_end; /* not asked yet, in order */
	msec_t tick;                      /* the ms that `ticked` belongs to */
	unsigned ticked;                  /* asked within it */
};

static void waiter_link(struct waiter **head, struct waiter *w)
{
	w->next = *head;
	w->link = head;
	if (w->next)
		w->next->link = &w->next;
	*head = w;
}

void waiter_leave(struct waiter *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->link = NULL;
}

struct queries *queries_create(struct dns *dns, unsigned limit, queries_seen_fn *seen, void *ctx)
{
	struct queries *qs = calloc(1, sizeof(*qs));
	size_t buckets = 16;
	if (!qs)
		return NULL;
	while (buckets < limit && buckets < 65536)
		buckets *= 2;
	*qs = (struct queries){.dns = dns, .seen = seen, .ctx = ctx, .limit = limit, .mask = buckets - 1};
	qs->queue_end = &qs->queue;
	qs->bucket = calloc(buckets, sizeof(struct query *));
	if (!qs->bucket) {
		free(qs);
		return NULL;
	}
	return qs;
}

void queries_destroy(struct queries *qs)
{
	if (!qs)
		return;
	for (struct query *q = qs->queue; q;) {
		struct query *next = q->queue_next;
		free(q);
		q = next;
	}
	free(qs->bucket);
	free(qs);
}

static struct query **find(struct queries *qs, enum rr_type type, const char *name)
{
	struct query **at = &qs->bucket[rr_hash(type, name) & qs->mask];
	while (*at && ((*at)->question.type != type || strcmp((*at)->name, name) != 0))
		at = &(*at)->next;
	return at;
}

static void forget(struct query *q)
{
	struct queries *qs = q->owner;
	*find(qs, q->question.type, q->name) = q->next;
	qs->count--;
}

static void on_done(struct dns_question *question, struct rr_set *s)
{
	struct query *q = (struct query *)question;
	struct queries *qs = q->owner;
	struct waiter *w;
	forget(q);
	qs->asked--;
	if (s)
		qs->seen(qs->ctx, s);
	while ((w = q->waiters) != NULL) {
		waiter_leave(w);
		w->done(w, s);
	}
	rr_set_unref(s);
	free(q);
}

int queries_join(struct queries *qs, enum rr_type type, const char *name, struct waiter *w)
{
	struct query **at = find(qs, type, name), *q = *at;
	size_t len = strlen(name);
	if (!q) {
		if (qs->count >= qs->limit || len >= RR_NAME_SIZE)
			return -ENOBUFS;
		q = calloc(1, sizeof(*q));
		if (!q)
			return -ENOMEM;
		q->owner = qs;
		memcpy(q->name, name, len + 1);
		q->question = (struct dns_question){.type = type, .name = q->name, .done = on_done};
		*at = q;
		*qs->queue_end = q;
		qs->queue_end = &q->queue_next;
		qs->count++;
	}
	waiter_link(&q->waiters, w);
	return 0;
}

static bool may_ask(struct queries *qs, msec_t now)
{
	if (qs->asked < BURST)
		return true;
	if (qs->tick != now) {
		qs->tick = now;
		qs->ticked = 0;
	}
	return qs->ticked++ < RATE;
}

void queries_pump(struct queries *qs, msec_t now)
{
	struct query *q;
	while ((q = qs->queue) != NULL) {
		if (q->waiters && !may_ask(qs, now))
			return;
		qs->queue = q->queue_next;
		if (!qs->queue)
			qs->queue_end = &qs->queue;
		if (!q->waiters) { /* whoever wanted it has given up */
			forget(q);
			free(q);
			continue;
		}
		qs->asked++;
		dns_ask(qs->dns, &q->question);
	}
}

bool queries_backlog(const struct queries *qs)
{
	return qs->queue != NULL;
}
