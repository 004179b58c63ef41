"""Phones that vanish: N of them are registered over TCP, their host is cut off without a FIN, and each is called once, while live calls go on over UDP. Holdfast
beside Kamailio, one after the other. Needs root, for a network namespace."""
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from harness import HERE, HOLDFAST, Failed, free_port, http_get, parse_metrics, process_pss, total, udp_port_open, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))
from network import Network  # noqa: E402

RATE = 200          # calls to the dead, a second
ACK, USER = 2, 20   # s: ack_timeout, user_timeout (the defaults)
IDLE = 30 + 10 * 3  # s: keepalive_idle + interval * probes

HOLDFAST_CONF = """
listen "udp:127.0.0.1:{port}" {{ }}
listen "tcp:{here}:{port}" {{ max_connections_per_address = 100000 }}
domain "example.com" {{ authenticate = false }}
gateway "live" {{ target = {{"sip:127.0.0.1:{live}"}} }}
route "live" {{ user = "^live$" gateway = "live" }}
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
        self.port, self.live, self.http = free_port(), free_port(), free_port(socket.SOCK_STREAM)
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
        return sum(process_pss(p) for p in self.pids())

    def connections(self):
        """Established ones, as the kernel has them."""
        out = subprocess.run(["ss", "-Htn", "state", "established", f"( sport = :{self.port} )"], capture_output=True, text=True)
        return len(out.stdout.splitlines())

    def stop(self):
        for sig in (15, 9):
            try:
                os.killpg(self.process.pid, sig)
                self.process.wait(5)
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

    def invite(self, user):
        self.n += 1
        tag = f"{self.port}x{self.n}"
        text = (f"INVITE sip:{user}@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bKv{tag}\r\n"
                f"From: <sip:bench@127.0.0.1>;tag={tag}\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {tag}\r\nCSeq: 1 INVITE\r\n"
                f"Contact: <sip:bench@127.0.0.1:{self.port}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n")
        self.socket.sendto(text.encode(), ("127.0.0.1", self.proxy.port))
        return tag, text

    def ack(self, text, to):
        lines = text.split("\r\n")
        ack = [lines[0].replace("INVITE", "ACK", 1)] + [f"To: {to}" if line.startswith("To:") else line.replace("1 INVITE", "1 ACK")
                                                        for line in lines[1:]]
        self.socket.sendto("\r\n".join(ack).encode(), ("127.0.0.1", self.proxy.port))


class Live(threading.Thread):
    """100 calls a second to a callee that is busy: from the INVITE to its 486."""

    def __init__(self, proxy):
        super().__init__(daemon=True)
        self.caller, self.callee = Agent(proxy), Agent(proxy, proxy.live)
        self.times, self.lost, self.stop = [], 0, False

    def run(self):
        while not self.stop:
            begun = time.monotonic()
            tag, text = self.caller.invite("live")
            answered = False
            while not answered and time.monotonic() < begun + 2:
                for s in select.select([self.caller.socket, self.callee.socket], [], [], 0.5)[0]:
                    m = s.recv(65536).decode()
                    if s is self.callee.socket and m.startswith("INVITE"):
                        keep = [x for x in m.split("\r\n") if re.match("(Via|From|Call-ID|CSeq):", x)]
                        to = re.search("To: (.*)\r\n", m).group(1)
                        s.sendto("\r\n".join(["SIP/2.0 486 Busy", *keep, f"To: {to};tag=l", "Content-Length: 0", "", ""]).encode(),
                                 ("127.0.0.1", self.caller.proxy.port))
                    elif s is self.caller.socket and m.startswith("SIP/2.0 486") and f"Call-ID: {tag}" in m:
                        self.times.append(time.monotonic() - begun)
                        self.caller.ack(text, re.search("To: (.*)\r\n", m).group(1))
                        answered = True
            self.lost += not answered
            time.sleep(0.01)

    def take(self):
        times, self.times = sorted(self.times), []
        return times


def p99(times):
    return times[int(len(times) * 0.99)] if times else float("nan")


def call_dead(proxy, number):
    """Times until the final response; calls without one within 40 s are missing."""
    caller, sent, waits = Agent(proxy), {}, []
    begun = time.monotonic()
    i = 0
    while len(waits) < number and time.monotonic() < begun + number / RATE + 40:
        now = time.monotonic()
        while i < number and now >= begun + i / RATE:
            tag, text = caller.invite(f"u{i}")
            sent[tag] = (time.monotonic(), text)
            i += 1
        if not select.select([caller.socket], [], [], 0.002)[0]:
            continue
        m = caller.socket.recv(65536).decode()
        status, tag = int(m.split(" ")[1]), re.search("Call-ID: (.*)\r\n", m).group(1)
        if status >= 200 and tag in sent:
            at, text = sent.pop(tag)
            waits.append(time.monotonic() - at)
            caller.ack(text, re.search("To: (.*)\r\n", m).group(1))
    return sorted(waits)


def one(kind, number):
    net = Network()
    phones = proxy = live = None
    try:
        proxy = Proxy(kind, net)
        threads, memory = proxy.threads(), proxy.memory()
        phones = subprocess.Popen(["ip", "netns", "exec", net.name, sys.executable,
                                   os.path.join(os.path.dirname(HERE), "system", "phones.py"), net.here, str(proxy.port),
                                   str(number), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = phones.stdout.readline().strip()
        if said != "ready":
            raise Failed(f"{kind}: the phones are not registered: {said}")
        live = Live(proxy)
        live.start()
        time.sleep(5)
        before = live.take()
        net.cut()
        cut = time.monotonic()
        waits = call_dead(proxy, number)
        during = live.take()
        called = time.monotonic() - cut
        gone = None
        while time.monotonic() < cut + called + (IDLE if kind == "holdfast" else 0) + USER + 10:
            if proxy.connections() == 0:
                gone = time.monotonic() - cut
                break
            time.sleep(0.5)
        live.stop = True
        live.join(5)
        left = proxy.connections()
        print(f"{kind:9} live set-up p50/p99 before {statistics.median(before) * 1e3:.2f}/{p99(before) * 1e3:.2f} ms, "
              f"during {statistics.median(during) * 1e3:.2f}/{p99(during) * 1e3:.2f} ms, {live.lost} lost; callers of the dead: "
              f"{len(waits)} of {number} answered, after {waits[len(waits) // 2] if waits else 0:.2f} s (median), "
              f"{waits[-1] if waits else 0:.2f} s (longest); connections left {left}"
              f"{'' if gone is None else f', none after {gone:.0f} s'}; threads {threads} before, {proxy.threads()} after; "
              f"memory {memory / 1e6:.0f} MB before, {proxy.memory() / 1e6:.0f} MB after", flush=True)
        return before, during, waits, gone, called, live.lost
    finally:
        if live:
            live.stop = True
        if proxy:
            proxy.stop()
        if phones:
            phones.kill()
            phones.wait()
        net.remove()


def bench(options):
    good = True

    def verdict(text, ok):
        nonlocal good
        good &= ok
        print(f"  {'PASS' if ok else 'FAIL'}  {text}")

    for number in options.phones:
        print(f"\n{number} phones cut off, called at {RATE} a second, 100 live calls a second")
        for kind in [k for k in options.only if k in ("holdfast", "kamailio")]:
            before, during, waits, gone, called, lost = one(kind, number)
            if kind != "holdfast":
                continue
            ratio = p99(during) / p99(before)
            verdict(f"live p99 during/before {ratio:.2f} (at most 1.2)", ratio <= 1.2)
            verdict(f"live calls lost {lost} (none)", lost == 0)
            verdict(f"callers answered {len(waits)}, the longest after {waits[-1]:.2f} s (all, at most {ACK + 1} s)",
                    len(waits) == number and waits[-1] <= ACK + 1)
            limit = max(called + USER + 5, IDLE + 5)
            verdict(f"no connection left after {gone} s (at most {limit:.0f} s)", gone is not None and gone <= limit)
    return good
