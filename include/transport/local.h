/* Our own addresses. Any thread; each call makes system calls, so callers keep the answers. */
#ifndef TRANSPORT_LOCAL_H
#define TRANSPORT_LOCAL_H

#include "base/addr.h"

/* The address that a listener bound to `bound` has towards `dest`, with the port of `bound`: its own, or for a wildcard
 * the one that the kernel's routes choose. 0, -EAFNOSUPPORT (dest is of another family), -ENETUNREACH, other -errno. */
int local_source(const struct addr *bound, const struct addr *dest, struct addr *out);

/* The addresses under which a listener bound to `bound` is reached, with its port: its own, or for a wildcard those of
 * all interfaces of its family that are up. Returns how many were written, at most max; -errno. */
int local_list(const struct addr *bound, struct addr *out, unsigned max);

#endif
