//! CRC-32C (RFC 3720, appendix B.4): polynomial 0x1edc6f41, octets and result reflected.
#![forbid(unsafe_code)]

const REFLECTED: u32 = 0x82f6_3b78;

/// Bit by bit: there are at most a few kilobytes, once per connection.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    #[must_use]
    pub fn new() -> Self {
        Crc32c(u32::MAX)
    }

    #[must_use]
    pub fn over(self, octets: &[u8]) -> Self {
        Crc32c(octets.iter().fold(self.0, |crc, &octet| {
            (0..8).fold(crc ^ u32::from(octet), |crc, _| {
                let carry = if crc & 1 == 1 { REFLECTED } else { 0 };
                crc >> 1 ^ carry
            })
        }))
    }

    #[must_use]
    pub fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_come_out() {
        assert_eq!(Crc32c::new().over(b"123456789").value(), 0xe306_9283);
        assert_eq!(Crc32c::new().over(&[0; 32]).value(), 0x8a91_36aa);
        assert_eq!(
            Crc32c::new().over(&[0xff; 30]).over(&[0xff; 2]).value(),
            0x62a8_ab43
        );
    }
}
