//! Bans as the front keeps them: asked before anything else about a peer.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::admin::bans::{Banned, Left};
use crate::front::event_loop::Front;
use crate::front::reload::read_memory;
use crate::helper::wire::Request;

impl Front {
    pub(super) fn take_bans(&mut self, memory: Option<OwnedFd>, now: Instant) {
        let Some(memory) = memory else { return };
        let bans: Result<Vec<Left>, _> = read_memory(&memory);
        match bans {
            Ok(bans) => {
                self.banned = Banned::new(&bans, now);
                self.link.send(&Request::Taken, None);
            }
            Err(err) => self.fail(&format_args!("unable to read the bans: {err}")),
        }
    }

    pub(super) fn is_banned(&self, ip: Option<IpAddr>, now: Instant) -> bool {
        ip.is_some_and(|ip| self.banned.holds(ip, now))
    }
}
