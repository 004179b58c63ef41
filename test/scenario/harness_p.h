#ifndef TEST_SCENARIO_HARNESS_P_H
#define TEST_SCENARIO_HARNESS_P_H

#include "../unit/folder.h"
#include "harness.h"

#define H_SLOTS 4096

struct h_sent {
	struct h_sent *next;
	struct flow to;
	char to_text[ADDR_STRLEN];
	msec_t at;       /* ms */
	unsigned copies; /* sent again by timers, byte for byte */
	bool taken;
	struct sip_msg *msg;
};

struct h_resolve {
	struct h_resolve *next;
	uint64_t ref;
	bool taken;
	char uri[512];
};

#define H_ACK_TIMEOUT 2000 /* ms, of every connection */

struct h_conn {
	struct h_conn *next;
	uint64_t id;
	uint8_t proto;
	uint16_t listener;
	bool inbound, dead, watched, told;
	struct addr remote;
	char name[64];
};

struct h_peer { /* a place where connections fare badly */
	struct h_peer *next;
	struct addr remote;
	bool silent, refused;
};

struct h_text { /* strings given out, freed by h_stop */
	struct h_text *next;
	char text[];
};

struct harness {
	struct config *config;
	struct proxy_env env;
	struct proxy *proxy;
	struct proxy_shared shared;
	struct wheel wheel;
	msec_t now;
	uint64_t wall; /* ms: goes with `now` */
	unsigned keepalives;
	bool running; /* inside wheel_run: what is sent comes from timers */
	struct h_sent *sent, **sent_tail;
	struct h_sent **flushed; /* what is sent from here on waits for its batch's commit */
	struct h_resolve *resolves, **resolves_tail;
	struct h_text *texts;
	struct h_conn *conns;
	struct h_peer *peers;
	char aliases[512];
	uint64_t from_conn; /* what is received comes over this; 0: a datagram */
	char *last;         /* received last */
	size_t last_len;
	_Atomic uint64_t slot[H_SLOTS];
	unsigned slots;
	unsigned batch;          /* not to be committed yet */
	struct store *store;     /* NULL: none */
	struct store_env *calls; /* what a restart finds; NULL: nothing is kept */
	void (*flush)(struct harness *h, const struct sip_msg *m, void *ctx); /* sees what leaves */
	void *flush_ctx;
	struct digest *digest;
	char store_root[FOLDER_LEN];
	struct sip_msg_room room;
	char scratch[SIP_MESSAGE_MAX + 1];
};

/* harness_conn.c */
void h_conn_lower(struct proxy_lower *lower);
void h_conn_listeners(struct config *c, const char *listeners);
void h_conn_stop(struct harness *h);
struct h_conn *h_conn_find(const struct harness *h, uint64_t id); /* NULL: no such */
enum flow_proto h_proto(const char **text);                       /* takes "tcp:" off */

/* harness_store.c */
#define H_MAP (16u << 20) /* bytes: the store's map, if nothing else is said */
void h_store_open(struct harness *h, uint64_t map, struct proxy_env *env);
void h_store_close(struct harness *h);

/* Memory that lives until h_stop. */
char *h_keep(struct harness *h, size_t len);

#endif
