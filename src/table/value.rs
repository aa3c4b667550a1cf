//! Values with a small grammar of their own: durations, sizes, rates, modes,
//! hours, signals. Each has a reader and a writer that gives it back.
#![forbid(unsafe_code)]

use std::time::Duration;

use nix::sys::signal::Signal;

use super::complaint::Fault;
use super::{Hours, IoPriority, Rate};

/// Nothing the table times lasts longer, and no sum of two overflows.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZES: [(&str, u64); 5] = [
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `"1500ms"`, `"10s"`, `"5m"`, `"1h"`, `"1d"`.
pub fn duration(text: &str) -> Result<Duration, Fault> {
    let fault = |problem: &str| {
        Fault::new(format!("\"{text}\" {problem}"))
            .help("a duration is a whole number and ms, s, m, h or d: \"1500ms\", \"10s\", \"5m\"")
    };
    let (number, unit) = split_unit(text).ok_or_else(|| fault("is no duration"))?;
    let scale = scale_of(&DURATIONS, unit).ok_or_else(|| fault("is no duration"))?;
    number
        .checked_mul(scale)
        .map(Duration::from_millis)
        .filter(|d| *d <= LONGEST)
        .ok_or_else(|| fault("is longer than ten years"))
}

/// The reverse of [`duration`], in the largest unit that needs no fraction.
#[must_use]
pub fn show_duration(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    show_scaled(millis, &DURATIONS)
}

/// `"64K"`, `"20M"`, `"1G"`: powers of 1024; `"512B"` for bytes.
pub fn size(text: &str) -> Result<u64, Fault> {
    let fault = |problem: &str| {
        Fault::new(format!("\"{text}\" {problem}"))
            .help("a size is a whole number and B, K, M, G or T: \"64K\", \"20M\", \"1G\"")
    };
    if text == "0" {
        return Ok(0);
    }
    let (number, unit) = split_unit(text).ok_or_else(|| fault("is no size"))?;
    let scale = scale_of(&SIZES, unit).ok_or_else(|| fault("is no size"))?;
    number
        .checked_mul(scale)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| fault("is more than any machine holds"))
}

/// The reverse of [`size`].
#[must_use]
pub fn show_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    show_scaled(bytes, &SIZES)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit))
}

fn scale_of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    let found = units.iter().find(|(name, _)| *name == unit)?;
    Some(found.1)
}

fn show_scaled(value: u64, units: &[(&str, u64)]) -> String {
    for (name, scale) in units {
        if value.is_multiple_of(*scale) {
            return format!("{}{name}", value / scale);
        }
    }
    unreachable!("the last unit is 1")
}

/// `"50/s burst 100"`; without `burst` as many at once as the count.
pub fn rate(text: &str) -> Result<Rate, Fault> {
    parse_rate(text).ok_or_else(|| {
        Fault::new(format!("\"{text}\" is no rate")).help(
            "a rate is a count per s, m, h or d, and how many at once if that differs: \
             \"50/s\", \"10/m burst 30\"",
        )
    })
}

fn parse_rate(text: &str) -> Option<Rate> {
    let mut words = text.split_ascii_whitespace();
    let (count, unit) = words.next()?.split_once('/')?;
    let count: u32 = number(count)?;
    let scale = scale_of(&DURATIONS, unit).filter(|scale| *scale > 1)?;
    let burst = match (words.next(), words.next(), words.next()) {
        (None, ..) => count,
        (Some("burst"), Some(burst), None) => number(burst)?,
        _ => return None,
    };
    (count > 0 && burst > 0).then_some(Rate {
        count,
        per: Duration::from_millis(scale),
        burst,
    })
}

/// The reverse of [`rate`].
#[must_use]
pub fn show_rate(rate: Rate) -> String {
    let per = show_duration(rate.per);
    let unit = per.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{}/{unit} burst {}", rate.count, rate.burst)
}

/// Digits only: `parse` alone would take a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Permission bits in octal: `"022"`, `"0660"`.
pub fn mode(text: &str) -> Result<u32, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| digits && *bits <= 0o777)
        .ok_or_else(|| {
            Fault::new(format!("\"{text}\" is no set of permission bits"))
                .help("three octal digits, with or without a leading 0: \"022\", \"0660\"")
        })
}

/// `"mon-fri 08:00-18:00"`, `"sat,sun 22:00-02:00"`, `"09:00-17:00"`.
pub fn hours(text: &str) -> Result<Hours, Fault> {
    let mut words = text.split_ascii_whitespace();
    let parsed = match (words.next(), words.next(), words.next()) {
        (Some(window), None, _) => parse_window(window).map(|w| ([true; 7], w)),
        (Some(days), Some(window), None) => parse_days(days).zip(parse_window(window)),
        _ => None,
    };
    let (days, (from, until)) = parsed.ok_or_else(|| {
        Fault::new(format!("\"{text}\" is no window of hours")).help(
            "days and two times: \"mon-fri 08:00-18:00\", \"sat,sun 22:00-02:00\", \
             or \"09:00-17:00\" for every day",
        )
    })?;
    if from == until {
        return Err(Fault::new(format!("\"{text}\" ends when it begins"))
            .help("the whole day is \"00:00-24:00\""));
    }
    Ok(Hours { days, from, until })
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|d| d.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days[at] = true;
        // Ranges may pass the end of the week: "fri-mon".
        while at != last {
            at = (at + 1) % 7;
            days[at] = true;
        }
    }
    Some(days)
}

fn parse_window(text: &str) -> Option<(u16, u16)> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (parse_clock(from)?, parse_clock(until)?);
    (from < 1440).then_some((from, until))
}

fn parse_clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u16, u16) = (number(hour)?, number(minute)?);
    let digits = minute < 60 && text.len() <= 5;
    (digits && (hour < 24 || hour == 24 && minute == 0)).then_some(hour * 60 + minute)
}

/// The reverse of [`hours`].
#[must_use]
pub fn show_hours(hours: &Hours) -> String {
    let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
    let window = format!("{}-{}", clock(hours.from), clock(hours.until));
    if hours.days == [true; 7] {
        return window;
    }
    let days: Vec<&str> = DAYS
        .iter()
        .zip(hours.days)
        .filter_map(|(name, on)| on.then_some(*name))
        .collect();
    format!("{} {window}", days.join(","))
}

/// `"TERM"`, `"SIGTERM"` or `"15"`.
pub fn signal(text: &str) -> Result<i32, Fault> {
    let upper = text.to_ascii_uppercase();
    let name = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper));
    if let Ok(signal) = name.parse::<Signal>() {
        return Ok(signal as i32);
    }
    number(text)
        .filter(|n| (1..=64).contains(n))
        .ok_or_else(|| {
            Fault::new(format!("no signal \"{text}\""))
                .help("a name as in kill(1), \"TERM\" or \"SIGTERM\", or a number from 1 to 64")
        })
}

/// The reverse of [`signal`].
#[must_use]
pub fn show_signal(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => known.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => signal.to_string(),
    }
}

/// A share of one CPU in hundredths: `"50%"`, `"150%"`.
pub fn percent(text: &str) -> Result<u32, Fault> {
    let number = text.strip_suffix('%').and_then(number::<u32>);
    number.filter(|n| (1..=100_000).contains(n)).ok_or_else(|| {
        Fault::new(format!("\"{text}\" is no share of a CPU"))
            .help("write percent of one CPU: \"50%\" is half of one, \"200%\" is two")
    })
}

/// CPUs by number, as in cpuset(7): `"0-3,6"`.
pub fn cpus(text: &str) -> Result<Vec<u16>, Fault> {
    let range = |part: &str| {
        let (from, until) = part.split_once('-').unwrap_or((part, part));
        let (from, until) = (number::<u16>(from)?, number::<u16>(until)?);
        (from <= until && until < MOST_CPUS).then_some(from..=until)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let mut cpus: Vec<u16> = ranges.into_iter().flatten().flatten().collect();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        return Err(Fault::new(format!("\"{text}\" names no CPUs"))
            .help("numbers and ranges from 0 to 1023, as in \"0-3,6\""));
    }
    Ok(cpus)
}

/// Beyond what sched_setaffinity(2) takes from the C library's set.
const MOST_CPUS: u16 = 1024;

/// The reverse of [`cpus`].
#[must_use]
pub fn show_cpus(cpus: &[u16]) -> String {
    let mut parts: Vec<(u16, u16)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let shown = parts.iter().map(|(from, until)| match from == until {
        true => from.to_string(),
        false => format!("{from}-{until}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// ioprio_set(2) in words.
pub fn io_priority(text: &str) -> Result<IoPriority, Fault> {
    let (class, level) = match text.split_once('/') {
        Some((class, level)) => (class, number::<u8>(level).filter(|n| *n < 8)),
        None => (text, Some(4)),
    };
    match (class, level) {
        ("idle", Some(_)) if !text.contains('/') => Ok(IoPriority::Idle),
        ("best-effort", Some(level)) => Ok(IoPriority::BestEffort(level)),
        ("realtime", Some(level)) => Ok(IoPriority::Realtime(level)),
        _ => Err(Fault::new(format!("\"{text}\" is no I/O priority")).help(
            "\"idle\", or \"best-effort\" or \"realtime\" with a level from 0 to 7: \"best-effort/4\"",
        )),
    }
}

/// The reverse of [`io_priority`].
#[must_use]
pub fn show_io_priority(priority: IoPriority) -> String {
    match priority {
        IoPriority::Idle => "idle".to_owned(),
        IoPriority::BestEffort(level) => format!("best-effort/{level}"),
        IoPriority::Realtime(level) => format!("realtime/{level}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_come_back() {
        for (text, millis) in [
            ("1500ms", 1500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            let value = duration(text).unwrap();
            assert_eq!(value, Duration::from_millis(millis));
            assert_eq!(show_duration(value), text);
        }
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "10 s",
            "5min",
            "1w",
            "99999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_come_back() {
        for (text, bytes) in [
            ("64K", 65_536),
            ("20M", 20 << 20),
            ("1G", 1 << 30),
            ("3B", 3),
        ] {
            assert_eq!(size(text).unwrap(), bytes);
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(size("0").unwrap(), 0);
        for bad in ["", "10", "K", "1k", "1KB", "1.5G", "9999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_default_their_burst_to_the_count() {
        let plain = rate("50/s").unwrap();
        assert_eq!((plain.count, plain.burst), (50, 50));
        let slow = rate("10/m burst 30").unwrap();
        assert_eq!((slow.per, slow.burst), (Duration::from_secs(60), 30));
        assert_eq!(show_rate(slow), "10/m burst 30");
        assert_eq!(rate(&show_rate(plain)).unwrap(), plain);
        for bad in [
            "",
            "50",
            "50/",
            "0/s",
            "5/s burst",
            "5/s burst 0",
            "5/ms",
            "5/s 9",
            "+5/s",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("022").unwrap(), 0o22);
        assert_eq!(mode("0660").unwrap(), 0o660);
        for bad in ["", "9", "1777", "+22", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hours_pass_midnight_and_know_24_00() {
        let work = hours("mon-fri 08:00-18:00").unwrap();
        assert_eq!(work.days, [true, true, true, true, true, false, false]);
        assert_eq!((work.from, work.until), (480, 1080));
        let night = hours("sat,sun 22:00-02:00").unwrap();
        assert_eq!((night.from, night.until), (1320, 120));
        assert_eq!(hours("12:00-24:00").unwrap().until, 1440);
        assert_eq!(
            hours("fri-mon 00:00-24:00").unwrap().days,
            [true, false, false, false, true, true, true]
        );
        for text in ["mon,wed 08:00-18:00", "22:00-02:00", "00:00-24:00"] {
            assert_eq!(show_hours(&hours(text).unwrap()), text);
        }
        for bad in [
            "",
            "8-18",
            "08:00",
            "24:00-08:00",
            "08:00-24:01",
            "25:00-26:00",
            "mo 1:00-2:00",
            "09:00-09:00",
            "mon tue 1:00-2:00",
        ] {
            assert!(hours(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("TERM").unwrap(), 15);
        assert_eq!(signal("SIGHUP").unwrap(), 1);
        assert_eq!(signal("kill").unwrap(), 9);
        assert_eq!(signal("34").unwrap(), 34);
        assert_eq!(show_signal(15), "TERM");
        assert_eq!(show_signal(34), "34");
        for bad in ["", "0", "65", "FOO", "-9"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
