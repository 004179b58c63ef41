/* Caller and callee in one, for what SIPp cannot do: floods of copies of one request, and many transactions held open.
 *
 *   flood repeat    INVITEs that ring; then copies of them in turn, each of which must be answered again
 *   flood inflight  bursts of a fresh MESSAGE and its copies, which arrive before the callee answers
 *   flood open      many distinct INVITEs that ring until told otherwise; then the callee declines every other one, and the
 *                   caller cancels the rest
 *
 * It talks with the driver in lines: prints what it reached as "word key=value ...", and waits for a line before it goes
 * on. It keeps to a rate and to what has been answered, so that no socket's buffer overflows. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH      64
#define DATAGRAM   4096
#define LAG        8 /* bursts that the callee lets pass before it answers */
#define BURST      32
#define UNANSWERED 256 /* copies, at most: so many fit into every buffer */

struct text {
	char *bytes;
	size_t len;
};

struct flood {
	int caller, callee;
	uint16_t caller_port, callee_port, proxy_port;
	struct sockaddr_in proxy;
	unsigned count, copies, rate;
	uint64_t run;       /* makes Call-IDs and branches of this run unlike any other's */
	struct text *asked; /* what the callee received, in the order of arrival */
	struct sockaddr_in *asker;
	unsigned asked_count;
	uint64_t provisional, final, other; /* what came back to the caller */
	uint64_t acks, cancels;             /* at the callee */
	unsigned *place;                    /* of an INVITE's number among those asked, plus one */
	bool ring;                          /* the callee answers 180 at once */
	bool hang_up;                       /* the caller acknowledges final responses */
};

static char in_bytes[BATCH][DATAGRAM];
static struct sockaddr_in in_from[BATCH];
static struct iovec in_iov[BATCH];
static struct mmsghdr in_msg[BATCH];

static uint64_t flood_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void flood_die(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int flood_socket(uint16_t *port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int size = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)))
		flood_die("bind");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	getsockname(fd, (struct sockaddr *)&a, &len);
	*port = ntohs(a.sin_port);
	return fd;
}

static size_t flood_request(const struct flood *f, char *out, const char *method, unsigned n)
{
	const char *sdp = "v=0\r\no=flood 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
			  "m=audio 6000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n";

	return (size_t)snprintf(out, DATAGRAM,
				"%s sip:%u@127.0.0.1:%u SIP/2.0\r\n"
				"Via: SIP/2.0/UDP 127.0.0.1:%u;branch=z9hG4bK-%llx-%u\r\n"
				"From: \"Flood\" <sip:flood@127.0.0.1:%u>;tag=f%u\r\n"
				"To: <sip:%u@127.0.0.1:%u>\r\n"
				"Call-ID: %u-%llx@127.0.0.1\r\n"
				"CSeq: 1 %s\r\n"
				"Contact: <sip:flood@127.0.0.1:%u>\r\n"
				"Max-Forwards: 70\r\n"
				"User-Agent: flood\r\n"
				"Content-Type: application/sdp\r\n"
				"Content-Length: %zu\r\n"
				"\r\n%s",
				method, n, f->proxy_port, f->caller_port, (unsigned long long)f->run, n,
				f->caller_port, n, n, f->proxy_port, n, (unsigned long long)f->run, method,
				f->caller_port, strlen(sdp), sdp);
}

/* The header lines whose name is `name`, copied to out; returns the bytes. */
static size_t flood_copy_headers(char *out, const char *msg, const char *name, const char *append)
{
	size_t len = strlen(name), used = 0;

	for (const char *line = strstr(msg, "\r\n"); line && line[2] != '\r'; line = strstr(line, "\r\n")) {
		const char *end;

		line += 2;
		end = strstr(line, "\r\n");
		if (!end)
			break;
		if (!strncasecmp(line, name, len) && line[len] == ':') {
			memcpy(out + used, line, (size_t)(end - line));
			used += (size_t)(end - line);
			used += (size_t)sprintf(out + used, "%s\r\n", append);
		}
		line = end;
	}
	return used;
}

static size_t flood_response(char *out, const char *request, const char *status)
{
	size_t n = (size_t)sprintf(out, "SIP/2.0 %s\r\n", status);

	n += flood_copy_headers(out + n, request, "Via", "");
	n += flood_copy_headers(out + n, request, "Record-Route", "");
	n += flood_copy_headers(out + n, request, "From", "");
	n += flood_copy_headers(out + n, request, "To", ";tag=callee");
	n += flood_copy_headers(out + n, request, "Call-ID", "");
	n += flood_copy_headers(out + n, request, "CSeq", "");
	return n + (size_t)sprintf(out + n, "Content-Length: 0\r\n\r\n");
}

static void flood_send_ack(const struct flood *f, const char *response)
{
	char out[2 * DATAGRAM];
	size_t n = (size_t)sprintf(out, "ACK sip:x@127.0.0.1:%u SIP/2.0\r\n", f->proxy_port);

	n += flood_copy_headers(out + n, response, "Via", "");
	n += flood_copy_headers(out + n, response, "From", "");
	n += flood_copy_headers(out + n, response, "To", "");
	n += flood_copy_headers(out + n, response, "Call-ID", "");
	n += (size_t)sprintf(out + n, "CSeq: 1 ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n");
	sendto(f->caller, out, n, 0, (const struct sockaddr *)&f->proxy, sizeof(f->proxy));
}

static void flood_answer(const struct flood *f, unsigned i, const char *status)
{
	char out[2 * DATAGRAM];
	size_t n = flood_response(out, f->asked[i].bytes, status);

	sendto(f->callee, out, n, 0, (struct sockaddr *)&f->asker[i], sizeof(f->asker[i]));
}

static void flood_at_caller(struct flood *f, const char *msg)
{
	if (strncmp(msg, "SIP/2.0 ", 8) != 0) {
		f->other++;
	} else if (strstr(msg, " CANCEL\r\n")) {
		f->other++;
	} else if (msg[8] == '1') {
		f->provisional++;
	} else {
		f->final++;
		if (f->hang_up)
			flood_send_ack(f, msg);
	}
}

/* The number in the Request-URI. */
static unsigned flood_number(const struct flood *f, const char *msg)
{
	const char *at = strstr(msg, " sip:");
	unsigned long n = at ? strtoul(at + 5, NULL, 10) : 0;

	return n < f->count ? (unsigned)n : 0;
}

static void flood_cancelled(struct flood *f, const char *msg, const struct sockaddr_in *from)
{
	char out[2 * DATAGRAM];
	unsigned place = f->place[flood_number(f, msg)];
	size_t n = flood_response(out, msg, "200 OK");

	sendto(f->callee, out, n, 0, (const struct sockaddr *)from, sizeof(*from));
	if (!place)
		return;
	f->cancels++;
	flood_answer(f, place - 1, "487 Request Terminated");
}

static void flood_at_callee(struct flood *f, const char *msg, size_t len, const struct sockaddr_in *from)
{
	if (!strncmp(msg, "CANCEL ", 7)) {
		flood_cancelled(f, msg, from);
		return;
	}
	if (!strncmp(msg, "ACK ", 4)) {
		f->acks++;
		return;
	}
	if (f->asked_count == f->count)
		return; /* retransmitted by the proxy */
	f->asked[f->asked_count].bytes = strndup(msg, len);
	f->asked[f->asked_count].len = len;
	f->place[flood_number(f, msg)] = f->asked_count + 1;
	f->asker[f->asked_count++] = *from;
	if (f->ring)
		flood_answer(f, f->asked_count - 1, "180 Ringing");
}

/* Takes what waits at both sockets, after waiting at most so long for it. */
static void flood_receive(struct flood *f, int ms)
{
	struct pollfd p[2] = {{.fd = f->caller, .events = POLLIN}, {.fd = f->callee, .events = POLLIN}};

	if (poll(p, 2, ms) <= 0)
		return;
	for (int side = 0; side < 2; side++) {
		int n = BATCH;

		while (p[side].revents && n == BATCH) {
			for (int i = 0; i < BATCH; i++) {
				in_iov[i] = (struct iovec){in_bytes[i], DATAGRAM - 1};
				in_msg[i].msg_hdr = (struct msghdr){.msg_iov = &in_iov[i],
								    .msg_iovlen = 1,
								    .msg_name = &in_from[i],
								    .msg_namelen = sizeof(in_from[i])};
			}
			n = recvmmsg(p[side].fd, in_msg, BATCH, MSG_DONTWAIT, NULL);
			for (int i = 0; i < n; i++) {
				in_bytes[i][in_msg[i].msg_len] = '\0';
				if (side == 0)
					flood_at_caller(f, in_bytes[i]);
				else
					flood_at_callee(f, in_bytes[i], in_msg[i].msg_len, &in_from[i]);
			}
		}
	}
}

/* Sends n times the same bytes, or one of each when `texts` has n. */
static void flood_burst(struct flood *f, const struct text *texts, unsigned distinct, unsigned n)
{
	static struct iovec iov[1024];
	static struct mmsghdr msg[1024];
	unsigned done = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct text *t = &texts[i < distinct ? i : distinct - 1];

		iov[i] = (struct iovec){t->bytes, t->len};
		msg[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i],
						 .msg_iovlen = 1,
						 .msg_name = &f->proxy,
						 .msg_namelen = sizeof(f->proxy)};
	}
	while (done < n) {
		int rc = sendmmsg(f->caller, msg + done, n - done, 0);

		if (rc > 0)
			done += (unsigned)rc;
		else if (errno != EINTR && errno != ECONNREFUSED)
			flood_die("sendmmsg");
	}
}

/* Receives until `at`. */
static void flood_pace(struct flood *f, uint64_t at)
{
	for (;;) {
		uint64_t now = flood_now();

		if (now >= at) {
			flood_receive(f, 0);
			return;
		}
		flood_receive(f, (int)((at - now) / 1000000));
	}
}

/* Receives until *counter reaches `want`, or nothing of it has come for so long. */
static bool flood_wait(struct flood *f, const uint64_t *counter, uint64_t want, unsigned ms)
{
	uint64_t seen = *counter, last = flood_now();

	while (*counter < want) {
		flood_receive(f, 10);
		if (*counter != seen) {
			seen = *counter;
			last = flood_now();
		} else if (flood_now() - last > ms * 1000000u) {
			return false;
		}
	}
	return true;
}

/* Says a line, and waits for the driver's; meanwhile goes on receiving. */
static void flood_meet(struct flood *f, const char *word, uint64_t sent)
{
	char c = 0;

	printf("%s sent=%llu asked=%u provisional=%llu final=%llu acks=%llu cancels=%llu\n", word,
	       (unsigned long long)sent, f->asked_count, (unsigned long long)f->provisional,
	       (unsigned long long)f->final, (unsigned long long)f->acks, (unsigned long long)f->cancels);
	fflush(stdout);
	while (c != '\n') {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

		flood_receive(f, 5);
		if (poll(&p, 1, 0) > 0 && read(STDIN_FILENO, &c, 1) <= 0)
			exit(0);
	}
}

static struct text *flood_texts(const struct flood *f)
{
	struct text *t = calloc(f->count, sizeof(*t));

	if (!t)
		flood_die("memory");
	for (unsigned i = 0; i < f->count; i++) {
		t[i].bytes = malloc(DATAGRAM);
		if (!t[i].bytes)
			flood_die("memory");
		t[i].len = flood_request(f, t[i].bytes, "INVITE", i);
	}
	return t;
}

/* Copies of the requests in turn. A server may absorb one without an answer while another is still being worked on:
 * then what is missing is no longer waited for. */
static uint64_t flood_copies(struct flood *f, const struct text *t)
{
	uint64_t start = flood_now(), base = f->provisional, sent = 0, missing = 0;
	unsigned next = 0;

	while (sent < f->copies) {
		unsigned n = f->count - next < BURST ? f->count - next : BURST;

		if (f->count == 1)
			n = BURST;
		flood_burst(f, t + next, f->count - next, n);
		next = next + n < f->count ? next + n : 0;
		sent += n;
		flood_pace(f, start + sent * 1000000000u / f->rate);
		if (sent - missing > f->provisional - base + UNANSWERED &&
		    !flood_wait(f, &f->provisional, base + sent - missing - UNANSWERED, 10))
			missing = sent - (f->provisional - base);
	}
	flood_wait(f, &f->provisional, base + sent - missing, 100);
	f->provisional -= base;
	return sent;
}

static void flood_repeat(struct flood *f)
{
	struct text *t = flood_texts(f);
	uint64_t sent;

	f->ring = true;
	for (unsigned i = 0; i < f->count; i++)
		flood_burst(f, &t[i], 1, 1);
	/* 100 of the proxy's, 180. */
	if (!flood_wait(f, &f->provisional, 2 * f->count, 1000))
		flood_die("no 180 came");
	flood_meet(f, "ready", f->count);
	sent = flood_copies(f, t);
	flood_meet(f, "done", sent);
	f->hang_up = true;
	for (unsigned i = 0; i < f->asked_count; i++)
		flood_answer(f, i, "486 Busy Here");
	flood_wait(f, &f->final, f->asked_count, 1000);
	flood_meet(f, "end", sent);
}

static void flood_inflight(struct flood *f)
{
	static char bytes[DATAGRAM];
	uint64_t start, sent = 0;
	unsigned answered = 0;

	flood_meet(f, "ready", 0);
	start = flood_now();
	for (unsigned i = 0; i < f->count; i++) {
		struct text t = {bytes, flood_request(f, bytes, "MESSAGE", i)};

		flood_burst(f, &t, 1, 1 + f->copies);
		sent += 1 + f->copies;
		flood_pace(f, start + (uint64_t)(i + 1) * 1000000000u / f->rate);
		while (answered + LAG < f->asked_count)
			flood_answer(f, answered++, "200 OK");
	}
	/* The callee has seen every fresh one: give the last copies the time of a few bursts, then answer. */
	for (uint64_t end = flood_now() + 2000000000u; f->asked_count < f->count && flood_now() < end;)
		flood_receive(f, 10);
	flood_pace(f, flood_now() + 20000000u);
	while (answered < f->asked_count)
		flood_answer(f, answered++, "200 OK");
	flood_wait(f, &f->final, f->asked_count, 1000);
	flood_meet(f, "done", sent);
}

static void flood_open(struct flood *f)
{
	static char bytes[16][DATAGRAM];
	struct text t[16];
	uint64_t start, sent = 0;

	f->ring = true;
	flood_meet(f, "ready", 0);
	start = flood_now();
	while (sent < f->count) {
		unsigned n = 0;

		for (; n < 16 && sent + n < f->count; n++)
			t[n] = (struct text){bytes[n],
					     flood_request(f, bytes[n], "INVITE", (unsigned)sent + n)};
		flood_burst(f, t, n, n);
		sent += n;
		flood_pace(f, start + sent * 1000000000u / f->rate);
	}
	flood_wait(f, &f->provisional, 2 * sent, 1000);
	flood_meet(f, "open", sent);
	f->hang_up = true;
	start = flood_now();
	for (unsigned i = 0; i < f->asked_count; i++) {
		unsigned number = flood_number(f, f->asked[i].bytes);

		if (number & 1) {
			t[0].len = flood_request(f, bytes[0], "CANCEL", number);
			flood_burst(f, t, 1, 1);
		} else {
			flood_answer(f, i, "486 Busy Here");
		}
		if (i % 16 == 15)
			flood_pace(f, start + (uint64_t)(i + 1) * 1000000000u / f->rate);
	}
	flood_wait(f, &f->final, f->asked_count, 1000);
	flood_meet(f, "end", sent);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"to", required_argument, NULL, 't'},    {"callee", required_argument, NULL, 'u'},
		{"count", required_argument, NULL, 'n'}, {"copies", required_argument, NULL, 'c'},
		{"rate", required_argument, NULL, 'r'},  {NULL, 0, NULL, 0}};
	struct flood f = {.count = 1, .copies = 63, .rate = 1000};
	const char *mode;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't': f.proxy_port = (uint16_t)atoi(optarg); break;
		case 'u': f.callee_port = (uint16_t)atoi(optarg); break;
		case 'n': f.count = (unsigned)atoi(optarg); break;
		case 'c': f.copies = (unsigned)atoi(optarg); break;
		case 'r': f.rate = (unsigned)atoi(optarg); break;
		default: f.proxy_port = 0;
		}
	}
	mode = optind < argc ? argv[optind] : "";
	if (!f.proxy_port || !f.callee_port || !f.count || !f.rate ||
	    (!strcmp(mode, "inflight") && f.copies > 1000)) {
		fprintf(stderr, "usage: flood --to PORT --callee PORT [--count N] [--copies N] [--rate N] "
				"repeat|inflight|open\n");
		return 2;
	}
	f.proxy = (struct sockaddr_in){.sin_family = AF_INET,
				       .sin_port = htons(f.proxy_port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	f.caller = flood_socket(&f.caller_port);
	f.callee = flood_socket(&f.callee_port);
	f.run = flood_now() ^ ((uint64_t)getpid() << 40);
	f.asked = calloc(f.count, sizeof(*f.asked));
	f.asker = calloc(f.count, sizeof(*f.asker));
	f.place = calloc(f.count, sizeof(*f.place));
	if (!f.asked || !f.asker || !f.place)
		flood_die("memory");
	if (!strcmp(mode, "repeat"))
		flood_repeat(&f);
	else if (!strcmp(mode, "inflight"))
		flood_inflight(&f);
	else if (!strcmp(mode, "open"))
		flood_open(&f);
	else
		return 2;
	return 0;
}
