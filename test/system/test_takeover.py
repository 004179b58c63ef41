#!/usr/bin/env python3
"""The planned restart: a new process takes over sockets, connections and calls, and nobody notices. TAKEOVER_ROUNDS says how often under load:
the long run is `TAKEOVER_ROUNDS=20 test/system/test_takeover.py test_under_load`."""
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from certs import Authority  # noqa: E402
from system import (HOLDFAST, SLOW, Agent, Message, Proxy, check, command, equal, free_port, gateway, run,  # noqa: E402
                    uac, uas, uri, wait_until)
from users import DOMAIN, User, ctl  # noqa: E402

ROUNDS = int(os.environ.get("TAKEOVER_ROUNDS", "3"))


def both(port):
    return [f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}"]


def calling():
    callee = Agent()
    port = free_port()
    proxy = Proxy(gateway("callee", uri(callee.port)), listen=both(port))
    proxy.port = port
    caller = Agent(proxy=port)
    return proxy, caller, callee


class Stream:
    """A TCP connection to the proxy."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.data = b""

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def receive(self, seconds=5):
        """The next message without a body."""
        self.socket.settimeout(seconds * SLOW)
        while b"\r\n\r\n" not in self.data:
            more = self.socket.recv(65536)
            check(more, "the connection stays")
            self.data += more
        end = self.data.index(b"\r\n\r\n") + 4
        m, self.data = Message(self.data[:end], None), self.data[end:]
        return m

    def options(self, port, number=1):
        return "\r\n".join([f"OPTIONS sip:127.0.0.1:{port};transport=tcp SIP/2.0",
                            f"Via: SIP/2.0/TCP 127.0.0.1:{self.port};branch=z9hG4bKtake{self.port}x{number}",
                            "From: <sip:a@127.0.0.1>;tag=1", f"To: <sip:127.0.0.1:{port}>",
                            f"Call-ID: take{self.port}x{number}", f"CSeq: {number} OPTIONS", "Max-Forwards: 70",
                            "Content-Length: 0", "", ""])


def test_a_ringing_call_goes_on():
    proxy, caller, callee = calling()
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = callee.expect("INVITE")
    callee.respond(invite, 180, "Ringing")
    caller.expect(180)
    proxy.takeover()
    callee.respond(invite, 200, "OK")
    response = caller.expect(200)
    caller.ack(text, response)
    callee.expect("ACK")
    equal(proxy.metric("dialogs"), 1, "calls")
    caller.send(caller.in_dialog("BYE", Message(text.encode(), None), response, cseq=2))
    callee.respond(callee.expect("BYE"), 200, "OK")
    caller.expect(200)
    wait_until("the call's end", lambda: proxy.metric("dialogs") == 0)


def test_a_cancel_after_it_finds_its_callee():
    proxy, caller, callee = calling()
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = callee.expect("INVITE")
    callee.respond(invite, 180, "Ringing")
    caller.expect(180)
    proxy.takeover()
    sent = Message(text.encode(), None)
    caller.send("\r\n".join([f"CANCEL {sent.first.split(' ')[1]} SIP/2.0", f"Via: {sent.get('Via')}",
                             f"From: {sent.get('From')}", f"To: {sent.get('To')}", f"Call-ID: {sent.get('Call-ID')}",
                             f"CSeq: {sent.get('CSeq').split()[0]} CANCEL", "Max-Forwards: 70", "Content-Length: 0", "", ""]))
    caller.expect(200)
    cancel = callee.expect("CANCEL")
    equal(cancel.branch, invite.branch, "branch of the CANCEL")
    callee.respond(cancel, 200, "OK")
    callee.respond(invite, 487, "Request Terminated")
    callee.expect("ACK")
    caller.ack(text, caller.expect(487))


def test_connections_stay_with_half_a_message():
    proxy, _, _ = calling()
    idle, half = Stream(proxy.port), Stream(proxy.port)
    idle.send(idle.options(proxy.port))
    equal(idle.receive().status, 200, "before")
    whole = half.options(proxy.port)
    half.send(whole[:100])
    wait_until("both connections", lambda: proxy.metric("connections", state="open") == 2)
    time.sleep(0.1)  # what was sent is read: there is no event to wait for
    proxy.takeover()
    half.send(whole[100:])
    equal(half.receive().status, 200, "the message that was cut in two")
    idle.send(idle.options(proxy.port, 2))
    equal(idle.receive().status, 200, "the idle connection")
    equal(proxy.metric("connections", state="open"), 2, "connections of the new process")
    proxy.takeover()
    idle.send(idle.options(proxy.port, 3))
    equal(idle.receive().status, 200, "after a second takeover")


def test_a_tls_connection_ends_in_good_order():
    """Its keys cannot move: the peer sees the end of it as of any, and opens another."""
    authority = Authority()
    certificate, key = authority.issue("proxy", "IP:127.0.0.1")
    port, tls = free_port(), free_port()
    proxy = Proxy(f'listen "tls:127.0.0.1:{tls}" {{\n\tcertificate = "{certificate}"\n\tkey = "{key}"\n}}\n', listen=both(port))
    context = ssl.create_default_context(cafile=authority.ca)

    def connect():
        s = Stream(tls)
        s.socket = context.wrap_socket(s.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        return s

    def ask(s, number):
        s.send(s.options(tls, number).replace("TCP", "TLS").replace("=tcp", "=tls"))
        equal(s.receive().status, 200, "OPTIONS")

    one = connect()
    ask(one, 1)
    proxy.takeover()
    one.socket.settimeout(5 * SLOW)
    equal(one.socket.recv(100), b"", "what comes at the end")  # without a close_notify it would raise
    ask(connect(), 2)


def test_a_tls_connection_with_a_registered_phone():
    """Workers watch it, and are told of its end while the process leaves."""
    authority = Authority()
    certificate, key = authority.issue("proxy", "IP:127.0.0.1")
    tls = free_port()
    proxy = Proxy(f'listen "tls:127.0.0.1:{tls}" {{\n\tcertificate = "{certificate}"\n\tkey = "{key}"\n}}\n'
                  f'domain "{DOMAIN}" {{\n\tauthenticate = false\n}}\n')
    phones = [User(f"phone{i}", proxy, "tls", tls) for i in range(4)]
    for phone in phones:
        equal(phone.register().status, 200, "REGISTER")
    proxy.takeover()
    for phone in phones:
        phone.socket.settimeout(5 * SLOW)
        equal(phone.socket.recv(100), b"", "what comes at the end")
    again = User("phone0", proxy, "tls", tls)
    equal(again.register().status, 200, "REGISTER of the next process")


def test_under_load():
    tcp_port = free_port()
    server, tcp_server = uas(), uas(port=tcp_port, contact=f"{tcp_port};transport=tcp", arguments=("-t", "t1"))
    port = free_port()
    proxy = Proxy(gateway("udp", uri(server.port)).replace('route "udp" {', 'route "udp" {\n\tuser = "^udp$"') +
                  gateway("tcp", uri(tcp_server.port) + ";transport=tcp"), listen=both(port))
    calls = 150 * (2 * ROUNDS + 1)
    loads = [uac(port, calls, 150, arguments=("-s", "udp")), uac(port, calls, 150, arguments=("-t", "t1"))]
    for _ in range(ROUNDS):
        time.sleep(2)  # the load is what happens in between
        proxy.takeover()
    for load in loads:
        load.finish(60 + 10 * ROUNDS)
        equal(load.numbers()[:2], (calls, 0), "successful and failed calls")
    ended = proxy.metric("connections_closed_total")
    equal(ended - proxy.metric("connections_closed_total", cause="peer"), 0, "connections that did not end by their peer")


def test_by_holdfastctl():
    proxy, caller, _ = calling()
    ctl = os.path.join(os.path.dirname(HOLDFAST), "holdfastctl")
    old = proxy.process
    out = subprocess.run([ctl, "-s", proxy.control, "takeover"], capture_output=True, text=True, timeout=20 * SLOW)
    equal(out.returncode, 0, f"holdfastctl; {out.stdout} {out.stderr}")
    said = re.fullmatch(r"a new process is started\nprocess (\d+) has taken over\n", out.stdout)
    check(said, out.stdout)
    equal(old.wait(30 * SLOW), 0, "status of the old process")
    wait_until("the new process", lambda: proxy.log_text().count("is ready") == 2)
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)
    status = subprocess.run([ctl, "-s", proxy.control, "status"], capture_output=True, text=True, timeout=20 * SLOW)
    equal(status.returncode, 0, f"status; {status.stderr}")
    pid = find(proxy.conf)
    equal(int(said[1]), pid, "the process named")
    os.kill(pid, 15)
    wait_until("its end", lambda: not os.path.exists(f"/proc/{pid}"))


def find(conf):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if conf.encode() in words and b"--takeover" in words:
            return int(pid)
    raise AssertionError("the new process is not there")


def test_a_bad_configuration_changes_nothing():
    proxy, caller, _ = calling()
    bad = os.path.join(proxy.dir, "bad.conf")
    with open(proxy.conf) as f, open(bad, "w") as g:
        g.write(f.read() + 'listen "tls:127.0.0.1:1" { certificate = "none.pem" key = "none.pem" }\n')
    status, _, err = command("-c", bad, "-s", os.path.join(proxy.dir, "store"), "--takeover")
    equal(status, 1, f"status; {err}")
    check("none.pem" in err, f"the file's name in {err}")
    check(proxy.alive(), "the old process goes on")
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)


def test_a_new_process_that_fails_leaves_nothing_behind():
    proxy, caller, _ = calling()
    with open(proxy.conf, "a") as f:
        f.write("nonsense = 1\n")
    status, out, err = ctl(proxy, "takeover")
    equal(status, 1, f"holdfastctl takeover: {out} {err}")
    check("the old one goes on" in err, err)
    wait_until("the new process's complaint", lambda: '"nonsense" is not known' in proxy.log_text())
    children = f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children"
    wait_until("the end of the new process", lambda: not open(children).read())
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)


def refused(proxy, caller, why):
    """A takeover that could not end well does not begin."""
    status, out, err = ctl(proxy, "takeover")
    equal(status, 1, f"holdfastctl takeover: {out} {err}")
    wait_until("the reason", lambda: re.search(why, proxy.log_text()))
    check(proxy.alive(), "the old process goes on")
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)


def test_a_new_listener_that_cannot_be_opened():
    for proto, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
        proxy, caller, _ = calling()
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", free_port()))
            if proto == "tcp":
                other.listen()
            name = f"{proto}:127.0.0.1:{other.getsockname()[1]}"
            with open(proxy.conf, "a") as f:
                f.write(f'listen "{name}" {{ }}\n')
            refused(proxy, caller, f"listen {name}: .*in use")
        equal(ctl(proxy, "takeover")[0], 0, "when the port is free")
        caller.send(caller.request("OPTIONS", uri(proxy.port)))
        caller.expect(200)
        os.kill(find(proxy.conf), 15)


def test_metrics_that_cannot_be_served():
    proxy, caller, _ = calling()
    with socket.create_server(("127.0.0.1", free_port())) as other:
        proxy.http, old = other.getsockname()[1], proxy.http
        proxy.write("")
        refused(proxy, caller, f"stats.listen 127.0.0.1:{proxy.http}: .*in use")
        proxy.http = old


def test_another_number_of_acceptors():
    proxy, caller, _ = calling()
    for n in ("1", "3", "2"):
        proxy.arguments = []
        proxy.write(f"acceptors = {n}\n")
        proxy.takeover()
        for _ in range(10):
            caller = Agent(proxy=proxy.port)
            caller.send(caller.request("OPTIONS", uri(proxy.port)))
            caller.expect(200)


def test_without_a_running_process_it_starts():
    proxy = Proxy(arguments=["--takeover"])
    proxy.await_log("no process runs")


def test_the_old_process_ends_in_the_middle():
    """Then nobody serves any more: the new one starts as after a crash, instead of giving up as well."""
    proxy = Proxy(arguments=["--takeover"], start=False)
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(proxy.control)
        old.listen()

        def die():
            asked, _ = old.accept()
            to = re.search(rb"to=(\S+)", asked.recv(4096)).group(1).decode()
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(to)
            asked.close()
            old.close()

        thread = threading.Thread(target=die)
        thread.start()
        proxy.start()
        thread.join()
    proxy.await_log("not all came over")
    caller = Agent(proxy=proxy)
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)


run(globals())
