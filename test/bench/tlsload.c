/* Connections over TLS, or with --plain over TCP, for what SIPp cannot do:
 *
 *   tlsload idle         opens --count connections, asks OPTIONS over each, and then says nothing
 *   tlsload handshakes   opens --count connections, --window at a time, asks OPTIONS over each, and closes it; with --resume each
 *                        goes on with the session of the one before it
 *   tlsload calls        caller and callee of --count calls, --rate a second, each side over one connection; the proxy connects to
 *                        the callee, which shows --cert and --key
 *
 * It talks with the driver in lines: prints what it reached as "word key=value ...", and waits for a line before it goes on. */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"

#define WARM_UP  200         /* calls before the driver's word */
#define PATIENCE 5000000000u /* ns without progress: what is missing has failed */

static struct {
	struct links links;
	uint16_t to, callee;
	unsigned count, rate, window;
	bool resume;
	const char *cert, *key;
	uint16_t caller_port;
	uint64_t run; /* makes Call-IDs and branches of this run unlike any other's */

	struct link *link;
	unsigned begun, opened, answered, failed;
	uint64_t *sent; /* calls: ns; then how long the 200 took */
} g = {.count = 1000, .rate = 500, .window = 16};

/* Says a line, and waits for the driver's; meanwhile goes on receiving. */
static void meet(const char *word, double seconds)
{
	struct rusage used;
	char c = 0;

	getrusage(RUSAGE_SELF, &used);
	double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	printf("%s opened=%u answered=%u resumed=%u failed=%u seconds=%.6f cpu=%.6f tls=%s\n", word, g.opened,
	       g.answered, g.links.resumed, g.failed, seconds, cpu,
	       g.links.description[0] ? g.links.description : "none");
	fflush(stdout);
	while (c != '\n') {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

		links_turn(&g.links, 5);
		if (poll(&p, 1, 0) > 0 && read(STDIN_FILENO, &c, 1) <= 0)
			exit(0);
	}
}

/* --- idle, handshakes: a question over each connection --- */

static void link_ask(struct link *l)
{
	char text[LINK_MESSAGE];
	unsigned n = g.opened++;

	link_send(
		l, text,
		(size_t)snprintf(
			text, sizeof(text),
			"OPTIONS sip:127.0.0.1:%u SIP/2.0\r\n"
			"Via: SIP/2.0/%s 127.0.0.1:9;branch=z9hG4bK-%llx-%u\r\n"
			"From: <sip:load@127.0.0.1>;tag=f%u\r\nTo: <sip:127.0.0.1:%u>\r\n"
			"Call-ID: %u-%llx\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
			g.to, g.links.plain ? "TCP" : "TLS", (unsigned long long)g.run, n, n, g.to, n,
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
			link_connect(&g.links, &g.link[g.begun++], LINK_SMALL);
		links_turn(&g.links, 10);
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

	g.begun = g.opened = g.answered = g.links.resumed = g.failed = 0;
	while (g.answered + g.failed < count && now_ns() - last < PATIENCE) {
		for (unsigned i = 0; i < g.window && g.begun < count; i++) {
			if (g.link[i].state == LINK_CLOSED) {
				link_connect(&g.links, &g.link[i], LINK_SMALL);
				g.begun++;
			}
		}
		links_turn(&g.links, 10);
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
	return g.links.plain ? upper ? "TCP" : "tcp" : upper ? "TLS" : "tls";
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
	char text[LINK_MESSAGE];
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
	char text[2 * LINK_MESSAGE];
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
	char text[2 * LINK_MESSAGE];
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
	if (len > LINK_MESSAGE) {
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

	g.opened++;
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
		links_turn(&g.links, 1);
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
	double seconds;

	links_listen(&g.links, g.callee, g.cert, g.key);
	link_connect(&g.links, g.link, LINK_LARGE);
	for (uint64_t start = now_ns(); !g.caller_port && now_ns() - start < PATIENCE;)
		links_turn(&g.links, 10);
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
	uint64_t p50 = g.sent[WARM_UP + g.count / 2], p99 = g.sent[WARM_UP + g.count - g.count / 100 - 1];
	printf("setup p50=%.3f p99=%.3f\n", (double)p50 / 1e6, (double)p99 / 1e6);
}

static const struct mode {
	const char *name;
	void (*run)(void);
	void (*opened)(struct link *l);
	void (*message)(struct link *l, char *text, size_t len);
	void (*closed)(struct link *l);
} modes[] = {
	{"idle", idle_run, link_ask, idle_message, idle_closed},
	{"handshakes", handshakes_run, link_ask, handshakes_message, idle_closed},
	{"calls", calls_run, calls_opened, calls_message, calls_closed},
};

static void prepare(const struct mode *mode)
{
	g.run = now_ns() ^ ((uint64_t)getpid() << 40);
	g.link = calloc(mode->run == idle_run ? g.count : g.window, sizeof(*g.link));
	g.sent = calloc(WARM_UP + g.count, sizeof(*g.sent));
	if (!g.link || !g.sent)
		die("memory");
	g.links.to = g.to;
	g.links.opened = mode->opened;
	g.links.message = mode->message;
	g.links.closed = mode->closed;
	links_open(&g.links);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'},     {"callee", required_argument, NULL, 'u'},
		{"count", required_argument, NULL, 'n'},  {"rate", required_argument, NULL, 'r'},
		{"window", required_argument, NULL, 'w'}, {"cert", required_argument, NULL, 'c'},
		{"key", required_argument, NULL, 'k'},    {"plain", no_argument, NULL, 'p'},
		{"resume", no_argument, NULL, 's'},       {NULL, 0, NULL, 0}};
	const struct mode *mode = NULL;
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
		case 'p': g.links.plain = true; break;
		case 's': g.resume = true; break;
		default: return 2;
		}
	}
	for (size_t i = 0; optind < argc && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[optind], modes[i].name))
			mode = &modes[i];
	if (!mode || !g.to || !g.count || !g.rate || !g.window ||
	    (mode->run == calls_run && (!g.callee || (!g.links.plain && (!g.cert || !g.key))))) {
		fprintf(stderr, "usage: tlsload --to PORT [--count N] [--window N] [--plain] [--resume] "
				"[--rate N --callee PORT "
				"--cert FILE --key FILE] idle|handshakes|calls\n");
		return 2;
	}
	prepare(mode);
	mode->run();
	return 0;
}
