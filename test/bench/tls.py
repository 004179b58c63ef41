"""TLS: CPU per call over one connection each side, beside the same over TCP; and CPU per handshake and handshakes a second, with and
without resumption, beside connections over TCP. A handshake is followed by OPTIONS and its answer."""
import statistics
import time

from harness import Failed, Server, free_port
from tlsload import Certificates, Load

GOAL_CALLS = 0.7  # of Kamailio's CPU per call
HANDSHAKES = (("tcp", "TCP connection"), ("full", "TLS handshake"), ("resumed", "resumed handshake"))


class Run:
    pass


def calls(server, rate, count, certificates):
    load = Load(server, "calls", callee=server.uas, rate=rate, count=count, cert=certificates.cert, key=certificates.key)
    try:
        load.meet("ready")
        cpu, start = server.cpu(), time.monotonic()
        load.go()
        done = load.meet("done")
        run = Run()
        run.us = (server.cpu() - cpu) / 1000 / count
        run.rate, run.failed, run.tls = count / done["seconds"], done["failed"], done["tls"]
        load.go()
        setup = load.meet("setup")
        run.p50, run.p99 = setup["p50"], setup["p99"]
    finally:
        load.close()
    return run


def handshakes(kind, what, count, certificates):
    """With a server of its own. Kamailio has one TCP child here: where two shake hands at a time, 5.6 with OpenSSL 3 fails from some
    handshake on, and each has ticket keys of its own."""
    transport = "tcp" if what == "tcp" else "tls"
    server = Server(kind, free_port(), "\ntcp_children=1\n" if kind == "kamailio" else "", transport,
                    certificates if transport == "tls" else None)
    load = None
    try:
        server.start()
        load = Load(server, "handshakes", *(["--resume"] if what == "resumed" else []), count=count)
        ready = load.meet("ready")
        cpu = server.cpu()
        load.go()
        done = load.meet("done")
        run = Run()
        run.us = (server.cpu() - cpu) / 1000 / max(done["answered"], 1)
        run.rate, run.failed, run.resumed = done["answered"] / done["seconds"], done["failed"], done["resumed"] / count
        run.busy = (done["cpu"] - ready["cpu"]) / done["seconds"]
        load.go()
    finally:
        if load:
            load.close()
        server.stop()
    return run


def median(runs, field):
    return statistics.median(getattr(r, field) for r in runs)


def begin(kinds, certificates):
    """{(kind, transport): server}; one that does not start is said and left out."""
    servers = {}
    try:
        for kind in kinds:
            for transport in ("tcp", "tls"):
                server = Server(kind, free_port(), transport=transport, certificates=certificates if transport == "tls" else None)
                servers[kind, transport] = server
                try:
                    server.start()
                except Failed as e:
                    if kind != "kamailio":
                        raise
                    print(f"  {kind} over {transport} is left out: {e}")
                    servers.pop((kind, transport)).stop()
    except BaseException:
        for server in servers.values():
            server.stop()
        raise
    return servers


def bench_calls(servers, options, certificates, verdict):
    count = options.calls or options.tls_rate * options.seconds
    results = {key: [] for key in servers}
    for _ in range(options.rounds):
        for key, server in servers.items():
            results[key].append(calls(server, options.tls_rate, count, certificates))
    print(f"\n{options.tls_rate} calls/s over one connection each side, {count} calls a run, {options.rounds} rounds (medians; failed is a sum)")
    print(f"{'':14} {'µs/call':>8} {'failed':>7} {'calls/s':>8} {'set-up p50':>10} {'p99 ms':>8}")
    for (kind, transport), runs in results.items():
        print(f"{kind:9} {transport:4} {median(runs, 'us'):8.1f} {sum(r.failed for r in runs):7.0f} {median(runs, 'rate'):8.0f} "
              f"{median(runs, 'p50'):10.3f} {median(runs, 'p99'):8.3f}  {runs[0].tls if transport == 'tls' else ''}")
    mine = results.get(("holdfast", "tls"))
    if not mine:
        return
    other = results.get(("kamailio", "tls"))
    if other:
        ratio = median(mine, "us") / median(other, "us")
        verdict(f"holdfast/kamailio {ratio:.2f} over TLS (at most {GOAL_CALLS})", ratio <= GOAL_CALLS)
    failed = sum(r.failed for r in mine)
    verdict(f"failed calls {failed:.0f} (none)", failed == 0)


def bench_handshakes(kinds, options, certificates, verdict):
    results = {(kind, what): [] for kind in kinds for what, _ in HANDSHAKES}
    for _ in range(options.rounds):
        for (kind, what), runs in results.items():
            try:
                runs.append(handshakes(kind, what, options.handshakes, certificates))
            except Failed as e:
                if kind != "kamailio":
                    raise
                print(f"  left out: {e}")
    results = {key: runs for key, runs in results.items() if runs}
    print(f"\n{options.handshakes} connections a run, 16 at a time, each with OPTIONS and its answer, {options.rounds} rounds (medians; failed is a sum)")
    print(f"{'':28} {'µs each':>8} {'a second':>8} {'failed':>7} {'resumed':>8} {'tlsload CPU':>11}")
    for (kind, what), runs in results.items():
        print(f"{kind:9} {dict(HANDSHAKES)[what]:18} {median(runs, 'us'):8.1f} {median(runs, 'rate'):8.0f} {sum(r.failed for r in runs):7.0f} "
              f"{median(runs, 'resumed'):8.0%} {median(runs, 'busy'):11.0%}")
    if "holdfast" not in kinds:
        return
    for what, name in HANDSHAKES:
        mine, other = results["holdfast", what], results.get(("kamailio", what))
        failed = sum(r.failed for r in mine)
        verdict(f"{name}: failed {failed:.0f} (none)", failed == 0)
        if other:
            ratio = median(mine, "us") / median(other, "us")
            print(f"        {name}: holdfast/kamailio {ratio:.2f}")
    share = median(results["holdfast", "resumed"], "resumed")
    verdict(f"{share:.0%} resumed of those that asked for it (at least 99%)", share >= 0.99)


def bench(options):
    good = True

    def verdict(text, ok):
        nonlocal good
        good &= ok
        print(f"  {'PASS' if ok else 'FAIL'}  {text}")

    certificates = Certificates()
    servers = begin([k for k in options.only if k in ("holdfast", "memory", "kamailio")], certificates)
    try:
        bench_calls(servers, options, certificates, verdict)
    finally:
        for server in servers.values():
            server.stop()
    bench_handshakes([k for k in options.only if k in ("holdfast", "kamailio")], options, certificates, verdict)
    return good
