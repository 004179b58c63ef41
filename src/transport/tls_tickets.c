/* Resumption: the key of the tickets that we give, and the sessions that servers have given us tickets for. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tls_session_p.h"

#define TICKETS_SESSIONS 256 /* servers whose last session is kept */

struct ticket_entry {
	char *name;          /* whom the session was verified for; NULL: free */
	const void *context; /* by what certificates and CAs */
	gnutls_datum_t data;
	uint64_t used; /* by the count of uses: the smallest gives way */
};

struct tls_tickets {
	gnutls_datum_t key;   /* const */
	pthread_mutex_t lock; /* held for a copy, never over a system call */
	uint64_t uses;        /* under lock, as what follows */
	struct ticket_entry entry[TICKETS_SESSIONS];
};

int tls_tickets_create(struct tls_tickets **out)
{
	struct tls_tickets *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (gnutls_session_ticket_key_generate(&t->key) < 0) {
		free(t);
		return -EIO;
	}
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

static void entry_clear(struct ticket_entry *e)
{
	free(e->name);
	gnutls_free(e->data.data);
	*e = (struct ticket_entry){0};
}

void tls_tickets_destroy(struct tls_tickets *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < TICKETS_SESSIONS; i++)
		entry_clear(&t->entry[i]);
	gnutls_memset(t->key.data, 0, t->key.size);
	gnutls_free(t->key.data);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

const gnutls_datum_t *tls_tickets_key(const struct tls_tickets *t)
{
	return &t->key;
}

static struct ticket_entry *entry_find(struct tls_tickets *t, const void *context, const char *name)
{
	for (unsigned i = 0; i < TICKETS_SESSIONS; i++)
		if (t->entry[i].name && t->entry[i].context == context && strcmp(t->entry[i].name, name) == 0)
			return &t->entry[i];
	return NULL;
}

void tls_tickets_offer(struct tls_tickets *t, const void *context, const char *name, gnutls_session_t s)
{
	pthread_mutex_lock(&t->lock);
	struct ticket_entry *e = entry_find(t, context, name);
	if (e) {
		gnutls_session_set_data(s, e->data.data, e->data.size);
		e->used = ++t->uses;
	}
	pthread_mutex_unlock(&t->lock);
}

void tls_tickets_keep(struct tls_tickets *t, const void *context, const char *name, gnutls_session_t s)
{
	gnutls_datum_t data = {0};
	char *copy = strdup(name);

	if (!copy || gnutls_session_get_data2(s, &data) < 0) {
		free(copy);
		return;
	}
	pthread_mutex_lock(&t->lock);
	struct ticket_entry *e = entry_find(t, context, name);
	for (unsigned i = 0; i < TICKETS_SESSIONS && !e; i++)
		if (!t->entry[i].name)
			e = &t->entry[i];
	if (!e) {
		e = &t->entry[0];
		for (unsigned i = 1; i < TICKETS_SESSIONS; i++)
			if (t->entry[i].used < e->used)
				e = &t->entry[i];
	}
	entry_clear(e);
	*e = (struct ticket_entry){copy, context, data, ++t->uses};
	pthread_mutex_unlock(&t->lock);
}

void tls_tickets_forget(struct tls_tickets *t, const void *context)
{
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < TICKETS_SESSIONS; i++)
		if (t->entry[i].context == context)
			entry_clear(&t->entry[i]);
	pthread_mutex_unlock(&t->lock);
}
