//! What the keys of an operation mean together. Its process is checked by
//! `table::check`, as that of a service is.
#![forbid(unsafe_code)]

use super::read::RawOperation;
use super::shipped::SHIPPED;
use super::template::{Piece, parse};
use super::{Catalogue, Kind, Operation, Parameter, Serve, pattern};
use crate::admin::operations;
use crate::control::ADMIN;
use crate::table::complaint::{At, Complaint, Fault, Place, did_you_mean};

/// Methods of `org.usherd.Admin` that start an operation, or tell of them.
const NOT_FOR_OPERATIONS: [&str; 2] = ["Run", "GetOperations"];

/// Checks one operation and says how it is served. `is_shipped`: what stands there
/// is usherd's own and has been tried when it was built.
pub fn serve(
    raw: &RawOperation,
    is_shipped: &dyn Fn(Place) -> bool,
    complaints: &mut Vec<Complaint>,
) -> Option<Serve> {
    let mut check = Check { raw, complaints };
    let is_served = raw.mentions("builtin") || raw.mentions("exec");
    if is_served && !raw.mentions("description") {
        let help = "a sentence for whoever looks for an operation in `usherctl ops`";
        check.complain(raw.place(), "it has no `description`", help);
    }
    for parameter in raw.parameters.iter().filter(|p| !is_shipped(p.place)) {
        let tried = parameter.try_out(&raw.name.value).into_iter();
        let tried = tried.filter(|(place, _)| !is_shipped(*place));
        check
            .complaints
            .extend(tried.map(|(place, fault)| fault.at(place)));
    }
    check.calls();
    check.places();
    check.kind()
}

struct Check<'a> {
    raw: &'a RawOperation,
    complaints: &'a mut Vec<Complaint>,
}

impl Check<'_> {
    fn complain(&mut self, place: Place, problem: &str, help: &str) {
        let fault = self.raw.fault(problem).help(help);
        self.complaints.push(fault.at(place));
    }

    fn parameter(&self, name: &str) -> Option<&Parameter> {
        let mut all = self.raw.parameters.iter().map(|raw| &raw.parameter);
        all.find(|parameter| parameter.name == name)
    }

    /// Which of `builtin` and `exec` there is.
    fn kind(&mut self) -> Option<Serve> {
        let raw = self.raw;
        match (&raw.builtin, &raw.exec) {
            (Some(_), Some(exec)) => {
                let help = "leave one of the two out";
                self.complain(
                    exec.place,
                    "only one of `builtin` and `exec` can serve it",
                    help,
                );
                None
            }
            (Some(builtin), None) => self.builtin(builtin),
            (None, Some(exec)) => self.program(&exec.value),
            (None, None) => {
                let is_there = raw.mentions("builtin") || raw.mentions("exec");
                if !is_there {
                    self.nothing_serves();
                }
                None
            }
        }
    }

    /// Often a shipped operation was to be changed, and its name is misspelt.
    fn nothing_serves(&mut self) {
        let shipped: Vec<String> = SHIPPED.iter().flat_map(|(_, text)| names(text)).collect();
        let near = did_you_mean(&self.raw.name.value, shipped.iter().map(String::as_str));
        let help = match near {
            Some(near) if near != self.raw.name.value => format!("did you mean \"{near}\"?"),
            _ => "give it `builtin` or `exec`".to_owned(),
        };
        self.complain(self.raw.place(), "nothing to serve it with", &help);
    }

    fn builtin(&mut self, builtin: &At<String>) -> Option<Serve> {
        if let Some(dry_run) = &self.raw.dry_run_exec {
            let help = "a built-in says by dry_run = true that it can tell what it would do";
            self.complain(dry_run.place, "`dry_run_exec` goes with `exec`", help);
        }
        let known = operations::ALL.iter().map(|(name, _)| *name);
        if known.clone().any(|name| name == builtin.value) {
            return Some(Serve::Builtin(builtin.value.clone()));
        }
        let problem = format!("no built-in is named \"{}\"", builtin.value);
        let help = match did_you_mean(&builtin.value, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                "each has the name of a shipped operation: `usherctl ops` lists them".to_owned()
            }
        };
        self.complain(builtin.place, &problem, &help);
        None
    }

    fn program(&mut self, argv: &[At<String>]) -> Option<Serve> {
        let raw = self.raw;
        if let Some(dry_run) = &raw.dry_run {
            let help = "name in `dry_run_exec` what shows what the program would do";
            self.complain(dry_run.place, "`dry_run` goes with `builtin`", help);
        }
        if let Some(first) = raw.calls.first() {
            let help = "only a built-in speaks to usherd";
            self.complain(first.place, "a program of the host calls nothing", help);
        }
        let before = self.complaints.len();
        self.words(argv);
        let dry_run = raw.dry_run_exec.as_ref().map(|at| &at.value);
        if let Some(dry_run) = dry_run {
            self.words(dry_run);
        }
        let plain = |argv: &[At<String>]| argv.iter().map(|word| word.value.clone()).collect();
        (self.complaints.len() == before).then(|| Serve::Program {
            argv: plain(argv),
            dry_run: dry_run.map(|argv| plain(argv)),
        })
    }

    /// Every placeholder of a command line names a parameter that may stand there.
    fn words(&mut self, argv: &[At<String>]) {
        let mut options_end = false;
        for (number, word) in argv.iter().enumerate() {
            let pieces = match parse(&word.value) {
                Ok(pieces) => pieces,
                Err(why) => {
                    let fault = self.raw.fault(&format!("in this word there is {why}"));
                    self.complaints.push(fault.at(word.place));
                    continue;
                }
            };
            let alone = pieces.len() == 1;
            for (at, piece) in pieces.iter().enumerate() {
                let Piece::Placeholder { name, field } = piece else {
                    continue;
                };
                if number == 0 {
                    let problem = "the program itself cannot be a parameter";
                    self.complain(word.place, problem, "write its whole path");
                    continue;
                }
                if let Some(field) = field {
                    let problem = format!("{{{name}.{field}}} is for paths of `isolation`");
                    self.complain(word.place, &problem, &format!("write {{{name}}}"));
                    continue;
                }
                self.argument(word, name, alone, at == 0 && !options_end);
            }
            options_end |= word.value == "--";
        }
    }

    /// `could_be_option`: it begins a word before any `--`.
    fn argument(&mut self, word: &At<String>, name: &str, alone: bool, could_be_option: bool) {
        let Some(parameter) = self.parameter(name) else {
            return self.no_such_parameter(word.place, name);
        };
        let (secret, list) = (parameter.secret, parameter.list);
        let negative = matches!(parameter.kind, Kind::Integer { min, .. } if min < 0);
        if secret {
            let problem =
                format!("{{{name}}} is secret, and everybody can read arguments in /proc");
            let help = "only a built-in can be given a secret";
            self.complain(word.place, &problem, help);
        }
        if list && !alone {
            let problem = format!("{{{name}}} is a list, which makes a word of each item");
            self.complain(word.place, &problem, "let it stand alone in its word");
        }
        if negative && could_be_option {
            let problem = format!("{{{name}}} may be negative, and then looks like an option");
            let help = "put \"--\" before it, or write it behind a name: \"--level={level}\"";
            self.complain(word.place, &problem, help);
        }
    }

    fn no_such_parameter(&mut self, place: Place, name: &str) {
        // It is there, and what is wrong with it has been said.
        if self.raw.broken.iter().any(|broken| broken == name) {
            return;
        }
        let known: Vec<&str> = self
            .raw
            .parameters
            .iter()
            .map(|raw| raw.parameter.name.as_str())
            .collect();
        let help = match did_you_mean(name, known.iter().copied()) {
            Some(near) => format!("did you mean {{{near}}}?"),
            None if known.is_empty() => "the operation has none".to_owned(),
            None => format!("the parameters are {}", known.join(", ")),
        };
        let problem = format!("there is no parameter for {{{name}}}");
        self.complain(place, &problem, &help);
    }

    fn calls(&mut self) {
        for call in &self.raw.calls {
            let name = call.value.as_str();
            if NOT_FOR_OPERATIONS.contains(&name) {
                let problem = format!("an operation cannot call `{name}`");
                let help = "one operation never starts another: it would have its rights";
                self.complain(call.place, &problem, help);
            } else if !methods().any(|known| known == name) {
                let problem = format!("org.usherd.Admin has no method \"{name}\"");
                let lower: Vec<String> = methods().map(str::to_lowercase).collect();
                let near = did_you_mean(name, lower.iter().map(String::as_str));
                let mut known = methods();
                let near = known.find(|known| Some(known.to_lowercase().as_str()) == near);
                let help = match near {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!(
                        "the methods are {}",
                        methods().collect::<Vec<_>>().join(", ")
                    ),
                };
                self.complain(call.place, &problem, &help);
            }
        }
    }

    /// Paths of `isolation`: at most one placeholder, and that at the beginning.
    fn places(&mut self) {
        let raw = self.raw;
        for path in raw.visible.iter().chain(&raw.writable) {
            let pieces = match parse(&path.value) {
                Ok(pieces) => pieces,
                Err(why) => {
                    let fault = self.raw.fault(&format!("in this path there is {why}"));
                    self.complaints.push(fault.at(path.place));
                    continue;
                }
            };
            match pieces.as_slice() {
                [Piece::Text(_)] => {}
                [Piece::Placeholder { name, field }, rest @ ..] => {
                    let goes_on = match rest {
                        [] => true,
                        [Piece::Text(text)] => text.starts_with('/'),
                        _ => false,
                    };
                    if !goes_on {
                        let problem = "after a placeholder a path ends or goes on with /";
                        self.complain(path.place, problem, "as in {state_dir}/backups");
                    }
                    self.placeholder(path.place, name, field.as_deref());
                }
                _ => {
                    let problem = "a placeholder stands at the beginning of a path";
                    self.complain(path.place, problem, "as in {state_dir}/backups");
                }
            }
        }
    }

    fn placeholder(&mut self, place: Place, name: &str, field: Option<&str>) {
        if super::parameter::RESERVED.contains(&name) {
            if let Some(field) = field {
                let problem = format!("there is no {{{name}.{field}}}");
                self.complain(place, &problem, &format!("write {{{name}}}"));
            }
            return;
        }
        let Some(parameter) = self.parameter(name) else {
            return self.no_such_parameter(place, name);
        };
        let fits = matches!(
            (&parameter.kind, field),
            (Kind::Path { .. }, None | Some("parent"))
                | (Kind::Service, Some("state"))
                | (Kind::User, Some("home"))
        );
        if !fits {
            let shown = field.map_or_else(|| name.to_owned(), |field| format!("{name}.{field}"));
            let problem = format!("{{{shown}}} is no path");
            let help = "there are {P} and {P.parent} of a path, {P.state} of a service, {P.home} of a user";
            self.complain(place, &problem, help);
        }
    }
}

/// What `org.usherd.Admin` can be asked.
fn methods() -> impl Iterator<Item = &'static str> + Clone {
    let lines = ADMIN.text.lines();
    let names = lines.filter_map(|line| line.strip_prefix("method ")?.split('(').next());
    names.filter(|name| !NOT_FOR_OPERATIONS.contains(name))
}

/// The operations of a shipped file.
fn names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let name = line.strip_prefix("[operation.\"")?.strip_suffix("\"]")?;
        Some(name.to_owned())
    })
}

impl Catalogue {
    /// What an entry of a service's `admin` list names.
    pub fn for_services(&self, name: &str) -> Result<&Operation, Fault> {
        let Some(operation) = self.named(name) else {
            let fault = Fault::new(format!("no operation is named \"{name}\""));
            let known = self.operations.iter().filter(|one| one.services);
            let near = did_you_mean(name, known.map(|one| one.name.as_str()));
            return Err(match near {
                Some(near) => fault.help(format!("did you mean \"{near}\"?")),
                None => fault.help("`usherctl ops` lists them"),
            });
        };
        match operation.services {
            true => Ok(operation),
            false => Err(
                Fault::new(format!("operation \"{name}\" is for operators only")).help(
                    "services = true in a file of `daemon.operations` gives it to services too",
                ),
            ),
        }
    }
}

impl Operation {
    /// Whether `with` of a service's `admin` list can narrow `parameter` by `globs`.
    pub fn can_narrow(&self, parameter: &str, globs: &[String]) -> Result<(), Fault> {
        let mut known = self.parameters.iter().map(|one| one.name.as_str());
        if !known.any(|name| name == parameter) {
            let problem = format!(
                "operation \"{}\" has no parameter \"{parameter}\"",
                self.name
            );
            let known: Vec<&str> = self
                .parameters
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            let fault = Fault::new(problem);
            return Err(match did_you_mean(parameter, known.iter().copied()) {
                Some(near) => fault.help(format!("did you mean \"{near}\"?")),
                None if known.is_empty() => fault.help("it has none"),
                None => fault.help(format!("the parameters are {}", known.join(", "))),
            });
        }
        for one in globs {
            pattern::glob(one).map_err(Fault::new)?;
        }
        Ok(())
    }
}
