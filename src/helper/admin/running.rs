//! `GetRunning`: which instances there are, told apart from any other process.
#![forbid(unsafe_code)]

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::calls::no_such_service;
use crate::control::message::{Call, CallError, Reply};
use crate::control::types::{GetRunning, OfService, Running};
use crate::helper::core::Helper;

impl Helper {
    pub(super) fn get_running(&self, call: &mut Call) -> Result<Reply, CallError> {
        let OfService { service } = call.take()?;
        if let Some(name) = &service
            && !(self.table.services.iter()).any(|known| known.name == *name)
        {
            return Err(no_such_service(name));
        }
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let ticks = u64::try_from(ticks).unwrap_or(100).max(1);
        let is_meant = |name: &str| service.as_deref().is_none_or(|meant| meant == name);
        let running = self.instances.iter().filter(|one| is_meant(&one.name));
        let mut instances: Vec<Running> = running
            .filter_map(|one| {
                let stat = fs::read(format!("/proc/{}/stat", one.pid)).ok()?;
                Some(Running {
                    id: one.id.0,
                    service: one.name.to_string(),
                    pid: one.pid,
                    started_us: start(&stat)?.saturating_mul(1_000_000) / ticks,
                })
            })
            .collect();
        instances.sort_by_key(|one| one.id);
        Ok(Reply::last(&GetRunning { instances }))
    }
}

/// Ticks from the start of the host: field 22 of proc_pid_stat(5).
fn start(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_counted_from_the_last_parenthesis() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 25 5 0 0 20 0 1 0 99 1000 3 1";
        assert_eq!(start(stat), Some(99));
        assert_eq!(start(b"7 (x) S 1 7"), None);
    }
}
