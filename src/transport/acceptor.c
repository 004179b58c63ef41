#include "transport/acceptor_p.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log.h"
#include "transport/packet_p.h"
#include "transport/stream_p.h"

#define ACCEPTOR_EVENTS  64
#define ACCEPTOR_SWEEP   4 /* up to so many sockets are simply read after a pause, instead of asking epoll */
#define ACCEPTOR_SWEEPS  8 /* … so often in a row, where there are listening sockets but no connection */
#define ACCEPTOR_NAP_MIN 10000 /* ns: a shorter pause costs more than it gathers */

/* --- receiving --- */

static void acceptor_slot_reset(struct acceptor *a, unsigned i)
{
	struct msghdr *h = &a->header[i].msg_hdr;
	a->iov[i] = (struct iovec){a->slots + (size_t)i * (a->slot_size + ACCEPTOR_STAGGER), a->slot_size};
	*h = (struct msghdr){.msg_name = &a->name[i],
			     .msg_namelen = sizeof(a->name[i]),
			     .msg_iov = &a->iov[i],
			     .msg_iovlen = 1,
			     .msg_control = &a->control[i],
			     .msg_controllen = sizeof(a->control[i])};
}

static void acceptor_overflow(struct acceptor_source *s, uint32_t total)
{
	static struct log_limiter limiter;
	uint64_t missed;
	if (total == s->overflow)
		return;
	count_add(CNT_SOCKET_OVERFLOW,
		  total - s->overflow); /* the kernel's count wraps, the difference does not */
	s->overflow = total;
	if (log_limit(&limiter, 1, &missed))
		log_warning("transport",
			    "receive buffer full: the kernel has dropped %u datagrams of a socket so far",
			    total);
}

/* The addressee of a datagram, as the kernel tells it for wildcard sockets. */
static void acceptor_local(struct addr *local, const struct cmsghdr *c)
{
	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
		struct in_pktinfo pi;
		memcpy(&pi, CMSG_DATA(c), sizeof(pi));
		memcpy(local->ip, &pi.ipi_spec_dst, 4); /* ours even when it was sent to a broadcast address */
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
		struct in6_pktinfo pi;
		memcpy(&pi, CMSG_DATA(c), sizeof(pi));
		if (IN6_IS_ADDR_MULTICAST(&pi.ipi6_addr))
			return;
		memcpy(local->ip, &pi.ipi6_addr, 16);
		if (IN6_IS_ADDR_LINKLOCAL(&pi.ipi6_addr))
			local->scope = (uint32_t)pi.ipi6_ifindex;
	}
}

static void acceptor_control(struct acceptor_source *s, struct msghdr *h, struct datagram *d)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET) {
			acceptor_local(&d->local, c);
		} else if (c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec ts;
			memcpy(&ts, CMSG_DATA(c), sizeof(ts));
			d->received = (nsec_t)ts.tv_sec * 1000000000u + (nsec_t)ts.tv_nsec;
		} else if (c->cmsg_type == SO_RXQ_OVFL) {
			uint32_t total;
			memcpy(&total, CMSG_DATA(c), sizeof(total));
			acceptor_overflow(s, total);
		}
	}
}

static void acceptor_datagram(struct acceptor *a, struct acceptor_source *s, unsigned i)
{
	struct msghdr *h = &a->header[i].msg_hdr;
	struct datagram d = {.bytes = slice_make(a->iov[i].iov_base, a->header[i].msg_len),
			     .local = s->bound,
			     .truncated = h->msg_flags & MSG_TRUNC};
	acceptor_control(s, h, &d);
	if (s->udp->wildcard && addr_is_any(&d.local))
		d.local.family = 0;
	if (!d.received)
		d.received = clock_wall_ns();
	if (addr_from_sockaddr((struct sockaddr *)&a->name[i], &d.remote) == 0)
		datagram_receive(a, s, &d);
}

/* Takes what is there, one batch at most. Returns how many datagrams. */
static unsigned acceptor_receive(struct acceptor *a, struct acceptor_source *s)
{
	int n = recvmmsg(s->udp->fd, a->header, ACCEPTOR_SLOTS, MSG_DONTWAIT, NULL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* An ICMP error of something sent earlier, reported once on the way. */
		icmp_read(a, s);
		n = recvmmsg(s->udp->fd, a->header, ACCEPTOR_SLOTS, MSG_DONTWAIT, NULL);
	}
	if (n <= 0)
		return 0;
	count(CNT_RECV_CALLS);
	for (int i = 0; i < n; i++) {
		if (i + 1 < n)
			__builtin_prefetch(a->iov[i + 1].iov_base);
		acceptor_datagram(a, s, (unsigned)i);
		acceptor_slot_reset(a, (unsigned)i);
	}
	return (unsigned)n;
}

/* --- the loop --- */

static void acceptor_begin(struct acceptor *a)
{
	a->begun = clock_mono_ns();
	thread_beat(&a->thread, a->begun / 1000000u);
}

static void acceptor_wake(struct acceptor *a)
{
	eventfd_t n;
	eventfd_read(a->event, &n);
	if (a->streams)
		stream_take_adopted(a);
}

/* Returns how many datagrams there were. */
static unsigned acceptor_event(struct acceptor *a, struct source *s, uint32_t events)
{
	switch ((enum source_kind)s->kind) {
	case SOURCE_EVENT: acceptor_wake(a); break;
	case SOURCE_UDP:
		if (events & EPOLLERR)
			icmp_read(a, (struct acceptor_source *)s);
		/* Also when there is nothing but an error: reading clears what the error queue had no room for. */
		return acceptor_receive(a, (struct acceptor_source *)s);
	case SOURCE_LISTEN: stream_accept(a, (struct acceptor_listen *)s); break;
	case SOURCE_CONN: stream_event(a, (struct conn *)s, events); break;
	}
	return 0;
}

/* How long to wait for events: ms, -1: for ever. Promises a sign of life for then. */
static int acceptor_patience(struct acceptor *a)
{
	msec_t next = wheel_next(&a->wheel), now;
	if (a->pending)
		return 0;
	thread_sleep(&a->thread, next);
	if (next == UINT64_MAX)
		return -1;
	now = clock_mono_ms();
	if (next <= now)
		return 0;
	return next - now > INT_MAX ? INT_MAX : (int)(next - now);
}

/* Waits for events, if it may, and works on them. Returns how many datagrams there were. */
static unsigned acceptor_poll(struct acceptor *a, bool wait)
{
	struct epoll_event ev[ACCEPTOR_EVENTS];
	unsigned got = 0;
	int n = epoll_wait(a->epoll, ev, ACCEPTOR_EVENTS, wait ? acceptor_patience(a) : 0);
	acceptor_begin(a);
	a->sweeps = 0;
	for (int i = 0; i < n; i++)
		got += acceptor_event(a, ev[i].data.ptr, ev[i].events);
	return got;
}

/* True if the UDP sockets can be read without asking epoll first. */
static bool acceptor_sweeps(struct acceptor *a)
{
	if (!a->sources || a->sources > ACCEPTOR_SWEEP || a->own)
		return false;
	return !a->listens || a->sweeps++ < ACCEPTOR_SWEEPS;
}

/* Reads without asking what is ready: under load, most are. */
static unsigned acceptor_sweep(struct acceptor *a)
{
	unsigned got = 0;
	if (!acceptor_sweeps(a))
		return acceptor_poll(a, false);
	acceptor_begin(a);
	for (unsigned i = 0; i < a->sources; i++)
		got += acceptor_receive(a, &a->source[i]);
	return got;
}

/* What epoll does not tell about connections. Returns how many messages have come over them in this batch. */
static unsigned acceptor_streams(struct acceptor *a)
{
	unsigned got;
	if (a->pending)
		stream_read_pending(a);
	wheel_run(&a->wheel, a->begun / 1000000u);
	got = a->got;
	a->got = 0;
	return got;
}

static void acceptor_nap(nsec_t until)
{
	struct timespec ts = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

/* After a batch of `got`: true if the next one is to be read without waiting in epoll, having paused so long that a
 * datagram that came when this batch was begun has not waited longer than `gather`. */
static bool acceptor_gather(struct acceptor *a, unsigned got)
{
	nsec_t pause = atomic_load_explicit(&a->gather, memory_order_relaxed) * (nsec_t)1000;
	nsec_t now = clock_mono_ns();
	gather_note(&a->rate, now, got);
	if (!got || !pause || !gather_pays(&a->rate, pause))
		return false;
	if (got < ACCEPTOR_SLOTS && a->begun + pause > now + ACCEPTOR_NAP_MIN)
		acceptor_nap(a->begun + pause);
	return true;
}

static void acceptor_main(void *arg)
{
	struct acceptor *a = arg;
	bool more = false;
	prctl(PR_SET_TIMERSLACK, 1ul); /* else each pause would be 50 µs longer */
	packet_use_pool(&a->pool);
	while (!atomic_load_explicit(&a->stopping, memory_order_acquire)) {
		unsigned got = more ? acceptor_sweep(a) : acceptor_poll(a, true);
		if (a->streams)
			got += acceptor_streams(a);
		a->upper.flush(a->upper.ctx);
		more = acceptor_gather(a, got);
	}
	packet_use_pool(NULL);
}

/* --- life --- */

int acceptor_watch(struct acceptor *a, int fd, uint32_t events, struct source *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};
	return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int acceptor_sources_make(struct acceptor *a)
{
	const struct udp *u = a->udp;
	a->source = calloc(u->listeners ? u->listeners : 1, sizeof(*a->source));
	if (!a->source)
		return -ENOMEM;
	for (unsigned i = 0; i < u->listeners; i++) {
		const struct udp_socket *sock = udp_socket(u, i, a->index);
		if (!sock)
			continue;
		struct acceptor_source *s = &a->source[a->sources];
		*s = (struct acceptor_source){.source = {SOURCE_UDP}, .udp = sock, .bound = u->bound[i]};
		int rc = acceptor_watch(a, sock->fd, EPOLLIN, &s->source);
		if (rc)
			return rc;
		a->sources++;
	}
	return 0;
}

static int acceptor_slots_make(struct acceptor *a)
{
	size_t size = (size_t)ACCEPTOR_SLOTS * (a->slot_size + ACCEPTOR_STAGGER);
	/* Pages that no large datagram has touched are never there. */
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	a->slots = p;
	for (unsigned i = 0; i < ACCEPTOR_SLOTS; i++)
		acceptor_slot_reset(a, i);
	return 0;
}

int acceptor_create(const struct acceptor_config *c, struct acceptor **out)
{
	struct acceptor *a = aligned_alloc(64, (sizeof(*a) + 63) & ~(size_t)63);
	int rc;
	if (!a)
		return -ENOMEM;
	memset(a, 0, sizeof(*a));
	a->index = c->index;
	a->udp = c->udp;
	a->streams = c->streams;
	a->upper = c->upper;
	a->event = a->epoll = -1;
	a->slot_size = c->max_datagram && c->max_datagram < SIP_MESSAGE_MAX ? c->max_datagram : SIP_MESSAGE_MAX;
	acceptor_reconfigure(a, c->gather, c->retry_after);
	thread_beat(&a->thread, clock_mono_ms());
	wheel_init(&a->wheel, clock_mono_ms());
	pool_init(&a->pool);
	rc = inflight_init(&a->inflight);
	if (rc)
		goto fail;
	rc = acceptor_slots_make(a);
	if (rc)
		goto fail;
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	a->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->epoll < 0 || a->event < 0) {
		rc = -errno;
		goto fail;
	}
	a->wake.kind = SOURCE_EVENT;
	rc = acceptor_watch(a, a->event, EPOLLIN, &a->wake);
	if (!rc)
		rc = acceptor_sources_make(a);
	if (!rc && a->streams)
		rc = stream_init(a);
	if (rc)
		goto fail;
	*out = a;
	return 0;
fail:
	acceptor_destroy(a);
	return rc;
}

int acceptor_start(struct acceptor *a)
{
	return thread_start(&a->thread, "hf-accept", a->index, acceptor_main, a);
}

void acceptor_stop(struct acceptor *a)
{
	if (!a->thread.running)
		return;
	atomic_store_explicit(&a->stopping, true, memory_order_release);
	while (eventfd_write(a->event, 1) < 0 && errno == EINTR)
		;
	thread_join(&a->thread);
}

void acceptor_destroy(struct acceptor *a)
{
	if (!a)
		return;
	acceptor_stop(a);
	stream_deinit(a);
	if (a->epoll >= 0)
		close(a->epoll);
	if (a->event >= 0)
		close(a->event);
	if (a->slots)
		munmap(a->slots, (size_t)ACCEPTOR_SLOTS * (a->slot_size + ACCEPTOR_STAGGER));
	inflight_deinit(&a->inflight);
	pool_deinit(&a->pool);
	free(a->source);
	free(a);
}

void acceptor_reconfigure(struct acceptor *a, uint32_t gather, uint32_t retry_after)
{
	atomic_store_explicit(&a->gather, gather, memory_order_relaxed);
	atomic_store_explicit(&a->retry_after, retry_after, memory_order_relaxed);
}

bool acceptor_alive(const struct acceptor *a, msec_t now)
{
	return thread_alive(&a->thread, now);
}
