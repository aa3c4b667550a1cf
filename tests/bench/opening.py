"""First bytes as clients send them: hellos of browsers' sizes, a request of HTTP/1.1."""


def u16(value):
    return value.to_bytes(2, "big")


def sized(data):
    return u16(len(data)) + data


def extension(kind, data=b""):
    return u16(kind) + sized(data)


def record(extensions):
    body = b"\3\3" + b"\x5a" * 32 + b"\x20" + b"\xa5" * 32
    body += sized(bytes.fromhex("130113021303c02bc02fc02cc030cca9cca8")) + b"\1\0" + sized(extensions)
    message = b"\1\0" + sized(body)
    return b"\x16\3\1" + sized(message)


def hello(name, length, hybrid=False):
    """A ClientHello (RFC 8446, 4.1.2) of `length` octets in one record, by padding (RFC 7685).
    `hybrid`: with a key share of X25519MLKEM768, 1216 octets."""
    shares = u16(0x11ec) + sized(b"\x5a" * 1216) if hybrid else b""
    shares += u16(29) + sized(b"\x5a" * 32)
    extensions = b"".join([
        extension(0, sized(b"\0" + sized(name.encode()))),
        extension(23), extension(0xff01, b"\0"),
        extension(10, sized(b"\x11\xec\0\x1d\0\x17\0\x18")), extension(11, b"\1\0"), extension(35),
        extension(16, sized(b"\2h2\x08http/1.1")),
        extension(5, b"\1\0\0\0\0"), extension(13, sized(b"\4\3\x08\4\4\1\5\3")), extension(18),
        extension(51, sized(shares)), extension(45, b"\1\1"), extension(43, b"\4\3\4\3\3")])
    padding = length - len(record(extensions)) - 4
    assert padding >= 0, "too long by %d" % -padding
    return record(extensions + extension(21, bytes(padding)))


def http(host):
    return "\r\n".join([
        "GET /articles/2026/11/index.html?page=2 HTTP/1.1",
        "Host: " + host,
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Connection: keep-alive",
        "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
        "Upgrade-Insecure-Requests: 1", "", ""]).encode()
