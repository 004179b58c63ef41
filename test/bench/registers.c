/* Sends REGISTERs of many users, some at a time or at a rate, and counts their answers: registers --to PORT [--users N]
 * [--count N] [--rate N] [--window N] [--digest]. One thread, one socket; each user refreshes the same contact. With
 * --digest each user takes one challenge and goes on with its nonce. Prints: answered, refused, retransmissions,
 * seconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <gnutls/crypto.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DOMAIN_NAME "local.test"
#define RESEND      500000000u /* ns */
#define TRIES_MAX   10

struct user {
	unsigned cseq, nc, tries;
	uint64_t sent; /* ns */
	bool waiting;
	char nonce[96];
};

static struct {
	int fd;
	unsigned port, users, window;
	uint64_t count, rate;
	bool digest;
	struct user *user;
	unsigned waiting, next;
	uint64_t started, answered, refused, repeated;
} g = {.users = 1000, .window = 64, .count = 20000};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void md5(const char *text, size_t n, char out[static 33])
{
	unsigned char raw[16];
	gnutls_hash_fast(GNUTLS_DIG_MD5, text, n, raw);
	for (unsigned i = 0; i < 16; i++)
		sprintf(out + 2 * i, "%02x", raw[i]);
}

static void credentials(unsigned i, char *out, size_t len)
{
	struct user *u = &g.user[i];
	char text[512], ha1[33], ha2[33], response[33];

	out[0] = 0;
	if (!u->nonce[0])
		return;
	md5(text, (size_t)snprintf(text, sizeof(text), "u%u:" DOMAIN_NAME ":secret", i), ha1);
	md5(text, (size_t)snprintf(text, sizeof(text), "REGISTER:sip:" DOMAIN_NAME), ha2);
	md5(text, (size_t)snprintf(text, sizeof(text), "%s:%s:%08x:0a4f:auth:%s", ha1, u->nonce, u->nc, ha2),
	    response);
	snprintf(out, len,
		 "Authorization: Digest username=\"u%u\", realm=\"" DOMAIN_NAME
		 "\", nonce=\"%s\", uri=\"sip:" DOMAIN_NAME
		 "\", response=\"%s\", algorithm=MD5, cnonce=\"0a4f\", qop=auth, nc=%08x\r\n",
		 i, u->nonce, response, u->nc);
}

static void transmit(unsigned i)
{
	struct user *u = &g.user[i];
	char text[2048], auth[600];

	credentials(i, auth, sizeof(auth));
	int n = snprintf(text, sizeof(text),
			 "REGISTER sip:" DOMAIN_NAME
			 " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%u;branch=z9hG4bK%u.%u.%lx\r\n"
			 "Max-Forwards: 70\r\nFrom: <sip:u%u@" DOMAIN_NAME
			 ">;tag=t%u\r\nTo: <sip:u%u@" DOMAIN_NAME
			 ">\r\nCall-ID: c%u-%lx\r\nCSeq: %u REGISTER\r\nContact: <sip:u%u@127.0.0.1:%u>\r\n%s"
			 "Expires: 3600\r\nUser-Agent: registers\r\nContent-Length: 0\r\n\r\n",
			 g.port, i, u->cseq, (unsigned long)g.started, i, i, i, i, (unsigned long)g.started,
			 u->cseq, i, g.port, auth);
	u->sent = now_ns();
	if (send(g.fd, text, (size_t)n, 0) < 0 && errno != ECONNREFUSED && errno != EAGAIN) {
		perror("send");
		exit(1);
	}
}

static void begin(unsigned i)
{
	struct user *u = &g.user[i];
	u->cseq++;
	u->nc++;
	u->tries = 0;
	u->waiting = true;
	g.waiting++;
	transmit(i);
}

static void receive(void)
{
	char text[4096];
	ssize_t n;

	while ((n = recv(g.fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
		unsigned i, cseq, status;
		text[n] = 0;
		const char *to = strstr(text, "\nTo: <sip:u"), *number = strstr(text, "\nCSeq: ");
		if (!to || !number || sscanf(to, "\nTo: <sip:u%u", &i) != 1 ||
		    sscanf(number, "\nCSeq: %u", &cseq) != 1 || sscanf(text, "SIP/2.0 %u", &status) != 1 ||
		    i >= g.users)
			continue;
		struct user *u = &g.user[i];
		if (!u->waiting || cseq != u->cseq || status < 200)
			continue;
		const char *nonce = status == 401 && g.digest ? strstr(text, "nonce=\"") : NULL;
		if (nonce && u->tries < TRIES_MAX && sscanf(nonce, "nonce=\"%90[^\"]", u->nonce) == 1) {
			u->cseq++;
			u->nc = 1;
			u->tries++;
			transmit(i);
			continue;
		}
		u->waiting = false;
		g.waiting--;
		*(status == 200 ? &g.answered : &g.refused) += 1;
	}
}

static void resend(void)
{
	static uint64_t last;
	uint64_t now = now_ns();
	if (now - last < RESEND / 5)
		return;
	last = now;
	for (unsigned i = 0; i < g.users; i++) {
		struct user *u = &g.user[i];
		if (!u->waiting || now - u->sent < RESEND)
			continue;
		if (++u->tries > TRIES_MAX) {
			u->waiting = false;
			g.waiting--;
			g.refused++;
			continue;
		}
		g.repeated++;
		transmit(i);
	}
}

static uint64_t run(uint64_t count, uint64_t rate)
{
	uint64_t done = 0, start = now_ns();

	while (done < count || g.waiting) {
		uint64_t due = rate ? (now_ns() - start) * rate / 1000000000u : count;
		for (; done < count && done < due && g.waiting < g.window; done++) {
			for (unsigned tried = 0; g.user[g.next].waiting && tried < g.users; tried++)
				g.next = (g.next + 1) % g.users;
			begin(g.next);
			g.next = (g.next + 1) % g.users;
		}
		struct pollfd p = {g.fd, POLLIN, 0};
		poll(&p, 1, 1);
		receive();
		resend();
	}
	return now_ns() - start;
}

static void open_socket(unsigned to)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons((uint16_t)g.port)};
	int size = 4 << 20;

	g.fd = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(g.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (g.fd < 0 || bind(g.fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		perror("socket");
		exit(1);
	}
	a.sin_port = htons((uint16_t)to);
	if (connect(g.fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		perror("connect");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"to", required_argument, NULL, 't'},    {"from", required_argument, NULL, 'f'},
		{"users", required_argument, NULL, 'u'}, {"count", required_argument, NULL, 'c'},
		{"rate", required_argument, NULL, 'r'},  {"window", required_argument, NULL, 'w'},
		{"digest", no_argument, NULL, 'd'},      {0}};
	unsigned to = 0;
	int letter;

	while ((letter = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		unsigned long n = optarg ? strtoul(optarg, NULL, 10) : 0;
		switch (letter) {
		case 't': to = (unsigned)n; break;
		case 'f': g.port = (unsigned)n; break;
		case 'u': g.users = (unsigned)n; break;
		case 'c': g.count = n; break;
		case 'r': g.rate = n; break;
		case 'w': g.window = (unsigned)n; break;
		case 'd': g.digest = true; break;
		default: return 2;
		}
	}
	g.user = calloc(g.users ? g.users : 1, sizeof(*g.user));
	if (!g.user || !to || !g.port || g.window > g.users) {
		fputs("usage: registers --to PORT --from PORT [--users N] [--count N] [--rate N] [--window N] "
		      "[--digest]\n",
		      stderr);
		return 2;
	}
	open_socket(to);
	g.started = now_ns();
	run(g.users, 0); /* everybody is there, and has a nonce; then the driver's word */
	if (g.refused) {
		fprintf(stderr, "registers: %llu of the first were refused\n", (unsigned long long)g.refused);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	g.answered = g.refused = g.repeated = 0;
	uint64_t took = run(g.count, g.rate);
	printf("%llu %llu %llu %.6f\n", (unsigned long long)g.answered, (unsigned long long)g.refused,
	       (unsigned long long)g.repeated, (double)took / 1e9);
	free(g.user);
	close(g.fd);
	return 0;
}
