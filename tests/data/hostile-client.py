#!/usr/bin/env python3
"""What strangers and a known account with bad manners may send to carpd's XML-RPC: each gets a fault or a closed connection.

Arguments: ADDRESS:PORT, and for how many seconds to flood. On standard input: the password of account `full`.
"""
import base64
import os
import socket
import ssl
import struct
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
    (-32600, document(b"<param><value><double>much</double></value></param>")),
    (-32600, document(b"<param><value><dateTime.iso8601>yesterday</dateTime.iso8601></value></param>")),
    (-32600, document(b"<param><value><struct><member><name>x</name></member></struct></value></param>")),
    (-32600, document(b"<param><value><colour>red</colour></value></param>")),
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
bad = head(7, authorization=None) + b"nothing"
wrong = document(b"<param><value><i4>1</i4></value></param>")
wrong = head(len(wrong)) + wrong
JUNK = 2000  # connections a second of each child that makes some
started = time.monotonic()
end = started + seconds


def typed():
    """A known account with wrong types, as many as one connection takes: sent, answered."""
    sent = answered = 0
    with connect() as stream:
        for _ in range(10):
            if time.monotonic() > end:
                break
            stream.sendall(wrong * 100)
            sent += 100
            answered += answers(stream, 100)
    return sent, answered


def strange():
    """Nobody's, in a connection of its own."""
    with connect(1) as stream:
        stream.sendall(bad)
        return 1, int(b" 401 " in whole(stream))


def junk():
    """What is not even TLS, and is closed by a reset: never answered. Where the kernel has no room for more, a mere attempt."""
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.setblocking(False)
        plain.connect_ex(place)
        try:
            plain.send(os.urandom(64))
        except OSError:
            pass
    return 1, 0


def flood(kind, rate=None):
    """In a child, until it is time; it tells what it sent and how many of that were answered."""
    sent = answered = 0
    while (now := time.monotonic()) < end:
        if rate and sent > (now - started) * rate:
            time.sleep(0.001)
            continue
        try:
            more, heard = kind()
            sent, answered = sent + more, answered + heard
        except (OSError, AssertionError):
            pass
    os.write(write, b"%d %d\n" % (sent, answered))
    os._exit(0)


read, write = os.pipe()
kinds = [(typed,), (typed,), (strange,), (junk, JUNK), (junk, JUNK)]
for kind in kinds:
    if os.fork() == 0:
        flood(*kind)
os.close(write)
for _ in kinds:
    os.wait()
took = time.monotonic() - started
told = [[int(word) for word in line.split()] for line in os.fdopen(read).read().splitlines()]
assert len(told) == len(kinds), told
print("bad requests a second:", int(sum(sent for sent, _ in told) / took))
print("of these answered:", int(sum(answered for _, answered in told) / took))

# Half-open handshakes and slow heads were closed meanwhile.
for stream in half + [slow]:
    stream.settimeout(15)
    whole(stream)
assert time.monotonic() - begun < 25, "slow clients were not let go"
print("a call afterwards:", len(call(document(b""))), "bytes")
