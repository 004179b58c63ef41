#!/usr/bin/env python3
"""Strangers on the TCP port: each kind has its end and its counter, and a call on another connection does not notice."""
import os
import resource
import socket
import struct
import sys
import time

sys.dont_write_bytecode = True
from system import SLOW, Message, Proxy, check, equal, free_port, run, wait_until  # noqa: E402


class Site:
    def __init__(self, options="", limit=None):
        self.port = free_port()
        self.proxy = Proxy(listen=[], text=f'listen "tcp:127.0.0.1:{self.port}" {{ {options} }}\n')
        if limit:
            resource.prlimit(self.proxy.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        self.good = Client(self)
        equal(self.good.ask(), 200, "a good client")

    def closed(self, cause):
        return self.proxy.metric("connections_closed_total", cause=cause)

    def ended(self, cause, number=1):
        wait_until(f"{number} closed by {cause}", lambda: self.closed(cause) == number)
        equal(self.good.ask(), 200, "the good client afterwards")


class Client:
    count = 0

    def __init__(self, site):
        self.site = site
        self.socket = socket.create_connection(("127.0.0.1", site.port), timeout=15 * SLOW)
        self.data = b""

    def options(self, length="Content-Length: 0\r\n"):
        Client.count += 1
        n = Client.count
        return (f"OPTIONS sip:127.0.0.1:{self.site.port};transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;"
                f"branch=z9hG4bKc{n}\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: c{n}\r\n"
                f"CSeq: {n} OPTIONS\r\nMax-Forwards: 70\r\n{length}\r\n").encode()

    def receive(self):
        while b"\r\n\r\n" not in self.data:
            more = self.socket.recv(65536)
            check(more, "an answer, not the end")
            self.data += more
        end = self.data.index(b"\r\n\r\n") + 4
        m, self.data = Message(self.data[:end], None), self.data[end:]
        return m

    def ask(self):
        self.socket.sendall(self.options())
        return self.receive().status

    def is_closed(self):
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


def test_framing():
    site = Site()
    c = Client(site)
    for byte in b"\r\n\r\n" + c.options():
        c.socket.sendall(bytes([byte]))
    equal(c.socket.recv(2), b"\r\n", "a pong for the ping in front")
    equal(c.receive().status, 200, "a byte at a time")
    c.socket.sendall(b"".join(c.options() for _ in range(10)))
    equal([c.receive().status for _ in range(10)], [200] * 10, "ten in a segment")
    equal(site.proxy.metric("keepalives_total", kind="ping-received"), 1, "pings")
    for what in ("", "Content-Length: many\r\n", "Content-Length: -1\r\n"):
        c = Client(site)
        c.socket.sendall(c.options(what))
        equal(c.receive().status, 400, f"with {what!r} as Content-Length")
        check(c.is_closed(), "and then the end")


def test_slow_and_silent():
    site = Site("message_timeout = 500ms idle_timeout = 0s")
    half = Client(site)
    half.socket.sendall(half.options()[:60])
    check(half.is_closed(), "half a message, then silence")
    trickle = Client(site)
    begun = time.monotonic()
    try:
        for byte in trickle.options():
            trickle.socket.sendall(bytes([byte]))
            time.sleep(0.02)
        raise AssertionError("a message that takes longer than message_timeout was read to its end")
    except ConnectionError:
        check(time.monotonic() - begun < 5 * SLOW, "a byte at a time, too slowly")
    site.ended("message-timeout", 2)
    quick = Site("idle_timeout = 500ms")
    check(quick.good.is_closed(), "idle_timeout")
    wait_until("the counter", lambda: quick.closed("idle") == 1)


def test_what_is_not_sip():
    site = Site()
    for number, data in enumerate((os.urandom(4000) + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"), 1):
        c = Client(site)
        c.socket.sendall(data)
        check(c.is_closed(), repr(data[:20]))
        site.ended("protocol", number)
    endless = Client(site)
    try:
        endless.socket.sendall(endless.options()[:-2])
        while True:
            endless.socket.sendall(b"X-More: " + b"x" * 1000 + b"\r\n")
    except ConnectionError:
        pass
    site.ended("protocol", 4)
    c = Client(site)
    c.socket.sendall(c.options()[:50])
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.socket.close()
    site.ended("reset")


def test_limits():
    site = Site("max_connections_per_address = 5")
    more = [Client(site) for _ in range(20)]
    wait_until("the refusals", lambda: site.proxy.metric("connections_refused_total", reason="max-connections-per-address") == 16)
    equal(sum(1 for c in more if refused(c)), 16, "closed at once")
    equal(site.good.ask(), 200, "those within the limit stay")
    site = Site("max_connections = 3")
    more = [Client(site) for _ in range(5)]
    wait_until("the refusals", lambda: site.proxy.metric("connections_refused_total", reason="max-connections") == 3)
    equal(site.good.ask(), 200, "those within the limit stay")
    for c in more:
        c.socket.close()
    wait_until("room", lambda: site.proxy.metric("connections", state="open") == 1)
    equal(Client(site).ask(), 200, "a new one, when there is room")


def refused(c):
    c.socket.settimeout(0.2)
    try:
        return c.socket.recv(1) == b""
    except ConnectionError:
        return True
    except socket.timeout:
        return False


def test_descriptors_run_out():
    """Accepting pauses; what is there goes on; and it comes back."""
    site = Site("max_connections_per_address = 1000", limit=64)
    clients = []
    for _ in range(100):
        clients.append(socket.create_connection(("127.0.0.1", site.port), timeout=10 * SLOW))
    wait_until("a pause", lambda: "no connections are accepted for now" in site.proxy.log_text())
    equal(site.good.ask(), 200, "the good client meanwhile")
    for c in clients:
        c.close()
    wait_until("accepting again", lambda: Client(site).ask() == 200)
    check(site.proxy.metric("accept_pauses_total") > 0, "the counter")


run(globals())
