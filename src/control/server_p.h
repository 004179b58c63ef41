#ifndef CONTROL_SERVER_P_H
#define CONTROL_SERVER_P_H

#include "base/log.h"
#include "command.h"
#include "control/http.h"
#include "control/server.h"
#include "transport/inherit.h"
#include "worker/worker.h"

struct control;
struct digest;
struct store;

struct server {
	/* main; written under `report`; others hold it as const until a reload is acknowledged */
	struct config *config;
	struct server_source source;
	struct proxy_shared shared;
	struct store *store;
	struct udp *udp;
	struct streams *streams; /* NULL: UDP only */
	struct digest *digest;
	struct keeper *keeper; /* writes the store through to the disk */
	struct control *control;
	struct commands commands;
	struct inheritance inherited; /* main, at start */
	double started;               /* s since 1970 */
	struct resolver *resolver;
	struct worker_pool *workers;
	struct acceptor **acceptor;
	unsigned acceptor_count;
	struct http *http;
	_Atomic pid_t heir; /* atomic: the process that was started to take over; 0: none was */
	_Atomic bool ready; /* atomic: all threads run */
	_Atomic bool
		reload_failed; /* atomic: the last one changed nothing, and the file is not what is in effect */
	pthread_mutex_t report; /* between a reload and the threads of HTTP and control */
};

/* reload.c. What came of it, in `text`. 0, or -EINVAL: nothing has changed. */
int server_reload(struct server *s, char *text, size_t len);
void server_end_workers(struct server *s);       /* main, when no connection is left that they watch */
void server_close_store(struct server *s);       /* main, when nobody uses it any more */
uint64_t server_dialogs(const struct server *s); /* confirmed calls */
double server_started(const struct server *s);
/* What the last OPTIONS to a binding measured: µs. False: nothing. */
bool server_qualify_rtt(const struct server *s, uint64_t number, uint32_t *rtt);
void server_http_source(struct server *s, struct http_source *src); /* report.c */

#endif
