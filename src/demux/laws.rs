//! What every verdict must obey, checked at every cut of a sample. For tests only.
#![forbid(unsafe_code)]

use crate::demux::Verdict;

/// Judges every beginning of `sample`. Once decided it stays so, and no beginning
/// shorter than what an earlier one asked for is decided.
pub fn obeyed(sample: &[u8], judge: impl Fn(&[u8]) -> Verdict) {
    let mut asked = 0;
    let mut decided: Option<Verdict> = None;
    for length in 0..=sample.len() {
        let verdict = judge(sample.get(..length).unwrap_or_default());
        if let Some(before) = decided {
            assert_eq!(verdict, before, "changed at {length} octets");
            continue;
        }
        if let Verdict::Need(more) = verdict {
            assert!(more > length, "asks for {more} of {length} octets");
            asked = asked.max(more);
        } else {
            assert!(length >= asked, "decided at {length}, asked for {asked}");
            decided = Some(verdict);
        }
    }
}
