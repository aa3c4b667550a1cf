//! daytime (RFC 867) and time (RFC 868): the clock, for people and for machines.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::clock::{LocalTime, local};

/// Seconds between 1900, where RFC 868 starts, and 1970.
const SINCE_1900: u64 = 2_208_988_800;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// One line in the manner of ctime(3), in local time, ended by CRLF.
pub fn daytime(now: SystemTime) -> String {
    local(now).map_or_else(String::new, daytime_line)
}

fn daytime_line(at: LocalTime) -> String {
    let day = DAYS.get(usize::from(at.weekday)).unwrap_or(&"???");
    let month = MONTHS
        .get(usize::from(at.month).wrapping_sub(1))
        .unwrap_or(&"???");
    format!(
        "{day} {month} {:2} {:02}:{:02}:{:02} {}\r\n",
        at.day, at.hour, at.minute, at.second, at.year
    )
}

/// Exactly four octets, big endian; they wrap in 2036, as the RFC has it.
#[allow(
    clippy::cast_possible_truncation,
    reason = "RFC 868 counts modulo 2^32"
)]
pub fn time(now: SystemTime) -> [u8; 4] {
    let since_1970 = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    ((since_1970 + SINCE_1900) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_counts_from_1900_and_wraps_in_2036() {
        let at = |seconds| time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), [0x83, 0xaa, 0x7e, 0x80]);
        assert_eq!(at(2_085_978_495), [0xff; 4]);
        assert_eq!(at(2_085_978_496), [0; 4]);
    }

    #[test]
    fn daytime_looks_like_ctime() {
        let at = LocalTime {
            year: 2026,
            month: 11,
            day: 2,
            weekday: 0,
            hour: 7,
            minute: 5,
            second: 9,
        };
        assert_eq!(daytime_line(at), "Mon Nov  2 07:05:09 2026\r\n");
    }
}
