#!/usr/bin/env python3
"""Users of the built binary register, call each other, and are still there after a restart."""
import json
import os
import shutil
import signal
import subprocess

from system import Agent, Message, Proxy, Skip, check, equal, free_port, run, temporary_folder, wait_until
from users import DOMAIN, User, add_user, credentials, ctl

CONF = f'domain "{DOMAIN}" {{ }}\n'


class Registrar(Proxy):
    """With listeners of all kinds (TLS where openssl can make a certificate), and some users."""

    def __init__(self, text=CONF, users=("alice", "bob"), **options):
        self.tcp, self.tls = free_port(), 0
        extra = f'listen "tcp:127.0.0.1:{self.tcp}" {{ }}\n'
        if shutil.which("openssl"):
            folder = temporary_folder()
            cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-subj", f"/CN={DOMAIN}", "-days", "2", "-keyout", key, "-out", cert], check=True,
                           capture_output=True)
            self.tls = free_port()
            extra += f'listen "tls:127.0.0.1:{self.tls}" {{ certificate = "{cert}" key = "{key}" }}\n'
        super().__init__(extra + text, **options)
        for name in users:
            add_user(self, name)

    def user(self, name, transport="udp"):
        return User(name, self, transport, {"tcp": self.tcp, "tls": self.tls}.get(transport))

    def registrations(self, *aor):
        status, out, err = ctl(self, "-j", "registrations", *aor)
        equal((status, err), (0, ""), "holdfastctl registrations")
        return json.loads(out)["registrations"]

    def transports(self):
        return ["udp", "tcp"] + (["tls"] if self.tls else [])


def call(caller, callee):
    """A call that is answered and hung up by the callee's side of the proxy."""
    text = caller.invite(callee.aor)
    invite = callee.expect("INVITE")
    equal(invite.first.split()[1], callee.uri, "Request-URI")
    callee.respond(invite, 180)
    caller.expect(180)
    callee.respond(invite, 200)
    ok = caller.expect(200)
    caller.ack(text, ok)
    callee.expect("ACK")
    caller.send(caller.in_dialog("BYE", Message(text.encode(), None), ok, cseq=9))
    callee.respond(callee.expect("BYE"), 200)
    caller.expect(200)


def test_register_and_call():
    """Over every transport, by each algorithm, and each calls each."""
    proxy = Registrar(users=())
    users = []
    for i, transport in enumerate(proxy.transports()):
        add_user(proxy, f"u{i}")
        user = proxy.user(f"u{i}", transport)
        m = user.register(md5=i == 1)
        equal(m.status, 200, f"REGISTER over {transport}")
        check(f"<{user.uri}>" in m.get("Contact") and "expires=600" in m.get("Contact"), m.get("Contact"))
        users.append(user)
    for a in users:
        for b in users:
            if a is not b:
                call(a, b)
    equal({r["transport"] for r in proxy.registrations()}, set(proxy.transports()), "transports")
    equal(proxy.metric("authentications_total", result="ok") > 0, True, "results of authentication")


def test_cancel():
    proxy = Registrar()
    alice, bob = proxy.user("alice"), proxy.user("bob", "tcp")
    equal(bob.register().status, 200, "REGISTER")
    text = alice.invite(bob.aor)
    invite = bob.expect("INVITE")
    bob.respond(invite, 180)
    alice.expect(180)
    alice.send(text.split("\r\nContact")[0].replace("INVITE", "CANCEL") + "\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n")
    alice.expect(200)
    bob.respond(bob.expect("CANCEL"), 200)
    bob.respond(invite, 487)
    bob.expect("ACK")
    alice.ack(text, alice.expect(487))


def test_refusals():
    proxy = Registrar()
    alice = proxy.user("alice")
    stranger = Agent(proxy=proxy)
    stranger.send(stranger.request("INVITE", f"sip:nobody@{DOMAIN}"))
    equal(stranger.expect(404).status, 404, "unknown user")
    stranger.send(stranger.request("INVITE", f"sip:bob@{DOMAIN}"))
    equal(stranger.expect(480).status, 480, "user who is not registered")
    alice.password = "wrong"
    for _ in range(2):
        equal(alice.register(call_id=f"w{_}").status, 401, "wrong password")
    # the third answer is held back
    import time
    begin = time.monotonic()
    equal(alice.register(call_id="w3").status, 401, "wrong password")
    check(time.monotonic() - begin > 0.4, "the answer was not held back")
    equal(proxy.registrations(), [], "registrations")


def test_restart():
    """Registrations outlive the process; those over a connection of it end."""
    proxy = Registrar()
    alice, bob = proxy.user("alice"), proxy.user("bob")
    equal(bob.register().status, 200, "REGISTER")
    equal(alice.register().status, 200, "REGISTER")
    before = [(r["aor"], r["contact"]) for r in proxy.registrations()]
    proxy.process.kill()  # it had no time to say anything
    proxy.process.wait()
    proxy.log.close()
    proxy.start()
    equal([(r["aor"], r["contact"]) for r in proxy.registrations()], before, "registrations")
    call(alice, bob)


def test_connection_ends():
    proxy = Registrar()
    bob = proxy.user("bob", "tcp")
    equal(bob.register().status, 200, "REGISTER")
    equal(len(proxy.registrations(f"bob@{DOMAIN}")), 1, "registrations")
    bob.socket.close()
    wait_until("removal of the binding", lambda: proxy.registrations(f"bob@{DOMAIN}") == [], 2)
    # a newer connection's is not the older one's to take along
    one, two = proxy.user("bob", "tcp"), proxy.user("bob", "tcp")
    contact = "<sip:bob@10.1.1.1;transport=tcp>"
    equal(one.register(contact=contact, call_id="x").status, 200, "REGISTER")
    equal(two.register(contact=contact, call_id="x", cseq=10).status, 200, "REGISTER")
    one.socket.close()
    wait_until("the end of the first connection",
               lambda: json.loads(ctl(proxy, "-j", "connections")[1])["total"] == 1)
    equal(len(proxy.registrations()), 1, "registrations")
    stranger = Agent(proxy=proxy)
    stranger.send(stranger.request("MESSAGE", f"sip:bob@{DOMAIN}"))
    two.respond(two.expect("MESSAGE"), 200)
    stranger.expect(200)


def test_full_store():
    """500 for who registers, a line in the log and a counter, and calls go on."""
    proxy = Registrar(text=f'store {{ map_size = 1m }}\ndomain "{DOMAIN}" {{ authenticate = false }}\n', users=())
    bob, many = proxy.user("bob"), proxy.user("many")
    equal(bob.register().status, 200, "REGISTER")
    contacts = ", ".join(f"<sip:{'y' * 900}@127.0.0.1:{n + 1}>" for n in range(8))
    for i in range(400):
        many.name = f"u{i}"
        m = many.register(contact=contacts, call_id=f"full{i}")
        if m.status != 200:
            break
    equal(m.status, 500, "REGISTER into a full store")
    wait_until("a line in the log", lambda: "registrations cannot be stored: store.map_size" in proxy.log_text())
    equal(proxy.metric("registrations_total", result="failed"), 1, "failed REGISTERs")
    many.name = "u0"
    call(bob, bob)
    equal(many.register(contact="*", expires=0, call_id="gone").status, 200, "removal from a full store")


# --- real user agents --------------------------------------------------------------------------------------------

def own_places(folder):
    """What sound libraries make, they make there."""
    return dict(os.environ, HOME=folder, TMPDIR=folder, XDG_RUNTIME_DIR=folder, PULSE_RUNTIME_PATH=os.path.join(folder, "pulse"))


class Baresip:
    """Without sound card: hears what it says."""

    def __init__(self, proxy, name, transport, port, answer="manual"):
        from system import running
        modules = next((p for p in ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules")
                        if os.path.isdir(p)), None)
        if not shutil.which("baresip") or not modules:
            raise Skip("baresip is not installed")
        self.dir = temporary_folder()
        self.ctl = free_port()
        with open(os.path.join(self.dir, "config"), "w") as f:
            f.write(f"module_path {modules}\nsip_listen 127.0.0.1:{free_port()}\naudio_player aubridge,x\n"
                    "audio_source aubridge,x\naudio_alert aubridge,y\n"
                    "module g711.so\nmodule aubridge.so\nmodule uuid.so\n"
                    "module_tmp account.so\nmodule_app menu.so\nmodule ctrl_tcp.so\n"
                    f"ctrl_tcp_listen 127.0.0.1:{self.ctl}\n")
        extra = ";transport=" + transport if transport != "udp" else ""
        with open(os.path.join(self.dir, "accounts"), "w") as f:
            f.write(f'<sip:{name}@{DOMAIN}{extra}>;auth_pass=secret;outbound="sip:127.0.0.1:{port}{extra}";sipnat=outbound;'
                    f"regint=600;answermode={answer};audio_codecs=PCMU\n")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(["baresip", "-4", "-f", self.dir], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, cwd=self.dir, env=own_places(self.dir))
        running.append(self)

    def command(self, name, params=""):
        import socket
        text = json.dumps({"command": name, "params": params, "token": "t"}).encode()
        with socket.create_connection(("127.0.0.1", self.ctl), timeout=5) as s:
            s.sendall(str(len(text)).encode() + b":" + text + b",")
            s.recv(4096)

    def describe(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return "\n--- baresip:\n" + f.read()[-3000:]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Linphone:
    def __init__(self, proxy, name, transport, port):
        from system import running
        if not shutil.which("linphonec"):
            raise Skip("linphonec (linphone-cli) is not installed")
        self.dir = temporary_folder()
        os.makedirs(os.path.join(self.dir, ".local/share/linphone"))
        extra = ";transport=" + transport if transport != "udp" else ""
        ports = {"udp": 0, "tcp": 0, "tls": 0}
        ports[transport] = free_port()
        self.rc = os.path.join(self.dir, "linphonerc")
        with open(self.rc, "w") as f:
            f.write(f"[sip]\nsip_port={ports['udp']}\nsip_tcp_port={ports['tcp']}\nsip_tls_port={ports['tls']}\nguess_hostname=0\n"
                    "verify_server_certs=0\nverify_server_cn=0\n"
                    f"default_proxy=0\nuse_ipv6=0\n[proxy_0]\nreg_proxy=<sip:127.0.0.1:{port}{extra}>\n"
                    f"reg_route=<sip:127.0.0.1:{port}{extra}>\n"
                    f"reg_identity=<sip:{name}@{DOMAIN}>\nreg_expires=600\nreg_sendregister=1\npublish=0\n"
                    f"[auth_info_0]\nusername={name}\npasswd=secret\nrealm={DOMAIN}\ndomain={DOMAIN}\n"
                    "[sound]\ncapture_dev_id=none\nplayback_dev_id=none\n[net]\nmtu=1300\nfirewall_policy=0\n"
                    "[misc]\nuuid=00000000-0000-4000-8000-000000000001\n")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(["linphonec", "-c", self.rc, "-d", "6"], stdin=subprocess.PIPE, stdout=self.log,
                                        stderr=self.log, cwd=self.dir,
                                        env=own_places(self.dir))
        running.append(self)

    def said(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def command(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def describe(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return "\n--- linphonec:\n" + f.read()[-60000:]

    def stop(self):
        try:
            self.command("quit")
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.log.close()


def dialogs(proxy):
    return json.loads(ctl(proxy, "-j", "status")[1])["calls"]["established"]


def phones(proxy, transport):
    """baresip as bob, linphonec as alice, both registered."""
    port = {"udp": proxy.port, "tcp": proxy.tcp, "tls": proxy.tls}[transport]
    baresip = Baresip(proxy, "bob", transport, port, answer="auto")
    linphone = Linphone(proxy, "alice", transport, port)
    wait_until(f"the registration of both over {transport}", lambda: len(proxy.registrations()) == 2, 20)
    bob = proxy.registrations(f"bob@{DOMAIN}")[0]
    equal((bob["transport"], bob["reg_id"], bob["flow"]), (transport, 1, True), "baresip's registration")
    equal(proxy.registrations(f"alice@{DOMAIN}")[0]["transport"], transport, "linphone's transport")
    return baresip, linphone


def real_phones(transport):
    # the libre of baresip 1.0 gives up when it is offered SHA-256, wherever it stands
    proxy = Registrar(f'domain "{DOMAIN}" {{ algorithm = md5 }}\n')
    baresip, linphone = phones(proxy, transport)
    # linphone calls, baresip answers, linphone hangs up
    linphone.command(f"call sip:bob@{DOMAIN}")
    wait_until("the call to baresip", lambda: dialogs(proxy) == 1, 15)
    wait_until("linphone's word on it", lambda: "Call 1 with" in linphone.said() and "connected" in linphone.said(), 15)
    linphone.command("terminate")
    wait_until("its end", lambda: dialogs(proxy) == 0, 15)
    # baresip calls, and gives up before linphone answers
    before = len(linphone.said())
    baresip.command("dial", f"sip:alice@{DOMAIN}")
    wait_until("linphone's ringing", lambda: "180 Ringing" in linphone.said()[before:], 15)
    baresip.command("hangup")
    wait_until("the end of what was set up",
               lambda: json.loads(ctl(proxy, "-j", "status")[1])["calls"]["setting_up"] == 0, 15)
    wait_until("the CANCEL", lambda: "CANCEL sip:alice@" in linphone.said()[before:], 15)
    equal(dialogs(proxy), 0, "calls")


def test_real_phones_udp():
    real_phones("udp")


def test_real_phones_tcp():
    real_phones("tcp")


def test_real_phones_tls():
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    real_phones("tls")


if __name__ == "__main__":
    run(globals())
