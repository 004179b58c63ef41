"""What the system tests share: the proxy under test, SIP user agents in Python, SIPp, the lossy relay, TAP.

HOLDFAST names the binary (build/holdfast), TOOLS the folder of relay and flood (build/test/bench). SANITIZER says which
sanitizer the binary was built with, if any: then waits are longer and loads smaller."""
import atexit
import csv
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

from ports import free_port, tcp_port_open, udp_port_open  # noqa: F401 (the tests take them from here)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HOLDFAST = os.environ.get("HOLDFAST") or os.path.join(ROOT, "build", "holdfast")
TOOLS = os.environ.get("TOOLS") or os.path.join(ROOT, "build", "test", "bench")
SANITIZER = os.environ.get("SANITIZER", "")
SLOW = {"address": 3, "thread": 6}.get(SANITIZER, 1)
BENCH = os.path.join(ROOT, "test", "bench")

running = []  # what to end when the test ends


class Skip(Exception):
    pass


# --- results -----------------------------------------------------------------------------------------------------

def run(namespace):
    """Runs every test_* function of a module, in order, and prints TAP. Names on the command line choose some."""
    tests = [(n, f) for n, f in namespace.items() if n.startswith("test_") and callable(f)]
    if sys.argv[1:]:
        tests = [t for t in tests if t[0] in sys.argv[1:]]
    print(f"1..{len(tests)}", flush=True)
    failed = False
    for number, (name, test) in enumerate(tests, 1):
        try:
            test()
            stop_all()
            print(f"ok {number} - {name}", flush=True)
        except Skip as e:
            stop_all(quiet=True)
            print(f"ok {number} - {name} # SKIP {e}", flush=True)
        except BaseException:
            failed = True
            text = traceback.format_exc() + "".join(p.describe() for p in running)
            stop_all(quiet=True)
            print(f"not ok {number} - {name}", flush=True)
            print("\n".join("# " + line for line in text.splitlines()), flush=True)
    sys.exit(1 if failed else 0)


def stop_all(quiet=False):
    while running:
        try:
            running.pop().stop()
        except Exception:
            if not quiet:
                raise


atexit.register(stop_all, quiet=True)


def equal(got, want, what="value"):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, expected {want!r}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def wait_until(what, test, seconds=10):
    """Waits for an event that only polling can see."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds * SLOW} s")
        time.sleep(0.01)


def temporary_folder():
    """A folder that is gone when the program ends."""
    folder = tempfile.mkdtemp(prefix="holdfast-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# --- the proxy ---------------------------------------------------------------------------------------------------

def command(*arguments, timeout=20, **kw):
    """Runs the binary to its end: (status, standard output, standard error)."""
    p = subprocess.run([HOLDFAST, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=timeout * SLOW, **kw)
    return p.returncode, p.stdout, p.stderr


def gateway(name, *targets, **options):
    """Text of a gateway section, and of a route of the same name that leads everything there."""
    lines = "".join(f"\t{k} = {v}\n" for k, v in options.items())
    quoted = ", ".join(f'"{t}"' for t in targets)
    return f'gateway "{name}" {{\n\ttarget = {{{quoted}}}\n{lines}}}\nroute "{name}" {{\n\tgateway = "{name}"\n}}\n'


def uri(port):
    return f"sip:127.0.0.1:{port}"


class Proxy:
    """The built binary on a free loopback port, with a temporary store."""

    def __init__(self, text="", listen=None, arguments=(), drain="1s", log="", start=True):
        self.dir = tempfile.mkdtemp(prefix="holdfast-test-")
        self.port = free_port()
        self.http = free_port()
        self.listen = listen or [f"udp:127.0.0.1:{self.port}"]
        self.drain = drain
        self.log_options = log
        self.conf = os.path.join(self.dir, "holdfast.conf")
        self.control = os.path.join(self.dir, "control.sock")
        self.arguments = list(arguments)
        self.process = None
        self.write(text)
        running.append(self)
        if start:
            self.start()

    def write(self, text):
        """The configuration; with reload() a new one."""
        with open(self.conf, "w") as f:
            for name in self.listen:
                f.write(f'listen "{name}" {{ }}\n')
            f.write(f'stats {{ listen = "127.0.0.1:{self.http}" }}\n')
            f.write(f'control {{ socket = "{self.control}" }}\n')
            f.write(f"drain {{ timeout = {self.drain} }}\n")
            f.write(f"log {{ {self.log_options} }}\n")
            f.write(text)

    def start(self):
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen(
            [HOLDFAST, "-c", self.conf, "-s", os.path.join(self.dir, "store"), *self.arguments],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_until("readiness of the proxy", self.ready, 15)

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the proxy ended with status {self.process.returncode}")
        return self.get("/readyz")[0] == 200

    def get(self, path):
        """(status, body); status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10 * SLOW) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metrics(self):
        status, body = self.get("/metrics")
        equal(status, 200, "status of /metrics")
        values = {}
        for line in body.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def metric(self, name, **labels):
        """The sum of a metric's values that carry these labels."""
        result = 0
        for key, value in self.metrics().items():
            if key.split("{")[0] == "holdfast_" + name and all(f'{k}="{v}"' in key for k, v in labels.items()):
                result += value
        return result

    def signal(self, number):
        self.process.send_signal(number)

    def drain_begins(self):
        """SIGTERM, and the proof that it has been seen: two pending SIGTERMs would be one."""
        self.signal(signal.SIGTERM)
        wait_until("the log line about draining", lambda: "draining" in self.log_text())

    def restart(self):
        """Ends it and starts it again on the same store."""
        self.signal(signal.SIGTERM)
        equal(self.wait(), 0, "status at the end")
        self.log.close()
        self.start()

    def takeover(self, binary=None):
        """A new process takes over from this one, which ends."""
        old, before = self.process, self.log_text().count("is ready")
        self.process = subprocess.Popen(
            [binary or HOLDFAST, "-c", self.conf, "-s", os.path.join(self.dir, "store"), *self.arguments, "--takeover"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        equal(old.wait(30 * SLOW), 0, "status of the old process")
        wait_until("readiness of the new process",
                   lambda: self.process.poll() is not None or self.log_text().count("is ready") > before, 15)
        check(self.alive(), f"the new process ended with {self.process.returncode}")

    def reload(self, text):
        before = self.log_text().count("\n")
        self.write(text)
        self.signal(signal.SIGHUP)
        wait_until("a log line about the reload",
                   lambda: re.search(r"reload|configuration", "\n".join(self.log_text().split("\n")[before:]), re.I))

    def wait(self, seconds=10):
        """Its exit status."""
        return self.process.wait(seconds * SLOW)

    def alive(self):
        return self.process.poll() is None

    def await_log(self, pattern):
        """The match; a thread of its own writes the log, somewhat later than what it tells of can be seen."""
        return wait_until(f"a log line with {pattern!r}", lambda: re.search(pattern, self.log_text()))

    def log_text(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def describe(self):
        if not self.process:
            return ""
        return f"\n--- the proxy's log (status {self.process.poll()}):\n{self.log_text()[-8000:]}\n"

    def stop(self):
        """Ends it if it still runs, and checks that it ended well and without a sanitizer's report."""
        try:
            if self.process and self.process.poll() is None:
                self.signal(signal.SIGTERM)
                try:
                    self.process.wait(10 * SLOW)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                    raise AssertionError("the proxy did not end after SIGTERM\n" + self.describe())
            if self.process:
                text = self.log_text()
                check("Sanitizer" not in text and "runtime error" not in text, "a sanitizer reported\n" + text[-8000:])
                check(self.process.returncode in (0, -signal.SIGKILL),
                      f"the proxy ended with {self.process.returncode}\n{text[-4000:]}")
        finally:
            if self.process:
                self.log.close()
            shutil.rmtree(self.dir, ignore_errors=True)


# --- user agents in Python ---------------------------------------------------------------------------------------

class Message:
    """A received message: start line, headers in order, body."""

    def __init__(self, data, source):
        self.data = data
        self.source = source
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        self.first = lines[0]
        self.headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers.append((name.strip(), value.strip()))

    @property
    def status(self):
        return int(self.first.split(" ")[1]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self):
        return "" if self.status else self.first.split(" ")[0]

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        return values[0] if values else None

    @property
    def branch(self):
        return re.search(r"branch=([^;,\s]+)", self.get("Via")).group(1)

    def __repr__(self):
        return f"<{self.first}>"


class Agent:
    """A user agent on a UDP socket."""

    count = 0

    def __init__(self, host="127.0.0.1", proxy=None, port=0):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        self.socket.bind((host, port or free_port(self.family)))
        self.port = self.socket.getsockname()[1]
        self.host = f"[{host}]" if ":" in host else host
        self.proxy = (host, proxy.port if isinstance(proxy, Proxy) else proxy) if proxy else None
        self.seen = []
        running.append(self)

    @property
    def uri(self):
        return f"sip:agent@{self.host}:{self.port}"

    def send(self, text, to=None):
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        self.socket.sendto(data, to or self.proxy)

    def receive(self, seconds=5):
        self.socket.settimeout(seconds * SLOW)
        data, source = self.socket.recvfrom(65536)
        m = Message(data, source)
        self.seen.append(m)
        return m

    def expect(self, *what, seconds=5, skip=()):
        """The next message, which must be one of these methods or status codes; those in `skip` are passed over. A 100
        is always passed over, unless it is asked for."""
        while True:
            try:
                m = self.receive(seconds)
            except socket.timeout:
                raise AssertionError(f"expected {what}, nothing came; before: {self.seen}") from None
            kind = m.status or m.method
            if kind in what:
                return m
            if kind not in skip and kind != 100:
                raise AssertionError(f"expected {what}, got {m.data.decode(errors='replace')}")

    def nothing(self, seconds=0.3):
        """Nothing comes for so long."""
        try:
            m = self.receive(seconds)
        except socket.timeout:
            return
        raise AssertionError(f"expected nothing, got {m.data.decode(errors='replace')}")

    def request(self, method, target, to=None, call_id=None, cseq=1, branch=None, tag=None, to_tag="", routes=(),
                headers=(), body="", max_forwards=70):
        """Text of a request."""
        Agent.count += 1
        n = f"{os.getpid()}x{Agent.count}x{random.SystemRandom().randrange(1 << 32):x}"
        lines = [f"{method} {target} SIP/2.0",
                 f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch or 'z9hG4bK' + n};rport",
                 *[f"Route: {r}" for r in routes],
                 f"From: <{self.uri}>;tag={tag or 'a' + n}",
                 f"To: <{to or target}>{to_tag}",
                 f"Call-ID: {call_id or n + '@test'}",
                 f"CSeq: {cseq} {method}",
                 f"Contact: <{self.uri}>",
                 f"Max-Forwards: {max_forwards}",
                 *headers,
                 f"Content-Length: {len(body)}", "", body]
        return "\r\n".join(lines)

    def respond(self, request, status, reason="Whatever", tag="callee", headers=(), contact=True):
        """Answers a received request the way it came."""
        lines = [f"SIP/2.0 {status} {reason}"]
        for name, value in request.headers:
            if name.lower() in ("via", "record-route", "from", "call-id", "cseq"):
                lines.append(f"{name}: {value}")
            elif name.lower() == "to":
                lines.append(f"To: {value}" + ("" if "tag=" in value or status == 100 else f";tag={tag}"))
        if contact and request.method == "INVITE":
            lines.append(f"Contact: <{self.uri}>")
        lines += [*headers, "Content-Length: 0", "", ""]
        self.send("\r\n".join(lines), request.source)

    def ack(self, invite, response, to=None):
        """The ACK of a final response: of the transaction for failures, end to end for 2xx. `invite` is text."""
        sent = Message(invite.encode("utf-8", "surrogateescape"), None)
        if response.status >= 300:
            text = "\r\n".join([f"ACK {sent.first.split(' ')[1]} SIP/2.0", f"Via: {sent.get('Via')}",
                                f"From: {sent.get('From')}", f"To: {response.get('To')}",
                                f"Call-ID: {sent.get('Call-ID')}", f"CSeq: {sent.get('CSeq').split()[0]} ACK",
                                "Max-Forwards: 70", "Content-Length: 0", "", ""])
        else:
            text = self.in_dialog("ACK", sent, response)
        self.send(text, to)
        return text

    def in_dialog(self, method, invite, response, cseq=None):
        """A request along the dialog that a 2xx made."""
        number = cseq or int(invite.get("CSeq").split()[0])
        return self.request(method, re.search(r"<([^>]*)>", response.get("Contact")).group(1),
                            to=re.search(r"<([^>]*)>", response.get("To")).group(1),
                            to_tag=";tag=" + re.search(r"tag=([^;]+)", response.get("To")).group(1),
                            call_id=invite.get("Call-ID"), cseq=number,
                            tag=re.search(r"tag=([^;]+)", invite.get("From")).group(1),
                            routes=list(reversed(response.all("Record-Route"))))

    def describe(self):
        return f"\n--- agent {self.port} received: {self.seen[-20:]}\n" if self.seen else ""

    def stop(self):
        self.socket.close()


def cancel_of(text):
    """The CANCEL of an INVITE."""
    m = Message(text.encode(), None)
    return "\r\n".join([m.first.replace("INVITE", "CANCEL"), f"Via: {m.get('Via')}", f"From: {m.get('From')}",
                        f"To: {m.get('To')}", f"Call-ID: {m.get('Call-ID')}", "CSeq: 1 CANCEL", "Max-Forwards: 70",
                        "Content-Length: 0", "", ""])


# --- programs beside the proxy -----------------------------------------------------------------------------------

class Relay:
    """The bare relay in front of a port; with a loss in percent, both ways."""

    def __init__(self, to, loss=0, seed=1):
        self.process = subprocess.Popen([os.path.join(TOOLS, "relay"), "--to", f"127.0.0.1:{to}", "--loss", str(loss),
                                         "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
        running.append(self)
        self.port = int(self.process.stdout.readline())

    def describe(self):
        return ""

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Sipp:
    """SIPp as callee (no `to`) or caller."""

    def __init__(self, scenario, to=None, host="127.0.0.1", port=None, arguments=(), contact=None):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.dir = tempfile.mkdtemp(prefix="holdfast-sipp-")
        self.port = port or free_port(self.family)
        self.stat = os.path.join(self.dir, "stat.csv")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        path = scenario if os.path.isabs(scenario) else os.path.join(HERE, scenario)
        shown = f"[{host}]" if ":" in host else host
        where = [f"{shown}:{to}"] if to else []
        self.process = subprocess.Popen(
            ["sipp", "-nostdin", "-sf", path, "-i", host, "-p", str(self.port), "-mp", str(free_port(self.family)),
             "-trace_stat", "-stf", self.stat, "-fd", "1", "-trace_err", "-error_file",
             os.path.join(self.dir, "errors"), "-key", "contact", f"{shown}:{contact or self.port}",
             *[str(a) for a in arguments], *where],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.dir, env=dict(os.environ, TERM="dumb"))
        running.append(self)
        if not to:
            is_open = tcp_port_open if "t1" in arguments or "tn" in arguments else udp_port_open
            wait_until("SIPp", lambda: is_open(self.port) or self.ended())

    def ended(self):
        if self.process.poll() is not None:
            raise AssertionError(f"SIPp ended with status {self.process.returncode}")

    def finish(self, seconds=60):
        """Waits for the calls to end; returns the numbers."""
        try:
            self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIPp's calls do not end: {self.numbers()}") from None
        return self.numbers()

    def numbers(self):
        """(successful, failed, retransmissions)"""
        if not os.path.exists(self.stat):
            return 0, 0, 0
        with open(self.stat, newline="") as f:
            rows = list(csv.reader(f, delimiter=";"))
        n = dict(zip(rows[0], rows[-1]))
        return tuple(int(n[k]) for k in ("SuccessfulCall(C)", "FailedCall(C)", "Retransmissions(C)"))

    def describe(self):
        text = ""
        for name in ("log", "errors"):
            path = os.path.join(self.dir, name)
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    text += f"\n--- SIPp {self.port} {name}:\n{f.read()[-3000:]}\n"
        return text

    def quit(self):
        """Ends a callee in good order, so that its numbers are written; returns them."""
        self.process.send_signal(signal.SIGUSR1)
        try:
            self.process.wait(5 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.numbers()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def uas(**options):
    return Sipp(os.path.join(BENCH, "uas.xml"), **options)


def uac(to, calls, rate, scenario=os.path.join(BENCH, "uac.xml"), **options):
    arguments = ["-s", "100", "-m", calls, "-r", rate, "-l", 20000, *options.pop("arguments", ())]
    return Sipp(scenario, to=to, arguments=arguments, **options)
