#!/usr/bin/env python3
"""Bytes that are no SIP, or wrong SIP, lead to an answer or a drop, and the process lives."""
import os
import random
import sys

sys.dont_write_bytecode = True
from system import Agent, Proxy, check, equal, gateway, run, uac, uas, uri, wait_until  # noqa: E402


def test_garbage_is_dropped():
    proxy = Proxy(gateway("carrier", "sip:127.0.0.1:9"))
    agent = Agent(proxy=proxy)
    samples = [b"", b"\0", b"\r\n\r\n", b"\r\n" * 100, b"hello", b"\xff" * 1400, b"INVITE", b"SIP/2.0",
               b"SIP/2.0 200 OK\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n\r\n", b"x" * 65000, b":" * 500, b"\r\n" + b" " * 900,
               b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    for sample in samples:
        agent.send(sample)
    generator = random.Random(1)
    for _ in range(300):
        agent.send(bytes(generator.randrange(256) for _ in range(generator.randrange(1, 900))))
    agent.send(agent.request("OPTIONS", uri(proxy.port)))
    agent.expect(200, skip=(400,))
    check(proxy.metric("dropped_total") >= 200, "drops are counted")
    check(proxy.alive(), "the proxy lives")


def test_malformed_requests_get_400():
    proxy = Proxy(gateway("carrier", "sip:127.0.0.1:9"))
    agent = Agent(proxy=proxy)

    def without(name):
        return "\r\n".join(line for line in agent.request("MESSAGE", uri(proxy.port)).split("\r\n")
                           if not line.startswith(name + ":"))

    good = agent.request("MESSAGE", uri(proxy.port))
    for text in (without("From"), without("To"), without("Call-ID"), without("CSeq"),
                 good.replace("CSeq: 1 MESSAGE", "CSeq: 1 INVITE"),
                 good.replace("CSeq: 1 MESSAGE", "CSeq: 99999999999 MESSAGE"),
                 good.replace("Content-Length: 0", "Content-Length: 10"),
                 good.replace("Content-Length: 0", "Content-Length: -1"),
                 good.replace("Max-Forwards: 70", "Max-Forwards: x")):
        agent.send(text)
        agent.expect(400)
    equal(proxy.metric("responses_generated_total", code="400"), 9, "400s")
    check(proxy.metric("refused_total", reason="malformed") >= 9, "refusals are counted")


def test_other_refusals():
    proxy = Proxy(gateway("carrier", "sip:127.0.0.1:9"))
    agent = Agent(proxy=proxy)
    target = f"sip:100@127.0.0.1:{proxy.port}"
    for text, want in ((agent.request("MESSAGE", target, max_forwards=0), 483),
                       (agent.request("MESSAGE", target, headers=["Proxy-Require: nothing-we-know"]), 420),
                       (agent.request("MESSAGE", target).replace(" SIP/2.0\r\n", " SIP/7.0\r\n", 1), 505),
                       (agent.request("MESSAGE", "nobodyknows:abc"), 416)):
        agent.send(text)
        agent.expect(want)


def test_mutated_calls():
    """Thousands of calls' messages with bytes changed: no crash, and calls go through afterwards."""
    callee = uas()
    proxy = Proxy(gateway("carrier", "sip:127.0.0.1:9") + "timers { t1 = 10ms }\n")
    agent = Agent(proxy=proxy)
    generator = random.Random(7)
    for n in range(2000):
        data = bytearray(agent.request(generator.choice(["INVITE", "BYE", "ACK", "CANCEL", "MESSAGE", "REGISTER"]),
                                       f"sip:100@127.0.0.1:{proxy.port}",
                                       routes=[f"<sip:127.0.0.1:{proxy.port};lr>"] if n % 3 == 0 else ()).encode())
        for _ in range(generator.randrange(1, 6)):
            at = generator.randrange(len(data))
            what = generator.randrange(3)
            if what == 0:
                data[at] = generator.randrange(256)
            elif what == 1:
                del data[at:at + generator.randrange(1, 30)]
            else:
                data[at:at] = bytes(generator.choice(b'\0\r\n ":;,<>@[]()\\%\xff') for _ in range(generator.randrange(1, 9)))
        if data:
            agent.send(bytes(data))
        if n % 50 == 0:
            # In step with the proxy, so that nothing is lost to a full buffer.
            wait_until("an answer of /healthz", lambda: proxy.get("/healthz")[0] == 200)
    check(proxy.alive(), "the proxy lives")
    proxy.reload(gateway("carrier", uri(callee.port)))
    equal(uac(proxy.port, 20, 50).finish()[:2], (20, 0), "calls")


if __name__ == "__main__":
    run(globals())
