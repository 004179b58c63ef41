"""Users of the registrar for the system tests: holdfastctl, agents that register with digest over UDP, TCP and TLS."""
import hashlib
import os
import re
import socket
import ssl
import subprocess

from system import HOLDFAST, SLOW, Agent, Message, equal, running

CTL = os.environ.get("HOLDFASTCTL") or os.path.join(os.path.dirname(HOLDFAST), "holdfastctl")
DOMAIN = "local.test"


def ctl(proxy, *arguments, password=None, socket_path=None):
    """Runs holdfastctl: (status, standard output, standard error)."""
    p = subprocess.run([CTL, "-s", socket_path or proxy.control, *arguments], input=password or "", capture_output=True,
                       text=True, timeout=20 * SLOW)
    return p.returncode, p.stdout, p.stderr


def add_user(proxy, name, password="secret"):
    equal(ctl(proxy, "user", "add", f"{name}@{DOMAIN}", password=password + "\n"), (0, "added\n", ""), "user add")


def credentials(response, method, uri, name, password="secret", md5=False, body=""):
    """The header that answers the challenge in a 401 or 407."""
    proxy = response.status == 407
    challenges = response.all("Proxy-Authenticate" if proxy else "WWW-Authenticate")
    wanted = "MD5" if md5 else "SHA-256"
    challenge = next(c for c in challenges if re.search(rf"algorithm={wanted}\b", c))
    realm, nonce = (re.search(rf'{k}="([^"]*)"', challenge).group(1) for k in ("realm", "nonce"))

    def h(text):
        return hashlib.new("md5" if md5 else "sha256", text.encode()).hexdigest()

    a2 = h(f"{method}:{uri}")
    answer = h(f"{h(f'{name}:{realm}:{password}')}:{nonce}:00000001:0a4f:auth:{a2}")
    return (f'{"Proxy-" if proxy else ""}Authorization: Digest username="{name}", realm="{realm}", nonce="{nonce}", '
            f'uri="{uri}", response="{answer}", algorithm={wanted}, qop=auth, cnonce="0a4f", nc=00000001')


class User(Agent):
    """A user of the domain on a UDP socket, or over one connection."""

    def __init__(self, name, proxy, transport="udp", port=None, password="secret"):
        self.name = name
        self.transport = transport
        self.password = password
        self.buffer = b""
        if transport == "udp":
            super().__init__(proxy=proxy)
            return
        self.family = socket.AF_INET
        self.host = "127.0.0.1"
        self.proxy = (self.host, port)
        self.seen = []
        self.socket = socket.create_connection(self.proxy, timeout=5 * SLOW)
        if transport == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.port = self.socket.getsockname()[1]
        running.append(self)

    @property
    def uri(self):
        extra = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.name}@{self.host}:{self.port}{extra}"

    @property
    def aor(self):
        return f"sip:{self.name}@{DOMAIN}"

    def send(self, text, to=None):
        if self.transport == "udp":
            super().send(text, to)
        else:
            self.socket.sendall(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)

    def receive(self, seconds=5):
        if self.transport == "udp":
            return super().receive(seconds)
        self.socket.settimeout(seconds * SLOW)
        while True:
            self.buffer = self.buffer.lstrip(b"\r\n")
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            length = re.search(rb"(?im)^(?:content-length|l)\s*:\s*(\d+)", head)
            need = int(length.group(1)) if length else 0
            if end and len(rest) >= need:
                m = Message(head + end + rest[:need], self.proxy)
                self.buffer = rest[need:]
                self.seen.append(m)
                return m
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError("the proxy has closed the connection")
            self.buffer += data

    def request(self, method, target, **options):
        text = super().request(method, target, **options)
        text = text.replace("From: <" + self.uri + ">", "From: <" + self.aor + ">")
        return text.replace("SIP/2.0/UDP", "SIP/2.0/" + self.transport.upper())

    def register(self, expires=600, contact=None, headers=(), md5=False, call_id=None, cseq=1):
        """Registers, answers a challenge; the final response."""
        call_id = call_id or f"reg-{self.name}-{self.port}"
        target = f"sip:{DOMAIN}"
        extra = [f"Expires: {expires}", *headers]
        for again in range(2):
            text = self.request("REGISTER", target, to=self.aor, call_id=call_id, cseq=cseq + again, headers=extra)
            if contact is not None:
                text = re.sub(r"Contact: [^\r]*\r\n", f"Contact: {contact}\r\n" if contact else "", text)
            self.send(text)
            m = self.receive()
            if m.status != 401:
                return m
            extra = [*extra, credentials(m, "REGISTER", target, self.name, self.password, md5)]
        return m

    def invite(self, target):
        """Calls; answers a challenge. The INVITE as text."""
        text = self.request("INVITE", target)
        self.send(text)
        m = self.receive()
        if m.status == 100:
            return text
        equal(m.status, 407, "status")
        self.ack(text, m)
        first = Message(text.encode(), None)
        text = self.request("INVITE", target, call_id=first.get("Call-ID"), cseq=2,
                            tag=re.search(r"tag=(\S+)", first.get("From")).group(1),
                            headers=[credentials(m, "INVITE", target, self.name, self.password)])
        self.send(text)
        return text
