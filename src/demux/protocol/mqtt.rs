//! MQTT's CONNECT (MQTT 3.1.1 and 5.0, section 3.1; MQTT 3.1 as `MQIsdp`).
#![forbid(unsafe_code)]

use super::walk::{Step, Walk, require};

/// What every CONNECT has: level, flags, keep-alive, length of the client's id.
const BEYOND_NAME: usize = 6;

pub fn walk(walk: &mut Walk) -> Step<()> {
    walk.literal(&[0x10])?;
    let remaining = remaining_length(walk)?;
    walk.literal(&[0x00])?;
    let length = walk.octet_that(|octet| octet == 4 || octet == 6)?;
    require(remaining >= 2 + usize::from(length) + BEYOND_NAME)?;
    walk.literal(if length == 4 { b"MQTT" } else { b"MQIsdp" })?;
    // Bridges between brokers set the highest bit (mosquitto's `try_private`).
    let level = walk.octet()? & 0x7f;
    require(if length == 4 {
        level == 4 || level == 5
    } else {
        level == 3
    })
}

/// One to four octets of seven bits, least significant first, no longer than
/// necessary (MQTT 5.0, 1.5.5).
fn remaining_length(walk: &mut Walk) -> Step<usize> {
    let mut length = 0;
    for place in 0..4 {
        let octet = walk.octet()?;
        length |= usize::from(octet & 0x7f) << (7 * place);
        if octet < 0x80 {
            require(octet != 0 || place == 0)?;
            return Ok(length);
        }
    }
    Err(super::Verdict::No)
}
