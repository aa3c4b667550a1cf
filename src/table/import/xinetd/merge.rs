//! What each service has in the end: its own attributes and those that it takes
//! from `defaults`, at the two moments at which xinetd takes them.
//!
//! Lists of peers and of words are copied into a service when its entry begins,
//! so `defaults` that come later do not reach it. Limits are filled in when all
//! files have been read.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::PathBuf;

use super::address::{Peer, peers};
use super::attribute::{Attribute, FILLED_AT_THE_END, Values, find};
use super::file::{Configuration, Entry, Line, Operator};
use crate::table::complaint::{SourceFile, did_you_mean};
use crate::table::import::{Effect, Note, Origin};

/// The words of a single-valued or list attribute, and where they stand.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub words: Vec<String>,
    pub origin: Origin,
    /// It comes from `defaults`.
    pub inherited: bool,
}

/// A member of a set, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Member<T> {
    pub value: T,
    pub origin: Origin,
}

pub(super) type Set<T> = Option<Vec<Member<T>>>;

/// What an entry or the defaults have.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub values: HashMap<&'static str, Given>,
    pub only_from: Set<Peer>,
    pub no_access: Set<Peer>,
    pub log_on_success: Set<String>,
    pub log_on_failure: Set<String>,
    pub passenv: Set<String>,
    pub env: Set<String>,
    pub enabled: Set<String>,
    pub disabled: Set<String>,
}

/// A service as xinetd would have it before it looks at what its values mean.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub name: String,
    pub id: String,
    pub origin: Origin,
    pub source: Vec<String>,
    pub settings: Settings,
    /// Why xinetd does not start it.
    pub off: Option<String>,
    pub notes: Vec<Note>,
}

/// All services, in the order in which xinetd reads them.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub services: Vec<Service>,
    pub defaults: Settings,
    /// About the files and the defaults.
    pub notes: Vec<Note>,
}

/// The files of it, too.
pub(super) fn merge(configuration: Configuration) -> (Merged, Vec<SourceFile>) {
    let mut merged = Merged {
        notes: configuration.notes,
        ..Merged::default()
    };
    let mut has_defaults: Vec<PathBuf> = Vec::new();
    for entry in configuration.entries {
        match &entry.name {
            Some(name) => {
                let service = service(name.clone(), entry, &merged.defaults);
                merged.services.push(service);
            }
            None if has_defaults.contains(&entry.origin.file) => merged.second_defaults(&entry),
            None => {
                if entry.fault.is_none() {
                    has_defaults.push(entry.origin.file.clone());
                }
                merged.read_defaults(&entry);
            }
        }
    }
    for service in &mut merged.services {
        service.fill(&merged.defaults);
    }
    merged.choose();
    (merged, configuration.files)
}

impl Merged {
    fn read_defaults(&mut self, entry: &Entry) {
        let fault = entry.fault.as_ref();
        for line in &entry.attributes {
            if let Some((origin, problem)) = fault.filter(|(at, _)| at.line < line.origin.line) {
                let text = format!(
                    "xinetd stops reading `defaults` at line {} ({problem}), so `{}` is not in force",
                    origin.line, line.name
                );
                self.notes.push(ignored(line, find(&line.name), text));
                continue;
            }
            let taken = self.defaults.take(line, true);
            self.notes.extend(taken.note);
            if let Some(problem) = taken.bad {
                let text =
                    format!("{problem}; with this in `defaults` xinetd does not start at all");
                self.notes.push(ignored(line, find(&line.name), text));
            }
        }
        if let Some((origin, problem)) = fault {
            let text = format!("xinetd stops reading `defaults` here: {problem}");
            self.notes.push(origin.note(Effect::Loss, text));
        }
    }

    fn second_defaults(&mut self, entry: &Entry) {
        for line in &entry.attributes {
            let text = format!(
                "xinetd takes one `defaults` from a file and ignores this second one, `{}` in it too",
                line.name
            );
            self.notes.push(ignored(line, find(&line.name), text));
        }
    }

    /// `enabled` and `disabled`, which name services by id.
    fn choose(&mut self) {
        let named = |set: &Set<String>, id: &str| {
            let mut words = set.iter().flatten();
            words.any(|word| word.value.eq_ignore_ascii_case(id))
        };
        for service in &mut self.services {
            let off = &mut service.off;
            if self.defaults.enabled.is_some() && !named(&self.defaults.enabled, &service.id) {
                off.get_or_insert_with(|| "`enabled` in `defaults` does not name it".to_owned());
            }
            if named(&self.defaults.disabled, &service.id) {
                off.get_or_insert_with(|| "`disabled` in `defaults` names it".to_owned());
            }
        }
    }
}

fn service(name: String, entry: Entry, defaults: &Settings) -> Service {
    let mut service = Service {
        id: name.clone(),
        name,
        origin: entry.origin,
        source: entry.source,
        settings: Settings {
            only_from: defaults.only_from.clone(),
            no_access: defaults.no_access.clone(),
            log_on_success: defaults.log_on_success.clone(),
            log_on_failure: defaults.log_on_failure.clone(),
            passenv: defaults.passenv.clone(),
            ..Settings::default()
        },
        off: None,
        notes: Vec::new(),
    };
    for banner in ["banner", "banner_success", "banner_fail"] {
        service.settings.inherit(banner, defaults);
    }
    for line in &entry.attributes {
        let taken = service.settings.take(line, false);
        service.notes.extend(taken.note);
        if let Some(problem) = taken.bad {
            service.turn_off(problem);
        }
    }
    if let Some((origin, problem)) = entry.fault {
        service.turn_off(format!(
            "xinetd skips it, for in line {} {problem}",
            origin.line
        ));
    }
    let settings = &service.settings;
    if let Some(id) = settings.one("id") {
        service.id = id.to_owned();
    }
    match settings.one("disable") {
        Some(word) if word.eq_ignore_ascii_case("yes") => {
            service.turn_off("disable = yes".to_owned());
        }
        Some(word) if !word.eq_ignore_ascii_case("no") => {
            let problem = format!("disable = {word} is neither yes nor no");
            service.turn_off(problem);
        }
        _ => {}
    }
    service
}

impl Service {
    pub fn turn_off(&mut self, why: String) {
        self.off.get_or_insert(why);
    }

    fn fill(&mut self, defaults: &Settings) {
        // A service has one of the two limits, so its own one keeps the other's default away.
        let own_rate = self.settings.values.contains_key("cps")
            || self.settings.values.contains_key("leaky_bucket");
        for key in FILLED_AT_THE_END {
            if !(own_rate && (key == "cps" || key == "leaky_bucket")) {
                self.settings.inherit(key, defaults);
            }
        }
    }
}

/// What became of a line.
#[derive(Default)]
struct Taken {
    note: Option<Note>,
    /// A value that disables the service.
    bad: Option<String>,
}

impl Settings {
    /// The words of an attribute; `None` if it is not there.
    pub fn words(&self, key: &str) -> Option<&[String]> {
        self.values.get(key).map(|given| given.words.as_slice())
    }

    /// The value of an attribute that takes one.
    pub fn one(&self, key: &str) -> Option<&str> {
        self.words(key)?.first().map(String::as_str)
    }

    fn inherit(&mut self, key: &'static str, defaults: &Settings) {
        if let Some(given) = defaults.values.get(key) {
            self.values.entry(key).or_insert_with(|| Given {
                inherited: true,
                ..given.clone()
            });
        }
    }

    fn take(&mut self, line: &Line, defaults: bool) -> Taken {
        let known = find(&line.name);
        let fits = |a: &Attribute| {
            if defaults {
                a.in_defaults()
            } else {
                a.in_service()
            }
        };
        let Some(attribute) = known.filter(|a| fits(a)) else {
            return ignore(line, known, &unknown(line, known, defaults));
        };
        if let Some(problem) = self.rejects(line, attribute) {
            return ignore(line, known, &problem);
        }
        if attribute.values == Values::Set {
            return self.change_set(line, attribute, defaults);
        }
        if line.words.is_empty() {
            let bad = Some(format!("`{}` has no value", attribute.name));
            return Taken { note: None, bad };
        }
        let given = Given {
            words: line.words.clone(),
            origin: line.origin.clone(),
            inherited: false,
        };
        self.values.insert(attribute.key(), given);
        Taken::default()
    }

    /// Why xinetd ignores a line of an attribute that it knows.
    fn rejects(&self, line: &Line, attribute: &Attribute) -> Option<String> {
        let name = attribute.name;
        let earlier = self
            .values
            .get(attribute.key())
            .filter(|given| !given.inherited);
        if attribute.values != Values::Set {
            if let Some(given) = earlier {
                return Some(format!(
                    "`{name}` is set in line {} and the first one counts",
                    given.origin.line
                ));
            }
            if line.operator != Operator::Set {
                return Some(format!(
                    "`{name}` cannot have the operator {}",
                    line.operator.text()
                ));
            }
        }
        match attribute.values {
            Values::Exactly(count) if count != line.words.len() => {
                let values = if count == 1 { "value" } else { "values" };
                let comment = line.words.iter().any(|word| word.starts_with('#'));
                let hint = if comment {
                    ", and a comment behind it counts as values too"
                } else {
                    ""
                };
                let found = line.words.len();
                Some(format!(
                    "`{name}` takes {count} {values} and has {found}{hint}"
                ))
            }
            Values::Exactly(_) | Values::List | Values::Set => None,
        }
    }

    fn change_set(&mut self, line: &Line, attribute: &Attribute, defaults: bool) -> Taken {
        let operator = match line.operator {
            Operator::Set if defaults => Operator::Add,
            given => given,
        };
        let set = match attribute.name {
            "only_from" => &mut self.only_from,
            "no_access" => &mut self.no_access,
            name => return self.change_words(line, name, operator),
        };
        let set = start(set, operator);
        for (place, word) in line.words.iter().enumerate() {
            if word.starts_with('#') {
                return Taken {
                    note: Some(comment(line, place)),
                    bad: None,
                };
            }
            match peers(word) {
                Ok(found) => apply(set, found, operator, &line.origin),
                Err(bad) => {
                    let bad = Some(format!("{}: {bad}", attribute.name));
                    return Taken { note: None, bad };
                }
            }
        }
        Taken::default()
    }

    fn change_words(&mut self, line: &Line, name: &str, operator: Operator) -> Taken {
        let set = match name {
            "log_on_success" => &mut self.log_on_success,
            "log_on_failure" => &mut self.log_on_failure,
            "passenv" => &mut self.passenv,
            "enabled" => &mut self.enabled,
            "disabled" => &mut self.disabled,
            _ => &mut self.env,
        };
        if name == "env" && operator == Operator::Remove {
            let bad = Some("`env` cannot have the operator -=".to_owned());
            return Taken { note: None, bad };
        }
        // These two only ever grow, whatever the operator.
        let operator = if name == "enabled" || name == "disabled" {
            Operator::Add
        } else {
            operator
        };
        let words = match name {
            "log_on_success" | "log_on_failure" => {
                line.words.iter().map(|w| w.to_ascii_uppercase()).collect()
            }
            _ => line.words.clone(),
        };
        apply(start(set, operator), words, operator, &line.origin);
        Taken::default()
    }
}

/// `=` begins anew.
fn start<T>(set: &mut Set<T>, operator: Operator) -> &mut Vec<Member<T>> {
    let members = set.get_or_insert_default();
    if operator == Operator::Set {
        members.clear();
    }
    members
}

fn apply<T: PartialEq>(
    set: &mut Vec<Member<T>>,
    values: Vec<T>,
    operator: Operator,
    origin: &Origin,
) {
    for value in values {
        if operator == Operator::Remove {
            set.retain(|member| member.value != value);
        } else if !set.iter().any(|member| member.value == value) {
            set.push(Member {
                value,
                origin: origin.clone(),
            });
        }
    }
}

fn comment(line: &Line, place: usize) -> Note {
    let rest = line.words.get(place..).unwrap_or_default().join(" ");
    let text = format!(
        "xinetd knows no comment behind a value and takes \"{rest}\" for host names; it is left out"
    );
    line.origin.note(Effect::Changed, text)
}

fn unknown(line: &Line, known: Option<&Attribute>, defaults: bool) -> String {
    let name = &line.name;
    match known {
        Some(_) if defaults => format!("`{name}` has no place in `defaults`"),
        Some(_) => format!("`{name}` has its place in `defaults` only"),
        None => match meant(name) {
            Some(near) => format!("there is no attribute `{name}` (`{}` is meant?)", near.name),
            None => format!("there is no attribute `{name}`"),
        },
    }
}

fn meant(name: &str) -> Option<&'static Attribute> {
    let names = super::attribute::ATTRIBUTES.iter().map(|a| a.name);
    find(did_you_mean(name, names)?)
}

fn ignore(line: &Line, known: Option<&'static Attribute>, problem: &str) -> Taken {
    let text = format!("{problem}: xinetd ignores this line");
    Taken {
        note: Some(ignored(line, known, text)),
        bad: None,
    }
}

/// A line that xinetd ignores has never kept anybody out, but whoever wrote it believes so.
fn ignored(line: &Line, known: Option<&'static Attribute>, text: String) -> Note {
    let attribute = known.or_else(|| meant(&line.name));
    let limits = attribute.is_some_and(|a| a.limits);
    let effect = if limits { Effect::Loss } else { Effect::Remark };
    line.origin.note(effect, text)
}
