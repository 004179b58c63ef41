/* Connections of the load generators, over TLS or TCP: they are opened or accepted, take messages apart, and queue what
 * the kernel does not take. Whatever cannot be, but by the peer's fault, ends the program. One thread. */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_SMALL   2048u       /* bytes in and out, where a connection carries a message at a time */
#define LINK_LARGE   (64u << 10) /* in, where it has many */
#define LINK_MESSAGE 4096u
#define LINKS_ACCEPT 64

enum link_state { LINK_CLOSED, LINK_CONNECTING, LINK_SHAKING, LINK_OPEN };

struct link {
	struct links *of;
	int fd;
	enum link_state state;
	bool server, blocked;   /* blocked: TLS holds a record that the kernel did not take */
	gnutls_session_t tls;   /* NULL: plain */
	gnutls_datum_t session; /* to go on with; empty: none */
	char *in, *out;
	size_t in_len, in_size, out_len, out_sent;
};

struct links {
	/* Of the user: */
	bool plain;
	uint16_t to; /* port of the server, on 127.0.0.1 */
	void (*opened)(struct link *l);
	void (*message)(struct link *l, char *text, size_t len); /* one whole message; it may close l */
	void (*closed)(struct link *l);                          /* by the peer, or never opened */
	/* To be read: */
	unsigned resumed;
	char description[128]; /* of the first handshake */
	/* Of link.c: */
	int epoll, listener;
	gnutls_certificate_credentials_t client_cred, server_cred;
	struct link accepted[LINKS_ACCEPT];
	unsigned accepted_count;
};

uint64_t now_ns(void);

/* Says why, by errno too, and ends the program. */
_Noreturn void die(const char *what);

void links_open(struct links *s);

/* Accepts on that port of 127.0.0.1. cert, key: paths; NULL for plain ones. */
void links_listen(struct links *s, uint16_t port, const char *cert, const char *key);

/* Handles what has come, after waiting at most `ms` for it. */
void links_turn(struct links *s, int ms);

/* l is zeroed, or was closed; in_size is LINK_SMALL or LINK_LARGE. */
void link_connect(struct links *s, struct link *l, size_t in_size);

/* One message, one record. What the kernel does not take waits. */
void link_send(struct link *l, const char *text, size_t len);

/* `reset`: without TIME_WAIT, for thousands at a time. */
void link_close(struct link *l, bool reset);
