#!/usr/bin/env python3
"""Names: where a Request-URI leads by RFC 3263, with dnsmasq as the name server, and with one that is silent."""
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from system import (SLOW, Agent, Proxy, Skip, check, equal, free_port, gateway, run, udp_port_open, uri,  # noqa: E402
                    wait_until)
import system  # noqa: E402

ROUTE = 'route "anywhere" {\n\tdns = true\n}\n'


class NameServer:
    """dnsmasq, which knows these records and nothing else."""

    def __init__(self, *records):
        path = shutil.which("dnsmasq", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        if not path:
            raise Skip("dnsmasq is not installed (Debian: dnsmasq-base)")
        self.port = free_port()
        self.process = subprocess.Popen(
            [path, "--conf-file=/dev/null", "--keep-in-foreground", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts",
             f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--local-ttl=60",
             "--log-facility=-", *[f"--{r}" for r in records]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        system.running.append(self)
        wait_until("dnsmasq", lambda: udp_port_open(self.port) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError(f"dnsmasq: {self.process.stderr.read()}")

    def options(self):
        return f'dns {{ server = "127.0.0.1:{self.port}" }}\n'

    def describe(self):
        return ""

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def call(proxy, target, callee):
    """An INVITE to `target` that the callee takes."""
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", target)
    caller.send(text)
    invite = callee.expect("INVITE")
    equal(invite.first, f"INVITE {target} SIP/2.0", "the Request-URI stays")
    callee.respond(invite, 200, "OK")
    caller.ack(text, caller.expect(200))
    callee.expect("ACK")
    return invite


def question(server, name):
    """What the silent server is asked about this name, first: (bytes, source)."""
    server.socket.settimeout(5 * SLOW)
    while True:
        data, source = server.socket.recvfrom(4096)
        if name.lower().encode() in data.lower():
            return data, source


def test_address():
    callee = Agent()
    server = NameServer("host-record=host.test,127.0.0.1")
    proxy = Proxy(ROUTE + server.options())
    for _ in range(2):
        call(proxy, f"sip:100@host.test:{callee.port}", callee)
    equal(proxy.metric("dns_lookups_total", result="asked"), 1, "look-ups")
    equal(proxy.metric("dns_lookups_total", result="cached"), 1, "answers out of the cache")


def test_srv_fails_over():
    """The first target's port is closed: the second, and the callee never sees the call twice."""
    callee = Agent()
    server = NameServer("host-record=a.test,127.0.0.1",
                        f"srv-host=_sip._udp.example.test,a.test,{free_port()},1,10",
                        f"srv-host=_sip._udp.example.test,a.test,{callee.port},2,10")
    proxy = Proxy(ROUTE + server.options())
    for _ in range(3):
        call(proxy, "sip:100@example.test", callee)
    callee.nothing()
    equal(proxy.metric("branch_failures_total", cause="transport"), 3, "branches that failed")
    equal(proxy.metric("branches_total"), 6, "branches")


def test_srv_503_fails_over():
    """RFC 3263 4.3: also a 503 leads to the next address of the same name, with a branch of its own."""
    first, second = Agent(), Agent()
    server = NameServer("host-record=a.test,127.0.0.1",
                        f"srv-host=_sip._udp.example.test,a.test,{first.port},1,10",
                        f"srv-host=_sip._udp.example.test,a.test,{second.port},2,10")
    proxy = Proxy(ROUTE + server.options())
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", "sip:100@example.test")
    caller.send(text)
    invite = first.expect("INVITE")
    first.respond(invite, 503)
    first.expect("ACK")
    again = second.expect("INVITE")
    check(again.branch != invite.branch, "another branch parameter")
    second.respond(again, 200, "OK")
    caller.ack(text, caller.expect(200))
    second.expect("ACK")


def test_gateway_by_name():
    callee = Agent()
    server = NameServer("host-record=a.test,127.0.0.1", f"srv-host=_sip._udp.gw.test,a.test,{callee.port}")
    proxy = Proxy(gateway("carrier", "sip:gw.test") + server.options())
    caller = Agent(proxy=proxy)
    caller.send(caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}"))
    request = callee.expect("MESSAGE")
    equal(request.first, "MESSAGE sip:100@gw.test SIP/2.0", "the request")
    callee.respond(request, 200, "OK")
    caller.expect(200)


def test_unknown_name():
    server = NameServer()
    proxy = Proxy(ROUTE + server.options())
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", "sip:100@nowhere.test")
    caller.send(text)
    caller.ack(text, caller.expect(404))
    equal(proxy.metric("branch_failures_total", cause="dns"), 1, "branches that failed")


def test_silent_name_server():
    """Copies that come while the name is looked up are absorbed, other calls pass, and the caller gets its final answer."""
    silent, callee = Agent(), Agent()
    proxy = Proxy(f'dns {{ server = "127.0.0.1:{silent.port}" timeout = 1500ms }}\n' + ROUTE)
    caller = Agent(proxy=proxy)
    for method in ("INVITE", "MESSAGE"):
        before = proxy.metric("retransmissions_absorbed_total")
        text = caller.request(method, f"sip:100@{method}.test")
        caller.send(text)
        question(silent, method)
        for _ in range(4):
            caller.send(text)
        wait_until("the copies", lambda: proxy.metric("retransmissions_absorbed_total") == before + 4, 1)
        # Nobody else waits.
        other = Agent(proxy=proxy)
        other.send(other.request("MESSAGE", f"sip:100@127.0.0.1:{callee.port}"))
        callee.respond(callee.expect("MESSAGE"), 200, "OK")
        other.expect(200)
        response = caller.expect(500)
        if method == "INVITE":
            caller.ack(text, response)
        else:
            caller.send(text)
            equal(caller.expect(500).data, response.data, "the answer to one more copy")
    equal(proxy.metric("branch_failures_total", cause="dns"), 2, "branches that failed")
    equal(proxy.metric("branches_total"), 2, "branches started")
    callee.nothing()


def test_cancel_during_the_look_up():
    """Nobody has heard of the call yet: the caller gets its 487 at once, and a late answer starts nothing."""
    silent, callee = Agent(), Agent()
    proxy = Proxy(f'dns {{ server = "127.0.0.1:{silent.port}" timeout = 20s }}\n' + ROUTE)
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@host.test:{callee.port}")
    caller.send(text)
    asked, source = question(silent, "host")
    caller.expect(100)
    caller.send(system.cancel_of(text))
    caller.expect(200)
    caller.ack(text, caller.expect(487))
    equal(proxy.metric("invites_in_flight"), 0, "INVITEs in flight")
    # The record that was asked for, 127.0.0.1: header, question, answer with a pointer to the name.
    end = asked.index(b"\x04test\0") + 10
    silent.socket.sendto(asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + asked[12:end]
                         + b"\xc0\x0c" + asked[end - 4:end] + b"\0\0\0\x3c\0\4\x7f\0\0\1", source)
    callee.nothing()


if __name__ == "__main__":
    run(globals())
