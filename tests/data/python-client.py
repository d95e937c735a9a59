#!/usr/bin/env python3
"""Drives every method of carpd by Python's own xmlrpc.client.

Arguments: ADDRESS:PORT, the node's certificate, an interface and vhid of it; on standard input, a line each: the password of
account `full`, that of account `reader`. Prints `ok`, or what is wrong.
"""
import base64
import datetime
import json
import hashlib
import socket
import ssl
import sys
import time
import xmlrpc.client

place, certificate, interface, vhid = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
full_password, reader_password = sys.stdin.read().split()
socket.setdefaulttimeout(20)  # whatever is sent, there is an answer


def trusting(certificate):
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False  # the certificate itself is what is trusted
    return context


def proxy(user, password, path="/RPC2", **more):
    return xmlrpc.client.ServerProxy(
        f"https://{user}:{password}@{place}{path}", context=trusting(certificate), **more)


def fault(code, call, *params):
    try:
        answer = call(*params)
    except xmlrpc.client.Fault as caught:
        assert caught.faultCode == code, (caught.faultCode, caught.faultString)
        return caught.faultString
    raise AssertionError(f"answered {answer!r}, and not with fault {code}")


def refused(status, call, *params):
    try:
        call(*params)
    except xmlrpc.client.ProtocolError as caught:
        assert caught.errcode == status, (caught.errcode, caught.errmsg)
        return
    raise AssertionError(f"HTTP 200, and not {status}")


carp = proxy("full", full_password, use_builtin_types=True)
reader = proxy("reader", reader_password, "/")

# Discovery: every method has a signature and help.
methods = carp.system.listMethods()
assert len(methods) == len(set(methods)) >= 14, methods
for method in methods:
    ways, words = carp.system.methodSignature(method), carp.system.methodHelp(method)
    assert ways and all(isinstance(kind, str) for way in ways for kind in way), (method, ways)
    assert len(words) > 10, (method, words)
done = {"system.listMethods", "system.methodSignature", "system.methodHelp"}

version = carp.carp.version()
assert version["api"] == 1 and version["node"].startswith("gw1") and version["programs"], version
status = carp.carp.status()
assert status["node"] == version["node"] and status["hosts"][0]["role"] == "MASTER", status
counted = reader.carp.states.count()
assert counted["tracked"] >= 0 and counted["local"] >= 0, counted
done |= {"carp.version", "carp.status", "carp.states.count"}

# The configuration: there, changed, and back.
before = carp.carp.config.get()
assert isinstance(before["text"], bytes), before
assert hashlib.sha256(before["text"]).hexdigest() == before["sha256"] == reader.carp.config.digest()["sha256"]
new = before["text"] + b"# by Python\n[kernel]\nforwarding = true\n"
staged = carp.carp.config.stage(new)
assert staged["changes"] == ["forwarding"] and "new_start" not in staged, staged
assert carp.carp.config.abort(staged["id"]) is True and carp.carp.config.abort(staged["id"]) is False
fault(3, carp.carp.config.commit, staged["id"])
staged = carp.carp.config.stage(new.decode())
fault(4, proxy("other", full_password).carp.config.stage, before["text"])
assert carp.carp.config.commit(staged["id"])["changes"] == ["forwarding"]
for _ in range(50):
    history = carp.carp.config.history()
    if len(history) == 2:
        break
    time.sleep(0.1)  # it is written beside the daemon's loop
assert [type(entry["at"]) for entry in history] == [datetime.datetime] * 2, history
age = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - history[-1]["at"]
assert abs(age.total_seconds()) < 60, history
assert history[-1]["origin"].startswith("xml-rpc full@"), history
assert carp.carp.config.get()["text"] == new
said = fault(1, carp.carp.config.stage, "[[virtual_host]]\nvhid = 999\n")
assert "vhid" in said, said



def follow(ask):
    return json.loads(carp.carp.config.follow(json.dumps(ask)))


follows = follow({"verb": "stand", "sections": ["vips"]})
assert follows["answer"] == "stands" and len(follows["hash"]) == 64, follows
# A node of another version: whatever is not read here is refused by its name, and nothing is used or kept.
others = [({"vips": 1, "nat": 9}, "section `nat` has version 9"), ({"weather": 1}, "section `weather` is not known"),
          ({"vips": 0}, "section `vips` has version 0")]
for ticket, (sections, words) in enumerate(others, 1 << 40):
    parcel = {"text": "", "sections": sections, "hash": "", "skew_add": 0, "node": "gw9", "origin": "apply"}
    told = follow({"verb": "stage", "ticket": ticket, "parcel": parcel})
    assert told["answer"] == "refused" and version["node"] in told["why"] and words in told["why"], told
    told = follow({"verb": "commit", "ticket": ticket})
    assert told["answer"] == "refused" and "not staged" in told["why"], told
assert carp.carp.config.get()["text"] == new
fault(-32602, carp.carp.config.follow, json.dumps({"verb": "dance"}))
done |= {"carp.config." + name for name in ("get", "digest", "stage", "commit", "abort", "follow", "history")}

# Roles.
assert carp.carp.maintenance(True, "by Python") is True
assert "by Python" in [one["reason"] for one in carp.carp.status()["demotions"]]
assert carp.carp.maintenance(False) is True
assert "by Python" not in [one["reason"] for one in carp.carp.status()["demotions"]]
assert carp.carp.role.set(interface, vhid, "master") is True
fault(1, carp.carp.role.set, "eth77", 1, "master")
done |= {"carp.maintenance", "carp.role.set"}
assert done == set(methods), set(methods) ^ done

# Mistakes, each with its fault.
fault(-32601, carp.carp.nothing)
fault(-32601, carp.system.methodHelp, "carp.nothing")
for wrong in [("x",), (1, 2), (1.5,), ({},), ([],)]:
    fault(-32602, carp.carp.version, *wrong)
fault(-32602, carp.carp.role.set, interface, vhid, "king")
fault(-32602, carp.carp.role.set, interface, "1", "master")
fault(-32602, carp.carp.maintenance, 1)

# Whatever a method takes, each other type in that place has the same fault, and nothing is done. `nil` and `i8` are no types
# of the specification.
HELD = {"int": 1, "boolean": True, "string": "x", "base64": b"x", "double": 1.5, "array": [], "struct": {},
        "dateTime.iso8601": xmlrpc.client.DateTime("20261130T01:02:03")}


class Long:
    """A number as i8."""


def dump_long(marshaller, value, write):
    write("<value><i8>9000000000</i8></value>")


xmlrpc.client.Marshaller.dispatch[Long] = dump_long
sender = proxy("full", full_password, use_builtin_types=True, allow_none=True)
tried = 0
for method in methods:
    call = getattr(sender, method)
    ways = [way[1:] for way in carp.system.methodSignature(method)]
    fault(-32602, call, *[1.5] * (max(map(len, ways)) + 1))
    for way in ways:
        for place_of in range(len(way)):
            taken = {other[place_of] for other in ways if len(other) == len(way)}
            right = [HELD[kind] for kind in way]
            for kind, value in HELD.items():
                if kind not in taken:
                    said = fault(-32602, call, *right[:place_of], value, *right[place_of + 1:])
                    assert said.startswith("call it as " + method), said
                    tried += 1
            for value in (None, Long()):
                fault(-32600, call, *right[:place_of], value, *right[place_of + 1:])
                tried += 1
assert tried > 100, tried
assert carp.carp.config.get()["text"] == new and carp.carp.config.history() == history

# Who may not.
for call, params in [(reader.carp.config.stage, ["x"]), (reader.carp.config.commit, ["x"]),
                     (reader.carp.config.abort, ["x"]), (reader.carp.role.set, [interface, vhid, "master"]),
                     (reader.carp.maintenance, [True])]:
    fault(2, call, *params)
refused(404, proxy("full", full_password, "/elsewhere").carp.version)
refused(401, proxy("peer", full_password).carp.version)  # right, but without the pinned certificate
refused(401, proxy("nobody", full_password).carp.version)
refused(401, proxy("full", "wrong-password").carp.version)
for _ in range(4):
    refused(401, proxy("full", "wrong-password").carp.version)
refused(429, proxy("full", full_password).carp.version)

# Whom it does not trust, a client refuses by itself.
try:
    xmlrpc.client.ServerProxy(f"https://full:x@{place}/RPC2").carp.version()
    raise AssertionError("a certificate that nobody trusts was taken")
except ssl.SSLError:
    pass
print("ok")
