/* A bare UDP relay: what comes from the target goes to the last caller, everything else goes to the target, unchanged.
 * It does what a proxy cannot do without, receiving and sending, and nothing more: the floor of the bench. With --loss
 * it drops datagrams by a seeded generator, for tests of retransmission. */
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
#include <unistd.h>

#define BATCH    64
#define DATAGRAM 65536

struct relay {
	int front, back; /* towards the caller; towards the target (connected) */
	struct sockaddr_storage caller;
	socklen_t caller_len;
	unsigned loss; /* of 10,000 */
	uint64_t state;
};

static char bytes[BATCH][DATAGRAM];
static struct sockaddr_storage from[BATCH];
static struct iovec in_iov[BATCH], out_iov[BATCH];
static struct mmsghdr in[BATCH], out[BATCH];

static uint64_t relay_random(struct relay *r)
{
	/* xorshift64*: a run with the same seed and the same order of datagrams drops the same ones. */
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return r->state * 0x2545f4914f6cdd1d;
}

static bool relay_drops(struct relay *r)
{
	return r->loss && (relay_random(r) >> 32) % 10000 < r->loss;
}

static void relay_send(int fd, unsigned n)
{
	unsigned done = 0;

	while (done < n) {
		int rc = sendmmsg(fd, out + done, n - done, 0);

		if (rc > 0)
			done += (unsigned)rc;
		else if (errno == EAGAIN || errno == ENOBUFS)
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 10);
		else if (errno != EINTR)
			done++; /* refused by the other side: as if lost */
	}
}

/* One batch from one side to the other. */
static void relay_pass(struct relay *r, bool forward)
{
	int n = recvmmsg(forward ? r->front : r->back, in, BATCH, MSG_DONTWAIT, NULL);
	unsigned count = 0;

	for (int i = 0; i < n; i++) {
		if (!in[i].msg_len || relay_drops(r))
			continue;
		if (forward) {
			r->caller_len = in[i].msg_hdr.msg_namelen;
			memcpy(&r->caller, &from[i], r->caller_len);
		} else if (!r->caller_len) {
			continue;
		}
		out_iov[count] = (struct iovec){bytes[i], in[i].msg_len};
		out[count].msg_hdr = (struct msghdr){.msg_iov = &out_iov[count],
						     .msg_iovlen = 1,
						     .msg_name = forward ? NULL : &r->caller,
						     .msg_namelen = forward ? 0 : r->caller_len};
		count++;
	}
	for (int i = 0; i < n; i++)
		in[i].msg_hdr.msg_namelen = sizeof(from[i]);
	relay_send(forward ? r->back : r->front, count);
}

static void relay_run(struct relay *r)
{
	struct pollfd p[2] = {{.fd = r->front, .events = POLLIN}, {.fd = r->back, .events = POLLIN}};

	for (int i = 0; i < BATCH; i++) {
		in_iov[i] = (struct iovec){bytes[i], DATAGRAM};
		in[i].msg_hdr = (struct msghdr){.msg_iov = &in_iov[i],
						.msg_iovlen = 1,
						.msg_name = &from[i],
						.msg_namelen = sizeof(from[i])};
	}
	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents)
			relay_pass(r, true);
		if (p[1].revents)
			relay_pass(r, false);
	}
}

/* "127.0.0.1:5060" or "[::1]:5060". */
static int relay_address(const char *text, struct sockaddr_storage *sa, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)sa;
	const char *colon = strrchr(text, ':');
	bool six = text[0] == '[';
	char host[64];
	size_t n;

	if (!colon)
		return -1;
	n = six ? (size_t)(colon - text) - 2 : (size_t)(colon - text);
	if (n >= sizeof(host))
		return -1;
	memcpy(host, text + six, n);
	host[n] = '\0';
	memset(sa, 0, sizeof(*sa));
	if (six) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)atoi(colon + 1));
		*len = sizeof(*v6);
		return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 ? 0 : -1;
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons((uint16_t)atoi(colon + 1));
	*len = sizeof(*v4);
	return inet_pton(AF_INET, host, &v4->sin_addr) == 1 ? 0 : -1;
}

static int relay_socket(int family)
{
	int size = 4 << 20, fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		perror("relay: socket");
		exit(1);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
						{"to", required_argument, NULL, 't'},
						{"loss", required_argument, NULL, 'p'},
						{"seed", required_argument, NULL, 's'},
						{NULL, 0, NULL, 0}};
	const char *listen_text = "127.0.0.1:0", *to = NULL;
	struct relay r = {.state = 1};
	struct sockaddr_storage sa;
	socklen_t len;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'l': listen_text = optarg; break;
		case 't': to = optarg; break;
		case 'p': r.loss = (unsigned)(atof(optarg) * 100); break;
		case 's': r.state = strtoull(optarg, NULL, 10) * 0x9e3779b97f4a7c15 + 1; break;
		default: to = NULL; optind = argc + 1;
		}
	}
	if (!to || optind != argc) {
		fprintf(stderr,
			"usage: relay --to ADDRESS:PORT [--listen ADDRESS:PORT] [--loss PERCENT] [--seed N]\n");
		return 2;
	}
	if (relay_address(listen_text, &sa, &len)) {
		fprintf(stderr, "relay: %s: expected address:port\n", listen_text);
		return 2;
	}
	r.front = relay_socket(sa.ss_family);
	if (bind(r.front, (struct sockaddr *)&sa, len)) {
		perror("relay: bind");
		return 1;
	}
	getsockname(r.front, (struct sockaddr *)&sa, &len);
	/* Both families keep the port in the same place. */
	c = ntohs(((struct sockaddr_in *)&sa)->sin_port);
	if (relay_address(to, &sa, &len)) {
		fprintf(stderr, "relay: %s: expected address:port\n", to);
		return 2;
	}
	r.back = relay_socket(sa.ss_family);
	if (connect(r.back, (struct sockaddr *)&sa, len)) {
		perror("relay: connect");
		return 1;
	}
	printf("%d\n", c);
	fflush(stdout);
	relay_run(&r);
}
