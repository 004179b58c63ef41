"""Calls: the same SIPp calls through Holdfast, Kamailio and the bare relay, alternating."""
import os
import shutil
import statistics
import tempfile
import time

from harness import (HERE, Failed, Server, Sipp, free_port, process_cpu, quantile, tcp_port_open, udp_port_open,
                     wait_until)

LATENCY = "holdfast_message_seconds"
GOAL_KAMAILIO, GOAL_KAMAILIO_TCP, GOAL_RELAY, GOAL_DURABLE, GOAL_P99 = 0.6, 0.7, 1.6, 1.15, 0.0005


class Run:
    """The figures of one run."""

    def __init__(self):
        self.calls = self.failed = self.retransmissions = 0
        self.us = 0.0        # CPU time per call
        self.rate = 0.0      # calls/s that SIPp reached
        self.busy = 0.0      # the busier SIPp's share of a core
        self.memory = 0      # highest sample
        self.p99 = None      # seconds


def one(server, rate, calls, folder, mode="u1"):
    tcp = mode != "u1"
    uas = Sipp(folder, f"uas-{server.kind}", ["-sf", os.path.join(HERE, "uas.xml"), "-p", str(server.uas), "-key", "contact",
                                               f"127.0.0.1:{server.uas}" + (";transport=tcp" if tcp else "")] +
               (["-t", "t1"] if tcp else []))
    try:
        wait_until("SIPp", lambda: (tcp_port_open if tcp else udp_port_open)(server.uas), process=uas.process)
        run = Run()
        before = server.metrics() if server.ours else {}
        cpu, start = server.cpu(), time.monotonic()
        uac = Sipp(folder, f"uac-{server.kind}",
                   ["-sf", os.path.join(HERE, "uac.xml"), "-s", "100", "-r", str(rate), "-m", str(calls), "-l", "50000",
                    "-p", str(free_port()), "-t", mode, "-max_socket", "20000", f"127.0.0.1:{server.port}"])
        sipp_cpu = [0, 0]
        while True:
            # /proc forgets a process with its end: keep the last sample.
            for i, p in enumerate((uac.process, uas.process)):
                try:
                    sipp_cpu[i] = process_cpu(p.pid)
                except FileNotFoundError:
                    pass
            sampled = time.monotonic()
            run.memory = max(run.memory, server.memory())
            try:
                uac.process.wait(0.25)
                break
            except Exception:
                pass
            if not server.alive():
                raise Failed(f"{server.kind} died")
            if sampled > start + calls / rate * 3 + 60:
                raise Failed(f"{server.kind}: the calls do not end")
        run.us = (server.cpu() - cpu) / 1000 / calls
        n = uac.numbers()
        run.calls = int(n["SuccessfulCall(C)"])
        run.failed = int(n["FailedCall(C)"])
        run.retransmissions = int(n["Retransmissions(C)"])
        took = time.monotonic() - start
        run.rate = calls / took
        run.busy = max(sipp_cpu) / 1e9 / max(sampled - start, 0.001)
        if before:
            run.p99 = quantile(before, server.metrics(), 0.99, LATENCY)
    finally:
        uas.quit()
    run.retransmissions += int(uas.numbers()["Retransmissions(C)"])
    return run


def median(runs, field):
    values = [getattr(r, field) for r in runs if getattr(r, field) is not None]
    return statistics.median(values) if values else None


def bench(options):
    """Prints the table; returns whether the goals hold."""
    folder = tempfile.mkdtemp(prefix="bench-sipp-")
    servers = {}
    good = True
    try:
        for kind in options.only:
            if kind == "relay" and options.mode != "u1":
                continue
            servers[kind] = Server(kind, free_port(), transport="udp" if options.mode == "u1" else "tcp")
            servers[kind].start()
        for server in servers.values():
            one(server, 1000, options.warmup, folder, options.mode)
        for rate in options.rates:
            good &= at_rate(rate, options, servers, folder)
        print_after(servers, options)
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return good


def at_rate(rate, options, servers, folder):
    calls = options.calls or rate * options.seconds
    results = {kind: [] for kind in servers}
    for _ in range(options.rounds):
        for kind, server in servers.items():
            results[kind].append(one(server, rate, calls, folder, options.mode))
    print(f"\n{rate} calls/s, {calls} calls a run, {options.rounds} rounds (medians; failed and retransmissions are sums)")
    print(f"{'':10} {'µs/call':>8} {'min':>7} {'max':>7} {'failed':>7} {'retrans.':>8} {'MB':>6} {'calls/s':>8} {'SIPp CPU':>8} {'p99 ms':>7}")
    for kind, runs in results.items():
        p99 = median(runs, "p99")
        print(f"{kind:10} {median(runs, 'us'):8.1f} {min(r.us for r in runs):7.1f} {max(r.us for r in runs):7.1f} "
              f"{sum(r.failed for r in runs):7} {sum(r.retransmissions for r in runs):8} "
              f"{max(r.memory for r in runs) / 1e6:6.1f} {median(runs, 'rate'):8.0f} {median(runs, 'busy'):8.0%} "
              f"{'-' if p99 is None else format(p99 * 1000, '.3f'):>7}")
        if median(runs, "busy") > 0.93 or median(runs, "rate") < 0.9 * rate * calls / (calls + rate):
            print(f"{'':10} SIPp is at its limit here: {kind}'s latency and failures may be SIPp's")
    return verdicts(results, options.mode)


def verdicts(results, mode):
    good = True

    def verdict(text, ok):
        nonlocal good
        good &= ok
        print(f"  {'PASS' if ok else 'FAIL'}  {text}")

    # Kamailio and the relay keep nothing: like is compared with like, and what keeping costs is a figure of its own.
    mine = results.get("memory") or results.get("holdfast")
    if not mine:
        return True
    for other, goal in (("kamailio", GOAL_KAMAILIO if mode == "u1" else GOAL_KAMAILIO_TCP), ("relay", GOAL_RELAY)):
        if other in results:
            ratio = median(mine, "us") / median(results[other], "us")
            verdict(f"{'memory' if 'memory' in results else 'holdfast'}/{other} {ratio:.2f} (at most {goal})", ratio <= goal)
    if "memory" in results and "holdfast" in results:
        ratio = median(results["holdfast"], "us") / median(mine, "us")
        verdict(f"holdfast/memory {ratio:.2f} (at most {GOAL_DURABLE})", ratio <= GOAL_DURABLE)
        mine = mine + results["holdfast"]
    failed = sum(r.failed for r in mine)
    verdict(f"failed calls {failed} (none)", failed == 0)
    p99 = median(mine, "p99")
    if p99 is None:
        verdict("p99 unknown: no histogram " + LATENCY, False)
    else:
        verdict(f"p99 inside {p99 * 1000:.3f} ms (at most {GOAL_P99 * 1000})", p99 <= GOAL_P99)
    return good


def print_after(servers, options):
    print("\nmemory now, MB: " + ", ".join(f"{kind} {s.memory() / 1e6:.1f}" for kind, s in servers.items()))
