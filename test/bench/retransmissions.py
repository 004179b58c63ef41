"""Retransmissions: what a copy of a request costs, where an answer must be repeated, and in the in-flight phase."""
import os
import statistics
import subprocess
import threading

from harness import TOOLS, Failed, Server, free_port, total

RATE = 40_000  # copies a second
COPIES = {256: 100_000, 1: 50_000}  # by how many INVITEs they are copies of
BURSTS, BURST_COPIES, BURST_RATE = 1000, 63, 500
PATIENCE = 60  # s, for a line of the flood program
GOAL_REPEAT, GOAL_INFLIGHT = 0.6, 1.5
ABSORBED = r'^holdfast_retransmissions_absorbed_total\{stage="%s"\}'


class Flood:
    """The flood program, a line at a time."""

    def __init__(self, server, mode, **options):
        command = [os.path.join(TOOLS, "flood"), "--to", str(server.port), "--callee", str(server.uas)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command + [mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def meet(self, word):
        # Whatever the server does, the flood goes on after a while; should it not, this ends it.
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        line = self.process.stdout.readline().split()
        timer.cancel()
        if not line or line[0] != word:
            self.process.kill()
            raise Failed(f"flood: expected '{word}', got '{' '.join(line)}'")
        return {k: int(v) for k, v in (pair.split("=") for pair in line[1:])}

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def repeat(server, invites):
    """µs of CPU per copy of one of so many ringing INVITEs, and what the flood counted."""
    flood = Flood(server, "repeat", count=invites, copies=COPIES[invites], rate=RATE)
    try:
        flood.meet("ready")
        before = server.cpu()
        flood.go()
        done = flood.meet("done")
        cpu = server.cpu() - before
        flood.go()
        flood.meet("end")
        flood.go()
    finally:
        flood.close()
    return cpu / 1000 / done["sent"], done


def inflight(server, copies):
    """CPU of the bursts in µs, and the copies that each stage absorbed."""
    flood = Flood(server, "inflight", count=BURSTS, copies=copies, rate=BURST_RATE)
    try:
        flood.meet("ready")
        before, old = server.cpu(), server.metrics()
        flood.go()
        done = flood.meet("done")
        cpu = server.cpu() - before
        new = server.metrics()
        flood.go()
    finally:
        flood.close()
    absorbed = [total(new, ABSORBED % s) - total(old, ABSORBED % s) for s in ("inflight", "transaction")]
    return cpu / 1000, absorbed, done


def bench(options):
    good = True
    servers = {}
    try:
        for kind in options.only:
            if kind != "relay":
                servers[kind] = Server(kind, free_port())
                servers[kind].start()
        for invites in COPIES:
            good &= bench_repeat(servers, invites, options)
        if "holdfast" in servers:
            good &= bench_inflight(servers["holdfast"], options)
    finally:
        for server in servers.values():
            server.stop()
    return good


def bench_repeat(servers, invites, options):
    """Of many INVITEs in turn, each copy comes alone and must be answered. Of a single one, copies come in bursts, and
    some may find another being worked on."""
    what = f"{invites} ringing INVITEs in turn" if invites > 1 else "one ringing INVITE"
    print(f"copies of {what}: {COPIES[invites]} a round, {RATE}/s, {options.rounds} rounds, µs of CPU per copy:")
    results = {kind: [] for kind in servers}
    answered = {kind: [] for kind in servers}
    for r in range(options.rounds + 1):
        for kind, server in servers.items():
            us, done = repeat(server, invites)
            if r:  # the first warms up
                results[kind].append(us)
                answered[kind].append(done["provisional"] / done["sent"])
    for kind, values in results.items():
        print(f"  {kind:10} {statistics.median(values):6.2f}  ({min(values):.2f} to {max(values):.2f}); "
              f"{statistics.median(answered[kind]):.1%} of the copies answered")
    good = True
    if "holdfast" in results and invites > 1:
        good = statistics.median(answered["holdfast"]) > 0.99
        print(f"  {'PASS' if good else 'FAIL'}  every copy is answered")
    if len(results) == 2:
        ratio = statistics.median(results["holdfast"]) / statistics.median(results["kamailio"])
        good &= ratio <= GOAL_REPEAT
        print(f"  {'PASS' if ratio <= GOAL_REPEAT else 'FAIL'}  holdfast/kamailio {ratio:.2f} (at most {GOAL_REPEAT})")
    return good


def bench_inflight(server, options):
    print(f"in flight, {BURSTS} bursts of one request and {BURST_COPIES} copies a round, {options.rounds} rounds:")
    values = []
    share = 0.0
    for r in range(options.rounds + 1):
        alone, _, _ = inflight(server, 0)
        flooded, (by_filter, by_transaction), done = inflight(server, BURST_COPIES)
        if not r:
            continue
        absorbed = by_filter + by_transaction
        if absorbed < 0.99 * BURSTS * BURST_COPIES:
            print(f"  only {absorbed:.0f} of {BURSTS * BURST_COPIES} copies were absorbed "
                  f"({done['asked']} of {BURSTS} requests arrived)")
        if not absorbed:
            return False
        values.append((flooded - alone) / absorbed)
        share = by_filter / absorbed
    us = statistics.median(values)
    good = us <= GOAL_INFLIGHT and share > 0.5
    print(f"  holdfast   {us:6.2f} µs of CPU per copy ({min(values):.2f} to {max(values):.2f}); "
          f"the in-flight filter took {share:.0%} of them")
    print(f"  {'PASS' if good else 'FAIL'}  {us:.2f} µs (at most {GOAL_INFLIGHT})")
    return good
