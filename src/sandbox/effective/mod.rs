//! What isolation a running server is really in, read back from /proc and from
//! its cgroup, whatever was asked for.
//!
//! [`parse`] understands the files, [`Seen::read`] opens them; the helper
//! compares the server with itself.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::table::capability::Capability;
use crate::table::isolation::{Isolation, Mechanism};

pub mod parse;

use parse::{Mounts, Status};

/// Files of a cgroup that limit something, and the key of the table that sets each.
const LIMITS: [(&str, &str); 4] = [
    ("memory", "memory.max"),
    ("memory_high", "memory.high"),
    ("cpu", "cpu.max"),
    ("tasks", "pids.max"),
];

/// The namespaces: the mechanism, and its name in /proc/PID/ns.
const NAMESPACES: [(Mechanism, &str); 7] = [
    (Mechanism::MountNamespace, "mnt"),
    (Mechanism::PidNamespace, "pid"),
    (Mechanism::IpcNamespace, "ipc"),
    (Mechanism::UtsNamespace, "uts"),
    (Mechanism::NetworkNamespace, "net"),
    (Mechanism::CgroupNamespace, "cgroup"),
    (Mechanism::UserNamespace, "user"),
];

/// A process, as /proc shows it. `None` everywhere: it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether each namespace of [`NAMESPACES`] is another than ours.
    pub apart: [Option<bool>; NAMESPACES.len()],
    pub status: Option<Status>,
    pub mounts: Option<Mounts>,
    /// In the unified hierarchy, seen from our root of it.
    pub cgroup: Option<String>,
    /// Another cgroup than ours.
    pub own_cgroup: Option<bool>,
    /// Key of the table and what the file says, the nearest that limits anything.
    pub resources: Vec<(&'static str, String)>,
    pub oom_score: Option<i32>,
    /// Name, soft, hard.
    pub limits: Vec<(&'static str, String)>,
    /// AppArmor's profile or SELinux's context.
    pub label: Option<String>,
}

/// Whether a mechanism is in force. `None`: nobody but the process itself can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub in_force: Option<bool>,
    pub note: Option<String>,
}

impl Seen {
    /// Looks at process `pid`, a child that has not been reaped. `cgroup2` is
    /// where the unified hierarchy is mounted.
    #[must_use]
    pub fn read(pid: i32, cgroup2: Option<&Path>) -> Self {
        let theirs = PathBuf::from(format!("/proc/{pid}"));
        let ours = Path::new("/proc/self");
        let text = |dir: &Path, name: &str| fs::read_to_string(dir.join(name)).ok();
        let namespace = |dir: &Path, name: &str| fs::read_link(dir.join("ns").join(name)).ok();
        let cgroup_of = |dir| text(dir, "cgroup").and_then(|t| parse::unified(&t));
        let cgroup = cgroup_of(&theirs);
        let resources = match (&cgroup, cgroup2) {
            (Some(path), Some(at)) => resources(&at.join(path.trim_start_matches('/')), at),
            _ => Vec::new(),
        };
        Self {
            apart: NAMESPACES.map(|(_, name)| {
                let (theirs, ours) = (namespace(&theirs, name)?, namespace(ours, name)?);
                Some(theirs != ours)
            }),
            status: text(&theirs, "status").map(|text| parse::status(&text)),
            mounts: text(&theirs, "mountinfo").map(|text| {
                let ours = fs::read_to_string(ours.join("mountinfo")).unwrap_or_default();
                parse::mounts(&text, &ours)
            }),
            own_cgroup: cgroup
                .as_ref()
                .map(|path| cgroup_of(ours).as_ref() != Some(path)),
            cgroup,
            resources,
            oom_score: text(&theirs, "oom_score_adj").and_then(|t| t.trim().parse().ok()),
            limits: text(&theirs, "limits").map_or_else(Vec::new, |text| parse::limits(&text)),
            label: text(&theirs, "attr/current").and_then(|t| parse::label(&t)),
        }
    }

    /// Whether `mechanism` is in force, and what of it can be seen.
    #[must_use]
    pub fn verdict(&self, mechanism: Mechanism, asked: &Isolation) -> Verdict {
        let namespace = NAMESPACES.iter().position(|(of, _)| *of == mechanism);
        if let Some(at) = namespace {
            let note = match mechanism {
                Mechanism::MountNamespace if self.apart[at] == Some(true) => {
                    self.mounts.as_ref().map(Mounts::summary)
                }
                _ => None,
            };
            return Verdict {
                in_force: self.apart[at],
                note,
            };
        }
        let status = self.status.as_ref();
        match mechanism {
            Mechanism::Cgroup => Verdict {
                in_force: self.own_cgroup,
                note: self.cgroup.clone(),
            },
            Mechanism::NoNewPrivs => told(status.and_then(|s| s.no_new_privs)),
            Mechanism::CapabilityBounds => {
                let Some(bounding) = status.and_then(|s| s.bounding) else {
                    return told(None);
                };
                let allowed = asked.capabilities.iter().flatten();
                let allowed = allowed.fold(0, |bits, capability| bits | capability.bit());
                Verdict {
                    in_force: Some(bounding & !allowed == 0),
                    note: Some(format!("bounding set: {}", capabilities(bounding))),
                }
            }
            Mechanism::Seccomp => Verdict {
                in_force: status.and_then(|s| s.seccomp).map(|mode| mode == FILTERS),
                note: status
                    .and_then(|s| s.filters)
                    .filter(|n| *n > 0)
                    .map(|n| match n {
                        1 => "1 filter".to_owned(),
                        n => format!("{n} filters"),
                    }),
            },
            _ => Verdict {
                in_force: None,
                note: Some("only the process itself can tell".to_owned()),
            },
        }
    }

    /// What was found, under the keys of the table where there are any.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(status) = &self.status {
            facts.extend(status_facts(status));
        }
        if let Some(mounts) = &self.mounts {
            facts.extend(mounts.facts());
        }
        facts.extend(self.resources.iter().cloned());
        if let Some(score) = self.oom_score {
            facts.push(("oom_score", score.to_string()));
        }
        facts.extend(self.limits.iter().cloned());
        if let Some(label) = &self.label {
            facts.push(("label", label.clone()));
        }
        facts
    }
}

/// SECCOMP_MODE_FILTER in /proc/PID/status.
const FILTERS: u32 = 2;

fn told(in_force: Option<bool>) -> Verdict {
    Verdict {
        in_force,
        note: None,
    }
}

fn status_facts(status: &Status) -> Vec<(&'static str, String)> {
    let ids = |ids: &[u32]| match ids {
        [] => "none".to_owned(),
        ids if ids.iter().all(|id| *id == ids[0]) => ids[0].to_string(),
        ids => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    };
    let groups: Vec<String> = status.groups.iter().map(u32::to_string).collect();
    let mut facts = vec![("uid", ids(&status.uids)), ("gid", ids(&status.gids))];
    facts.push((
        "groups",
        match groups.is_empty() {
            true => "none".to_owned(),
            false => groups.join(" "),
        },
    ));
    for (key, set) in [
        ("capabilities", status.effective),
        ("capabilities permitted", status.permitted),
        ("capabilities inheritable", status.inheritable),
        ("capabilities ambient", status.ambient),
        ("capabilities bounding", status.bounding),
    ] {
        facts.extend(set.map(|set| (key, capabilities(set))));
    }
    facts
}

/// Names, or "all" and "all but ...", which is shorter.
fn capabilities(set: u64) -> String {
    let (held, lacking): (Vec<Capability>, Vec<Capability>) =
        Capability::all().partition(|capability| set & capability.bit() != 0);
    let names = |all: &[Capability]| {
        let names: Vec<&str> = all.iter().map(|capability| capability.name()).collect();
        names.join(" ")
    };
    match (held.len(), lacking.len()) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (held, lacks) if lacks * 3 < held => format!("all but {}", names(&lacking)),
        _ => names(&held),
    }
}

/// What limits a cgroup: what its own files say, or those above it.
fn resources(leaf: &Path, top: &Path) -> Vec<(&'static str, String)> {
    let nearest = |file: &str| {
        let mut dirs = leaf.ancestors().take_while(|dir| *dir != top);
        dirs.find_map(|dir| {
            let text = fs::read_to_string(dir.join(file)).ok()?;
            parse::limit(&text)
        })
    };
    let limits = LIMITS.into_iter();
    limits
        .filter_map(|(key, file)| Some((key, nearest(file)?)))
        .collect()
}

#[cfg(test)]
mod tests;
