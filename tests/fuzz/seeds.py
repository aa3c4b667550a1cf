#!/usr/bin/env python3
"""Writes seeds for every target to corpus/TARGET: one first flight a file, with
the octet in front that chooses where a target cuts it."""

import pathlib
import socket
import ssl
import struct
import zlib

HERE = pathlib.Path(__file__).parent


def hello(name, alpn=(), most=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if most:
        context.maximum_version = most
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def in_records(stream, size):
    body = stream[5:]
    parts = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(stream[:3] + struct.pack("!H", len(part)) + part for part in parts)


def query(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
    return message


def proxy_v2(values=b"", command=0x21, family=0x11):
    block = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 5, 443) + values
    return bytes.fromhex("0d0a0d0a000d0a515549540a") + bytes([command, family]) + struct.pack("!H", len(block)) + block


TLS = [
    hello("shop.example.test", ["h2", "http/1.1"]),
    hello("a.test", most=ssl.TLSVersion.TLSv1_2),
    hello(None),
    in_records(hello("shop.example.test"), 20),
    bytes.fromhex("802e010002001500000010") + bytes(37),
]
HTTP = [
    b"GET /api/x HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
    b"GET http://x.b.test/a/ HTTP/1.0\r\nHost: y\r\n\r\n",
    b"POST /a/../b HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nHost: twice\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
PROXY = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 5 443\r\n",
    b"PROXY UNKNOWN whatever\r\n",
    proxy_v2(b"\x02\0\x06a.test\x01\0\x02h2\x04\0\x01x"),
    proxy_v2(b"\x03\0\x04" + struct.pack("!I", zlib.crc32(b""))),
    proxy_v2(command=0x20, family=0),
]
DNS = [
    struct.pack("!H", len(message)) + message
    for message in (query("a.test", 1), query("x.example.test", 28), query("test", 252))
]
QUIC = [
    b"\xc3\0\0\0\x01\x08abcdefgh\0\0" + bytes(1200),
    b"\x40" + bytes(40),
    query("a.test", 1),
    b"\0\x01pxelinux.0\0octet\0",
    b"\x01\0\0\0" + bytes(144),
    b"\0\x01\0\0\x21\x12\xa4\x42" + bytes(12),
    b"\x23" + bytes(47),
]
OTHERS = [
    b"SSH-2.0-x\r\n",
    b"\x05\x01\0",
    b"\x04\x01\0\x50\x7f\0\0\x01user\0",
    struct.pack("!II", 8, 80877103),
    b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0",
    b"*1\r\n$4\r\nPING\r\n",
    b"0032git-upload-pack /project.git\0host=a.test\0",
    b"@RSYNCD: 31.0\n",
    b"\x13BitTorrent protocol",
    b"<34>1 2003-10-11T22:14:15.003Z host app\n",
    b"<?xml version='1.0'?><stream:stream to='a.test'>",
    b"INVITE sip:a@a.test SIP/2.0\r\n",
    b"AMQP\0\0\x09\x01",
    b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",
]

VARLINK = [
    b'{"method":"org.varlink.service.GetInfo"}\0',
    b'{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"org.usherd.Admin"}}\0',
    b'{"method":"org.usherd.Status.WatchEvents","more":true,"parameters":{"kinds":["started"],"backlog":9}}\0',
    b'{"method":"org.usherd.Admin.Ban","parameters":{"prefix":"192.0.2.0/24","for_s":60,"reason":"x"}}\0',
    b'{"method":"org.usherd.Admin.Kill","oneway":true,"parameters":{"instance":7,"signal":"HUP"}}\0{"method":"x"}\0',
]

for target, flights in {
    "tls": TLS,
    "http": HTTP,
    "proxy": PROXY,
    "dns": DNS,
    "quic": QUIC,
    "varlink": VARLINK,
    "engine": TLS + HTTP + DNS + OTHERS,
}.items():
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, flight in enumerate(flights):
        for choice in (0, 100, 255):
            (folder / f"seed-{number}-{choice}").write_bytes(bytes([choice]) + flight)
