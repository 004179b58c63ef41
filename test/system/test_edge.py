#!/usr/bin/env python3
"""Phones that register at a server behind the proxy (route.path): a Kamailio that calls them along their Path."""
import os
import shutil
import signal
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
from ports import udp_port_open  # noqa: E402
from system import (SLOW, Agent, Message, Proxy, Skip, cancel_of, check, equal, free_port, run, running,  # noqa: E402
                    temporary_folder, uri, wait_until)

CONTACT = "sip:bob@10.0.0.7:5060"  # behind a NAT: leads nowhere from here
CONF = """#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:127.0.0.1:%d
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "use_path", 1)
modparam("registrar", "path_mode", 0)
request_route {
	if (method == "REGISTER") {
		save("location");
		exit;
	}
	if (method == "CANCEL" && !t_relay_cancel())
		exit;
	if (method == "ACK" && !t_check_trans())
		exit;
	if (!lookup("location")) {
		sl_send_reply("404", "Not here");
		exit;
	}
	t_relay();
}
"""


class Kamailio:
    def __init__(self):
        if not shutil.which("kamailio"):
            raise Skip("kamailio is not installed")
        self.dir = temporary_folder()
        self.port = free_port()
        conf = os.path.join(self.dir, "kamailio.cfg")
        with open(conf, "w") as f:
            f.write(CONF % self.port)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(["kamailio", "-f", conf, "-DD", "-E", "-m", "64", "-M", "8", "-Y", self.dir, "-w", self.dir],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        running.append(self)
        wait_until("Kamailio's port", lambda: self.process.poll() is not None or udp_port_open(self.port))
        check(self.process.poll() is None, "Kamailio runs")

    def describe(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return "\n--- kamailio:\n" + f.read()[-3000:]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


class TcpPhone(Agent):
    """An agent of which all goes over one connection."""

    def __init__(self, port):
        super().__init__(proxy=port)
        self.stream = socket.create_connection(("127.0.0.1", port))
        self.data = b""

    def send(self, text, to=None):
        self.stream.sendall(text.replace("SIP/2.0/UDP 127.0.0.1", "SIP/2.0/TCP 10.0.0.7").encode()
                            if text.startswith("REGISTER") else text.encode())

    def receive(self, seconds=5):
        self.stream.settimeout(seconds * SLOW)
        while b"\r\n\r\n" not in self.data:
            more = self.stream.recv(65536)
            check(more, "a message, not the end")
            self.data += more
        end = self.data.index(b"\r\n\r\n") + 4
        m, self.data = Message(self.data[:end], None), self.data[end:]
        self.seen.append(m)
        return m

    def hang_up(self):
        self.stream.close()

    def stop(self):
        self.stream.close()
        super().stop()


class Edge:
    def __init__(self):
        self.server = Kamailio()
        port = free_port()
        self.proxy = Proxy(f'gateway "server" {{ target = {{"{uri(self.server.port)};lr"}} }}\n'
                           'route "phones" { domain = "reg.test" gateway = "server" path = true }\n',
                           listen=[f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}"])
        self.port = self.proxy.port = port
        self.caller = Agent(proxy=self.server.port)

    def phone(self, kind):
        phone = TcpPhone(self.port) if kind == "tcp" else Agent(proxy=self.port)
        self.register(phone)
        return phone

    def register(self, phone):
        text = phone.request("REGISTER", "sip:reg.test", to="sip:bob@reg.test")
        phone.send(text.replace(f"<{phone.uri}>", f"<{CONTACT}>"))
        phone.expect(200)

    def call(self):
        text = self.caller.request("INVITE", "sip:bob@reg.test")
        self.caller.send(text)
        return text


def check_call(edge, phone):
    text = edge.call()
    invite = phone.expect("INVITE")
    equal(invite.first, f"INVITE {CONTACT} SIP/2.0", "the INVITE")
    equal(invite.get("Route"), None, "Route")
    phone.respond(invite, 180)
    edge.caller.expect(180)
    phone.respond(invite, 200)
    answer = edge.caller.expect(200)
    check(":hff" in answer.get("Record-Route"), "a Record-Route with the phone's flow")
    # In the dialog by the proxy's Record-Route, for the server has not recorded itself.
    edge.caller.ack(text, answer, to=("127.0.0.1", edge.port))
    phone.expect("ACK")
    edge.caller.send(edge.caller.in_dialog("BYE", Message(text.encode(), None), answer, cseq=2), ("127.0.0.1", edge.port))
    phone.respond(phone.expect("BYE"), 200)
    edge.caller.expect(200)


def check_cancel(edge, phone):
    text = edge.call()
    invite = phone.expect("INVITE")
    phone.respond(invite, 180)
    edge.caller.expect(180)
    edge.caller.send(cancel_of(text))
    phone.respond(phone.expect("CANCEL"), 200)
    phone.respond(invite, 487)
    phone.expect("ACK")
    edge.caller.ack(text, edge.caller.expect(487, skip=(200,)))


def test_phone_over_udp():
    edge = Edge()
    phone = edge.phone("udp")
    check_call(edge, phone)
    check_cancel(edge, phone)
    edge.proxy.restart()
    check_call(edge, phone)  # and it has not registered again


def test_phone_over_tcp():
    edge = Edge()
    phone = edge.phone("tcp")
    check_call(edge, phone)
    check_cancel(edge, phone)
    equal(edge.proxy.metric("connections_opened_total"), 0, "connections that the proxy has opened")
    phone.hang_up()
    wait_until("the connection's end", lambda: edge.proxy.metric("connections") == 0)
    text = edge.call()
    edge.caller.ack(text, edge.caller.expect(430))
    check_call(edge, edge.phone("tcp"))


def test_takeover():
    """A connection that goes over to the next process keeps its Path."""
    edge = Edge()
    phone = edge.phone("tcp")
    edge.proxy.takeover()
    check_call(edge, phone)


run(globals())
