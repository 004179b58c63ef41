"""What the benches share: servers under test, their CPU time and memory from /proc, SIPp."""
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "test", "system"))
from ports import free_port, tcp_port_open, udp_port_open  # noqa: E402

HOLDFAST = os.environ.get("HOLDFAST", os.path.join(ROOT, "build", "holdfast"))
TOOLS = os.environ.get("TOOLS", os.path.join(ROOT, "build", "test", "bench"))


class Failed(Exception):
    pass


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}"


def wait_until(what, test, seconds=20, process=None):
    end = time.monotonic() + seconds
    while True:
        if test():
            return
        if process and process.poll() is not None:
            raise Failed(f"{what}: ended with status {process.returncode}")
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def http_get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as r:
        return r.read().decode()


def parse_metrics(text):
    """{'name{labels}': value}"""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


def total(values, pattern):
    r = re.compile(pattern)
    return sum(v for k, v in values.items() if r.search(k))


def quantile(before, after, q, name):
    """The upper bound, interpolated, under which a share q of a histogram's new observations lies. Seconds."""
    def buckets(values):
        found = {}
        for k, v in values.items():
            m = re.match(re.escape(name) + r'_bucket\{.*le="([^"]+)"', k)
            if m:
                found[float(m.group(1).replace("+Inf", "inf"))] = v
        return found
    old, new = buckets(before), buckets(after)
    count = [(le, new[le] - old.get(le, 0)) for le in sorted(new)]
    if not count or count[-1][1] <= 0:
        return None
    want, low, below = q * count[-1][1], 0.0, 0
    for le, n in count:
        if n >= want:
            if le == float("inf"):
                return le
            return low + (le - low) * (want - below) / (n - below)
        low, below = le, n
    return float("inf")


def process_cpu(pid):
    """CPU time of all threads that a process has or had, ns: by its CPU clock (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        raise FileNotFoundError(f"process {pid}") from None


def process_pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def process_split(pids):
    """(private, shared) bytes of memory of some processes; what they share is counted once."""
    private = shared = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    if line.startswith("Pss_Anon:"):
                        private += int(line.split()[1]) * 1024
                    elif line.startswith("Pss_Shmem:"):
                        shared += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            pass
    return private, shared


class Server:
    """One of those under test, in a temporary folder of its own. Kinds: holdfast, which keeps calls in its store; memory, which is Holdfast with
    store.transactions = false; kamailio; relay. `transport`: udp, tcp or tls, of both sides; tls needs `certificates`."""

    def __init__(self, kind, uas, options="", transport="udp", certificates=None):
        self.kind = kind
        self.uas = uas
        self.port = free_port()
        self.certificates = certificates
        self.transport = transport
        self.ours = kind in ("holdfast", "memory")
        self.http = free_port() if self.ours else None
        if kind == "memory":
            options += "\nstore {\n\ttransactions = false\n}\n"
        self.dir = tempfile.mkdtemp(prefix=f"bench-{kind}-")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = None
        self.options = options

    def fill(self, template, name):
        with open(os.path.join(HERE, template)) as f:
            text = f.read() + self.options
        c = self.certificates
        listen = "" if self.transport == "udp" else "max_connections_per_address = 1000000"
        if c:
            listen += f' certificate = {{"{c.cert}"}} key = {{"{c.key}"}} ca = "{c.ca}"'
        for key, value in (("PORT", self.port), ("UAS", self.uas), ("HTTP", self.http), ("TRANSPORT", self.transport),
                           ("LISTEN", listen), ("DIR", self.dir), ("NO_TCP", "yes" if self.transport == "udp" else "no")):
            text = text.replace(f"@{key}@", str(value))
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def fill_kamailio_tls(self):
        c = self.certificates
        with open(os.path.join(self.dir, "tls.cfg"), "w") as f:
            f.write(f"[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n"
                    f"private_key = {c.key}\ncertificate = {c.cert}\n"
                    f"[client:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n"
                    f"ca_list = {c.ca}\n")

    def start(self):
        self.spawn()
        wait_until(f"{self.kind} (log in {self.dir})", self.ready, process=self.process)

    def spawn(self):
        if self.ours:
            conf = self.fill("holdfast.conf.in", "holdfast.conf")
            command = [HOLDFAST, "-c", conf, "-s", os.path.join(self.dir, "store")]
        elif self.kind == "kamailio":
            conf = self.fill("kamailio.cfg.in", "kamailio.cfg")
            command = ["kamailio", "-f", conf, "-DD", "-E", "-m", "1024", "-M", "16", "-x", "fm", "-X", "fm",
                       "-Y", self.dir, "-w", self.dir]
            if self.certificates:
                self.fill_kamailio_tls()
                command += ["-A", "TLS"]
        else:
            command = [os.path.join(TOOLS, "relay"), "--listen", f"127.0.0.1:{self.port}", "--to",
                       f"127.0.0.1:{self.uas}"]
        if not shutil.which(command[0]):
            raise Failed(f"{command[0]} is not installed: scripts/install-deps all")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)

    def ready(self):
        if self.ours:
            try:
                return http_get(self.http, "/readyz") is not None
            except OSError:
                return False
        if not (udp_port_open if self.transport == "udp" else tcp_port_open)(self.port):
            return False
        return self.kind == "relay" or len(self.pids()) >= 4

    def pids(self):
        """Every process of the session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as f:
                        if int(f.read().rsplit(")", 1)[1].split()[3]) == self.process.pid:
                            found.append(int(entry))
                except (FileNotFoundError, ProcessLookupError):
                    pass
        return found

    def cpu(self):
        return sum(process_cpu(pid) for pid in self.pids())

    def memory(self):
        return sum(process_pss(pid) for pid in self.pids())

    def metrics(self):
        return parse_metrics(http_get(self.http, "/metrics"))

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process:
            for sig in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self.process.pid, sig)
                except ProcessLookupError:
                    break
                try:
                    self.process.wait(3)
                    break
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Sipp:
    """A SIPp process with its statistics file."""

    def __init__(self, folder, name, arguments):
        self.stat = os.path.join(folder, f"{name}.csv")
        if os.path.exists(self.stat):
            os.remove(self.stat)
        with open(os.path.join(folder, f"{name}.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["sipp", "-nostdin", "-i", "127.0.0.1", "-trace_stat", "-stf", self.stat, "-fd", "1",
                 "-buff_size", "4194304", "-mp", str(free_port())] + arguments,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=dict(os.environ, TERM="dumb"))

    def numbers(self):
        """The last line of the statistics."""
        with open(self.stat, newline="") as f:
            rows = list(csv.reader(f, delimiter=";"))
        return dict(zip(rows[0], rows[-1]))

    def quit(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
