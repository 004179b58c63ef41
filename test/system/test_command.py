#!/usr/bin/env python3
"""The command line: what it prints, and how it ends when it cannot start."""
import os
import re
import socket
import sys
import tempfile

sys.dont_write_bytecode = True
from certs import Authority  # noqa: E402
from system import Agent, check, command, equal, free_port, gateway, run, temporary_folder, uri  # noqa: E402


def config(text):
    path = os.path.join(temporary_folder(), "holdfast.conf")
    with open(path, "w") as f:
        f.write(text)
    return path


def one_line(text, what):
    equal(len(text.strip().splitlines()), 1, f"lines for {what}: {text!r}; their number")
    return text


def test_help_and_version():
    status, out, _ = command("-h")
    equal(status, 0, "status")
    for option in "cTtldswLhV":
        check(re.search(rf"-{option}\b", out), f"-{option} in --help")
    equal(command("--help")[:2], (0, out), "--help")
    status, out, _ = command("-V")
    equal(status, 0, "status")
    check(re.search(r"\d+\.\d+\.\d+", out), f"version: {out}")


def test_usage_error():
    for arguments in (["--nonsense"], ["-l"], ["argument"], ["-w", "many"], ["-l", "nothing"], ["-L", "loud"]):
        status, _, err = command(*arguments)
        equal(status, 2, f"status of {arguments}")
        check(err.strip(), f"{arguments}: says what is wrong")


def test_config_error_names_file_line_and_option():
    for line, text, word in ((2, '\nworkers = "many"\n', "workers"),
                             (3, 'listen "udp:127.0.0.1:5060" { }\n\nnonsense = 1\n', "nonsense"),
                             (2, "timers {\n\tt1 = 5parsecs\n}\n", "t1"),
                             (2, 'route "x" {\n\tgateway = "missing"\n}\n', "gateway"),
                             (1, 'listen "carrier-pigeon:127.0.0.1:5060" { }\n', "listen")):
        path = config(text)
        for option in ([], ["-t"]):
            status, _, err = command("-c", path, *option)
            equal(status, 2, f"status for {text!r}")
            one_line(err, repr(text))
            check(f"{path}:" in err, f"the file in {err!r}")
            check(re.search(rf"{re.escape(path)}:\d+:", err), f"a line number in {err!r}")
            if word in ("workers", "nonsense", "t1"):
                check(f"{path}:{line}:" in err, f"line {line} in {err!r}")
            check(word in err, f"{word} in {err!r}")


def test_missing_config_file():
    status, _, err = command("-c", "/nonexistent/holdfast.conf")
    equal(status, 1, "status")
    check("/nonexistent/holdfast.conf" in one_line(err, "a missing file"), err)


def test_check_config():
    path = config(gateway("carrier", "sip:192.0.2.1"))
    status, _, err = command("-c", path, "-t")
    equal(status, 0, f"status; {err}")


def test_print_config_round_trip():
    path = config('listen "udp:127.0.0.1:5070" { }\ndomain "example.com" { }\n'
                  + gateway("carrier", "sip:192.0.2.1", "<sip:192.0.2.2;transport=udp>;weight=3", policy="weight")
                  + 'route "no" {\n\tuser = "^\\\\+?[0-9]+$"\n\tfrom = {"192.0.2.0/24", "2001:db8::/32"}\n'
                  + '\tmethod = {INVITE, MESSAGE}\n\treject = "403 Not \\"here\\""\n}\n'
                  + "timers { t1 = 250ms }\n")
    status, first, err = command("-c", path, "-T")
    equal(status, 0, f"status; {err}")
    for word in ("250ms", "example.com", "192.0.2.2", "workers", "max_inflight", "2001:db8::/32"):
        check(word in first, f"{word} in\n{first}")
    status, second, err = command("-c", config(first), "-T")
    equal(status, 0, f"status; {err}")
    equal(second, first, "-T of -T")


def test_command_line_overrides():
    port = free_port()
    status, out, err = command("-l", f"udp:127.0.0.1:{port}", "-d", "example.org", "-s", "/tmp/somewhere", "-w", "3", "-L",
                               "debug", "-T")
    equal(status, 0, f"status; {err}")
    for word in (f"udp:127.0.0.1:{port}", "example.org", "/tmp/somewhere", "3", "debug"):
        check(word in out, f"{word} in\n{out}")


def test_listeners():
    """Without any, UDP and TCP on 5060; -l takes every transport, and the options of a section of its title."""
    status, out, err = command("-T")
    equal((status, re.findall('listen "([a-z]+:.*)"', out)), (0, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]), f"defaults; {err}")
    path = config('listen "tls:127.0.0.1:5071" {\n\tcertificate = "c.pem"\n\tkey = "k.pem"\n}\n')
    arguments = ["-l", "tcp:[::1]:5070", "-l", "tls:127.0.0.1:5071", "-T"]
    status, out, err = command("-c", path, *arguments)
    equal((status, re.findall('listen "([a-z]+:.*)"', out)), (0, ["tcp:[::1]:5070", "tls:127.0.0.1:5071"]), f"-l; {err}")
    check(os.path.join(os.path.dirname(path), "c.pem") in out, f"the certificate in\n{out}")
    status, _, err = command(*arguments)
    equal(status, 2, "status of tls without a certificate")
    check("certificate" in one_line(err, "tls without a certificate"), err)


def test_certificate_missing():
    port = free_port()
    path = config(f'listen "tls:127.0.0.1:{port}" {{ certificate = "c.pem" key = "k.pem" }}\nstats {{ listen = "" }}\n'
                  'control { socket = "" }\n')
    status, _, err = command("-c", path, "-s", os.path.join(temporary_folder(), "store"))
    equal(status, 1, "status")
    errors = [line for line in err.splitlines() if "ERROR" in line]
    equal(len(errors), 1, f"errors in {err!r}; their number")
    check(str(port) in errors[0] and "c.pem" in errors[0], errors[0])


def test_check_certificates():
    """-t looks at what a start would look at: the files, and whether key and certificate belong together."""
    ca = Authority()
    cert, key = ca.issue("one", "DNS:example.com")
    _, other = ca.issue("two", "DNS:example.com")
    old, old_key = ca.issue("old", "DNS:example.com", expired=True)

    def check_with(certificate, certificate_key):
        return command("-c", config(f'listen "tls:127.0.0.1:5071" {{ certificate = "{certificate}" key = "{certificate_key}" }}\n'),
                       "-t")
    equal(check_with(cert, key), (0, "the configuration is valid\n", ""), "a good one")
    for certificate, certificate_key, said in (("c.pem", key, "c.pem"), (cert, "k.pem", "k.pem"), (cert, other, "belong together"),
                                               (key, key, "one.key")):
        status, out, err = check_with(certificate, certificate_key)
        equal((status, out), (2, ""), f"{certificate} with {certificate_key}")
        check(said in one_line(err, "a bad certificate"), err)
    status, _, err = check_with(old, old_key)
    equal(status, 0, "status of one that has expired")
    check("has expired" in err, err)


def test_examples():
    """Each conf/*.conf is valid, with certificates in the place of those that it names."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    cert, key = Authority().issue("example.com", "DNS:example.com")
    for name in ("holdfast.conf", "edge.conf", "balancer.conf"):
        with open(os.path.join(top, "conf", name)) as f:
            text = f.read().replace("/etc/holdfast/example.com.pem", cert).replace("/etc/holdfast/example.com.key", key)
        equal(command("-c", config(text), "-t"), (0, "the configuration is valid\n", ""), name)
    equal(sorted(n for n in os.listdir(os.path.join(top, "conf")) if n.endswith(".conf")), ["balancer.conf", "edge.conf", "holdfast.conf"], "files of conf/")


def test_tcp_port_in_use():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        path = config(f'listen "tcp:127.0.0.1:{port}" {{ }}\nstats {{ listen = "" }}\ncontrol {{ socket = "" }}\n')
        status, _, err = command("-c", path, "-s", os.path.join(temporary_folder(), "store"))
    equal(status, 1, "status")
    equal(len([line for line in err.splitlines() if "ERROR" in line and str(port) in line]), 1, f"errors in {err!r}; their number")


def test_port_in_use():
    holder = Agent()
    path = config(f'listen "udp:127.0.0.1:{holder.port}" {{ }}\nstats {{ listen = "" }}\ncontrol {{ socket = "" }}\n')
    status, _, err = command("-c", path, "-s", os.path.join(temporary_folder(), "store"))
    equal(status, 1, "status")
    errors = [line for line in err.splitlines() if str(holder.port) in line]
    equal(len(errors), 1, f"lines that name the port in {err!r}; their number")


def test_stats_port_in_use():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        path = config(f'listen "udp:127.0.0.1:{free_port()}" {{ }}\nstats {{ listen = "127.0.0.1:{port}" }}\ncontrol {{ socket = "" }}\n')
        status, _, err = command("-c", path, "-s", os.path.join(temporary_folder(), "store"))
    equal(status, 1, "status")
    equal(len([line for line in err.splitlines() if str(port) in line]), 1, f"lines that name the port in {err!r}; number")


def test_store_not_writable():
    """A folder below a regular file cannot be made, not even by root."""
    with tempfile.NamedTemporaryFile() as f:
        path = config(f'listen "udp:127.0.0.1:{free_port()}" {{ }}\nstats {{ listen = "" }}\ncontrol {{ socket = "" }}\n')
        status, _, err = command("-c", path, "-s", f.name + "/store")
        equal(status, 1, "status")
        errors = [line for line in err.splitlines() if f.name in line]
        equal(len(errors), 1, f"lines that name the store in {err!r}; their number")


def test_listener_and_store_are_enough():
    """-l and -s run it without a file."""
    import signal
    import subprocess
    from system import HOLDFAST, SLOW, udp_port_open, wait_until
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="holdfast-test-") as folder:
        # stats.listen has a default port, which another process may hold: a file is the only way to change it.
        path = config('stats { listen = "" }\ncontrol { socket = "" }\n')
        p = subprocess.Popen([HOLDFAST, "-c", path, "-l", f"udp:127.0.0.1:{port}", "-d", "example.com", "-s",
                              folder + "/deep/store"], stderr=subprocess.PIPE, text=True)
        try:
            wait_until("the listener", lambda: udp_port_open(port) or p.poll() is not None)
            agent = Agent(proxy=port)
            agent.send(agent.request("OPTIONS", uri(port)))
            agent.expect(200)
            p.send_signal(signal.SIGINT)
            equal(p.wait(10 * SLOW), 0, "status")
        finally:
            p.kill()
            p.wait()
            p.stderr.close()


if __name__ == "__main__":
    run(globals())
