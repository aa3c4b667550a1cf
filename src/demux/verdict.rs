//! What bytes say about a rule: yes, no, or not yet.
#![forbid(unsafe_code)]

/// Three values, so that the way a request was cut into packets never matters.
///
/// A [`Verdict::Yes`] or [`Verdict::No`] stays what it is whatever bytes
/// follow; only a [`Verdict::Need`] can become something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
    /// Undecided with fewer than this many bytes in all: always more than were
    /// seen. A hint for `SO_RCVLOWAT`, never larger than what could still be decided by.
    Need(usize),
}

impl Verdict {
    /// Both hold. Undecided ones are looked at again as soon as either may be decided.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Verdict::No, _) | (_, Verdict::No) => Verdict::No,
            (Verdict::Need(a), Verdict::Need(b)) => Verdict::Need(a.min(b)),
            (Verdict::Need(k), Verdict::Yes) | (Verdict::Yes, Verdict::Need(k)) => Verdict::Need(k),
            (Verdict::Yes, Verdict::Yes) => Verdict::Yes,
        }
    }

    /// One of them holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Verdict::Yes, _) | (_, Verdict::Yes) => Verdict::Yes,
            (Verdict::Need(a), Verdict::Need(b)) => Verdict::Need(a.min(b)),
            (Verdict::Need(k), Verdict::No) | (Verdict::No, Verdict::Need(k)) => Verdict::Need(k),
            (Verdict::No, Verdict::No) => Verdict::No,
        }
    }

    /// Nothing more will come: what is undecided does not hold.
    #[must_use]
    pub fn at_the_end(self) -> Self {
        match self {
            Verdict::Need(_) => Verdict::No,
            decided => decided,
        }
    }
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Verdict::Yes } else { Verdict::No }
    }
}

/// Whether `bytes` begin with `prefix`: no at the first octet that differs,
/// undecided while they are only its beginning.
#[must_use]
pub fn prefix(bytes: &[u8], prefix: &[u8]) -> Verdict {
    let common = bytes.len().min(prefix.len());
    if bytes[..common] != prefix[..common] {
        Verdict::No
    } else if common < prefix.len() {
        // Any octet more may be the one that differs.
        Verdict::Need(common + 1)
    } else {
        Verdict::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_says_no_at_the_first_octet_that_differs() {
        assert_eq!(prefix(b"", b"SSH-"), Verdict::Need(1));
        assert_eq!(prefix(b"SS", b"SSH-"), Verdict::Need(3));
        assert_eq!(prefix(b"SX", b"SSH-"), Verdict::No);
        assert_eq!(prefix(b"SSH-2", b"SSH-"), Verdict::Yes);
    }

    #[test]
    fn undecided_is_neither_yes_nor_no_until_the_end() {
        use Verdict::{Need, No, Yes};
        assert_eq!(Need(4).and(No), No);
        assert_eq!(Need(4).and(Yes), Need(4));
        assert_eq!(Need(4).and(Need(9)), Need(4));
        assert_eq!(Need(4).or(Yes), Yes);
        assert_eq!(Need(4).or(No), Need(4));
        assert_eq!(Need(4).at_the_end(), No);
        assert_eq!(Yes.at_the_end(), Yes);
    }
}
