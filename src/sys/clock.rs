//! Local time: localtime_r(3), which no crate of ours offers. And the clocks
//! that [`Instant`](std::time::Instant) is made of, for other processes.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment as the host's clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    pub day: u8,
    /// Monday is 0.
    pub weekday: u8,
    pub hour: u8,
    pub minute: u8,
    /// 60 in a leap second.
    pub second: u8,
}

/// Reads the time zone. The C library keeps it, so that [`local`] opens no
/// file afterwards: to be called before the front loses its view of `/etc`.
pub fn prepare() {
    let _ = local(SystemTime::now());
}

/// The local time at `at`; `None` for years that do not fit.
///
/// Opens no file once the C library has the time zone, which the front sees to
/// before it is caged.
#[must_use]
pub fn local(at: SystemTime) -> Option<LocalTime> {
    let seconds = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => libc::time_t::try_from(since.as_secs()).ok()?,
        Err(before) => -libc::time_t::try_from(before.duration().as_secs()).ok()?,
    };
    let mut parts = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: `seconds` and `parts` are our own and outlive the call, and `parts` has room for the
    // one `tm` that localtime_r writes; it keeps neither pointer.
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r did not return null, so it has written every field.
    let parts = unsafe { parts.assume_init() };
    Some(LocalTime {
        year: parts.tm_year.checked_add(1900)?,
        month: u8::try_from(parts.tm_mon + 1).ok()?,
        day: u8::try_from(parts.tm_mday).ok()?,
        weekday: u8::try_from((parts.tm_wday + 6) % 7).ok()?,
        hour: u8::try_from(parts.tm_hour).ok()?,
        minute: u8::try_from(parts.tm_min).ok()?,
        second: u8::try_from(parts.tm_sec).ok()?,
    })
}

/// What [`Instant`](std::time::Instant) counts: the same for all processes of the
/// host until it is booted anew, an execve(2) in between or not.
#[must_use]
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// The same, and the time that the host slept; what /proc/PID/stat counts.
#[must_use]
pub fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is our own and outlives the call, and has room for the one `timespec`.
    let done = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    debug_assert_eq!(done, 0, "both clocks are there since Linux 2.6.39");
    // SAFETY: for plain numbers zeroes are valid, and so is what the kernel writes.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_week_later_is_the_same_weekday_and_a_day_later_the_next() {
        // Noon UTC, 17 June: no zone changes its clocks between these days.
        let noon = UNIX_EPOCH + Duration::from_secs(1_781_697_600);
        let day = |n: u64| local(noon + Duration::from_secs(n * 86_400)).unwrap();
        assert_eq!(day(0).weekday, day(7).weekday);
        assert_eq!((day(0).weekday + 1) % 7, day(1).weekday);
        assert_eq!((day(0).year, day(0).month), (2026, 6));
        assert!(day(0).second == 0 && day(0).hour < 24);
    }
}
