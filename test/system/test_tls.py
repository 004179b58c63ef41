#!/usr/bin/env python3
"""TLS with the built binary: versions, names, certificates of both sides, resumption, and calls from UDP to TLS."""
import socket
import ssl
import sys
import threading
import warnings

sys.dont_write_bytecode = True
from certs import Authority  # noqa: E402
from system import SLOW, Agent, Message, Proxy, check, equal, free_port, gateway, run, wait_until  # noqa: E402


def listener(pairs, more=""):
    certificates = ", ".join(f'"{c}"' for c, _ in pairs)
    keys = ", ".join(f'"{k}"' for _, k in pairs)
    return f"{{ certificate = {{{certificates}}} key = {{{keys}}} {more} }}\n"


class Site:
    def __init__(self, pairs, more="", text="", udp=False):
        self.port, self.udp = free_port(), free_port()
        self.proxy = Proxy(listen=[], start=False,
                           text=f'listen "tls:127.0.0.1:{self.port}" ' + listener(pairs, more) +
                           (f'listen "udp:127.0.0.1:{self.udp}" {{ }}\n' if udp else "") + text)
        self.proxy.port = self.udp
        self.proxy.start()

    def connect(self, context, name="example.com", session=None):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=10 * SLOW)
        return context.wrap_socket(s, server_hostname=name, session=session)

    def handshakes(self, **labels):
        return self.proxy.metric("tls_handshakes_total", **labels)


def options(number=1):
    return "\r\n".join(["OPTIONS sip:127.0.0.1 SIP/2.0", f"Via: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bKtls{number}",
                        "From: <sip:a@127.0.0.1>;tag=1", "To: <sip:127.0.0.1>", f"Call-ID: tls{number}",
                        f"CSeq: {number} OPTIONS", "Max-Forwards: 70", "Content-Length: 0", "", ""]).encode()


def ask(s, number=1):
    s.sendall(options(number))
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(4096)
        check(more, "an answer")
        data += more
    return Message(data, None)


def client(authority, version=None):
    c = ssl.create_default_context(cafile=authority.ca)
    if version:
        c.minimum_version = c.maximum_version = version
    return c


def test_versions_and_resumption():
    ca = Authority()
    site = Site([ca.issue("server", "DNS:example.com")])
    for version, label in ((ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3")):
        context = client(ca, version)
        s = site.connect(context)
        ask(s)
        session = s.session
        s.close()
        s = site.connect(context, session=session)
        ask(s, 2)
        check(s.session_reused, f"TLS {label}: resumed")
        s.close()
        wait_until("the counters", lambda: site.handshakes(version=label, result="resumed") == 1)
        equal(site.handshakes(version=label, result="ok"), 1, f"TLS {label} handshakes")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        site.connect(old)
        raise AssertionError("TLS 1.1 was accepted")
    except (ssl.SSLError, ConnectionError):
        pass
    wait_until("the failure", lambda: site.handshakes(result="failed") == 1)


def test_sni_chooses():
    ca = Authority()
    site = Site([ca.issue("first", "DNS:first.example"), ca.issue("second", "DNS:second.example")])
    for name in ("first.example", "second.example"):
        s = site.connect(client(ca), name)
        names = [n for _, n in s.getpeercert()["subjectAltName"]]
        equal(names, [name], "names of the certificate")
        s.close()


def test_client_certificates():
    ca, other = Authority(), Authority("other")
    server = ca.issue("server", "DNS:example.com")
    mine, foreign = ca.issue("client", "DNS:client.example"), other.issue("foreign", "DNS:client.example")
    expired = ca.issue("expired", "DNS:client.example", expired=True)
    for mode, accepted in (("none", {None, "mine", "foreign", "expired"}), ("optional", {None, "mine"}), ("require", {"mine"})):
        site = Site([server], f'verify_client = {mode} ca = "{ca.ca}"')
        for name, pair in ((None, None), ("mine", mine), ("foreign", foreign), ("expired", expired)):
            context = client(ca)
            if pair:
                context.load_cert_chain(*pair)
            try:
                s = site.connect(context)
                good = ask(s).status > 0
                s.close()
            except (ssl.SSLError, ConnectionError, AssertionError):
                good = False
            equal(good, name in accepted, f"{mode}: a client with the certificate {name}")
        equal(site.handshakes(result="untrusted"), 4 - len(accepted), f"{mode}: refused")
        site.proxy.signal(15)


class Server(threading.Thread):
    """A next hop that speaks TLS, and answers every INVITE with 486."""

    def __init__(self, pair):
        super().__init__(daemon=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*pair)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.requests = []
        self.start()

    def run(self):
        while True:
            try:
                s = self.context.wrap_socket(self.socket.accept()[0], server_side=True)
            except (ssl.SSLError, ConnectionError):
                continue
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                try:
                    more = s.recv(4096)
                except OSError:
                    return
                if not more:
                    return
                data += more
            end = data.index(b"\r\n\r\n") + 4
            m, data = Message(data[:end], None), data[end:]
            self.requests.append(m)
            if m.method == "INVITE":
                lines = ["SIP/2.0 486 Busy Here"] + [f"{n}: {v}" for n, v in m.headers
                                                     if n.lower() in ("via", "from", "call-id", "cseq")]
                s.sendall("\r\n".join([*lines, f"To: {m.get('To')};tag=tls", "Content-Length: 0", "", ""]).encode())


def outbound(ca, pair, host="127.0.0.1"):
    """What a caller on UDP is told when the next hop has this certificate."""
    server = Server(pair)
    site = Site([ca.issue("own", "DNS:example.com")], f'ca = "{ca.ca}"', udp=True,
                text=gateway("tls", f"sip:{host}:{server.port};transport=tls"))
    caller = Agent(proxy=site.udp)
    statuses = []
    for _ in range(2):
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{site.udp}")
        caller.send(text)
        answer = caller.expect(486, 500, 503)
        caller.ack(text, answer)
        statuses.append(answer.status)
    return statuses, site, server


def test_outbound():
    ca = Authority()
    statuses, site, server = outbound(ca, ca.issue("hop", "IP:127.0.0.1"))
    equal(statuses, [486, 486], "answers")
    equal([m.method for m in server.requests if m.method == "INVITE"], ["INVITE"] * 2, "requests")
    check(server.requests[0].get("Via").startswith("SIP/2.0/TLS"), "the Via says TLS")
    equal(site.handshakes(result="ok"), 1, "one handshake for both calls")


def test_outbound_refuses():
    ca, other = Authority(), Authority("other")
    for what, pair in (("a wrong name", ca.issue("wrong", "DNS:other.example")),
                       ("an expired certificate", ca.issue("old", "IP:127.0.0.1", expired=True)),
                       ("a foreign CA", other.issue("foreign", "IP:127.0.0.1"))):
        statuses, site, server = outbound(ca, pair)
        equal(statuses, [500, 500], f"{what}: answers")
        equal(server.requests, [], f"{what}: requests that reached it")
        check(site.handshakes(result="untrusted") >= 1, f"{what}: counted")
        equal(site.proxy.metric("connections", state="open"), 0, f"{what}: connections")


def test_not_tls():
    ca = Authority()
    site = Site([ca.issue("server", "DNS:example.com")], "handshake_timeout = 500ms")
    plain = socket.create_connection(("127.0.0.1", site.port), timeout=10 * SLOW)
    plain.sendall(options())
    equal(plain.recv(100), b"", "plain SIP on the TLS port")
    wait_until("the counter", lambda: site.handshakes(result="not-tls") == 1)
    silent = socket.create_connection(("127.0.0.1", site.port), timeout=10 * SLOW)
    equal(silent.recv(100), b"", "silence on the TLS port")
    half = socket.create_connection(("127.0.0.1", site.port), timeout=10 * SLOW)
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    equal(half.recv(100), b"", "half a ClientHello")
    reset = socket.create_connection(("127.0.0.1", site.port), timeout=10 * SLOW)
    reset.sendall(b"\x16\x03\x01\x02\x00\x01")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    wait_until("the end of all", lambda: site.proxy.metric("connections") == 0)
    equal(site.proxy.metric("writer_threads"), 0, "writer threads")
    check(ask(site.connect(client(ca))).status, "a good client after that")


run(globals())
