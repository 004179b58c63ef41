/* Which client transactions a connection's end concerns: those that it carried and that wait for a response. */
#include "txn_p.h"

static struct txn_link *link_of(struct txn *t)
{
	return (struct txn_link *)(void *)t - 1;
}

static void link_insert(struct txn *t, struct txn **head)
{
	struct txn_link *l = link_of(t);

	l->next = *head;
	l->prev = head;
	if (l->next)
		link_of(l->next)->prev = &l->next;
	*head = t;
}

void txn_conn_add(struct txn *t)
{
	if (t->linked)
		link_insert(t, &t->tb->conn[t->flow.conn % TXN_CONN_BUCKETS]);
}

void txn_conn_remove(struct txn *t)
{
	struct txn_link *l = t->linked ? link_of(t) : NULL;

	if (!l || !l->prev)
		return;
	*l->prev = l->next;
	if (l->next)
		link_of(l->next)->prev = l->prev;
	l->prev = NULL;
}

/* First out of the index, into a list of their own, which each leaves when its turn comes or when an upcall for another
 * ends it: so upcalls may do what they like. */
void txn_table_conn_lost(struct txn_table *tb, uint64_t conn)
{
	struct txn *lost = NULL;

	for (struct txn *t = tb->conn[conn % TXN_CONN_BUCKETS], *next; t; t = next) {
		next = link_of(t)->next;
		if (t->flow.conn != conn)
			continue;
		txn_conn_remove(t);
		link_insert(t, &lost);
	}
	txn_enter(tb);
	while (lost) {
		struct txn *t = lost;
		txn_conn_remove(t);
		txn_client_error(t);
	}
	txn_leave(tb);
}
