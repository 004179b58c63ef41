"""Memory: many INVITE transactions held open, what each takes, and what is left after they end. Our own memory; the pages of the store that are
mapped are the file's, which the system takes back when it needs them, and are told beside."""
from harness import Failed, Server, free_port, process_split, total, wait_until
from retransmissions import Flood

GOAL = 4096           # bytes per live transaction
GOAL_LEFT = 0.15      # share of the growth that may stay
RATE = 5000

# So that what has ended is forgotten within seconds instead of half a minute.
TIMERS = """
timers {
	t1 = 100ms
	t2 = 400ms
	t4 = 500ms
}
"""
LIVE = r"^holdfast_transactions\{"


def bench(options):
    if "holdfast" not in options.only:
        return True
    good = True
    server = Server("holdfast", free_port(), TIMERS)
    try:
        server.start()
        # One round first: what the allocator and the tables take once is not the transactions'.
        rounds = [hold(server, options.transactions) for _ in range(2)]
        for i, (start, live, grown, after) in enumerate(rounds):
            each = (grown - start) / live
            left = (after - start) / 1e6
            print(f"  round {i + 1}: {live:.0f} live transactions; {start / 1e6:.1f} MB before, {grown / 1e6:.1f} MB with them, "
                  f"{after / 1e6:.1f} MB after: {each:.0f} bytes each, {left:.1f} MB stay")
        print(f"  pages of files that are mapped, the store's above all: {(server.memory() - own(server)) / 1e6:.0f} MB")
        start, live, grown, after = rounds[0]
        each, left = (grown - start) / live, (after - start) / max(grown - start, 1)
        for text, ok in ((f"{each:.0f} bytes per live transaction (at most {GOAL})", each <= GOAL),
                         (f"{left:.0%} of the growth stays (at most {GOAL_LEFT:.0%})", left <= GOAL_LEFT)):
            print(f"  {'PASS' if ok else 'FAIL'}  {text}")
            good &= ok
    finally:
        server.stop()
    return good


def own(server):
    return sum(process_split(server.pids()))


def hold(server, count):
    start = own(server)
    flood = Flood(server, "open", count=count, rate=RATE)
    try:
        flood.meet("ready")
        flood.go()
        opened = flood.meet("open")
        if opened["asked"] < count:
            raise Failed(f"only {opened['asked']} of {count} INVITEs reached the callee")
        live = total(server.metrics(), LIVE)
        grown = own(server)
        flood.go()
        flood.meet("end")
        wait_until("the end of all transactions", lambda: total(server.metrics(), LIVE) == 0, 60, server.process)
        after = own(server)
        flood.go()
    finally:
        flood.close()
    if live < 2 * count:
        print(f"  only {live:.0f} transactions live for {count} calls")
    return start, live, grown, after
