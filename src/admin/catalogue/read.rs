//! The keys of an operation: what the operator may write, and the type of each
//! value. What they mean together is `check`'s affair.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::parameter::{self, RawParameter};
use crate::table::Rate;
use crate::table::complaint::{At, Fault, Place};
use crate::table::reader::{Reader, Value};
use crate::table::schema::{Keys, read};
use crate::table::value;

/// Keys of `[operation."NAME"]`.
pub const OPERATION_KEYS: &[&str] = &[
    "description",
    "result",
    "enabled",
    "operators",
    "services",
    "builtin",
    "exec",
    "dry_run_exec",
    "dry_run",
    "calls",
    "time_limit",
    "output_limit",
    "concurrency",
    "rate",
    "on_leave",
    "user",
    "group",
    "groups",
    "isolation",
    "limits",
    "nice",
    "umask",
    "env",
    "resources",
    "parameters",
];
pub const OPERATORS_KEYS: &[&str] = &["users", "groups"];

/// Those that a service has too, with the same meaning.
const OF_A_PROCESS: [&str; 9] = [
    "user",
    "group",
    "groups",
    "isolation",
    "limits",
    "nice",
    "umask",
    "env",
    "resources",
];

/// The lists of `isolation` whose paths may begin with a placeholder.
const OF_PATHS: [&str; 2] = ["visible", "writable"];

/// Octets of a result: more is nobody's answer.
const MOST_OUTPUT: u64 = 16 << 20;
/// What is not over after a day hangs.
const LONGEST: Duration = Duration::from_secs(86_400);

/// An operation as written, shipped keys and the operator's together.
#[derive(Clone, Debug)]
pub struct RawOperation {
    pub name: At<String>,
    pub description: Option<At<String>>,
    pub result: Option<At<String>>,
    pub enabled: Option<At<bool>>,
    pub users: Vec<At<String>>,
    pub groups: Vec<At<String>>,
    pub services: Option<At<bool>>,
    pub builtin: Option<At<String>>,
    pub exec: Option<At<Vec<At<String>>>>,
    pub dry_run_exec: Option<At<Vec<At<String>>>>,
    pub dry_run: Option<At<bool>>,
    pub calls: Vec<At<String>>,
    pub time_limit: Option<At<Duration>>,
    /// It goes on when whoever asked has left.
    pub finishes: Option<At<bool>>,
    pub output_limit: Option<At<u64>>,
    pub concurrency: Option<At<u32>>,
    pub rate: Option<At<Rate>>,
    pub parameters: Vec<RawParameter>,
    /// Names of those that cannot be read.
    pub broken: Vec<String>,
    /// Of its process.
    pub keys: Keys,
    /// `isolation.visible` and `isolation.writable`, placeholders in them; not in `keys`.
    pub visible: Vec<At<String>>,
    pub writable: Vec<At<String>>,
    /// Keys that are there, whatever became of their values.
    present: Vec<&'static str>,
}

impl RawOperation {
    fn new(name: At<String>) -> Self {
        Self {
            name,
            description: None,
            result: None,
            enabled: None,
            users: Vec::new(),
            groups: Vec::new(),
            services: None,
            builtin: None,
            exec: None,
            dry_run_exec: None,
            dry_run: None,
            calls: Vec::new(),
            time_limit: None,
            finishes: None,
            output_limit: None,
            concurrency: None,
            rate: None,
            parameters: Vec::new(),
            broken: Vec::new(),
            keys: Keys::default(),
            visible: Vec::new(),
            writable: Vec::new(),
            present: Vec::new(),
        }
    }

    /// Whether a key is there, be it with a value that cannot be read.
    #[must_use]
    pub fn mentions(&self, key: &str) -> bool {
        self.present.contains(&key)
    }

    /// A fault of this operation: `operation "report.host": ...`.
    #[must_use]
    pub fn fault(&self, problem: &str) -> Fault {
        Fault::new(format!("operation \"{}\": {problem}", self.name.value))
    }

    #[must_use]
    pub fn place(&self) -> Place {
        self.name.place
    }
}

/// `[operation."NAME"]`.
pub fn operation(
    r: &mut Reader<'_>,
    key: &Spanned<DeString<'_>>,
    value: &Value<'_>,
) -> Option<RawOperation> {
    let name: &str = key.get_ref();
    check_name(r, key);
    let table = r.table(value, "the table of an operation")?;
    let mut raw = RawOperation::new(At {
        value: name.to_owned(),
        place: r.place(key),
    });
    let whose = format!("operation \"{name}\"");
    let mut process = DeTable::new();
    let mut given = Vec::new();
    for (key, value) in table {
        let known = OPERATION_KEYS.iter().find(|known| key.get_ref() == *known);
        let Some(known) = known else {
            unknown(r, name, key, value, &whose);
            continue;
        };
        raw.present.push(known);
        match *known {
            "isolation" => {
                let value = isolation(r, value, &mut raw, &mut given);
                process.insert(key.clone(), value);
            }
            known if OF_A_PROCESS.contains(&known) => {
                process.insert(key.clone(), value.clone());
            }
            known => one_key(r, known, value, &mut raw),
        }
    }
    raw.keys = Keys::read_table(r, &process, &whose);
    if let Some(isolation) = &mut raw.keys.isolation {
        isolation.value.given.extend(given);
    }
    Some(raw)
}

fn one_key(r: &mut Reader<'_>, key: &str, value: &Value<'_>, raw: &mut RawOperation) {
    match key {
        "description" => raw.description = r.at(value, |r, v| r.word(v, "a sentence")),
        "result" => raw.result = r.at(value, |r, v| r.string(v, "a sentence")),
        "enabled" => raw.enabled = r.at(value, Reader::boolean),
        "operators" => operators(r, value, raw),
        "services" => raw.services = r.at(value, Reader::boolean),
        "builtin" => raw.builtin = r.at(value, |r, v| r.word(v, "the name of a built-in")),
        "exec" => raw.exec = r.at(value, argv),
        "dry_run_exec" => raw.dry_run_exec = r.at(value, argv),
        "dry_run" => raw.dry_run = r.at(value, Reader::boolean),
        "calls" => {
            let wanted = "a list of methods such as [\"Freeze\"]";
            let read = r.list(value, wanted, |r, v| {
                r.at(v, |r, v| r.word(v, "the name of a method"))
            });
            raw.calls = read.unwrap_or_default();
        }
        "time_limit" => raw.time_limit = r.at(value, time_limit),
        "output_limit" => raw.output_limit = r.at(value, output_limit),
        "concurrency" => raw.concurrency = r.at(value, |r, v| r.number(v, 1..=1_000)),
        "on_leave" => {
            let words = [("end", false), ("finish", true)];
            raw.finishes = r.at(value, |r, v| r.choice(v, &words));
        }
        "rate" => raw.rate = r.at(value, read::rate),
        "parameters" => parameters(r, value, raw),
        _ => unreachable!("every key of OPERATION_KEYS is above or of the process"),
    }
}

/// Names go into logs, the audit log and directory names.
fn check_name(r: &mut Reader<'_>, key: &Spanned<DeString<'_>>) {
    let name: &str = key.get_ref();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(plain);
    if name.len() <= 64 && name.split('.').all(is_word) {
        return;
    }
    let fault = Fault::new(format!("\"{name}\" can be no name of an operation"))
        .help("words of a-z, 0-9 and _ joined by dots, 64 characters at most: \"backup.create\"");
    r.complain::<_, ()>(key, fault);
}

fn unknown(
    r: &mut Reader<'_>,
    name: &str,
    key: &Spanned<DeString<'_>>,
    value: &Value<'_>,
    whose: &str,
) {
    let inner: &str = key.get_ref();
    let has_keys_of_one = |table: &DeTable<'_>| {
        let mut keys = table.keys();
        keys.any(|key| OPERATION_KEYS.contains(&key.get_ref().as_ref()))
    };
    if value.get_ref().as_table().is_some_and(has_keys_of_one) {
        let fault = Fault::new(format!("no key \"{inner}\" in {whose}")).help(format!(
            "a name with dots stands in quotes: [operation.\"{name}.{inner}\"]"
        ));
        r.complain::<_, ()>(key, fault);
        return;
    }
    r.unknown(key, whose, OPERATION_KEYS);
}

/// `{ users = [...], groups = [...] }`.
fn operators(r: &mut Reader<'_>, value: &Value<'_>, raw: &mut RawOperation) {
    let wanted = "a table such as { users = [\"backup\"], groups = [\"operator\"] }";
    for (key, value) in r.table(value, wanted).into_iter().flatten() {
        let names = |r: &mut Reader<'_>, each: &str| {
            let read = r.list(value, &format!("a list of {each}s"), |r, v| {
                r.at(v, |r, v| r.word(v, each))
            });
            read.unwrap_or_default()
        };
        match key.get_ref().as_ref() {
            "users" => raw.users = names(r, "user name"),
            "groups" => raw.groups = names(r, "group name"),
            _ => {
                r.unknown(key, "operators", OPERATORS_KEYS);
            }
        }
    }
}

/// A program and its arguments, each where it stands.
fn argv(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<At<String>>> {
    const WANTED: &str = "a list: the program and its arguments";
    if let Some(line) = value.get_ref().as_str() {
        let words: Vec<String> = line.split_whitespace().map(|w| format!("{w:?}")).collect();
        let fault = Fault::new(format!("expected {WANTED}; no shell takes a line apart"))
            .help(format!("write [{}]", words.join(", ")));
        return r.complain(value, fault);
    }
    let words = r.list(value, WANTED, |r, v| r.at(v, |r, v| r.string(v, "a text")))?;
    match words.first() {
        Some(program) if program.value.starts_with('/') => Some(words),
        Some(program) => {
            let fault = Fault::new(format!("\"{}\" is no absolute path", program.value))
                .help("no PATH is searched; write the whole path of the program");
            r.complaints.push(fault.at(program.place));
            None
        }
        None => {
            let fault = Fault::new(format!("expected {WANTED}, found an empty list"));
            r.complain(value, fault)
        }
    }
}

fn time_limit(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Duration> {
    r.parsed(
        value,
        "a duration such as \"30s\"",
        |text| match value::duration(text)? {
            span if span.is_zero() => Err(Fault::new("nothing is done in no time at all")),
            span if span > LONGEST => Err(Fault::new("no operation takes longer than a day")),
            span => Ok(span),
        },
    )
}

fn output_limit(r: &mut Reader<'_>, value: &Value<'_>) -> Option<u64> {
    r.parsed(value, "a size such as \"64K\"", |text| {
        match value::size(text)? {
            0 => Err(Fault::new("not even an empty result would fit")),
            size if size > MOST_OUTPUT => Err(Fault::new(format!(
                "no result is larger than {}",
                value::show_size(MOST_OUTPUT)
            ))),
            size => Ok(size),
        }
    })
}

fn parameters(r: &mut Reader<'_>, value: &Value<'_>, raw: &mut RawOperation) {
    const MOST: usize = 32;
    let wanted = "parameters, each a table such as { type = \"service\" }";
    let Some(table) = r.table(value, wanted) else {
        return;
    };
    if table.len() > MOST {
        let fault = raw.fault(&format!("it has more than {MOST} parameters"));
        r.complain::<_, ()>(value, fault);
        return;
    }
    for (key, value) in table {
        match parameter::read(r, &raw.name.value, key, value) {
            Some(parameter) => raw.parameters.push(parameter),
            None => raw.broken.push(key.get_ref().to_string()),
        }
    }
}

/// `isolation` without its paths, which may hold placeholders: these go to
/// `raw`, and where they are said to `given`. What names no preset refines the strict one.
fn isolation<'t>(
    r: &mut Reader<'_>,
    value: &Value<'t>,
    raw: &mut RawOperation,
    given: &mut Vec<At<String>>,
) -> Value<'t> {
    let Some(table) = value.get_ref().as_table() else {
        return value.clone();
    };
    let mut rest = DeTable::new();
    if !table.contains_key("preset") {
        let span = value.span();
        let strict = Spanned::new(span.clone(), DeValue::String("strict".into()));
        rest.insert(Spanned::new(span, "preset".into()), strict);
    }
    for (key, value) in table {
        let name: &str = key.get_ref();
        if !OF_PATHS.contains(&name) {
            rest.insert(key.clone(), value.clone());
            continue;
        }
        let wanted = "a list of paths, absolute or such as \"{state_dir}/backups\"";
        let paths = r.list(value, wanted, |r, v| r.at(v, place));
        given.push(At {
            value: name.to_owned(),
            place: r.place(key),
        });
        match name {
            "visible" => raw.visible = paths.unwrap_or_default(),
            _ => raw.writable = paths.unwrap_or_default(),
        }
    }
    Spanned::new(value.span(), DeValue::Table(rest))
}

/// A path, absolute or with a placeholder at its beginning.
fn place(r: &mut Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = r.word(value, "a path")?;
    if !text.starts_with(['/', '{']) {
        let fault = Fault::new(format!("\"{text}\" is no absolute path"))
            .help("it begins with / or with a placeholder such as {state_dir}");
        return r.complain(value, fault);
    }
    let path = PathBuf::from(&text);
    if path.components().any(|part| part.as_os_str() == "..") {
        return r.complain(value, Fault::new("there is a \"..\" in this path"));
    }
    // Without a slash at the end and without doubled ones.
    let plain: PathBuf = path.components().collect();
    Some(plain.to_string_lossy().into_owned())
}
