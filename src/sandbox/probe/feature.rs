//! What is tried, one by one, and which mechanism is made of what.
#![forbid(unsafe_code)]

use crate::table::isolation::Mechanism;

/// One thing that this kernel and host can do or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Feature {
    /// clone3(2) with CLONE_INTO_CGROUP.
    Clone3,
    /// setgroups(2), setresgid(2), setresuid(2) to another account.
    SwitchUser,
    UserNamespace,
    MountNamespace,
    Tmpfs,
    /// fsopen(2), open_tree(2), move_mount(2).
    MountApi,
    /// mount_setattr(2) of a whole tree.
    ReadOnlyTree,
    /// open_tree(2) with OPEN_TREE_NAMESPACE.
    TreeNamespace,
    PidNamespace,
    /// A proc file system of an own pid namespace, with `hidepid` and `subset`.
    Proc,
    IpcNamespace,
    UtsNamespace,
    NetworkNamespace,
    /// The loopback interface of an own network namespace comes up.
    Loopback,
    CgroupNamespace,
    NoNewPrivs,
    CapabilityBounds,
    Seccomp,
    Landlock,
    Keyring,
}

impl Feature {
    pub const ALL: [Feature; 20] = [
        Feature::Clone3,
        Feature::SwitchUser,
        Feature::UserNamespace,
        Feature::MountNamespace,
        Feature::Tmpfs,
        Feature::MountApi,
        Feature::ReadOnlyTree,
        Feature::TreeNamespace,
        Feature::PidNamespace,
        Feature::Proc,
        Feature::IpcNamespace,
        Feature::UtsNamespace,
        Feature::NetworkNamespace,
        Feature::Loopback,
        Feature::CgroupNamespace,
        Feature::NoNewPrivs,
        Feature::CapabilityBounds,
        Feature::Seccomp,
        Feature::Landlock,
        Feature::Keyring,
    ];

    /// As in what the trials report, and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Feature::Clone3 => "clone3",
            Feature::SwitchUser => "switch_user",
            Feature::UserNamespace => "user_namespace",
            Feature::MountNamespace => "mount_namespace",
            Feature::Tmpfs => "tmpfs",
            Feature::MountApi => "mount_api",
            Feature::ReadOnlyTree => "read_only_tree",
            Feature::TreeNamespace => "tree_namespace",
            Feature::PidNamespace => "pid_namespace",
            Feature::Proc => "proc",
            Feature::IpcNamespace => "ipc_namespace",
            Feature::UtsNamespace => "uts_namespace",
            Feature::NetworkNamespace => "network_namespace",
            Feature::Loopback => "loopback",
            Feature::CgroupNamespace => "cgroup_namespace",
            Feature::NoNewPrivs => "no_new_privs",
            Feature::CapabilityBounds => "capability_bounds",
            Feature::Seccomp => "seccomp",
            Feature::Landlock => "landlock",
            Feature::Keyring => "keyring",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Feature::Clone3 => "clone3 into a cgroup",
            Feature::SwitchUser => "switch to another user",
            Feature::UserNamespace => "user namespace",
            Feature::MountNamespace => "mount namespace",
            Feature::Tmpfs => "tmpfs of its own",
            Feature::MountApi => "detached mounts",
            Feature::ReadOnlyTree => "read-only tree",
            Feature::TreeNamespace => "mount namespace of one tree",
            Feature::PidNamespace => "pid namespace",
            Feature::Proc => "proc of its own",
            Feature::IpcNamespace => "ipc namespace",
            Feature::UtsNamespace => "uts namespace",
            Feature::NetworkNamespace => "network namespace",
            Feature::Loopback => "loopback of its own",
            Feature::CgroupNamespace => "cgroup namespace",
            Feature::NoNewPrivs => "no new privileges",
            Feature::CapabilityBounds => "capability bounds",
            Feature::Seccomp => "seccomp filters",
            Feature::Landlock => "Landlock",
            Feature::Keyring => "session keyring",
        }
    }

    /// The first Linux that has it, where that is later than any that usherd runs on.
    #[must_use]
    pub fn since(self) -> Option<&'static str> {
        match self {
            Feature::Clone3 => Some("5.7"),
            Feature::MountApi => Some("5.2"),
            Feature::Proc => Some("5.8"),
            Feature::ReadOnlyTree => Some("5.12"),
            Feature::Landlock => Some("5.13"),
            Feature::TreeNamespace => Some("7.0"),
            _ => None,
        }
    }

    /// How the kernel's configuration calls it.
    #[must_use]
    pub fn option(self) -> Option<&'static str> {
        match self {
            Feature::UserNamespace => Some("CONFIG_USER_NS"),
            Feature::PidNamespace => Some("CONFIG_PID_NS"),
            Feature::IpcNamespace => Some("CONFIG_IPC_NS"),
            Feature::UtsNamespace => Some("CONFIG_UTS_NS"),
            Feature::NetworkNamespace | Feature::Loopback => Some("CONFIG_NET_NS"),
            Feature::CgroupNamespace => Some("CONFIG_CGROUPS"),
            Feature::Tmpfs => Some("CONFIG_TMPFS"),
            Feature::Seccomp => Some("CONFIG_SECCOMP_FILTER"),
            Feature::Landlock => Some("CONFIG_SECURITY_LANDLOCK"),
            Feature::Keyring => Some("CONFIG_KEYS"),
            _ => None,
        }
    }

    /// The sysctl that counts such namespaces.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Feature::UserNamespace => Some("user.max_user_namespaces"),
            Feature::MountNamespace
            | Feature::Tmpfs
            | Feature::MountApi
            | Feature::ReadOnlyTree
            | Feature::TreeNamespace => Some("user.max_mnt_namespaces"),
            Feature::PidNamespace | Feature::Proc => Some("user.max_pid_namespaces"),
            Feature::IpcNamespace => Some("user.max_ipc_namespaces"),
            Feature::UtsNamespace => Some("user.max_uts_namespaces"),
            Feature::NetworkNamespace | Feature::Loopback => Some("user.max_net_namespaces"),
            Feature::CgroupNamespace => Some("user.max_cgroup_namespaces"),
            _ => None,
        }
    }

    /// Nothing but speed is lost without it.
    #[must_use]
    pub fn is_luxury(self) -> bool {
        matches!(self, Feature::Clone3 | Feature::TreeNamespace)
    }
}

/// What has to work for a mechanism, whatever else is asked of it. Cgroups are
/// not tried: see [`Probe::set_cgroup`](super::Probe::set_cgroup).
#[must_use]
pub fn made_of(mechanism: Mechanism) -> &'static [Feature] {
    match mechanism {
        Mechanism::MountNamespace => &[
            Feature::MountNamespace,
            Feature::Tmpfs,
            Feature::MountApi,
            Feature::ReadOnlyTree,
        ],
        Mechanism::PidNamespace => &[Feature::PidNamespace],
        Mechanism::IpcNamespace => &[Feature::IpcNamespace],
        Mechanism::UtsNamespace => &[Feature::UtsNamespace],
        Mechanism::NetworkNamespace => &[Feature::NetworkNamespace],
        Mechanism::CgroupNamespace => &[Feature::CgroupNamespace],
        Mechanism::UserNamespace => &[Feature::UserNamespace],
        Mechanism::Cgroup => &[],
        Mechanism::NoNewPrivs => &[Feature::NoNewPrivs],
        Mechanism::CapabilityBounds => &[Feature::CapabilityBounds],
        Mechanism::Seccomp => &[Feature::Seccomp],
        Mechanism::Landlock => &[Feature::Landlock],
        Mechanism::MemoryDenyWriteExecute => &[Feature::Seccomp],
        Mechanism::Keyring => &[Feature::Keyring],
    }
}
