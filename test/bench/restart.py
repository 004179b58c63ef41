"""Restarts: how soon the proxy serves again with so many calls in its store, what becomes of them, what the store takes, and what keeping it costs a
call. Kamailio, ended in the same way, shows what is lost without."""
import os
import shutil
import signal
import socket
import statistics
import tempfile
import time

import calls
from harness import Failed, Server, free_port
from retransmissions import Flood

HELD = [0, 10_000, 100_000]  # calls that ring when the proxy is ended
RATE = 5000
GOAL_START, GOAL_COST = 1.0, 1.15  # s with the most calls; CPU per call with the store, relative to without
MANY = "timers { max_inflight = 200000 max_transactions = 1000000 }\n"
WITHOUT = "store { transactions = false }\n"
COST_RATE = 2000
WARM = 35  # s: until then (64*T1) a store grows, and so do the faults of its pages


def bench(options):
    good = True
    for kind in ("holdfast", "kamailio"):
        if kind in options.only:
            for held in HELD if kind == "holdfast" else HELD[1:2]:
                good &= start(kind, held)
    return cost(options) and good if "holdfast" in options.only else good


def kill(server):
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def served(server):
    """Seconds from the start of the process to its first answer, by somebody who asks all the time."""
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.bind(("127.0.0.1", 0))
    asker.settimeout(0.002)
    begun = time.monotonic()
    server.spawn()
    number = 0
    with asker:
        while time.monotonic() < begun + 60:
            number += 1
            asker.sendto((f"OPTIONS sip:127.0.0.1:{server.port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:"
                          f"{asker.getsockname()[1]};branch=z9hG4bK{os.getpid()}x{number};rport\r\nFrom: <sip:a@b>;tag=1\r\n"
                          f"To: <sip:127.0.0.1:{server.port}>\r\nCall-ID: {os.getpid()}x{number}\r\nCSeq: 1 OPTIONS\r\n"
                          "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n").encode(), ("127.0.0.1", server.port))
            try:
                asker.recv(4096)
                return time.monotonic() - begun
            except OSError:
                pass
    raise Failed(f"{server.kind} does not serve")


def store_size(server):
    folder = os.path.join(server.dir, "store")
    return sum(os.stat(os.path.join(folder, n)).st_blocks * 512 for n in os.listdir(folder)) if os.path.isdir(folder) else 0


def start(kind, held):
    server = Server(kind, free_port(), MANY if kind == "holdfast" else "")
    flood = None
    try:
        server.start()
        if held:
            flood = Flood(server, "open", count=held, rate=RATE)
            flood.meet("ready")
            flood.go()
            if flood.meet("open")["asked"] < held:
                raise Failed(f"not all of {held} INVITEs reached the callee")
        size = store_size(server)
        kill(server)
        took = served(server)
        print(f"  {kind}: {held} calls ring: serves {took:.3f} s after its start; the store takes {size / 1e6:.1f} MB", flush=True)
        good = kind != "holdfast" or verdict(f"{took:.3f} s (at most {GOAL_START})", took <= GOAL_START)
        if not held:
            return good
        flood.go()  # the callee declines half of the calls, and the caller cancels the others
        end = flood.meet("end")
        ended = end["final"]
        print(f"  {kind}: {end['cancels']} of {held // 2} CANCELs found their callee; {ended} of {held} callers had a final answer",
              flush=True)
        return good and (kind != "holdfast" or verdict(f"{held - ended} calls lost (none)", ended == held and end["cancels"] == held // 2))
    finally:
        if flood:
            flood.close()
        server.stop()


def verdict(text, ok):
    print(f"  {'PASS' if ok else 'FAIL'}  {text}", flush=True)
    return ok


def cost(options):
    folder = tempfile.mkdtemp(prefix="bench-sipp-")
    servers = {"with the store": Server("holdfast", free_port()), "without": Server("holdfast", free_port(), WITHOUT)}
    results = {name: [] for name in servers}
    try:
        for server in servers.values():
            server.start()
            calls.one(server, COST_RATE, COST_RATE * WARM, folder)
        for _ in range(options.rounds):
            for name, server in servers.items():
                results[name].append(calls.one(server, COST_RATE, options.calls or COST_RATE * options.seconds, folder))
        for name, runs in results.items():
            print(f"  {name:15} {statistics.median(r.us for r in runs):6.1f} µs of CPU a call at {COST_RATE} calls/s, "
                  f"{sum(r.failed for r in runs)} failed; {store_size(servers[name]) / 1e6:.1f} MB of store")
        pairs = [a.us / b.us for a, b in zip(*results.values())]
        ratio = statistics.median(pairs)
        return verdict(f"{ratio:.2f} times the CPU of a call without (at most {GOAL_COST})", ratio <= GOAL_COST)
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
