#include "proxy_p.h"

static struct pending **pending_bucket(struct proxy *p, uint64_t ref)
{
	return &p->pending[ref % PROXY_PENDING_BUCKETS];
}

void pending_add(struct proxy *p, struct pending *w, enum pending_kind kind)
{
	w->ref = ++p->next_ref;
	w->kind = kind;
	struct pending **b = pending_bucket(p, w->ref);
	w->next = *b;
	*b = w;
}

struct pending *pending_take(struct proxy *p, uint64_t ref)
{
	for (struct pending **at = pending_bucket(p, ref); *at; at = &(*at)->next) {
		struct pending *w = *at;
		if (w->ref == ref) {
			*at = w->next;
			w->ref = 0;
			return w;
		}
	}
	return NULL;
}

void pending_remove(struct proxy *p, struct pending *w)
{
	if (w->ref)
		pending_take(p, w->ref);
}
