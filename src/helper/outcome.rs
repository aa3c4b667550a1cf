//! How an instance ended and what it used, as the helper tells the front.
#![forbid(unsafe_code)]

use super::octets::{Bytes, put_u64};
use super::wire::ProtocolError;

/// How an instance ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Somebody else was its parent: how it ended and what it used is not known.
    pub unseen: bool,
    /// Exit status, or signal number with `signalled`.
    pub status: i32,
    pub signalled: bool,
    pub core: bool,
    /// Wall time from clone to reap, microseconds.
    pub micros: u64,
    /// What it and the children it waited for used, as getrusage(2) tells.
    pub user_micros: u64,
    pub system_micros: u64,
    /// Peak resident set of the largest of them, KiB.
    pub max_rss: u64,
    /// Of 512 bytes, from and to disk.
    pub blocks_read: u64,
    pub blocks_written: u64,
    /// The kernel killed it, or processes of it, for want of memory.
    pub oom_killed: bool,
}

/// What an instance uses now: all of its processes where it has a cgroup, else
/// the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds of CPU.
    pub cpu: u64,
    /// Octets.
    pub memory: u64,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Octets from and to disks.
    pub read: Option<u64>,
    pub written: Option<u64>,
}

impl Usage {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.cpu);
        put_u64(out, self.memory);
        for known in [self.tasks, self.read, self.written] {
            out.push(u8::from(known.is_some()));
            put_u64(out, known.unwrap_or(0));
        }
    }

    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, ProtocolError> {
        let (cpu, memory) = (bytes.u64()?, bytes.u64()?);
        let mut known =
            || Ok(Some((bytes.flag()?, bytes.u64()?)).and_then(|(is, n)| is.then_some(n)));
        Ok(Usage {
            cpu,
            memory,
            tasks: known()?,
            read: known()?,
            written: known()?,
        })
    }
}

impl Outcome {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.status.to_le_bytes());
        let flags = [self.signalled, self.core, self.oom_killed, self.unseen];
        out.push(
            (0..)
                .zip(flags)
                .map(|(bit, flag)| u8::from(flag) << bit)
                .sum(),
        );
        put_u64(out, self.micros);
        put_u64(out, self.user_micros);
        put_u64(out, self.system_micros);
        put_u64(out, self.max_rss);
        put_u64(out, self.blocks_read);
        put_u64(out, self.blocks_written);
    }

    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, ProtocolError> {
        let status = bytes.i32()?;
        let flags = bytes.u8()?;
        Ok(Outcome {
            unseen: flags & 8 != 0,
            status,
            signalled: flags & 1 != 0,
            core: flags & 2 != 0,
            micros: bytes.u64()?,
            user_micros: bytes.u64()?,
            system_micros: bytes.u64()?,
            max_rss: bytes.u64()?,
            blocks_read: bytes.u64()?,
            blocks_written: bytes.u64()?,
            oom_killed: flags & 4 != 0,
        })
    }
}
