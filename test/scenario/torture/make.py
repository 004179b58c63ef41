#!/usr/bin/env python3
"""Writes the torture messages of this folder, one file each; `make.py --check` only compares.

Each carries a trap that RFC 4475 or RFC 5118 describes, in words of our own. What a proxy must do with it stands
in expect.def. They live here as a script since an editor would spoil the bytes that matter.
"""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MESSAGES = {}


def sip(name, head, body=b"", length=True):
    """Registers a message: lines of the head joined by CRLF, Content-Length added unless `length` is false."""
    assert name not in MESSAGES, name
    raw = [h if isinstance(h, bytes) else h.encode("utf-8") for h in head]
    if length:
        raw.append(b"Content-Length: %d" % len(body))
    MESSAGES[name] = b"\r\n".join(raw) + b"\r\n\r\n" + body


def request(name, line, extra=(), body=b"", length=True, **over):
    """A request that is sound but for what the arguments say. An `over` of None leaves the header out."""
    method = line.split()[0]
    std = {
        "via": "Via: SIP/2.0/UDP pc7.mountain.example:5060;branch=z9hG4bK-%s" % name,
        "max_forwards": "Max-Forwards: 41",
        "to": "To: <sip:greta@torture.example>",
        "from_": "From: \"Anselm\" <sip:anselm@mountain.example>;tag=f-%s" % name,
        "call_id": "Call-ID: %s-7731@mountain.example" % name,
        "cseq": "CSeq: 3107 %s" % method,
    }
    std.update(over)
    sip(name, [line] + [h for h in std.values() if h is not None] + list(extra), body, length)


def response(name, line, extra=(), body=b"", length=True, **over):
    std = {
        "via": "Via: SIP/2.0/UDP proxy.torture.example;branch=z9hG4bK-ours-%s" % name,
        "via2": "Via: SIP/2.0/UDP pc7.mountain.example:5060;branch=z9hG4bK-%s;received=192.0.2.10" % name,
        "to": "To: <sip:greta@torture.example>;tag=t-%s" % name,
        "from_": "From: \"Anselm\" <sip:anselm@mountain.example>;tag=f-%s" % name,
        "call_id": "Call-ID: %s-7731@mountain.example" % name,
        "cseq": "CSeq: 3107 INVITE",
    }
    std.update(over)
    sip(name, [line] + [h for h in std.values() if h is not None] + list(extra), body, length)


SDP = b"\r\n".join([b"v=0", b"o=anselm 481516 2342 IN IP4 192.0.2.10", b"s=-", b"c=IN IP4 192.0.2.10", b"t=0 0",
                    b"m=audio 40122 RTP/AVP 0", b"a=rtpmap:0 PCMU/8000", b""])
SDP_TYPE = "Content-Type: application/sdp"
CONTACT = "Contact: <sip:anselm@192.0.2.10>"

# --- RFC 4475, 3.1.1: valid messages ---------------------------------------------------------------------------

sip("folded-invite", [
    "INVITE sip:greta@torture.example;quirk SIP/2.0",
    "T :",
    "\t<sip:greta@torture.example>",
    "  ;   hue  =   \"dark \\\"green\\\" \\\\\"",
    "fRoM\t: \"Anselm \\\\\\\"the\\\" elder\"      <sip:anselm@mountain.example>",
    "  ;",
    "  tag = 77-folded",
    "mAx-FoRwArDs:   0041",
    "i: folded-invite-7731@mountain.example",
    "CSeq: 0003107",
    "  INVITE",
    "Via  : SIP  / 2.0",
    " /UDP",
    "    pc7.mountain.example : 5060 ; branch = z9hG4bK-folded-invite ,",
    "  SIP / 2.0 / TCP    spool.mountain.example ; branch",
    "   =   z9hG4bK9-spool",
    "v:  SIP  / 2.0  / UDP  192.0.2.44   ; branch= z9hG4bK30239",
    "s :",
    "OddlyNamedHeader:   first part",
    "  second part of the same value",
    "HeaderWithNothingSensible: ;;,,;;,;",
    "c: application/sdp",
    "Route  :",
    " <sip:192.0.2.1;lr;colour=blue;flag>",
    "m:\"Quoted \\\"\\\"\" <sip:anselm@192.0.2.10> ; extra =",
    "  worth ; another ; q",
    "  = 0.45",
    "l: %d" % len(SDP),
], SDP, length=False)

request("wide-characters", "we!rd-Method0.7_*+`%don't~ "
        "sip:0_odd.NAME~(yes!no)&is+it$/or?,/;;*:&so+on=2,odd!*pa$s~wo_rd.(isn't-it)@torture.example SIP/2.0",
        via="Via: SIP/2.0/UDP pc7.mountain.example;branch=z9hG4bK~'`+_*!.%-wide",
        to=b"To: \"bell \\\x07 nul \\\x00 del \\\x7f\" <sip:0_odd.NAME~(yes!no)&is+it$/or?,/;;*@torture.example>",
        from_="From: tok~0` tok'1+_ tok*2%!.- <sip:plain@mountain.example>;par''~+*_!.-%=\"\u0431\u0443\u043a\u0432\u044b\";tag=_t~1'+`*%!-.",
        call_id="Call-ID: wide%Q-!.*_+'@x`~)(><:\\/\"][?}{",
        extra=["x-!.%*+_`'~: \ufeff\u6f22\u5b57 \u00df\u00e9"])

request("escaped-at", "INVITE sip:sips%3Agreta%40mountain.example@torture.example SIP/2.0",
        to="To: <sip:%75%73er@torture.example>",
        from_="From: <sip:with%20some%20blanks@mountain.example>;tag=f-escaped-at",
        extra=["Contact: <sip:ans%65lm@192.0.2.10;%6D%72;w%65ight=h%65avy%31>", SDP_TYPE], body=SDP)

request("escaped-nul", "REGISTER sip:torture.example SIP/2.0",
        to="To: <sip:a%00z@torture.example>", from_="From: <sip:a%00z@torture.example>;tag=f-nul",
        extra=["Contact: <sip:%00%00@192.0.2.10>", "m: <sip:%00@192.0.2.10>"])

request("percent-method", "INV%49T%45 sip:torture.example SIP/2.0",
        to="To: \"%q%zz%\" <sip:greta@torture.example>",
        extra=["Contact: <sip:alias1@192.0.2.10>, <sip:alias2@192.0.2.10>;expires=4200", "%63ontact: <sip:alias3@192.0.2.10>"])

request("display-tight", "OPTIONS sip:greta@torture.example SIP/2.0",
        from_="From: anselm<sip:anselm@mountain.example>;tag=f-tight")

request("long-values", "INVITE sip:greta@torture.example SIP/2.0",
        to="To: \"" + "A display name that goes on " * 16 + "\"<sip:" + "verylonguser" * 14 + "@torture.example>",
        from_="From: <sip:" + "anselm-" * 30 + "@mountain.example>;tag=f" + "0123456789" * 12 + ";longparameter"
              + "-long" * 30 + "=" + "value" * 30 + ";shorter",
        call_id="Call-ID: " + "long." * 60 + "7731@mountain.example",
        cseq="CSeq: 3107 INVITE",
        via="Via: SIP/2.0/UDP pc7.mountain.example;branch=z9hG4bK" + "-long" * 50,
        extra=["Via: SIP/2.0/TCP " + "h%d." % i + "deep." * 8 + "mountain.example;branch=z9hG4bK-hop%d" % i for i in range(30)]
        + ["Unknown-" + "Quite-" * 40 + "Long-Name: unknown-" + "quite-" * 40 + "long-value; with-" + "a-" * 60 + "parameter=1",
           "Contact: <sip:" + "amazingly" * 30 + "@192.0.2.10>", SDP_TYPE], body=SDP)

request("trailing-octets", "REGISTER sip:torture.example SIP/2.0",
        to="To: <sip:anselm@torture.example>", extra=["Contact: <sip:anselm@192.0.2.10>"])
MESSAGES["trailing-octets"] += (
    b"INVITE sip:second@torture.example SIP/2.0\r\nVia: SIP/2.0/UDP pc7.mountain.example;branch=z9hG4bK-second\r\n"
    b"Max-Forwards: 70\r\nTo: <sip:second@torture.example>\r\nFrom: <sip:anselm@mountain.example>;tag=f-second\r\n"
    b"Call-ID: second-7731@mountain.example\r\nCSeq: 1 INVITE\r\nContact: <sip:anselm@192.0.2.10>\r\n"
    b"Content-Length: 0\r\n\r\n")

request("user-semicolon", "OPTIONS sip:greta;via=a%40b.example;z@torture.example SIP/2.0",
        to="To: <sip:greta;via=a%40b.example;z@torture.example>", extra=["Accept: application/sdp"])

request("transports", "OPTIONS sip:greta@torture.example SIP/2.0",
        extra=["Via: SIP/2.0/SCTP s1.mountain.example;branch=z9hG4bK-s1",
               "Via: SIP/2.0/TLS s2.mountain.example;branch=z9hG4bK-s2",
               "Via: SIP/2.0/PIGEON s3.mountain.example;branch=z9hG4bK-s3",
               "Via: SIP/2.0/TCP s4.mountain.example;branch=z9hG4bK-s4"])

BOUND = b"cut-here-5512"
PARTS = (b"--" + BOUND + b"\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\n"
         b"A line, then CRLFCRLF\r\n\r\nand more\r\n--" + BOUND
         + b"\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
         + bytes(range(256)) + b"\r\n\r\n\x00\x00SIP/2.0 200 OK\r\n\r\n" + b"\r\n--" + BOUND + b"--\r\n")
request("multipart-binary", "MESSAGE sip:greta@torture.example SIP/2.0",
        extra=["MIME-Version: 1.0", b"Content-Type: multipart/mixed;boundary=" + BOUND], body=PARTS)

response("reason-odd", "SIP/2.0 200 = 5**2 * 2**3 \u0432\u0435\u0440\u043d\u043e; (\"so?\") % <yes>", extra=["Contact: <sip:greta@192.0.2.20>"])
response("reason-empty", "SIP/2.0 183 ", extra=["Contact: <sip:greta@192.0.2.20>"])

# --- RFC 4475, 3.1.2: invalid messages -------------------------------------------------------------------------

request("separators", "INVITE sip:greta@torture.example SIP/2.0",
        via="Via: SIP/2.0/UDP pc7.mountain.example;branch=z9hG4bK-separators;;,;,,",
        extra=["Contact: \"Anselm\" <sip:anselm@192.0.2.10>;;;;", SDP_TYPE], body=SDP)

request("length-beyond", "INVITE sip:greta@torture.example SIP/2.0", length=False,
        extra=[CONTACT, SDP_TYPE, "Content-Length: 8750"], body=SDP)

request("length-negative", "INVITE sip:greta@torture.example SIP/2.0", length=False,
        extra=[CONTACT, SDP_TYPE, "Content-Length: -17"], body=SDP)

request("scalar-request", "REGISTER sip:torture.example SIP/2.0",
        cseq="CSeq: 99887766554433221100 REGISTER", max_forwards="Max-Forwards: 600",
        extra=["Expires: " + "9" * 90, "Contact: <sip:anselm@192.0.2.10>;expires=111222333444555"])

response("scalar-response", "SIP/2.0 503 Service Unavailable", cseq="CSeq: 11223344556677889900 INVITE",
         extra=["Retry-After: " + "31415926535" * 3, "Warning: 3991 wall \"Overlarge\""])

request("quote-open", "INVITE sip:greta@torture.example SIP/2.0",
        to="To: \"Greta of Torture <sip:greta@torture.example>", extra=[CONTACT, SDP_TYPE], body=SDP)

request("ruri-brackets", "INVITE <sip:greta@torture.example> SIP/2.0", extra=[CONTACT, SDP_TYPE], body=SDP)
request("ruri-blank", "INVITE sip:greta@torture.example; lr SIP/2.0", extra=[CONTACT, SDP_TYPE], body=SDP)
request("line-spaces", "INVITE  sip:greta@torture.example  SIP/2.0", extra=[CONTACT, SDP_TYPE], body=SDP)
request("line-trailing", "OPTIONS sip:greta@torture.example SIP/2.0  ", extra=["Accept: application/sdp"])
request("ruri-headers", "INVITE sip:greta@torture.example?Route=%3Csip:elsewhere.example%3Blr%3E SIP/2.0",
        extra=[CONTACT, SDP_TYPE], body=SDP)
request("date-zone", "INVITE sip:greta@torture.example SIP/2.0",
        extra=["Date: Tue, 02 Feb 2016 10:20:30 CET", CONTACT, SDP_TYPE], body=SDP)
request("contact-bare", "REGISTER sip:torture.example SIP/2.0", to="To: <sip:anselm@torture.example>",
        extra=["Contact: sip:anselm@192.0.2.10?Route=%3Csip:elsewhere.example%3E"])
request("addr-blanks", "OPTIONS sip:greta@torture.example SIP/2.0", to="To: \"Sand, Greta\" < sip:greta@torture.example >")
request("display-comma", "OPTIONS sip:greta@torture.example SIP/2.0",
        from_="From: Stein, Anselm <sip:anselm@mountain.example>;tag=f-comma")
request("version-unknown", "OPTIONS sip:greta@torture.example SIP/9.4",
        via="Via: SIP/9.4/UDP pc7.mountain.example:5060;branch=z9hG4bK-version-unknown")
request("method-mismatch", "OPTIONS sip:greta@torture.example SIP/2.0", cseq="CSeq: 3107 INVITE")
request("method-mismatch-unknown", "BRANDNEW sip:greta@torture.example SIP/2.0", cseq="CSeq: 3107 INVITE",
        extra=[CONTACT, SDP_TYPE], body=SDP)
response("status-huge", "SIP/2.0 8589934792 Wraps to 200 in 32 bits")

# --- RFC 4475, 3.2 ---------------------------------------------------------------------------------------------

request("branch-bare", "OPTIONS sip:greta@torture.example SIP/2.0",
        via="Via: SIP/2.0/UDP pc7.mountain.example:5060;branch=z9hG4bK")

# --- RFC 4475, 3.3: semantics ----------------------------------------------------------------------------------

request("headers-missing", "INVITE sip:greta@torture.example SIP/2.0", to=None, from_=None, call_id=None,
        extra=[CONTACT, SDP_TYPE], body=SDP)
request("scheme-unknown", "OPTIONS noSuchScheme:only-itself-knows(what) SIP/2.0")
request("scheme-atypical", "OPTIONS gopher.tunnel://192.0.2.77:7070/menu SIP/2.0")
request("scheme-headers", "REGISTER sip:torture.example SIP/2.0", to="To: <doi:10.1000/182>",
        from_="From: <https://mountain.example/anselm>;tag=f-scheme", extra=["Contact: <urn:who:Anselm>"])
request("require-both", "OPTIONS sip:greta@torture.example SIP/2.0",
        extra=["Require: only-the-callee-cares, nor-this-one", "Proxy-Require: nobody-does-this, nor-that",
               "Proxy-Require: nor-the-third"])
request("require-only", "OPTIONS sip:greta@torture.example SIP/2.0", extra=["Require: only-the-callee-cares, nor-this-one"])
request("type-unknown", "INVITE sip:greta@torture.example SIP/2.0", extra=[CONTACT, "Content-Type: application/x-nobody-reads"],
        body=b"<what><is this=\"it\"/></what>\r\n")
request("auth-unknown", "REGISTER sip:torture.example SIP/2.0", to="To: <sip:anselm@torture.example>",
        extra=["Authorization: HandShakeOfOld grip=firm", "Contact: <sip:anselm@192.0.2.10>"])
request("single-twice", "INVITE sip:greta@torture.example SIP/2.0",
        extra=["Via: SIP/2.0/UDP other.mountain.example;branch=z9hG4bK-other", "Max-Forwards: 5",
               "To: <sip:gustav@torture.example>", "From: <sip:else@mountain.example>;tag=f-else",
               "Call-ID: other-7731@mountain.example", "CSeq: 44 INVITE", CONTACT, SDP_TYPE], body=SDP)
request("length-twice", "OPTIONS sip:greta@torture.example SIP/2.0", length=False,
        extra=["Content-Length: 11", "Content-Type: text/plain", "Content-Length: 23"], body=b"eleven bytes and no more than that\r\n")
response("via-broadcast", "SIP/2.0 200 OK", via2="Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK-bcast",
         extra=["Contact: <sip:greta@192.0.2.20>", SDP_TYPE], body=SDP)
request("hops-zero", "OPTIONS sip:greta@torture.example SIP/2.0", max_forwards="Max-Forwards: 0")
request("contact-header-param", "REGISTER sip:torture.example SIP/2.0", to="To: <sip:anselm@torture.example>",
        extra=["Contact: sip:+4930555012@192.0.2.10;mystery"])
request("contact-url-param", "REGISTER sip:torture.example SIP/2.0", to="To: <sip:anselm@torture.example>",
        extra=["Contact: <sip:+4930555012@192.0.2.10;mystery>"])
request("contact-escaped-header", "REGISTER sip:torture.example SIP/2.0", to="To: <sip:anselm@torture.example>",
        extra=["Contact: <sip:anselm@192.0.2.10?Route=%3Csip:edge.mountain.example%3E>"])
request("accept-odd", "INVITE sip:greta@torture.example SIP/2.0", extra=["Accept: text/nobody-writes-this", CONTACT, SDP_TYPE],
        body=SDP)

# --- RFC 4475, 3.4 ---------------------------------------------------------------------------------------------

sip("rfc2543", [
    "INVITE sip:greta@torture.example SIP/2.0",
    "Via: SIP/2.0/UDP pc7.mountain.example",
    "From: <sip:+4930555012@mountain.example;user=phone>",
    "To: sip:+4930555013@torture.example;user=phone",
    "Call-ID: rfc2543-7731@mountain.example",
    "CSeq: 1 INVITE",
    "Record-Route: <sip:greta@mountain.example;maddr=192.0.2.44>",
    "Contact: <sip:anselm@192.0.2.10>",
    "Content-Type: application/sdp",
], SDP)

# --- RFC 5118 --------------------------------------------------------------------------------------------------

V6 = "Via: SIP/2.0/UDP [2001:db8::7:5]:5060;branch=z9hG4bK-"
SDP6 = SDP.replace(b"IP4 192.0.2.10", b"IP6 2001:db8::7:5")
request("v6-reference", "REGISTER sip:[2001:db8::77] SIP/2.0", via=V6 + "v6-reference", to="To: <sip:anselm@torture.example>",
        extra=["Contact: <sip:anselm@[2001:db8::7:5]:5062>"])
request("v6-no-brackets", "REGISTER sip:2001:db8::77 SIP/2.0", via=V6 + "v6-no-brackets", to="To: <sip:anselm@torture.example>",
        extra=["Contact: <sip:anselm@[2001:db8::7:5]>"])
request("v6-port-inside", "REGISTER sip:[2001:db8::77:5070] SIP/2.0", via=V6 + "v6-port-inside",
        to="To: <sip:anselm@torture.example>", extra=["Contact: <sip:anselm@[2001:db8::7:5]>"])
request("v6-port-outside", "REGISTER sip:[2001:db8::77]:5070 SIP/2.0", via=V6 + "v6-port-outside",
        to="To: <sip:anselm@torture.example>", extra=["Contact: <sip:anselm@[2001:db8::7:5]>"])
request("v6-received-brackets", "OPTIONS sip:[2001:db8::77] SIP/2.0",
        via="Via: SIP/2.0/UDP [2001:db8::9];received=[2001:db8::9:44];branch=z9hG4bK-v6-received-brackets",
        extra=["Via: SIP/2.0/UDP [2001:db8::a];received=[2001:db8::a:44];branch=z9hG4bK-v6-second"])
request("v6-received-plain", "OPTIONS sip:[2001:db8::77] SIP/2.0",
        via="Via: SIP/2.0/UDP [2001:db8::9];received=2001:db8::9:44;branch=z9hG4bK-v6-received-plain",
        extra=["Via: SIP/2.0/UDP [2001:db8::a];received=2001:db8::a:44;branch=z9hG4bK-v6-second"])
request("v6-sdp", "INVITE sip:greta@[2001:db8::77] SIP/2.0", via=V6 + "v6-sdp",
        extra=["Contact: <sip:anselm@[2001:db8::7:5]>", SDP_TYPE], body=SDP6)
request("v6-mixed-vias", "INFO sip:greta@torture.example SIP/2.0",
        via="Via: SIP/2.0/UDP [2001:db8::7:5]:6050;branch=z9hG4bK-v6-mixed-vias",
        extra=["Via: SIP/2.0/UDP 192.0.2.44;branch=z9hG4bK-mixed-2",
               "Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK-mixed-3;received=192.0.2.200"])
request("v6-mixed-sdp", "INVITE sip:greta@[2001:db8::77] SIP/2.0", via=V6 + "v6-mixed-sdp",
        extra=["Contact: <sip:anselm@[2001:db8::7:5]>", SDP_TYPE],
        body=b"v=0\r\no=anselm 9 9 IN IP6 2001:db8::7:5\r\ns=-\r\nt=0 0\r\nm=audio 40122 RTP/AVP 0\r\nc=IN IP4 192.0.2.10\r\n"
             b"m=video 40124 RTP/AVP 31\r\nc=IN IP6 2001:db8::7:6\r\n")
request("v6-mapped", "INVITE sip:greta@torture.example SIP/2.0",
        via="Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bK-v6-mapped",
        extra=["Via: SIP/2.0/UDP [::ffff:192.0.2.44];branch=z9hG4bK-mapped-2", "Contact: <sip:anselm@[::ffff:192.0.2.10]>",
               SDP_TYPE], body=SDP.replace(b"IP4 192.0.2.10", b"IP6 ::ffff:192.0.2.10"))
request("v6-three-colons", "OPTIONS sip:three@[2001:db8:::192.0.2.77] SIP/2.0", to="To: <sip:three@[2001:db8:::192.0.2.77]>")
request("v6-two-colons", "OPTIONS sip:greta@[2001:db8::192.0.2.77] SIP/2.0", to="To: <sip:greta@[2001:db8::192.0.2.77]>")


def main():
    bad = 0
    files = {n + ".sip": b for n, b in MESSAGES.items()}
    for name, data in sorted(files.items()):
        path = os.path.join(HERE, name)
        if "--check" in sys.argv:
            old = open(path, "rb").read() if os.path.exists(path) else None
            if old != data:
                print("%s differs from make.py" % name)
                bad = 1
        else:
            with open(path, "wb") as f:
                f.write(data)
    for name in sorted(os.listdir(HERE)):
        if name.endswith(".sip") and name not in files:
            print("%s is not made by make.py" % name)
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
