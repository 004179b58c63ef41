/* Resumption: the key of the tickets that we give, and the sessions that servers have given us tickets for. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transport/tls_session_p.h"

#define TICKETS_SESSIONS 256   /* servers whose last session is kept */
#define TICKETS_SIZE     16384 /* bytes of the largest session that is: it has the server's certificates in it */

struct ticket_entry {
	char *name;          /* whom the session was verified for; NULL: free */
	struct addr server;  /* who gave it: the servers of a name need not share a key */
	const void *context; /* by what certificates and CAs */
	gnutls_datum_t data;
	uint64_t used; /* by the count of uses: the smallest gives way */
};

struct tls_tickets {
	gnutls_datum_t key;   /* const */
	pthread_mutex_t lock; /* never held over a system call */
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
	if (e->data.data)
		gnutls_memset(e->data.data, 0, e->data.size);
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

int tls_tickets_key(const struct tls_tickets *t, const void *trust, size_t len,
		    unsigned char key[static TLS_KEY_LEN])
{
	return gnutls_hmac_fast(GNUTLS_MAC_SHA512, t->key.data, t->key.size, trust, len, key) < 0 ? -EIO : 0;
}

static struct ticket_entry *entry_find(struct tls_tickets *t, const void *context, const char *name,
				       const struct addr *server)
{
	for (unsigned i = 0; i < TICKETS_SESSIONS; i++) {
		struct ticket_entry *e = &t->entry[i];
		if (e->name && e->context == context && addr_eq(&e->server, server) &&
		    strcmp(e->name, name) == 0)
			return e;
	}
	return NULL;
}

void tls_tickets_offer(struct tls_tickets *t, const void *context, const char *name, const struct addr *server,
		       gnutls_session_t s)
{
	pthread_mutex_lock(&t->lock);
	struct ticket_entry *e = entry_find(t, context, name, server);
	if (e) {
		gnutls_session_set_data(s, e->data.data, e->data.size);
		e->used = ++t->uses;
	}
	pthread_mutex_unlock(&t->lock);
}

/* A free entry, or the one that was not used for the longest time. */
static struct ticket_entry *entry_oldest(struct tls_tickets *t)
{
	struct ticket_entry *e = &t->entry[0];

	for (unsigned i = 1; i < TICKETS_SESSIONS; i++)
		if (t->entry[i].used < e->used) /* 0 in a free one */
			e = &t->entry[i];
	return e;
}

void tls_tickets_keep(struct tls_tickets *t, const void *context, const char *name, const struct addr *server,
		      gnutls_session_t s)
{
	struct ticket_entry fresh = {.server = *server, .context = context};

	if (gnutls_session_get_data2(s, &fresh.data) < 0)
		return;
	fresh.name = strdup(name);
	if (!fresh.name || fresh.data.size > TICKETS_SIZE) {
		entry_clear(&fresh);
		return;
	}
	pthread_mutex_lock(&t->lock);
	struct ticket_entry *e = entry_find(t, context, name, server), old;
	if (!e)
		e = entry_oldest(t);
	fresh.used = ++t->uses;
	old = *e;
	*e = fresh;
	pthread_mutex_unlock(&t->lock);
	entry_clear(&old);
}

void tls_tickets_forget(struct tls_tickets *t, const void *context)
{
	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < TICKETS_SESSIONS; i++)
		if (t->entry[i].name && t->entry[i].context == context)
			entry_clear(&t->entry[i]);
	pthread_mutex_unlock(&t->lock);
}
