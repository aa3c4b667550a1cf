//! `hours`: whether a service is open at a given local time.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use crate::sys::clock;
use crate::table::Hours;

/// A moment of the week, in local time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeekTime {
    /// 0 is Monday.
    pub weekday: u8,
    /// Since midnight.
    pub minute: u16,
    pub second: u8,
}

/// What time of the week it is; midnight on Monday where the clock shows no
/// date that a calendar has.
#[must_use]
pub fn now() -> WeekTime {
    clock::local(SystemTime::now()).map_or(WeekTime::default(), |local| WeekTime {
        weekday: local.weekday,
        minute: u16::from(local.hour) * 60 + u16::from(local.minute),
        second: local.second,
    })
}

const MINUTES_PER_DAY: u16 = 1440;

/// Whether one of the windows is open; no window at all means always.
#[must_use]
pub fn is_open(windows: &[Hours], at: WeekTime) -> bool {
    windows.is_empty() || windows.iter().any(|window| contains(window, at))
}

/// A window that ends before it begins runs into the next day: the small hours
/// of a day belong to the window of the day before.
fn contains(window: &Hours, at: WeekTime) -> bool {
    let today = usize::from(at.weekday % 7);
    let yesterday = (today + 6) % 7;
    let until = window.until.min(MINUTES_PER_DAY);
    if window.from < until {
        window.days[today] && (window.from..until).contains(&at.minute)
    } else {
        window.days[today] && at.minute >= window.from
            || window.days[yesterday] && at.minute < until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MON: u8 = 0;
    const TUE: u8 = 1;
    const SUN: u8 = 6;

    fn at(weekday: u8, hour: u16, minute: u16) -> WeekTime {
        WeekTime {
            weekday,
            minute: hour * 60 + minute,
            second: 0,
        }
    }

    fn window(days: &[u8], from: u16, until: u16) -> Hours {
        let mut on = [false; 7];
        days.iter().for_each(|day| on[usize::from(*day)] = true);
        Hours {
            days: on,
            from,
            until,
        }
    }

    #[test]
    fn no_window_is_always_open() {
        assert!(is_open(&[], at(SUN, 3, 0)));
    }

    #[test]
    fn the_end_is_exclusive_and_midnight_can_be_an_end() {
        let office = [window(&[MON], 9 * 60, 17 * 60)];
        assert!(!is_open(&office, at(MON, 8, 59)));
        assert!(is_open(&office, at(MON, 9, 0)));
        assert!(!is_open(&office, at(MON, 17, 0)));
        assert!(!is_open(&office, at(TUE, 9, 0)));
        assert!(is_open(&[window(&[MON], 0, 1440)], at(MON, 23, 59)));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_began() {
        let night = [window(&[SUN], 22 * 60, 6 * 60)];
        assert!(is_open(&night, at(SUN, 22, 0)));
        assert!(is_open(&night, at(MON, 5, 59)));
        assert!(!is_open(&night, at(MON, 6, 0)));
        assert!(!is_open(&night, at(SUN, 5, 0)));
        assert!(!is_open(&night, at(MON, 22, 0)));
    }
}
