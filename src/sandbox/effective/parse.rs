//! The files of proc(5) that tell of a process's isolation.
#![forbid(unsafe_code)]

use std::collections::HashSet;

/// proc_pid_status(5), as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Real, effective, saved, of the file system.
    pub uids: Vec<u32>,
    pub gids: Vec<u32>,
    pub groups: Vec<u32>,
    pub inheritable: Option<u64>,
    pub permitted: Option<u64>,
    pub effective: Option<u64>,
    pub bounding: Option<u64>,
    pub ambient: Option<u64>,
    pub no_new_privs: Option<bool>,
    /// 0: none; 1: strict; 2: filters.
    pub seccomp: Option<u32>,
    pub filters: Option<u32>,
}

#[must_use]
pub fn status(text: &str) -> Status {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        let bits = || u64::from_str_radix(value, 16).ok();
        let numbers = || {
            value
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect()
        };
        match name {
            "Uid" => status.uids = numbers(),
            "Gid" => status.gids = numbers(),
            "Groups" => status.groups = numbers(),
            "CapInh" => status.inheritable = bits(),
            "CapPrm" => status.permitted = bits(),
            "CapEff" => status.effective = bits(),
            "CapBnd" => status.bounding = bits(),
            "CapAmb" => status.ambient = bits(),
            "NoNewPrivs" => status.no_new_privs = Some(value == "1"),
            "Seccomp" => status.seccomp = value.parse().ok(),
            "Seccomp_filters" => status.filters = value.parse().ok(),
            _ => {}
        }
    }
    status
}

/// What a process sees of file systems, in the words of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    pub count: usize,
    /// `None` in each: nothing of its own is mounted there.
    pub root: Option<Mount>,
    pub tmp: Option<Mount>,
    pub home: Option<Mount>,
    pub dev: Option<Mount>,
    pub proc: Option<Mount>,
    pub sys: Option<Mount>,
}

/// One mount: the uppermost at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: String,
    pub read_only: bool,
    /// A file system that we do not have.
    pub own: bool,
    /// Of the file system, such as `hidepid=invisible`.
    pub options: String,
}

/// proc_pid_mountinfo(5) of a process, and ours to compare with.
#[must_use]
pub fn mounts(theirs: &str, ours: &str) -> Mounts {
    let known: HashSet<&str> = ours.lines().filter_map(device).collect();
    let mut mounts = Mounts::default();
    for line in theirs.lines() {
        let Some((place, mount)) = mount(line, &known) else {
            continue;
        };
        mounts.count += 1;
        let slot = match place {
            "/" => &mut mounts.root,
            "/tmp" => &mut mounts.tmp,
            "/home" => &mut mounts.home,
            "/dev" => &mut mounts.dev,
            "/proc" => &mut mounts.proc,
            "/sys" => &mut mounts.sys,
            _ => continue,
        };
        *slot = Some(mount);
    }
    mounts
}

fn device(line: &str) -> Option<&str> {
    line.split(' ').nth(2)
}

fn mount<'a>(line: &'a str, known: &HashSet<&str>) -> Option<(&'a str, Mount)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(4);
    let (place, flags) = (fields.next()?, fields.next()?);
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let options = after.nth(1).unwrap_or_default().to_owned();
    let has = |options: &str, word: &str| options.split(',').any(|option| option == word);
    Some((
        place,
        Mount {
            kind,
            read_only: has(flags, "ro") || has(&options, "ro"),
            own: !known.contains(device(line)?),
            options,
        },
    ))
}

impl Mounts {
    /// "14 mounts".
    #[must_use]
    pub fn summary(&self) -> String {
        match self.count {
            1 => "1 mount".to_owned(),
            count => format!("{count} mounts"),
        }
    }

    /// What is at each place that the table has a word for.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let root = match &self.root {
            Some(mount) if mount.own => format!("its own, {}", access(mount)),
            Some(mount) if mount.read_only => "read-only".to_owned(),
            Some(_) | None => "host".to_owned(),
        };
        // Without a mount of its own there, a root of its own has nothing of the host's.
        let bare = self.root.as_ref().is_some_and(|mount| mount.own);
        let place = |mount: &Option<Mount>, own: &str| match mount {
            Some(mount) if mount.own => own.to_owned(),
            Some(mount) if mount.read_only => "read-only".to_owned(),
            Some(_) => "host".to_owned(),
            None if bare => "none".to_owned(),
            None => "as root".to_owned(),
        };
        let proc = match &self.proc {
            Some(mount) if mount.own => match pick(&mount.options, &["hidepid", "subset"]) {
                options if options.is_empty() => "its own".to_owned(),
                options => format!("its own, {options}"),
            },
            other => place(other, ""),
        };
        vec![
            ("root", root),
            ("tmp", place(&self.tmp, "private")),
            ("home", place(&self.home, "hidden")),
            ("dev", place(&self.dev, "its own")),
            ("proc", proc),
            ("sys", place(&self.sys, "its own")),
        ]
    }
}

fn access(mount: &Mount) -> &'static str {
    match mount.read_only {
        true => "read-only",
        false => "writable",
    }
}

/// Of comma-separated options those with one of these names.
fn pick(options: &str, names: &[&str]) -> String {
    let wanted = options.split(',').filter(|option| {
        let name = option.split('=').next().unwrap_or(option);
        names.contains(&name)
    });
    wanted.collect::<Vec<_>>().join(", ")
}

/// The path in the unified hierarchy: the line of /proc/PID/cgroup that begins with `0::`.
#[must_use]
pub fn unified(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.to_owned())
}

/// What a file of a cgroup limits something to. `None`: to nothing.
#[must_use]
pub fn limit(text: &str) -> Option<String> {
    let text = text.trim();
    let first = text.split(' ').next().unwrap_or_default();
    (!first.is_empty() && first != "max").then(|| text.to_owned())
}

/// Names of /proc/PID/limits and of the table.
const NAMES: [(&str, &str); 10] = [
    ("Max open files", "limits.nofile"),
    ("Max processes", "limits.nproc"),
    ("Max core file size", "limits.core"),
    ("Max file size", "limits.fsize"),
    ("Max address space", "limits.as"),
    ("Max data size", "limits.data"),
    ("Max stack size", "limits.stack"),
    ("Max resident set", "limits.rss"),
    ("Max locked memory", "limits.memlock"),
    ("Max cpu time", "limits.cpu"),
];

/// proc_pid_limits(5): those that limit something, as "soft" or "soft:hard".
#[must_use]
pub fn limits(text: &str) -> Vec<(&'static str, String)> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace();
        let (soft, hard) = (words.next()?, words.next()?);
        match (soft, hard) {
            ("unlimited", "unlimited") => None,
            (soft, hard) if soft == hard => Some(soft.to_owned()),
            (soft, hard) => Some(format!("{soft}:{hard}")),
        }
    };
    let names = NAMES.into_iter();
    names
        .filter_map(|(name, key)| Some((key, of(name)?)))
        .collect()
}

/// /proc/PID/attr/current: AppArmor ends it with a line feed, SELinux with a NUL.
#[must_use]
pub fn label(text: &str) -> Option<String> {
    let label = text.trim_end_matches(['\n', '\0']);
    (!label.is_empty()).then(|| label.to_owned())
}
