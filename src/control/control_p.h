#ifndef CONTROL_CONTROL_P_H
#define CONTROL_CONTROL_P_H

#include <jansson.h>
#include <microhttpd.h>

#include "control.h"
#include "server_p.h"
#include "store/db.h"

#define CONTROL_BODY_MAX 8192 /* bytes of a request's body */
#define CONTROL_LIST_MAX 1000 /* entries of a list, unless `limit` asks for another number */

struct control {
	struct MHD_Daemon *daemon;   /* main */
	struct server *server;       /* const */
	struct store_reader *reader; /* the HTTP thread's; NULL: no store */
	char *path;                  /* const */
	bool disowned;               /* main */
};

/* One request. */
struct control_call {
	struct control *control;
	struct MHD_Connection *connection;
	size_t len; /* bytes */
	bool too_long;
	char body[CONTROL_BODY_MAX];
};

/* An answer: a status, and an object that the plumbing releases. */
struct control_answer {
	unsigned status;
	json_t *body;
};

/* The value of ?name=, or NULL. */
const char *control_arg(const struct control_call *c, const char *name);
unsigned control_limit(const struct control_call *c);
/* {"error": text} with a status. */
void control_error(struct control_answer *a, unsigned status, const char *text);

/* views.c */
void view_status(struct control_call *c, struct control_answer *a);
void view_connections(struct control_call *c, struct control_answer *a);
void view_transactions(struct control_call *c, struct control_answer *a);
void view_registrations(struct control_call *c, struct control_answer *a);
void view_gateways(struct control_call *c, struct control_answer *a);
/* actions.c */
void action_drain(struct control_call *c, struct control_answer *a);
void action_undrain(struct control_call *c, struct control_answer *a);
void action_reload(struct control_call *c, struct control_answer *a);
void action_takeover(struct control_call *c, struct control_answer *a);
void action_close(struct control_call *c, struct control_answer *a);
/* accounts.c */
void account_list(struct control_call *c, struct control_answer *a);
void account_add(struct control_call *c, struct control_answer *a);
void account_remove(struct control_call *c, struct control_answer *a);

#endif
