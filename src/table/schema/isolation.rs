//! `isolation` and what stands beside it: resources, state, credentials, priorities.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::read::keep;
use crate::sandbox::calls;
use crate::table::capability::{self, Capability};
use crate::table::complaint::{At, Fault, did_you_mean};
use crate::table::isolation::{
    DEVS, FAMILIES, HOMES, IoLimit, IoPriority, Isolation, Level, Mechanism, NETWORKS, PROCS,
    Preset, ROOTS, Resources, SYSS, SYSTEM_CALLS, TMPS,
};
use crate::table::reader::{Reader, Value};
use crate::table::value;

/// Keys of `isolation` beside those of the mechanisms.
pub const ISOLATION_KEYS: &[&str] = &[
    "preset",
    "capabilities",
    "root",
    "visible",
    "writable",
    "hidden",
    "tmp",
    "tmp_size",
    "home",
    "dev",
    "proc",
    "sys",
    "network",
    "address_families",
    "system_calls",
    "allow_calls",
    "deny_calls",
    "apparmor",
    "selinux",
];
pub const RESOURCES_KEYS: &[&str] = &["memory", "memory_high", "cpu", "tasks", "io"];
pub const IO_KEYS: &[&str] = &["read", "write", "read_iops", "write_iops"];

/// The key of a service that `key` belongs into, if it is one of these.
#[must_use]
pub fn parent_of(key: &str) -> Option<&'static str> {
    if ISOLATION_KEYS.contains(&key) || Mechanism::ALL.iter().any(|of| of.name() == key) {
        Some("isolation")
    } else if RESOURCES_KEYS.contains(&key) {
        Some("resources")
    } else {
        None
    }
}

/// `isolation` as written: a preset with its keys filled in, and which of them the operator wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct RawIsolation {
    pub isolation: Isolation,
    /// Keys that stand in the table, with their places.
    pub given: Vec<At<String>>,
}

impl RawIsolation {
    /// Where the operator wrote `key`, if it is there.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<crate::table::complaint::Place> {
        let given = self.given.iter().find(|given| given.value == key)?;
        Some(given.place)
    }
}

pub fn isolation(r: &mut Reader<'_>, v: &Value<'_>) -> Option<RawIsolation> {
    if v.get_ref().is_str() {
        let isolation = Isolation::preset(preset(r, v)?);
        return Some(RawIsolation {
            isolation,
            given: Vec::new(),
        });
    }
    let table = r.table(
        v,
        "a preset (\"none\", \"standard\", \"strict\") or a table that refines one",
    )?;
    let start = match table.iter().find(|(key, _)| key.get_ref() == "preset") {
        Some((_, value)) => preset(r, value)?,
        None => Preset::Standard,
    };
    let mut isolation = Isolation::preset(start);
    let mut given = Vec::new();
    for (key, value) in table {
        let name: &str = key.get_ref();
        given.push(At {
            value: name.to_owned(),
            place: r.place(key),
        });
        read_key(r, &mut isolation, key, value);
    }
    Some(RawIsolation { isolation, given })
}

fn preset(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Preset> {
    if v.get_ref().as_str() == Some("vps") {
        let fault = Fault::new("isolation \"vps\" is not available yet")
            .help("there are \"none\", \"standard\" and \"strict\"");
        return r.complain(v, fault);
    }
    r.choice(v, &Preset::ALL)
}

fn read_key(
    r: &mut Reader<'_>,
    isolation: &mut Isolation,
    key: &toml::Spanned<toml::de::DeString<'_>>,
    value: &Value<'_>,
) {
    let name: &str = key.get_ref();
    if let Some(mechanism) = Mechanism::ALL.iter().find(|m| m.name() == name) {
        if let Some(level) = r.choice(value, &Level::ALL) {
            isolation.levels.set(*mechanism, level);
        }
        return;
    }
    match name {
        "preset" => {}
        "capabilities" => keep(&mut isolation.capabilities, capabilities(r, value)),
        "root" => keep(&mut isolation.root, r.choice(value, &ROOTS)),
        "visible" => keep(&mut isolation.visible, paths(r, value)),
        "writable" => keep(&mut isolation.writable, paths(r, value)),
        "hidden" => keep(&mut isolation.hidden, paths(r, value)),
        "tmp" => keep(&mut isolation.tmp, r.choice(value, &TMPS)),
        "tmp_size" => keep(&mut isolation.tmp_size, tmp_size(r, value)),
        "home" => keep(&mut isolation.home, r.choice(value, &HOMES)),
        "dev" => keep(&mut isolation.dev, r.choice(value, &DEVS)),
        "proc" => keep(&mut isolation.proc, r.choice(value, &PROCS)),
        "sys" => keep(&mut isolation.sys, r.choice(value, &SYSS)),
        "network" => keep(&mut isolation.network, r.choice(value, &NETWORKS)),
        "address_families" => {
            let families = all_or_list(r, value, "a list of families", |r, v| {
                r.choice(v, &FAMILIES)
            });
            keep(&mut isolation.address_families, families);
        }
        "system_calls" => keep(&mut isolation.system_calls, r.choice(value, &SYSTEM_CALLS)),
        "allow_calls" => keep(&mut isolation.allow_calls, calls(r, value)),
        "deny_calls" => keep(&mut isolation.deny_calls, calls(r, value)),
        "apparmor" => keep(
            &mut isolation.apparmor,
            label(r, value, "the name of an AppArmor profile"),
        ),
        "selinux" => keep(
            &mut isolation.selinux,
            label(r, value, "an SELinux context"),
        ),
        _ => {
            let known: Vec<&str> = ISOLATION_KEYS
                .iter()
                .copied()
                .chain(Mechanism::ALL.iter().map(|m| m.name()))
                .collect();
            r.unknown(key, "isolation", &known);
        }
    }
}

/// `"all"` for what has no bounds, else a list.
fn all_or_list<T>(
    r: &mut Reader<'_>,
    v: &Value<'_>,
    wanted: &str,
    each: impl Fn(&mut Reader<'_>, &Value<'_>) -> Option<T>,
) -> Option<Option<Vec<T>>> {
    if v.get_ref().as_str() == Some("all") {
        return Some(None);
    }
    r.list(v, &format!("{wanted}, or \"all\""), each).map(Some)
}

fn capabilities(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Option<Vec<Capability>>> {
    let found = all_or_list(r, v, "a list of capabilities", |r, v| {
        let name = r.word(v, "the name of a capability")?;
        Capability::named(&name).or_else(|| {
            let fault = Fault::new(format!("no capability is named \"{name}\""));
            let near = did_you_mean(&name, capability::names().iter().copied());
            r.complain(
                v,
                match near {
                    Some(near) => fault.help(format!("did you mean \"{near}\"?")),
                    None => fault.help("they are those of capabilities(7), without CAP_"),
                },
            )
        })
    })?;
    Some(found.map(|mut list| {
        list.sort_unstable();
        list.dedup();
        list
    }))
}

fn paths(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<PathBuf>> {
    r.list(v, "a list of absolute paths", |r, v| {
        let path = r.absolute(v)?;
        let climbs = path
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        if climbs {
            return r.complain(v, Fault::new("there is a \"..\" in this path"));
        }
        // Without a slash at the end and without doubled ones.
        Some(path.components().collect())
    })
}

fn size(r: &mut Reader<'_>, v: &Value<'_>) -> Option<u64> {
    r.parsed(v, "a size such as \"64M\"", value::size)
}

/// None at all would be no limit to the kernel.
fn tmp_size(r: &mut Reader<'_>, v: &Value<'_>) -> Option<u64> {
    r.parsed(v, "a size such as \"64M\"", |text| {
        match value::size(text)? {
            0 => Err(Fault::new("a /tmp of no size cannot be had")
                .help("write how much it may hold at most, as in \"1M\"")),
            size => Ok(size),
        }
    })
}

/// Names of system calls and groups.
fn calls(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    let wanted = "a list of system calls, or of groups such as \"@mount\"";
    r.list(v, wanted, |r, v| {
        let name = r.word(v, "the name of a system call")?;
        if calls::is_known(&name) {
            return Some(name);
        }
        r.complain(v, unknown_call(&name))
    })
}

fn unknown_call(name: &str) -> Fault {
    let is_group = name.starts_with('@');
    let what = if is_group {
        "group of system calls"
    } else {
        "system call"
    };
    let fault = Fault::new(format!("no {what} is named \"{name}\""));
    let of_its_kind = calls::names().filter(|known| known.starts_with('@') == is_group);
    if let Some(near) = did_you_mean(name, of_its_kind) {
        return fault.help(format!("did you mean \"{near}\"?"));
    }
    if is_group {
        let names: Vec<&str> = calls::groups().map(|group| group.name).collect();
        return fault.help(format!("there are {}", names.join(", ")));
    }
    fault.help("they are those of syscalls(2) on x86_64 and aarch64")
}

fn label(r: &mut Reader<'_>, v: &Value<'_>, wanted: &str) -> Option<Option<String>> {
    let text = r.word(v, wanted)?;
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return r.complain(
            v,
            Fault::new(format!("expected {wanted}, found blanks in it")),
        );
    }
    Some(Some(text))
}

pub fn resources(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Resources> {
    let table = r.table(v, "a table such as { memory = \"200M\", tasks = 50 }")?;
    let mut resources = Resources::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "memory" => keep(&mut resources.memory, size(r, value).map(Some)),
            "memory_high" => keep(&mut resources.memory_high, size(r, value).map(Some)),
            "cpu" => {
                let percent = r.parsed(value, "a share of one CPU such as \"50%\"", value::percent);
                keep(&mut resources.cpu, percent.map(Some));
            }
            "tasks" => keep(
                &mut resources.tasks,
                r.number(value, 1..=4_194_304).map(Some),
            ),
            "io" => keep(&mut resources.io, io(r, value)),
            _ => {
                r.unknown(key, "resources", RESOURCES_KEYS);
            }
        }
    }
    Some(resources)
}

/// `{ "/var/lib/x" = { write = "2M" } }`.
fn io(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<IoLimit>> {
    const WANTED: &str = "a table of paths, { \"/srv\" = { write = \"2M\" } }";
    let table = r.table(v, WANTED)?;
    let mut limits = Vec::new();
    for (path, value) in table {
        let name: &str = path.get_ref();
        if !name.starts_with('/') {
            let fault = Fault::new(format!("\"{name}\" is no absolute path"))
                .help("name a block device, or a file on the file system that is meant");
            r.complain::<_, ()>(path, fault);
        }
        let Some(keys) = r.table(value, "a table such as { read = \"10M\", write = \"2M\" }")
        else {
            continue;
        };
        let mut limit = IoLimit {
            path: PathBuf::from(name),
            read: None,
            write: None,
            read_iops: None,
            write_iops: None,
        };
        for (key, value) in keys {
            match key.get_ref().as_ref() {
                "read" => keep(&mut limit.read, size(r, value).map(Some)),
                "write" => keep(&mut limit.write, size(r, value).map(Some)),
                "read_iops" => keep(
                    &mut limit.read_iops,
                    r.number(value, 1..=i64::MAX).map(Some),
                ),
                "write_iops" => keep(
                    &mut limit.write_iops,
                    r.number(value, 1..=i64::MAX).map(Some),
                ),
                _ => {
                    r.unknown(key, "io", IO_KEYS);
                }
            }
        }
        limits.push(limit);
    }
    Some(limits)
}

/// Below /var/lib: what usherd keeps, and the states that backups have taken the place of.
const OWN_STATES: [&str; 2] = ["usherd", "usherd-old"];

/// `state`: one name, which becomes a directory under /var/lib.
pub fn state(r: &mut Reader<'_>, v: &Value<'_>) -> Option<String> {
    let name = r.word(v, "the name of a directory under /var/lib")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if OWN_STATES.contains(&name.as_str()) {
        let fault =
            Fault::new(format!("/var/lib/{name} is usherd's own")).help("take another name");
        return r.complain(v, fault);
    }
    if name.bytes().all(plain) && !name.starts_with('.') && name.len() <= 64 {
        return Some(name);
    }
    let fault = Fault::new(format!("\"{name}\" can be no state directory"))
        .help("a single name of letters, digits, - _ and ., not beginning with a dot");
    r.complain(v, fault)
}

/// `credentials`: names, and the files whose contents they get.
pub fn credentials(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<(String, PathBuf)>> {
    let table = r.table(
        v,
        "a table of files, { \"tls.key\" = \"/etc/ssl/private/x.key\" }",
    )?;
    let mut credentials = Vec::new();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.starts_with('.') || name.len() > 255 || !name.bytes().all(plain)
        {
            let fault = Fault::new(format!("\"{name}\" can be no credential"))
                .help("a file name of letters, digits, - _ and ., not beginning with a dot");
            r.complain::<_, ()>(key, fault);
        }
        if let Some(path) = r.absolute(value) {
            credentials.push((name.to_owned(), path));
        }
    }
    Some(credentials)
}

/// `cpus`: a list as in cpuset(7), `"0-3,6"`; numbers of CPUs.
pub fn cpus(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<u16>> {
    r.parsed(v, "CPUs such as \"0-3,6\"", value::cpus)
}

/// `io_priority`: `"idle"`, `"best-effort/4"`, `"realtime/0"`.
pub fn io_priority(r: &mut Reader<'_>, v: &Value<'_>) -> Option<IoPriority> {
    r.parsed(
        v,
        "\"idle\", \"best-effort/0\" to \"best-effort/7\" or \"realtime/0\" to \"realtime/7\"",
        value::io_priority,
    )
}
