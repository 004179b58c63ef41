#!/usr/bin/env python3
"""phones.py HOST PORT N FIRST [small]: N phones that register over TCP and answer nothing. Says "ready" when all are registered; "small": with a receive
buffer that is soon full, and nobody reads after that. Ends with its standard input."""
import socket
import sys

host, port, number, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
small = len(sys.argv) > 5
phones = []
for i in range(first, first + number):
    s = socket.socket()
    if small:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect((host, port))
    own = s.getsockname()
    s.sendall("\r\n".join([
        "REGISTER sip:example.com SIP/2.0", f"Via: SIP/2.0/TCP {own[0]}:{own[1]};branch=z9hG4bKr{i}",
        f"From: <sip:u{i}@example.com>;tag=r{i}", f"To: <sip:u{i}@example.com>", f"Call-ID: r{i}@{own[0]}",
        "CSeq: 1 REGISTER", f"Contact: <sip:u{i}@{own[0]}:{own[1]};transport=tcp>;expires=3600", "Max-Forwards: 70",
        "Content-Length: 0", "", ""]).encode())
    phones.append(s)
for s in phones:
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(4096)
        if not more:
            sys.exit("the proxy closed a connection")
        data += more
    if not data.startswith(b"SIP/2.0 200"):
        sys.exit(data.decode())
print("ready", flush=True)
sys.stdin.read()
