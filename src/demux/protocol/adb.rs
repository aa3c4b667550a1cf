//! Android Debug Bridge: a message header of six little-endian words, the last
//! of them the first one inverted ("protocol.txt" in Android's adb).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk};

/// `CNXN` opens a connection, `STLS` asks for TLS. Old clients send a header of
/// zeros first.
pub fn walk(walk: &mut Walk) -> Step<()> {
    let openings: [&[u8]; 3] = [b"CNXN", b"STLS", &[0; 20]];
    match walk.one_of(&openings)? {
        0 => inverted(walk, b"CNXN"),
        1 => inverted(walk, b"STLS"),
        _ => walk.literal(&[0xff; 4]),
    }
}

/// Goes over two arguments, a length and a checksum to the inverted command.
fn inverted(walk: &mut Walk, command: &[u8; 4]) -> Step<()> {
    walk.skip(4 * 4);
    walk.literal(&command.map(|octet| !octet))
}
