//! RTMP's handshake: C0 and C1 (Adobe's RTMP Specification 1.0, 5.2).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// Of C0 and C1 together.
const HANDSHAKE: usize = 1 + 1536;

/// Version 3, a time of four octets, then four zero octets. Some encoders put
/// their version (Flash Player's 9.0.124.2, say) there: these are believed only
/// when all of C1 came, which a client sends before it waits.
pub fn walk(walk: &mut Walk) -> Step<()> {
    walk.literal(&[0x03])?;
    walk.skip(4);
    let mut zero = true;
    for place in 0..4 {
        let octet = walk.octet()?;
        // The highest major version seen in the wild is 128.
        require(place > 0 || octet <= 0x80)?;
        zero &= octet == 0;
    }
    if !zero {
        walk.skip(HANDSHAKE - walk.at());
    }
    walk.arrive()
}
