"""Registrations: REGISTERs a second, and CPU per REGISTER, with and without digest. Holdfast's are in its store when they are answered;
Kamailio keeps its own in memory only."""
import json
import os
import socket
import statistics
import subprocess

from harness import HERE, TOOLS, Failed, Server, free_port

USERS, WINDOW = 1000, 64
GOAL = 1.0


class Registrar(Server):
    def __init__(self, kind, digest):
        super().__init__(kind, 0)
        self.digest = digest
        self.phones = free_port()  # the same in every run: the contacts that a run registers are those of the run before

    def fill(self, template, name):
        with open(os.path.join(HERE, template.replace(".c", "-registrar.c"))) as f:
            text = f.read()
        self.control = os.path.join(self.dir, "control.sock")
        for key, value in (("PORT", self.port), ("HTTP", self.http), ("AUTHENTICATE", "true" if self.digest else "false"),
                           ("CONTROL", self.control)):
            text = text.replace(f"@{key}@", str(value))
        if self.kind == "kamailio" and self.digest:
            text = text.replace("#!KAMAILIO\n", "#!KAMAILIO\n#!define DIGEST\n")
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self):
        super().start()
        if self.kind == "holdfast" and self.digest:
            for i in range(USERS):
                self.add_user(f"u{i}")

    def add_user(self, name):
        body = json.dumps({"name": name, "domain": "local.test", "password": "secret"})
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.control)
            s.sendall(f"POST /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            if b" 200 " not in s.recv(4096):
                raise Failed(f"user {name} was not made")


def one(server, rate, count):
    """(CPU µs per REGISTER, REGISTERs a second, refused, retransmissions)"""
    arguments = [os.path.join(TOOLS, "registers"), "--to", str(server.port), "--from", str(server.phones), "--users", str(USERS),
                 "--count", str(count), "--rate", str(rate), "--window", str(WINDOW)] + (["--digest"] if server.digest else [])
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        if p.stdout.readline() != "ready\n":
            raise Failed(f"{server.kind} refuses REGISTERs (log in {server.dir})")
        cpu = server.cpu()
        p.stdin.write("\n")
        p.stdin.flush()
        words = p.stdout.readline().split()
        used = server.cpu() - cpu
    if not words:
        raise Failed(f"{server.kind}: the REGISTERs do not end")
    answered, refused, repeated, seconds = int(words[0]), int(words[1]), int(words[2]), float(words[3])
    return used / 1000 / count, answered / seconds, refused, repeated


def bench(options):
    good = True
    for digest in (False, True):
        servers = [Registrar(kind, digest) for kind in options.only if kind in ("holdfast", "kamailio")]
        try:
            for server in servers:
                server.start()
                one(server, 0, options.warmup)
            for rate in (*options.rates, 0):
                good &= at_rate(rate, digest, options, servers)
        finally:
            for server in servers:
                server.stop()
    return good


def at_rate(rate, digest, options, servers):
    count = options.calls or (rate or 20000) * options.seconds
    results = {s.kind: [] for s in servers}
    for _ in range(options.rounds):
        for server in servers:
            results[server.kind].append(one(server, rate, count))
    how = f"{rate} REGISTERs/s" if rate else f"as fast as can be, {WINDOW} at a time"
    print(f"\n{how}, {'with' if digest else 'without'} digest, {count} a run, {options.rounds} rounds (medians; refused and "
          "retransmissions are sums)")
    print(f"{'':10} {'µs each':>8} {'a second':>9} {'refused':>8} {'retrans.':>8}")
    for kind, runs in results.items():
        print(f"{kind:10} {statistics.median(r[0] for r in runs):8.1f} {statistics.median(r[1] for r in runs):9.0f} "
              f"{sum(r[2] for r in runs):8} {sum(r[3] for r in runs):8}", flush=True)
    if len(results) < 2:
        return True
    ratio = (statistics.median(r[0] for r in results["holdfast"]) / statistics.median(r[0] for r in results["kamailio"]))
    ok = ratio <= GOAL and not any(r[2] for r in results["holdfast"])
    print(f"  {'PASS' if ok else 'FAIL'}  holdfast/kamailio {ratio:.2f} (at most {GOAL})")
    return ok
