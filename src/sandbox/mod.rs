//! From clone to exec: the steps a child takes before it becomes a server.
//!
//! Everything a child needs is prepared at load ([`plan`]) or just before the
//! clone; after it the child makes system calls only, in the order of
//! [`Step`], and on failure leaves step and errno where the helper finds them.

use std::fmt;

pub mod effective;
pub mod exposure;
pub mod facts;
pub mod launch;
pub mod mounts;
pub mod plan;
pub mod probe;
pub mod report;

/// The steps between "start" and a running server, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The helper readies descriptors and clones.
    Clone,
    /// Default actions for all signals, empty mask (an ignored SIGPIPE would be inherited).
    Signals,
    /// setsid(2): no terminal, and a process group that can be signalled as one.
    Session,
    /// Socket, stderr, null device onto their numbers; all others close on exec.
    Descriptors,
    /// setrlimit(2): before the user switch, for a lowered hard limit can only be set by root.
    Limits,
    /// setpriority(2): negative values need root.
    Nice,
    /// setgroups, setresgid, setresuid: groups first, root is needed for them.
    Credentials,
    /// chdir(2) as the target user, so that nothing is entered that it may not enter.
    Directory,
    /// execve(2).
    Exec,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 9] = [
        Step::Clone,
        Step::Signals,
        Step::Session,
        Step::Descriptors,
        Step::Limits,
        Step::Nice,
        Step::Credentials,
        Step::Directory,
        Step::Exec,
    ];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Clone => "clone",
            Step::Signals => "signals",
            Step::Session => "session",
            Step::Descriptors => "descriptors",
            Step::Limits => "limits",
            Step::Nice => "nice",
            Step::Credentials => "credentials",
            Step::Directory => "directory",
            Step::Exec => "exec",
        })
    }
}
