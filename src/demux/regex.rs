//! `regex` rules: patterns anchored at the first byte, compiled into one
//! automaton that can tell "no" from "not yet".
//!
//! Bytes, no Unicode, no allocation after load. A rule holds as soon as some
//! beginning of the request matches a pattern as a whole, so greed and the
//! order of alternatives mean nothing.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::look::{Look, LookSet};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::util::syntax;

use crate::demux::verdict::Verdict;

/// Bytes of one rule's automaton, all its patterns together.
pub const AUTOMATON: usize = 1024 * 1024;
/// Bytes that building it may take besides.
pub const BUILDING: usize = 4 * 1024 * 1024;
/// Depth of groups and repetitions in a pattern.
const NESTING: u32 = 50;

/// The patterns of one rule: alternatives.
#[derive(Clone)]
pub struct Matcher {
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("patterns", &self.automaton.pattern_len())
            .field("bytes", &self.automaton.memory_usage())
            .finish()
    }
}

/// Compiles the patterns of a rule (in the syntax of the crate regex-syntax).
///
/// The error is one line for the reader of the table: a pattern that cannot be
/// read, that looks at what comes after a match (`$`, `\b`: more bytes would
/// change the answer), that holds for no request or for an empty one, or
/// patterns that are too large.
pub fn compile(patterns: &[String]) -> Result<Matcher, String> {
    if patterns.is_empty() {
        return Err("no pattern is given".to_owned());
    }
    for pattern in patterns {
        let alone = build_alone(pattern)
            .map_err(|reason| format!("unable to use {pattern:?}: {reason}"))?;
        if patterns.len() == 1 {
            return Ok(alone);
        }
    }
    build(patterns).map_err(|reason| format!("unable to use these patterns together: {reason}"))
}

/// Builds one pattern, if it is of a kind that says something.
fn build_alone(pattern: &String) -> Result<Matcher, String> {
    let alone = build(std::slice::from_ref(pattern))?;
    if alone.judge(b"") == Verdict::Yes {
        return Err("it matches before any byte has come".to_owned());
    }
    if !alone.can_match() {
        return Err("it can never match".to_owned());
    }
    Ok(alone)
}

/// The states of patterns that are about bytes, whatever is to become of them.
///
/// Bounded in depth and size; the error is one line.
pub fn states(patterns: &[impl AsRef<str>]) -> Result<thompson::NFA, String> {
    thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(AUTOMATON)),
        )
        .syntax(
            syntax::Config::new()
                .unicode(false)
                .utf8(false)
                .nest_limit(NESTING),
        )
        .build_many(patterns)
        .map_err(|err| last_line(&err))
}

fn build(patterns: &[String]) -> Result<Matcher, String> {
    let states = states(patterns)?;
    // These two are known from the bytes before. All others ask for the next
    // byte or for the end, and neither is known while more may come.
    let behind = LookSet::singleton(Look::Start).insert(Look::StartLF);
    if !states.look_set_any().subtract(behind).is_empty() {
        return Err(
            r"it looks ahead ($, \z, \b), where more bytes would change the answer".to_owned(),
        );
    }
    let automaton = dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(StartKind::Anchored)
                .dfa_size_limit(Some(AUTOMATON))
                .determinize_size_limit(Some(BUILDING)),
        )
        .build_from_nfa(&states)
        .map_err(|err| {
            if err.is_size_limit_exceeded() {
                return format!("it is too large: its automaton may take {AUTOMATON} bytes");
            }
            last_line(&err)
        })?;
    let start = automaton
        .start_state(&start::Config::new().anchored(Anchored::Yes))
        .map_err(|err| err.to_string())?;
    Ok(Matcher { automaton, start })
}

/// The innermost reason, without the picture of the pattern above it.
pub fn last_line(mut err: &dyn Error) -> String {
    while let Some(inner) = err.source() {
        err = inner;
    }
    let text = err.to_string();
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl Matcher {
    /// Whether a match can be reached at all. Only at load: it allocates.
    fn can_match(&self) -> bool {
        let mut seen = HashSet::from([self.start]);
        let mut open = vec![self.start];
        while let Some(state) = open.pop() {
            if self
                .automaton
                .is_match_state(self.automaton.next_eoi_state(state))
            {
                return true;
            }
            for unit in self.automaton.byte_classes().representatives(0..=u8::MAX) {
                let next = unit
                    .as_u8()
                    .map(|byte| self.automaton.next_state(state, byte));
                open.extend(next.filter(|next| seen.insert(*next)));
            }
        }
        false
    }

    /// Yes as soon as some beginning of `bytes` matches, no as soon as none
    /// can any more. One step of the automaton for each byte.
    #[must_use]
    pub fn judge(&self, bytes: &[u8]) -> Verdict {
        let automaton = &self.automaton;
        let mut state = self.start;
        if automaton.is_dead_state(state) {
            return Verdict::No;
        }
        for &byte in bytes {
            state = automaton.next_state(state, byte);
            // A match is told one byte late: it ended before this one.
            if automaton.is_match_state(state) {
                return Verdict::Yes;
            }
            if automaton.is_dead_state(state) || automaton.is_quit_state(state) {
                return Verdict::No;
            }
        }
        // Without looking ahead, a match at the end is a match whatever follows.
        if automaton.is_match_state(automaton.next_eoi_state(state)) {
            return Verdict::Yes;
        }
        Verdict::Need(bytes.len().saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use Verdict::{Need, No, Yes};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn matcher(patterns: &[&str]) -> Matcher {
        let patterns: Vec<_> = patterns.iter().map(|one| (*one).to_owned()).collect();
        compile(&patterns).unwrap()
    }

    fn refused(pattern: &str) -> String {
        compile(&[pattern.to_owned()]).unwrap_err()
    }

    #[test]
    fn a_match_is_told_with_its_last_byte() {
        let ssh = matcher(&["SSH-"]);
        for end in 0..4 {
            assert_eq!(ssh.judge(&b"SSH-"[..end]), Need(end + 1));
        }
        assert_eq!(ssh.judge(b"SSH-"), Yes);
        assert_eq!(ssh.judge(b"SSH-2.0"), Yes);
        assert_eq!(ssh.judge(b"SSL"), No);
        assert_eq!(ssh.judge(b" SSH-"), No);
    }

    #[test]
    fn a_longer_alternative_does_not_hold_back_a_shorter_one() {
        assert_eq!(matcher(&["ab(cd)*", "abx"]).judge(b"ab"), Yes);
        assert_eq!(matcher(&["abcd|a"]).judge(b"a"), Yes);
        assert_eq!(matcher(&["x", "yz"]).judge(b"y"), Need(2));
        assert_eq!(matcher(&["x", "yz"]).judge(b"yx"), No);
    }

    #[test]
    fn patterns_are_about_bytes() {
        let any = matcher(&[r"\x16\x03[\x00-\x04]..\x01", r"(?i)helo [^\r\n]+\r?\n"]);
        assert_eq!(any.judge(b"\x16\x03\x01\xff\x80\x01"), Yes);
        assert_eq!(any.judge(b"\x16\x03\x05"), No);
        assert_eq!(any.judge(b"\x16\x03\x01\n"), No);
        assert_eq!(any.judge(b"HeLo \xff\xfe\n"), Yes);
        assert_eq!(matcher(&[r"(?s)a.b"]).judge(b"a\nb"), Yes);
        assert_eq!(matcher(&["\u{e9}"]).judge(b"\xc3\xa9"), Yes);
    }

    #[test]
    fn the_start_may_be_named() {
        for pattern in ["^ab", r"\Aab", "(?m)^ab"] {
            assert_eq!(matcher(&[pattern]).judge(b"ab"), Yes);
            assert_eq!(matcher(&[pattern]).judge(b"b"), No);
        }
        let lines = matcher(&[r"(?m)a\n^b"]);
        assert_eq!(lines.judge(b"a\n"), Need(3));
        assert_eq!(lines.judge(b"a\nb"), Yes);
    }

    #[test]
    fn what_looks_ahead_is_refused() {
        for pattern in [
            "a$",
            r"a\z",
            r"a\b",
            r"a\B",
            "(?m)a$",
            "(?mR)a\r^",
            r"\b{start}a",
        ] {
            let reason = refused(pattern);
            assert!(reason.contains("looks ahead"), "{reason}");
        }
    }

    #[test]
    fn what_holds_always_or_never_is_refused() {
        for pattern in ["", "a*", "^", ".*", "a|"] {
            let reason = refused(pattern);
            assert!(reason.contains("before any byte"), "{pattern}: {reason}");
        }
        for pattern in [r"[^\x00-\xff]", r"a^b", "(?s)a[^\\x00-\\xff].*"] {
            let reason = refused(pattern);
            assert!(reason.contains("never match"), "{pattern}: {reason}");
        }
        assert!(compile(&[]).is_err());
    }

    #[test]
    fn a_reason_is_one_line_that_names_the_pattern() {
        let nested = "(".repeat(60) + "a" + &")".repeat(60);
        for pattern in ["a(", "[z-a]", r"\p{Greek}", "(?u:é)x(", "a{2,1}", &nested] {
            let reason = refused(pattern);
            let inner = reason.rsplit(": ").next().unwrap();
            assert!(reason.contains(&format!("{pattern:?}")), "{reason}");
            assert!(!reason.contains('\n') && inner.len() > 5, "{reason}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        for pattern in [
            "(a{1000}){1000}",
            "(?s).{0,20}a.{20}bcdefghijklmnopqrstuvwxyz",
        ] {
            let reason = refused(pattern);
            assert!(
                reason.contains("exceeded") || reason.contains("too large"),
                "{reason}"
            );
        }
        // Alone each of them is small enough.
        let many: Vec<_> = (0..12)
            .map(|n| format!("{n:x}[a-z]{{1000}}[0-9]{{1000}}"))
            .collect();
        assert!(compile(&many[..1]).is_ok());
        assert!(compile(&many).unwrap_err().contains("together"));
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same_answer(
            bytes in vec(prop::sample::select(b"abAB01 \r\n\x16\xff".to_vec()), 0..40),
            which in 0..6_usize,
        ) {
            const PATTERNS: [&[&str]; 6] = [
                &["(a|b)*01"],
                &["a.*b", "[01]+ "],
                &[r"(?i)ab|\x16", "b{3,5}[^a]"],
                &[r"(?s).{7}\xff"],
                &[r"(?m)[ab]+\r?\n^[01]"],
                &["a?b?0", "a?b?1", "[^a]{4}"],
            ];
            let matcher = matcher(PATTERNS[which]);
            let mut before = matcher.judge(b"");
            for end in 0..=bytes.len() {
                let verdict = matcher.judge(&bytes[..end]);
                if let Need(k) = verdict {
                    prop_assert_eq!(k, end + 1);
                }
                if !matches!(before, Need(_)) {
                    prop_assert_eq!(verdict, before);
                }
                before = verdict;
            }
        }

        #[test]
        fn no_pattern_text_panics(pattern in "[a-z0-9^$.*+?(){}|\\\\\\[\\]-]{0,16}", bytes in vec(any::<u8>(), 0..30)) {
            if let Ok(matcher) = compile(&[pattern]) {
                let _ = matcher.judge(&bytes);
            }
        }
    }
}
