//! Host names and the patterns for them.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// A name in a rule, in lower case, without a trailing dot, as an A-label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pattern {
    /// `shop.example`
    Exact(String),
    /// `*.shop.example`: one label more. Holds what follows the `*.`.
    Label(String),
    /// `**.shop.example`: one label more or several. Holds what follows the `**.`.
    Depth(String),
}

impl Pattern {
    /// How much `name` (in lower case, no trailing dot) is pinned down by this
    /// pattern, `None` if it does not match. Exact names say most, then longer
    /// suffixes; of two with the same suffix `*.` says more.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> Option<u16> {
        let fits = match self {
            Pattern::Exact(exact) => name == exact.as_bytes(),
            Pattern::Label(suffix) => {
                above(name, suffix).is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'.'))
            }
            Pattern::Depth(suffix) => above(name, suffix).is_some_and(|rest| !rest.is_empty()),
        };
        fits.then(|| self.weight())
    }

    /// What a match of this pattern weighs against others.
    #[must_use]
    pub fn weight(&self) -> u16 {
        let of = |suffix: &str, wider: u16| {
            u16::try_from(suffix.len())
                .unwrap_or(u16::MAX / 4)
                .min(u16::MAX / 4)
                * 2
                + wider
        };
        match self {
            Pattern::Exact(_) => u16::MAX,
            Pattern::Label(suffix) => of(suffix, 2),
            Pattern::Depth(suffix) => of(suffix, 1),
        }
    }
}

/// What stands before `.suffix`.
fn above<'n>(name: &'n [u8], suffix: &str) -> Option<&'n [u8]> {
    name.strip_suffix(suffix.as_bytes())?.strip_suffix(b".")
}
