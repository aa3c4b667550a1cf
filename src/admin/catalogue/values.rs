//! Values that a caller gives: whether a parameter takes them, and what they
//! come to. No type is made of another one: a number in quotes is a text.
//!
//! Reasons repeat no value, which may be a secret, but a whole number: only texts are secret.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde_json::{Number, Value};

use super::{Kind, Parameter, pattern};
use crate::logging::is_unsafe;
use crate::table::access::{BadPrefix, Prefix};
use crate::table::complaint::Fault;
use crate::table::value;

/// Items of a list.
pub const MOST_ITEMS: usize = 256;
/// PATH_MAX and NAME_MAX of the kernel.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// What `value` comes to: durations as milliseconds, sizes as bytes, prefixes
/// in their canonical form, everything else as it is.
///
/// The error says why the parameter does not take it.
pub fn accept(parameter: &Parameter, value: &Value) -> Result<Value, String> {
    if !parameter.list {
        return one(&parameter.kind, value);
    }
    let Value::Array(items) = value else {
        return Err(format!("expected a list, found {}", kind_of(value)));
    };
    if items.len() > MOST_ITEMS {
        return Err(format!("a list has at most {MOST_ITEMS} items"));
    }
    let read = items.iter().enumerate().map(|(number, item)| {
        let read = one(&parameter.kind, item);
        read.map_err(|why| format!("item {}: {why}", number + 1))
    });
    read.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn one(kind: &Kind, value: &Value) -> Result<Value, String> {
    match kind {
        Kind::Text { .. } => {
            let text = text_of(value, "a text")?;
            string(kind, text)?;
        }
        Kind::Integer { min, max } => {
            let number = value.as_i64().filter(|_| !value.is_f64());
            if !number.is_some_and(|number| (*min..=*max).contains(&number)) {
                let found = number.map_or_else(|| kind_of(value).to_owned(), |one| one.to_string());
                return Err(format!(
                    "expected a whole number {}, found {found}",
                    range(*min, *max)
                ));
            }
        }
        Kind::Boolean => {
            if !value.is_boolean() {
                return Err(format!("expected true or false, found {}", kind_of(value)));
            }
        }
        Kind::Choice(words) => {
            let wanted = format!("one of \"{}\"", words.join("\", \""));
            let text = text_of(value, &wanted)?;
            if !words.iter().any(|word| word == text) {
                return Err(format!("expected {wanted}, found another text"));
            }
        }
        Kind::Path { roots } => {
            let text = text_of(value, "an absolute path")?;
            path(text, roots)?;
        }
        Kind::User => account(text_of(value, "a user name")?)?,
        Kind::Group => account(text_of(value, "a group name")?)?,
        Kind::Service => service(text_of(value, "the name of a service")?)?,
        Kind::Instance => {
            let number = value.as_i64().filter(|_| !value.is_f64());
            if number.is_none_or(|number| number < 0) {
                let found = number.map_or_else(|| kind_of(value).to_owned(), |one| one.to_string());
                return Err(format!("expected the number of an instance, found {found}"));
            }
        }
        Kind::Prefix => {
            let text = text_of(value, "an address or a prefix")?;
            let prefix: Prefix = text.parse().map_err(|why| bad_prefix(&why).to_owned())?;
            return Ok(Value::String(prefix.to_string()));
        }
        Kind::Duration { max } => {
            let text = text_of(value, "a duration such as \"10s\"")?;
            let span =
                value::duration(text).map_err(|_| help_of("a duration", "\"90s\", \"1h\""))?;
            if span > *max {
                return Err(format!("it is more than {}", value::show_duration(*max)));
            }
            return Ok(number(span.as_millis()));
        }
        Kind::Size { max } => {
            let text = text_of(value, "a size such as \"64M\"")?;
            let size =
                value::size(text).map_err(|_: Fault| help_of("a size", "\"64K\", \"1G\""))?;
            if size > *max {
                return Err(format!("it is more than {}", value::show_size(*max)));
            }
            return Ok(number(u128::from(size)));
        }
    }
    Ok(value.clone())
}

fn number(value: u128) -> Value {
    let number = i64::try_from(value).unwrap_or(i64::MAX);
    Value::Number(Number::from(number))
}

fn help_of(what: &str, such_as: &str) -> String {
    format!("expected {what} such as {such_as}, found another text")
}

fn range(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "of 64 bits".to_owned(),
        (i64::MIN, max) => format!("of at most {max}"),
        (min, i64::MAX) => format!("of at least {min}"),
        (min, max) => format!("from {min} to {max}"),
    }
}

fn bad_prefix(why: &BadPrefix) -> &'static str {
    match why {
        BadPrefix::NotAnAddress => {
            "expected an address or a prefix such as \"192.0.2.7\" or \"2001:db8::/32\", found another text"
        }
        BadPrefix::BadLength => {
            "the length of the prefix is a number from 0 to 32, for IPv6 to 128"
        }
        BadPrefix::HostBits(_) => "the address has bits outside the prefix",
    }
}

/// A text without NUL and without a character that a log or a terminal takes for an order.
fn text_of<'v>(value: &'v Value, wanted: &str) -> Result<&'v str, String> {
    let Value::String(text) = value else {
        return Err(format!("expected {wanted}, found {}", kind_of(value)));
    };
    if text.contains('\0') {
        return Err("there is a NUL byte in this text".to_owned());
    }
    Ok(text)
}

fn string(kind: &Kind, text: &str) -> Result<(), String> {
    let Kind::Text {
        pattern: expected,
        min_length,
        max_length,
        allow,
        lines,
    } = kind
    else {
        unreachable!("the caller has a text");
    };
    let is_allowed = |c: char| *lines && matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(|c| is_unsafe(c) && !is_allowed(c)) {
        return Err("there is a control character in this text".to_owned());
    }
    // Before the characters are counted: of none there are more than bytes.
    let most = usize::try_from(*max_length).unwrap_or(usize::MAX);
    if text.len() > most.saturating_mul(4) || text.chars().count() > most {
        return Err(format!("it has more than {max_length} characters"));
    }
    if text.chars().count() < usize::try_from(*min_length).unwrap_or(usize::MAX) {
        return Err(match min_length {
            1 => "it is empty".to_owned(),
            _ => format!("it has less than {min_length} characters"),
        });
    }
    if let Some(expected) = expected {
        let compiled = pattern::compiled(expected)?;
        if !compiled.matches(text) {
            return Err(format!("it does not match {expected}"));
        }
    }
    match allow {
        Some(globs) if globs.is_empty() => {
            Err("nothing is allowed yet: the catalogue's `allow` is empty".to_owned())
        }
        Some(globs) if !pattern::any_matches(globs, text) => {
            Err("it is not on the catalogue's list (`allow`)".to_owned())
        }
        _ => Ok(()),
    }
}

/// Absolute, plain, and below one of `roots`, by whole names. Whether a link
/// leads elsewhere only shows when it is opened.
fn path(text: &str, roots: &[PathBuf]) -> Result<(), String> {
    plain_path(text)?;
    let path = Path::new(text);
    let below = |root: &PathBuf| path != root && path.starts_with(root);
    if roots.iter().any(below) {
        return Ok(());
    }
    let roots: Vec<String> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    Err(format!("it is not below {}", roots.join(" or ")))
}

/// A path that says where it leads.
fn plain_path(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("it is no absolute path".to_owned());
    };
    if text.len() > LONGEST_PATH {
        return Err(format!("a path has at most {LONGEST_PATH} bytes"));
    }
    if text.chars().any(is_unsafe) {
        return Err("there is a control character in this path".to_owned());
    }
    for part in rest.split('/') {
        match part {
            "" => return Err("there is an empty name in this path, or a / at its end".to_owned()),
            "." | ".." => return Err(format!("there is a \"{part}\" in this path")),
            long if long.len() > LONGEST_NAME => {
                return Err(format!("a file name has at most {LONGEST_NAME} bytes"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A name as useradd(8) takes it, and some that others do; never one that a
/// program takes for an option, a number or a path.
fn account(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.@$-".contains(&b);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    if starts_well && !is_number && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(());
    }
    Err("it can be no account: 1 to 64 letters, digits and _ . @ $ -, beginning with a letter, a digit or _, not only digits".to_owned())
}

fn service(text: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@+".contains(&b);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if starts_well && text.len() <= 64 && text.bytes().all(plain) {
        return Ok(());
    }
    Err("it can be no name of a service".to_owned())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
