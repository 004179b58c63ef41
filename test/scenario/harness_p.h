#ifndef TEST_SCENARIO_HARNESS_P_H
#define TEST_SCENARIO_HARNESS_P_H

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

struct h_text { /* strings given out, freed by h_stop */
	struct h_text *next;
	char text[];
};

struct harness {
	struct config *config;
	struct proxy *proxy;
	struct proxy_shared shared;
	struct wheel wheel;
	msec_t now;
	bool running; /* inside wheel_run: what is sent comes from timers */
	struct h_sent *sent, **sent_tail;
	struct h_resolve *resolves, **resolves_tail;
	struct h_text *texts;
	char *last; /* received last */
	size_t last_len;
	_Atomic uint64_t slot[H_SLOTS];
	unsigned slots;
	struct sip_msg_room room;
	char scratch[SIP_MESSAGE_MAX + 1];
};

/* Memory that lives until h_stop. */
char *h_keep(struct harness *h, size_t len);

#endif
