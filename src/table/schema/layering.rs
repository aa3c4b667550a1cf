//! `unset` and `only_if`: what a service does not take over, and on which
//! hosts it is there at all.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::SERVICE_KEYS;
use crate::table::OnlyIf;
use crate::table::complaint::{Fault, did_you_mean};
use crate::table::reader::{Reader, Value};

/// Keys of `only_if`.
pub const ONLY_IF_KEYS: &[&str] = &["path_exists", "path_missing", "host"];

/// Keys of a service, or keys inside one: `limits.core`.
pub fn unset(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "a list of keys such as [\"allow\", \"limits.core\"]";
    r.list(v, WANTED, |r, v| {
        let path = r.word(v, "the name of a key")?;
        let key = path.split('.').next().unwrap_or("");
        if SERVICE_KEYS.contains(&key) && !["from", "unset"].contains(&key) {
            return Some(path);
        }
        let fault = Fault::new(format!("no key \"{key}\" of a service can be unset"));
        match did_you_mean(key, SERVICE_KEYS.iter().copied()) {
            Some(near) if near != key => {
                r.complain(v, fault.help(format!("did you mean \"{near}\"?")))
            }
            _ => r.complain(v, fault),
        }
    })
}

pub fn only_if(r: &mut Reader<'_>, v: &Value<'_>) -> Option<OnlyIf> {
    const WANTED: &str = "a table such as { path_exists = \"/srv/git\" }";
    let table = r.table(v, WANTED)?;
    let before = r.complaints.len();
    let mut only_if = OnlyIf::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "path_exists" => only_if.path_exists = paths(r, value).unwrap_or_default(),
            "path_missing" => only_if.path_missing = paths(r, value).unwrap_or_default(),
            "host" => only_if.host = hosts(r, value).unwrap_or_default(),
            _ => {
                r.unknown(key, "only_if", ONLY_IF_KEYS);
            }
        }
    }
    if table.is_empty() {
        let fault = Fault::new("`only_if` has no condition");
        return r.complain(v, fault.help(format!("it is {WANTED}")));
    }
    (r.complaints.len() == before).then_some(only_if)
}

fn paths(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<PathBuf>> {
    r.one_or_more(v, "an absolute path, or a list of them", Reader::absolute)
}

/// Names, or patterns of names.
fn hosts(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "the name of a host such as \"web1\" or \"web*\", or a list of them";
    r.one_or_more(v, WANTED, |r, v| {
        let name = r.word(v, WANTED)?;
        match glob::Pattern::new(&name) {
            Ok(_) => Some(name),
            Err(err) => r.complain(
                v,
                Fault::new(format!("\"{name}\" is no pattern: {}", err.msg)),
            ),
        }
    })
}
