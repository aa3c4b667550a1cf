//! What the table has to know about the machine, as plain values, so that
//! checking it touches nothing and a test can be any machine.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{self, Gid, Group, Uid, User};

use super::names::Names;

/// CAP_NET_BIND_SERVICE in capabilities(7).
const NET_BIND_SERVICE: u32 = 10;

/// The machine, and who usherd is on it.
#[derive(Debug)]
pub struct Host {
    /// Effective uid 0.
    pub root: bool,
    /// CAP_NET_BIND_SERVICE is in the effective set.
    pub can_bind_low: bool,
    /// Ports below it need that capability.
    pub unprivileged_port_start: u16,
    pub uid: u32,
    pub gid: u32,
    /// Own name, if the uid belongs to an account.
    pub user: Option<String>,
    /// As uname(2) has it.
    pub hostname: String,
    /// Own supplementary groups.
    pub groups: Vec<u32>,
    /// Descriptors handed over in LISTEN_FDS.
    pub inherited: Inherited,
    /// Own hard limits, by the number of the resource.
    pub hard_limits: Vec<(i32, u64)>,
    /// Not even root may allow more open files: fs.nr_open.
    pub nr_open: u64,
    pub names: Names,
    /// A file as it is to be, read in place of what is there.
    pub edited: Option<Edited>,
    pub accounts: Box<dyn Accounts>,
    /// What a path leads to; only ever the ground for a warning.
    pub look: fn(&Path) -> Found,
    /// Why there can be no PAM sessions; asked only where one is wanted.
    pub lack_of_pam: fn() -> Option<String>,
}

/// What is to be written to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Without links in it.
    pub file: PathBuf,
    pub text: String,
}

/// What is at a path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or not for us to see.
    Nothing,
    Folder,
    /// A file that somebody may execute.
    Program,
    /// Anything else.
    File,
}

/// What is known about LISTEN_FDS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// Nothing can be known here (`usherd check`): an `fd:` name is only worth a warning.
    Unknown,
    /// Names and kinds; none at all if nobody handed anything over.
    Known(Vec<(String, InheritedKind)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InheritedKind {
    Listener,
    /// Accepted already by whoever started usherd.
    Connection,
    Datagram,
}

/// An account of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// The user and group databases.
pub trait Accounts: fmt::Debug {
    fn user(&self, name: &str) -> Option<Account>;
    fn user_by_uid(&self, uid: u32) -> Option<Account>;
    fn group(&self, name: &str) -> Option<u32>;
    fn has_gid(&self, gid: u32) -> bool;
    /// Every group of an account, `gid` among them: getgrouplist(3).
    fn groups_of(&self, name: &str, gid: u32) -> Vec<u32>;
}

impl Found {
    fn at(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(_) => Self::Nothing,
            Ok(meta) if meta.is_dir() => Self::Folder,
            Ok(meta) if meta.is_file() && meta.mode() & 0o111 != 0 => Self::Program,
            Ok(_) => Self::File,
        }
    }
}

impl Host {
    /// Asks the machine. `inherited` stays [`Inherited::Unknown`] until the caller knows better.
    #[must_use]
    pub fn probe() -> Self {
        let uid = unistd::geteuid();
        let accounts = Box::new(SystemAccounts);
        Self {
            root: uid.is_root(),
            can_bind_low: has_capability(&read("/proc/self/status"), NET_BIND_SERVICE),
            unprivileged_port_start: number("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .unwrap_or(1024),
            uid: uid.as_raw(),
            gid: unistd::getegid().as_raw(),
            user: accounts.user_by_uid(uid.as_raw()).map(|a| a.name),
            hostname: unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            groups: unistd::getgroups()
                .unwrap_or_default()
                .into_iter()
                .map(Gid::as_raw)
                .collect(),
            inherited: Inherited::Unknown,
            hard_limits: LIMITED
                .iter()
                .filter_map(|r| Some((*r as i32, getrlimit(*r).ok()?.1)))
                .collect(),
            nr_open: number("/proc/sys/fs/nr_open").unwrap_or(1 << 20),
            names: Names::new(&read("/etc/services"), &read("/etc/rpc")),
            edited: None,
            accounts,
            look: Found::at,
            lack_of_pam: crate::sys::pam::lack,
        }
    }

    /// Whether usherd may not bind this port.
    #[must_use]
    pub fn forbids_port(&self, port: u16) -> bool {
        port < self.unprivileged_port_start && !self.can_bind_low
    }
}

/// The resources that `limits` knows.
const LIMITED: [Resource; 10] = [
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_NPROC,
    Resource::RLIMIT_CORE,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_AS,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_STACK,
    Resource::RLIMIT_RSS,
    Resource::RLIMIT_MEMLOCK,
    Resource::RLIMIT_CPU,
];

/// Unreadable files count as empty: the table then has to do without names.
fn read(path: &str) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    read(path).trim().parse().ok()
}

fn has_capability(status: &str, capability: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}

/// passwd(5) and group(5), or whatever nsswitch.conf(5) puts in their place.
#[derive(Debug)]
struct SystemAccounts;

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            shell: user.shell,
        }
    }
}

impl Accounts for SystemAccounts {
    fn user(&self, name: &str) -> Option<Account> {
        User::from_name(name).ok().flatten().map(Account::from)
    }

    fn user_by_uid(&self, uid: u32) -> Option<Account> {
        User::from_uid(Uid::from_raw(uid))
            .ok()
            .flatten()
            .map(Account::from)
    }

    fn group(&self, name: &str) -> Option<u32> {
        Group::from_name(name)
            .ok()
            .flatten()
            .map(|g| g.gid.as_raw())
    }

    fn has_gid(&self, gid: u32) -> bool {
        matches!(Group::from_gid(Gid::from_raw(gid)), Ok(Some(_)))
    }

    fn groups_of(&self, name: &str, gid: u32) -> Vec<u32> {
        let Ok(name) = CString::new(name) else {
            return vec![gid];
        };
        match unistd::getgrouplist(&name, Gid::from_raw(gid)) {
            Ok(groups) => groups.into_iter().map(Gid::as_raw).collect(),
            Err(_) => vec![gid],
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine with root, nobody, git (two groups) and alice (uid 1000).
    #[derive(Debug)]
    pub struct Pretend;

    impl Accounts for Pretend {
        fn user(&self, name: &str) -> Option<Account> {
            let (uid, gid) = match name {
                "root" => (0, 0),
                "nobody" => (65534, 65534),
                "git" => (200, 200),
                "alice" => (1000, 1000),
                _ => return None,
            };
            Some(Account {
                name: name.to_owned(),
                uid,
                gid,
                home: "/".into(),
                shell: "/bin/sh".into(),
            })
        }

        fn user_by_uid(&self, uid: u32) -> Option<Account> {
            ["root", "nobody", "git", "alice"]
                .iter()
                .filter_map(|name| self.user(name))
                .find(|a| a.uid == uid)
        }

        fn group(&self, name: &str) -> Option<u32> {
            match name {
                "adm" => Some(4),
                "www" => Some(33),
                other => self.user(other).map(|a| a.gid),
            }
        }

        fn has_gid(&self, gid: u32) -> bool {
            gid == 4 || gid == 33 || self.user_by_uid(gid).is_some()
        }

        fn groups_of(&self, name: &str, gid: u32) -> Vec<u32> {
            if name == "git" {
                vec![gid, 33]
            } else {
                vec![gid]
            }
        }
    }

    pub fn host(root: bool) -> Host {
        let uid = if root { 0 } else { 1000 };
        Host {
            root,
            can_bind_low: root,
            unprivileged_port_start: 1024,
            uid,
            gid: uid,
            user: Some(if root { "root" } else { "alice" }.to_owned()),
            hostname: "host".to_owned(),
            groups: vec![uid],
            inherited: Inherited::Known(vec![
                ("web".to_owned(), InheritedKind::Listener),
                ("conn".to_owned(), InheritedKind::Connection),
                ("log".to_owned(), InheritedKind::Datagram),
            ]),
            hard_limits: vec![(Resource::RLIMIT_NOFILE as i32, 4096)],
            nr_open: 1 << 20,
            edited: None,
            names: Names::new("ftp 21/tcp\nhttp 80/tcp\nntp 123/udp\n", "rstatd 100001\n"),
            accounts: Box::new(Pretend),
            look: |path| match path.parent() {
                None => Found::Folder,
                Some(_) if path.ends_with("missing") => Found::Nothing,
                Some(_) => Found::Program,
            },
            lack_of_pam: || Some("unable to load the PAM library".to_owned()),
        }
    }

    #[test]
    fn capabilities_are_read_from_the_kernels_line() {
        let status = "Name:\tx\nCapEff:\t0000000000000400\n";
        assert!(has_capability(status, 10));
        assert!(!has_capability(status, 11));
        assert!(!has_capability("", 10));
    }

    #[test]
    fn the_machine_answers() {
        let host = Host::probe();
        assert_eq!(host.root, host.uid == 0);
        assert_eq!(host.accounts.user("root").map(|a| a.uid), Some(0));
    }
}
