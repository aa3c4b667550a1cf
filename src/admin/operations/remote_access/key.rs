//! Public keys of OpenSSH and lines of authorized_keys; see sshd(8).
#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};

/// A key that sshd would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub kind: String,
    /// As in the file, in base64.
    pub text: String,
    /// `SHA256:...`, as ssh-keygen(1) shows it.
    pub fingerprint: String,
}

/// Kinds of keys, and how many fields each has after its name.
const KINDS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// OpenSSH has refused shorter ones since 2017 (1024), and nobody should use these.
const SHORTEST_RSA: usize = 2048;

impl Key {
    /// `KIND BASE64`; fails with what is wrong with it.
    pub fn parse(kind: &str, text: &str) -> Result<Self, String> {
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, count) = known.ok_or_else(|| format!("{kind} is no kind of key that is taken"))?;
        let blob = decode(text).ok_or("its second word is no base64")?;
        let fields = fields(&blob).ok_or("it is cut off, or has something behind it")?;
        let [name, rest @ ..] = &fields[..] else {
            return Err("there is nothing in it".into());
        };
        if *name != kind.as_bytes() {
            let inner = String::from_utf8_lossy(name);
            return Err(format!("it says {kind} and is {inner}"));
        }
        if rest.len() != *count {
            return Err("it is cut off, or has something behind it".into());
        }
        let fits = match kind {
            "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => rest[0].len() == 32,
            "ssh-rsa" => bits(rest[1]) >= SHORTEST_RSA && bits(rest[1]) <= 16_384,
            // The curve's name, and a point that is not compressed.
            _ => kind.contains(&*String::from_utf8_lossy(rest[0])) && rest[1].first() == Some(&4),
        };
        if !fits {
            return Err(match kind {
                "ssh-rsa" => format!("it has not the {SHORTEST_RSA} bits that RSA takes at least"),
                _ => "its length is wrong".into(),
            });
        }
        Ok(Self {
            kind: kind.to_owned(),
            text: text.to_owned(),
            fingerprint: fingerprint(&blob),
        })
    }
}

/// A line of authorized_keys that has a key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub options: Option<String>,
    pub kind: String,
    pub fingerprint: String,
    pub comment: String,
}

impl Line {
    /// `None`: a comment, nothing, or nothing that can be read.
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let first = word(line)?;
        // sshd(8): options are there if the line does not begin with a kind of key.
        let is_kind = |word: &str| decode_kind(word);
        let (options, rest) = match is_kind(first) {
            true => (None, line),
            false => (Some(first.to_owned()), line[first.len()..].trim_start()),
        };
        let mut words = rest.splitn(3, [' ', '\t']);
        let (kind, text) = (words.next()?, words.next()?);
        let blob = is_kind(kind).then(|| decode(text))??;
        Some(Self {
            options,
            kind: kind.to_owned(),
            fingerprint: fingerprint(&blob),
            comment: words.next().unwrap_or_default().trim().to_owned(),
        })
    }

    /// The value of `NAME="VALUE"` among the options.
    pub fn option(&self, name: &str) -> Option<&str> {
        let mut rest = self.options.as_deref()?;
        while !rest.is_empty() {
            let end = end_of(rest, ',');
            let (one, behind) = rest.split_at(end);
            if let Some((known, value)) = one.split_once('=')
                && known.eq_ignore_ascii_case(name)
            {
                return value.strip_prefix('"')?.strip_suffix('"');
            }
            rest = behind.strip_prefix(',').unwrap_or_default();
        }
        None
    }
}

/// Any kind, of certificates and of keys that are not taken any more too.
fn decode_kind(word: &str) -> bool {
    let starts = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    starts.iter().any(|start| word.starts_with(start)) && !word.contains(['"', ',', '='])
}

/// The first word; quoted blanks are part of it.
fn word(line: &str) -> Option<&str> {
    let end = end_of(line, ' ').min(end_of(line, '\t'));
    (end < line.len()).then(|| &line[..end])
}

/// Where `stop` is for the first time outside of quotes; a quote after `\` is none.
fn end_of(text: &str, stop: char) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == stop && !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// RFC 4251, 5: strings with their length before them; all of it.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        all.push(field);
        blob = rest;
    }
    Some(all)
}

/// Of a positive number in two's complement.
fn bits(number: &[u8]) -> usize {
    let number = match number {
        [0, rest @ ..] => rest,
        all => all,
    };
    let first = number
        .first()
        .map_or(0, |first| first.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(first)
}

pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", encode(&Sha256::digest(blob)))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, without `=` at the end.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().enumerate();
        let number = number.fold(0, |sum, (at, byte)| sum | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=group.len() {
            let index = number >> (18 - 6 * at) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

/// RFC 4648, whole groups, `=` at the end alone.
fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let bare = text.trim_end_matches('=');
    if text.len() - bare.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(bare.len() * 3 / 4);
    for group in bare.as_bytes().chunks(4) {
        let mut number = 0u32;
        for (at, c) in group.iter().enumerate() {
            let value = ALPHABET.iter().position(|known| known == c)?;
            number |= u32::try_from(value).ok()? << (18 - 6 * at);
        }
        let [_, one, two, three] = number.to_be_bytes();
        bytes.extend(&[one, two, three][..group.len() - 1]);
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOPwU8297bH1/L1dqTqQVwATcJWQYfT1QD/kDDIAMZgY";
    const FINGERPRINT: &str = "SHA256:6O6/HZEFU9ZO7hpSYqmdEAg7Iw+n/IRnU26A1mNV0kw";

    #[test]
    fn a_key_has_the_fingerprint_that_ssh_keygen_shows() {
        let key = Key::parse("ssh-ed25519", KEY).unwrap();
        assert_eq!(key.fingerprint, FINGERPRINT);
    }

    #[test]
    fn what_is_no_key_is_not_taken() {
        let blob = decode(KEY).unwrap();
        assert_eq!(encode(&blob), KEY);
        let text = |bytes: &[u8]| {
            let bare = encode(bytes);
            let pad = (4 - bare.len() % 4) % 4;
            bare + &"="[..].repeat(pad)
        };
        let is_bad = |kind: &str, text: &str| Key::parse(kind, text).is_err();
        assert!(is_bad("ssh-rsa", KEY));
        assert!(is_bad("ssh-dss", KEY));
        assert!(is_bad("ssh-ed25519", "not base64"));
        for cut in 0..blob.len() {
            assert!(is_bad("ssh-ed25519", &text(&blob[..cut])), "{cut}");
        }
        let more = [&blob[..], b"\0\0\0\x01x"].concat();
        assert!(is_bad("ssh-ed25519", &text(&more)));
        let rsa = |octets: usize| {
            let mut blob = Vec::new();
            let number = [&[0][..], &vec![0x80; octets]].concat();
            for field in [&b"ssh-rsa"[..], &[1, 0, 1], &number] {
                blob.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
                blob.extend(field);
            }
            Key::parse("ssh-rsa", &text(&blob))
        };
        assert!(rsa(256).is_ok());
        assert!(rsa(128).unwrap_err().contains("2048"));
    }

    #[test]
    fn base64_is_whole_or_nothing() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
            assert_eq!(encode(bytes.as_bytes()), text.trim_end_matches('='));
        }
        for odd in [
            "Z", "Zg", "Zg=", "Zg===", "====", "Zg==Zg==", "Zm 9", "Zm9\n", "Zä==",
        ] {
            assert_eq!(decode(odd), None, "{odd}");
        }
    }

    #[test]
    fn lines_are_read_as_sshd_reads_them() {
        let plain = Line::parse(&format!("ssh-ed25519 {KEY} me@x  y")).unwrap();
        assert_eq!((plain.options, &*plain.comment), (None, "me@x  y"));
        assert_eq!(plain.fingerprint, FINGERPRINT);
        let text = format!(
            "restrict,command=\"echo \\\"a, b\\\" c\",Expiry-Time=\"20300101Z\"  ssh-ed25519 {KEY}"
        );
        let line = Line::parse(&text).unwrap();
        assert_eq!(line.option("expiry-time"), Some("20300101Z"));
        assert_eq!(line.option("command"), Some("echo \\\"a, b\\\" c"));
        assert_eq!(line.option("from"), None);
        for none in [
            "",
            "# ssh-ed25519 AAAA",
            "ssh-ed25519",
            "odd words here",
            "restrict ssh-ed25519 x",
        ] {
            assert_eq!(Line::parse(none), None, "{none}");
        }
    }
}
