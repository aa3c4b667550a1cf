//! What the host says about itself in files: its kernel, who restricts user
//! namespaces, whether it is a container, and its cgroups.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use super::Missing;
use crate::sandbox::effective::parse::status;

/// Controllers without which a cgroup limits nothing that matters here.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// Read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// As `uname -r` has it.
    pub kernel: String,
    /// What kind of container this is, if it is one.
    pub container: Option<String>,
    /// Our own effective ones, as in /proc/PID/status.
    pub capabilities: Option<u64>,
    /// Security modules in force, as far as they are known.
    pub modules: Vec<String>,
    /// SELinux denies rather than only logs.
    pub selinux_enforces: bool,
    /// kernel.apparmor_restrict_unprivileged_userns, kernel.unprivileged_userns_clone
    /// and user.max_user_namespaces.
    pub apparmor_restricts: Option<u64>,
    pub userns_clone: Option<u64>,
    pub userns_limit: Option<u64>,
    /// Where cgroup2 is mounted, its mount options, and its controllers.
    pub cgroup2: Option<Cgroup2>,
}

/// The unified hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup2 {
    pub at: String,
    pub options: String,
    pub controllers: Vec<String>,
}

impl Host {
    #[must_use]
    pub fn read() -> Self {
        let sysctl = |name: &str| number(&format!("/proc/sys/{name}"));
        Self {
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            container: container(),
            capabilities: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|text| status(&text).effective),
            modules: modules(),
            selinux_enforces: number("/sys/fs/selinux/enforce") == Some(1),
            apparmor_restricts: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
            userns_clone: sysctl("kernel/unprivileged_userns_clone"),
            userns_limit: sysctl("user/max_user_namespaces"),
            cgroup2: fs::read_to_string("/proc/self/mountinfo")
                .ok()
                .and_then(|text| find_cgroup2(&text))
                .map(|mut found| {
                    let path = Path::new(&found.at).join("cgroup.controllers");
                    let words = fs::read_to_string(path).unwrap_or_default();
                    found.controllers = words.split_whitespace().map(str::to_owned).collect();
                    found
                }),
        }
    }

    /// Whether cgroups could be used, judged by what is mounted.
    pub fn cgroup(&self) -> Result<String, Missing> {
        let missing = |reason: String, remedy: &str| {
            Err(Missing {
                reason,
                remedy: remedy.to_owned(),
            })
        };
        let Some(found) = &self.cgroup2 else {
            return missing(
                "no cgroup file system of version 2 is mounted".to_owned(),
                "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 on /sys/fs/cgroup",
            );
        };
        let has = |wanted: &&str| found.controllers.iter().any(|c| c == wanted);
        let lacking: Vec<&str> = CONTROLLERS.into_iter().filter(|c| !has(c)).collect();
        if lacking.is_empty() {
            return Ok(format!("version 2 on {}", found.at));
        }
        missing(
            format!(
                "the cgroup file system on {} lacks {}",
                found.at,
                lacking.join(" and ")
            ),
            match &self.container {
                Some(_) => "give the container cgroups of version 2 with these controllers",
                None => {
                    "boot with systemd.unified_cgroup_hierarchy=1 and cgroup_no_v1=all, \
                     so that version 1 does not hold them"
                }
            },
        )
    }

    /// Whether processes enter cgroups without a grace period of the kernel's.
    #[must_use]
    pub fn favours_dynamic_moves(&self) -> bool {
        let options = self.cgroup2.as_ref().map(|found| found.options.as_str());
        options.is_some_and(|all| all.split(',').any(|word| word == "favordynmods"))
    }

    #[must_use]
    pub fn has_module(&self, name: &str) -> bool {
        self.modules.iter().any(|module| module == name)
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    line(path)?.parse().ok()
}

/// The first cgroup2 of /proc/self/mountinfo, see proc_pid_mountinfo(5).
pub(super) fn find_cgroup2(mountinfo: &str) -> Option<Cgroup2> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = after.split(' ');
        if fields.next()? != "cgroup2" {
            return None;
        }
        Some(Cgroup2 {
            at: before.split(' ').nth(4)?.to_owned(),
            options: fields.nth(1).unwrap_or_default().to_owned(),
            controllers: Vec::new(),
        })
    })
}

/// As systemd and the container programs leave word.
fn container() -> Option<String> {
    let said = line("/run/systemd/container").filter(|word| !word.is_empty());
    said.or_else(|| {
        let marks = [
            ("/.dockerenv", "docker"),
            ("/run/.containerenv", "podman"),
            ("/dev/lxd/sock", "lxd"),
        ];
        let found = marks.into_iter().find(|(path, _)| Path::new(path).exists());
        found.map(|(_, name)| name.to_owned())
    })
    .or_else(|| {
        // Readable by root only.
        let environment = fs::read("/proc/1/environ").ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let value = variables.find_map(|variable| variable.strip_prefix(b"container="))?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// The kernel's list, or, where securityfs is not mounted, what can be seen of it.
fn modules() -> Vec<String> {
    if let Some(list) = line("/sys/kernel/security/lsm") {
        return list.split(',').map(str::to_owned).collect();
    }
    let apparmor = line("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y");
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    let seen = [("apparmor", apparmor), ("selinux", selinux)].into_iter();
    let there = seen.filter(|(_, there)| *there);
    there.map(|(name, _)| name.to_owned()).collect()
}
