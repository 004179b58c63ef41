/* The planned restart: a new process takes the sockets, the plain TCP connections and the store over from the one that
 * runs. The new one listens on a socket of its own beside the control socket, and asks by the control socket (POST
 * /takeover) that it be called there; the old one ends its threads, sends everything with SCM_RIGHTS, closes the store,
 * says so, and ends. What arrives meanwhile waits in the kernel. */
#ifndef CONTROL_TAKEOVER_H
#define CONTROL_TAKEOVER_H

#include <sys/types.h>

#include "transport/inherit.h"

struct server;

/* New process, main, before anything is opened. Looks which sockets of its configuration it cannot open beside the
 * running process, asks the process behind the control socket, and takes what it gives; returns when that one has
 * closed its store. 0; -ENOENT: nobody is there (a usual start is in order); -EPIPE, -ECONNRESET with a line in err: it
 * has ended in the middle of it; other -errno with a line in err: nothing has been taken, the old one goes on. */
int takeover_receive(const struct config *c, struct inheritance *in, char *err, size_t errlen);

/* Old process, before it promises anything: whether what the new one cannot open (`needs`: "udp:192.0.2.1:5060", a line each) is ours. 0, or
 * -errno with a line in text: it is somebody else's, or no address of this machine, and the new process could not start. */
int takeover_look(const struct config *c, struct slice needs, char *text, size_t len);
/* Old process, main: connects to the new one. fd or -errno. */
int takeover_call(const char *path);
/* Old process, main, when only main runs any more. Gives everything. The process is then to end without closing a
 * connection's other half: by _exit. */
void takeover_give(struct server *s, int fd);

/* Old process, main: starts a new one of the same program with the same arguments and --takeover. 0 and its number, or
 * -errno. */
int takeover_spawn(char *const *argv, pid_t *child);

#endif
