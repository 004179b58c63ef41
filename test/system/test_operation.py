#!/usr/bin/env python3
# run-tests: timeout=120
"""What an operator does and sees: the signals, the log, HTTP, the probes of gateways."""
import datetime
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
from system import (Agent, Message, Proxy, ROOT, Skip, SLOW, check, equal, free_port, gateway, run, udp_port_open, uri,  # noqa: E402
                    wait_until)
from users import credentials  # noqa: E402


class Callee(Agent, threading.Thread):
    """Answers every request with 200 as long as it is `up`, in a thread of its own; what it answered is in `answered`."""

    def __init__(self):
        Agent.__init__(self)
        threading.Thread.__init__(self, daemon=True)
        self.up = False
        self.answered = []
        self.ending = False
        self.start()

    def run(self):
        while not self.ending:
            try:
                m = self.receive(0.1)
            except socket.timeout:
                continue
            if self.up and m.method and m.method != "ACK":
                self.answered.append(m)
                self.respond(m, 200, "OK")

    def methods(self):
        return [m.method for m in self.answered]

    def stop(self):
        self.ending = True
        self.join()
        Agent.stop(self)


def calling(callees=1, **options):
    """A proxy with agents behind it, the first of which rings."""
    agents = [Agent() for _ in range(callees)]
    proxy = Proxy(gateway("carrier", uri(agents[0].port)), **options)
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = agents[0].expect("INVITE")
    agents[0].respond(invite, 180, "Ringing")
    caller.expect(180)
    return proxy, caller, text, agents, invite


def answer(caller, callee, text, invite):
    """The 200 and its ACK."""
    callee.respond(invite, 200, "OK")
    response = caller.expect(200)
    caller.ack(text, response)
    callee.expect("ACK")
    return response


def hang_up(caller, callee, text, response):
    caller.send(caller.in_dialog("BYE", Message(text.encode(), None), response, cseq=2))
    callee.respond(callee.expect("BYE"), 200, "OK")
    caller.expect(200)


# --- the end -----------------------------------------------------------------------------------------------------

def test_term_without_calls():
    for number in (signal.SIGTERM, signal.SIGINT):
        proxy = Proxy(drain="60s")
        proxy.signal(number)
        equal(proxy.wait(5), 0, f"status after {number.name}")
        check(not udp_port_open(proxy.port), "the port is free again")


def test_term_lets_a_call_be_set_up():
    """What is new is refused; what belongs to a call goes on."""
    proxy, caller, text, (callee,), invite = calling(drain="60s")
    established = caller.request("INVITE", f"sip:101@127.0.0.1:{proxy.port}")
    caller.send(established)
    response = answer(caller, callee, established, callee.expect("INVITE"))
    proxy.drain_begins()
    status, body = proxy.get("/readyz")
    equal((status, body.strip()), (503, "draining"), "/readyz")
    equal(proxy.get("/healthz")[0], 200, "/healthz")
    equal(proxy.metric("draining"), 1, "holdfast_draining")
    other = Agent(proxy=proxy)
    fresh = other.request("INVITE", f"sip:102@127.0.0.1:{proxy.port}")
    other.send(fresh)
    refusal = other.expect(503)
    equal(refusal.get("Retry-After"), "10", "Retry-After")
    other.ack(fresh, refusal)
    other.send(other.request("OPTIONS", uri(proxy.port)))
    check(other.expect(503).get("Retry-After"), "Retry-After of the OPTIONS' answer")
    proxy.await_log(": 1 calls are being set up, 1 are established")
    hang_up(caller, callee, established, response)
    check(proxy.alive(), "the proxy waits for the call")
    callee.respond(invite, 200, "OK")
    response = caller.expect(200)
    check(proxy.alive(), "the proxy waits for the established call")
    hang_up(caller, callee, text, response)
    equal(proxy.wait(5), 0, "status")
    callee.nothing()


def test_second_term_ends_at_once():
    proxy, _, _, _, _ = calling(drain="60s")
    proxy.drain_begins()
    proxy.signal(signal.SIGTERM)
    equal(proxy.wait(5), 0, "status")
    check("second signal" in proxy.log_text(), "the log says so")


def test_drain_timeout():
    start = time.monotonic()
    proxy, _, _, _, _ = calling(drain="700ms")
    proxy.drain_begins()
    check(proxy.alive(), "the proxy waits for the call")
    equal(proxy.wait(10), 0, "status")
    check(time.monotonic() - start >= 0.7, "it waited for drain.timeout")
    check("drain.timeout" in proxy.log_text(), "the log says so")


# --- reload ------------------------------------------------------------------------------------------------------

def place_call(proxy, caller, callee):
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    invite = callee.expect("INVITE")
    return text, answer(caller, callee, text, invite)


def test_reload_changes_a_route():
    """New calls go the new way; the one in progress goes on as it was decided."""
    proxy, caller, text, (first, second), invite = calling(callees=2)
    proxy.reload(gateway("carrier", uri(second.port)))
    proxy.await_log("is in effect")
    other = Agent(proxy=proxy)
    place_call(proxy, other, second)
    response = answer(caller, first, text, invite)
    hang_up(caller, first, text, response)
    equal(proxy.metric("invites_in_flight"), 0, "INVITEs in flight")


def test_reload_of_a_broken_file():
    proxy, caller, text, (callee,), invite = calling()
    proxy.reload(gateway("carrier", uri(free_port())) + "\nnonsense = 1\n")
    with open(proxy.conf) as f:
        line = f.read().split("\n").index("nonsense = 1") + 1
    check(f"{proxy.conf}:{line}:" in proxy.log_text(), f"the log names line {line}")
    check("nothing changes" in proxy.log_text(), "the log says that nothing changes")
    equal(proxy.metric("config_last_reload_successful"), 0, "what /metrics says of the reload")
    place_call(proxy, Agent(proxy=proxy), callee)
    answer(caller, callee, text, invite)
    equal(proxy.get("/readyz")[0], 200, "/readyz")
    proxy.reload(gateway("carrier", uri(callee.port)))
    wait_until("the reload", lambda: proxy.metric("config_last_reload_successful") == 1)


def test_reload_with_another_listener_is_refused():
    proxy, caller, text, (callee, other), invite = calling(callees=2)
    before = proxy.listen
    port = free_port()
    proxy.listen = [f"udp:127.0.0.1:{port}"]
    proxy.reload(gateway("carrier", uri(other.port)))
    check(re.search(r"reload: listen\b.*nothing changes", proxy.log_text()), "the log names listen")
    check(not udp_port_open(port), "the new port stays closed")
    place_call(proxy, Agent(proxy=proxy), callee)
    answer(caller, callee, text, invite)
    # And what can change still does.
    proxy.listen = before
    proxy.reload(gateway("carrier", uri(other.port)))
    wait_until("the reload", lambda: "is in effect" in proxy.log_text())
    place_call(proxy, Agent(proxy=proxy), other)


def test_reload_while_it_still_reads_the_file():
    """A hook that asks for it right after a start does not end the proxy."""
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)), start=False)
    kept, slow = proxy.conf + ".kept", proxy.conf
    os.rename(proxy.conf, kept)
    os.mkfifo(slow)
    starting = threading.Thread(target=proxy.start, daemon=True)
    starting.start()
    with open(slow, "w") as f:  # waits until the proxy opens it to read
        wait_until("its process ID", lambda: proxy.process)
        proxy.signal(signal.SIGHUP)
        with open(kept) as g:
            f.write(g.read())
        os.rename(kept, slow)  # for the reload
    starting.join()
    check(proxy.alive(), "the proxy runs")
    wait_until("the reload", lambda: "is in effect" in proxy.log_text())
    place_call(proxy, Agent(proxy=proxy), callee)


# --- TLS ---------------------------------------------------------------------------------------------------------

def certificate(folder, name, prefix="tls"):
    """A certificate that nobody but the test trusts, and its key."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "60",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", os.path.join(folder, prefix + ".key"),
                    "-out", os.path.join(folder, prefix + ".pem")], check=True, capture_output=True)


class Client:
    """A connection to the proxy over TLS; `name` is what its certificate says."""

    def __init__(self, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10 * SLOW), server_hostname="any.example")
        self.port = port
        self.name = re.search(rb"[a-z]+\.example", self.socket.getpeercert(True)).group().decode()

    def options(self, agent):
        """The first line of the answer to an OPTIONS."""
        text = agent.request("OPTIONS", f"sip:127.0.0.1:{self.port};transport=tls").replace("SIP/2.0/UDP", "SIP/2.0/TLS")
        self.socket.sendall(text.encode())
        return self.socket.recv(65536).split(b"\r\n")[0]


def test_reload_of_certificates():
    """New connections get the new certificate, the old ones go on; a file that is wrong changes nothing."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    proxy = Proxy(start=False)
    port = free_port()
    agent = Agent(proxy=proxy)
    # Relative paths begin at the folder of the configuration file.
    text = f'listen "tls:127.0.0.1:{port}" {{\n\tcertificate = tls.pem\n\tkey = tls.key\n}}\n'
    certificate(proxy.dir, "first.example")
    proxy.write(text)
    proxy.start()
    first = Client(port)
    equal(first.name, "first.example", "certificate")
    equal(first.options(agent), b"SIP/2.0 200 OK", "answer")
    certificate(proxy.dir, "second.example")
    proxy.reload(text)
    proxy.await_log("is in effect")
    second = Client(port)
    equal(second.name, "second.example", "certificate after the reload")
    equal(second.options(agent), b"SIP/2.0 200 OK", "answer over a new connection")
    equal(first.options(agent), b"SIP/2.0 200 OK", "answer over the connection of before")
    certificate(proxy.dir, "third.example", prefix="other")
    shutil.copy(os.path.join(proxy.dir, "other.key"), os.path.join(proxy.dir, "tls.key"))
    proxy.reload(text)
    check(re.search(r"reload:.*tls\.key.*nothing changes", proxy.log_text()), "the log names the key")
    equal(Client(port).name, "second.example", "certificate after the failed reload")
    equal(second.options(agent), b"SIP/2.0 200 OK", "answer after the failed reload")
    proxy.reload(text.replace("tls:127", "tcp:127").replace("certificate = tls.pem", "").replace("key = tls.key", ""))
    check(re.search(r"reload: listen\b.*nothing changes", proxy.log_text()), "the log names listen")


# --- log and HTTP ------------------------------------------------------------------------------------------------

def test_json_log():
    """Every line is an object with the same four members, also where a peer's bytes or a file's are in it."""
    proxy = Proxy(log="format = json  level = debug")
    proxy.reload("log { format = json  level = debug }\nnon\u00e4sense \"\\\" = 1\n")
    agent = Agent(proxy=proxy)
    agent.send(b'MESSAGE sip:"\x01\xff\\" SIP/2.0\r\nVia: "\x02\r\n\r\n')
    agent.send(agent.request("OPTIONS", uri(proxy.port)))
    agent.expect(200, skip=(400,))
    proxy.signal(signal.SIGTERM)
    equal(proxy.wait(), 0, "status")
    lines = proxy.log_text().splitlines()
    check(len(lines) >= 4, f"only {len(lines)} lines")
    for line in lines:
        event = json.loads(line)
        equal(sorted(event), ["component", "level", "text", "time"], f"members of {line}")
        check(event["level"] in ("error", "warning", "info", "debug"), line)
        check(event["component"] and event["text"], line)
        when = datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00"))
        age = datetime.datetime.now(datetime.timezone.utc) - when
        check(abs(age.total_seconds()) < 600, f"time of {line}")
    check(any(json.loads(line)["level"] == "error" for line in lines), "the broken file is an error")


def test_http():
    proxy = Proxy()
    for path, want in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/metrics/more", 404),
                       ("/../metrics", 404)):
        equal(proxy.get(path)[0], want, path)
    with socket.create_connection(("127.0.0.1", proxy.http), 10 * SLOW) as s:
        s.sendall(b"POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        check(b" 405 " in s.recv(4096).split(b"\r\n")[0], "POST is refused")
    # A client that says nothing, and one that stops in the middle, keep nobody waiting.
    with socket.create_connection(("127.0.0.1", proxy.http)), socket.create_connection(("127.0.0.1", proxy.http)) as s:
        s.sendall(b"GET /met")
        equal(proxy.get("/healthz")[0], 200, "/healthz beside silent clients")


def test_metrics_lint():
    """What Prometheus' own tool says of /metrics."""
    if not shutil.which("promtool"):
        raise Skip("promtool is not installed (Debian: prometheus)")
    proxy, caller, text, (callee,), invite = calling()
    caller.ack(text, caller_gets_486(caller, callee, invite))
    body = proxy.get("/metrics")[1]
    p = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True)
    equal((p.returncode, p.stderr.strip()), (0, ""), "promtool's findings")


def caller_gets_486(caller, callee, invite):
    callee.respond(invite, 486, "Busy Here")
    response = caller.expect(486)
    callee.expect("ACK")
    return response


def test_metrics_of_a_known_exchange():
    """INVITE, 100, 180, 486, ACK, and one OPTIONS to the proxy, and nothing else."""
    proxy, caller, text, (callee,), invite = calling()
    equal(proxy.metric("invites_in_flight"), 1, "INVITEs in flight")
    equal(proxy.metric("transactions", kind="ist", state="proceeding"), 1, "INVITE server transactions in Proceeding")
    equal(proxy.metric("transactions", kind="ict", state="proceeding"), 1, "INVITE client transactions in Proceeding")
    caller.ack(text, caller_gets_486(caller, callee, invite))
    caller.send(caller.request("OPTIONS", uri(proxy.port)))
    caller.expect(200)
    wait_until("Confirmed", lambda: proxy.metric("transactions", kind="ist", state="confirmed") == 1)
    want = {("in", "INVITE"): 1, ("out", "INVITE"): 1, ("in", "ACK"): 1, ("out", "ACK"): 1, ("in", "OPTIONS"): 1,
            ("out", "OPTIONS"): 0, ("in", "1xx"): 1, ("out", "1xx"): 2, ("in", "4xx"): 1, ("out", "4xx"): 1,
            ("in", "2xx"): 0, ("out", "2xx"): 1, ("in", "other"): 0, ("out", "other"): 0, ("in", "5xx"): 0}
    wait_until("the histogram", lambda: proxy.metric("message_seconds_count") == 5)
    for (direction, kind), count in want.items():
        equal(proxy.metric("messages_total", transport="udp", direction=direction, kind=kind), count, f"{kind} {direction}")
    equal(proxy.metric("messages_total"), 5 + 6, "all messages")
    equal(proxy.metric("responses_generated_total", code="100"), 1, "100s of our own")
    equal(proxy.metric("responses_generated_total"), 2, "responses of our own")
    equal(proxy.metric("branches_total"), 1, "branches")
    equal(proxy.metric("invites_in_flight"), 0, "INVITEs in flight")
    equal(proxy.metric("message_seconds_bucket", le="+Inf"), 5, "the open bucket")
    equal(proxy.metric("build_info"), 1, "holdfast_build_info")


# --- probes ------------------------------------------------------------------------------------------------------

def test_gateway_probes():
    """A target that does not answer is skipped until it answers."""
    first, second = Callee(), Callee()
    second.up = True
    proxy = Proxy(gateway("carrier", uri(first.port), uri(second.port), probe_interval="200ms", probe_timeout="1s"))
    caller = Agent(proxy=proxy)

    def target_up(callee):
        return proxy.metric("gateway_target_up", gateway="carrier", target=uri(callee.port))

    def message():
        caller.send(caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}"))
        caller.expect(200)

    wait_until("the first target is down", lambda: target_up(first) == 0)
    equal(target_up(second), 1, "the second target")
    check(proxy.metric("gateway_probes_failed_total", target=uri(first.port)) >= 1, "failed probes are counted")
    proxy.await_log("is skipped")
    message()
    equal(second.methods().count("MESSAGE"), 1, "requests at the second target")
    check("MESSAGE" not in [m.method for m in first.seen], "nothing but probes goes to the first")
    first.up = True
    wait_until("the first target is up", lambda: target_up(first) == 1)
    message()
    equal(first.methods().count("MESSAGE"), 1, "requests at the first target")
    proxy.await_log("answers again")
    check(proxy.metric("gateway_target_rtt_seconds", target=uri(first.port)) > 0, "the round-trip time")
    equal(first.answered[0].get("Max-Forwards"), "70", "Max-Forwards of a probe")


def test_gateway_probe_answered_503():
    """503 counts as down; any other answer, even a refusal, as there."""
    target, spare = Agent(), Agent()
    proxy = Proxy(gateway("carrier", uri(target.port), uri(spare.port), probe_interval="100ms", probe_timeout="5s"))

    def up(agent):
        return proxy.metric("gateway_target_up", target=uri(agent.port))

    target.respond(target.expect("OPTIONS"), 503)
    spare.respond(spare.expect("OPTIONS"), 405)
    wait_until("the target is down", lambda: up(target) == 0)
    equal(up(spare), 1, "the target that answered with 405")


def test_gateway_probe_of_a_closed_port():
    """The kernel's ICMP error tells at once, without waiting for the timeout; all down is as good as none."""
    port = free_port()
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(port), probe_interval="200ms", probe_timeout="60s"))
    wait_until("the target is down", lambda: proxy.metric("gateway_target_up") == 0)
    callee.stop()
    callee = Agent(port=port)
    caller = Agent(proxy=proxy)
    caller.send(caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}"))
    callee.respond(callee.expect("MESSAGE", skip=("OPTIONS",)), 200, "OK")
    caller.expect(200)


def test_gateway_all_down():
    """When every probe fails, the probes may be wrong: all targets are tried, not just the first."""
    second = Agent()
    proxy = Proxy(gateway("carrier", uri(free_port()), uri(second.port), probe_interval="200ms", probe_timeout="5s"))
    second.respond(second.expect("OPTIONS"), 503)
    wait_until("both targets are down", lambda: proxy.metric("gateway_target_up") == 0)
    proxy.await_log("does not answer, it is skipped: its host or port cannot be reached")
    proxy.await_log("does not answer, it is skipped: it says 503")
    caller = Agent(proxy=proxy)
    caller.send(caller.request("MESSAGE", f"sip:100@127.0.0.1:{proxy.port}"))
    for _ in range(20):  # probes go on meanwhile
        m = second.receive()
        if m.method == "MESSAGE":
            second.respond(m, 200, "OK")
            break
    caller.expect(200)


# --- what became of a call ---------------------------------------------------------------------------------------

def call_id(text):
    return re.search(r"Call-ID: (\S+)", text).group(1)


def test_log_of_a_refusal():
    """The log tells who was refused what, with the address before anything that he has written; a flood does not fill it."""
    proxy = Proxy()
    agent = Agent(proxy=proxy)
    text = agent.request("INVITE", "sip:x@elsewhere.example")
    agent.send(text)
    agent.expect(403)
    line = wait_until("the line", lambda: re.search(r"INFO proxy: refused (.*)", proxy.log_text())).group(1)
    equal(line, f"udp:127.0.0.1:{agent.port}: 403 Relaying Forbidden: INVITE sip:x@elsewhere.example, From {agent.uri}, "
          f"Call-ID {call_id(text)}", "the line")
    for _ in range(100):
        agent.send(agent.request("MESSAGE", "sip:y@elsewhere.example"))
        agent.expect(403)
    check(proxy.log_text().count("refused") < 60, "a few lines a second")

    def left_out():
        agent.send(agent.request("MESSAGE", "sip:y@elsewhere.example"))
        agent.expect(403)
        return re.search(r"\((\d+) such lines left out\)", proxy.log_text())

    check(int(wait_until("the number of those left out", left_out).group(1)) > 0, "how many")


def test_log_of_a_failed_call():
    """Why a call failed: each target that was tried, and what the caller got."""
    second = Agent()
    closed = free_port()
    proxy = Proxy(gateway("carrier", uri(closed), uri(second.port)))
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    second.respond(second.expect("INVITE"), 503)
    caller.ack(text, caller.expect(500))
    number = call_id(text)
    wait_until("the line about the answer", lambda: "500 Server Internal Error" in proxy.log_text())
    lines = [line.split("proxy: ", 1)[1] for line in proxy.log_text().splitlines() if number in line]
    equal(lines[:2], [f"INVITE to udp:127.0.0.1:{closed} failed: transport, Call-ID {number}",
                      f"INVITE to udp:127.0.0.1:{second.port} is answered with 503, Call-ID {number}"], "the targets")
    check(lines[2].startswith(f"refused udp:127.0.0.1:{caller.port}: 500 "), lines[2])
    equal(len(lines), 3, "lines")


def test_debug_log_of_a_call():
    """At level debug the log also tells where each request goes, and what came back."""
    callee = Agent()
    proxy = Proxy(gateway("carrier", uri(callee.port)), log="level = debug")
    caller = Agent(proxy=proxy)
    text = caller.request("INVITE", f"sip:100@127.0.0.1:{proxy.port}")
    caller.send(text)
    callee.respond(callee.expect("INVITE"), 486)
    caller.ack(text, caller.expect(486))
    number = call_id(text)
    wait_until("the answer", lambda: f"answered with 486, Call-ID {number}" in proxy.log_text())
    check(f"INVITE sip:100@127.0.0.1:{proxy.port} from udp:127.0.0.1:{caller.port} goes to udp:127.0.0.1:{callee.port}, "
          f"Call-ID {number}" in proxy.log_text(), "where it goes")


def test_fail2ban_filter():
    """The filter finds the address of who is refused or tries passwords, in text and JSON, and only that one."""
    with open(os.path.join(ROOT, "conf", "fail2ban", "holdfast.conf")) as f:
        text = f.read()
    head = re.search(r"(?m)^head = (.*)$", text).group(1)
    rules = [re.compile(line.replace("%(head)s", head).replace("<HOST>", r"(?P<host>[0-9a-f.:]+)"))
             for line in re.search(r"(?ms)^failregex = (.*)", text).group(1).strip().split("\n            ")]
    equal(len(rules), 2, "rules")
    for form in ("text", "json"):
        proxy = Proxy('domain "local.test" { }\n', log=f"format = {form}")
        agent = Agent(proxy=proxy)
        agent.send(agent.request("INVITE", "sip:refused-udp:192.0.2.66@elsewhere.example"))
        agent.expect(403)
        name = "x from 192.0.2.66:1"
        register = agent.request("REGISTER", "sip:local.test", to="sip:x@local.test")
        agent.send(register)
        answer = credentials(agent.expect(401), "REGISTER", "sip:local.test", name, "no")
        agent.send(agent.request("REGISTER", "sip:local.test", to="sip:x@local.test", headers=[answer]))
        agent.expect(401)
        wait_until("both lines", lambda: "refused" in proxy.log_text() and "wrong credentials" in proxy.log_text())
        lines = proxy.log_text().splitlines()
        for rule in rules:
            found = [m.group("host") for m in map(rule.search, lines) if m]
            equal(found, ["127.0.0.1"], f"{rule.pattern} in {lines}")


if __name__ == "__main__":
    run(globals())
