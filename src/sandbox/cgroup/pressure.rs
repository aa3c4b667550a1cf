//! Pressure: how much of the time somebody waited for CPU, memory or disks
//! (Documentation/accounting/psi.rst of the kernel).
#![forbid(unsafe_code)]

use super::dir::Dir;

/// Of one cgroup. `None`: the kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub cpu: Option<Stalled>,
    pub memory: Option<Stalled>,
    pub io: Option<Stalled>,
}

/// The line `some`: at least one process waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Hundredths of a percent of the last ten seconds.
    pub lately: u32,
    /// Microseconds in all.
    pub total_micros: u64,
}

impl Pressure {
    pub(super) fn read(dir: &Dir) -> Self {
        let of = |file| Stalled::parse(&dir.read(file).ok()?);
        Self {
            cpu: of("cpu.pressure"),
            memory: of("memory.pressure"),
            io: of("io.pressure"),
        }
    }
}

impl Stalled {
    /// `some avg10=1.25 avg60=0.00 avg300=0.00 total=4711`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        let value = |key: &str| {
            let mut words = some.split(' ');
            words.find_map(|word| word.strip_prefix(key))
        };
        let (whole, hundredths) = value("avg10=")?.split_once('.')?;
        let whole: u32 = whole.parse().ok()?;
        let hundredths: u32 = hundredths.parse().ok()?;
        Some(Self {
            lately: whole * 100 + hundredths,
            total_micros: value("total=")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_about_some_is_read() {
        let text = "some avg10=1.25 avg60=0.10 avg300=0.00 total=4711\nfull avg10=0.00 total=1\n";
        let stalled = Stalled {
            lately: 125,
            total_micros: 4711,
        };
        assert_eq!(Stalled::parse(text), Some(stalled));
        assert_eq!(Stalled::parse(""), None);
    }
}
