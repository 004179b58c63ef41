/* The record of a response context and its transactions. A record that cannot be read leaves nothing behind; of one
 * that can, the call goes on to its end, whatever is answered, and what is written of it after that can be read
 * again. */
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "proxy/gateway.h"
#include "proxy/proxy.h"
#include "sip/build.h"

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)
#define ASKED_MAX 64
#define SENT_MAX  4    /* requests that are answered at once */
#define STEPS     1000 /* of a second: no call takes longer */
#define BEGUN     1000000

static const char CONF[] = "listen \"tcp:0.0.0.0:5060\" { }\nlisten \"udp:0.0.0.0:5060\" { }\n"
			   "domain \"local.test\" { authenticate = false }\n"
			   "gateway \"gw\" { target = {\"sip:192.0.2.21;transport=tcp\", "
			   "\"sip:192.0.2.22\"} }\n"
			   "route \"all\" { gateway = \"gw\" }\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct config *config;
	struct store *store;
	struct store_env *calls;
	char root[64];
} once; /* for all inputs */

static struct run {
	struct proxy_shared shared;
	struct proxy *proxy;
	struct wheel wheel;
	msec_t now;
	uint64_t wall;
	unsigned asked; /* look-ups that wait */
	uint64_t ref[ASKED_MAX];
	unsigned sent;
	struct sip_msg *request[SENT_MAX];
	struct flow to[SENT_MAX];
} run;

/* --- what the proxy sees below --- */

static int on_send(void *ctx, const struct flow *to, struct slice bytes)
{
	static struct sip_msg_room room;

	(void)ctx;
	if (flow_is_reliable(to) && !to->conn)
		return -ENOTCONN;
	if (run.sent < SENT_MAX && sip_msg_parse(&room, bytes.p, bytes.len, false) == 0 && !room.msg.error &&
	    room.msg.request && room.msg.method != SIP_METHOD_ACK) {
		run.request[run.sent] = sip_msg_clone(&room.msg);
		run.to[run.sent++] = *to;
	}
	return 0;
}

static int on_connect(void *ctx, struct flow *to, struct slice name, uint32_t *ack_timeout)
{
	(void)ctx, (void)name;
	to->conn = 7;
	*ack_timeout = 2000;
	return 0;
}

/* Every second one is there. */
static int on_attach(void *ctx, struct flow *to, uint32_t *ack_timeout)
{
	(void)ctx;
	if (to->conn % 2 == 0)
		return -ENOTCONN;
	to->proto = FLOW_TCP;
	*ack_timeout = 2000;
	return 0;
}

static bool on_acked(void *ctx, const struct flow *to, msec_t since)
{
	(void)ctx, (void)since;
	return to->conn % 4 == 1;
}

static int on_resolve(void *ctx, const struct sip_uri *uri, uint64_t ref)
{
	(void)ctx, (void)uri;
	if (run.asked == ASKED_MAX)
		return -EAGAIN;
	run.ref[run.asked++] = ref;
	return 0;
}

static int on_source(void *ctx, unsigned listener, const struct addr *dest, struct addr *out)
{
	(void)ctx, (void)listener, (void)dest;
	return addr_parse_ip(SLICE_LIT("192.0.2.1"), 5060, out);
}

/* --- once --- */

static int remove_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(p);
}

static void at_end(void)
{
	store_close(once.store);
	nftw(once.root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	config_destroy(once.config);
}

static void begin(void)
{
	struct config_overrides one = {.workers = 1};
	int fd = memfd_create("config", 0);
	char path[40], err[256];

	log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	hash_init(42);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	snprintf(once.root, sizeof(once.root), "/tmp/holdfast-fuzz-XXXXXX");
	NEED(fd >= 0 && write(fd, CONF, strlen(CONF)) == (ssize_t)strlen(CONF));
	NEED(config_load(path, &one, &once.config, err, sizeof(err)) == 0);
	close(fd);
	NEED(mkdtemp(once.root) && store_open(once.root, 64u << 20, &once.store, err, sizeof(err)) == 0);
	NEED(store_worker(once.store, 0, &once.calls, err, sizeof(err)) == 0);
	atexit(at_end);
}

/* --- one input --- */

static void up(void)
{
	static const unsigned char secret[STORE_SECRET_LEN] = "of every input";
	struct proxy_env env = {.config = once.config,
				.secret = secret,
				.shared = &run.shared,
				.lower = {.send = on_send,
					  .connect = on_connect,
					  .attach = on_attach,
					  .acked = on_acked,
					  .resolve = on_resolve,
					  .source = on_source},
				.wheel = &run.wheel,
				.now = &run.now,
				.wall = &run.wall,
				.store = store_shared(once.store),
				.calls = once.calls};

	wheel_init(&run.wheel, run.now);
	run.shared.states = gateway_states_create(once.config);
	NEED(run.shared.states && proxy_create(&env, &run.proxy) == 0);
}

static void down(void)
{
	proxy_destroy(run.proxy);
	NEED(run.wheel.count == 0 && run.shared.inflight == 0);
	free(run.shared.states);
	for (unsigned i = 0; i < run.sent; i++)
		free(run.request[i]);
	memset(&run, 0, sizeof(run));
}

static void step(msec_t ms)
{
	run.now += ms;
	run.wall += ms;
	wheel_run(&run.wheel, run.now);
	proxy_commit(run.proxy);
}

static void answer(const struct sip_msg *m, const struct flow *from, unsigned status)
{
	static char out[65536];
	static struct sip_msg_room room;
	struct sip_reply r = {.status = status, .to_tag = SLICE_LIT("answer")};
	long n = sip_reply_build(m, &r, out, sizeof(out));

	if (n < 0 || sip_msg_parse(&room, out, (size_t)n, false) < 0)
		return;
	struct packet *pk = packet_create(&room.msg, from, 0);
	if (pk)
		proxy_receive(run.proxy, pk);
	proxy_commit(run.proxy);
}

/* What is sent is answered as the input's last byte says; a name leads somewhere. */
static void go_on(uint8_t how)
{
	static const unsigned status[] = {0, 100, 180, 200, 302, 401, 407, 430, 486, 503, 603};

	for (unsigned i = 0; i < STEPS && proxy_contexts(run.proxy); i++) {
		step(i < 4 ? WHEEL_TICK_MS : 1000);
		while (run.asked) {
			struct resolver_answer a = {
				.ref = run.ref[--run.asked], .error = how & 128 ? -ENOENT : 0, .hop_count = 1};
			a.hop[0].proto = FLOW_UDP;
			addr_parse_ip(SLICE_LIT("192.0.2.30"), 5060, &a.hop[0].addr);
			proxy_resolved(run.proxy, &a);
		}
		for (unsigned n = 0; i < 3 && n < run.sent && run.request[n]; n++)
			if (status[how % 11])
				answer(run.request[n], &run.to[n], status[how % 11]);
	}
}

/* The only record. False: there is none. */
static bool written(char **copy, size_t *len)
{
	struct store_reader *reader;
	struct store_cursor *c;
	struct slice key, value;
	bool there;

	NEED(store_reader_create(once.calls, &reader) == 0 && store_read_begin(reader) == 0);
	NEED(store_walk_reader(reader, STORE_CALLS, &c) == 0);
	there = store_seek(c, SLICE_NONE, &key, &value) == 0;
	if (there) {
		*copy = malloc(value.len);
		*len = value.len;
		NEED(*copy);
		memcpy(*copy, value.p, value.len);
	}
	store_walk_end(c);
	store_reader_destroy(reader);
	return there;
}

static void empty(void)
{
	struct store_cursor *c;
	struct slice key, value;
	struct store_txn *t;

	NEED(store_begin(once.calls, &t) == 0 && store_walk_txn(t, STORE_CALLS, &c) == 0);
	for (int rc = store_seek(c, SLICE_NONE, &key, &value); rc == 0; rc = store_next(c, &key, &value))
		store_walk_del(c);
	store_walk_end(c);
	NEED(store_commit(t) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size ? size : 1), *again = NULL;
	size_t len = 0;
	struct slice call_id, one;

	if (!copy)
		return 0;
	if (!once.store)
		begin();
	memcpy(copy, data, size);
	one = slice_make(copy, size);
	recover_dialog_call_id(one, &call_id);
	recover_call_id(one, &call_id);

	run.now = run.wall = BEGUN;
	up();
	int rc = proxy_restore(run.proxy, 1, one, true);
	NEED(rc == 0 || proxy_contexts(run.proxy) == 0);
	if (rc == 0) {
		proxy_commit(run.proxy);
		NEED(written(&again, &len));
		go_on(size ? data[size - 1] : 0);
		NEED(proxy_contexts(run.proxy) == 0);
		for (unsigned i = 0; i < 2; i++)
			step(1000); /* what has ended is deleted some time later */
		NEED(store_count(once.calls, STORE_CALLS) == 0);
	}
	down();
	if (rc == 0) {
		run.now = run.wall = BEGUN;
		up();
		NEED(proxy_restore(run.proxy, 1, slice_make(again, len), false) == 0);
		down();
		empty();
	}
	free(again);
	free(copy);
	return 0;
}
