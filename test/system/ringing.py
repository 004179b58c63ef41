"""SIPp scripts of calls with a ringing phase, for a network that loses what is under way when the proxy ends: each end repeats what RFC 3261 has it
repeat. A caller and a callee for each kind: answered, refused, cancelled."""

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

# The Via lines of the INVITE, for a response that follows another request.
KEEP = "".join(f'<ereg regexp=".*" search_in="hdr" header="Via:" occurrence="{i}" assign_to="{i}"/>' for i in (1, 2))
KEPT = "Via: [$1]\nVia: [$2]"

CALLEES = {
    "answered": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(200, options='retrans="500"'),
        '<recv request="ACK"/>', '<recv request="BYE"/>', answer(), '<timewait milliseconds="4000"/>'),
    "refused": scenario(
        '<recv request="INVITE"/>', response(180), PAUSE.format(100, 1500), response(486, options='retrans="500"'),
        '<recv request="ACK"/>', '<timewait milliseconds="4000"/>'),
    "cancelled": scenario(
        f'<recv request="INVITE"><action>{KEEP}</action></recv>', '<label id="1"/>', response(180, via=KEPT),
        '<recv request="CANCEL" timeout="500" ontimeout="1"/>', answer(),
        response(487, via=KEPT, options='retrans="500"'), '<recv request="ACK"/>', '<timewait milliseconds="4000"/>'),
}
