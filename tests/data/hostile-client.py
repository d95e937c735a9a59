#!/usr/bin/env python3
"""What strangers and a known account with bad manners may send to carpd's XML-RPC: each gets a fault or a closed connection.

Arguments: ADDRESS:PORT, and for how many seconds to flood. On standard input: the password of account `full`.
"""
import base64
import os
import socket
import ssl
import sys
import time

host, port = sys.argv[1].split(":")
place, seconds = (host, int(port)), float(sys.argv[2])
password = sys.stdin.readline().strip()
known = "Basic " + base64.b64encode(f"full:{password}".encode()).decode()
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def connect(timeout=10):
    """Waits its turn: more than fifty connections a second are closed unread."""
    for _ in range(200):
        try:
            plain = socket.create_connection(place, timeout)
            return context.wrap_socket(plain)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise AssertionError("no connection")


def head(length, authorization=known, more=""):
    authorization = f"Authorization: {authorization}\r\n" if authorization else ""
    return (f"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n{authorization}{more}"
            f"Content-Length: {length}\r\n\r\n").encode()


def whole(stream):
    """Everything until it is closed."""
    heard = b""
    try:
        while part := stream.recv(65536):
            heard += part
    except (ConnectionError, ssl.SSLError, TimeoutError):
        pass
    return heard


def send(stream, data):
    """As much as is taken."""
    try:
        stream.sendall(data)
    except (ConnectionError, ssl.SSLError, TimeoutError):
        pass


def answer(stream):
    """One answer."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        part = stream.recv(65536)
        if not part:
            return heard
        heard += part
    first, _, body = heard.partition(b"\r\n\r\n")
    length = int(next(line for line in first.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1])
    while len(body) < length:
        body += stream.recv(65536)
    return first + b"\r\n\r\n" + body


def call(body, **more):
    with connect() as stream:
        stream.sendall(head(len(body), **more) + body)
        return answer(stream)


def document(params):
    return b"<?xml version='1.0'?><methodCall><methodName>carp.version</methodName><params>" + params + b"</params></methodCall>"


# Bombs and nonsense of a known account: a fault each.
laughs = b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'>" + b"".join(
    b"<!ENTITY a%d '%s'>" % (n + 1, b"&a%d;" % n * 10) for n in range(9)) + b"]><methodCall><methodName>&a9;</methodName></methodCall>"
external = b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a SYSTEM 'file:///etc/shadow'>]><methodCall><methodName>&a;</methodName></methodCall>"
for code, body in [
    (-32700, laughs),
    (-32700, external),
    (-32700, document(b"<param>" + b"<value><array><data>" * 100000)),
    (-32700, document(b"<param><value/></param>" * 300000)),
    (-32700, b"<methodCall>"),
    (-32701, document(b"\xff\xfe")),
    (-32600, b""),
    (-32600, b"\x00" * 1000),
    (-32600, document(b"<param><value><i4>99999999999</i4></value></param>")),
    (-32600, document(b"<param><value><boolean>maybe</boolean></value></param>")),
    (-32600, document(b"<param><value><base64>!!!!</base64></value></param>")),
    (-32602, document(b"<param><value><struct></struct></value></param>")),
]:
    said = call(body)
    assert b"<i4>%d</i4>" % code in said or b"<int>%d</int>" % code in said, (code, body[:80], said[:600])
    assert b"shadow" not in said and password.encode() not in said

# Nobody's: not read.
assert b" 401 " in call(b"x" * 100, authorization=None)
for odd in ["Basic", "Basic !!!!", "Bearer x", "Basic " + "A" * 8000]:
    assert b" 401 " in call(b"", authorization=odd), odd

# Too long, in each place.
with connect() as stream:
    send(stream, head(1 << 40))
    assert b" 413 " in whole(stream)
with connect() as stream:
    send(stream, head(0, more="X: " + "y" * 40000 + "\r\n"))
    assert b" 200 " not in whole(stream)
with connect() as stream:
    send(stream, head(0, more="".join(f"X{n}: y\r\n" for n in range(100))))
    assert b" 200 " not in whole(stream)
with connect() as stream:
    send(stream, b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nAuthorization: " + known.encode()
                   + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(200):
        send(stream, b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert b" 200 " not in whole(stream)

# Pipelined: answered one after the other, up to the last request of a connection.
def answers(stream, wanted):
    """How many come, of so many."""
    heard, rest = 0, b""
    while heard < wanted and (part := stream.recv(65536)):
        rest += part
        heard += rest.count(b"HTTP/1.1 200")
        rest = rest[-11:]
    return heard


with connect() as stream:
    body = document(b"")
    request, total = head(len(body)) + body, 0
    for _ in range(9):
        stream.sendall(request * 100)
        total += answers(stream, 100)
    send(stream, request * 150)
    total += whole(stream).count(b"HTTP/1.1 200")
    assert 900 < total <= 1000, total

# Not TLS, half of it, an old one: closed.
with socket.create_connection(place, 10) as stream:
    stream.sendall(b"POST /RPC2 HTTP/1.1\r\n\r\n")
    whole(stream)
old = ssl.create_default_context()
old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
try:
    old.wrap_socket(socket.create_connection(place, 10))
    raise AssertionError("TLS 1.2")
except (ssl.SSLError, ConnectionError):
    pass
half = [socket.create_connection(place, 10) for _ in range(8)]
for stream in half:
    stream.sendall(b"\x16\x03\x01\x02\x00\x01")
slow = connect()
slow.sendall(head(1000)[:40])
begun = time.monotonic()
print("a call beside them:", len(call(document(b""))), "bytes")

# A flood of all kinds of bad requests: within connections, and without.
count, kinds = 0, 0
bad = head(7, authorization=None) + b"nothing"
wrong = document(b"<param><value><i4>1</i4></value></param>")
wrong = head(len(wrong)) + wrong
end = time.monotonic() + seconds
children = []
started = time.monotonic()
read, write = os.pipe()
for child in range(2):
    if os.fork() == 0:
        done = 0
        while time.monotonic() < end:
            try:
                with connect() as stream:
                    # As many as one connection takes, with wrong types.
                    for _ in range(10):
                        stream.sendall(wrong * 100)
                        done += answers(stream, 100)
            except (OSError, AssertionError):
                pass
        os.write(write, b"%d\n" % done)
        os._exit(0)
while time.monotonic() < end:
    try:
        with socket.create_connection(place, 1) as plain:
            plain.sendall(os.urandom(200))
            kinds += 1
        with connect(1) as stream:
            stream.sendall(bad)
            kinds += 1
    except (OSError, AssertionError):
        pass
os.close(write)
for _ in range(2):
    os.wait()
count = kinds + sum(int(line) for line in os.fdopen(read).read().split())
print("bad requests a second:", int(count / (time.monotonic() - started)))

# Half-open handshakes and slow heads were closed meanwhile.
for stream in half + [slow]:
    stream.settimeout(15)
    whole(stream)
assert time.monotonic() - begun < 25, "slow clients were not let go"
print("a call afterwards:", len(call(document(b""))), "bytes")
