/* The configuration as it takes effect: made once by main, immutable afterwards, handed down as const. Every option is
 * one row of options.def; parser, range checks, `holdfast -T`, the manual's check and the example come from it. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <regex.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/flow.h"
#include "base/log.h"
#include "base/slice.h"
#include "sip/uri.h"

/* What a TCP or TLS listener's connections go by, those that it accepts and those that are opened from its address. */
struct config_stream {
	uint32_t keepalive_idle,
		keepalive_interval; /* ms; whole seconds are used, rounded up; idle 0: no keepalive */
	unsigned keepalive_probes;
	uint32_t ack_timeout;       /* ms; 0: off */
	uint32_t user_timeout;      /* ms; 0: the kernel's own (minutes) */
	uint32_t write_timeout;     /* ms */
	uint32_t connect_timeout;   /* ms */
	uint32_t handshake_timeout; /* ms */
	uint32_t message_timeout;   /* ms */
	uint32_t idle_timeout;      /* ms; 0: off */
	uint32_t crlf_interval;     /* ms; 0: off */
	uint32_t queue_limit;       /* bytes */
	uint32_t max_message;       /* bytes */
	unsigned max_connections;
	unsigned max_connections_per_address; /* accepted ones */
};

enum config_verify { VERIFY_NONE, VERIFY_OPTIONAL, VERIFY_REQUIRE };

struct config_listen {
	char *name; /* "udp:0.0.0.0:5060" as written */
	enum flow_proto proto;
	struct addr addr;
	char *advertise;             /* host[:port] for Via and Record-Route, or "" */
	char *advertise_host;        /* its host part, or NULL */
	uint16_t advertise_port;     /* 0: the listener's own */
	uint32_t receive_buffer;     /* bytes asked for with SO_RCVBUF(FORCE); UDP */
	struct config_stream stream; /* TCP, TLS */
	/* TLS */
	char **certificate; /* PEM files, the first is the default; the others are chosen by SNI */
	unsigned certificate_count;
	char **key; /* as many, one for each certificate */
	unsigned key_count;
	char *ca; /* PEM file of the CAs that peers' certificates are checked against; "": the system's */
	enum config_verify verify_client;
};

enum config_algorithm { ALGORITHM_ALL, ALGORITHM_SHA256, ALGORITHM_MD5 };

struct config_domain {
	char *name;
	char **alias; /* other names of it */
	unsigned alias_count;
	bool authenticate; /* REGISTER, and requests from the domain's users */
	enum config_algorithm algorithm;
	char **trusted_text; /* as written */
	unsigned trusted_text_count;
	struct addr_net *trusted; /* requests from these are not challenged */
	unsigned trusted_count;
	uint32_t default_expires; /* ms, as the next two */
	uint32_t min_expires;
	uint32_t max_expires;
	unsigned max_contacts;
	uint32_t flow_timer;       /* ms; 0: not sent */
	uint32_t qualify_interval; /* ms; 0: off */
	uint32_t qualify_timeout;  /* ms */
	uint32_t nat_keepalive;    /* ms; 0: off */
	bool unbind;               /* a binding ends with the connection that it depends on */
};

enum config_policy {
	POLICY_SERIAL,
	POLICY_PARALLEL,
	POLICY_ROUND_ROBIN,
	POLICY_RANDOM,
	POLICY_HASH,
	POLICY_WEIGHT
};

struct config_target {
	const char *text;   /* the gateway's: "sip:192.0.2.1" or "<sip:192.0.2.1>;weight=3" */
	struct sip_uri uri; /* into text */
	unsigned weight;    /* 1 to 1000; default 1 */
};

struct config_gateway {
	char *name;
	char **target_text; /* as written */
	unsigned target_text_count;
	struct config_target *target; /* as many, from these */
	unsigned target_count;
	enum config_policy policy;
	uint32_t probe_interval; /* ms; 0: off */
	uint32_t probe_timeout;  /* ms */
};

struct config_route {
	char *name;
	unsigned line; /* in the file */
	char **method; /* none: any */
	unsigned method_count;
	char *domain; /* "": any; compared without case with the Request-URI's host */
	char *user; /* extended regular expression on the Request-URI's user part (tel: the number); "": any */
	regex_t user_re;  /* valid if user is not "" */
	char **from_text; /* as written */
	unsigned from_text_count;
	struct addr_net *from; /* from these; none: any */
	unsigned from_count;
	char *gateway_name; /* as written, "" for none */
	char *reject_text;  /* likewise */
	bool authenticate;
	bool path; /* a phone's REGISTER gets one with its flow (RFC 5626 5.1) */
	/* exactly one of: */
	int gateway;     /* index, or -1 */
	unsigned reject; /* status 300 to 699, or 0 */
	bool dns;
	char *reject_reason; /* with reject */
};

/* A domain's name or alias. */
struct config_domain_name {
	const char *name; /* points into the domain */
	unsigned domain;  /* index */
};

struct config {
	unsigned workers;       /* as it takes effect: never 0 */
	unsigned acceptors;     /* likewise */
	unsigned mailbox_limit; /* messages waiting for one worker */
	uint32_t gather;        /* µs: the longest pause to gather a batch under load; 0: none */
	unsigned writers;       /* writer threads of connections, at most */
	struct config_listen *listen;
	unsigned listen_count;
	struct config_domain *domain;
	unsigned domain_count;
	struct config_domain_name *domain_name; /* sorted without regard to case */
	unsigned domain_name_count;
	struct config_gateway *gateway;
	unsigned gateway_count;
	struct config_route *route;
	unsigned route_count;
	struct {
		uint32_t t1, t2, t4, c;    /* ms */
		unsigned max_inflight;     /* INVITE transactions without a final response, over all workers */
		unsigned max_transactions; /* transactions of all kinds and states, over all workers */
	} timers;
	struct {
		char *server;         /* resolver to ask instead of /etc/resolv.conf's, "ip:port"; "" */
		uint32_t timeout;     /* ms for a whole look-up */
		unsigned cache;       /* entries */
		unsigned max_queries; /* look-ups under way */
	} dns;
	struct {
		char *path;
		uint64_t map_size; /* bytes */
		bool transactions;
		uint32_t sync; /* ms; 0: never */
	} store;
	struct {
		char *listen_text; /* "127.0.0.1:9060"; "" switches HTTP off */
		struct addr listen;
	} stats;
	struct {
		char *socket; /* path; "": none */
	} control;
	struct {
		uint32_t timeout;     /* ms */
		uint32_t retry_after; /* ms; sent as whole seconds */
	} drain;
	struct {
		enum log_level level;
		enum log_format format;
	} log;
};

/* What the command line says on top of the file. Pointers into argv. */
struct config_overrides {
	const char **listen; /* -l: replaces the file's listeners */
	unsigned listen_count;
	const char **domain; /* -d: added to the file's */
	unsigned domain_count;
	const char *store;     /* -s or NULL */
	int workers;           /* -w or -1 */
	const char *log_level; /* -L or NULL */
};

/* Reads `file` (NULL: defaults and overrides only). 0, or -EINVAL / -ENOENT / -EACCES / -ENOMEM with one line in `err`:
 * "file:line: option: what was expected". -ENOENT and -EACCES are the file's own (exit 1), the rest is a
 * configuration error (exit 2). Main thread only (libConfuse is not reentrant). */
int config_load(const char *file, const struct config_overrides *ov, struct config **out, char *err,
		size_t errlen);
void config_destroy(struct config *c);

/* Any thread. drain.retry_after as the Retry-After header has it: s, at least 1. */
static inline uint32_t config_retry_after(const struct config *c)
{
	uint32_t s = (c->drain.retry_after + 999) / 1000;
	return s ? s : 1;
}

/* Any thread. The domain of this name or alias: its index, or -1. */
int config_domain_find(const struct config *c, struct slice host);

/* `holdfast -T`: the configuration as it takes effect, defaults included, in the file's own syntax; what it prints,
 * config_load reads back to the same. */
void config_print(const struct config *c, FILE *f);

#endif
