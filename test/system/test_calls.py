#!/usr/bin/env python3
# run-tests: timeout=120 alone
"""SIPp calls through the proxy: one, ten thousand, over IPv6, between listeners, over a network that loses."""
import os
import sys

sys.dont_write_bytecode = True
from system import (HERE, SLOW, Agent, Proxy, Relay, equal, check, free_port, gateway, run, uac, uas, uri,  # noqa: E402
                    wait_until)
import socket  # noqa: E402


def test_basic_call():
    callee = uas()
    proxy = Proxy(gateway("callee", uri(callee.port)))
    equal(uac(proxy.port, 1, 10).finish()[:2], (1, 0), "calls")
    equal(uac(proxy.port, 50, 50).finish()[:2], (50, 0), "calls")
    equal(callee.quit()[1], 0, "failures that the callee saw")
    for kind, count in (("INVITE", 51), ("ACK", 51), ("BYE", 51)):
        for direction in ("in", "out"):
            equal(proxy.metric("messages_total", transport="udp", direction=direction, kind=kind), count,
                  f"{kind}s {direction}")
    equal(proxy.metric("messages_total", direction="in", kind="2xx"), 102, "2xx in")
    equal(proxy.metric("messages_total", direction="out", kind="2xx"), 102, "2xx out")
    equal(proxy.metric("branches_total"), 102, "branches")
    equal(proxy.metric("invites_in_flight"), 0, "INVITEs in flight")
    equal(proxy.metric("responses_generated_total", code="100"), 51, "100s of our own")
    check(proxy.metric("message_seconds_count") >= 51 * 7, "the histogram counts every message")


def test_ten_thousand_calls():
    calls, rate = 10000 // SLOW, 1000 // SLOW // SLOW
    callee = uas()
    proxy = Proxy(gateway("callee", uri(callee.port)))
    equal(uac(proxy.port, calls, rate).finish(100)[:2], (calls, 0), "calls")
    equal(callee.quit()[1], 0, "failures that the callee saw")
    equal(proxy.metric("messages_total", direction="in", kind="5xx"), 0, "5xx")


def test_ipv6_call():
    callee = uas(host="::1")
    port = free_port(socket.AF_INET6)
    Proxy(gateway("callee", f"sip:[::1]:{callee.port}"), listen=[f"udp:[::1]:{port}"])
    equal(uac(port, 20, 20, host="::1").finish()[:2], (20, 0), "calls")


def test_two_listeners():
    """Callers at either listener; one of another family than the callee's."""
    callee = uas()
    ports = [free_port(), free_port(), free_port(socket.AF_INET6)]
    Proxy(gateway("callee", uri(callee.port)),
          listen=[f"udp:127.0.0.1:{ports[0]}", f"udp:127.0.0.1:{ports[1]}", f"udp:[::1]:{ports[2]}"])
    callers = [uac(ports[0], 20, 20), uac(ports[1], 20, 20), uac(ports[2], 20, 20, host="::1")]
    for caller in callers:
        equal(caller.finish()[:2], (20, 0), "calls")


def test_response_leaves_by_the_socket_that_the_request_came_in_on():
    ports = [free_port(), free_port()]
    Proxy("", listen=[f"udp:127.0.0.1:{p}" for p in ports])
    for port in ports:
        agent = Agent(proxy=port)
        agent.send(agent.request("OPTIONS", uri(port)))
        equal(agent.expect(200).source, ("127.0.0.1", port), "source of the answer")


def test_loss():
    """5 % of the datagrams are lost, both ways, before and behind the proxy."""
    calls, rate = 400 // SLOW, 100 // SLOW
    path = os.path.join(HERE, "uas-loss.xml")
    inner = free_port()
    from system import Sipp
    behind = Relay(inner, loss=5, seed=2)
    callee = Sipp(path, port=inner, contact=behind.port)
    proxy = Proxy(gateway("callee", uri(behind.port)))
    before = Relay(proxy.port, loss=5, seed=3)
    good, failed, again = uac(before.port, calls, rate, scenario=os.path.join(HERE, "uac-loss.xml")).finish(90)
    equal((good, failed), (calls, 0), "calls")
    check(again > 0, "the relay lost nothing that the caller sent")
    check(proxy.metric("retransmissions_sent_total") > 0, "the proxy retransmitted nothing")
    check(proxy.metric("retransmissions_absorbed_total") > 0, "the proxy absorbed nothing")
    wait_until("no call in flight", lambda: proxy.metric("invites_in_flight") == 0)
    callee.quit()


if __name__ == "__main__":
    run(globals())
