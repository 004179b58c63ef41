/* Connections over TLS, or with --plain over TCP, for what SIPp cannot do:
 *
 *   tlsload idle         opens --count connections, asks OPTIONS over each, and then says nothing
 *   tlsload handshakes   opens --count connections, --window at a time, asks OPTIONS over each, and closes it; with --resume each
 *                        goes on with the session of the one before it
 *   tlsload calls        caller and callee of --count calls, --rate a second, each side over one connection; the proxy connects to
 *                        the callee, which shows --cert and --key
 *
 * One thread. TLS is 1.3 with X25519, as most clients have it, so that all servers compute the same. It talks with the driver in lines:
 * prints what it reached as "word key=value ...", and waits for a line before it goes on. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PRIORITY   "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519"
#define MESSAGE    4096
#define IN_SMALL   2048       /* answers to OPTIONS */
#define IN_LARGE   (64 << 10) /* of a connection that has many calls */
#define OUT_SIZE   (16 << 20)
#define EVENTS     256
#define WARM_UP    200         /* calls before the driver's word */
#define PATIENCE   5000000000u /* ns without progress: what is missing has failed */
#define CALLEE_MAX 64          /* connections that a proxy makes to the callee */

enum link_state { LINK_CLOSED, LINK_CONNECTING, LINK_SHAKING, LINK_OPEN };

struct link {
	int fd;
	enum link_state state;
	bool server, blocked;   /* blocked: TLS holds a record that the kernel did not take */
	gnutls_session_t tls;   /* NULL: plain */
	gnutls_datum_t session; /* of the connection before this one */
	char *in, *out;
	size_t in_len, in_size, out_len, out_sent;
};

struct mode {
	const char *name;
	void (*run)(void);
	void (*opened)(struct link *l);
	void (*message)(struct link *l, char *text, size_t len);
	void (*closed)(struct link *l);
};

static struct {
	uint16_t to, callee;
	unsigned count, rate, window;
	bool plain, resume;
	const char *cert, *key;
	const struct mode *mode;
	int epoll, listener;
	uint16_t caller_port;
	uint64_t run; /* makes Call-IDs and branches of this run unlike any other's */
	gnutls_certificate_credentials_t client_cred, server_cred;
	char description[128]; /* of the last handshake */

	struct link *link;
	unsigned begun, opened, answered, resumed, failed;
	/* calls */
	struct link callee_link[CALLEE_MAX];
	unsigned callee_count, measured_from;
	uint64_t *sent; /* ns, by call; then how long the 200 took */
} g = {.count = 1000, .rate = 500, .window = 16, .listener = -1};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "tlsload: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* --- connections --- */

static void link_watch(struct link *l, int op)
{
	bool out = l->state == LINK_CONNECTING || l->blocked || l->out_sent < l->out_len ||
		   (l->state == LINK_SHAKING && gnutls_record_get_direction(l->tls));
	struct epoll_event e = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0), .data.ptr = l};

	if (epoll_ctl(g.epoll, op, l->fd, &e))
		die("epoll_ctl");
}

static void link_free_tls(struct link *l)
{
	if (l->tls)
		gnutls_deinit(l->tls);
	l->tls = NULL;
}

/* Not in the midst of its own events' handling, but for the last thing that is done with it. */
static void link_close(struct link *l, bool reset)
{
	struct linger hard = {.l_onoff = 1};

	if (l->state == LINK_CLOSED)
		return;
	if (reset)
		setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	else if (l->tls && l->state == LINK_OPEN)
		gnutls_bye(l->tls, GNUTLS_SHUT_WR);
	link_free_tls(l);
	close(l->fd);
	l->state = LINK_CLOSED;
	l->blocked = false;
	l->in_len = l->out_len = l->out_sent = 0;
}

static void link_lost(struct link *l)
{
	link_close(l, true);
	g.mode->closed(l);
}

static void link_secure(struct link *l)
{
	if (g.plain)
		return;
	if (gnutls_init(&l->tls,
			(l->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
	    gnutls_priority_set_direct(l->tls, PRIORITY, NULL) < 0 ||
	    gnutls_credentials_set(l->tls, GNUTLS_CRD_CERTIFICATE, l->server ? g.server_cred : g.client_cred) <
		    0)
		die("TLS");
	gnutls_transport_set_int(l->tls, l->fd);
	if (l->session.size && gnutls_session_set_data(l->tls, l->session.data, l->session.size) < 0)
		die("session");
}

static void link_connect(struct link *l)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(g.to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;

	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		die("socket");
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(l->fd, (struct sockaddr *)&a, sizeof(a)) && errno != EINPROGRESS)
		die("connect");
	if (!l->in && !(l->in = malloc(l->in_size)))
		die("memory");
	l->state = LINK_CONNECTING;
	link_secure(l);
	link_watch(l, EPOLL_CTL_ADD);
}

static bool again(ssize_t rc)
{
	return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

/* 0, or -1: it is broken. */
static int link_flush(struct link *l)
{
	while (l->blocked || l->out_sent < l->out_len) {
		const char *from = l->out + l->out_sent;
		size_t len = l->out_len - l->out_sent;
		ssize_t n;

		if (!l->tls) {
			n = send(l->fd, from, len, MSG_NOSIGNAL);
			if (n < 0)
				return errno == EAGAIN ? 0 : -1;
		} else {
			n = l->blocked ? gnutls_record_send(l->tls, NULL, 0)
				       : gnutls_record_send(l->tls, from, len);
			l->blocked = again(n);
			if (n < 0)
				return l->blocked ? 0 : -1;
		}
		l->out_sent += (size_t)n;
	}
	l->out_len = l->out_sent = 0;
	return 0;
}

/* One message, one record. What the kernel does not take waits. */
static void link_send(struct link *l, const char *text, size_t len)
{
	bool waits = l->blocked || l->out_sent < l->out_len;

	if (l->state != LINK_OPEN)
		return;
	if (!l->out && !(l->out = malloc(l->in_size == IN_SMALL ? IN_SMALL : OUT_SIZE)))
		die("memory");
	if (l->out_len + len > (l->in_size == IN_SMALL ? IN_SMALL : OUT_SIZE))
		die("the server does not read");
	memcpy(l->out + l->out_len, text, len);
	l->out_len += len;
	if (waits)
		return;
	/* A break shows at the next read as well. */
	if (link_flush(l) || l->blocked || l->out_len)
		link_watch(l, EPOLL_CTL_MOD);
}

/* Hands over every whole message of `in`. Whoever takes one may close the connection. */
static void link_split(struct link *l)
{
	size_t used = 0;

	while (l->state == LINK_OPEN) {
		char *text = l->in + used, *end, *length, keep;
		size_t body = 0, whole;

		l->in[l->in_len] = '\0';
		while (used < l->in_len && (*text == '\r' || *text == '\n'))
			text++, used++;
		end = strstr(text, "\r\n\r\n");
		if (!end)
			break;
		length = strcasestr(text, "\r\nContent-Length:");
		if (length && length < end)
			body = strtoul(length + 17, NULL, 10);
		whole = (size_t)(end + 4 - text) + body;
		if (used + whole > l->in_len)
			break;
		keep = text[whole];
		text[whole] = '\0';
		g.mode->message(l, text, whole);
		text[whole] = keep;
		used += whole;
	}
	if (l->state != LINK_OPEN)
		return;
	memmove(l->in, l->in + used, l->in_len - used);
	l->in_len -= used;
}

static void link_read(struct link *l)
{
	while (l->state == LINK_OPEN) {
		size_t room = l->in_size - 1 - l->in_len;
		ssize_t n = l->tls ? gnutls_record_recv(l->tls, l->in + l->in_len, room)
				   : recv(l->fd, l->in + l->in_len, room, 0);

		if (l->tls ? again(n) : n < 0 && errno == EAGAIN)
			return;
		if (l->tls && n < 0 && !gnutls_error_is_fatal((int)n))
			continue;
		if (n <= 0 || !room) {
			link_lost(l);
			return;
		}
		l->in_len += (size_t)n;
		link_split(l);
	}
}

static void link_shake(struct link *l)
{
	int rc = l->tls ? gnutls_handshake(l->tls) : 0;
	char *text;

	l->state = LINK_SHAKING;
	if (rc < 0 && !gnutls_error_is_fatal(rc)) {
		link_watch(l, EPOLL_CTL_MOD);
		return;
	}
	if (rc < 0) {
		fprintf(stderr, "tlsload: handshake: %s\n", gnutls_strerror(rc));
		link_lost(l);
		return;
	}
	l->state = LINK_OPEN;
	link_watch(l, EPOLL_CTL_MOD);
	if (!l->server && l->tls) {
		g.resumed += gnutls_session_is_resumed(l->tls) != 0;
		if (!g.description[0] && (text = gnutls_session_get_desc(l->tls))) {
			snprintf(g.description, sizeof(g.description), "%s", text);
			gnutls_free(text);
		}
	}
	g.opened++;
	g.mode->opened(l);
}

static void link_event(struct link *l, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (l->state == LINK_CONNECTING) {
		if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
			link_lost(l);
			return;
		}
		link_shake(l);
	} else if (l->state == LINK_SHAKING) {
		link_shake(l);
	} else if (l->state == LINK_OPEN && (events & EPOLLOUT)) {
		if (link_flush(l)) {
			link_lost(l);
			return;
		}
		link_watch(l, EPOLL_CTL_MOD);
	}
	link_read(l);
}

static void callee_accept(void)
{
	int on = 1, fd = accept4(g.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct link *l = &g.callee_link[g.callee_count];

	if (fd < 0)
		return;
	if (g.callee_count == CALLEE_MAX) {
		close(fd);
		return;
	}
	g.callee_count++;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	*l = (struct link){.fd = fd, .server = true, .state = LINK_CONNECTING, .in_size = IN_LARGE};
	if (!(l->in = malloc(l->in_size)))
		die("memory");
	link_secure(l);
	link_watch(l, EPOLL_CTL_ADD);
}

/* Handles what has come, after waiting at most so long for it. */
static void turn(int ms)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(g.epoll, e, EVENTS, ms);

	for (int i = 0; i < n; i++) {
		if (e[i].data.ptr)
			link_event(e[i].data.ptr, e[i].events);
		else
			callee_accept();
	}
}

/* Says a line, and waits for the driver's; meanwhile goes on receiving. */
static void meet(const char *word, double seconds)
{
	struct rusage used;
	char c = 0;

	getrusage(RUSAGE_SELF, &used);
	double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	printf("%s opened=%u answered=%u resumed=%u failed=%u seconds=%.6f cpu=%.6f tls=%s\n", word, g.opened,
	       g.answered, g.resumed, g.failed, seconds, cpu, g.description[0] ? g.description : "none");
	fflush(stdout);
	while (c != '\n') {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

		turn(5);
		if (poll(&p, 1, 0) > 0 && read(STDIN_FILENO, &c, 1) <= 0)
			exit(0);
	}
}

/* --- idle, handshakes: a question over each connection --- */

static void link_ask(struct link *l)
{
	char text[MESSAGE];
	unsigned n = g.opened;

	link_send(
		l, text,
		(size_t)snprintf(
			text, sizeof(text),
			"OPTIONS sip:127.0.0.1:%u SIP/2.0\r\n"
			"Via: SIP/2.0/%s 127.0.0.1:9;branch=z9hG4bK-%llx-%u\r\n"
			"From: <sip:load@127.0.0.1>;tag=f%u\r\nTo: <sip:127.0.0.1:%u>\r\n"
			"Call-ID: %u-%llx\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
			g.to, g.plain ? "TCP" : "TLS", (unsigned long long)g.run, n, n, g.to, n,
			(unsigned long long)g.run));
}

static void idle_message(struct link *l, char *text, size_t len)
{
	(void)l, (void)len;
	if (!strncmp(text, "SIP/2.0 200 ", 12))
		g.answered++;
	else
		g.failed++;
}

static void idle_closed(struct link *l)
{
	(void)l;
	g.failed++;
}

static void idle_run(void)
{
	uint64_t start = now_ns(), last = start;
	unsigned seen = 0;

	while (g.answered + g.failed < g.count && now_ns() - last < PATIENCE) {
		while (g.begun < g.count && g.begun < g.answered + g.failed + g.window)
			link_connect(&g.link[g.begun++]);
		turn(10);
		if (seen != g.answered) {
			seen = g.answered;
			last = now_ns();
		}
	}
	g.failed += g.begun - g.answered - g.failed;
	meet("open", (double)(now_ns() - start) / 1e9);
	/* failed now counts those as well that were closed while they said nothing. */
	for (unsigned i = 0; i < g.count; i++)
		link_close(&g.link[i], true);
	meet("end", 0);
}

static void handshakes_message(struct link *l, char *text, size_t len)
{
	idle_message(l, text, len);
	if (g.resume && l->tls && (gnutls_session_get_flags(l->tls) & GNUTLS_SFLAGS_SESSION_TICKET)) {
		gnutls_free(l->session.data);
		l->session = (gnutls_datum_t){0};
		gnutls_session_get_data2(l->tls, &l->session);
	}
	link_close(l, false);
}

static double handshakes_some(unsigned count)
{
	uint64_t start = now_ns(), last = start;
	unsigned seen = 0;

	g.begun = g.opened = g.answered = g.resumed = g.failed = 0;
	while (g.answered + g.failed < count && now_ns() - last < PATIENCE) {
		for (unsigned i = 0; i < g.window && g.begun < count; i++) {
			if (g.link[i].state == LINK_CLOSED) {
				link_connect(&g.link[i]);
				g.begun++;
			}
		}
		turn(10);
		if (seen != g.answered) {
			seen = g.answered;
			last = now_ns();
		}
	}
	g.failed = count - g.answered;
	return (double)(now_ns() - start) / 1e9;
}

static void handshakes_run(void)
{
	handshakes_some(10 * g.window);
	meet("ready", 0);
	meet("done", handshakes_some(g.count));
}

/* --- calls --- */

#define SDP                                                                                            \
	"v=0\r\no=load 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n" \
	"m=audio 6000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"

static const char *transport(bool upper)
{
	return g.plain ? upper ? "TCP" : "tcp" : upper ? "TLS" : "tls";
}

/* Writes every header line whose name is `name`, as `as`, the last one first where `reverse`. */
static size_t copy_headers(char *out, const char *msg, const char *name, const char *as, bool reverse,
			   const char *append)
{
	const char *found[8];
	size_t n = 0, used = 0, len = strlen(name);

	for (const char *line = strstr(msg, "\r\n"); line && line[2] != '\r' && n < 8;
	     line = strstr(line + 2, "\r\n"))
		if (!strncasecmp(line + 2, name, len) && line[2 + len] == ':')
			found[n++] = line + 3 + len;
	for (size_t i = 0; i < n; i++) {
		const char *value = found[reverse ? n - 1 - i : i];

		used += (size_t)sprintf(out + used, "%s%.*s%s\r\n", as, (int)strcspn(value, "\r"), value,
					append);
	}
	return used;
}

static void call_invite(unsigned n)
{
	char text[MESSAGE];
	unsigned port = g.caller_port;

	g.sent[n] = now_ns();
	link_send(
		g.link, text,
		(size_t)snprintf(
			text, sizeof(text),
			"INVITE sip:100@127.0.0.1:%u SIP/2.0\r\n"
			"Via: SIP/2.0/%s 127.0.0.1:%u;branch=z9hG4bK-%llx-%u-i\r\n"
			"From: \"Caller\" <sip:caller@127.0.0.1:%u>;tag=%uc\r\nTo: <sip:100@127.0.0.1:%u>\r\n"
			"Call-ID: %u-%llx@127.0.0.1\r\nCSeq: 1 INVITE\r\n"
			"Contact: <sip:caller@127.0.0.1:%u;transport=%s>\r\nMax-Forwards: 70\r\n"
			"User-Agent: bench\r\nContent-Type: application/sdp\r\nContent-Length: %zu\r\n\r\n" SDP,
			g.to, transport(true), port, (unsigned long long)g.run, n, port, n, g.to, n,
			(unsigned long long)g.run, port, transport(false), sizeof(SDP) - 1));
}

static void call_follow(unsigned n, const char *ok, const char *method, unsigned cseq)
{
	char text[2 * MESSAGE];
	const char *contact = strcasestr(ok, "\r\nContact: <");
	size_t len;

	if (!contact)
		return;
	contact += 12;
	len = (size_t)sprintf(text,
			      "%s %.*s SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.1:%u;branch=z9hG4bK-%llx-%u-%c\r\n",
			      method, (int)strcspn(contact, ">\r"), contact, transport(true), g.caller_port,
			      (unsigned long long)g.run, n, method[0]);
	len += copy_headers(text + len, ok, "Record-Route", "Route:", true, "");
	len += copy_headers(text + len, ok, "From", "From:", false, "");
	len += copy_headers(text + len, ok, "To", "To:", false, "");
	len += copy_headers(text + len, ok, "Call-ID", "Call-ID:", false, "");
	len += (size_t)sprintf(text + len, "CSeq: %u %s\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", cseq,
			       method);
	link_send(g.link, text, len);
}

static void caller_message(char *text)
{
	const char *id = strcasestr(text, "\r\nCall-ID:"), *cseq = strcasestr(text, "\r\nCSeq:");
	unsigned n, status, number;

	if (!id || !cseq || sscanf(id + 10, " %u-", &n) != 1 || sscanf(text, "SIP/2.0 %u", &status) != 1 ||
	    sscanf(cseq + 7, " %u", &number) != 1 || n >= g.begun || status < 200)
		return;
	if (status >= 300) {
		if (!g.failed++)
			fprintf(stderr, "tlsload: a call was refused: %.*s\n", (int)strcspn(text, "\r"), text);
	} else if (number == 1) {
		g.sent[n] = now_ns() - g.sent[n];
		call_follow(n, text, "ACK", 1);
		call_follow(n, text, "BYE", 2);
	} else {
		g.answered++;
	}
}

static void callee_answer(struct link *l, const char *request, const char *status, bool contact, bool body)
{
	char text[2 * MESSAGE];
	bool tag = !strstr(request, ";tag=callee");
	size_t n = (size_t)sprintf(text, "SIP/2.0 %s\r\n", status);

	n += copy_headers(text + n, request, "Via", "Via:", false, "");
	if (contact)
		n += copy_headers(text + n, request, "Record-Route", "Record-Route:", false, "");
	n += copy_headers(text + n, request, "From", "From:", false, "");
	n += copy_headers(text + n, request, "To", "To:", false, tag && contact ? ";tag=callee" : "");
	n += copy_headers(text + n, request, "Call-ID", "Call-ID:", false, "");
	n += copy_headers(text + n, request, "CSeq", "CSeq:", false, "");
	if (contact)
		n += (size_t)sprintf(text + n, "Contact: <sip:callee@127.0.0.1:%u;transport=%s>\r\n", g.callee,
				     transport(false));
	if (body)
		n += (size_t)sprintf(text + n, "Content-Type: application/sdp\r\n");
	n += (size_t)sprintf(text + n, "Content-Length: %zu\r\n\r\n%s", body ? sizeof(SDP) - 1 : 0,
			     body ? SDP : "");
	link_send(l, text, n);
}

static void calls_message(struct link *l, char *text, size_t len)
{
	if (len > MESSAGE) {
		g.failed++;
	} else if (!l->server) {
		caller_message(text);
	} else if (!strncmp(text, "INVITE ", 7)) {
		callee_answer(l, text, "100 Trying", false, false);
		callee_answer(l, text, "180 Ringing", true, false);
		callee_answer(l, text, "200 OK", true, true);
	} else if (!strncmp(text, "BYE ", 4)) {
		callee_answer(l, text, "200 OK", false, false);
	}
}

static void calls_opened(struct link *l)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	if (!l->server && !getsockname(l->fd, (struct sockaddr *)&a, &len))
		g.caller_port = ntohs(a.sin_port);
}

static void calls_closed(struct link *l)
{
	fprintf(stderr, "tlsload: the connection to the %s was closed\n", l->server ? "callee" : "proxy");
	exit(1);
}

/* Goes on to the count-th call; how long that took. */
static double calls_some(unsigned count)
{
	uint64_t start = now_ns(), last = start;
	unsigned first = g.begun, seen = g.answered;

	while (g.answered + g.failed < count && now_ns() - last < PATIENCE) {
		uint64_t due = first + (now_ns() - start) * g.rate / 1000000000u;

		while (g.begun < count && g.begun < due)
			call_invite(g.begun++);
		turn(1);
		if (seen != g.answered) {
			seen = g.answered;
			last = now_ns();
		}
	}
	g.failed = count - g.answered;
	return (double)(now_ns() - start) / 1e9;
}

static int later(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void calls_run(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(g.callee), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event e = {.events = EPOLLIN};
	int on = 1;
	double seconds;

	g.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(g.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (g.listener < 0 || bind(g.listener, (struct sockaddr *)&a, sizeof(a)) || listen(g.listener, 64) ||
	    epoll_ctl(g.epoll, EPOLL_CTL_ADD, g.listener, &e))
		die("the callee's port");
	link_connect(g.link);
	for (uint64_t start = now_ns(); !g.caller_port && now_ns() - start < PATIENCE;)
		turn(10);
	calls_some(WARM_UP);
	if (g.failed) {
		fprintf(stderr, "tlsload: %u of the first %u calls failed\n", g.failed, WARM_UP);
		exit(1);
	}
	meet("ready", 0);
	g.opened = 0;
	seconds = calls_some(WARM_UP + g.count);
	g.answered -= WARM_UP;
	meet("done", seconds);
	qsort(g.sent + WARM_UP, g.count, sizeof(*g.sent), later);
	printf("setup p50=%.3f p99=%.3f\n", (double)g.sent[WARM_UP + g.count / 2] / 1e6,
	       (double)g.sent[WARM_UP + g.count - g.count / 100 - 1] / 1e6);
}

static const struct mode modes[] = {
	{"idle", idle_run, link_ask, idle_message, idle_closed},
	{"handshakes", handshakes_run, link_ask, handshakes_message, idle_closed},
	{"calls", calls_run, calls_opened, calls_message, calls_closed},
};

static void prepare(void)
{
	struct rlimit files;
	unsigned links = g.mode->run == idle_run ? g.count : g.mode->run == calls_run ? 1 : g.window;

	signal(SIGPIPE, SIG_IGN);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	g.run = now_ns() ^ ((uint64_t)getpid() << 40);
	g.epoll = epoll_create1(EPOLL_CLOEXEC);
	g.link = calloc(links, sizeof(*g.link));
	g.sent = calloc(WARM_UP + g.count, sizeof(*g.sent));
	if (g.epoll < 0 || !g.link || !g.sent)
		die("memory");
	for (unsigned i = 0; i < links; i++)
		g.link[i].in_size = g.mode->run == calls_run ? IN_LARGE : IN_SMALL;
	if (gnutls_certificate_allocate_credentials(&g.client_cred) < 0 ||
	    gnutls_certificate_allocate_credentials(&g.server_cred) < 0)
		die("memory");
	if (g.cert && g.key &&
	    gnutls_certificate_set_x509_key_file(g.server_cred, g.cert, g.key, GNUTLS_X509_FMT_PEM) < 0)
		die("certificate");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'},     {"callee", required_argument, NULL, 'u'},
		{"count", required_argument, NULL, 'n'},  {"rate", required_argument, NULL, 'r'},
		{"window", required_argument, NULL, 'w'}, {"cert", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},    {"plain", no_argument, NULL, 'p'},
		{"resume", no_argument, NULL, 's'},       {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't': g.to = (uint16_t)atoi(optarg); break;
		case 'u': g.callee = (uint16_t)atoi(optarg); break;
		case 'n': g.count = (unsigned)atoi(optarg); break;
		case 'r': g.rate = (unsigned)atoi(optarg); break;
		case 'w': g.window = (unsigned)atoi(optarg); break;
		case 'c': g.cert = optarg; break;
		case 'k': g.key = optarg; break;
		case 'p': g.plain = true; break;
		case 's': g.resume = true; break;
		default: return 2;
		}
	}
	for (size_t i = 0; optind < argc && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[optind], modes[i].name))
			g.mode = &modes[i];
	if (!g.mode || !g.to || !g.count || !g.rate || !g.window ||
	    (g.mode->run == calls_run && (!g.callee || (!g.plain && (!g.cert || !g.key))))) {
		fprintf(stderr, "usage: tlsload --to PORT [--count N] [--window N] [--plain] [--resume] "
				"[--rate N --callee PORT "
				"--cert FILE --key FILE] idle|handshakes|calls\n");
		return 2;
	}
	prepare();
	g.mode->run();
	return 0;
}
