#!/usr/bin/env python3
"""What the proxy answers itself, whom it relays for, fail-over, CANCEL, forking."""
import os
import sys

sys.dont_write_bytecode = True
from system import Agent, Proxy, cancel_of, check, equal, free_port, gateway, run, uac, uas, uri  # noqa: E402


def test_options_to_the_proxy():
    proxy = Proxy()
    agent = Agent(proxy=proxy)
    agent.send(agent.request("OPTIONS", uri(proxy.port)))
    answer = agent.expect(200)
    check(";tag=" in answer.get("To"), "the answer's To carries a tag")
    allow = answer.get("Allow") or ""
    check("INVITE" in allow and "CANCEL" in allow, f"Allow: {allow}")
    equal(proxy.metric("responses_generated_total", code="200"), 1, "200s of our own")


def test_no_open_relay():
    victim = Agent()
    proxy = Proxy('domain "example.com" { }\n')
    agent = Agent(proxy=proxy)
    for method in ("INVITE", "MESSAGE"):
        text = agent.request(method, victim.uri)
        agent.send(text)
        answer = agent.expect(403)
        if method == "INVITE":
            agent.ack(text, answer)
    victim.nothing()
    equal(proxy.metric("refused_total", reason="relay"), 2, "refusals")


def test_no_open_relay_by_route_header():
    """A Route that we did not write opens nothing, with or without a To tag."""
    victim = Agent()
    proxy = Proxy('domain "example.com" { }\n')
    agent = Agent(proxy=proxy)
    for to_tag in ("", ";tag=forged"):
        agent.send(agent.request("MESSAGE", victim.uri, to_tag=to_tag,
                                 routes=[f"<sip:127.0.0.1:{proxy.port};lr>", f"<{victim.uri};lr>"]))
        agent.expect(403)
    agent.send(agent.request("MESSAGE", victim.uri, to_tag=";tag=forged",
                             routes=[f"<sip:0123456789abcdef@127.0.0.1:{proxy.port};lr>"]))
    agent.expect(403)
    victim.nothing()


def test_reject_route():
    proxy = Proxy('route "no" {\n\tuser = "^666"\n\treject = "410 Gone"\n}\n')
    agent = Agent(proxy=proxy)
    agent.send(agent.request("MESSAGE", f"sip:666@127.0.0.1:{proxy.port}"))
    equal(agent.expect(410).first, "SIP/2.0 410 Gone", "the answer")


def test_failover_closed_port():
    """The kernel's ICMP error fails the first target at once, not after Timer B."""
    callee = uas()
    proxy = Proxy(gateway("carrier", uri(free_port()), uri(callee.port)))
    equal(uac(proxy.port, 20, 20).finish(20)[:2], (20, 0), "calls")
    check(proxy.metric("branch_failures_total", cause="transport") >= 20, "branches failed by ICMP")


def test_failover_503():
    first, second = Agent(), Agent()
    proxy = Proxy(gateway("carrier", uri(first.port), uri(second.port)))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    first.respond(first.expect("INVITE"), 503, "Service Unavailable")
    first.expect("ACK")
    second.respond(second.expect("INVITE"), 200, "OK")
    answer = caller.expect(200)
    caller.ack(text, answer)
    second.expect("ACK")


def test_failover_silent():
    """A target that says nothing is left after Timer B (64 * T1)."""
    silent, second = Agent(), Agent()
    proxy = Proxy(gateway("carrier", uri(silent.port), uri(second.port)) + "timers { t1 = 20ms }\n")
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    first = silent.expect("INVITE")
    equal(silent.expect("INVITE").data, first.data, "the retransmission")
    second.respond(second.expect("INVITE", seconds=10), 200, "OK")
    caller.ack(text, caller.expect(200))
    second.expect("ACK")
    equal(proxy.metric("transaction_timeouts_total"), 1, "timeouts")


def test_all_targets_fail():
    """503 of a target becomes 500 of ours (RFC 3261 16.7); a better response of another wins."""
    a, b = Agent(), Agent()
    proxy = Proxy(gateway("carrier", uri(a.port), uri(b.port)))
    caller = Agent(proxy=proxy)
    for second, want in ((503, 500), (486, 486)):
        text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
        caller.send(text)
        a.respond(a.expect("INVITE"), 503)
        b.respond(b.expect("INVITE"), second)
        caller.ack(text, caller.expect(want))
        a.expect("ACK")
        b.expect("ACK")


def ringing(policy="serial", callees=1):
    agents = [Agent() for _ in range(callees)]
    proxy = Proxy(gateway("carrier", *[uri(a.port) for a in agents], policy=policy))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invites = []
    for a in agents:
        invites.append(a.expect("INVITE"))
        a.respond(invites[-1], 180, "Ringing", tag=f"t{a.port}")
        caller.expect(180)
    return proxy, caller, text, agents, invites


def test_cancel():
    proxy, caller, text, (callee,), (invite,) = ringing()
    caller.send(cancel_of(text))
    caller.expect(200)
    cancel = callee.expect("CANCEL")
    equal(cancel.branch, invite.branch, "the CANCEL's branch")
    equal(cancel.first.split()[1], invite.first.split()[1], "the CANCEL's Request-URI")
    callee.respond(cancel, 200, "OK")
    callee.respond(invite, 487, "Request Terminated")
    answer = caller.expect(487)
    caller.ack(text, answer)
    equal(callee.expect("ACK").branch, invite.branch, "the ACK's branch")
    equal(proxy.metric("invites_in_flight"), 0, "INVITEs in flight")


def test_cancel_before_a_provisional():
    """The CANCEL waits for a provisional response of the branch (RFC 3261 9.1)."""
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = callee.expect("INVITE")
    caller.send(cancel_of(text))
    caller.expect(200)
    callee.respond(invite, 180, "Ringing")
    cancel = callee.expect("CANCEL", skip=("INVITE",))
    callee.respond(cancel, 200, "OK")
    callee.respond(invite, 487, "Request Terminated")
    caller.ack(text, caller.expect(487, skip=(180,)))


def test_parallel_fork():
    """The first 2xx wins, the other branch is cancelled."""
    _, caller, text, (a, b), (ia, ib) = ringing("parallel", 2)
    a.respond(ia, 200, "OK", tag=f"t{a.port}")
    caller.ack(text, caller.expect(200))
    a.expect("ACK")
    cancel = b.expect("CANCEL")
    b.respond(cancel, 200, "OK")
    b.respond(ib, 487, "Request Terminated", tag=f"t{b.port}")
    b.expect("ACK")
    caller.nothing()


def test_record_route_keeps_the_proxy_in_the_dialog():
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = callee.expect("INVITE")
    check(invite.get("Record-Route"), "Record-Route in the INVITE")
    callee.respond(invite, 200, "OK")
    answer = caller.expect(200)
    caller.ack(text, answer)
    callee.expect("ACK")
    # The callee hangs up, along the route that it was given.
    bye = callee.request("BYE", caller.uri, to=caller.uri, to_tag=";" + invite.get("From").split(";")[1], tag="callee",
                         call_id=invite.get("Call-ID"), routes=invite.all("Record-Route"))
    callee.send(bye, ("127.0.0.1", proxy.port))
    caller.respond(caller.expect("BYE"), 200, "OK")
    callee.expect(200)


def test_retransmissions_are_absorbed():
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    for _ in range(5):
        caller.send(text)
    invite = callee.expect("INVITE")
    callee.respond(invite, 180, "Ringing")
    caller.expect(180)
    for _ in range(3):
        caller.send(text)
        caller.expect(180)
    callee.nothing()
    check(proxy.metric("retransmissions_absorbed_total") >= 7, "all copies absorbed")
    callee.respond(invite, 486, "Busy Here")
    answer = caller.expect(486, skip=(180,))
    caller.send(text)
    equal(caller.expect(486).data, answer.data, "the repeated answer")
    caller.ack(text, answer)


if __name__ == "__main__":
    run(globals())
