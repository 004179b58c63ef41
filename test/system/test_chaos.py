#!/usr/bin/env python3
# run-tests: timeout=120
"""Everything at once: calls, phones over three transports, damaged messages and handshakes, resets, and then also what operators do: reloads,
closed connections, takeovers, kill -9. No call may be lost, and when all is over, nothing may be left. CHAOS_SEED and CHAOS_SECONDS (of each
part) make other and longer runs: `CHAOS_SEED=7 CHAOS_SECONDS=120 test/system/test_chaos.py`."""
import glob
import os
import random
import re
import socket
import ssl
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True
from certs import Authority  # noqa: E402
from system import (HERE, SLOW, Agent, Message, Proxy, cancel_of, check, equal, free_port, gateway, run,  # noqa: E402
                    running, uri, wait_until)
from users import DOMAIN, User, add_user, ctl  # noqa: E402

SEED = os.environ.get("CHAOS_SEED", "1")
SECONDS = float(os.environ.get("CHAOS_SECONDS", "4"))
TESTS = os.path.dirname(HERE)
USERS = 4
GAUGES = ("transactions", "connections", "invites_in_flight", "writer_threads", "connection_queued_bytes")


def corpus():
    """Messages that meet every trap of RFC 4475; whoever they name is on this machine."""
    found = []
    for path in sorted(glob.glob(os.path.join(TESTS, "fuzz/corpus/message/*")) +
                       glob.glob(os.path.join(TESTS, "scenario/torture/*.sip"))):
        with open(path, "rb") as f:
            data = re.sub(rb"(?<=@)[\w.\-]+(?=[ >;:])", DOMAIN.encode(), f.read())
        found.append(re.sub(rb"(?im)^((?:via|v)\s*:\s*SIP\s*/\s*2.0\s*/\s*\w+\s+)[^\s;]+", rb"\g<1>127.0.0.1", data))
    check(len(found) > 50, "a corpus")
    return found


def damaged(r, data):
    d = bytearray(data)
    for _ in range(r.randrange(3)):
        at = r.randrange(len(d) or 1)
        what = r.randrange(5)
        if what == 0:
            d[at:at + 1] = [r.randrange(256)]
        elif what == 1:
            del d[at:at + r.randrange(1, 30)]
        elif what == 2:
            d[at:at] = d[at:at + r.randrange(1, 400)]
        elif what == 3:
            d[at:at] = r.choice([b"\0", b"\r\n", b"\r\n\r\n", b"%00", b"<", b'"', b";lr", b"A" * r.randrange(1, 5000)])
        else:
            del d[at:]
    return bytes(d[:60000]) or b"\r"


def reset(s):
    """The peer is gone in the middle of whatever it did, and without a close_notify."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(s, ssl.SSLSocket):
        s = socket.socket(fileno=s.detach())
    s.close()


def gone(agent, hard=False):
    running.remove(agent)
    if hard:
        reset(agent.socket)
    else:
        agent.stop()


class Chaos:
    def __init__(self):
        authority = Authority()
        self.certificate, self.key = authority.issue("proxy", "IP:127.0.0.1")
        self.tcp, self.tls = free_port(), free_port()
        self.stop, self.ended = threading.Event(), threading.Event()
        self.failures, self.calls, self.answered = [], 0, []
        self.corpus = corpus()
        self.callee = Agent()
        threading.Thread(target=self.answer, daemon=True).start()
        self.refused = free_port()
        self.proxy = Proxy(self.configuration(random.Random(SEED)))
        for i in range(USERS):
            add_user(self.proxy, f"u{i}")

    def configuration(self, r):
        """The same in what must stay, another in the rest."""
        stream = (f'\tmessage_timeout = {r.choice(["1s", "2s"])}\n\twrite_timeout = 500ms\n\tconnect_timeout = 500ms\n'
                  f'\tcrlf_interval = {r.choice(["0s", "300ms"])}\n\tqueue_limit = {r.choice(["64k", "256k"])}\n')
        return (f'listen "tcp:127.0.0.1:{self.tcp}" {{\n{stream}}}\nlisten "tls:127.0.0.1:{self.tls}" {{\n{stream}'
                f'\tcertificate = "{self.certificate}"\n\tkey = "{self.key}"\n\thandshake_timeout = 500ms\n}}\n' +
                gateway("callee", uri(self.refused), uri(self.refused) + ";transport=tcp", uri(self.callee.port))
                .replace('route "callee" {', 'route "callee" {\n\tuser = "^100$"') +
                f'domain "{DOMAIN}" {{\n\tmin_expires = 1s\n\tmax_contacts = {r.choice([2, 10])}\n'
                f'\tqualify_interval = {r.choice(["0s", "500ms"])}\n\tqualify_timeout = 200ms\n}}\n'
                "timers { t1 = 50ms t2 = 200ms t4 = 200ms c = 1s }\n"
                f'writers = {r.choice([100, 1000])}\nworkers = 2\nacceptors = 2\n')

    # --- who takes part, each a thread that does its part again and again ---

    def answer(self):
        while not self.ended.is_set():
            try:
                m = self.callee.receive(0.1)
            except (OSError, ValueError, IndexError):  # nothing, or what is not SIP any more
                continue
            self.callee.seen.clear()
            if m.method and m.method != "ACK":
                self.callee.respond(m, 200, "OK")

    def call(self, r):
        caller = Agent(proxy=self.proxy.port)
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{self.proxy.port}")

        def ask(request, kind):
            for _ in range(20 * SLOW):
                caller.send(request)
                try:
                    while True:
                        m = caller.receive(0.5 / SLOW)
                        if m.status >= 200 and kind in m.get("CSeq"):
                            return m
                except socket.timeout:
                    pass
            raise AssertionError(f"no answer to {kind}; {caller.seen}")

        try:
            response = ask(text, "INVITE")
            equal(response.status, 200, "answer to a call")
            caller.ack(text, response)
            equal(ask(caller.in_dialog("BYE", Message(text.encode(), None), response, cseq=2), "BYE").status, 200, "BYE")
            self.calls += 1
        except AssertionError as e:
            self.failures.append(str(e))
        gone(caller)

    def connected(self, r):
        transport = r.choice(["udp", "tcp", "tls"])
        return User(f"u{r.randrange(USERS)}", self.proxy, transport, {"tcp": self.tcp, "tls": self.tls}.get(transport))

    def phone(self, r):
        a = self.connected(r)
        try:
            a.register(expires=r.choice([0, 2, 600]), headers=r.choice([(), ("Supported: outbound, path",)]))
            end = time.monotonic() + r.random()
            while time.monotonic() < end:
                m = a.receive(0.2 / SLOW)
                if m.method and m.method != "ACK" and a.transport == "udp":
                    a.respond(m, r.choice([180, 200, 486]))
        finally:
            gone(a, r.random() < 0.3)

    def caller_of_phones(self, r):
        a = self.connected(r)
        try:
            text = a.invite(f"sip:u{r.randrange(USERS)}@{DOMAIN}")
            if r.random() < 0.5:
                a.send(cancel_of(text))
            m = a.receive(1 / SLOW)
            if r.random() < 0.5 and m.status >= 300:
                a.ack(text, m)
        finally:
            gone(a, r.random() < 0.3)

    def datagrams(self, r):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(20):
                s.sendto(damaged(r, r.choice(self.corpus)), ("127.0.0.1", self.proxy.port))
                time.sleep(0.01)

    def stream(self, r):
        s = socket.create_connection(("127.0.0.1", r.choice([self.tcp, self.tls])), timeout=1)
        try:
            data = b"".join(damaged(r, r.choice(self.corpus)) for _ in range(r.randrange(1, 6)))
            while data:
                n = r.choice([7, 100, 1000, 60000])
                s.sendall(data[:n])
                data = data[n:]
            time.sleep(r.random() * 0.05)
        finally:
            reset(s) if r.random() < 0.5 else s.close()

    def handshake(self, r):
        s = socket.create_connection(("127.0.0.1", self.tls), timeout=1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = r.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
        try:
            if r.random() < 0.5:  # one that ends, or goes wrong, anywhere
                into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
                half = context.wrap_bio(into, out)
                for _ in range(r.randrange(1, 3)):
                    try:
                        half.do_handshake()
                    except ssl.SSLWantReadError:
                        pass
                    s.sendall(damaged(r, out.read()))
                    into.write(s.recv(65536))
            else:
                s = context.wrap_socket(s)
                s.sendall(damaged(r, r.choice(self.corpus)))
                raw = socket.socket(fileno=s.detach())
                s = raw
                s.sendall(bytes(r.randrange(256) for _ in range(100)))
        finally:
            reset(s) if r.random() < 0.5 else s.close()

    def operator(self, r):
        what = r.choice(["connections", "close", "registrations", "transactions", "status", "gateways"])
        if what != "close":
            ctl(self.proxy, what)
            return
        for line in ctl(self.proxy, "connections")[1].splitlines()[1:4]:
            ctl(self.proxy, "close", line.split()[0])

    def reload(self, r):
        self.proxy.write(self.configuration(r))
        ctl(self.proxy, "reload")
        time.sleep(0.1)

    # --- how it goes ---

    def act(self, part, number):
        r = random.Random(f"{SEED} {part.__name__} {number}")
        while not self.stop.is_set():
            try:
                part(r)
            except (OSError, AssertionError, AttributeError, StopIteration):
                pass  # refused, closed, answered otherwise: what becomes of a call is looked at where it is made
            except Exception as e:
                self.failures.append(f"{part.__name__}: {e!r}")
                return

    def run(self, *parts, between=None):
        self.stop.clear()
        usual = [self.call, self.call, self.phone, self.phone, self.phone, self.caller_of_phones, self.datagrams, self.stream,
                 self.handshake]
        threads = [threading.Thread(target=self.act, args=(p, i), daemon=True) for i, p in enumerate([*usual, *parts])]
        before = self.calls
        for t in threads:
            t.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(min(SECONDS / 4, 1))  # what happens meanwhile is the test
            if between:
                between()
            check(self.proxy.alive(), f"the proxy has ended with {self.proxy.process.returncode}")
        self.stop.set()
        for t in threads:
            t.join(30 * SLOW)
            check(not t.is_alive(), "everybody ends")
        equal(self.failures, [], "what went wrong")
        check(self.calls > before, "calls were made")

    def left(self):
        """What is not over. A client transaction over UDP that has its failure waits 32 s for copies of it, whatever t1 is."""
        return {k: v for k, v in self.proxy.metrics().items()
                if v and k.split("{")[0][len("holdfast_"):] in GAUGES and 'kind="ict",state="completed"' not in k}

    def size(self):
        """Open files and threads."""
        return [len(os.listdir(f"/proc/{self.proxy.process.pid}/{what}")) for what in ("fd", "task")]

    def rest(self, before):
        """Nothing is left. What comes again at intervals is between two times of it."""
        self.proxy.write(self.configuration(random.Random(SEED)))
        self.proxy.signal(1)

        def nothing():
            for line in ctl(self.proxy, "connections")[1].splitlines()[1:]:
                if line.split()[0].isdigit():
                    ctl(self.proxy, "close", line.split()[0])
            return not self.left()
        try:
            wait_until("nothing left", nothing, 15)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.left()}") from None
        wait_until(f"as many descriptors and threads as before, {before}", lambda: self.size() <= before, 5)
        probe = Agent(proxy=self.proxy.port)
        probe.send(probe.request("OPTIONS", uri(self.proxy.port)))
        probe.expect(200)


def test_chaos():
    print(f"# CHAOS_SEED={SEED}", flush=True)
    chaos = Chaos()
    before = chaos.size()

    def crash():
        chaos.proxy.process.kill()
        chaos.proxy.process.wait()
        chaos.proxy.log.close()
        chaos.proxy.start()

    try:
        chaos.run()
        chaos.run(chaos.operator, chaos.reload)
        chaos.run(between=chaos.proxy.takeover)
        chaos.rest(before)
        chaos.run(between=crash)
        chaos.rest(before)
    finally:
        chaos.stop.set()
        chaos.ended.set()


run(globals())
