#!/usr/bin/env python3
"""holdfastctl and the control socket: commands, statuses, JSON, users, and who may connect."""
import json
import os
import re
import socket
import stat
import subprocess

from system import Proxy, check, command, equal, gateway, run, wait_until
from users import CTL, DOMAIN, User, add_user, ctl

CONF = f'domain "{DOMAIN}" {{ }}\n'
COMMANDS = ["status", "metrics", "drain", "undrain", "takeover", "reload", "connections", "transactions", "registrations", "gateways",
            "close", "user"]


def ctl_json(proxy, *arguments):
    status, out, err = ctl(proxy, "-j", *arguments)
    equal((status, err), (0, ""), f"holdfastctl {arguments}")
    return json.loads(out)


def raw(proxy, request):
    """The answer to bytes on the control socket: (status, body)."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(proxy.control)
        s.sendall(request)
        data = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def test_usage():
    p = subprocess.run([CTL, "-h"], capture_output=True, text=True)
    equal((p.returncode, p.stderr), (0, ""), "-h")
    for name in COMMANDS:
        check(re.search(rf"^  {name}\b", p.stdout, re.M), f"{name} is not in the help")
    p = subprocess.run([CTL, "-V"], capture_output=True, text=True)
    equal((p.returncode, p.stdout.split()[0]), (0, "holdfastctl"), "-V")
    for arguments in ([], ["nothing"], ["status", "x"], ["-x", "status"], ["close"], ["close", "1", "2"], ["user"],
                      ["user", "add"], ["user", "add", "a@b", "password"], ["user", "add", "ab"], ["user", "del", "@b"],
                      ["user", "passwd", "a@"], ["registrations", "a", "b"], ["metrics", "x"], ["connections", "x"],
                      ["user", "list", "a", "b"]):
        p = subprocess.run([CTL, "-s", "/nonexistent", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        equal(p.returncode, 2, f"status of {arguments}")
        check(p.stderr, f"{arguments} says nothing")
        equal(p.stdout, "", f"output of {arguments}")
    p = subprocess.run([CTL, "-s", "/nonexistent", "status"], capture_output=True, text=True)
    equal(p.returncode, 1, "status without a proxy")
    equal(p.stderr, "holdfastctl: /nonexistent: No such file or directory; is the proxy running, and is this its control.socket?\n",
          "what it says without a proxy")


def test_manual():
    """holdfastctl(8) has every option and command of -h, every resource of the control socket, and every key of its answers."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(os.path.join(top, "man/holdfastctl.8")) as f:
        man = f.read()
    text = subprocess.run([CTL, "-h"], capture_output=True, text=True).stdout
    options = re.findall(r"^  -(\w), --(\w+)( \w+)? ", text, re.M)
    equal([(a, b, c.strip()) for a, b, c in options],
          re.findall(r"^\.It Fl (\w) , Fl -(\w+)(?: Ar (\w+))?$", man, re.M), "options")
    equal(sorted(letter for letter, _, argument in options if not argument),
          sorted(re.search(r"^\.Op Fl (\w+)$", man, re.M)[1]), "SYNOPSIS")
    wanted = []
    for name, words in re.findall(r"^  ([a-z]\w*) ?(.*)$", text, re.M):
        if name == "user":  # add|passwd|del name@domain, list [domain]
            for part in words.split(", "):
                verbs, argument = part.split(" ")
                wanted += [f"user {verb} {argument}" for verb in verbs.split("|")]
        else:
            wanted.append(f"{name} {words}".strip())
    said = [re.sub(r"Op Ar (\S+)", r"[\1]", item).replace("Ar ", "") for item in re.findall(r"^\.It Ic (.*)$", man, re.M)]
    equal(sorted(said), sorted(wanted), "commands")

    with open(os.path.join(top, "src/control/control.c")) as f:
        routes = {f"{method} {path}" for method, path in re.findall(r'^\t\{"([A-Z]+)", "(/\w+)", \w+\},$', f.read(), re.M)}
    described = {r for item in re.findall(r"^\.It Li (.*)$", man, re.M) for r in re.findall(r"[A-Z]+ /\w+", item)}
    equal(described, routes | {"GET /metrics"}, "resources")

    def keys(value):
        if isinstance(value, dict):
            return set(value) | {k for v in value.values() for k in keys(v)}
        return {k for v in value for k in keys(v)} if isinstance(value, list) else set()
    proxy = Proxy(CONF + gateway("gw", "sip:127.0.0.1:9"))
    proxy.write(CONF + gateway("gw", "sip:127.0.0.1:9") + f'listen "tcp:127.0.0.1:{proxy.port + 1}" {{ }}\n')
    proxy.restart()
    add_user(proxy, "bob")
    equal(User("bob", proxy).register().status, 200, "REGISTER")
    with socket.create_connection(("127.0.0.1", proxy.port + 1)):
        wait_until("the connection", lambda: ctl_json(proxy, "connections")["total"] == 1)
        answers = [ctl_json(proxy, *c.split()) for c in ("status", "connections", "transactions", "registrations", "gateways",
                                                         "user list", "drain", "undrain")]
    items = set(re.findall(r"^\.(?:It )?Li (\w+)", man, re.M)) | set(re.findall(r"^\.Li \w+ , (\w+)", man, re.M))
    for answer in answers:
        check(not keys(answer) - items, f"not in the manual: {keys(answer) - items}")
    check({"error", "password", "replace"} <= items, items)


def test_status():
    proxy = Proxy(CONF)
    j = ctl_json(proxy, "status")
    equal((j["ready"], j["draining"], j["calls"]["setting_up"], j["registered"]), (True, False, 0, 0), "status")
    check(j["store"]["path"].startswith(proxy.dir) and j["store"]["size"] > j["store"]["used"] > 0, j)
    status, out, _ = ctl(proxy, "status")
    equal(status, 0, "status")
    check("ready" in out and "0 being set up" in out, out)
    status, out, _ = ctl(proxy, "metrics")
    check(status == 0 and "holdfast_" in out and out.startswith("# "), out[:200])
    for name in ("connections", "transactions", "registrations", "gateways"):
        status, out, err = ctl(proxy, name)
        equal((status, err), (0, ""), name)
        check(isinstance(ctl_json(proxy, name)[name], list), name)
    equal(ctl(proxy, "user", "list"), (0, "", ""), "user list")


def test_permissions():
    proxy = Proxy(CONF)
    s = os.stat(proxy.control)
    check(stat.S_ISSOCK(s.st_mode), "no socket")
    equal(stat.S_IMODE(s.st_mode), 0o600, "mode")
    if os.getuid() == 0:
        # somebody else is refused by the kernel; the way to the socket is open to him
        os.chmod(proxy.dir, 0o755)
        p = subprocess.run([CTL, "-s", proxy.control, "status"], capture_output=True, text=True, user=65534)
        equal((p.returncode, p.stdout, p.stderr),
              (1, "", f"holdfastctl: {proxy.control}: Permission denied; are you the proxy's user?\n"), "as another user")
    proxy.signal(15)
    equal(proxy.wait(), 0, "status at the end")
    check(not os.path.exists(proxy.control), "the socket was left behind")


def test_left_over():
    """The socket of a process that was killed is replaced; a living one's, and what is no socket, are not."""
    proxy = Proxy(CONF)
    proxy.process.kill()
    proxy.process.wait()
    proxy.log.close()
    check(os.path.exists(proxy.control), "nothing was left over")
    proxy.start()
    equal(ctl(proxy, "status")[0], 0, "status")
    other = os.path.join(proxy.dir, "other.conf")
    with open(other, "w") as f:
        f.write(f'listen "udp:127.0.0.1:{proxy.port + 1}" {{ }}\nstats {{ listen = "" }}\n'
                f'control {{ socket = "{proxy.control}" }}\n')
    status, _, err = command("-c", other, "-s", os.path.join(proxy.dir, "other"))
    equal(status, 1, "status of a second proxy")
    check(proxy.control in err, err)
    equal(ctl(proxy, "status")[0], 0, "status of the first one")
    precious = os.path.join(proxy.dir, "precious")
    with open(precious, "w") as f:
        f.write("data")
    with open(other, "w") as f:
        f.write(f'listen "udp:127.0.0.1:{proxy.port + 1}" {{ }}\nstats {{ listen = "" }}\ncontrol {{ socket = "{precious}" }}\n')
    status, _, err = command("-c", other, "-s", os.path.join(proxy.dir, "other"))
    equal(status, 1, "status with a file in the socket's place")
    with open(precious) as f:
        equal(f.read(), "data", "the file")


def test_users():
    proxy = Proxy(CONF + 'domain "other.test" { }\nstore { map_size = 8m }\n')
    equal(ctl(proxy, "user", "add", f"bob@{DOMAIN}", password="one\n"), (0, "added\n", ""), "add")
    equal(ctl(proxy, "user", "add", f"bob@{DOMAIN}", password="two\n"),
          (1, "", "holdfastctl: there is such a user already\n"), "add again")
    equal(ctl(proxy, "user", "add", "bob@other.test", password="x" * 128), (0, "added\n", ""), "another domain's")
    equal(ctl(proxy, "user", "list"), (0, f"bob@{DOMAIN}\nbob@other.test\n", ""), "list")
    equal(ctl(proxy, "user", "list", "other.test"), (0, "bob@other.test\n", ""), "list of a domain")
    equal(ctl_json(proxy, "user", "list", DOMAIN), {"users": [{"name": "bob", "domain": DOMAIN}]}, "list as JSON")
    bob = User("bob", proxy, password="one")
    equal(bob.register().status, 200, "REGISTER")
    equal(ctl(proxy, "user", "passwd", f"bob@{DOMAIN}", password="three\n"), (0, "changed\n", ""), "passwd")
    equal(bob.register(call_id="2").status, 401, "REGISTER with the old password")
    bob.password = "three"
    equal(bob.register(call_id="3").status, 200, "REGISTER with the new password")
    equal(ctl(proxy, "user", "passwd", f"eve@{DOMAIN}", password="x"), (1, "", "holdfastctl: there is no such user\n"),
          "passwd of nobody")
    for who, password, said in ((f"eve@{DOMAIN}", "", "password"), (f"eve@{DOMAIN}", "x" * 129, "password"),
                                (f"eve@{DOMAIN}", "\nx\n", "password"), ("eve@nowhere.test", "x", "no such domain"),
                                (f"e:ve@{DOMAIN}", "x", "such a name"), (f"{'e' * 600}@{DOMAIN}", "x", "such a name")):
        status, out, err = ctl(proxy, "user", "add", who, password=password)
        equal((status, out), (1, ""), f"add {who}")
        check(said in err, err)
    equal(ctl(proxy, "user", "del", f"bob@{DOMAIN}"), (0, "deleted\n", ""), "del")
    equal(ctl(proxy, "user", "del", f"bob@{DOMAIN}"), (1, "", "holdfastctl: there is no such user\n"), "del again")
    check(ctl(proxy, "user", "del", f"{'e' * 2000}@other.test")[0] != 0, "a name that is too long was deleted")
    equal(ctl(proxy, "user", "list"), (0, "bob@other.test\n", ""), "list")
    # names that need escapes on their way
    equal(ctl(proxy, "user", "add", "a&b=c %?#ü@" + DOMAIN, password="p"), (0, "added\n", ""), "add")
    check("a&b=c %?#ü@" + DOMAIN in ctl(proxy, "user", "list")[1], "an odd name")
    equal(ctl(proxy, "user", "del", "a&b=c %?#ü@" + DOMAIN), (0, "deleted\n", ""), "del")
    # they are there after a restart
    proxy.restart()
    equal(ctl(proxy, "user", "list"), (0, "bob@other.test\n", ""), "list after a restart")
    for root, _, files in os.walk(os.path.join(proxy.dir, "store")):
        for name in files:
            with open(os.path.join(root, name), "rb") as f:
                check(b"x" * 100 not in f.read(), "a password is in the store")


def test_registrations():
    proxy = Proxy(CONF)
    for name in ("alice", "bob"):
        add_user(proxy, name)
    bob = User("bob", proxy)
    equal(bob.register(contact=f'<{bob.uri}>;q=0.5, <sip:x@127.0.0.1:9>;expires=90', headers=["User-Agent: tes\x1bt"]).status, 200,
          "REGISTER")
    j = ctl_json(proxy, "registrations", f"bob@{DOMAIN}")
    equal(j["addresses"], 1, "addresses")
    equal(proxy.metric("registered_addresses"), 1, "addresses in /metrics")
    check(0 < proxy.metric("store_used_bytes") < proxy.metric("store_size_bytes"), "the store's use")
    one, two = j["registrations"]
    equal((one["aor"], one["contact"], one["q"], one["transport"], one["source"], one["reachable"]),
          (f"bob@{DOMAIN}", bob.uri, 0.5, "udp", f"127.0.0.1:{bob.port}", True), "the first")
    check(598 <= one["expires"] <= 600 and 88 <= two["expires"] <= 90, (one, two))
    equal(ctl_json(proxy, "registrations", f"sip:b%6Fb@{DOMAIN.upper()}")["registrations"], [one, two], "by its URI")
    equal(ctl_json(proxy, "registrations", f"alice@{DOMAIN}")["registrations"], [], "of nobody")
    equal(ctl(proxy, "registrations", "bob")[0], 1, "status for what is no address")
    status, out, _ = ctl(proxy, "registrations")
    check(status == 0 and bob.uri in out and "\x1b" not in out, out)


def test_connections():
    proxy = Proxy(CONF)
    port = proxy.port + 1
    proxy.write(CONF + f'listen "tcp:127.0.0.1:{port}" {{ }}\n')
    proxy.restart()
    with socket.create_connection(("127.0.0.1", port)) as s:
        wait_until("the connection", lambda: ctl_json(proxy, "connections")["total"] == 1)
        c = ctl_json(proxy, "connections")["connections"][0]
        equal((c["transport"], c["direction"], c["state"], c["remote"]),
              ("tcp", "in", "open", "127.0.0.1:%d" % s.getsockname()[1]), "the connection")
        check(isinstance(c["id"], str) and c["id"] in ctl(proxy, "connections")[1], "its number is not shown")
        equal(ctl(proxy, "close", "12345"), (1, "", "holdfastctl: there is no such connection\n"), "close of nothing")
        equal(ctl(proxy, "close", "x")[0], 1, "close of no number")
        equal(ctl(proxy, "close", c["id"]), (0, "closed\n", ""), "close")
        s.settimeout(10)
        equal(s.recv(1), b"", "what the peer sees")
    wait_until("its end", lambda: ctl_json(proxy, "connections")["total"] == 0)


def test_drain():
    proxy = Proxy(CONF + gateway("gw", "sip:127.0.0.1:9"))
    equal(ctl(proxy, "drain"), (0, "draining: 0 calls are being set up, 0 are established\n", ""), "drain")
    equal(ctl_json(proxy, "drain"), {"result": "still draining", "setting_up": 0, "established": 0}, "drain again")
    equal(proxy.get("/readyz")[0], 503, "/readyz")
    equal(ctl_json(proxy, "status")["draining"], True, "draining")
    bob = User("bob", proxy)
    refused = bob.register()
    equal((refused.status, refused.get("Retry-After")), (503, "10"), "REGISTER while draining")
    equal(ctl(proxy, "undrain")[0], 0, "undrain")
    equal(proxy.get("/readyz")[0], 200, "/readyz")
    equal(bob.register(call_id="2").status, 401, "REGISTER")
    equal(ctl_json(proxy, "gateways")["gateways"][0]["gateway"], "gw", "gateways")


def test_reload():
    proxy = Proxy(CONF)
    proxy.write(CONF + 'domain "second.test" { }\n')
    equal(ctl(proxy, "reload")[0], 0, "reload")
    equal(ctl(proxy, "user", "add", "bob@second.test", password="x")[0], 0, "a user of the new domain")
    proxy.write('nonsense = 1\n')
    status, out, err = ctl(proxy, "reload")
    equal((status, out), (1, ""), "reload of nonsense")
    check("nonsense" in err, err)
    equal(ctl(proxy, "status")[0], 0, "status afterwards")


def test_bad_requests():
    """What holdfastctl never sends."""
    proxy = Proxy(CONF)
    for method, path, want in (("GET", "/", 404), ("GET", "/nothing", 404), ("POST", "/status", 405), ("GET", "/close", 405),
                               ("POST", "/close", 400), ("POST", "/close?id=-1", 400), ("DELETE", "/users", 400),
                               ("GET", "/registrations?aor=%00", 400), ("GET", "/registrations?aor=@", 400),
                               ("GET", "/users?limit=x", 200), ("PUT", "/users", 405)):
        status, body = raw(proxy, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        equal(status, want, f"{method} {path}")
        json.loads(body)
    for body in (b"", b"{", b"[]", b"{}", b'{"name":1,"domain":"x","password":"y"}', b'{"name":"a\\u0000b","domain":"local.test",'
                 b'"password":"y"}', b"\xff" * 100):
        status, answer = raw(proxy, b"POST /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" %
                             len(body) + body)
        equal(status, 400, body)
    big = b"x" * 100000
    status, _ = raw(proxy, b"POST /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
    equal(status, 413, "a large body")
    raw(proxy, b"nonsense\r\n\r\n")
    equal(ctl(proxy, "user", "list"), (0, "", ""), "users")


if __name__ == "__main__":
    run(globals())
