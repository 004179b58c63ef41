"""SIPp scripts of calls with a ringing phase, for a network that loses what is under way when the proxy ends: each end repeats what RFC 3261 has it
repeat. A caller and a callee for each kind: answered, refused, cancelled. The callee that is cancelled is no
script: SIPp fails a call when a CANCEL comes between two of its steps, or a copy of one comes late."""
import socket
import threading
import time

from system import Agent

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
    "cancelled": scenario(
        INVITE, TRYING, '<recv response="180"/>', PAUSE.format(100, 1500), request("CANCEL", retrans=500), RINGING,
        '<recv response="487" optional="true" next="1"/>', '<recv response="200"/>', '<recv response="487"/>',
        '<label id="1"/>', request("ACK", to=TAG), '<timewait milliseconds="4000"/>'),
}

CALLEES = {
    "answered": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(200, options='retrans="500"'),
        '<recv request="ACK"/>', '<recv request="BYE"/>', answer(), '<timewait milliseconds="4000"/>'),
    "refused": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(486, options='retrans="500"'),
        '<recv request="ACK"/>', '<timewait milliseconds="4000"/>'),
}


class Ringer(threading.Thread):
    """A callee that rings until it is cancelled, with 180 each half second, and repeats its 487 until the ACK comes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.agent = Agent()
        self.port = self.agent.port
        self.calls = {}  # by Call-ID: [INVITE, status, when to send it again or None, interval]
        self.wrong = []
        self.ending = False
        self.start()

    def numbers(self):
        """(calls that ended as they should, what else has happened)"""
        return sum(again is None for _, _, again, _ in list(self.calls.values())), len(self.wrong)

    def quit(self):
        self.ending = True
        self.join()
        for m in self.wrong:
            print("#", m.data.decode(errors="replace").replace("\n", "\n# "))
        return self.numbers()

    def run(self):
        while not self.ending:
            try:
                self.take(self.agent.receive(0.02))
            except socket.timeout:
                pass
            now = time.monotonic()
            for call in self.calls.values():
                if call[2] is not None and call[2] <= now:
                    self.tell(call)

    def tell(self, call):
        invite, status, _, interval = call
        self.agent.respond(invite, status)
        call[2:] = time.monotonic() + interval, min(2 * interval, 4) if status == 487 else interval

    def take(self, m):
        call = self.calls.get(m.get("Call-ID"))
        if m.method == "INVITE" and not call:
            call = self.calls[m.get("Call-ID")] = [m, 180, None, 0.5]
            self.tell(call)
        elif not call or m.branch != call[0].branch:  # a second INVITE, a CANCEL or ACK of nothing
            self.wrong.append(m)
        elif m.method == "INVITE":
            self.agent.respond(m, call[1])
        elif m.method == "CANCEL":
            self.agent.respond(m, 200)
            if call[1] == 180:
                call[1] = 487
                self.tell(call)
        elif m.method == "ACK" and call[1] == 487:
            call[2] = None
        else:
            self.wrong.append(m)
