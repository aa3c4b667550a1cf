//! What every verdict must obey, for all targets.

use usherd::demux::Verdict;

/// The first octet chooses where the rest is cut in two.
pub fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (choice, bytes) = data.split_first()?;
    let at = usize::from(*choice) * bytes.len() / 256;
    Some((&bytes[..at], bytes))
}

/// A verdict on the beginning holds for the whole; one that asks for more than
/// there is stays undecided.
pub fn obeyed(part: &[u8], whole: &[u8], judge: impl Fn(&[u8]) -> Verdict) {
    let (before, after) = (judge(part), judge(whole));
    match before {
        Verdict::Need(k) => {
            assert!(k > part.len(), "asks for {k} of {} octets", part.len());
            if whole.len() < k {
                assert!(matches!(after, Verdict::Need(_)), "decided too early");
            }
        }
        decided => assert_eq!(after, decided, "changed its mind"),
    }
}
