"""Peers that say nothing any more, while live calls go on over UDP. Holdfast beside Kamailio, one after the other. Needs root, for a network namespace.
cut: phones are registered over TCP, their host is cut off without a FIN, and each is called once.
zero: phones are registered over TCP, are there, and stop reading: each is called with a request that its kernel still takes, and then with more than
all buffers on the way hold.
syn: next hops that swallow SYNs; every second call goes to the same one."""
import collections
import gc
import multiprocessing
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from harness import HERE, HOLDFAST, Failed, free_port, process_split, udp_port_open, wait_until
from network import Network  # of the system tests

RATE = 200                # calls to the dead, a second
ACK, USER = 2, 20         # s: ack_timeout, user_timeout (the defaults)
WRITE, CONNECT = 10, 5    # s: write_timeout, connect_timeout (the defaults)
LIVE = 200                # live calls a second, or somewhat fewer
BEFORE = 3                # s of live calls before, with as many others as the dead get, to the same callee
REST = 34                 # s: transactions of the live calls end (Timer J), and the allocator gives back what they had
NOISE = 0.0005            # s that the p99 of two healthy runs differ by on a machine with little to do
ZERO, BODY = 100, 40000   # zero: phones; bytes of each of the requests that fill the buffers
FILL = 2                  # of which there are so many for each phone
SYN, HOPS = 400, 100      # syn: calls, next hops
HOP = 7000                # the first one's port
PATIENCE = 40             # s that a caller waits
LIVE_URI = "sip:live@example.com"
KEPT = 10000000           # bytes that may stay: what the allocator keeps of memory that was needed at once

HOLDFAST_CONF = """
listen "udp:127.0.0.1:{port}" {{ }}
listen "tcp:{here}:{port}" {{ max_connections_per_address = 100000 }}
domain "example.com" {{ authenticate = false }}
gateway "live" {{ target = {{"sip:127.0.0.1:{live}"}} }}
route "live" {{ user = "^live$" gateway = "live" }}
route "hop" {{ user = "^hop$" dns = true }}
stats {{ listen = "127.0.0.1:{http}" }}
control {{ socket = "" }}
"""

KAMAILIO_CFG = """#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=4
tcp_children=4
tcp_max_connections=20000
tcp_connection_lifetime=3605
tcp_keepalive=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:127.0.0.1:{port}
listen=tcp:{here}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "received_avp", "$avp(r)")
modparam("nathelper", "received_avp", "$avp(r)")
request_route {{
	if (method == "REGISTER") {{
		fix_nated_register();
		save("location");
		exit;
	}}
	if (method == "CANCEL") {{
		if (t_check_trans()) t_relay();
		exit;
	}}
	t_check_trans();
	if ($tt != $null && $tt != "") {{
		if (loose_route() || method == "ACK") t_relay();
		exit;
	}}
	if ($rU == "live") {{
		$du = "sip:127.0.0.1:{live}";
		t_relay();
		exit;
	}}
	if ($rU == "hop") {{
		t_relay();
		exit;
	}}
	if (!lookup("location")) {{
		sl_send_reply("480", "Not here");
		exit;
	}}
	t_relay();
}}
"""


class Proxy:
    def __init__(self, kind, net):
        self.kind, self.net = kind, net
        self.port, self.live, self.http = free_port(), free_port(), free_port()
        self.dir = tempfile.mkdtemp(prefix=f"bench-{kind}-")
        text = (HOLDFAST_CONF if kind == "holdfast" else KAMAILIO_CFG).format(port=self.port, here=net.here, live=self.live,
                                                                              http=self.http)
        conf = os.path.join(self.dir, "conf")
        with open(conf, "w") as f:
            f.write(text)
        command = ([HOLDFAST, "-c", conf, "-s", os.path.join(self.dir, "store")] if kind == "holdfast" else
                   ["kamailio", "-f", conf, "-DD", "-E", "-m", "1024", "-Y", self.dir, "-w", self.dir])
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        wait_until(kind, lambda: udp_port_open(self.port), process=self.process)
        time.sleep(1)

    def pids(self):
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[3]) == self.process.pid:
                        found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def threads(self):
        return sum(len(os.listdir(f"/proc/{p}/task")) for p in self.pids())

    def memory(self):
        """Bytes that are the processes' own; pages of files are the kernel's."""
        return sum(process_split(self.pids()))

    def connections(self):
        """With the peers, as the kernel has them; not those that the proxy has closed and the kernel tries to end."""
        out = subprocess.run(["ss", "-Htn", "state", "established", "state", "syn-sent", "dst", self.net.there],
                             capture_output=True, text=True)
        return len(out.stdout.splitlines())

    def stop(self):
        for sig in (15, 15, 9):
            try:
                os.killpg(self.process.pid, sig)
                self.process.wait(1)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Agent:
    def __init__(self, proxy, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.proxy, self.n = proxy, 0

    def send(self, text):
        self.socket.sendto(text.encode(), ("127.0.0.1", self.proxy.port))

    def invite(self, uri, body=""):
        self.n += 1
        tag = f"{self.port}x{self.n}"
        text = (f"INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bKv{tag}\r\n"
                f"From: <sip:bench@127.0.0.1>;tag={tag}\r\nTo: <{uri}>\r\nCall-ID: {tag}\r\nCSeq: 1 INVITE\r\n"
                f"Contact: <sip:bench@127.0.0.1:{self.port}>\r\nMax-Forwards: 70\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        self.send(text)
        return tag, text

    def ack(self, text, to):
        lines = text.split("\r\n\r\n")[0].split("\r\n")
        ack = [lines[0].replace("INVITE", "ACK", 1)]
        for line in lines[1:]:
            name = line.split(":")[0]
            ack.append({"To": f"To: {to}", "CSeq": "CSeq: 1 ACK", "Content-Length": "Content-Length: 0"}.get(name, line))
        self.send("\r\n".join(ack + ["", ""]))


def busy(request, address, to_socket):
    keep = [x for x in request.split("\r\n") if re.match("(Via|From|Call-ID|CSeq):", x)]
    to = re.search("To: (.*)\r\n", request).group(1)
    to_socket.sendto("\r\n".join(["SIP/2.0 486 Busy", *keep, f"To: {to};tag=l", "Content-Length: 0", "", ""]).encode(), address)


def ahead():
    """What is timed is the proxy, not how long this process waits for a CPU or collects garbage."""
    gc.disable()
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except PermissionError:
        pass


def run_callee(callee):
    ahead()
    while True:
        request, address = callee.socket.recvfrom(65536)
        if request.startswith(b"INVITE"):
            busy(request.decode(), address, callee.socket)


def run_caller(caller, control):
    """One call after the other, and what `take` is to have when it asks."""
    ahead()
    times, lost = [], 0
    while True:
        begun = time.monotonic()
        tag, text = caller.invite(LIVE_URI)
        answered = False
        while not answered and select.select([caller.socket], [], [], max(0, begun + 2 - time.monotonic()))[0]:
            m = caller.socket.recv(65536).decode()
            if m.startswith("SIP/2.0 486") and f"Call-ID: {tag}" in m:
                times.append(time.monotonic() - begun)
                caller.ack(text, re.search("To: (.*)\r\n", m).group(1))
                answered = True
        lost += not answered
        if control.poll(1 / LIVE):
            control.recv()
            control.send((sorted(times), lost))
            times, lost = [], 0


class Live:
    """Calls to a callee that is busy, timed from the INVITE to its 486. In processes of their own: the callers of the dead are not to delay them."""

    def __init__(self, proxy):
        self.control, theirs = multiprocessing.Pipe()
        self.processes = [multiprocessing.Process(target=run_callee, args=(Agent(proxy, proxy.live),), daemon=True),
                          multiprocessing.Process(target=run_caller, args=(Agent(proxy), theirs), daemon=True)]
        for p in self.processes:
            p.start()

    def take(self):
        """What was since the last time: how long they took, sorted, and how many were lost."""
        self.control.send(None)
        if not self.control.poll(10):
            raise Failed("the live calls have ended")
        return self.control.recv()

    def end(self):
        for p in self.processes:
            p.kill()
            p.join()


def p99(times):
    return times[int(len(times) * 0.99)] if times else float("nan")


class Call:
    """`taken`: the peer's kernel is to have the request's bytes. `sent`, `ended`: s; `ended` is None without a final response."""

    def __init__(self, uri, body="", taken=False):
        self.uri, self.body, self.taken = uri, body, taken
        self.sent = self.ended = self.text = self.status = None
        self.counts = True

    def wait(self):
        return self.ended - self.sent


def place(proxy, calls):
    """RATE a second; returns when all have their final response, or PATIENCE after the last was placed. Until then others follow them, to who answers:
    a machine with less to do is not the same machine."""
    caller, placed, unheard, missing = Agent(proxy), {}, collections.deque(), len(calls)
    begun = time.monotonic()
    i = 0
    while missing and time.monotonic() < begun + len(calls) / RATE + PATIENCE:
        now = time.monotonic()
        while now >= begun + i / RATE:
            call = calls[i] if i < len(calls) else Call(LIVE_URI)
            call.counts = i < len(calls)
            call.sent = time.monotonic()
            tag, call.text = caller.invite(call.uri, call.body)
            placed[tag] = call
            unheard.append((now + 0.5, tag))
            i += 1
        while unheard and now >= unheard[0][0]:
            call = placed.get(unheard.popleft()[1])
            if call and not call.status:
                caller.send(call.text)  # timer A, once
        if not select.select([caller.socket], [], [], 0.002)[0]:
            continue
        m = caller.socket.recv(65536).decode()
        call = placed.get(re.search("Call-ID: (.*)\r\n", m).group(1))
        if not call:
            continue
        call.status = int(m.split(" ")[1])
        if call.status >= 200:
            caller.ack(call.text, re.search("To: (.*)\r\n", m).group(1))
            if call.ended is None:
                call.ended = time.monotonic()
                missing -= call.counts


def start_phones(net, proxy, number, *more):
    phones = subprocess.Popen(["ip", "netns", "exec", net.name, sys.executable,
                               os.path.join(os.path.dirname(HERE), "system", "phones.py"), net.here, str(proxy.port),
                               str(number), "0", *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = phones.stdout.readline().strip()
    if said != "ready":
        phones.kill()
        raise Failed(f"{proxy.kind}: the phones are not registered: {said}")
    return phones


class Cut:
    """Every request is unacknowledged; connections end by user_timeout."""

    def __init__(self, number):
        self.number = number
        self.title = f"{number} phones cut off, called"
        self.calls = [Call(f"sip:u{i}@example.com") for i in range(number)]

    def peers(self, net, proxy):
        return start_phones(net, proxy, self.number)

    def silence(self, net):
        net.cut()

    def gone(self, called):
        """s from the beginning until no connection is to be left, if the last call was placed after `called`."""
        return called + USER + 5


class Zero:
    """What the peer's kernel took waits for the phone, which may yet answer, until the connection ends: by write_timeout, since bytes wait for it."""

    def __init__(self):
        self.title = f"{ZERO} phones that do not read, called with a small request and {FILL} of {BODY} bytes each,"
        users = [f"sip:u{i}@example.com" for i in range(ZERO)]
        self.calls = [Call(u, taken=True) for u in users] + [Call(u, "x" * BODY) for _ in range(FILL) for u in users]

    def peers(self, net, proxy):
        return start_phones(net, proxy, ZERO, "small")

    def silence(self, net):
        pass

    def gone(self, called):
        return called + WRITE + 5


class Syn:
    """A request is unacknowledged while its connection is not there."""

    def __init__(self):
        self.title = f"{SYN} calls to {HOPS} next hops that swallow SYNs, half of them to one,"
        self.calls = []

    def peers(self, net, _proxy):
        self.calls = [Call(f"sip:hop@{net.there}:{HOP + (i // 2 % HOPS if i % 2 else 0)};transport=tcp") for i in range(SYN)]

    def silence(self, net):
        net.cut("tcp flags syn")

    def gone(self, called):
        return called + CONNECT + 5


class Result:
    def __init__(self, kind, scene):
        self.kind, self.calls = kind, scene.calls
        self.before = self.during = self.left = self.gone = self.limit = self.lost = self.threads = self.memory = None

    def waits(self, taken):
        return sorted(c.wait() for c in self.calls if c.taken == taken and c.ended is not None)

    def missing(self):
        return sum(c.ended is None for c in self.calls)

    def show(self):
        callers = []
        for taken, whose in ((False, "callers"), (True, "callers whose request the peer's kernel took")):
            w, number = self.waits(taken), sum(c.taken == taken for c in self.calls)
            if number:
                callers.append(f"{whose}: {len(w)} of {number} answered" +
                               (f", after {w[len(w) // 2]:.2f} s (median), {w[-1]:.2f} s (longest)" if w else ""))
        print(f"{self.kind:9} live set-up p50/p99 before {statistics.median(self.before) * 1e3:.2f}/{p99(self.before) * 1e3:.2f} ms, "
              f"during {statistics.median(self.during) * 1e3:.2f}/{p99(self.during) * 1e3:.2f} ms, {self.lost} lost; "
              f"{'; '.join(callers)}; connections left {self.left}"
              f"{'' if self.gone is None else f', none after {self.gone:.1f} s'}; threads {self.threads[0]} before, {self.threads[1]} after; "
              f"memory {self.memory[0] / 1e6:.1f} MB before, {self.memory[1] / 1e6:.1f} MB after", flush=True)


def rest(proxy, threads, memory):
    """Until they are what they were, or REST is over: what they are then."""
    end = time.monotonic() + REST
    while time.monotonic() < end and (proxy.threads() > threads or proxy.memory() > memory + KEPT):
        time.sleep(0.2)
    return proxy.threads(), proxy.memory()


def one(kind, scene):
    net = Network()
    phones = proxy = live = None
    try:
        proxy = Proxy(kind, net)
        phones = scene.peers(net, proxy)
        result = Result(kind, scene)
        live = Live(proxy)
        place(proxy, [Call(LIVE_URI) for _ in range(BEFORE * RATE)])
        result.before, lost_before = live.take()
        at_first = proxy.threads(), proxy.memory()
        scene.silence(net)
        begun = time.monotonic()
        place(proxy, scene.calls)
        result.during, lost_during = live.take()
        result.limit = scene.gone(max(c.sent for c in scene.calls) - begun)
        result.left = proxy.connections()
        while result.left and time.monotonic() < begun + result.limit:
            time.sleep(0.2)
            result.left = proxy.connections()
        if not result.left:
            result.gone = time.monotonic() - begun
        result.threads, result.memory = zip(at_first, rest(proxy, *at_first))
        result.lost = lost_before + lost_during + live.take()[1]
        result.show()
        return result
    finally:
        if live:
            live.end()
        if proxy:
            proxy.stop()
        if phones:
            phones.kill()
            phones.wait()
        net.remove()


def judge(result, verdict):
    ratio = p99(result.during) / p99(result.before)
    more = p99(result.during) - p99(result.before)
    verdict(f"live p99 during/before {ratio:.2f}, {more * 1e3:.2f} ms more (at most 1.2, or {NOISE * 1e3:.1f} ms more)",
            ratio <= 1.2 or more <= NOISE)
    verdict(f"live calls lost {result.lost} (none)", result.lost == 0)
    verdict(f"calls without a final response {result.missing()} (none)", result.missing() == 0)
    last = {c.uri: c.sent for c in result.calls}
    for taken, limit in ((False, ACK + 1), (True, WRITE + 1)):
        # Of what the peer's kernel took, from when the last bytes came that had to wait.
        late = [c.ended - (last[c.uri] if taken else c.sent) for c in result.calls if c.taken == taken and c.ended is not None]
        if late:
            what = "whose request the peer's kernel took answered, after its connection was full by" if taken else "answered after"
            verdict(f"callers {what} {max(late):.2f} s at the longest (at most {limit} s)", max(late) <= limit)
    gone = f"{result.left} connections left" if result.left else f"no connection left after {result.gone:.1f} s"
    verdict(f"{gone} (none after {result.limit:.0f} s)", not result.left)
    verdict(f"threads {result.threads[0]} before, {result.threads[1]} after (no more)", result.threads[1] <= result.threads[0])
    more = result.memory[1] - result.memory[0]
    verdict(f"memory {more / 1e6:.1f} MB more than before (at most {KEPT / 1e6:.0f} MB)", more <= KEPT)


def bench(options):
    good = True

    def verdict(text, ok):
        nonlocal good
        good &= ok
        print(f"  {'PASS' if ok else 'FAIL'}  {text}", flush=True)

    scenes = [lambda n=n: Cut(n) for n in options.phones if "cut" in options.kind]
    scenes += [make for kind, make in (("zero", Zero), ("syn", Syn)) if kind in options.kind]
    for make in scenes:
        print(f"\n{make().title} at {RATE} a second; {LIVE} live calls a second")
        for kind in [k for k in options.only if k in ("holdfast", "kamailio")]:
            result = one(kind, make())
            if kind == "holdfast":
                judge(result, verdict)
    return good
