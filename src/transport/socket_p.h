/* What UDP and TCP sockets share. */
#ifndef TRANSPORT_SOCKET_P_H
#define TRANSPORT_SOCKET_P_H

#include "transport/inherit.h"

/* non-blocking, close-on-exec, IPv6 without IPv4; fd or -errno */
int socket_open(const struct addr *a, int type);
int socket_on(int fd, int level, int name);    /* sets a boolean option; 0 or -errno */
int socket_bind(int fd, const struct addr *a); /* 0 or -errno */
int socket_name(int fd, struct addr *out);     /* the address that it is bound to; 0 or -errno */

/* Main. Looks whether all listeners of one type (SOCK_DGRAM, SOCK_STREAM) can be opened, before the first of them is: ours may overlap (a
 * wildcard and an address), another process's may not, unless we have inherited it. *name says which could not. 0, -EADDRINUSE, other
 * -errno. */
int socket_check(const struct config *c, int type, const struct inheritance *in, const char **name);

#endif
