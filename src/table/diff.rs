//! What a reload changes, for the log: services that came, went or changed,
//! and in which keys.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;

use super::effective::{Lines, daemon_lines, service_lines};
use super::{Service, Table};

/// One difference between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keys of `[daemon]`.
    Daemon {
        keys: Vec<&'static str>,
    },
    Added {
        service: String,
    },
    Removed {
        service: String,
    },
    Changed {
        service: String,
        keys: Vec<&'static str>,
    },
}

/// What became of `old`: `[daemon]` first, then removed, then the rest in the order of `new`.
#[must_use]
pub fn diff(old: &Table, new: &Table) -> Vec<Change> {
    let before: HashMap<&str, &Service> = by_name(old);
    let after: HashMap<&str, &Service> = by_name(new);
    let mut changes = Vec::new();
    let mut keys = changed_keys(&daemon_lines(&old.daemon), &daemon_lines(&new.daemon));
    // The same files, and other operations in them.
    if old.catalogue != new.catalogue && !keys.contains(&"operations") {
        keys.push("operations");
    }
    if old.daemon != new.daemon || !keys.is_empty() {
        changes.push(Change::Daemon { keys });
    }
    for service in &old.services {
        if !after.contains_key(service.name.as_str()) {
            let service = service.name.clone();
            changes.push(Change::Removed { service });
        }
    }
    for service in &new.services {
        let name = service.name.clone();
        match before.get(service.name.as_str()) {
            None => changes.push(Change::Added { service: name }),
            Some(same) if **same == *service => {}
            Some(other) => {
                let mut keys = changed_keys(&service_lines(other), &service_lines(service));
                // The same condition, and another answer.
                if other.unmet != service.unmet && !keys.contains(&"only_if") {
                    keys.push("only_if");
                }
                // The same lists, with other addresses in them.
                let (old, new) = (&other.rules.access, &service.rules.access);
                for (key, differs) in [
                    ("allow", old.allow_lists != new.allow_lists),
                    ("deny", old.deny_lists != new.deny_lists),
                ] {
                    if differs && !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                changes.push(Change::Changed {
                    keys,
                    service: name,
                });
            }
        }
    }
    changes
}

fn by_name(table: &Table) -> HashMap<&str, &Service> {
    table
        .services
        .iter()
        .map(|s| (s.name.as_str(), s))
        .collect()
}

/// Keys whose lines differ or that only one side has.
fn changed_keys(old: &Lines, new: &Lines) -> Vec<&'static str> {
    let value = |lines: &Lines, key: &str| {
        let found = lines.iter().find(|(k, _)| *k == key);
        found.map(|(_, value)| value.clone())
    };
    let mut keys: Vec<&'static str> = Vec::new();
    for (key, _) in old.iter().chain(new) {
        if !keys.contains(key) && value(old, key) != value(new, key) {
            keys.push(key);
        }
    }
    keys
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Daemon { keys } => write!(f, "[daemon] changed: {}", keys.join(", ")),
            Change::Added { service } => write!(f, "service \"{service}\" added"),
            Change::Removed { service } => write!(f, "service \"{service}\" removed"),
            Change::Changed { service, keys } => {
                write!(f, "service \"{service}\" changed: {}", keys.join(", "))
            }
        }
    }
}
