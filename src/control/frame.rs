//! Octets into messages: each ends with a NUL, none is longer than a limit.
#![forbid(unsafe_code)]

/// The longest call. The longest there is any use for has a table's worth of names.
pub const MAX_CALL: usize = 64 * 1024;

/// What came and is not taken yet.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Octets before this one are known to hold no NUL.
    searched: usize,
    limit: usize,
}

/// A message that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Frames {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            searched: 0,
            limit,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, without its NUL. Each octet is looked at once,
    /// however slowly it comes.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let new = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(end) = memchr::memchr(0, new) else {
            self.searched = self.bytes.len();
            return match self.searched > self.limit {
                true => Err(TooLong),
                false => Ok(None),
            };
        };
        let end = self.searched + end;
        if end > self.limit {
            return Err(TooLong);
        }
        let rest = self.bytes.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.bytes, rest);
        message.pop();
        self.searched = 0;
        Ok(Some(message))
    }

    /// A message has begun and is not whole.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Octets that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let stream = b"one\0\0three\0rest";
        for size in 1..stream.len() {
            let mut frames = Frames::new(5);
            let mut found = Vec::new();
            for chunk in stream.chunks(size) {
                frames.feed(chunk);
                while let Some(message) = frames.take().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
            assert_eq!(frames.len(), 4);
        }
    }

    #[test]
    fn a_message_at_the_limit_passes_and_one_octet_more_does_not() {
        let mut frames = Frames::new(4);
        frames.feed(b"four\0");
        assert_eq!(frames.take(), Ok(Some(b"four".to_vec())));
        frames.feed(b"five!\0");
        assert_eq!(frames.take(), Err(TooLong));
        let mut frames = Frames::new(4);
        frames.feed(b"four");
        assert_eq!(frames.take(), Ok(None));
        frames.feed(b"!");
        assert_eq!(frames.take(), Err(TooLong));
    }
}
