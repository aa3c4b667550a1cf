//! Stands in for the readers of names and regular expressions in `demux`.
#![forbid(unsafe_code)]

use crate::demux::names::Pattern;

pub fn pattern(text: &str) -> Result<Pattern, String> {
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let plain = |name: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        !name.is_empty() && name.bytes().all(good)
    };
    let (rest, make): (&str, fn(String) -> Pattern) = match lower.strip_prefix("**.") {
        Some(rest) => (rest, Pattern::Depth),
        None => match lower.strip_prefix("*.") {
            Some(rest) => (rest, Pattern::Label),
            None => (&lower, Pattern::Exact),
        },
    };
    if plain(rest) {
        return Ok(make(rest.to_owned()));
    }
    Err(format!("\"{text}\" is no host name"))
}

pub fn compile(patterns: &[String]) -> Result<(), String> {
    let bad = patterns.iter().find(|pattern| pattern.contains("(("));
    bad.map_or(Ok(()), |bad| Err(format!("\"{bad}\" is no regex")))
}
