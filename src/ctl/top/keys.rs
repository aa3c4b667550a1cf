//! From the bytes of a terminal to keys; pure.
#![forbid(unsafe_code)]

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    /// Out of here: Escape, Backspace, the left arrow.
    Back,
    /// Control and C.
    Interrupt,
    /// Control and Z.
    Suspend,
    /// Control and L: something else wrote on the screen.
    Redraw,
}

const ESCAPE: u8 = 0x1b;

/// The keys in what was read at once. A terminal sends the bytes of a key in
/// one piece, so an escape with nothing after it is the key of that name.
#[must_use]
pub fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let key;
        (key, bytes) = match (first, rest) {
            (&ESCAPE, [b'[', rest @ ..]) => sequence(rest),
            (&ESCAPE, [b'O', last, rest @ ..]) => (arrow(*last), rest),
            // Alt and a key: the key does not count.
            (&ESCAPE, [_, rest @ ..]) => (None, rest),
            (&ESCAPE, []) => (Some(Key::Back), rest),
            (byte, rest) => (plain(*byte), rest),
        };
        keys.extend(key);
    }
    keys
}

fn plain(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        0x03 => Key::Interrupt,
        0x08 | 0x7f => Key::Back,
        0x0c => Key::Redraw,
        0x1a => Key::Suspend,
        b' '..=b'~' => Key::Char(byte.into()),
        _ => return None,
    })
}

/// What follows `ESC [`: numbers up to a last byte that is none.
fn sequence(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let Some(end) = bytes.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        return (None, &[]);
    };
    let (numbers, rest) = (&bytes[..end], &bytes[end + 1..]);
    let key = match (numbers, bytes[end]) {
        (b"1" | b"7", b'~') => Some(Key::Home),
        (b"4" | b"8", b'~') => Some(Key::End),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        (b"", last) => arrow(last),
        _ => None,
    };
    (key, rest)
}

fn arrow(last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Enter,
        b'D' => Key::Back,
        b'H' => Key::Home,
        b'F' => Key::End,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_sequences() {
        for (bytes, expected) in [
            (&b"sq"[..], &[Key::Char('s'), Key::Char('q')][..]),
            (b"\x1b[A\x1b[B", &[Key::Up, Key::Down]),
            (b"\x1bOA\x1bOB", &[Key::Up, Key::Down]),
            (b"\x1b[5~\x1b[6~", &[Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[F\x1b[1~", &[Key::Home, Key::End, Key::Home]),
            (b"\r \x7f", &[Key::Enter, Key::Char(' '), Key::Back]),
            (
                b"\x03\x1a\x0c",
                &[Key::Interrupt, Key::Suspend, Key::Redraw],
            ),
            (b"\x1b", &[Key::Back]),
            // Control and an arrow, Alt and y, a function key, half a sequence, ü.
            (b"\x1b[1;5A\x1by\x1b[15~j", &[Key::Char('j')]),
            (b"\x1b[1;", &[]),
            ("ü".as_bytes(), &[]),
            (b"", &[]),
        ] {
            assert_eq!(keys(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn no_bytes_are_too_strange() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                let _ = keys(&[ESCAPE, first, second]);
                let _ = keys(&[first, ESCAPE, b'[', second]);
            }
        }
    }
}
