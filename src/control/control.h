/* The control socket: HTTP with JSON on a unix socket, for holdfastctl(8). A thread of libmicrohttpd's own answers;
 * what changes the proxy's life goes to main as a command. Whoever may open the socket may do all: its mode is 0600. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stddef.h>

#define CONTROL_SOCKET_DEFAULT "/run/holdfast/control.sock" /* of the option control.socket */

struct control;
struct server;

/* Main. Makes the socket at `path` (and its folder); one left by a process that is gone is replaced. 0, or -errno with
 * a line in err. */
int control_start(const char *path, struct server *s, struct control **out, char *err, size_t errlen);
void control_stop(struct control *c); /* removes the socket; NULL does nothing */
/* Main. The socket is another process's now: control_stop leaves it there. */
void control_disown(struct control *c);

#endif
