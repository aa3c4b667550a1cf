//! What instances use, for the front: all of it where they have a cgroup, else
//! CPU time and memory of their first processes.
#![forbid(unsafe_code)]

use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::helper::core::Helper;
use crate::helper::instances::Instance;
use crate::helper::wire::{Notice, Usage};

/// The front gets new figures no more often than this.
const PAUSE: Duration = Duration::from_millis(250);
/// Instances looked at in one go: each is a file to read.
const MOST: usize = 2048;

impl Helper {
    pub(in crate::helper) fn measure(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) < PAUSE;
        let Some(front) = &mut self.front else { return };
        if !self.control.last_measured.is_some_and(lately) {
            self.control.last_measured = Some(now);
            let units = Units::ask();
            for instance in self.instances.iter().take(MOST) {
                if let Some(usage) = units.measure(instance) {
                    let instance = instance.id;
                    front.link.notify(&Notice::Usage { instance, usage });
                }
            }
        }
        front.link.notify(&Notice::Measured);
    }
}

/// What /proc/PID/stat counts in.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page: u64,
}

impl Units {
    fn ask() -> Self {
        let ask = |what, usual| {
            let told = sysconf(what).ok().flatten();
            told.and_then(|n| u64::try_from(n).ok()).unwrap_or(usual)
        };
        Self {
            ticks_per_second: ask(SysconfVar::CLK_TCK, 100).max(1),
            page: ask(SysconfVar::PAGE_SIZE, 4096),
        }
    }

    fn measure(self, instance: &Instance) -> Option<Usage> {
        let leaf = instance.leaf.as_ref();
        let whole = leaf.and_then(|leaf| leaf.usage().ok());
        // One that left its cgroup uses nothing there.
        let whole = whole.filter(|whole| whole.tasks > 0);
        if let Some(whole) = whole
            && let Some(memory) = whole.memory
        {
            return Some(Usage {
                cpu: whole.cpu_micros,
                memory,
                tasks: Some(whole.tasks),
                read: whole.read,
                written: whole.written,
            });
        }
        let stat = fs::read(format!("/proc/{}/stat", instance.pid)).ok()?;
        let (cpu, memory) = self.read(&stat)?;
        Some(Usage {
            cpu: whole.map_or(cpu, |whole| whole.cpu_micros),
            memory,
            tasks: whole.map(|whole| whole.tasks),
            read: None,
            written: None,
        })
    }

    /// Microseconds of CPU and resident octets: fields 14, 15 and 24 of proc_pid_stat(5).
    fn read(self, stat: &[u8]) -> Option<(u64, u64)> {
        let text = String::from_utf8_lossy(stat);
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let ticks = number(14)? + number(15)?;
        let cpu = ticks.saturating_mul(1_000_000) / self.ticks_per_second;
        Some((cpu, number(24)?.saturating_mul(self.page)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_last_parenthesis() {
        let units = Units {
            ticks_per_second: 100,
            page: 4096,
        };
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 25 5 0 0 20 0 1 0 9 1000 3 18446744073709551615";
        assert_eq!(units.read(stat), Some((300_000, 12_288)));
        assert_eq!(units.read(b"7 (x) S 1 7"), None);
    }
}
