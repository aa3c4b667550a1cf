//! What the datagrams of each protocol look like.
//!
//! Not only the first one: every datagram that a client sends during an
//! exchange must pass, for nobody remembers where the earlier ones went.
#![forbid(unsafe_code)]

use super::Inexpressible;
use super::tree::{Test, Tests, Width};
use crate::demux::names::Pattern;
use crate::demux::rule::{Dns, Quic, Tftp};
use crate::demux::{Content, Protocol};

pub(super) fn compile(content: &Content) -> Result<Tests, Inexpressible> {
    Ok(match content {
        Content::Is(protocol) => return is(*protocol),
        Content::Tls(_) => return Err(Inexpressible::Stream("tls")),
        Content::Http(_) => return Err(Inexpressible::Stream("http")),
        Content::Socks(_) => return Err(Inexpressible::Stream("socks")),
        Content::Regex(_) => return Err(Inexpressible::Regex),
        Content::Dns(want) => return dns(want),
        Content::Quic(want) => return quic(want),
        Content::Tftp(want) => tftp(want),
        Content::Prefix(prefixes) => any(prefixes.iter().map(|prefix| text(0, prefix))),
    })
}

fn is(protocol: Protocol) -> Result<Tests, Inexpressible> {
    let stream = match protocol {
        Protocol::Syslog => return Ok(syslog()),
        Protocol::Openvpn => return Ok(openvpn()),
        Protocol::Sip => return Ok(sip()),
        Protocol::Stun => return Ok(stun()),
        Protocol::Wireguard => return Ok(wireguard()),
        Protocol::Dtls => return Ok(dtls()),
        Protocol::Radius => return Ok(radius()),
        Protocol::Ntp => return Ok(ntp()),
        Protocol::Http2 => "http2",
        Protocol::Ssh => "ssh",
        Protocol::Postgres => "postgres",
        Protocol::Rdp => "rdp",
        Protocol::Mqtt => "mqtt",
        Protocol::Xmpp => "xmpp",
        Protocol::Rtmp => "rtmp",
        Protocol::Bittorrent => "bittorrent",
        Protocol::Redis => "redis",
        Protocol::Git => "git",
        Protocol::Rsync => "rsync",
        Protocol::Adb => "adb",
        Protocol::Ldap => "ldap",
        Protocol::Amqp => "amqp",
        Protocol::Rtsp => "rtsp",
    };
    Err(Inexpressible::Stream(stream))
}

fn all(tests: impl IntoIterator<Item = Tests>) -> Tests {
    Tests::All(tests.into_iter().collect())
}

fn any(tests: impl IntoIterator<Item = Tests>) -> Tests {
    Tests::Any(tests.into_iter().collect())
}

fn length(low: u32, high: u32) -> Tests {
    Tests::One(Test::Length(low, high))
}

fn at_least(low: u32) -> Tests {
    length(low, u32::MAX)
}

fn masked(at: u32, width: Width, mask: u32, low: u32, high: u32) -> Tests {
    Tests::One(Test::Number {
        at,
        width,
        mask,
        low,
        high,
    })
}

fn byte(at: u32, value: u8) -> Tests {
    octets(at, value, value)
}

/// One octet between two values.
fn octets(at: u32, low: u8, high: u8) -> Tests {
    masked(at, Width::One, 0xff, low.into(), high.into())
}

/// Some bits of one octet.
fn bits(at: u32, mask: u8, value: u8) -> Tests {
    masked(at, Width::One, mask.into(), value.into(), value.into())
}

fn half(at: u32, value: u16) -> Tests {
    masked(at, Width::Two, 0xffff, value.into(), value.into())
}

fn word(at: u32, value: u32) -> Tests {
    masked(at, Width::Four, u32::MAX, value, value)
}

/// The two octets at `at` and `plus` are the payload's length, or up to `slack` less.
fn announced(at: u32, plus: u32, slack: u32) -> Tests {
    Tests::One(Test::Announced { at, plus, slack })
}

/// No bound for what may follow an announced length.
const MORE: u32 = 0xffff;

/// These octets.
fn text(at: u32, text: &[u8]) -> Tests {
    compare(at, text, |_| 0xff)
}

/// These octets, letters in either case.
fn text_in_any_case(at: u32, text: &[u8]) -> Tests {
    compare(at, text, |octet| {
        if octet.is_ascii_alphabetic() {
            0xdf
        } else {
            0xff
        }
    })
}

/// As few loads as can be: words, then the rest.
fn compare(at: u32, text: &[u8], mask: fn(u8) -> u8) -> Tests {
    let mut tests = Vec::new();
    let (mut at, mut rest) = (at, text);
    while !rest.is_empty() {
        let (width, octets) = match rest.len() {
            1 => (Width::One, 1),
            2 | 3 => (Width::Two, 2),
            _ => (Width::Four, 4),
        };
        let (now, later) = rest.split_at(octets);
        let number = |of: fn(u8, u8) -> u8| {
            now.iter()
                .fold(0, |n, octet| n << 8 | u32::from(of(*octet, mask(*octet))))
        };
        let (value, mask) = (number(|octet, mask| octet & mask), number(|_, mask| mask));
        tests.push(masked(at, width, mask, value, value));
        at = at.saturating_add(width.octets());
        rest = later;
    }
    Tests::All(tests)
}

/// A query (RFC 1035, 4.1), NOTIFY (RFC 1996) or UPDATE (RFC 2136), as
/// [`crate::demux::dns`] reads them: one question, which comes first of all.
/// What stands behind a name whose length is not known is not looked at.
fn dns(want: &Dns) -> Result<Tests, Inexpressible> {
    const QUESTION: u32 = 12;
    let upto = |at, most| masked(at, Width::Two, 0xffff, 0, most);
    // QR, opcode, AA (of NOTIFY alone) and TC.
    let query = all([bits(2, 0xfe, 0), half(6, 0), upto(8, 1)]);
    let notify = all([bits(2, 0xfa, 4 << 3), upto(6, 255), upto(8, 255)]);
    let update = bits(2, 0xfe, 5 << 3);
    let mut tests = vec![
        any([query, notify, update]),
        // The reserved bit and the response code.
        bits(3, 0x4f, 0),
        half(4, 1),
        upto(10, 255),
        // A label, not a pointer; the root, its type and class at the least.
        octets(QUESTION, 0, 63),
        at_least(QUESTION + 5),
    ];
    if want.name.is_empty() {
        if !want.r#type.is_empty() {
            return Err(Inexpressible::TypeWithoutName);
        }
        return Ok(Tests::All(tests));
    }
    let mut names = Vec::new();
    for pattern in &want.name {
        let wire = question(pattern)?;
        let behind = QUESTION + u32::try_from(wire.len()).unwrap_or(u32::MAX);
        let types = any(want.r#type.iter().map(|code| half(behind, *code)));
        let classes = [1, 3, 4, 254, 255].map(|class| half(behind + 2, class));
        // Without records behind the question, nothing else follows it.
        let records = [6, 8, 10].map(|count| masked(count, Width::Two, 0xffff, 1, 0xffff));
        let end = length(behind + 4, behind + 4);
        names.push(all([
            text_in_any_case(QUESTION, &wire),
            any(classes),
            any(records.into_iter().chain([end])),
            if want.r#type.is_empty() {
                all([])
            } else {
                types
            },
        ]));
    }
    tests.push(Tests::Any(names));
    Ok(Tests::All(tests))
}

/// A name as labels with their lengths, the root's included.
fn question(pattern: &Pattern) -> Result<Vec<u8>, Inexpressible> {
    let name = match pattern {
        Pattern::Exact(name) => name,
        Pattern::Label(suffix) => return Err(Inexpressible::WildcardName(format!("*.{suffix}"))),
        Pattern::Depth(suffix) => return Err(Inexpressible::WildcardName(format!("**.{suffix}"))),
    };
    let bad = || Inexpressible::BadName(name.clone());
    let mut wire = Vec::new();
    for label in name.split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len()).map_err(|_| bad())?;
        if !(1..=63).contains(&length) {
            return Err(bad());
        }
        wire.push(length);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    if wire.len() > 255 {
        return Err(bad());
    }
    Ok(wire)
}

/// RFC 9000, 17: the fixed bit is set in both. A long header has a version and
/// two lengths of connection ids; a short one protects 20 octets at the least.
fn quic(want: &Quic) -> Result<Tests, Inexpressible> {
    let version = any(want.version.iter().map(|version| word(1, *version)));
    let long = all([
        bits(0, 0xc0, 0xc0),
        at_least(7),
        if want.version.is_empty() {
            all([])
        } else {
            version
        },
    ]);
    let short = all([bits(0, 0xc0, 0x40), at_least(21)]);
    match want.long {
        Some(true) => Ok(long),
        Some(false) if want.version.is_empty() => Ok(short),
        Some(false) => Err(Inexpressible::VersionOfShortHeaders),
        None => Ok(any([long, short])),
    }
}

/// RFC 1350, 5: opcode, file name, NUL, mode, NUL. `mail` is the shortest mode.
fn tftp(want: &Tftp) -> Tests {
    let opcode = match want.write {
        Some(true) => half(0, 2),
        Some(false) => half(0, 1),
        None => masked(0, Width::Two, 0xffff, 1, 2),
    };
    if want.file.is_empty() {
        return all([opcode, octets(2, 1, 0xff), at_least(2 + 1 + 1 + 5)]);
    }
    let files = want.file.iter().map(|file| {
        let mut name = file.clone().into_bytes();
        name.push(0);
        let behind = 2 + u32::try_from(name.len()).unwrap_or(u32::MAX / 2);
        all([text(2, &name), at_least(behind + 5)])
    });
    all([opcode, any(files)])
}

/// RFC 3164 and 5424: `<`, a priority up to 191, `>`. Leading zeroes pass.
fn syslog() -> Tests {
    let digit = |at| octets(at, b'0', b'9');
    let three = any([
        all([byte(1, b'0'), digit(2)]),
        all([byte(1, b'1'), octets(2, b'0', b'8')]),
        all([byte(1, b'1'), byte(2, b'9'), octets(3, b'0', b'1')]),
    ]);
    all([
        byte(0, b'<'),
        any([
            all([digit(1), byte(2, b'>')]),
            all([digit(1), digit(2), byte(3, b'>')]),
            all([three, digit(3), byte(4, b'>')]),
        ]),
    ])
}

/// Methods of RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903 and 6086.
const SIP_METHODS: [&str; 14] = [
    "INVITE ",
    "REGISTER ",
    "OPTIONS ",
    "ACK ",
    "BYE ",
    "CANCEL ",
    "PRACK ",
    "SUBSCRIBE ",
    "NOTIFY ",
    "PUBLISH ",
    "INFO ",
    "REFER ",
    "MESSAGE ",
    "UPDATE ",
];

/// RFC 3261, 7: a method and a URI, which a letter begins (so that SSDP's
/// `NOTIFY *` does not pass), or a response.
fn sip() -> Tests {
    let requests = SIP_METHODS.iter().map(|method| {
        let uri = u32::try_from(method.len()).unwrap_or(0);
        let letter = masked(uri, Width::One, 0xdf, b'A'.into(), b'Z'.into());
        all([text(0, method.as_bytes()), letter])
    });
    any(requests.chain([text(0, b"SIP/2.0 ")]))
}

/// RFC 8489, 5: two bits 0, the cookie, a length that fits; and what a client
/// of TURN sends through a channel (RFC 8656, 12.4 and 12.5), padded or not.
fn stun() -> Tests {
    const COOKIE: u32 = 0x2112_a442;
    let message = all([
        bits(0, 0xc0, 0),
        word(4, COOKIE),
        bits(3, 0x03, 0),
        announced(2, 20, 0),
    ]);
    let channel = all([octets(0, 0x40, 0x4f), announced(2, 4, 3)]);
    any([message, channel])
}

/// The message formats of the protocol's paper, 5.4: type, three octets 0.
/// Responses, cookies and data too: a peer that roams begins with any of them.
fn wireguard() -> Tests {
    let data = all([
        word(0, 0x0400_0000),
        at_least(32),
        Tests::One(Test::MultipleOf(16)),
    ]);
    any([
        all([length(148, 148), word(0, 0x0100_0000)]),
        all([length(92, 92), word(0, 0x0200_0000)]),
        all([length(64, 64), word(0, 0x0300_0000)]),
        data,
    ])
}

/// RFC 6347, 4.1 and RFC 9146: a record with version 1.0 or 1.2 (and 1.3's
/// draft), whose length fits where its place is known; or RFC 9147, 4: the
/// unified header with a length. One without it, or with a connection id (of
/// unknown size), could as well be NTP, OpenVPN or syslog, and does not pass.
fn dtls() -> Tests {
    let version = masked(1, Width::Two, 0xffff, 0xfefc, 0xfeff);
    let with_length = any([octets(0, 20, 24), byte(0, 26)]);
    let record = all([
        version,
        any([
            all([with_length, announced(11, 13, MORE)]),
            all([byte(0, 25), at_least(13)]),
        ]),
    ]);
    // Bits 001CSLEE: no connection id, 8 or 16 bits of sequence number, a
    // length. 16 octets of ciphertext are there at the least.
    let unified = any([
        all([bits(0, 0xfc, 0x2c), announced(3, 5, MORE)]),
        all([bits(0, 0xfc, 0x24), announced(2, 4, MORE)]),
    ]);
    any([record, all([unified, at_least(18)])])
}

/// RFC 2865, 3: what a client sends (RFC 2866 and 5997 too). A datagram may
/// have padding behind the length that it says.
fn radius() -> Tests {
    all([
        any([byte(0, 1), byte(0, 4), byte(0, 12)]),
        masked(2, Width::Two, 0xffff, 20, 4096),
        announced(2, 0, MORE),
    ])
}

/// RFC 5905, 7.3: version 1 to 4, symmetric active or client; extensions and
/// the MAC are whole words.
fn ntp() -> Tests {
    all([
        masked(0, Width::One, 0x38, 0x08, 0x20),
        any([bits(0, 0x07, 3), bits(0, 0x07, 1)]),
        at_least(48),
        Tests::One(Test::MultipleOf(4)),
    ])
}

/// OpenVPN's `ssl_pkt.h`: opcode and key id share an octet; control packets go
/// on with a session id that is not 0. A reset begins with key 0. Data has a
/// packet id and a tag at the least.
fn openvpn() -> Tests {
    let of = |opcode: u8| octets(0, opcode << 3, opcode << 3 | 7);
    let resets = any([byte(0, 1 << 3), byte(0, 7 << 3), byte(0, 10 << 3)]);
    let nonzero = |at| masked(at, Width::Four, u32::MAX, 1, u32::MAX);
    let control = all([
        any([resets, of(3), of(4), of(5), of(11)]),
        any([nonzero(1), nonzero(5)]),
        at_least(14),
    ]);
    let data = any([all([of(6), at_least(21)]), all([of(9), at_least(24)])]);
    any([control, data])
}
