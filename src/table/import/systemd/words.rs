//! How systemd writes values: command lines with quotes and specifiers, spans of
//! time, sizes.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::unit::Unit;

/// Splits a line into words: quotes around a word, and C's escapes.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => escape(&mut chars, &mut word)?,
                (c, Some(open)) if c == open => quote = None,
                ('"' | '\'', None) => quote = Some(c),
                (c, None) if c.is_whitespace() => break,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return Err(format!("a quote is not closed: {text}"));
        }
        words.push(word);
    }
}

fn escape(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), String> {
    let Some(c) = chars.next() else {
        return Err("there is nothing behind a backslash".to_owned());
    };
    let mut number = |digits: usize, radix: u32, first: Option<char>| {
        let rest: String = chars.by_ref().take(digits).collect();
        let text: String = first.into_iter().chain(rest.chars()).collect();
        let code = u32::from_str_radix(&text, radix)
            .ok()
            .and_then(char::from_u32);
        code.filter(|c| *c != '\0')
            .ok_or_else(|| format!("\\{text} is no character"))
    };
    let c = match c {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' | '`' | '$' => c,
        'x' => number(2, 16, None)?,
        'u' => number(4, 16, None)?,
        'U' => number(8, 16, None)?,
        '0'..='3' => number(2, 8, Some(c))?,
        other => {
            word.push('\\'); // as systemd does, which warns
            other
        }
    };
    word.push(c);
    Ok(())
}

/// Replaces `%i` and its like.
pub(super) fn specify(text: &str, unit: &Unit, accepts: bool) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(specifier) = chars.next() else {
            out.push('%');
            break;
        };
        let stem = unit
            .name
            .rsplit_once('.')
            .map_or(unit.name.as_str(), |(stem, _)| stem);
        let value = match specifier {
            '%' => "%".to_owned(),
            'i' | 'I' if accepts => {
                return Err(format!(
                    "%{specifier} is the number and addresses of a connection"
                ));
            }
            'i' => instance(unit)?,
            'I' => unescape(&instance(unit)?),
            'n' if !accepts => unit.name.clone(),
            'N' if !accepts => stem.to_owned(),
            'p' => stem.split('@').next().unwrap_or(stem).to_owned(),
            'P' => unescape(stem.split('@').next().unwrap_or(stem)),
            't' => "/run".to_owned(),
            'S' => "/var/lib".to_owned(),
            'C' => "/var/cache".to_owned(),
            'L' => "/var/log".to_owned(),
            'E' => "/etc".to_owned(),
            'T' => "/tmp".to_owned(),
            'V' => "/var/tmp".to_owned(),
            other => return Err(format!("usherd does not know what %{other} stands for")),
        };
        out.push_str(&value);
    }
    Ok(out)
}

fn instance(unit: &Unit) -> Result<String, String> {
    let instance = unit.instance().filter(|instance| !instance.is_empty());
    instance.map(str::to_owned).ok_or_else(|| {
        "a template has no instance: name one, as in NAME@INSTANCE.socket".to_owned()
    })
}

/// systemd-escape(1), backwards.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = rest
            .strip_prefix(b"\\x")
            .and_then(|hex| hex.get(..2))
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &rest[4..];
            }
            None => {
                out.push(if *first == b'-' { b'/' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// systemd.time(7): `"1min 30s"`, a bare number of seconds; `None` in it: `infinity`.
pub(super) fn span(text: &str) -> Option<Option<Duration>> {
    if text == "infinity" {
        return Some(None);
    }
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis: u64 = match unit {
            "ms" | "msec" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 7 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = after.trim_start();
    }
    Some(Some(Duration::from_millis(total)))
}

/// Octets: `"8M"`, powers of 1024; `None` in it: `infinity`.
pub(super) fn size(text: &str) -> Option<Option<u64>> {
    if text == "infinity" {
        return Some(None);
    }
    let text = text.strip_suffix('B').unwrap_or(text);
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    Some(Some(bytes).filter(|bytes| i64::try_from(*bytes).is_ok()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_escaped() {
        let words = split(r#"/bin/a "b c" 'd "e"' f\x20g "\t" \q """#).unwrap();
        assert_eq!(words, ["/bin/a", "b c", "d \"e\"", "f g", "\t", "\\q", ""]);
        assert!(split("\"a").is_err());
        assert!(split("a\\").is_err());
        assert!(split(r"\x0").is_err() && split(r"\000").is_err());
    }

    #[test]
    fn spans_and_sizes() {
        let millis = |text| span(text).flatten().map(|d| d.as_millis());
        assert_eq!(millis("2s"), Some(2000));
        assert_eq!(millis("90"), Some(90_000));
        assert_eq!(millis("1min 30s"), Some(90_000));
        assert_eq!(millis("5min20"), Some(320_000));
        assert_eq!(span("infinity"), Some(None));
        assert_eq!(span("soon"), None);
        assert_eq!(size("8M"), Some(Some(8 << 20)));
        assert_eq!(size("50%"), None);
        assert_eq!(size("infinity"), Some(None));
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape(r"dev-sda\x2d1"), "dev/sda-1");
    }
}
