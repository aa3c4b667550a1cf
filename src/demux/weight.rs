//! How much a match pins down, where several rules of one rank hold: a name
//! weighs more than any path, a longer one more than a shorter one.
#![forbid(unsafe_code)]

use super::Content;
use super::names::Pattern;

/// Weights are compared, nothing else; 0 is that of rules without names and paths.
pub type Weight = u32;

#[must_use]
pub fn of_name(pattern: &Pattern) -> Weight {
    u32::from(pattern.weight()) << 16
}

#[must_use]
pub fn of_path(path: &str) -> Weight {
    u32::from(u16::try_from(path.len().saturating_add(1)).unwrap_or(u16::MAX))
}

/// The names and paths that a content asks for.
#[must_use]
pub fn parts_of(content: &Content) -> (&[Pattern], &[String]) {
    match content {
        Content::Tls(tls) => (&tls.sni, &[]),
        Content::Http(http) => (&http.host, &http.path),
        Content::Dns(dns) => (&dns.name, &[]),
        Content::Is(_)
        | Content::Socks(_)
        | Content::Quic(_)
        | Content::Tftp(_)
        | Content::Prefix(_)
        | Content::Regex(_) => (&[], &[]),
    }
}

/// The most that a match of all of these can weigh.
#[must_use]
pub fn heaviest(contents: &[Content]) -> Weight {
    let of = |content: &Content| {
        let (names, paths) = parts_of(content);
        let name = names.iter().map(of_name).max().unwrap_or(0);
        name | paths.iter().map(|path| of_path(path)).max().unwrap_or(0)
    };
    contents.iter().map(of).max().unwrap_or(0)
}
