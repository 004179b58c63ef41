"""Ports of this machine: a free one, and whether somebody has one open, without sending anything."""
import random
import socket

LISTEN, UNCONNECTED = "0A", "07"  # states in /proc/net, of TCP and of UDP


def free_port(family=socket.AF_INET):
    """A port below the ephemeral ones, so that nobody is given it by chance; free for UDP and TCP."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    for _ in range(200):
        port = random.SystemRandom().randrange(10000, 32000)
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as u, socket.socket(family, socket.SOCK_STREAM) as t:
                u.bind((host, port))
                t.bind((host, port))
                return port
        except OSError:
            pass
    raise AssertionError("no free port")


def port_has_state(port, name, state):
    for path in (f"/proc/net/{name}", f"/proc/net/{name}6"):
        try:
            with open(path) as f:
                next(f)
                for line in f:
                    _, local, _, now, _ = line.split(None, 4)
                    if now == state and int(local.rsplit(":", 1)[1], 16) == port:
                        return True
        except FileNotFoundError:  # a kernel without IPv6
            pass
    return False


def udp_port_open(port):
    return port_has_state(port, "udp", UNCONNECTED)


def tcp_port_open(port):
    return port_has_state(port, "tcp", LISTEN)
