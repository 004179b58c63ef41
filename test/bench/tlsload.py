"""The tlsload program, a line at a time, and the certificates for it and the servers."""
import os
import subprocess
import sys
import tempfile
import threading

from harness import HERE, TOOLS, Failed
from certs import Authority  # of the system tests, which harness has put on the path

PATIENCE = 120  # s, for a line of the program


class Certificates:
    def __init__(self):
        authority = Authority()
        self.cert, self.key = authority.issue("server", "DNS:localhost,IP:127.0.0.1,URI:sip:127.0.0.1")
        self.ca = authority.ca


class Load:
    def __init__(self, server, mode, *flags, **options):
        self.server = server
        command = [os.path.join(TOOLS, "tlsload"), "--to", str(server.port), *flags]
        if server.transport == "tcp":
            command.append("--plain")
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        # What it complains about is wanted only if it fails.
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command + [mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def meet(self, word):
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        line = self.process.stdout.readline().strip()
        timer.cancel()
        if not line.startswith(word + " "):
            self.process.kill()
            self.process.wait()
            self.errors.seek(0)
            raise Failed(f"tlsload to {self.server.kind}: expected '{word}', got '{line}': {self.errors.read().strip()}")
        values = {}
        for pair in line.split(" ")[1:]:
            k, v = pair.split("=")
            values[k] = v if k == "tls" else float(v)
        return values

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()
