//! Values as an operator reads them: spans of time, sizes, rates, exits; and
//! text of the daemon with everything escaped that could move a terminal.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::control::types::Exit;
use crate::logging::is_unsafe;
use crate::table::value::show_signal;

/// A line of text as it may be printed: no control character is left in it.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    Cow::Owned(out)
}

/// The same for text of several lines: they stay lines, and tabs stay.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c => push_escaped(&mut out, c),
        }
    }
    out
}

/// Escapes as in the daemon's own log.
fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if !is_unsafe(c) => out.push(c),
        c if c.is_ascii() => _ = write!(out, "\\x{:02x}", u32::from(c)),
        c => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// A span of time in at most five characters or so: `85us`, `2.3ms`, `12s`, `3h12m`.
#[must_use]
pub fn micros(us: u64) -> String {
    let fraction = |unit: u64, name: &str| {
        // Rounded to the tenth that is shown: 9.96 is 10, not 10.0.
        let tenths = us.saturating_add(unit / 20) / (unit / 10);
        if tenths < 100 {
            format!("{}.{}{name}", tenths / 10, tenths % 10)
        } else {
            format!("{}{name}", us.saturating_add(unit / 2) / unit)
        }
    };
    match us {
        0..1_000 => format!("{us}us"),
        1_000..999_500 => fraction(1_000, "ms"),
        999_500..59_500_000 => fraction(1_000_000, "s"),
        _ => seconds(us.saturating_add(500_000) / 1_000_000),
    }
}

/// The same from milliseconds; no ages need more.
#[must_use]
pub fn millis(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    micros(ms.saturating_mul(1_000))
}

/// `45s`, `5m03s`, `3h12m`, `4d03h`.
#[must_use]
pub fn seconds(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A size in powers of 1024: `512B`, `1.5K`, `20M`.
#[must_use]
pub fn bytes(size: u64) -> String {
    let mut scale: u64 = 1;
    let mut units = ["B", "K", "M", "G", "T", "P", "E"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    for next in units {
        // From 999.5 of a unit on, three digits would not do.
        if size < scale.saturating_mul(1_000) - scale / 2 {
            break;
        }
        (scale, unit) = (scale * 1024, next);
    }
    if scale == 1 {
        return format!("{size}{unit}");
    }
    let tenths = u128::from(size) * 10 / u128::from(scale);
    if tenths < 100 {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    } else {
        let whole = (u128::from(size) + u128::from(scale) / 2) / u128::from(scale);
        format!("{whole}{unit}")
    }
}

/// A number per second or a percentage: a decimal only where it says something.
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 0.05 => "<0.1".to_owned(),
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 99_999.5 => format!("{v:.0}"),
        v => format!("{:.0}k", v / 1_000.0),
    }
}

/// `status 0`, `signal 9 (KILL), core`.
#[must_use]
pub fn exit(exit: &Exit) -> String {
    let mut out = match (exit.status, exit.signal) {
        (Some(status), _) => format!("status {status}"),
        (None, Some(signal)) => {
            let name = show_signal(signal);
            if name == signal.to_string() {
                format!("signal {signal}")
            } else {
                format!("signal {signal} ({name})")
            }
        }
        (None, None) => "gone".to_owned(),
    };
    if exit.core {
        out.push_str(", core");
    }
    if exit.oom {
        out.push_str(", out of memory");
    }
    out
}

/// `1 instance`, `3 instances`.
#[must_use]
pub fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// A name of the interface that serde writes in snake case.
#[must_use]
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

/// At most `width` characters, the last of them `…` if something is missing.
#[must_use]
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::types::State;

    #[test]
    fn nothing_that_moves_a_terminal_is_left() {
        for (raw, shown) in [
            ("git", "git"),
            ("naïve 雪", "naïve 雪"),
            ("a\x1b[2Jb", "a\\x1b[2Jb"),
            ("a\r\nb\tc\x7f", "a\\r\\nb\\tc\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(escape(raw), shown);
        }
        assert_eq!(escape_lines("a\tb\n\x1bc\n"), "a\tb\n\\x1bc\n");
        for c in (0..=0x2_ffff).filter_map(char::from_u32) {
            let text = c.to_string();
            assert!(!escape(&text).chars().any(char::is_control), "{c:?}");
        }
    }

    #[test]
    fn spans_are_short() {
        for (us, shown) in [
            (0, "0us"),
            (999, "999us"),
            (1_000, "1.0ms"),
            (2_349, "2.3ms"),
            (9_960, "10ms"),
            (230_400, "230ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (12_400_000, "12s"),
            (59_499_999, "59s"),
            (59_500_000, "1m00s"),
            (303_000_000, "5m03s"),
            (11_520_000_000, "3h12m"),
            (356_400_000_000, "4d03h"),
        ] {
            assert_eq!(micros(us), shown, "{us}");
        }
        assert_eq!(millis(999), "999ms");
        assert_eq!(millis(1_500), "1.5s");
        assert!(micros(u64::MAX).ends_with('h'));
        assert!(millis(u64::MAX).ends_with('h'));
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (size, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "0.9K"),
            (1_536, "1.5K"),
            (10 << 10, "10K"),
            (20 << 20, "20M"),
            (1 << 30, "1.0G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(bytes(size), shown, "{size}");
        }
    }

    #[test]
    fn rates_show_no_more_than_they_know() {
        for (value, shown) in [
            (0.0, "0"),
            (-1.0, "0"),
            (0.01, "<0.1"),
            (0.25, "0.2"),
            (99.94, "99.9"),
            (99.96, "100"),
            (25_000.0, "25000"),
            (250_000.0, "250k"),
        ] {
            assert_eq!(rate(value), shown, "{value}");
        }
    }

    #[test]
    fn exits_name_their_signal() {
        let ended = |status, signal, core| Exit {
            status,
            signal,
            core,
            oom: false,
            ran_us: 0,
            ago_ms: 0,
        };
        assert_eq!(exit(&ended(Some(3), None, false)), "status 3");
        assert_eq!(exit(&ended(None, Some(11), true)), "signal 11 (SEGV), core");
        assert_eq!(exit(&ended(None, Some(40), false)), "signal 40");
    }

    #[test]
    fn words_and_cuts() {
        assert_eq!(word(&State::Serving), "serving");
        assert_eq!(count(1, "instance"), "1 instance");
        assert_eq!(count(0, "instance"), "0 instances");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("abc", 0), "");
    }
}
