//! Patterns that a whole text must match: regular expressions, and globs.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use glob::{MatchOptions, Pattern as Glob};
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};

use crate::demux::regex::{AUTOMATON, BUILDING, last_line, states};

/// A regular expression for a whole text.
#[derive(Debug)]
pub struct Whole(dense::DFA<Vec<u32>>);

thread_local! {
    /// Those of the catalogue in force, each made once: a list of many items asks for the
    /// same one again and again.
    static KNOWN: RefCell<HashMap<String, Rc<Whole>>> = RefCell::default();
}
/// More patterns than any catalogue has; a catalogue that changes leaves old ones behind.
const MOST_KNOWN: usize = 1024;

/// The same as [`compile`], from memory if it was asked for before.
pub fn compiled(pattern: &str) -> Result<Rc<Whole>, String> {
    if let Some(known) = KNOWN.with_borrow(|known| known.get(pattern).cloned()) {
        return Ok(known);
    }
    let made = Rc::new(compile(pattern)?);
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(pattern.to_owned(), Rc::clone(&made));
    });
    Ok(made)
}

/// Compiles a pattern (in the syntax of the crate regex-syntax), which is about
/// bytes: what is not ASCII is two or more of them.
///
/// The error is one line for the reader of the catalogue.
pub fn compile(pattern: &str) -> Result<Whole, String> {
    let failed = |why: String| format!("{pattern:?} is no pattern: {why}");
    let states = states(&[pattern]).map_err(failed)?;
    // Every way through the pattern counts, not the one that a search would
    // prefer: `a|ab` is to match "ab" as a whole.
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(AUTOMATON))
        .determinize_size_limit(Some(BUILDING));
    let automaton = dense::Builder::new()
        .configure(config)
        .build_from_nfa(&states)
        .map_err(|err| match err.is_size_limit_exceeded() {
            true => failed(format!("its automaton takes more than {AUTOMATON} bytes")),
            false => failed(last_line(&err)),
        })?;
    Ok(Whole(automaton))
}

impl Whole {
    /// Whether the text matches from its first byte to its last.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let anchored = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = self.0.start_state(&anchored) else {
            return false;
        };
        for byte in text.bytes() {
            state = self.0.next_state(state, byte);
            if self.0.is_dead_state(state) || self.0.is_quit_state(state) {
                return false;
            }
        }
        self.0.is_match_state(self.0.next_eoi_state(state))
    }
}

/// Reads a pattern as in glob(7).
pub fn glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(|err| format!("\"{text}\" is no pattern: {}", err.msg))
}

/// Whether one of `globs` matches the whole text. `*` stands for no `/`, `**` for any number of folders.
#[must_use]
pub fn any_matches(globs: &[String], text: &str) -> bool {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let mut globs = globs.iter().filter_map(|one| Glob::new(one).ok());
    globs.any(|one| one.matches_with(text, options))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().matches(text)
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("[a-z]+", "abc"));
        for not in ["", "abc1", "1abc", "abc\n", " abc", "abc\0"] {
            assert!(!matches("[a-z]+", not), "{not:?}");
        }
        assert!(matches("a|ab", "ab") && matches("ab|a", "a"));
        assert!(matches("a*?", "aaa") && matches("", "") && !matches("", "x"));
        assert!(matches("^a$", "a") && !matches("(?m)^a$", "a\nb"));
        // Brackets and comments of a pattern do not reach beyond it.
        assert!(compile("a)|(b").is_err());
        assert!(matches("(?x)a # b", "a") && !matches("(?x)a # b", "ab"));
    }

    #[test]
    fn a_pattern_is_about_bytes() {
        assert!(matches("é+", "éé") || matches("(é)+", "éé"));
        assert!(matches("..", "é") && !matches(".", "é"));
        assert!(compile("[é]").is_err() || matches("[é]", "é"));
        assert!(compile(r"\p{Greek}").unwrap_err().contains("is no pattern"));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        for pattern in ["(a{1000}){1000}", "(?s).*a.{20}"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        let deep = "(".repeat(60) + "a" + &")".repeat(60);
        assert!(compile(&deep).is_err());
    }

    #[test]
    fn a_star_does_not_climb_over_a_slash() {
        let any = |glob: &str, text: &str| any_matches(&[glob.to_owned()], text);
        assert!(any("mail-*", "mail-7") && !any("mail-*", "xmail-7"));
        assert!(any("/srv/*", "/srv/a") && !any("/srv/*", "/srv/a/b"));
        assert!(any("/srv/**", "/srv/a/b") && any("*", ".hidden"));
        assert!(!any_matches(&[], "a") && !any("A", "a"));
    }
}
