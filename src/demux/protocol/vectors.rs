//! First flights, made up for these tests after the specifications.
#![forbid(unsafe_code)]

use crate::demux::rule::Protocol;

/// Octets after which a protocol is certain, and a whole first flight.
pub struct Flight {
    pub protocol: Protocol,
    pub decided: usize,
    pub bytes: Vec<u8>,
}

fn flight(protocol: Protocol, decided: usize, parts: &[&[u8]]) -> Flight {
    Flight {
        protocol,
        decided,
        bytes: parts.concat(),
    }
}

/// What clients send first, at least one for every protocol of streams.
pub fn flights() -> Vec<Flight> {
    let mut all = texts();
    all.extend(binaries());
    all.extend(openvpn());
    all
}

fn texts() -> Vec<Flight> {
    use Protocol::*;
    let long = format!("sip:{}@a.test SIP/2.0\r\n", "x".repeat(4000));
    vec![
        flight(
            Http2,
            24,
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"],
        ),
        flight(Ssh, 4, &[b"SSH-2.0-OpenSSH_9.9\r\n"]),
        flight(Ssh, 4, &[b"SSH-1.99-old\n"]),
        flight(
            Xmpp,
            15,
            &[b"<stream:stream to='a.test' xmlns='jabber:client'>"],
        ),
        flight(
            Xmpp,
            36,
            &[b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' version='1.0'>"],
        ),
        flight(
            Xmpp,
            61,
            &[
                "\u{feff}\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n \t<stream:stream\n"
                    .as_bytes(),
                b" from='b.test'>",
            ],
        ),
        flight(
            Syslog,
            4,
            &[b"<34>1 2026-01-02T03:04:05Z host app - - - hello\n"],
        ),
        flight(Syslog, 3, &[b"<0>kernel: out of memory"]),
        flight(
            Syslog,
            8,
            &[b"63 <191>1 2026-01-02T03:04:05.003Z host su - ID47 - 'su root'"],
        ),
        flight(Redis, 8, &[b"*1\r\n$4\r\nPING\r\n"]),
        flight(
            Redis,
            9,
            &[b"*3\r\n$10\r\nPUBSUBLIKE\r\n$1\r\na\r\n$1\r\nb\r\n"],
        ),
        flight(
            Git,
            20,
            &[b"0033git-upload-pack /project.git\0host=a.test\0\0version=2\0"],
        ),
        flight(
            Git,
            21,
            &[b"002egit-receive-pack /p/q.git\0host=myserver.a\0"],
        ),
        flight(Git, 23, &[b"002Agit-upload-archive /x.git\0host=a.test\0"]),
        flight(Rsync, 8, &[b"@RSYNCD: 31.0 sha512 sha256 md5 md4\n"]),
        flight(
            Sip,
            34,
            &[b"REGISTER sip:a.test:5060 SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1\r\n\r\n"],
        ),
        flight(Sip, 34, &[b"\r\n\r\nINVITE tel:+15550100 SIP/2.0\r\n"]),
        flight(
            Sip,
            33,
            &[b"OPTIONS sips:bob@b.test SIP/2.0\r\nTo: x\r\n\r\n"],
        ),
        flight(
            Sip,
            long.len() + 8,
            &[b"MESSAGE ", long.as_bytes(), b"To: y"],
        ),
        flight(Rtsp, 20, &[b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"]),
        flight(
            Rtsp,
            44,
            &[b"DESCRIBE rtsp://192.0.2.4:554/s/1 RTSP/1.0\r\nCSeq: 2\r\n\r\n"],
        ),
        flight(
            Rtsp,
            40,
            &[b"GET_PARAMETER rtsps://a.test/ RTSP/2.0\r\n\r\n"],
        ),
    ]
}

fn binaries() -> Vec<Flight> {
    use Protocol::*;
    let mut old_adb = [0; 24];
    old_adb[20..].fill(0xff);
    vec![
        flight(Postgres, 8, &[&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]]),
        flight(Postgres, 8, &[&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x30]]),
        flight(
            Postgres,
            8,
            &[&[0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 1, 2, 3, 4, 5, 6]],
        ),
        flight(
            Postgres,
            6,
            &[&[0, 0, 0, 27, 0, 3, 0, 2], b"user\0bob\0database\0d\0\0"],
        ),
        flight(
            Rdp,
            15,
            &[&[
                3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 11, 0, 0, 0,
            ]],
        ),
        flight(
            Rdp,
            12,
            &[
                &[3, 0, 0, 44, 39, 0xe0, 0, 0, 0x12, 0x34, 0],
                b"Cookie: mstshash=user\r\n\x01\x00\x08\x00\x03\0\0\0",
            ],
        ),
        flight(Rdp, 11, &[&[3, 0, 0, 11, 6, 0xe0, 0, 0, 0, 0, 0]]),
        flight(Mqtt, 9, &[b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd"]),
        flight(
            Mqtt,
            10,
            &[
                b"\x10\x90\x01\0\x04MQTT\x05\xc2\0\x3c\0\0\x84",
                &[b'x'; 132],
            ],
        ),
        flight(Mqtt, 11, &[b"\x10\x10\0\x06MQIsdp\x03\x02\0\x3c\0\x02ab"]),
        flight(Mqtt, 9, &[b"\x10\x10\0\x04MQTT\x84\x02\0\x3c\0\x04abcd"]),
        flight(
            Rtmp,
            9,
            &[&[3, 0, 0x12, 0x34, 0x56, 0, 0, 0, 0], &[0xa7; 1528]],
        ),
        flight(Rtmp, 1537, &[&[3, 0, 0, 0, 0, 9, 0, 124, 2], &[0x5e; 1528]]),
        flight(
            Bittorrent,
            20,
            &[b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05", &[0x42; 40]],
        ),
        flight(
            Adb,
            24,
            &[
                b"CNXN\x01\0\0\x01\0\0\x10\0\x07\0\0\0\x32\x02\0\0\xbc\xb1\xa7\xb1",
                b"host::\0",
            ],
        ),
        flight(
            Adb,
            24,
            &[b"STLS\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\xac\xab\xb3\xac"],
        ),
        flight(Adb, 24, &[&old_adb, b"CNXN"]),
        // Bind, the way OpenLDAP and Windows encode it; unbind; extended.
        flight(
            Ldap,
            6,
            &[b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"],
        ),
        flight(
            Ldap,
            10,
            &[b"\x30\x84\0\0\0\x10\x02\x01\x05\x63\x84\0\0\0\x07\x02\x01\x03\x04\0\x80\0"],
        ),
        flight(Ldap, 6, &[b"\x30\x05\x02\x01\x03\x42\0"]),
        flight(
            Ldap,
            8,
            &[
                b"\x30\x1f\x02\x03\x01\0\0\x77\x18\x80\x16",
                b"1.3.6.1.4.1.1466.20037",
            ],
        ),
        flight(Amqp, 5, &[b"AMQP\x00\x00\x09\x01"]),
        flight(Amqp, 5, &[b"AMQP\x03\x01\x00\x00"]),
    ]
}

/// One flight for each way to protect the control channel.
fn openvpn() -> Vec<Flight> {
    use Protocol::Openvpn;
    let time = [0x69, 0x57, 0x3a, 0x01];
    let session = [0x9d; 8];
    vec![
        flight(Openvpn, 16, &[b"\0\x0e\x38", &session, &[0; 5]]),
        // tls-auth: SHA-1, then SHA-256.
        flight(
            Openvpn,
            44,
            &[
                b"\0\x2a\x38",
                &session,
                &[0xc1; 20],
                &[0, 0, 0, 1],
                &time,
                &[0; 5],
            ],
        ),
        flight(
            Openvpn,
            56,
            &[
                b"\0\x36\x38",
                &session,
                &[0xc1; 32],
                &[0, 0, 0, 1],
                &time,
                &[0; 5],
            ],
        ),
        // tls-crypt, and of the second version.
        flight(
            Openvpn,
            15,
            &[b"\0\x36\x38", &session, &[0, 0, 0, 1], &time, &[0xc1; 37]],
        ),
        flight(
            Openvpn,
            15,
            &[
                b"\x01\x58\x50",
                &session,
                &[0x0f, 0, 0, 1],
                &time,
                &[0xc1; 37 + 290],
            ],
        ),
    ]
}

const NEAR_MISSES: &[(Protocol, &[u8])] = {
    use Protocol::*;
    &[
        (Http2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"),
        (Http2, b"PO"),
        (Ssh, b"SSH "),
        (Ssh, b"s"),
        (Postgres, b"\0\x01"),
        (Postgres, b"\0\0\x27\x11"),
        (Postgres, b"\0\0\0\x07"),
        (Postgres, b"\0\0\0\x08\0"),
        (Postgres, b"\0\0\0\x20\0\x02"),
        (Postgres, b"\0\0\0\x09\x04"),
        (Postgres, b"\0\0\0\x08\x04\xd2\x16\x2e"),
        (Postgres, b"\0\0\0\x10\x04\xd2\x16\x2f"),
        (Rdp, b"\x03\x01"),
        (Rdp, b"\x03\x00\x02"),
        (Rdp, b"\x03\x00\x00\x0a"),
        (Rdp, b"\x03\x00\x00\x13\x0f"),
        (Rdp, b"\x03\x00\x00\x13\x0e\xd0"),
        // S7 over the same transport.
        (Rdp, b"\x03\x00\x00\x16\x11\xe0\0\0\0\x01\0\xc1"),
        (Rdp, b"\x03\x00\x00\x12\x0d\xe0\0\0\0\0\0\x01"),
        (Mqtt, b"\x20"),
        (Mqtt, b"\x10\x80\0"),
        (Mqtt, b"\x10\xff\xff\xff\x80"),
        (Mqtt, b"\x10\x0b\0\x04"),
        (Mqtt, b"\x10\x10\0\x04MQI"),
        (Mqtt, b"\x10\x10\0\x04MQTT\x03"),
        (Xmpp, b"<h"),
        (Xmpp, b" \t\n<stream:f"),
        (Xmpp, b"<stream:streams"),
        (Xmpp, b"<?xml-"),
        (Xmpp, b"<?xml version='1.0'?<"),
        (Xmpp, b"<?xml version='1.0'>"),
        (Xmpp, b"<?xml version='1.0'?><h"),
        (Xmpp, b"\xef\xbb<"),
        (Syslog, b"<192"),
        (Syslog, b"<1234"),
        (Syslog, b"<00"),
        (Syslog, b"<>"),
        (Syslog, b"0"),
        (Syslog, b"12\t"),
        (Syslog, b"12 1"),
        (Syslog, b"4 <165>"),
        (Syslog, b"10000000"),
        (Openvpn, b"\0\x0d"),
        (Openvpn, b"\0\x0f"),
        (Openvpn, b"\x05"),
        (Openvpn, b"\0\x0e\x50"),
        (Openvpn, b"\0\x0e\x39"),
        (Openvpn, b"\0\x0e\x38abcdefgh\0\x01"),
        (Rtmp, b"\x06"),
        (Rtmp, b"\x03\0\0\x13\x0e\xe0"),
        (Bittorrent, b"\x13BitTorrent P"),
        (Redis, b"*0"),
        (Redis, b"*-"),
        (Redis, b"*1\n"),
        (Redis, b"*1\r\n+"),
        (Redis, b"*1\r\n$0"),
        (Redis, b"*1048577"),
        (Git, b"003g"),
        (Git, b"fff1"),
        (Git, b"0033git-upload-b"),
        (Git, b"0010git-upload-pack "),
        (Rsync, b"@RSYNCE"),
        (Adb, b"CNXN0000000000000000\xbc\xb1\xa7\xb0"),
        (Adb, b"CNXT"),
        (Adb, &[0, 0, 1]),
        (Ldap, b"\x30\x80"),
        (Ldap, b"\x30\x85"),
        (Ldap, b"\x30\x0c\x02\x05"),
        (Ldap, b"\x30\x0c\x02\x01\0"),
        (Ldap, b"\x30\x0c\x02\x01\x80"),
        // A response, and SNMP.
        (Ldap, b"\x30\x0c\x02\x01\x01\x61"),
        (Ldap, b"\x30\x29\x02\x01\x01\x04"),
        (Ldap, b"\x30\x04\x02\x01\x01\x60"),
        (Amqp, b"AMQP\x04"),
        (Sip, b"SIP/"),
        (Sip, b"GET /"),
        (Sip, b"\r\n\r\n\0"),
        (Sip, b"\r\n\r\n\r"),
        (Sip, b"OPTIONS sip:a SIP/2.0\n"),
        (Sip, b"OPTIONS rtsp://a/ R"),
        (Sip, b"OPTIONS sip: "),
        (Sip, b" "),
        (Rtsp, b"RTSP/"),
        (Rtsp, b"GET /"),
        (Rtsp, b"OPTIONS * H"),
        (Rtsp, b"OPTIONS rtsp:// a"),
        (Rtsp, b"OPTIONS rtspx"),
        (Rtsp, b"PLAY rtsp://a/ RTSP/3"),
        (Rtsp, b"SSH-"),
    ]
};

/// Bytes that a protocol refuses at their last octet and not before.
pub fn near_misses() -> Vec<(Protocol, Vec<u8>)> {
    use Protocol::*;
    let mut all: Vec<_> = NEAR_MISSES
        .iter()
        .map(|&(protocol, bytes)| (protocol, bytes.to_vec()))
        .collect();
    let wrong_packet_id: [&[u8]; 3] = [b"\0\x2a\x38", &[0x11; 28], &[0, 1]];
    all.push((Openvpn, wrong_packet_id.concat()));
    all.push((Xmpp, vec![b' '; 65]));
    all.push((Sip, vec![b'A'; 25]));
    let mut padded = b"<?xml ".to_vec();
    padded.resize(6 + 129, b'a');
    all.push((Xmpp, padded));
    all
}
