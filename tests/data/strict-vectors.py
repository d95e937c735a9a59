#!/usr/bin/env python3
"""Frames with the strict MAC, byte by byte as docs/authentication.md describes them, written without our code:

    python3 tests/data/strict-vectors.py > tests/data/strict-vectors.json
"""

import hashlib
import hmac
import ipaddress
import json
import struct


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def summed(data, at):
    return data[:at] + struct.pack("!H", checksum(data)) + data[at + 2 :]


def mapped(address):
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def addresses(texts, version):
    return sorted({ip.packed for ip in map(ipaddress.ip_address, texts) if ip.version == version})


def strict_mac(key, vips, head, counter, source, destination, echo):
    v4, v6 = addresses(vips, 4), addresses(vips, 6)
    common = b"carp strict 1\0\0\0" + struct.pack("!II", len(v4), len(v6)) + b"".join(v4 + v6)
    common += bytes(-len(common) % 64)
    ends = mapped(source) + mapped(destination)
    message = common + head + struct.pack("!Q", counter) + ends + struct.pack("!Q", echo)
    return message, hmac.new(key, message, hashlib.sha256).digest()[:20]


def carp_digest(key, vips, vhid, counter):
    message = bytes([2, 1, vhid]) + b"".join(addresses(vips, 4) + addresses(vips, 6)) + struct.pack("!Q", counter)
    return hmac.new(key, message, hashlib.sha1).digest()


def in_ethernet(source, destination, vhid, payload):
    vmac = bytes([0, 0, 0x5E, 0, 1, vhid])
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0xE0, 20 + len(payload), 0, 0x4000, 255, 112, 0)
        head = summed(head + source.packed + destination.packed, 10)
        return bytes.fromhex("01005e000012") + vmac + b"\x08\x00" + head + payload
    head = struct.pack("!IHBB", 0x6E000000, len(payload), 112, 255) + source.packed + destination.packed
    return bytes.fromhex("333300000012") + vmac + b"\x86\xdd" + head + payload


def vector(name, mode, password, vips, vhid, rank, counter, source, destination, echo=0):
    (base, skew, demote), key = rank, password.encode().ljust(20, b"\0")
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    head = bytes([0x21, vhid, skew, 0x87 if mode == "strict" else 7, demote, base])
    message, mac = strict_mac(key, vips, head, counter, source, destination, echo)
    digest = mac if mode == "strict" else carp_digest(key, vips, vhid, counter)
    payload = summed(head + bytes(2) + struct.pack("!Q", counter) + digest, 6)
    if mode == "migrate":
        payload += summed(b"cs" + bytes(2) + struct.pack("!Q", echo) + mac, 2)
    elif echo:
        payload += struct.pack("!Q", echo)
    return {
        "id": name, "mode": mode, "password": password, "vips": vips, "vhid": vhid,
        "base": base, "skew": skew, "demote": demote, "counter": counter, "echo": echo,
        "source": str(source), "destination": str(destination),
        "message_hex": message.hex(), "mac_hex": mac.hex(),
        "frame_hex": in_ethernet(source, destination, vhid, payload).hex(),
    }  # fmt: skip


ONE = ["10.77.1.1"]
MANY = ["fd77:1::1", "10.77.1.200", "10.77.1.9", "fe80::1", "10.77.1.9", "192.0.2.1"]
LONG = [f"10.77.1.{host}" for host in range(40, 10, -1)]
VECTORS = [
    vector("strict-v4", "strict", "secret", ONE, 1, (1, 0, 0), 5 << 32 | 7, "10.77.1.2", "224.0.0.18"),
    vector("strict-v6-many", "strict", "secret", MANY, 12, (1, 100, 0), 1 << 32 | 1, "fe80::2", "ff02::12"),
    vector("strict-answer", "strict", "nineteen characters", MANY, 255, (255, 252, 240),
           3 << 32 | 2, "10.77.1.2", "10.77.1.3", 5 << 32 | 6),
    vector("strict-announced", "strict", "secret", LONG, 3, (1, 240, 240), 9 << 32 | 1, "10.77.1.3", "224.0.0.254"),
    vector("migrate-v4", "migrate", "secret", ONE, 1, (1, 0, 0), 5 << 32 | 7, "10.77.1.2", "224.0.0.18"),
    vector("migrate-answer-v6", "migrate", "secret", MANY, 12, (255, 252, 0),
           2 << 32 | 44, "fe80::2", "fe80::3", 7 << 32 | 8),
]  # fmt: skip

print(json.dumps(VECTORS, indent=1))
