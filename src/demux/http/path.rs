//! Path prefixes, compared octet by octet with the path as sent.
#![forbid(unsafe_code)]

/// How much of `path` the longest of `prefixes` pins down (its length and one), `None`
/// if none of them matches.
///
/// `/api` holds for itself and what is below it, `/api/` only for what is below. A path
/// that a server would fold into another (`//`, dot segments, `%2e`) never matches.
#[must_use]
pub fn weight(prefixes: &[String], path: &[u8]) -> Option<u16> {
    if prefixes.is_empty() || is_ambiguous(path) {
        return None;
    }
    let fitting = prefixes
        .iter()
        .filter(|prefix| is_below(path, prefix.as_bytes()));
    fitting
        .map(|prefix| u16::try_from(prefix.len().saturating_add(1)).unwrap_or(u16::MAX))
        .max()
}

fn is_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with(b"/") || rest.is_empty() || rest.starts_with(b"/"))
}

fn is_ambiguous(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"//")
        || path
            .windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"%2e"))
        || path
            .split(|&octet| octet == b'/')
            .any(|segment| segment == b"." || segment == b"..")
}
