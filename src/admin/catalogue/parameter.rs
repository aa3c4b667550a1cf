//! `[operation."NAME".parameters]`: what a parameter is, read and checked by itself.
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Number, Value as Json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::template::is_name;
use super::{Kind, Parameter, pattern, values};
use crate::table::complaint::{Fault, Place};
use crate::table::reader::{Reader, Value};
use crate::table::value;

/// Keys of every parameter.
pub const COMMON_KEYS: &[&str] = &[
    "type",
    "description",
    "list",
    "optional",
    "default",
    "secret",
    "own",
];
/// Keys that belong to some types.
pub const TYPE_KEYS: &[(&str, &[&str])] = &[
    (
        "string",
        &["pattern", "min_length", "max_length", "allow", "lines"],
    ),
    ("integer", &["min", "max"]),
    ("boolean", &[]),
    ("choice", &["of"]),
    ("path", &["roots"]),
    ("user", &[]),
    ("group", &[]),
    ("service", &[]),
    ("instance", &[]),
    ("prefix", &[]),
    ("duration", &["max"]),
    ("size", &["max"]),
];

/// Placeholders that are not parameters.
pub const RESERVED: [&str; 3] = ["state_dir", "runtime_dir", "config_dir"];

/// Characters of a text, where the catalogue says nothing.
pub const MAX_LENGTH: u32 = 256;
/// A call is no longer.
const LONGEST_TEXT: i64 = 65_536;

/// A parameter as written, and where.
#[derive(Clone, Debug)]
pub struct RawParameter {
    pub place: Place,
    pub parameter: Parameter,
    pub pattern: Option<Place>,
    pub default: Option<Place>,
    pub own: Option<Place>,
}

/// One parameter; nothing if its type is not known.
pub fn read(
    r: &mut Reader<'_>,
    operation: &str,
    key: &Spanned<DeString<'_>>,
    value: &Value<'_>,
) -> Option<RawParameter> {
    let name: &str = key.get_ref();
    let whose = format!("parameter \"{name}\" of operation \"{operation}\"");
    check_name(r, key);
    let table = r.table(value, "a table such as { type = \"service\" }")?;
    let Some(stated) = table.get("type") else {
        let fault = Fault::new(format!("{whose} has no `type`"));
        return r.complain(
            key,
            fault.help(format!("the types are {}", types().join(", "))),
        );
    };
    let words: Vec<(&str, usize)> = types().into_iter().zip(0..).collect();
    let (type_name, own_keys) = TYPE_KEYS.get(r.choice(stated, &words)?)?;
    for (key, _) in table {
        fitting(r, key, type_name, own_keys, &whose);
    }
    let place = |r: &Reader<'_>, key: &str| table.get(key).map(|value| r.place(value));
    let mut parameter = Parameter {
        name: name.to_owned(),
        description: text(r, table, "description").unwrap_or_default(),
        kind: kind(r, table, type_name, key, &whose)?,
        list: flag(r, table, "list"),
        optional: flag(r, table, "optional"),
        default: None,
        secret: flag(r, table, "secret"),
        own: flag(r, table, "own"),
    };
    if let Some(value) = table.get("default") {
        parameter.default = json(r, value);
    }
    let raw = RawParameter {
        place: r.place(key),
        pattern: place(r, "pattern"),
        default: place(r, "default"),
        own: place(r, "own"),
        parameter,
    };
    makes_sense(r, &raw, table, &whose);
    Some(raw)
}

fn types() -> Vec<&'static str> {
    TYPE_KEYS.iter().map(|(name, _)| *name).collect()
}

fn check_name(r: &mut Reader<'_>, key: &Spanned<DeString<'_>>) {
    let name: &str = key.get_ref();
    if RESERVED.contains(&name) {
        let fault = Fault::new(format!("{{{name}}} stands for a folder of usherd"));
        r.complain::<_, ()>(key, fault.help("give the parameter another name"));
    } else if !is_name(name) {
        let fault = Fault::new(format!("\"{name}\" can be no name of a parameter"))
            .help("1 to 64 of a-z, 0-9 and _, beginning with a letter");
        r.complain::<_, ()>(key, fault);
    }
}

/// Complains about a key that this type has no use for, or none has.
fn fitting(
    r: &mut Reader<'_>,
    key: &Spanned<DeString<'_>>,
    type_name: &str,
    own: &[&str],
    whose: &str,
) {
    let name: &str = key.get_ref();
    if COMMON_KEYS.contains(&name) || own.contains(&name) {
        return;
    }
    let of: Vec<&str> = TYPE_KEYS
        .iter()
        .filter(|(_, keys)| keys.contains(&name))
        .map(|(of, _)| *of)
        .collect();
    if of.is_empty() {
        let known: Vec<&str> = COMMON_KEYS.iter().chain(own).copied().collect();
        r.unknown(key, whose, &known);
        return;
    }
    let fault = Fault::new(format!(
        "`{name}` means nothing for the type \"{type_name}\""
    ))
    .help(format!("it belongs to {}", of.join(", ")));
    r.complain::<_, ()>(key, fault);
}

fn text(r: &mut Reader<'_>, table: &DeTable<'_>, key: &str) -> Option<String> {
    r.string(table.get(key)?, "a text")
}

fn flag(r: &mut Reader<'_>, table: &DeTable<'_>, key: &str) -> bool {
    let value = table.get(key);
    value.and_then(|value| r.boolean(value)).unwrap_or(false)
}

fn kind(
    r: &mut Reader<'_>,
    table: &DeTable<'_>,
    type_name: &str,
    key: &Spanned<DeString<'_>>,
    whose: &str,
) -> Option<Kind> {
    let lacks = |r: &mut Reader<'_>, what: &str, help: &str| {
        let fault = Fault::new(format!("{whose} has no `{what}`"));
        r.complain::<_, Kind>(key, fault.help(help))
    };
    Some(match type_name {
        "string" => string(r, table)?,
        "integer" => {
            let whole = i64::MIN..=i64::MAX;
            let mut bound = |key: &str, usual: i64| match table.get(key) {
                Some(value) => r.number(value, whole.clone()),
                None => Some(usual),
            };
            let (min, max) = (bound("min", i64::MIN), bound("max", i64::MAX));
            let (min, max) = (min?, max?);
            if let Some(value) = table.get("max").filter(|_| min > max) {
                return r.complain(value, Fault::new("`max` is below `min`"));
            }
            Kind::Integer { min, max }
        }
        "boolean" => Kind::Boolean,
        "choice" => match table.get("of") {
            Some(value) => Kind::Choice(choices(r, value)?),
            None => return lacks(r, "of", "it lists the words: of = [\"on\", \"off\"]"),
        },
        "path" => match table.get("roots") {
            Some(value) => Kind::Path {
                roots: roots(r, value)?,
            },
            None => {
                let help = "it lists the folders below which a path may be: roots = [\"/srv\"]";
                return lacks(r, "roots", help);
            }
        },
        "user" => Kind::User,
        "group" => Kind::Group,
        "service" => Kind::Service,
        "instance" => Kind::Instance,
        "prefix" => Kind::Prefix,
        "duration" => Kind::Duration {
            max: match table.get("max") {
                Some(value) => r.parsed(value, "a duration such as \"1h\"", value::duration)?,
                None => Duration::from_secs(10 * 365 * 86_400),
            },
        },
        "size" => Kind::Size {
            max: match table.get("max") {
                Some(value) => r.parsed(value, "a size such as \"1G\"", value::size)?,
                None => u64::try_from(i64::MAX).unwrap_or(u64::MAX),
            },
        },
        _ => unreachable!("the type has been found in TYPE_KEYS"),
    })
}

fn string(r: &mut Reader<'_>, table: &DeTable<'_>) -> Option<Kind> {
    let before = r.complaints.len();
    let pattern = table.get("pattern");
    let pattern = pattern.and_then(|value| r.word(value, "a regular expression"));
    let mut length = |key: &str, least: i64, usual: u32| match table.get(key) {
        Some(value) => r.number(value, least..=LONGEST_TEXT).unwrap_or(usual),
        None => usual,
    };
    let max_length = length("max_length", 1, MAX_LENGTH);
    let min_length = length("min_length", 0, 1.min(max_length));
    if min_length > max_length
        && let Some(value) = table.get("min_length").or_else(|| table.get("max_length"))
    {
        let problem = format!("at least {min_length} characters, and at most {max_length}");
        r.complain::<_, ()>(value, Fault::new(problem));
    }
    let allow = table.get("allow").and_then(|value| {
        r.list(value, "a list of patterns such as [\"nginx*\"]", |r, v| {
            let text = r.word(v, "a pattern such as \"nginx*\"")?;
            match pattern::glob(&text) {
                Ok(_) => Some(text),
                Err(why) => r.complain(v, Fault::new(why)),
            }
        })
    });
    (r.complaints.len() == before).then_some(Kind::Text {
        pattern,
        min_length,
        max_length,
        allow,
        lines: flag(r, table, "lines"),
    })
}

fn choices(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let wanted = "a list of words such as [\"on\", \"off\"]";
    let words = r.list(value, wanted, |r, v| r.word(v, "a word"))?;
    if words.is_empty() {
        return r.complain(
            value,
            Fault::new(format!("expected {wanted}, found an empty list")),
        );
    }
    Some(words)
}

fn roots(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Vec<PathBuf>> {
    let wanted = "a list of folders such as [\"/srv\"]";
    let roots = r.list(value, wanted, |r, v| {
        let path = r.absolute(v)?;
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs {
            return r.complain(v, Fault::new("there is a \"..\" in this path"));
        }
        if path == Path::new("/") {
            let fault = Fault::new("below / is everything")
                .help("name the folders that the operation is about");
            return r.complain(v, fault);
        }
        // Without a slash at the end and without doubled ones.
        Some(path.components().collect())
    })?;
    if roots.is_empty() {
        return r.complain(
            value,
            Fault::new(format!("expected {wanted}, found an empty list")),
        );
    }
    Some(roots)
}

/// What a key says beside the others of the same parameter.
fn makes_sense(r: &mut Reader<'_>, raw: &RawParameter, table: &DeTable<'_>, whose: &str) {
    let Parameter {
        kind,
        optional,
        default,
        secret,
        own,
        ..
    } = &raw.parameter;
    let mut against = |key: &str, problem: &str, help: &str| {
        if let Some(value) = table.get(key) {
            let fault = Fault::new(format!("{whose}: {problem}")).help(help);
            r.complain::<_, ()>(value, fault);
        }
    };
    if *own && !matches!(kind, Kind::Service | Kind::Instance | Kind::Path { .. }) {
        against(
            "own",
            "a service owns none of these",
            "`own` is for the types service, instance and path",
        );
    }
    if default.is_some() && *optional {
        against(
            "optional",
            "with a `default` it is always there",
            "leave one of the two out",
        );
    }
    if default.is_some() && *secret {
        against(
            "default",
            "a secret in the catalogue is none",
            "leave it out; whoever asks gives it",
        );
    }
    if *secret && !matches!(kind, Kind::Text { .. }) {
        against(
            "secret",
            "only a string can be secret",
            "leave it out, or make it a string",
        );
    }
}

/// A value of the table as it would come over the socket.
fn json(r: &mut Reader<'_>, value: &Value<'_>) -> Option<Json> {
    match value.get_ref() {
        DeValue::String(_) => r.string(value, "a text").map(Json::String),
        DeValue::Boolean(truth) => Some(Json::Bool(*truth)),
        DeValue::Integer(_) => {
            let number: i64 = r.number(value, i64::MIN..=i64::MAX)?;
            Some(Json::Number(Number::from(number)))
        }
        DeValue::Array(_) => r.list(value, "a list", json).map(Json::Array),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
            r.mismatch(value, "a text, a whole number, true or false, or a list")
        }
    }
}

impl RawParameter {
    /// What only shows when values are tried: a pattern that is none, a default
    /// that the parameter itself refuses.
    pub fn try_out(&self, operation: &str) -> Vec<(Place, Fault)> {
        let mut faults = Vec::new();
        let name = &self.parameter.name;
        let whose = format!("parameter \"{name}\" of operation \"{operation}\"");
        if let (Kind::Text { pattern, .. }, Some(place)) = (&self.parameter.kind, self.pattern)
            && let Some(Err(why)) = pattern.as_deref().map(pattern::compile)
        {
            faults.push((place, Fault::new(format!("{whose}: {why}"))));
            return faults;
        }
        if let (Some(default), Some(place)) = (&self.parameter.default, self.default)
            && let Err(why) = values::accept(&self.parameter, default)
        {
            let problem = format!("{whose} does not take its own `default`: {why}");
            faults.push((place, Fault::new(problem)));
        }
        faults
    }
}
