#!/usr/bin/env python3
# run-tests: timeout=240 alone
"""kill -9 at every step of a call, and under load; then a start on the same store and port. RESTART_ROUNDS says how often under load: the long
run is `RESTART_ROUNDS=200 test/system/test_restart.py test_under_load` (it takes four minutes)."""
import os
import random
import socket
import sys
import time

sys.dont_write_bytecode = True
import ringing  # noqa: E402
from system import (SLOW, Agent, Message, Proxy, Sipp, cancel_of, check, command, equal, free_port,  # noqa: E402
                    gateway, run, uri, wait_until)

ROUNDS = int(os.environ.get("RESTART_ROUNDS", "4"))


def crash(proxy):
    proxy.process.kill()
    proxy.process.wait()
    proxy.log.close()
    proxy.start()


class Call:
    """A call on its way through the proxy, which can end and begin again between any two steps."""

    def __init__(self, callees=1, **options):
        self.callees = [Agent() for _ in range(callees)]
        self.proxy = Proxy(gateway("callee", *[uri(a.port) for a in self.callees], **options))
        self.caller = Agent(proxy=self.proxy)
        self.text = self.caller.request("INVITE", f"sip:100@127.0.0.1:{self.proxy.port}")
        self.invites = []

    def start(self):
        self.caller.send(self.text)
        return self

    def invite(self, i=0):
        m = self.callees[i].expect("INVITE")
        self.invites.append(m)
        return m

    def ring(self, i=0):
        m = self.invite(i)
        self.callees[i].respond(m, 180, "Ringing")
        self.caller.expect(180)
        return m

    def copies(self, i=0):
        """What the callee gets from now on until it is silent: copies of the INVITE, nothing else."""
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            try:
                m = self.callees[i].receive(0.1)
            except socket.timeout:
                continue
            equal((m.method, m.branch), ("INVITE", self.invites[-1].branch), "a copy")

    def final(self, status):
        """The only one, and its ACK."""
        final = self.caller.expect(status, skip=(180,))
        self.caller.ack(self.text, final)
        return final

    def refuse(self, m, status, i=0):
        self.callees[i].respond(m, status)
        equal(self.callees[i].expect("ACK", skip=("INVITE",)).branch, m.branch, "branch of the ACK")
        self.final(status)
        self.silence()

    def answer(self, m, i=0):
        self.callees[i].respond(m, 200, "OK")
        response = self.caller.expect(200)
        self.caller.ack(self.text, response)
        self.callees[i].expect("ACK", skip=("INVITE",))
        self.caller.send(self.caller.in_dialog("BYE", Message(self.text.encode(), None), response, cseq=2))
        self.callees[i].respond(self.callees[i].expect("BYE"), 200, "OK")
        self.caller.expect(200)
        self.silence()

    def cancelled(self, m, i=0):
        cancel = self.callees[i].expect("CANCEL", skip=("INVITE",))
        equal(cancel.branch, m.branch, "branch of the CANCEL")
        equal(len(cancel.all("Via")), 1, "Via lines of the CANCEL")
        self.callees[i].respond(cancel, 200, "OK")

    def silence(self):
        for a in [self.caller, *self.callees]:
            a.nothing(0.2)
        wait_until("no call in flight", lambda: self.proxy.metric("invites_in_flight") == 0)


def test_before_100():
    call = Call()
    call.proxy.process.kill()
    call.proxy.process.wait()
    call.start()  # lost
    call.proxy.log.close()
    call.proxy.start()
    call.start()
    call.answer(call.invite())


def test_after_100():
    call = Call().start()
    m = call.invite()
    crash(call.proxy)
    call.start()
    call.copies()
    call.callees[0].respond(m, 180, "Ringing")
    call.caller.expect(180)
    call.answer(m)


def test_after_180():
    call = Call().start()
    m = call.ring()
    crash(call.proxy)
    call.start()
    call.caller.expect(180)
    call.callees[0].nothing(0.7)
    call.answer(m)


def test_after_180_cancelled():
    call = Call().start()
    m = call.ring()
    crash(call.proxy)
    call.caller.send(cancel_of(call.text))
    equal(call.caller.expect(200).get("CSeq"), "1 CANCEL", "CSeq")
    call.cancelled(m)
    call.refuse(m, 487)


def test_after_cancel():
    call = Call().start()
    m = call.ring()
    call.caller.send(cancel_of(call.text))
    call.caller.expect(200)
    call.callees[0].expect("CANCEL")
    crash(call.proxy)
    call.cancelled(m)
    call.refuse(m, 487)


def test_after_a_failure_without_ack():
    for status in (487, 486):
        call = Call().start()
        m = call.ring()
        if status == 487:
            call.caller.send(cancel_of(call.text))
            call.caller.expect(200)
            call.cancelled(m)
        call.callees[0].respond(m, status)
        ack = call.callees[0].expect("ACK")
        first = call.caller.expect(status)
        crash(call.proxy)
        equal(call.final(status).data, first.data, "the response again")
        call.callees[0].respond(m, status)
        equal(call.callees[0].expect("ACK").data, ack.data, "the ACK again")
        call.silence()


def test_after_200():
    call = Call().start()
    m = call.ring()
    call.callees[0].respond(m, 200, "OK")
    call.caller.expect(200)
    crash(call.proxy)
    call.start()
    call.caller.nothing(0.3)
    call.answer(m)


def test_two_branches_ringing():
    for status in (200, 603):
        call = Call(2, policy="parallel").start()
        a, b = call.ring(0), call.ring(1)
        crash(call.proxy)
        if status == 200:
            call.callees[1].respond(b, 200, "OK")
            call.caller.expect(200)
        else:
            call.callees[1].respond(b, 603)
            call.callees[1].expect("ACK")
        call.cancelled(a, 0)
        crash(call.proxy)
        # whether its 200 was heard or died with the proxy: a CANCEL that comes again is answered again
        call.callees[0].respond(a, 487)
        while (m := call.callees[0].receive()).method != "ACK":
            equal(m.method, "CANCEL", "what comes before the ACK")
            call.callees[0].respond(m, 200, "OK")
        if status == 603:
            call.final(603)
        call.silence()


def test_serial_with_one_to_go():
    call = Call(2, policy="serial").start()
    m = call.invite()
    call.callees[0].respond(m, 100)
    crash(call.proxy)
    call.callees[0].respond(m, 503)
    call.callees[0].expect("ACK", skip=("INVITE",))
    call.answer(call.ring(1), 1)


# --- TCP ---------------------------------------------------------------------------------------------------------

class Stream:
    """A user agent's TCP connection."""

    def __init__(self, s):
        self.socket = s
        self.data = b""

    def send(self, text):
        self.socket.sendall(text.encode())

    def expect(self, *what, seconds=5, skip=(100,)):
        self.socket.settimeout(seconds * SLOW)
        while True:
            while b"\r\n\r\n" not in self.data:
                more = self.socket.recv(65536)
                check(more, f"expected {what}, and the connection is closed")
                self.data += more
            end = self.data.index(b"\r\n\r\n") + 4
            m, self.data = Message(self.data[:end], None), self.data[end:]
            if (m.status or m.method) in what:
                return m
            check((m.status or m.method) in skip, f"expected {what}, got {m}")

    def closed(self):
        self.socket.settimeout(5 * SLOW)
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def respond(self, m, status, extra=()):
        lines = [f"SIP/2.0 {status} Whatever"]
        for name, value in m.headers:
            if name.lower() in ("via", "record-route", "from", "call-id", "cseq"):
                lines.append(f"{name}: {value}")
            elif name.lower() == "to":
                lines.append(f"To: {value}" + ("" if "tag=" in value else ";tag=callee"))
        self.send("\r\n".join([*lines, *extra, "Content-Length: 0", "", ""]))


def stream_proxy(target):
    port = free_port()
    proxy = Proxy(gateway("callee", target), listen=[f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}"])
    proxy.port = port
    return proxy


def test_caller_over_tcp():
    """It comes back with another connection, and cancels over it."""
    callee = Agent()
    proxy = stream_proxy(uri(callee.port))
    caller = Agent(proxy=proxy)  # its port is what the Via says
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}").replace("SIP/2.0/UDP", "SIP/2.0/TCP")
    one = Stream(socket.create_connection(("127.0.0.1", proxy.port)))
    one.send(text)
    m = callee.expect("INVITE")
    callee.respond(m, 180)
    one.expect(180)
    crash(proxy)
    check(one.closed(), "the first connection is closed")
    two = Stream(socket.create_connection(("127.0.0.1", proxy.port)))
    two.send(cancel_of(text))
    two.expect(200)
    cancel = callee.expect("CANCEL")
    equal(cancel.branch, m.branch, "branch of the CANCEL")
    callee.respond(cancel, 200)
    callee.respond(m, 487)
    callee.expect("ACK")
    two.expect(487)
    callee.nothing()


def test_callee_over_tcp():
    """It gets the INVITE again over another connection, on the same branch, as long as it has not answered."""
    for answered in (False, True):
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(5 * SLOW)
        proxy = stream_proxy(uri(server.getsockname()[1]) + ";transport=tcp")
        caller = Agent(proxy=proxy)
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
        caller.send(text)
        one = Stream(server.accept()[0])
        m = one.expect("INVITE")
        if answered:
            one.respond(m, 180)
            caller.expect(180)
        crash(proxy)
        check(one.closed(), "the first connection is closed")
        if answered:
            caller.send(cancel_of(text))
            caller.expect(200)
            two = Stream(server.accept()[0])
            cancel = two.expect("CANCEL")
            equal(cancel.branch, m.branch, "branch of the CANCEL")
            two.respond(cancel, 200)
            two.respond(m, 487)
            two.expect("ACK")
            caller.ack(text, caller.expect(487))
        else:
            two = Stream(server.accept()[0])
            equal(two.expect("INVITE").data, m.data, "the INVITE again")
            two.respond(m, 200)
            caller.expect(200)
        server.close()


# --- what is not a call ------------------------------------------------------------------------------------------

def test_answer_to_a_request_of_the_run_before():
    call = Call()
    call.caller.send(call.caller.request("MESSAGE", f"sip:100@127.0.0.1:{call.proxy.port}"))
    m = call.callees[0].expect("MESSAGE")
    crash(call.proxy)
    call.callees[0].respond(m, 200, "OK")
    call.caller.expect(200)


def test_number_of_workers():
    """It may change between two runs, and other times the calls still find their worker, and their dialogs."""
    callee = Agent()
    proxy = Proxy(gateway("callee", uri(callee.port)), arguments=["-w", "1"])
    caller = Agent(proxy=proxy)
    calls = []
    for _ in range(20):
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
        caller.send(text)
        m = callee.expect("INVITE")
        callee.respond(m, 180)
        caller.expect(180)
        calls.append((text, m))
    for text, m in calls[:10]:
        callee.respond(m, 200, "OK")
        caller.ack(text, caller.expect(200))
        callee.expect("ACK")
    for workers in ("4", "2", "3", "1"):
        proxy.arguments = ["-w", workers]
        crash(proxy)
        equal(proxy.metric("invites_in_flight"), 10, "calls in flight")
        equal(proxy.metric("dialogs"), 10, "dialogs")
    for text, m in calls[10:]:
        caller.send(cancel_of(text))
        caller.expect(200)
        cancel = callee.expect("CANCEL")
        equal(cancel.branch, m.branch, "branch of the CANCEL")
        callee.respond(cancel, 200)
        callee.respond(m, 487)
        callee.expect("ACK")
        caller.ack(text, caller.expect(487))
    wait_until("no call in flight", lambda: proxy.metric("invites_in_flight") == 0)


def test_without():
    """store.transactions = false: the call is forgotten, and its CANCEL goes the stateless way."""
    callee = Agent()
    proxy = Proxy(gateway("callee", uri(callee.port)) + "store { transactions = false }\n")
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    callee.respond(callee.expect("INVITE"), 180)
    caller.expect(180)
    crash(proxy)
    equal(proxy.metric("invites_in_flight"), 0, "calls in flight")
    check("gone on with" not in proxy.log_text(), "nothing is read")


def test_store_of_another_process():
    proxy = Proxy("")
    status, _, text = command("-l", f"udp:127.0.0.1:{free_port()}", "-s", os.path.join(proxy.dir, "store"))
    equal(status, 1, "status")
    check("in use by another process" in text, text)


def test_damaged_store():
    """It is moved aside, and the proxy begins without."""
    call = Call().start()
    call.ring()
    call.proxy.process.kill()
    call.proxy.process.wait()
    call.proxy.log.close()
    store = os.path.join(call.proxy.dir, "store")
    for name in os.listdir(store):
        if name.startswith("worker-") and name.endswith(".mdb"):
            with open(os.path.join(store, name), "r+b") as f:
                f.seek(8)
                f.write(b"\xff" * 200)
    call.proxy.start()
    call.proxy.await_log("moved to")
    check(call.proxy.metric("store_files_moved_aside_total") > 0, "it is counted")
    check([n for n in os.listdir(store) if ".damaged-" in n], "the file is kept")
    call.caller.send(call.caller.request("OPTIONS", uri(call.proxy.port)))
    call.caller.expect(200)


def test_full_store():
    """Calls go on without being stored, which is logged and counted; what was stored before is gone on with after a start."""
    callee = Agent()
    proxy = Proxy(gateway("callee", uri(callee.port)) + "store { map_size = 1m }\n")
    caller = Agent(proxy=proxy)

    def ring():
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}", headers=["X-Filler: " + "y" * 4000])
        caller.send(text)
        m = callee.expect("INVITE")
        callee.respond(m, 180)
        caller.expect(180)
        return text, m

    def cancel(text, m):
        caller.send(cancel_of(text))
        caller.expect(200)
        callee.respond(callee.expect("CANCEL"), 200)
        callee.respond(m, 487)
        equal(callee.expect("ACK").branch, m.branch, "branch of the ACK")
        caller.ack(text, caller.expect(487))

    first = ring()
    for _ in range(500):
        last = ring()
        if proxy.metric("store_failures_total"):
            break
    check(proxy.metric("store_failures_total"), "the store is full")
    proxy.await_log("calls cannot be stored, and go on without: store.map_size or the disk is full")
    cancel(*last)
    crash(proxy)
    cancel(*first)


# --- under load --------------------------------------------------------------------------------------------------

def script(folder, name, text):
    path = os.path.join(folder, name + ".xml")
    with open(path, "w") as f:
        f.write(text)
    return path


def test_under_load():
    rate = max(20 // SLOW, 5)
    seed = random.SystemRandom().randrange(1 << 30)
    chance = random.Random(seed)
    proxy = Proxy("", start=False)
    callees = {kind: Sipp(script(proxy.dir, "callee-" + kind, text)) for kind, text in ringing.CALLEES.items()}
    callees["cancelled"] = ringing.Ringer()
    routes = ""
    for kind, callee in callees.items():
        routes += (f'gateway "{kind}" {{\n\ttarget = {{"{uri(callee.port)}"}}\n}}\n'
                   f'route "{kind}" {{\n\tuser = "^{kind}$"\n\tgateway = "{kind}"\n}}\n')
    proxy.write(routes)
    proxy.start()
    seconds = ROUNDS * 1.0 + 1
    calls = int(rate * seconds)
    callers = {kind: Sipp(script(proxy.dir, "caller-" + kind, text), to=proxy.port,
                          arguments=["-s", kind, "-m", calls, "-r", rate, "-l", 20000]) for kind, text in ringing.CALLERS.items()}
    callers["cancelled"] = ringing.Canceller(proxy, "cancelled", calls, rate)
    for _ in range(ROUNDS):
        time.sleep(chance.uniform(0.1, 1.4))
        crash(proxy)
        check("moved between workers, 0 left out" in proxy.log_text(), f"all records can be read (seed {seed})")
    for kind, caller in callers.items():
        equal(caller.finish(seconds + 60)[:2], (calls, 0), f"{kind} calls (seed {seed})")
    for kind, callee in callees.items():
        end = time.monotonic() + 20 * SLOW
        while callee.numbers()[0] < calls and time.monotonic() < end:
            time.sleep(0.2)
        equal(callee.quit()[:2], (calls, 0), f"{kind} calls at their callee (seed {seed})")


if __name__ == "__main__":
    run(globals())
