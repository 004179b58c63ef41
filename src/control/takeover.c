#include "takeover.h"

#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pack.h"
#include "server_p.h"
#include "store/store.h"
#include "txn/snapshot.h"

#define TAKEOVER_FORMAT 1
#define TAKEOVER_WAIT   30000 /* ms that a step of the other process may take */
#define TAKEOVER_CHUNK  32768 /* bytes of a connection's data in one record */
#define TAKEOVER_NEEDS  8192  /* bytes: the most that a request to the control socket may have */
#define TAKEOVER_GRACE  2000  /* ms that connections which cannot move have to send what they have */

enum record { RECORD_SOCKET = 'S', RECORD_CONN = 'C', RECORD_IN = 'I', RECORD_QUEUE = 'Q', RECORD_END = 'E' };

/* --- records: one message of a SOCK_SEQPACKET socket each, some with a descriptor --- */

static int record_send(int to, struct slice bytes, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec v = {(void *)(uintptr_t)bytes.p, bytes.len};
	struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};

	if (fd >= 0) {
		h.msg_control = control.bytes;
		h.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(to, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Bytes, or -errno (-EPIPE: the other side is gone). *fd: -1 if none came. */
static ssize_t record_recv(int from, char *room, size_t cap, int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec v = {room, cap};
	struct msghdr h = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = sizeof(control.bytes)};
	struct pollfd p = {.fd = from, .events = POLLIN};

	*fd = -1;
	if (poll(&p, 1, TAKEOVER_WAIT) <= 0)
		return -ETIMEDOUT;
	ssize_t n = recvmsg(from, &h, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n ? n : -EPIPE;
}

/* --- what the old process must have, or the new one could not open it: "udp:192.0.2.1:5060", a line each --- */

static void need(struct buf *b, const char *kind, enum flow_proto proto, const struct addr *a)
{
	char text[ADDR_STRLEN];

	if (inherit_probe(proto, a) < 0)
		buf_printf(b, "%s:%s\n", kind, addr_str(a, text));
}

static const char *const kinds[] = {[FLOW_UDP] = "udp", [FLOW_TCP] = "tcp", [FLOW_TLS] = "tls"};

static void needs_put(const struct config *c, struct buf *b)
{
	for (unsigned i = 0; i < c->listen_count; i++)
		need(b, kinds[c->listen[i].proto], c->listen[i].proto, &c->listen[i].addr);
	if (c->stats.listen_text[0])
		need(b, "stats", FLOW_TCP, &c->stats.listen);
}

static bool has_listener(const struct config *c, struct slice kind, const struct addr *a)
{
	for (unsigned i = 0; i < c->listen_count; i++) {
		const struct config_listen *l = &c->listen[i];
		enum flow_proto p = slice_eq(kind, slice_str("udp")) ? FLOW_UDP : FLOW_TCP;
		if (inherit_overlaps(p, a, l->proto, &l->addr))
			return true;
	}
	return false;
}

int takeover_look(const struct config *c, struct slice needs, char *text, size_t len)
{
	while (needs.len) {
		const char *end = memchr(needs.p, '\n', needs.len);
		struct slice line = slice_make(needs.p, end ? (size_t)(end - needs.p) : needs.len);
		const char *colon = memchr(line.p, ':', line.len);
		struct slice kind = slice_make(line.p, colon ? (size_t)(colon - line.p) : 0);
		struct addr a;
		bool stats = slice_eq(kind, slice_str("stats"));

		if (!colon || addr_parse(slice_make(colon + 1, line.len - kind.len - 1), &a) < 0) {
			snprintf(text, len, "what the new process needs cannot be read");
			return -EBADMSG;
		}
		if (stats ? !c->stats.listen_text[0] ||
				    !inherit_overlaps(FLOW_TCP, &a, FLOW_TCP, &c->stats.listen)
			  : !has_listener(c, kind, &a)) {
			snprintf(text, len, "%s%.*s: the address is in use, or not of this machine",
				 stats ? "stats.listen " : "listen ", (int)(stats ? line.len - 6 : line.len),
				 stats ? line.p + 6 : line.p);
			return -EADDRINUSE;
		}
		needs.p += end ? line.len + 1 : line.len;
		needs.len -= end ? line.len + 1 : line.len;
	}
	return 0;
}

/* --- giving --- */

struct giver {
	int fd;
	unsigned sockets, conns;
	int rc; /* the first failure */
};

static void addr_put(struct buf *b, const struct addr *a)
{
	struct flow f = {.remote = *a};
	flow_pack(&f, b);
}

static void give(struct giver *g, struct buf *b, int fd)
{
	int rc = b->full ? -ENOBUFS : record_send(g->fd, buf_view(b), fd);
	if (rc && !g->rc)
		g->rc = rc;
}

static void give_socket(void *ctx, const struct inherited_socket *s)
{
	struct giver *g = ctx;
	char room[256];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	pack_u8(&b, RECORD_SOCKET);
	pack_u8(&b, (uint8_t)s->proto);
	pack_u32(&b, s->acceptor);
	addr_put(&b, &s->bound);
	give(g, &b, s->fd);
	g->sockets++;
}

static void give_data(struct giver *g, enum record kind, const char *p, size_t len)
{
	char room[TAKEOVER_CHUNK + 1];
	struct buf b;

	while (len) {
		size_t n = len < TAKEOVER_CHUNK ? len : TAKEOVER_CHUNK;
		buf_init(&b, room, sizeof(room));
		pack_u8(&b, (uint8_t)kind);
		buf_put(&b, p, n);
		give(g, &b, -1);
		p += n;
		len -= n;
	}
}

static void give_conn(void *ctx, const struct inherited_conn *c)
{
	struct giver *g = ctx;
	char room[512];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	pack_u8(&b, RECORD_CONN);
	pack_u64(&b, c->id);
	pack_u8(&b, (uint8_t)(c->inbound | c->half_ping << 1));
	addr_put(&b, &c->bound);
	addr_put(&b, &c->remote);
	addr_put(&b, &c->local);
	addr_put(&b, &c->alias);
	give(g, &b, c->fd);
	give_data(g, RECORD_IN, c->in, c->in_len);
	give_data(g, RECORD_QUEUE, c->queue, c->queue_len);
	g->conns++;
}

void takeover_give(struct server *s, int fd)
{
	struct giver g = {.fd = fd};
	char room[16];
	struct buf b;

	udp_export(s->udp, give_socket, &g);
	if (s->streams) {
		streams_export_listeners(s->streams, give_socket, &g);
		streams_export(s->streams, TAKEOVER_GRACE, give_conn, &g);
	}
	server_end_workers(s); /* not before: they are told of each connection that is closed */
	server_close_store(s);
	buf_init(&b, room, sizeof(room));
	pack_u8(&b, RECORD_END);
	pack_u8(&b, TAKEOVER_FORMAT);
	give(&g, &b, -1);
	if (g.rc)
		log_error("main", "takeover: not all could be handed over: %s", strerror(-g.rc));
	else
		log_info("main", "takeover: %u sockets and %u connections are handed over", g.sockets, g.conns);
	close(fd);
}

int takeover_call(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc, fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

extern char **environ;

int takeover_spawn(char *const *argv, pid_t *child)
{
	unsigned n = 0;
	pid_t pid;

	if (!argv[0])
		return -EINVAL;
	while (argv[n])
		n++;
	char **args = calloc(n + 2, sizeof(*args));
	if (!args)
		return -ENOMEM;
	unsigned k = 0;
	for (unsigned i = 0; i < n; i++)
		if (strcmp(argv[i], "--takeover") != 0)
			args[k++] = argv[i];
	args[k++] = (char *)(uintptr_t) "--takeover";
	/* By its name, not as what runs: a planned restart is how a new version comes. */
	int rc = posix_spawnp(&pid, argv[0], NULL, NULL, args, environ);
	free(args);
	if (!rc)
		*child = pid;
	return -rc;
}

/* --- taking --- */

static int own_socket(const char *control, char *path, size_t cap)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int rc, fd;

	if (snprintf(path, cap, "%s.%ld", control, (long)getpid()) >= (int)sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

/* The request to the running process. A connected socket with it sent, or -errno; -ENOENT: nobody is there. */
static int ask(const char *control, const char *path, struct slice needs)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char text[TAKEOVER_NEEDS + 512];
	int rc = 0, fd;

	if (strlen(control) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, control, strlen(control) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		rc = errno == ECONNREFUSED ? -ENOENT : -errno;
	int n = snprintf(text, sizeof(text),
			 "POST /takeover?to=%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%.*s",
			 path, needs.len, (int)needs.len, needs.p);
	if (!rc && (n >= (int)sizeof(text) || send(fd, text, (size_t)n, MSG_NOSIGNAL) != n))
		rc = -EIO;
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* Until the old process calls, or says why it does not. */
static int await_call(int own, int request, char *err, size_t errlen)
{
	struct pollfd p[2] = {{.fd = own, .events = POLLIN}, {.fd = request, .events = POLLIN}};
	char text[1024];

	while (poll(p, 2, TAKEOVER_WAIT) > 0) {
		if (p[0].revents) {
			int fd = accept4(own, NULL, NULL, SOCK_CLOEXEC);
			return fd < 0 ? -errno : fd;
		}
		ssize_t n = recv(request, text, sizeof(text) - 1, 0);
		text[n > 0 ? n : 0] = 0;
		if (n <= 0 || strncmp(text, "HTTP/1.1 200", 12) != 0) {
			char *body = strstr(text, "\"error\":\"");
			if (body)
				body[9 + strcspn(body + 9, "\"")] = 0;
			snprintf(err, errlen, "takeover: the running process refuses: %.200s",
				 body ? body + 9 : "it has ended");
			return -EPERM;
		}
		p[1].fd = -1;
	}
	snprintf(err, errlen, "takeover: the running process does not answer");
	return -ETIMEDOUT;
}

static void addr_get(struct unpack *u, struct addr *a)
{
	struct flow f;
	flow_unpack(u, &f);
	*a = f.remote;
}

static int take_socket(struct inheritance *in, struct unpack *u, int fd)
{
	struct inherited_socket s = {.fd = fd};

	s.proto = (enum flow_proto)unpack_u8(u);
	s.acceptor = unpack_u32(u);
	addr_get(u, &s.bound);
	return u->bad ? -EBADMSG : inherit_add_socket(in, &s);
}

static int take_conn(struct inheritance *in, struct unpack *u, int fd)
{
	struct inherited_conn c = {.fd = fd};

	c.id = unpack_u64(u);
	uint8_t flags = unpack_u8(u);
	c.inbound = flags & 1;
	c.half_ping = (flags >> 1) & 3;
	addr_get(u, &c.bound);
	addr_get(u, &c.remote);
	addr_get(u, &c.local);
	addr_get(u, &c.alias);
	return u->bad ? -EBADMSG : inherit_add_conn(in, &c);
}

/* More bytes of the connection that came last. */
static int take_data(struct inheritance *in, struct unpack *u, bool received)
{
	if (!in->conns)
		return -EBADMSG;
	struct inherited_conn *c = &in->conn[in->conns - 1];
	char **p = received ? &c->in : &c->queue;
	size_t *len = received ? &c->in_len : &c->queue_len;
	char *more = realloc(*p, *len + u->len);
	if (!more)
		return -ENOMEM;
	memcpy(more + *len, u->p, u->len);
	*p = more;
	*len += u->len;
	return 0;
}

static int take_all(int from, struct inheritance *in)
{
	char room[TAKEOVER_CHUNK + 16];

	for (;;) {
		int fd, rc = -EBADMSG;
		ssize_t n = record_recv(from, room, sizeof(room), &fd);
		if (n < 0)
			return (int)n;
		struct unpack u = unpack_init(slice_make(room, (size_t)n));
		switch ((enum record)unpack_u8(&u)) {
		case RECORD_SOCKET: rc = take_socket(in, &u, fd); break;
		case RECORD_CONN: rc = take_conn(in, &u, fd); break;
		case RECORD_IN: rc = take_data(in, &u, true); break;
		case RECORD_QUEUE: rc = take_data(in, &u, false); break;
		case RECORD_END: return 0;
		}
		if (rc) {
			if (fd >= 0)
				close(fd);
			return rc;
		}
	}
}

int takeover_receive(const struct config *c, struct inheritance *in, char *err, size_t errlen)
{
	const char *control = c->control.socket;
	char room[TAKEOVER_NEEDS];
	struct buf needs;
	char path[256];
	int request = -1, from = -1, own = own_socket(control, path, sizeof(path)), rc = own;

	if (own < 0)
		goto out;
	buf_init(&needs, room, sizeof(room));
	needs_put(c, &needs);
	rc = request = needs.full ? -ENOBUFS : ask(control, path, buf_view(&needs));
	if (rc < 0)
		goto out;
	rc = from = await_call(own, request, err, errlen);
	if (rc < 0)
		goto out;
	rc = take_all(from, in);
	if (rc)
		snprintf(err, errlen, "takeover: not all came over: %s", strerror(-rc));
out:
	if (rc < 0 && !err[0])
		snprintf(err, errlen, "takeover by %s: %s", control, strerror(-rc));
	if (from >= 0)
		close(from);
	if (request >= 0)
		close(request);
	if (own >= 0) {
		close(own);
		unlink(path);
	}
	return rc < 0 ? rc : 0;
}
