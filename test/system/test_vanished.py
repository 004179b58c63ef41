#!/usr/bin/env python3
"""Peers that vanish without a word, or stop reading: callers hear of it soon, live calls do not, and nothing is left behind."""
import os
import select
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from network import Network  # noqa: E402
from system import HERE, SLOW, Agent, Proxy, check, equal, free_port, gateway, run, uri, wait_until  # noqa: E402

PHONES = int(os.environ.get("VANISHED_PHONES", "40"))
IDLE = 10  # that nobody calls
ACK, USER, WRITE = 1, 4, 3  # s
KEEPALIVE = (2, 1, 3)  # s, s, probes
OPTIONS = (f"{{ ack_timeout = {ACK}s user_timeout = {USER}s write_timeout = {WRITE}s keepalive_idle = {KEEPALIVE[0]}s "
           f"keepalive_interval = {KEEPALIVE[1]}s keepalive_probes = {KEEPALIVE[2]} connect_timeout = 3s max_connections_per_address = 100000 }}")


class Site:
    """The proxy, reachable on loopback (UDP) and in a network of its own (TCP)."""

    def __init__(self, text=""):
        self.net = Network()
        try:
            self.port = free_port()
            self.live = Agent()
            self.proxy = Proxy(listen=[], start=False, text=(
                f'listen "udp:127.0.0.1:{self.port}" {{ }}\nlisten "tcp:{self.net.here}:{self.port}" {OPTIONS}\n'
                'domain "example.com" { authenticate = false }\n' + text +
                gateway("live", uri(self.live.port)).replace('route "live" {', 'route "live" {\n\tuser = "^live$"')))
            self.proxy.port = self.port
            self.proxy.start()
        except BaseException:
            self.net.remove()
            raise
        self.phones = []

    def register(self, number, first, *more):
        p = subprocess.Popen(["ip", "netns", "exec", self.net.name, sys.executable, os.path.join(HERE, "phones.py"),
                              self.net.here, str(self.port), str(number), str(first), *more],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.phones.append(p)
        equal(p.stdout.readline().strip(), "ready", "the phones")

    def end(self):
        for p in self.phones:
            p.kill()
            p.wait()
            p.stdin.close()
            p.stdout.close()
        self.net.remove()

    def open(self):
        return self.proxy.metric("connections", state="open")

    def threads(self):
        return len(os.listdir(f"/proc/{self.proxy.process.pid}/task"))


class Live(threading.Thread):
    """Calls that go on all the time, and how long each took to be set up."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.site, self.caller, self.stop, self.times, self.failed = site, Agent(proxy=site.port), False, [], 0

    def run(self):
        while not self.stop:
            begun = time.monotonic()
            self.caller.send(self.caller.request("OPTIONS", f"sip:live@127.0.0.1:{self.site.port}"))
            try:
                self.site.live.respond(self.site.live.expect("OPTIONS"), 200, "OK")
                self.caller.expect(200)
            except AssertionError:
                self.failed += 1
            self.times.append(time.monotonic() - begun)
            time.sleep(0.01)

    def take(self):
        times, self.times = sorted(self.times), []
        return times

    def end(self):
        self.stop = True
        self.join(20 * SLOW)


def call_all(site, users, body=""):
    """Calls each, 200 a second; the answers with how long they took."""
    caller = Agent(proxy=site.port)
    sent, answers = {}, []
    deadline = time.monotonic() + len(users) / 200 + (ACK + 8) * SLOW
    waiting = list(users)
    following = time.monotonic()
    while len(answers) < len(users) and time.monotonic() < deadline:
        while waiting and time.monotonic() >= following:
            text = caller.request("INVITE", f"sip:{waiting.pop(0)}@example.com", body=body)
            sent[text.split("Call-ID: ")[1].split("\r\n")[0]] = (time.monotonic(), text)
            caller.send(text)
            following += 0.005
        if not select.select([caller.socket], [], [], 0.005)[0]:
            continue
        m = caller.receive()
        if m.status >= 200:
            begun, text = sent[m.get("Call-ID")]
            caller.ack(text, m)
            answers.append((m.status, time.monotonic() - begun))
    return answers


def test_cut_off():
    site = Site()
    live = Live(site)
    try:
        before_threads = site.threads()
        site.register(PHONES + IDLE, 0)
        equal(site.open(), PHONES + IDLE, "connections")
        live.start()
        time.sleep(2)
        before = live.take()
        site.net.cut()
        cut = time.monotonic()
        answers = call_all(site, [f"u{i}" for i in range(PHONES)])
        equal(len(answers), PHONES, "answers")
        equal({status for status, _ in answers}, {480}, "what the callers are told")
        check(max(t for _, t in answers) <= ACK + 1 * SLOW, f"answers within ack_timeout + 1 s: {max(t for _, t in answers):.2f}")
        during = live.take()
        check(during[len(during) // 2] <= 3 * before[len(before) // 2] + 0.005,
              f"live requests: median {during[len(during) // 2]:.4f} s, before {before[len(before) // 2]:.4f} s")
        wait_until("the end of all connections", lambda: site.open() == 0, USER + 5 + KEEPALIVE[0] + KEEPALIVE[1] * KEEPALIVE[2])
        took = time.monotonic() - cut
        idle = KEEPALIVE[0] + KEEPALIVE[1] * KEEPALIVE[2]
        check(took <= (max(USER, idle) + 5) * SLOW, f"all gone after {took:.1f} s")
        equal(site.proxy.metric("connections_closed_total", cause="user-timeout"), PHONES, "by user_timeout")
        equal(site.proxy.metric("connections_closed_total", cause="keepalive"), IDLE, "by keepalive")
        equal(site.proxy.metric("branch_failures_total", cause="ack-timeout"), PHONES, "branches by ack_timeout")
        # Their bindings went with them: the next caller hears it at once.
        begun = time.monotonic()
        equal([s for s, _ in call_all(site, ["u0", f"u{PHONES}"])], [480, 480], "callers after that")
        check(time.monotonic() - begun < ACK, "without a delay")
        wait_until("the threads are back", lambda: site.threads() <= before_threads)
        equal(site.proxy.metric("writer_threads"), 0, "writer threads")
        live.end()
        equal(live.failed, 0, "live requests that failed")
    finally:
        live.stop = True
        site.end()


def test_a_short_cut_is_survived():
    """Shorter than all probes, longer than user_timeout: an idle connection stays."""
    site = Site()
    try:
        site.register(3, 0)
        site.net.cut()
        time.sleep(KEEPALIVE[0] + 1.5)
        site.net.mend()
        time.sleep(KEEPALIVE[1] * 2)
        equal(site.open(), 3, "connections")
    finally:
        site.end()


def test_zero_window():
    """Phones that are there and do not read."""
    site = Site()
    live = Live(site)
    try:
        site.register(5, 0, "small")
        live.start()
        time.sleep(1)
        before = live.take()
        for _ in range(4):  # more than the buffers of both sides hold
            answers = call_all(site, [f"u{i}" for i in range(5)], body="x" * 40000)
            if site.open() == 0:
                break
        check(all(status in (480, 408) for status, _ in answers), f"answers {answers}")
        check(max(t for _, t in answers) <= ACK + 1 * SLOW, f"answers within ack_timeout + 1 s: {answers}")
        wait_until("their end", lambda: site.open() == 0, WRITE + 5)
        check(site.proxy.metric("connections_closed_total", cause="write-timeout") +
              site.proxy.metric("connections_closed_total", cause="queue-limit") +
              site.proxy.metric("connections_closed_total", cause="user-timeout") == 5, "by write_timeout, queue_limit or user_timeout")
        during = live.take()
        check(during[len(during) // 2] <= 3 * before[len(before) // 2] + 0.005, "live requests are as fast as before")
        live.end()
        equal(live.failed, 0, "live requests that failed")
        wait_until("no writer thread", lambda: site.proxy.metric("writer_threads") == 0)
    finally:
        live.stop = True
        site.end()


def test_swallowed_syn():
    """A next hop that does not answer: the next target is tried after ack_timeout, and live calls go on."""
    second = Agent()
    net_port = free_port()
    site = None
    try:
        site = Site()
        site.proxy.write(site_text(site, net_port, second))
        site.proxy.reload_now() if hasattr(site.proxy, "reload_now") else site.proxy.signal(1)
        wait_until("the reload", lambda: "is in effect" in site.proxy.log_text())
        site.net.cut(f"tcp dport {net_port}")
        caller = Agent(proxy=site.port)
        text = caller.request("INVITE", f"sip:dead@127.0.0.1:{site.port}")
        begun = time.monotonic()
        caller.send(text)
        invite = second.expect("INVITE", seconds=ACK + 3)
        took = time.monotonic() - begun
        check(took <= ACK + 1 * SLOW, f"the second target after {took:.2f} s")
        second.respond(invite, 486, "Busy Here")
        second.expect("ACK")
        caller.ack(text, caller.expect(486))
        wait_until("the connection is given up", lambda: site.proxy.metric("connections") == 0, 6)
        equal(site.proxy.metric("writer_threads"), 0, "writer threads")
    finally:
        if site:
            site.end()


def site_text(site, port, second):
    return (f'listen "udp:127.0.0.1:{site.port}" {{ }}\nlisten "tcp:{site.net.here}:{site.port}" {OPTIONS}\n'
            f'gateway "dead" {{ target = {{"sip:{site.net.there}:{port};transport=tcp", "sip:127.0.0.1:{second.port}"}} }}\n'
            'route "dead" { user = "^dead$" gateway = "dead" }\n')


run(globals())
