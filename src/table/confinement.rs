//! `isolation` and its kin as lines of TOML, for [`effective`](super::effective).
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::effective::{Lines, inline, list, path, text};
use super::isolation::{
    DEVS, FAMILIES, HOMES, IoLimit, Isolation, Mechanism, NETWORKS, PROCS, ROOTS, Resources, SYSS,
    SYSTEM_CALLS, TMPS, word_of,
};
use super::value::{show_cpus, show_io_priority, show_size};
use super::{Exec, Grant};

pub fn confinement_lines(lines: &mut Lines, exec: &Exec) {
    if let Some(score) = exec.oom_score {
        lines.push(("oom_score", score.to_string()));
    }
    if !exec.cpus.is_empty() {
        lines.push(("cpus", text(&show_cpus(&exec.cpus))));
    }
    if let Some(priority) = exec.io_priority {
        lines.push(("io_priority", text(&show_io_priority(priority))));
    }
    lines.push(("isolation", show_isolation(&exec.isolation)));
    lines.push(("resources", show_resources(&exec.resources)));
    if let Some(state) = &exec.state {
        lines.push(("state", text(state)));
    }
    if !exec.credentials.is_empty() {
        let credentials = exec.credentials.iter();
        lines.push((
            "credentials",
            inline(credentials.map(|(name, from)| (name, path(from)))),
        ));
    }
    if let Some(pam) = &exec.pam {
        lines.push(("pam", text(pam)));
    }
    if !exec.admin.is_empty() {
        lines.push(("admin", list(exec.admin.iter().map(show_grant))));
    }
}

fn show_grant(grant: &Grant) -> String {
    let operation = text(&grant.operation);
    if grant.with.is_empty() {
        return operation;
    }
    let with = grant.with.iter().map(|(name, patterns)| {
        let patterns = list(patterns.iter().map(|pattern| text(pattern)));
        (name.as_str(), patterns)
    });
    inline([("operation", operation), ("with", inline(with))])
}

/// Every key of it, so that nobody has to know what a preset stands for.
#[must_use]
pub fn show_isolation(isolation: &Isolation) -> String {
    let mut parts = vec![("preset", text(isolation.preset.name()))];
    for mechanism in Mechanism::ALL {
        parts.push((mechanism.name(), text(isolation.level(mechanism).name())));
    }
    parts.extend(isolation_settings(isolation));
    inline(parts)
}

/// The keys of it that are neither the preset nor a mechanism.
#[must_use]
pub fn isolation_settings(isolation: &Isolation) -> Lines {
    let word = |word: &str| text(word);
    let paths = |paths: &[PathBuf]| list(paths.iter().map(|p| path(p)));
    let mut parts = vec![(
        "capabilities",
        all_or(
            isolation
                .capabilities
                .as_ref()
                .map(|all| all.iter().map(|c| c.name())),
        ),
    )];
    if isolation.wants(Mechanism::MountNamespace) {
        parts.push(("root", word(word_of(&ROOTS, isolation.root))));
        parts.push(("visible", paths(&isolation.visible)));
        parts.push(("writable", paths(&isolation.writable)));
        parts.push(("hidden", paths(&isolation.hidden)));
        parts.push(("tmp", word(word_of(&TMPS, isolation.tmp))));
        parts.push(("tmp_size", text(&show_size(isolation.tmp_size))));
        parts.push(("home", word(word_of(&HOMES, isolation.home))));
        parts.push(("dev", word(word_of(&DEVS, isolation.dev))));
        parts.push(("proc", word(word_of(&PROCS, isolation.proc))));
        parts.push(("sys", word(word_of(&SYSS, isolation.sys))));
    }
    parts.push(("network", word(word_of(&NETWORKS, isolation.network))));
    if isolation.wants(Mechanism::Seccomp) {
        let families = isolation.address_families.as_ref();
        let families = families.map(|all| all.iter().map(|family| word_of(&FAMILIES, *family)));
        parts.push(("address_families", all_or(families)));
        parts.push((
            "system_calls",
            word(word_of(&SYSTEM_CALLS, isolation.system_calls)),
        ));
        parts.push((
            "allow_calls",
            list(isolation.allow_calls.iter().map(|c| text(c))),
        ));
        parts.push((
            "deny_calls",
            list(isolation.deny_calls.iter().map(|c| text(c))),
        ));
    }
    parts.extend(
        isolation
            .apparmor
            .iter()
            .map(|name| ("apparmor", text(name))),
    );
    parts.extend(isolation.selinux.iter().map(|name| ("selinux", text(name))));
    parts
}

fn all_or<'a>(words: Option<impl Iterator<Item = &'a str>>) -> String {
    words.map_or_else(|| text("all"), |words| list(words.map(text)))
}

#[must_use]
pub fn show_resources(resources: &Resources) -> String {
    inline(resource_settings(resources))
}

#[must_use]
pub fn resource_settings(resources: &Resources) -> Lines {
    let size = |n: Option<u64>| n.map(|n| text(&show_size(n)));
    let parts = [
        ("memory", size(resources.memory)),
        ("memory_high", size(resources.memory_high)),
        ("cpu", resources.cpu.map(|n| text(&format!("{n}%")))),
        ("tasks", resources.tasks.map(|n| n.to_string())),
        (
            "io",
            (!resources.io.is_empty()).then(|| show_io(&resources.io)),
        ),
    ];
    let parts = parts.into_iter();
    parts.filter_map(|(key, part)| Some((key, part?))).collect()
}

fn show_io(limits: &[IoLimit]) -> String {
    let size = |n: Option<u64>| n.map(|n| text(&show_size(n)));
    let count = |n: Option<u64>| n.map(|n| n.to_string());
    inline(limits.iter().map(|limit| {
        let parts = [
            ("read", size(limit.read)),
            ("write", size(limit.write)),
            ("read_iops", count(limit.read_iops)),
            ("write_iops", count(limit.write_iops)),
        ];
        let shown = inline(
            parts
                .into_iter()
                .filter_map(|(key, part)| Some((key, part?))),
        );
        (limit.path.to_string_lossy().into_owned(), shown)
    }))
}
