//! `admin`: operations that servers of a service may ask for.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::table::Grant;
use crate::table::complaint::{At, Fault};
use crate::table::reader::{Reader, Value};

pub const GRANT_KEYS: &[&str] = &["operation", "with"];

/// Names, or `{ operation, with }`; may be empty.
pub fn admin(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<Grant>>> {
    const WANTED: &str = "a list of operations such as [\"backup.create\"]";
    let grants = r.list(v, WANTED, |r, v| r.at(v, grant))?;
    for (at, grant) in grants.iter().enumerate() {
        let name = &grant.value.operation;
        let mut before = grants[..at].iter();
        if let Some(first) = before.find(|one| one.value.operation == *name) {
            let fault = Fault::new(format!("\"{name}\" stands here twice"))
                .help("write one entry; `with` takes lists of patterns");
            r.complaints
                .push(fault.at(grant.place).and(first.place, "the first one"));
        }
    }
    Some(grants)
}

fn grant(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Grant> {
    const WANTED: &str = "the name of an operation, or { operation, with }";
    if v.get_ref().is_str() {
        let operation = r.word(v, WANTED)?;
        return Some(Grant {
            operation,
            with: BTreeMap::new(),
        });
    }
    let table = r.table(v, WANTED)?;
    let (mut operation, mut with) = (None, BTreeMap::new());
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "operation" => operation = r.word(value, "the name of an operation"),
            "with" => with = limits(r, value)?,
            _ => {
                r.unknown(key, "an entry of `admin`", GRANT_KEYS);
            }
        }
    }
    if !table.contains_key("operation") {
        let fault = Fault::new("this entry names no operation")
            .help("write { operation = \"user.create\", with = { name = \"mail-*\" } }");
        return r.complain(v, fault);
    }
    Some(Grant {
        operation: operation?,
        with,
    })
}

/// Parameters, and patterns one of which the value has to match.
fn limits(r: &mut Reader<'_>, v: &Value<'_>) -> Option<BTreeMap<String, Vec<String>>> {
    let table = r.table(v, "a table such as { name = \"mail-*\" }")?;
    let mut limits = BTreeMap::new();
    for (key, value) in table {
        let patterns = r.one_or_more(value, "a pattern or a list of them", |r, v| {
            let text = r.string(v, "a pattern as in glob(7)")?;
            match glob::Pattern::new(&text) {
                Ok(_) => Some(text),
                Err(err) => {
                    let fault = Fault::new(format!("\"{text}\" is no pattern: {}", err.msg));
                    r.complain(v, fault)
                }
            }
        });
        if let Some(patterns) = patterns {
            limits.insert(key.get_ref().to_string(), patterns);
        }
    }
    Some(limits)
}
