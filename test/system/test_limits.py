#!/usr/bin/env python3
"""What is refused when a limit is reached, what passes all the same, and what a restart on the same store remembers."""
import sys

sys.dont_write_bytecode = True
from system import Agent, Message, Proxy, cancel_of, check, equal, gateway, run, uri, wait_until  # noqa: E402


def new_call(proxy, caller, callee):
    """An INVITE that has reached the callee."""
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    return text, callee.expect("INVITE")


def established(proxy, caller, callee):
    """A call in its dialog: the INVITE's text, as the callee got it, and the 200."""
    text, invite = new_call(proxy, caller, callee)
    callee.respond(invite, 200, "OK")
    response = caller.expect(200)
    caller.ack(text, response)
    callee.expect("ACK")
    return text, invite, response


def refused(proxy, method="INVITE"):
    """A new request is answered with 503 and Retry-After."""
    agent = Agent(proxy=proxy)
    text = agent.request(method, f"sip:100@127.0.0.1:{proxy.port}")
    agent.send(text)
    response = agent.expect(503)
    equal(response.get("Retry-After"), "10", "Retry-After")
    if method == "INVITE":
        agent.ack(text, response)


def callers_bye(caller, callee, text, response):
    caller.send(caller.in_dialog("BYE", Message(text.encode(), None), response, cseq=2))
    callee.respond(callee.expect("BYE"), 200, "OK")
    caller.expect(200)


def callees_bye(proxy, caller, callee, invite, status=200, route=None):
    """The callee hangs up along the route that it was given, or another."""
    bye = callee.request("BYE", caller.uri, to=caller.uri, to_tag=";" + invite.get("From").split(";")[1], tag="callee",
                         call_id=invite.get("Call-ID"), routes=[route or invite.get("Record-Route")])
    callee.send(bye, ("127.0.0.1", proxy.port))
    if status == 200:
        caller.respond(caller.expect("BYE"), 200, "OK")
    callee.expect(status)


def test_max_inflight():
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)) + "timers { max_inflight = 1 t1 = 2s }\n")
    caller = Agent(proxy=proxy)
    old, _, old_response = established(proxy, caller, callee)
    text, invite = new_call(proxy, caller, callee)
    refused(proxy)
    equal(proxy.metric("refused_total", reason="max-inflight"), 1, "refusals")
    # Everything that belongs to a call passes: its responses, requests inside a dialog, an ACK, a CANCEL.
    callee.respond(invite, 180, "Ringing")
    caller.expect(180)
    refused(proxy)
    again = caller.in_dialog("INVITE", Message(old.encode(), None), old_response, cseq=2)
    caller.send(again)
    callee.respond(callee.expect("INVITE"), 200, "OK")
    caller.ack(again, caller.expect(200))
    equal(callee.expect("ACK").get("CSeq"), "2 ACK", "the ACK of the second INVITE of the dialog")
    callers_bye(caller, callee, old, old_response)
    caller.send(cancel_of(text))
    caller.expect(200)
    callee.respond(callee.expect("CANCEL"), 200, "OK")
    callee.respond(invite, 487, "Request Terminated")
    caller.ack(text, caller.expect(487))
    callee.expect("ACK")
    # With that there is room again.
    wait_until("no INVITE in flight", lambda: proxy.metric("invites_in_flight") == 0)
    established(proxy, caller, callee)
    # Other requests are not counted by this limit.
    _, invite = new_call(proxy, caller, callee)
    caller.send(caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}"))
    callee.respond(callee.expect("MESSAGE"), 200, "OK")
    caller.expect(200)
    callee.nothing(0.1)


def test_max_inflight_follows_a_reload():
    callee = Agent()
    text = gateway("carrier", uri(callee.port))
    proxy = Proxy(text + "timers { max_inflight = 1 t1 = 2s }\n")
    caller = Agent(proxy=proxy)
    new_call(proxy, caller, callee)
    refused(proxy)
    proxy.reload(text + "timers { max_inflight = 2 t1 = 2s }\n")
    new_call(proxy, caller, callee)
    refused(proxy)


def test_max_transactions():
    """Room for two requests, with a server and a client transaction each, in the only worker."""
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)) + "timers { max_transactions = 4 t1 = 50ms t2 = 200ms t4 = 500ms }\n",
                  arguments=["-w", "1"])
    caller = Agent(proxy=proxy)
    text, invite = new_call(proxy, caller, callee)
    callee.respond(invite, 180, "Ringing")
    caller.expect(180)
    message = caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(message)
    request = callee.expect("MESSAGE")
    for n in range(3):
        refused(proxy)
        equal(proxy.metric("transactions"), 4, "transactions")
        refused(proxy, "MESSAGE")
        equal(proxy.metric("refused_total", reason="max-transactions"), 2 * (n + 1), "refusals")
    # What exists goes on.
    caller.send(message)
    callee.respond(request, 200, "OK")
    caller.expect(200)
    caller.send(cancel_of(text))
    caller.expect(200)
    callee.respond(callee.expect("CANCEL", skip=("MESSAGE",)), 200, "OK")
    # It came too late: the callee had answered. After a 200 the transactions end soon, after a 487 in 32 s (Timer D).
    callee.respond(invite, 200, "OK")
    caller.ack(text, caller.expect(200))
    callee.expect("ACK", skip=("CANCEL", "MESSAGE"))
    wait_until("the end of all transactions", lambda: proxy.metric("transactions") == 0)
    established(proxy, caller, callee)


def test_restart_keeps_the_secret():
    """A call that was set up before a restart can be ended after it, from either side; nobody else's BYE passes."""
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)))
    caller = Agent(proxy=proxy)
    calls = [established(proxy, caller, callee) for _ in range(2)]
    proxy.restart()
    callers_bye(caller, callee, calls[0][0], calls[0][2])
    callees_bye(proxy, caller, callee, calls[1][1])


def test_another_store_has_another_secret():
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)))
    caller = Agent(proxy=proxy)
    _, invite, _ = established(proxy, caller, callee)
    other = Proxy("")
    callees_bye(other, caller, callee, invite, status=403,
                route=invite.get("Record-Route").replace(f":{proxy.port}", f":{other.port}"))


def test_forged_token():
    callee = Agent()
    proxy = Proxy(f'gateway "carrier" {{\n\ttarget = {{"{uri(callee.port)}"}}\n}}\n'
                  'route "in" {\n\tuser = "^100$"\n\tgateway = "carrier"\n}\n')
    caller = Agent(proxy=proxy)
    _, invite, _ = established(proxy, caller, callee)
    _, other, _ = established(proxy, caller, callee)
    route = invite.get("Record-Route")
    start = route.index("sip:") + 4
    at = route.index("@")
    for position in (start, start + 5, at - 1):
        changed = "A" if route[position] != "A" else "B"
        callees_bye(proxy, caller, callee, invite, 403, route[:position] + changed + route[position + 1:])
    callees_bye(proxy, caller, callee, invite, 403, other.get("Record-Route"))
    callees_bye(proxy, caller, callee, invite, 403, route[:start] + route[at + 1:])
    caller.nothing()
    equal(proxy.metric("refused_total", reason="relay"), 5, "refusals")
    callees_bye(proxy, caller, callee, invite)


if __name__ == "__main__":
    run(globals())
