//! What `isolation` may say: the mechanisms, how much each is wanted, and the
//! three presets. Values only; what a kernel has is `sandbox::probe`'s affair.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::capability::Capability;

/// Where a service's isolation starts from before single keys change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// Nothing but user, session and limits, as inetd has it.
    None,
    /// For any network daemon: the host's tree, read-only, and one sandbox for all instances.
    Standard,
    /// For what nobody trusts: a root of its own and a sandbox for each instance.
    Strict,
}

impl Preset {
    pub const ALL: [(&str, Preset); 3] = [
        ("none", Preset::None),
        ("standard", Preset::Standard),
        ("strict", Preset::Strict),
    ];

    /// As in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::None => "none",
            Preset::Standard => "standard",
            Preset::Strict => "strict",
        }
    }
}

/// How much a mechanism is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    /// Used where the kernel has it; where not, the service runs and shows as degraded.
    Prefer,
    /// Where the kernel lacks it, the service is blocked.
    Require,
}

impl Level {
    pub const ALL: [(&str, Level); 3] = [
        ("off", Level::Off),
        ("prefer", Level::Prefer),
        ("require", Level::Require),
    ];

    /// As in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Prefer => "prefer",
            Level::Require => "require",
        }
    }
}

/// One thing that the kernel can do for a sandbox; each is a key of `isolation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mechanism {
    /// mount_namespaces(7): `root`, `tmp`, `home`, `dev`, `proc` and `sys` are made of it.
    MountNamespace,
    /// pid_namespaces(7): other processes are neither seen nor signalled.
    PidNamespace,
    /// ipc_namespaces(7): System V IPC and POSIX message queues.
    IpcNamespace,
    /// uts_namespaces(7): the host name.
    UtsNamespace,
    /// network_namespaces(7): what `network` is made of.
    NetworkNamespace,
    /// cgroup_namespaces(7): the instance's own cgroup is the root it sees.
    CgroupNamespace,
    /// user_namespaces(7): only the server's own user and groups exist.
    UserNamespace,
    /// A cgroup (v2) for each instance: counted, limited and killed as one.
    Cgroup,
    /// PR_SET_NO_NEW_PRIVS(2const): set-uid programs give nothing.
    NoNewPrivs,
    /// capabilities(7): the bounding set is cut to `capabilities`, and so is everything else.
    CapabilityBounds,
    /// seccomp(2): `system_calls`, `allow_calls`, `deny_calls`, `address_families`.
    Seccomp,
    /// landlock(7): nothing is written outside of the writable places, whoever mounts what.
    Landlock,
    /// No memory is both writable and executable, and none becomes executable (by seccomp).
    MemoryDenyWriteExecute,
    /// session-keyring(7): a new, empty one.
    Keyring,
}

impl Mechanism {
    pub const ALL: [Mechanism; 14] = [
        Mechanism::MountNamespace,
        Mechanism::PidNamespace,
        Mechanism::IpcNamespace,
        Mechanism::UtsNamespace,
        Mechanism::NetworkNamespace,
        Mechanism::CgroupNamespace,
        Mechanism::UserNamespace,
        Mechanism::Cgroup,
        Mechanism::NoNewPrivs,
        Mechanism::CapabilityBounds,
        Mechanism::Seccomp,
        Mechanism::Landlock,
        Mechanism::MemoryDenyWriteExecute,
        Mechanism::Keyring,
    ];

    /// As in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::MountNamespace => "mount_namespace",
            Mechanism::PidNamespace => "pid_namespace",
            Mechanism::IpcNamespace => "ipc_namespace",
            Mechanism::UtsNamespace => "uts_namespace",
            Mechanism::NetworkNamespace => "network_namespace",
            Mechanism::CgroupNamespace => "cgroup_namespace",
            Mechanism::UserNamespace => "user_namespace",
            Mechanism::Cgroup => "cgroup",
            Mechanism::NoNewPrivs => "no_new_privs",
            Mechanism::CapabilityBounds => "capability_bounds",
            Mechanism::Seccomp => "seccomp",
            Mechanism::Landlock => "landlock",
            Mechanism::MemoryDenyWriteExecute => "memory_deny_write_execute",
            Mechanism::Keyring => "keyring",
        }
    }
}

/// A level for each mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels([Level; Mechanism::ALL.len()]);

impl Levels {
    #[must_use]
    pub fn of(&self, mechanism: Mechanism) -> Level {
        self.0[mechanism as usize]
    }

    pub fn set(&mut self, mechanism: Mechanism, level: Level) {
        self.0[mechanism as usize] = level;
    }
}

/// Which file system a server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// The host's, as it is.
    Host,
    /// The host's, read-only but for `writable` places.
    ReadOnly,
    /// An empty one with the system's programs and libraries, and what `visible` and `writable` name.
    Minimal,
}

/// Which network a server can reach. Sockets that it is given work in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    Host,
    /// A loopback interface of its own, and nothing else.
    Loopback,
    /// No interface that is up.
    None,
}

/// `/tmp` and `/var/tmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tmp {
    Host,
    /// Memory of at most `tmp_size` that goes with the sandbox.
    Private,
}

/// `/home`, `/root` and `/run/user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Home {
    Host,
    ReadOnly,
    Hidden,
}

/// `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dev {
    Host,
    /// null, zero, full, random, urandom, tty, terminals of its own and `/dev/log`.
    Minimal,
    /// The same without terminals and without `/dev/log`.
    Bare,
}

/// `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proc {
    Host,
    /// Of its own processes, and of them only those of its own user (`hidepid=invisible`).
    Own,
    /// Of its own processes and nothing else (`subset=pid`).
    Subset,
    None,
}

/// `/sys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sys {
    Host,
    ReadOnly,
    None,
}

/// How system calls are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCalls {
    /// All but those that change the host, watch other processes or widen the kernel's surface.
    DenyList,
    /// Only those that servers need.
    AllowList,
}

/// The words of each choice, as in the table.
pub const ROOTS: [(&str, Root); 3] = [
    ("host", Root::Host),
    ("read-only", Root::ReadOnly),
    ("minimal", Root::Minimal),
];
pub const NETWORKS: [(&str, Network); 3] = [
    ("host", Network::Host),
    ("loopback", Network::Loopback),
    ("none", Network::None),
];
pub const TMPS: [(&str, Tmp); 2] = [("host", Tmp::Host), ("private", Tmp::Private)];
pub const HOMES: [(&str, Home); 3] = [
    ("host", Home::Host),
    ("read-only", Home::ReadOnly),
    ("hidden", Home::Hidden),
];
pub const DEVS: [(&str, Dev); 3] = [
    ("host", Dev::Host),
    ("minimal", Dev::Minimal),
    ("bare", Dev::Bare),
];
pub const PROCS: [(&str, Proc); 4] = [
    ("host", Proc::Host),
    ("own", Proc::Own),
    ("subset", Proc::Subset),
    ("none", Proc::None),
];
pub const SYSS: [(&str, Sys); 3] = [
    ("host", Sys::Host),
    ("read-only", Sys::ReadOnly),
    ("none", Sys::None),
];
pub const SYSTEM_CALLS: [(&str, SystemCalls); 2] = [
    ("deny-list", SystemCalls::DenyList),
    ("allow-list", SystemCalls::AllowList),
];

/// The word of a choice.
#[must_use]
pub fn word_of<T: Copy + PartialEq>(words: &[(&'static str, T)], choice: T) -> &'static str {
    let word = words.iter().find(|(_, meant)| *meant == choice);
    word.map_or("?", |(word, _)| word)
}

/// address_families(7) that a socket may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Unix,
    Inet,
    Inet6,
    Netlink,
    Packet,
    Vsock,
}

pub const FAMILIES: [(&str, Family); 6] = [
    ("unix", Family::Unix),
    ("inet", Family::Inet),
    ("inet6", Family::Inet6),
    ("netlink", Family::Netlink),
    ("packet", Family::Packet),
    ("vsock", Family::Vsock),
];

impl Family {
    /// `AF_*`.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Family::Unix => libc::AF_UNIX,
            Family::Inet => libc::AF_INET,
            Family::Inet6 => libc::AF_INET6,
            Family::Netlink => libc::AF_NETLINK,
            Family::Packet => libc::AF_PACKET,
            Family::Vsock => libc::AF_VSOCK,
        }
    }
}

/// Everything `isolation` says about one service, presets filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    pub preset: Preset,
    pub levels: Levels,
    /// What the server may keep. `None`: whatever its user has.
    pub capabilities: Option<Vec<Capability>>,
    pub root: Root,
    /// Seen read-only though `root`, `home`, `dev` or `tmp` would hide it.
    pub visible: Vec<PathBuf>,
    pub writable: Vec<PathBuf>,
    /// Not seen though `root` would show it.
    pub hidden: Vec<PathBuf>,
    pub tmp: Tmp,
    /// Octets of `/tmp` and `/var/tmp`, together.
    pub tmp_size: u64,
    pub home: Home,
    pub dev: Dev,
    pub proc: Proc,
    pub sys: Sys,
    pub network: Network,
    /// `None`: all that the kernel has.
    pub address_families: Option<Vec<Family>>,
    pub system_calls: SystemCalls,
    /// Names of system calls, or of groups such as `@mount`, beyond those of `system_calls`.
    pub allow_calls: Vec<String>,
    pub deny_calls: Vec<String>,
    /// A profile that is loaded on the host.
    pub apparmor: Option<String>,
    /// A context such as `system_u:system_r:httpd_t:s0`.
    pub selinux: Option<String>,
}

/// Octets of a private `/tmp`, where the table says nothing.
const TMP_SIZE: u64 = 64 << 20;

impl Isolation {
    /// A preset as it stands. What each mechanism is for, and why it is
    /// required or only preferred, is in `sandbox`'s documentation.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        use Level::{Off, Prefer, Require};
        let pick = |none, standard, strict| match preset {
            Preset::None => none,
            Preset::Standard => standard,
            Preset::Strict => strict,
        };
        let isolated = preset != Preset::None;
        let mut levels = Levels([Off; Mechanism::ALL.len()]);
        for (mechanism, standard, strict) in [
            (Mechanism::MountNamespace, Require, Require),
            (Mechanism::PidNamespace, Require, Require),
            (Mechanism::IpcNamespace, Require, Require),
            (Mechanism::UtsNamespace, Require, Require),
            (Mechanism::NetworkNamespace, Require, Require),
            (Mechanism::CgroupNamespace, Prefer, Require),
            (Mechanism::UserNamespace, Off, Require),
            (Mechanism::Cgroup, Prefer, Prefer),
            (Mechanism::NoNewPrivs, Require, Require),
            (Mechanism::CapabilityBounds, Require, Require),
            (Mechanism::Seccomp, Require, Require),
            (Mechanism::Landlock, Prefer, Require),
            (Mechanism::MemoryDenyWriteExecute, Off, Prefer),
            (Mechanism::Keyring, Prefer, Require),
        ] {
            // Without a sandbox a cgroup still says what belongs together.
            let none = match mechanism {
                Mechanism::Cgroup => Prefer,
                _ => Off,
            };
            levels.set(mechanism, pick(none, standard, strict));
        }
        Self {
            preset,
            levels,
            capabilities: isolated.then(Vec::new),
            root: match preset {
                Preset::None => Root::Host,
                Preset::Standard => Root::ReadOnly,
                Preset::Strict => Root::Minimal,
            },
            visible: Vec::new(),
            writable: Vec::new(),
            hidden: Vec::new(),
            tmp: if isolated { Tmp::Private } else { Tmp::Host },
            tmp_size: TMP_SIZE,
            home: if isolated { Home::Hidden } else { Home::Host },
            dev: match preset {
                Preset::None => Dev::Host,
                Preset::Standard => Dev::Minimal,
                Preset::Strict => Dev::Bare,
            },
            proc: match preset {
                Preset::None => Proc::Host,
                Preset::Standard => Proc::Own,
                Preset::Strict => Proc::Subset,
            },
            sys: match preset {
                Preset::None => Sys::Host,
                Preset::Standard => Sys::ReadOnly,
                Preset::Strict => Sys::None,
            },
            network: if isolated {
                Network::None
            } else {
                Network::Host
            },
            address_families: match preset {
                Preset::None => None,
                Preset::Standard => Some(vec![Family::Unix, Family::Inet, Family::Inet6]),
                Preset::Strict => Some(vec![Family::Unix]),
            },
            system_calls: match preset {
                Preset::Strict => SystemCalls::AllowList,
                Preset::None | Preset::Standard => SystemCalls::DenyList,
            },
            allow_calls: Vec::new(),
            deny_calls: Vec::new(),
            apparmor: None,
            selinux: None,
        }
    }

    #[must_use]
    pub fn level(&self, mechanism: Mechanism) -> Level {
        self.levels.of(mechanism)
    }

    #[must_use]
    pub fn wants(&self, mechanism: Mechanism) -> bool {
        self.level(mechanism) != Level::Off
    }

    /// Whether anything has to be built before a server can enter it.
    #[must_use]
    pub fn has_sandbox(&self) -> bool {
        const BUILT: [Mechanism; 6] = [
            Mechanism::MountNamespace,
            Mechanism::PidNamespace,
            Mechanism::IpcNamespace,
            Mechanism::UtsNamespace,
            Mechanism::NetworkNamespace,
            Mechanism::UserNamespace,
        ];
        BUILT.iter().any(|mechanism| self.wants(*mechanism))
    }

    /// Whether every instance has a sandbox of its own.
    #[must_use]
    pub fn per_instance(&self) -> bool {
        self.preset == Preset::Strict && self.has_sandbox()
    }
}

/// `resources`: what a service's instances may use together (cgroups, version 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Octets beyond which something is killed: memory.max.
    pub memory: Option<u64>,
    /// Octets beyond which the servers are slowed down: memory.high.
    pub memory_high: Option<u64>,
    /// Hundredths of one CPU: cpu.max.
    pub cpu: Option<u32>,
    /// Processes and threads: pids.max.
    pub tasks: Option<u32>,
    pub io: Vec<IoLimit>,
}

/// A line of io.max.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLimit {
    /// A block device, or a file whose file system lies on one.
    pub path: PathBuf,
    /// Octets a second.
    pub read: Option<u64>,
    pub write: Option<u64>,
    /// Operations a second.
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
}

/// `io_priority`: ioprio_set(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// 0 (first) to 7.
    Realtime(u8),
    BestEffort(u8),
    Idle,
}
