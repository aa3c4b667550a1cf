//! The server's process: its program, variables, limits and end.
#![forbid(unsafe_code)]

use nix::sys::resource::Resource;

use super::STOP_KEYS;
use super::read::keep;
use crate::table::complaint::{At, Fault};
use crate::table::reader::{Reader, Value};
use crate::table::{Limit, Stop, value};

/// How a limit is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Bytes,
    Seconds,
}

/// The keys of `limits`.
pub const LIMITS: [(&str, Resource, Unit); 10] = [
    ("nofile", Resource::RLIMIT_NOFILE, Unit::Count),
    ("nproc", Resource::RLIMIT_NPROC, Unit::Count),
    ("core", Resource::RLIMIT_CORE, Unit::Bytes),
    ("fsize", Resource::RLIMIT_FSIZE, Unit::Bytes),
    ("as", Resource::RLIMIT_AS, Unit::Bytes),
    ("data", Resource::RLIMIT_DATA, Unit::Bytes),
    ("stack", Resource::RLIMIT_STACK, Unit::Bytes),
    ("rss", Resource::RLIMIT_RSS, Unit::Bytes),
    ("memlock", Resource::RLIMIT_MEMLOCK, Unit::Bytes),
    ("cpu", Resource::RLIMIT_CPU, Unit::Seconds),
];

pub fn exec(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    const WANTED: &str = "a list: the program and its arguments";
    if let Some(line) = v.get_ref().as_str() {
        let words: Vec<String> = line.split_whitespace().map(|w| format!("{w:?}")).collect();
        let fault = Fault::new(format!("expected {WANTED}; no shell takes a line apart"))
            .help(format!("write [{}]", words.join(", ")));
        return r.complain(v, fault);
    }
    let words = r.list(v, WANTED, |r, v| r.string(v, "a text"))?;
    match words.first() {
        Some(program) if program.starts_with('/') => Some(words),
        Some(program) => {
            let fault = Fault::new(format!("\"{program}\" is no absolute path"))
                .help("no PATH is searched; write the whole path of the program");
            r.complain(v, fault)
        }
        None => r.complain(
            v,
            Fault::new(format!("expected {WANTED}, found an empty list")),
        ),
    }
}

pub fn groups(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<At<String>>> {
    r.list(v, "a list of group names", |r, v| {
        r.at(v, |r, v| r.word(v, "a group name"))
    })
}

pub fn env(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<(String, String)>> {
    let table = r.table(v, "a table of variables, { NAME = \"value\" }")?;
    let mut env = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name: &str = key.get_ref();
        if !is_variable(name) {
            r.complain::<_, ()>(key, Fault::new(format!("\"{name}\" can be no variable")));
        }
        if let Some(value) = r.string(value, "a text") {
            env.push((name.to_owned(), value));
        }
    }
    Some(env)
}

pub fn pass_env(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<String>> {
    r.list(v, "a list of variables", |r, v| {
        let name = r.string(v, "the name of a variable")?;
        if is_variable(&name) {
            return Some(name);
        }
        r.complain(v, Fault::new(format!("\"{name}\" can be no variable")))
    })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

pub fn limits(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Vec<Limit>> {
    let table = r.table(v, "a table of limits, { nofile = 1024 }")?;
    let mut limits = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name: &str = key.get_ref();
        let Some((name, resource, unit)) = LIMITS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = LIMITS.iter().map(|(name, ..)| *name).collect();
            r.unknown(key, "limits", &known);
            continue;
        };
        let Some((soft, hard)) = limit(r, value, *unit) else {
            continue;
        };
        limits.push(Limit {
            name,
            resource: *resource as i32,
            soft,
            hard,
        });
    }
    Some(limits)
}

/// A value for both, or `{ soft, hard }`.
fn limit(r: &mut Reader<'_>, v: &Value<'_>, unit: Unit) -> Option<(u64, u64)> {
    let Some(table) = v.get_ref().as_table() else {
        let both = limit_value(r, v, unit)?;
        return Some((both, both));
    };
    let (mut soft, mut hard) = (None, None);
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "soft" => soft = limit_value(r, value, unit),
            "hard" => hard = limit_value(r, value, unit),
            _ => {
                r.unknown(key, "a limit", &["soft", "hard"]);
            }
        }
    }
    if !table.contains_key("soft") || !table.contains_key("hard") {
        return r.complain(
            v,
            Fault::new("a limit in two parts has both, soft and hard"),
        );
    }
    let (soft, hard) = (soft?, hard?);
    if soft > hard {
        return r.complain(v, Fault::new("the soft limit is above the hard one"));
    }
    Some((soft, hard))
}

fn limit_value(r: &mut Reader<'_>, v: &Value<'_>, unit: Unit) -> Option<u64> {
    if v.get_ref().as_str() == Some("unlimited") {
        return Some(u64::MAX);
    }
    match unit {
        Unit::Count if v.get_ref().is_str() => r.mismatch(v, "a whole number, or \"unlimited\""),
        Unit::Count => r.number(v, 0..=i64::from(i32::MAX)),
        Unit::Bytes => r.parsed(v, "a size such as \"64M\", or \"unlimited\"", value::size),
        Unit::Seconds => {
            let span = r.parsed(
                v,
                "a duration such as \"10s\", or \"unlimited\"",
                value::duration,
            )?;
            if span.subsec_nanos() != 0 {
                return r.complain(v, Fault::new("processor time is limited in whole seconds"));
            }
            Some(span.as_secs())
        }
    }
}

pub fn stop(r: &mut Reader<'_>, v: &Value<'_>) -> Option<Stop> {
    let table = r.table(v, "a table such as { signal = \"TERM\", grace = \"10s\" }")?;
    let mut stop = Stop::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "signal" if value.get_ref().is_integer() => {
                keep(&mut stop.signal, r.number(value, 1..=64));
            }
            "signal" => {
                let signal = r.parsed(value, "a signal such as \"TERM\"", value::signal);
                keep(&mut stop.signal, signal);
            }
            "grace" => {
                let grace = r.parsed(value, "a duration such as \"10s\"", value::duration);
                keep(&mut stop.grace, grace);
            }
            _ => {
                r.unknown(key, "stop", STOP_KEYS);
            }
        }
    }
    Some(stop)
}
