"""Idle connections: N of them over TCP, and M over TLS, what each takes of a server's memory, and what is left when they are gone."""
import resource
import time

from harness import Failed, Server, free_port, process_split
from tlsload import Certificates, Load

GOAL = {"tcp": 2048, "tls": 24 * 1024}  # bytes a connection
SETTLED, PATIENCE = 3, 30               # s: so long nothing changes; no longer than that is waited for it
WARM_UP = 50


def settled(server):
    """(private, shared) bytes, when they no longer change. Kamailio's children keep a connection for some seconds."""
    samples, end = [], time.monotonic() + PATIENCE
    while time.monotonic() < end:
        samples.append(process_split(server.pids()))
        last = [sum(s) for s in samples[-SETTLED * 2 - 1:]]
        if len(last) > SETTLED * 2 and max(last) - min(last) <= 0.002 * max(last):
            break
        time.sleep(0.5)
    return samples[-1]


def hold(server, count):
    """(memory before, with them, after; s to open them)"""
    start = settled(server)
    load = Load(server, "idle", count=count, window=64)
    try:
        opened = load.meet("open")
        if opened["failed"]:
            raise Failed(f"{server.kind} has {opened['answered']:.0f} connections of {count}")
        grown = settled(server)
        load.go()
        end = load.meet("end")
        if end["failed"]:
            raise Failed(f"{server.kind} closed {end['failed']:.0f} of {count} idle connections")
        after = settled(server)
        load.go()
    finally:
        load.close()
    return start, grown, after, opened["seconds"]


def one(kind, transport, count, certificates):
    """Bytes a connection; None where the server cannot be had."""
    server = Server(kind, free_port(), transport=transport, certificates=certificates if transport == "tls" else None)
    each = None
    try:
        server.start()
        hold(server, WARM_UP)
        for i in range(2):
            start, grown, after, seconds = hold(server, count)
            private, shared = ((g - s) / count for s, g in zip(start, grown))
            print(f"  {kind:9} round {i + 1}: {sum(start) / 1e6:.1f} MB before, {sum(grown) / 1e6:.1f} MB with them, {sum(after) / 1e6:.1f} MB "
                  f"after: {private + shared:.0f} bytes each (private {private:.0f}, shared {shared:.0f}); opened in {seconds:.1f} s",
                  flush=True)
            # The second round finds the memory of the first: the first is judged.
            each = each or private + shared
    except Failed as e:
        if kind == "holdfast":
            raise
        print(f"  {kind:9} {e}", flush=True)
    finally:
        server.stop()
    return each


def bench(options):
    good = True
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200
    certificates = Certificates()
    for transport, count in (("tcp", options.connections), ("tls", options.tls_connections)):
        if count > most:
            print(f"  {count} connections are more than the limit of files allows: {most}")
            count = most
        print(f"\n{count} idle connections over {transport.upper()}, each of which has had an answer to OPTIONS")
        results = {kind: one(kind, transport, count, certificates) for kind in options.only if kind in ("holdfast", "kamailio")}
        if "holdfast" in results:
            each, other = results["holdfast"], results.get("kamailio")
            ok = each <= GOAL[transport]
            good &= ok
            print(f"  {'PASS' if ok else 'FAIL'}  {each:.0f} bytes for an idle {transport.upper()} connection (at most {GOAL[transport]})" +
                  (f", {each / other:.2f} of Kamailio's" if other else ""))
    return good
