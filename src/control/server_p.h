#ifndef CONTROL_SERVER_P_H
#define CONTROL_SERVER_P_H

#include "base/log.h"
#include "control/http.h"
#include "control/server.h"
#include "worker/worker.h"

struct store;

struct server {
	struct config *
		config; /* main; written under `report`; others hold it as const until a reload is acknowledged */
	struct server_source source;
	struct proxy_shared shared;
	struct store *store;
	struct udp *udp;
	struct resolver *resolver;
	struct worker_pool *workers;
	struct acceptor **acceptor;
	unsigned acceptor_count;
	struct http *http;
	_Atomic bool ready;     /* atomic: all threads run */
	pthread_mutex_t report; /* between a reload and the HTTP thread; nobody else ever takes it */
};

void server_reload(struct server *s);                               /* reload.c */
void server_http_source(struct server *s, struct http_source *src); /* report.c */

#endif
