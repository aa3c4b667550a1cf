//! Builds hellos octet by octet, for tests of rules and of the engine.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

pub fn u16b(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap().to_be_bytes()
}

pub fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &u16b(data.len()), data].concat()
}

pub fn sni_entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16b(name.len()), name].concat()
}

pub fn sni_list(entries: &[Vec<u8>]) -> Vec<u8> {
    let list = entries.concat();
    extension(0, &[&u16b(list.len())[..], &list].concat())
}

pub fn sni(name: &str) -> Vec<u8> {
    sni_list(&[sni_entry(0, name.as_bytes())])
}

pub fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[u8::try_from(name.len()).unwrap()], *name].concat())
        .collect();
    extension(16, &[&u16b(list.len())[..], &list].concat())
}

pub fn versions(offered: &[u16]) -> Vec<u8> {
    let list: Vec<u8> = offered.iter().flat_map(|v| v.to_be_bytes()).collect();
    extension(
        43,
        &[&[u8::try_from(list.len()).unwrap()][..], &list].concat(),
    )
}

/// A handshake message with `extensions`; `None`: it ends before them.
pub fn message(version: u16, extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([0x5a; 32]);
    body.push(32);
    body.extend([0xa5; 32]);
    body.extend([0, 4, 0x0a, 0x0a, 0x13, 0x01, 1, 0]);
    if let Some(extensions) = extensions {
        let block = extensions.concat();
        body.extend(u16b(block.len()));
        body.extend(block);
    }
    [&[1, 0][..], &u16b(body.len()), &body].concat()
}

pub fn record(fragment: &[u8]) -> Vec<u8> {
    [&[0x16, 3, 1][..], &u16b(fragment.len()), fragment].concat()
}

/// `message` cut into fragments of these sizes; what is left goes into the last record.
pub fn in_records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut rest = message;
    let mut bytes = Vec::new();
    for &size in sizes {
        let (fragment, after) = rest.split_at(size.min(rest.len()));
        bytes.extend(record(fragment));
        rest = after;
    }
    if !rest.is_empty() {
        bytes.extend(record(rest));
    }
    bytes
}

pub fn usual() -> Vec<Vec<u8>> {
    vec![
        extension(0x1a1a, &[]),
        sni("Shop.Example."),
        extension(51, &[0x77; 1216 + 36]),
        alpn(&[b"h2", b"http/1.1"]),
        versions(&[0x2a2a, 0x0304, 0x0303]),
        extension(0xfe0d, &[0; 200]),
        extension(0xfafa, &[0]),
    ]
}

pub fn usual_message() -> Vec<u8> {
    message(0x0303, Some(&usual()))
}

pub fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
    record(&message(0x0303, Some(extensions)))
}

pub fn old(version: [u8; 2], lengths: [usize; 3]) -> Vec<u8> {
    let octets = 9 + lengths.iter().sum::<usize>();
    let mut bytes = vec![
        0x80 | u8::try_from(octets >> 8).unwrap(),
        u8::try_from(octets & 0xff).unwrap(),
        1,
    ];
    bytes.extend(version);
    for length in lengths {
        bytes.extend(u16b(length));
    }
    bytes.extend(vec![7; octets - 9]);
    bytes
}
