//! A walk over opening bytes that stops with a verdict: no at the first octet
//! that cannot be, "not yet" with the count at which it is worth another look.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use crate::demux::verdict::Verdict;

/// What a step found, or the verdict that ends the walk (`No` or `Need`).
pub type Step<T> = Result<T, Verdict>;

/// Runs a walk to its verdict: one that reaches its end says yes.
pub fn run(bytes: &[u8], walk: impl FnOnce(&mut Walk) -> Step<()>) -> Verdict {
    match walk(&mut Walk::new(bytes)) {
        Ok(()) => Verdict::Yes,
        Err(verdict) => verdict,
    }
}

/// Yes or on with the walk: `require(a == b)?`.
pub fn require(holds: bool) -> Step<()> {
    if holds { Ok(()) } else { Err(Verdict::No) }
}

/// A place in the opening bytes.
///
/// Every step asks for no more than the next octet that can decide something,
/// so that a `Need(k)` holds whatever the octets before `k` are.
#[derive(Clone, Debug)]
pub struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Walk<'b> {
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Walk { bytes, at: 0 }
    }

    /// Octets walked over or skipped; can be more than there are yet.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next octet, without walking over it.
    pub fn peek(&self) -> Step<u8> {
        let next = self.bytes.get(self.at).copied();
        next.ok_or(Verdict::Need(self.at.saturating_add(1)))
    }

    pub fn octet(&mut self) -> Step<u8> {
        let octet = self.peek()?;
        self.at += 1;
        Ok(octet)
    }

    /// One octet for which `fits` holds.
    pub fn octet_that(&mut self, fits: impl FnOnce(u8) -> bool) -> Step<u8> {
        let octet = self.octet()?;
        require(fits(octet))?;
        Ok(octet)
    }

    /// Goes over octets that decide nothing. They need not be there: the next
    /// step asks for them and for its own.
    pub fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    /// Waits for everything that was skipped.
    pub fn arrive(&self) -> Step<()> {
        if self.at > self.bytes.len() {
            return Err(Verdict::Need(self.at));
        }
        Ok(())
    }

    pub fn literal(&mut self, literal: &[u8]) -> Step<()> {
        for &expected in literal {
            self.octet_that(|octet| octet == expected)?;
        }
        Ok(())
    }

    /// One of several texts, none of which begins another. Gives its place in the list.
    pub fn one_of(&mut self, texts: &[&[u8]]) -> Step<usize> {
        let seen = self.bytes.get(self.at..).unwrap_or_default();
        let mut open = false;
        for (place, text) in texts.iter().enumerate() {
            if seen.starts_with(text) {
                self.at += text.len();
                return Ok(place);
            }
            open |= text.starts_with(seen);
        }
        if open {
            return Err(Verdict::Need(self.at.saturating_add(seen.len() + 1)));
        }
        Err(Verdict::No)
    }

    /// An unsigned number of `width` octets (1 to 8), most significant first,
    /// inside `range`: no as soon as its first octets leave the range.
    pub fn number(&mut self, width: u32, range: RangeInclusive<u64>) -> Step<u64> {
        let mut number = 0;
        for left in (0..width).rev() {
            number = (number << 8) | u64::from(self.octet()?);
            let lowest = number << (8 * left);
            let highest = lowest | ((1 << (8 * left)) - 1);
            require(lowest <= *range.end() && *range.start() <= highest)?;
        }
        Ok(number)
    }

    /// Decimal digits without a leading zero, at most `highest`, then `end`.
    pub fn decimal(&mut self, highest: u64, end: u8) -> Step<u64> {
        let mut number = u64::from(self.octet_that(|octet| octet.is_ascii_digit())? - b'0');
        let zero = number == 0;
        loop {
            let octet = self.octet()?;
            if octet == end {
                return Ok(number);
            }
            require(octet.is_ascii_digit() && !zero)?;
            number = number * 10 + u64::from(octet - b'0');
            require(number <= highest)?;
        }
    }

    /// Octets for which `fits` holds, up to `end`, which is walked over. Gives
    /// their count, at most `limit`.
    pub fn until(&mut self, end: u8, limit: usize, fits: impl Fn(u8) -> bool) -> Step<usize> {
        for count in 0..=limit {
            let octet = self.octet()?;
            if octet == end {
                return Ok(count);
            }
            require(fits(octet))?;
        }
        Err(Verdict::No)
    }

    /// Octets for which `fits` holds, at most `limit`; stands at the first that does not.
    pub fn run_of(&mut self, limit: usize, fits: impl Fn(u8) -> bool) -> Step<usize> {
        for count in 0..=limit {
            if !fits(self.peek()?) {
                return Ok(count);
            }
            self.at += 1;
        }
        Err(Verdict::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Need, No};

    #[test]
    fn a_number_leaves_its_range_at_the_first_octet() {
        let number = |bytes| Walk::new(bytes).number(2, 11..=259);
        assert_eq!(number(b"\x02"), Err(No));
        assert_eq!(number(b"\x01"), Err(Need(2)));
        assert_eq!(number(b"\x01\x04"), Err(No));
        assert_eq!(number(b"\x01\x03"), Ok(259));
        assert_eq!(number(b"\x00\x0a"), Err(No));
    }

    #[test]
    fn a_number_may_fill_eight_octets() {
        assert_eq!(
            Walk::new(&[255; 8]).number(8, 0..=u64::MAX).unwrap_or(0),
            u64::MAX
        );
    }

    #[test]
    fn skipped_octets_are_asked_for_with_the_next_one() {
        let mut walk = Walk::new(b"ab");
        walk.skip(4);
        assert_eq!(walk.octet(), Err(Need(5)));
        assert_eq!(walk.arrive(), Err(Need(4)));
    }

    #[test]
    fn one_of_several_texts_is_open_while_any_can_still_come() {
        let texts: [&[u8]; 2] = [b"git-upload-pack ", b"git-upload-archive "];
        assert_eq!(Walk::new(b"git-upload-").one_of(&texts), Err(Need(12)));
        assert_eq!(Walk::new(b"git-upload-x").one_of(&texts), Err(No));
        assert_eq!(Walk::new(b"git-upload-archive /").one_of(&texts), Ok(1));
    }

    #[test]
    fn a_decimal_has_no_leading_zero() {
        assert_eq!(Walk::new(b"0 ").decimal(10, b' '), Ok(0));
        assert_eq!(Walk::new(b"01").decimal(10, b' '), Err(No));
        assert_eq!(Walk::new(b"11").decimal(10, b' '), Err(No));
        assert_eq!(Walk::new(b"1").decimal(10, b' '), Err(Need(2)));
    }

    #[test]
    fn a_run_that_is_too_long_says_no_without_its_end() {
        assert_eq!(Walk::new(b"abcd").until(b'\0', 3, |_| true), Err(No));
        assert_eq!(Walk::new(b"abc\0").until(b'\0', 3, |_| true), Ok(3));
        assert_eq!(Walk::new(b"abc").run_of(3, |_| true), Err(Need(4)));
    }
}
