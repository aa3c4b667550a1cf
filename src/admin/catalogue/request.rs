//! One request against its entry: every parameter checked, those that were not
//! given filled in, and what a service may name kept to its own. Pure: what is
//! there on the host is asked of a [`World`].
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::template::{Piece, parse};
use super::{Kind, Operation, Parameter, Serve, pattern, values};
use crate::admin::operations::Parameters;
use crate::control::frame::MAX_CALL;
use crate::table::value;

/// The characters of a text that the audit log keeps.
const LOGGED: usize = 256;
/// The reason where a parameter was not given at all.
pub const MISSING: &str = "it is required, and was not given";
/// Names of parameters that the catalogue does not have and the log tells of.
const STRANGERS: usize = 8;

/// Who asks, as far as parameters depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking<'a> {
    Operator,
    /// An instance of a service.
    Service {
        name: &'a str,
        instance: u64,
        /// Its own directory, if it has one: `/var/lib/NAME`.
        state: Option<&'a Path>,
        /// What its `admin` list allows for each parameter, by globs.
        with: &'a BTreeMap<String, Vec<String>>,
    },
}

/// What is there on the host at this moment.
pub trait World {
    fn has_user(&self, name: &str) -> bool;
    fn has_group(&self, name: &str) -> bool;
    /// A service of the table.
    fn has_service(&self, name: &str) -> bool;
    /// Whose instance that is; `None`: none of this number runs.
    fn service_of(&self, instance: u64) -> Option<String>;
}

/// Why a request is not carried out. The reason repeats no value but a plain number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A parameter is missing, is not known, or does not take this value.
    Parameter { name: String, reason: String },
    /// It could be, and is not for this caller.
    NotPermitted { name: String, reason: String },
}

impl Wrong {
    fn parameter(name: &str, reason: impl Into<String>) -> Self {
        // Of a name that the catalogue does not have nobody knows what it is.
        let name: String = name.chars().take(64).collect();
        let reason = reason.into();
        Self::Parameter { name, reason }
    }

    fn not_permitted(name: &str, reason: impl Into<String>) -> Self {
        Self::NotPermitted {
            name: name.to_owned(),
            reason: reason.into(),
        }
    }
}

impl Operation {
    /// The parameters as the administrative server gets them.
    pub fn check(
        &self,
        given: &Map<String, Value>,
        asking: Asking<'_>,
        world: &dyn World,
    ) -> Result<Parameters, Wrong> {
        // Each byte has come over the socket once; a default cannot make it more.
        if Value::Object(given.clone()).to_string().len() > MAX_CALL {
            let reason = format!("all parameters together have more than {MAX_CALL} bytes");
            return Err(Wrong::parameter("", reason));
        }
        if let Some(stranger) = given.keys().find(|name| self.parameter(name).is_none()) {
            return Err(Wrong::parameter(stranger, self.no_such(stranger)));
        }
        let mut checked = Map::new();
        for parameter in &self.parameters {
            // Null is how some languages write what is not there.
            let value = given.get(&parameter.name).filter(|value| !value.is_null());
            if let Some(value) = self.one(parameter, value, asking, world)? {
                checked.insert(parameter.name.clone(), value);
            }
        }
        Ok(Parameters(checked))
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|one| one.name == name)
    }

    fn no_such(&self, name: &str) -> String {
        let known: Vec<&str> = self
            .parameters
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let near = crate::table::complaint::did_you_mean(name, known.iter().copied());
        match near {
            Some(near) => format!("there is none of this name; did you mean \"{near}\"?"),
            None if known.is_empty() => "this operation has no parameters".to_owned(),
            None => format!("the parameters are {}", known.join(", ")),
        }
    }

    fn one(
        &self,
        parameter: &Parameter,
        given: Option<&Value>,
        asking: Asking<'_>,
        world: &dyn World,
    ) -> Result<Option<Value>, Wrong> {
        let name = &parameter.name;
        let itself = itself(parameter, asking);
        let Some(value) = given.or(parameter.default.as_ref()).or(itself.as_ref()) else {
            return match parameter.optional {
                // Without it the operation may be about everything.
                true if is_narrowed(parameter, asking) => Err(Wrong::not_permitted(
                    name,
                    "the `admin` list of the service narrows it, so it has to be given",
                )),
                true => Ok(None),
                false => Err(Wrong::parameter(name, MISSING)),
            };
        };
        let accepted =
            values::accept(parameter, value).map_err(|why| Wrong::parameter(name, why))?;
        for item in items(&accepted) {
            self.no_option(parameter, item)?;
            // First whose it is: nobody learns what others have.
            own(parameter, item, asking)?;
            narrowed(parameter, item, asking)?;
            is_there(parameter, item, world)?;
            own_instance(parameter, item, asking, world)?;
        }
        Ok(Some(accepted))
    }

    /// An argument that a caller chooses is never taken for an option: beginning
    /// with `-` it stands after a `--`, and only if a pattern admits it.
    fn no_option(&self, parameter: &Parameter, item: &Value) -> Result<(), Wrong> {
        let Kind::Text { pattern, .. } = &parameter.kind else {
            return Ok(());
        };
        let Serve::Program { argv, dry_run } = &self.serve else {
            return Ok(());
        };
        if !item.as_str().is_some_and(|text| text.starts_with('-')) {
            return Ok(());
        }
        let lines = std::iter::once(argv).chain(dry_run);
        let exposed = lines.flat_map(|argv| begins_words(argv, &parameter.name));
        let safe = exposed.map(|after_options| after_options && pattern.is_some());
        match safe.clone().all(|safe| safe) {
            true => Ok(()),
            false => Err(Wrong::parameter(
                &parameter.name,
                "it begins with -, and would be taken for an option",
            )),
        }
    }
}

/// Where a parameter begins a word: for each whether that is after `--`.
fn begins_words<'a>(argv: &'a [String], name: &'a str) -> impl Iterator<Item = bool> + Clone + 'a {
    let end = argv.iter().position(|word| word == "--");
    argv.iter().enumerate().filter_map(move |(at, word)| {
        let first = parse(word).ok()?.into_iter().next()?;
        let is_it = matches!(first, Piece::Placeholder { name: of, .. } if of == name);
        is_it.then_some(end.is_some_and(|end| at > end))
    })
}

/// A value, or the items of a list.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    let (one, list) = match value {
        Value::Array(items) => (None, items.as_slice()),
        one => (Some(one), [].as_slice()),
    };
    one.into_iter().chain(list)
}

/// What a service means that names nothing: itself.
fn itself(parameter: &Parameter, asking: Asking<'_>) -> Option<Value> {
    let Asking::Service { name, instance, .. } = asking else {
        return None;
    };
    let value = match (&parameter.kind, parameter.own) {
        (Kind::Service, true) => json!(name),
        (Kind::Instance, true) => json!(instance),
        _ => return None,
    };
    Some(match parameter.list {
        true => json!([value]),
        false => value,
    })
}

/// Whether a service may name it.
fn own(parameter: &Parameter, item: &Value, asking: Asking<'_>) -> Result<(), Wrong> {
    let Asking::Service { name, state, .. } = asking else {
        return Ok(());
    };
    if !parameter.own {
        return Ok(());
    }
    let refuse = |reason: &str| Err(Wrong::not_permitted(&parameter.name, reason));
    match (&parameter.kind, item.as_str()) {
        (Kind::Service, Some(text)) if text != name => refuse("a service may only name itself"),
        (Kind::Path { .. }, Some(text)) => {
            let path = Path::new(text);
            let below = |state: &Path| path != state && path.starts_with(state);
            match state {
                None => refuse("this service has no state directory"),
                Some(state) if below(state) => Ok(()),
                Some(_) => refuse("a service may only name what is in its own state directory"),
            }
        }
        _ => Ok(()),
    }
}

fn own_instance(
    parameter: &Parameter,
    item: &Value,
    asking: Asking<'_>,
    world: &dyn World,
) -> Result<(), Wrong> {
    let (Kind::Instance, Some(number)) = (&parameter.kind, item.as_u64()) else {
        return Ok(());
    };
    let owner = world.service_of(number);
    match (owner, asking) {
        (owner, Asking::Service { name, .. }) if parameter.own => match owner {
            Some(owner) if owner == name => Ok(()),
            // The same answer for another's and for none.
            _ => Err(Wrong::not_permitted(
                &parameter.name,
                "a service may only name instances of its own",
            )),
        },
        (None, _) => Err(Wrong::parameter(
            &parameter.name,
            "no instance has this number: it has ended, or there never was one",
        )),
        (Some(_), _) => Ok(()),
    }
}

fn is_narrowed(parameter: &Parameter, asking: Asking<'_>) -> bool {
    matches!(asking, Asking::Service { with, .. } if with.contains_key(&parameter.name))
}

/// What the `admin` list of a service leaves of it.
fn narrowed(parameter: &Parameter, item: &Value, asking: Asking<'_>) -> Result<(), Wrong> {
    let Asking::Service { with, .. } = asking else {
        return Ok(());
    };
    let Some(globs) = with.get(&parameter.name) else {
        return Ok(());
    };
    if pattern::any_matches(globs, &written(&parameter.kind, item)) {
        return Ok(());
    }
    let reason = "the `admin` list of the service does not allow this value";
    Err(Wrong::not_permitted(&parameter.name, reason))
}

/// A checked value as the table would write it.
fn written(kind: &Kind, item: &Value) -> String {
    let number = item.as_u64().unwrap_or(0);
    match (kind, item) {
        (_, Value::String(text)) => text.clone(),
        (Kind::Duration { .. }, _) => {
            value::show_duration(std::time::Duration::from_millis(number))
        }
        (Kind::Size { .. }, _) => value::show_size(number),
        (_, other) => other.to_string(),
    }
}

fn is_there(parameter: &Parameter, item: &Value, world: &dyn World) -> Result<(), Wrong> {
    let name = item.as_str().unwrap_or_default();
    let lacks = match parameter.kind {
        Kind::User if !world.has_user(name) => "no user has this name",
        Kind::Group if !world.has_group(name) => "no group has this name",
        Kind::Service if !world.has_service(name) => "no service has this name",
        _ => return Ok(()),
    };
    Err(Wrong::parameter(&parameter.name, lacks))
}

/// The command line for checked parameters. A parameter is never more than a part
/// of one word; a word with one that was not given is left out; a list makes
/// a word of each item.
#[must_use]
pub fn expand(argv: &[String], parameters: &Parameters) -> Vec<String> {
    let mut words = Vec::with_capacity(argv.len());
    for word in argv {
        let pieces = parse(word).unwrap_or_default();
        if let [Piece::Placeholder { name, .. }] = pieces.as_slice() {
            let value = parameters.0.get(name);
            words.extend(value.into_iter().flat_map(items).map(plain));
            continue;
        }
        let parts = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Placeholder { name, .. } => parameters.0.get(name).map(plain),
        });
        words.extend(parts.collect::<Option<String>>());
    }
    words
}

/// A value as a program takes it: durations in milliseconds, sizes in bytes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Operation {
    /// What a caller gave, for the log: secrets masked, and what the catalogue does
    /// not know too, which may be a secret by another name. Long texts are cut.
    #[must_use]
    pub fn masked(&self, given: &Map<String, Value>) -> Value {
        let mut shown = Map::new();
        let mut strangers = 0;
        for (name, value) in given {
            match self.parameter(name) {
                Some(parameter) if parameter.secret => {
                    shown.insert(name.clone(), json!("***"));
                }
                Some(_) => {
                    shown.insert(name.clone(), shortened(value));
                }
                None => {
                    strangers += 1;
                    if strangers <= STRANGERS {
                        let name: String = name.chars().take(64).collect();
                        shown.insert(name, json!("(no such parameter)"));
                    }
                }
            }
        }
        Value::Object(shown)
    }
}

fn shortened(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > LOGGED => {
            let kept: String = text.chars().take(LOGGED).collect();
            json!(format!("{kept}... ({} bytes)", text.len()))
        }
        Value::Array(items) if items.len() <= values::MOST_ITEMS => {
            Value::Array(items.iter().map(shortened).collect())
        }
        Value::Array(items) => json!(format!("(a list of {} items)", items.len())),
        Value::Object(_) => json!("(an object)"),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
