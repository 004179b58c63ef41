/* The socket under a TLS session. GnuTLS is never told that the kernel takes no more: a retry inside of it that meets a
 * key update sends bytes twice (gnutls_record_send with a record half sent, 3.7). What the kernel does not take waits
 * here. And it is given what was read in one system call, where by itself it would ask for each record's five bytes of
 * header first. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/tls_session_p.h"

static int out_grow(struct tls_io *io, size_t more)
{
	size_t cap = io->out_len + more;
	char *p;

	if (cap <= io->out_cap)
		return 0;
	p = realloc(io->out, cap);
	if (!p)
		return -ENOMEM;
	io->out = p;
	io->out_cap = cap;
	return 0;
}

static ssize_t on_push(gnutls_transport_ptr_t ptr, const giovec_t *v, int n)
{
	struct tls_io *io = ptr;
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	if (out_grow(io, len) < 0) {
		errno = ENOMEM;
		return -1;
	}
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len)
			memcpy(io->out + io->out_len, v[i].iov_base, v[i].iov_len);
		io->out_len += v[i].iov_len;
	}
	return (ssize_t)len;
}

static ssize_t pull_direct(struct tls_io *io, void *p, size_t len)
{
	ssize_t n = recv(io->fd, p, len, MSG_DONTWAIT);

	if (n == 0)
		io->ended = true;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		io->error = errno;
	return n;
}

static ssize_t on_pull(gnutls_transport_ptr_t ptr, void *p, size_t len)
{
	struct tls_io *io = ptr;
	size_t n = len < io->in_len ? len : io->in_len;

	if (io->direct)
		return pull_direct(io, p, len);
	if (!n) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(p, io->in, n);
	io->in += n;
	io->in_len -= n;
	return (ssize_t)n;
}

/* Called only by functions that wait, of which we use none. */
static int on_wait(gnutls_transport_ptr_t ptr, unsigned ms)
{
	(void)ptr, (void)ms;
	return 1;
}

void tls_io_init(struct tls_io *io, int fd, _Atomic uint64_t *raw, gnutls_session_t s)
{
	*io = (struct tls_io){.fd = fd, .raw = raw, .direct = true};
	gnutls_transport_set_ptr(s, io);
	gnutls_transport_set_vec_push_function(s, on_push);
	gnutls_transport_set_pull_function(s, on_pull);
	gnutls_transport_set_pull_timeout_function(s, on_wait);
}

void tls_io_deinit(struct tls_io *io)
{
	free(io->out);
	free(io->kept);
}

int tls_io_flush(struct tls_io *io)
{
	while (io->out_sent < io->out_len) {
		ssize_t n = send(io->fd, io->out + io->out_sent, io->out_len - io->out_sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		io->out_sent += (size_t)n;
		atomic_fetch_add_explicit(io->raw, (uint64_t)n, memory_order_relaxed);
	}
	free(io->out); /* an idle connection has no buffer */
	io->out = NULL;
	io->out_len = io->out_sent = io->out_cap = 0;
	return 0;
}

ssize_t tls_io_fill(struct tls_io *io, char *p, size_t cap)
{
	ssize_t n;

	/* A socket that gave less than it was asked for is empty; if it is not any more, epoll says so. */
	if (io->drained) {
		io->drained = false;
		return -EAGAIN;
	}
	do
		n = recv(io->fd, p, cap, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	io->in = p;
	io->in_len = (size_t)n;
	io->drained = n && (size_t)n < cap;
	return n;
}

int tls_io_keep(struct tls_io *io)
{
	char *p = NULL;

	if (io->in_len) {
		p = malloc(io->in_len);
		if (!p)
			return -ENOMEM;
		memcpy(p, io->in, io->in_len);
	}
	free(io->kept);
	io->in = io->kept = p;
	return 0;
}
