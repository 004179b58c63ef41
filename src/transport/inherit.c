#include "transport/inherit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int inherit_take(struct inheritance *in, enum flow_proto proto, const struct addr *bound, unsigned acceptor)
{
	for (unsigned i = 0; in && i < in->sockets; i++) {
		struct inherited_socket *s = &in->socket[i];
		if (s->fd < 0 || s->proto != proto || s->acceptor != acceptor || !addr_eq(&s->bound, bound))
			continue;
		int fd = s->fd;
		s->fd = -1;
		return fd;
	}
	return -1;
}

bool inherit_overlaps(enum flow_proto p, const struct addr *a, enum flow_proto q, const struct addr *b)
{
	return (p == FLOW_UDP) == (q == FLOW_UDP) && a->family == b->family && a->port == b->port &&
	       (addr_is_any(a) || addr_is_any(b) || addr_eq_ip(a, b));
}

bool inherit_has(const struct inheritance *in, enum flow_proto proto, const struct addr *bound)
{
	for (unsigned i = 0; in && i < in->sockets; i++)
		if (in->socket[i].fd >= 0 &&
		    inherit_overlaps(in->socket[i].proto, &in->socket[i].bound, proto, bound))
			return true;
	return false;
}

/* Room for one more in an array that doubles at powers of two. */
static void *grow(void *array, unsigned n, size_t size)
{
	if (n & (n - 1))
		return array;
	return realloc(array, (n ? 2 * (size_t)n : 1) * size);
}

int inherit_add_socket(struct inheritance *in, const struct inherited_socket *s)
{
	struct inherited_socket *more = grow(in->socket, in->sockets, sizeof(*more));
	if (!more)
		return -ENOMEM;
	in->socket = more;
	in->socket[in->sockets++] = *s;
	return 0;
}

int inherit_add_conn(struct inheritance *in, const struct inherited_conn *c)
{
	struct inherited_conn *more = grow(in->conn, in->conns, sizeof(*more));
	if (!more)
		return -ENOMEM;
	in->conn = more;
	in->conn[in->conns++] = *c;
	return 0;
}

void inherit_deinit(struct inheritance *in)
{
	for (unsigned i = 0; i < in->sockets; i++)
		if (in->socket[i].fd >= 0)
			close(in->socket[i].fd);
	for (unsigned i = 0; i < in->conns; i++) {
		if (in->conn[i].fd >= 0)
			close(in->conn[i].fd);
		free(in->conn[i].in);
		free(in->conn[i].queue);
	}
	free(in->socket);
	free(in->conn);
	*in = (struct inheritance){0};
}
