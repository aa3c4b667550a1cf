//! Words of rlinetd.conf(5): names, numbers, strings in quotes, addresses, signs.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Number(i64),
    Text(String),
    Address(IpAddr),
    Sign(char),
}

/// A token and its bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub token: Token,
    pub span: Range<usize>,
}

/// All tokens, or the place of what is none.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, (Range<usize>, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = match c {
            _ if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '#' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '{' | '}' | ';' | ',' | '-' => 1,
            '"' => {
                let end = rest[1..].find('"');
                let end = end.ok_or_else(|| (at..at + 1, "this quote is not closed".to_owned()))?;
                end + 2
            }
            _ => rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != ':')
                .unwrap_or(rest.len()),
        };
        let word = &rest[..length.max(c.len_utf8()).min(rest.len())];
        let span = at..at + word.len();
        let token = token(word)
            .ok_or_else(|| (span.clone(), format!("rlinetd knows nothing like {word}")))?;
        at = span.end;
        found.push(Placed { token, span });
    }
    Ok(found)
}

fn token(word: &str) -> Option<Token> {
    if let Some(text) = word.strip_prefix('"') {
        return text
            .strip_suffix('"')
            .map(|text| Token::Text(text.to_owned()));
    }
    if let Some(sign) = word.chars().next().filter(|c| "{};,-".contains(*c)) {
        return Some(Token::Sign(sign));
    }
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return number(word).map(Token::Number);
    }
    if let Some(ip) = address(word) {
        return Some(Token::Address(ip));
    }
    let is_name = word.bytes().all(|b| b.is_ascii_alphanumeric());
    is_name.then(|| Token::Word(word.to_owned()))
}

/// strtol(3) with any base: a leading zero stands for octal.
fn number(word: &str) -> Option<i64> {
    match word.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => word.parse().ok(),
    }
}

fn address(word: &str) -> Option<IpAddr> {
    (word.contains('.') || word.contains(':')).then(|| word.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_word() {
        let text = "service \"a b\" { # why\n port 25, \"x\"; nice -5; mode 0640; interface 192.0.2.1, ::1; }";
        let found: Vec<Token> = tokens(text)
            .unwrap()
            .into_iter()
            .map(|placed| placed.token)
            .collect();
        assert_eq!(found[1], Token::Text("a b".into()));
        assert!(found.contains(&Token::Number(0o640)));
        assert!(found.contains(&Token::Address("::1".parse().unwrap())));
        assert_eq!(found.last(), Some(&Token::Sign('}')));
        assert_eq!(tokens("a \"b").unwrap_err().0, 2..3);
        assert!(tokens("a = b").is_err());
        assert!(tokens("é").is_err());
    }
}
