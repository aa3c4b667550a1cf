//! From clone to exec: the steps a child takes before it becomes a server.
//!
//! Everything a child needs is prepared at load ([`plan`]) or just before the
//! clone; after it the child makes system calls only, in the order of
//! [`Step`], and on failure leaves step and errno where the helper finds them.
//!
//! The child is in the helper's memory all the time. Where something cannot be
//! done from there (`oom_score`, `pam`), it executes our own program first, which
//! then takes the same [`steps`] and reports over a link: see [`session`].
//!
//! # The way into a sandbox
//!
//! 1. At load: [`confinement`] compares what the table wants with what the host
//!    has ([`probe`]) and compiles a [`blueprint`], a cage ([`plan`]) with its filter
//!    ([`calls`]), and what is blocked or degraded.
//! 2. With the first request: a [`keeper`] builds the namespaces and the tree of
//!    files, gives up all rights, and stays in it. With `"strict"` a template makes
//!    one for each instance, which may get the network of one that has ended.
//! 3. For each instance: a [`cgroup`], and a child that takes the [`steps`] in
//!    order, up to where it needs its request. It may wait there, parked.
//! 4. Read back: [`effective`] asks /proc, [`report`] compares, [`exposure`] scores.
//!
//! An administrative server has one to itself, and builds it before it goes in: [`single`].
//!
//! # Why a mechanism is required, or only preferred
//!
//! Required is what a preset's promise rests on: without a mount, pid or network
//! namespace, no_new_privs, an empty bounding set or a filter, "reads no secrets",
//! "sees no other process", "reaches no network", "becomes nobody else" would be
//! untrue. Preferred is what defends the same line a second time (Landlock, with
//! `"standard"`), what limits damage rather than access (cgroups: hosts without
//! version 2 are still common), or what some programs cannot live with (no
//! writable code). `"strict"` requires Landlock, a user namespace and a keyring
//! as well: who asks for it wants both lines.

use std::fmt;

pub mod blueprint;
pub mod calls;
pub mod cgroup;
pub mod confinement;
pub mod effective;
pub mod exposure;
pub mod facts;
pub mod keeper;
pub mod launch;
pub mod plan;
pub mod probe;
pub mod report;
#[cfg(test)]
mod sample;
pub mod session;
pub mod single;
pub mod steps;

/// The steps between "start" and a running server, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// A keeper builds what the server is to run in, if that does not stand yet.
    Sandbox,
    /// The helper readies descriptors and clones, into the instance's cgroup and the
    /// sandbox's pid namespace.
    Clone,
    /// The instance's own cgroup, before anything that counts. The kernel puts the child there as
    /// it clones; only where it cannot, this is a step.
    Cgroup,
    /// Default actions for all signals, empty mask (an ignored SIGPIPE would be inherited).
    Signals,
    /// setsid(2): no terminal, and a process group that can be signalled as one.
    Session,
    /// execveat(2) of our own program, which takes the rest of the steps in memory of its own:
    /// only for services that need one of the next two, see [`session`].
    SessionProcess,
    /// oom_score_adj of proc(5), in the host's /proc. Processes that share memory share it.
    OomScore,
    /// A session of PAM: on the host as it is, where its modules find what they look for, and with every right.
    Pam,
    /// What an LSM is to make of the program, written to the host's /proc, which is out of
    /// reach after the next steps.
    Label,
    /// unshare(2): the instance's cgroup becomes the root of what it sees of them.
    CgroupNamespace,
    /// setns(2) into all namespaces of the sandbox at once.
    Namespaces,
    /// setrlimit(2): before the user switch, for a lowered hard limit can only be set by root.
    Limits,
    /// setpriority(2), sched_setaffinity(2), ioprio_set(2): some values need root.
    Priority,
    /// setns(2) into a user namespace: after everything that needs rights outside of it.
    UserNamespace,
    /// The bounding set: to enter a user namespace would have filled it again.
    Capabilities,
    /// A new session keyring, before seccomp forbids to make one.
    Keyring,
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivs,
    /// landlock_restrict_self(2): after all mounts, which it forbids.
    Landlock,
    /// seccomp(2): it forbids most of the above. Still as root, who needs no no_new_privs for it.
    Seccomp,
    /// Socket, stderr, null device onto their numbers; all others close on exec. A parked child
    /// waits here for its request.
    Descriptors,
    /// setgroups, setresgid, setresuid: groups first, root is needed for them; then what
    /// capabilities the new user keeps.
    Credentials,
    /// chdir(2) as the target user, so that nothing is entered that it may not enter.
    Directory,
    /// execve(2).
    Exec,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 23] = [
        Step::Sandbox,
        Step::Clone,
        Step::Cgroup,
        Step::Signals,
        Step::Session,
        Step::SessionProcess,
        Step::OomScore,
        Step::Pam,
        Step::Label,
        Step::CgroupNamespace,
        Step::Namespaces,
        Step::Limits,
        Step::Priority,
        Step::UserNamespace,
        Step::Capabilities,
        Step::Keyring,
        Step::NoNewPrivs,
        Step::Landlock,
        Step::Seccomp,
        Step::Descriptors,
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
            Step::Sandbox => "sandbox",
            Step::Clone => "clone",
            Step::Cgroup => "cgroup",
            Step::Signals => "signals",
            Step::Session => "session",
            Step::SessionProcess => "session process",
            Step::OomScore => "oom score",
            Step::Pam => "pam",
            Step::Label => "label",
            Step::CgroupNamespace => "cgroup namespace",
            Step::Namespaces => "namespaces",
            Step::Descriptors => "descriptors",
            Step::Limits => "limits",
            Step::Priority => "priority",
            Step::UserNamespace => "user namespace",
            Step::Capabilities => "capabilities",
            Step::Credentials => "credentials",
            Step::Keyring => "keyring",
            Step::Directory => "directory",
            Step::NoNewPrivs => "no new privileges",
            Step::Landlock => "landlock",
            Step::Seccomp => "seccomp",
            Step::Exec => "exec",
        })
    }
}
