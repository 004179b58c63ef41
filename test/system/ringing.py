"""SIPp scripts of calls with a ringing phase, for a network that loses what is under way when the proxy ends: each end repeats what RFC 3261 has it
repeat. A caller and a callee for each kind: answered, refused. Those of calls that are cancelled are no scripts: SIPp fails a call
when a CANCEL comes between two of its steps, or when a copy of it or of its answer comes late."""
import random
import socket
import threading
import time

from system import Agent, cancel_of, running

VIA = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bK-[pid]-[call_number]-"
CALLER = """From: <sip:caller@[local_ip]:[local_port]>;tag=[pid]c[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>{to}
Call-ID: [call_id]
CSeq: {cseq}
Max-Forwards: 70
Contact: <sip:caller@[local_ip]:[local_port]>
Content-Length: 0"""
CALLEE = """[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
CSeq: 1 INVITE
[last_Record-Route:]
Contact: <sip:callee@[contact]>
Content-Length: 0"""
PAUSE = '<pause distribution="uniform" min="{}" max="{}"/>'


def send(text, options=""):
    return f"<send {options}><![CDATA[\n{text}\n\n]]></send>"


def request(method, cseq=1, branch="invite", to="", more="", uri="sip:[service]@[remote_ip]:[remote_port]", **options):
    text = f"{method} {uri} SIP/2.0\n{VIA}{branch}\n{more}" + CALLER.format(to=to, cseq=f"{cseq} {method}")
    return send(text, " ".join(f'{k}="{v}"' for k, v in options.items()))


def response(status, via="[last_Via:]", options=""):
    return send(f"SIP/2.0 {status} Whatever\n{via}\n{CALLEE}", options)


def answer(*headers):
    """A 200 to what came last."""
    return send("SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\nContent-Length: 0")


def scenario(*steps):
    return '<?xml version="1.0" encoding="ISO-8859-1" ?>\n<scenario name="ringing">\n' + "\n".join(steps) + "\n</scenario>\n"


INVITE = request("INVITE", retrans=500)
TRYING = '<recv response="100" optional="true"/>'
RINGING = '<recv response="180" optional="true"/>'
TAG = "[peer_tag_param]"
DIALOG = dict(to=TAG, more="[routes]\n", uri="[next_url]")

CALLERS = {
    "answered": scenario(
        INVITE, TRYING, RINGING, '<recv response="200" rrs="true"/>', request("ACK", branch="ack", **DIALOG),
        '<pause milliseconds="4000"/>', request("BYE", 2, "bye", retrans=500, **DIALOG), TRYING, '<recv response="200"/>'),
    "refused": scenario(
        INVITE, TRYING, RINGING, '<recv response="486"/>', request("ACK", to=TAG), '<timewait milliseconds="4000"/>'),
}

CALLEES = {
    "answered": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(200, options='retrans="500"'),
        '<recv request="ACK"/>', '<recv request="BYE"/>', answer(), '<timewait milliseconds="4000"/>'),
    "refused": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(486, options='retrans="500"'),
        '<recv request="ACK"/>', '<timewait milliseconds="4000"/>'),
}


class Peer(threading.Thread):
    """Many calls at one socket. What has to be sent again, or later, is `again`: a time, or None."""

    def __init__(self, **options):
        super().__init__(daemon=True)
        self.agent = Agent(**options)
        self.port = self.agent.port
        self.calls = {}  # by Call-ID
        self.wrong = []
        self.ending = False
        running.append(self)
        self.start()

    def numbers(self):
        """(calls that ended as they should, what else has happened)"""
        return sum(call.ended() for call in list(self.calls.values())), len(self.wrong)

    def quit(self):
        self.stop()
        for m in self.wrong:
            print("#", m.data.decode(errors="replace").replace("\n", "\n# "))
        return self.numbers()

    def stop(self):
        """Of the harness: before the agent's socket is closed."""
        self.ending = True
        self.join()

    def describe(self):
        return ""

    def run(self):
        while not self.ending:
            try:
                self.take(self.agent.receive(0.02))
            except socket.timeout:
                pass
            now = time.monotonic()
            self.turn(now)
            for call in self.calls.values():
                if call.again is not None and call.again <= now:
                    call.due(now)

    def turn(self, now):
        pass


class Ringing:
    """A callee's call, with a 180 each half second until it is cancelled, and a 487 until the ACK comes."""

    def __init__(self, agent, invite):
        self.agent, self.invite, self.status, self.interval = agent, invite, 180, 0.5
        self.due(time.monotonic())

    def ended(self):
        return self.again is None

    def due(self, now):
        self.agent.respond(self.invite, self.status)
        self.again = now + self.interval
        if self.status == 487:
            self.interval = min(2 * self.interval, 4)

    def take(self, m):
        """False: not what may come."""
        if m.branch != self.invite.branch:
            return False  # of nothing: a second INVITE, a CANCEL that does not find its call
        if m.method == "INVITE":
            self.agent.respond(m, self.status)
        elif m.method == "CANCEL":
            self.agent.respond(m, 200)
            if self.status == 180:
                self.status = 487
                self.due(time.monotonic())
        elif m.method == "ACK" and self.status == 487:
            self.again = None
        else:
            return False
        return True


class Ringer(Peer):
    """The callee of calls that are cancelled."""

    def take(self, m):
        call = self.calls.get(m.get("Call-ID"))
        if not call and m.method == "INVITE":
            self.calls[m.get("Call-ID")] = Ringing(self.agent, m)
        elif not call or not call.take(m):
            self.wrong.append(m)


class Cancelling:
    """A caller's call: cancelled some time after its first 180."""

    def __init__(self, agent, text):
        self.agent, self.invite, self.text, self.interval = agent, text, text, 0.5
        self.rings = self.cancelled = self.answered = False
        self.final = None
        self.due(time.monotonic())

    def ended(self):
        return self.answered and self.final is not None

    def due(self, now):
        if self.rings and not self.cancelled:
            self.cancelled, self.text, self.interval = True, cancel_of(self.invite), 0.5
        self.agent.send(self.text)
        self.again = now + self.interval
        self.interval *= 2

    def take(self, m):
        """False: not what may come."""
        if m.get("CSeq").endswith("CANCEL"):
            self.answered, self.again = True, None
            return m.status == 200
        if m.status == 180 and not self.rings:
            self.rings, self.again = True, time.monotonic() + random.uniform(0.1, 1.5)
        elif m.status == 100 and not self.rings:
            self.again = None
        if m.status < 200:
            return True
        self.agent.ack(self.invite, m)
        first, self.final = self.final, m.data
        return m.status == 487 and self.cancelled and first in (None, m.data)


class Canceller(Peer):
    """The caller of so many calls to `user`."""

    def __init__(self, proxy, user, calls, rate):
        self.to, self.count, self.gap, self.next = f"sip:{user}@127.0.0.1:{proxy.port}", calls, 1 / rate, time.monotonic()
        super().__init__(proxy=proxy)

    def turn(self, now):
        while self.next <= now and len(self.calls) < self.count:
            text = self.agent.request("INVITE", self.to)
            self.calls[text.partition("Call-ID: ")[2].partition("\r")[0]] = Cancelling(self.agent, text)
            self.next += self.gap

    def take(self, m):
        call = self.calls.get(m.get("Call-ID"))
        if not call or not call.take(m):
            self.wrong.append(m)

    def finish(self, seconds):
        end = time.monotonic() + seconds
        while self.numbers()[0] < self.count and time.monotonic() < end:
            time.sleep(0.1)
        return self.quit()
