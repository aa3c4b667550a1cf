//! rlinetd.conf(5), with the files of its directories.
//!
//! A service is a small program there: rules, texts and log lines that are
//! carried out one after the other. What is a service in ours is carried over, what
//! is a program of its own is named.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use regex_automata::dfa::regex::Regex;

use super::{Effect, Imported, Origin, World};
use crate::table::complaint::Fault;
use parse::{Directive, Item};

mod convert;
mod lexer;
mod parse;
#[cfg(test)]
mod tests;

/// Reads a file and those of its directories, which come after it.
#[must_use]
pub fn read(path: &Path, world: &World<'_>) -> Imported {
    let mut reader = Reader {
        world,
        imported: Imported::default(),
        defaults: Vec::new(),
        waiting: VecDeque::new(),
    };
    if path.is_dir() {
        reader.folder(path, None, None, &Origin::new(path, 0));
    } else {
        reader.file(path);
    }
    while let Some(path) = reader.waiting.pop_front() {
        reader.file(&path);
    }
    reader.imported
}

/// Whether a text is in this form.
#[must_use]
pub fn looks_like_it(text: &str) -> bool {
    parse::items(text).is_ok_and(|items| !items.is_empty())
}

struct Reader<'a> {
    world: &'a World<'a>,
    imported: Imported,
    /// What `defaults` said last.
    defaults: Vec<(Directive, Origin)>,
    waiting: VecDeque<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) {
        let Some((number, text)) = self.imported.open(path) else {
            return;
        };
        let items = match parse::items(&text) {
            Ok(items) => items,
            Err((span, problem)) => {
                let fault = Fault::new(problem).help("rlinetd does not start with such a file");
                return self.imported.fault(number, span, fault);
            }
        };
        let origin = |at: usize| {
            let before = text.as_bytes().get(..at).unwrap_or_default();
            Origin::new(path, 1 + before.iter().filter(|b| **b == b'\n').count())
        };
        for item in items {
            match item {
                Item::Service { name, body } => {
                    let source = text.get(body.span.clone()).unwrap_or_default();
                    let source = source.lines().map(str::to_owned).collect();
                    let own = body.directives.into_iter().map(|d| {
                        let at = origin(d.at);
                        (d, at)
                    });
                    let all: Vec<_> = self.defaults.iter().cloned().chain(own).collect();
                    let origin = origin(body.span.start);
                    let draft = convert::convert(&name, origin, source, &all, self.world);
                    self.imported.drafts.push(draft);
                }
                Item::Defaults(body) => {
                    let own = body.directives.into_iter().map(|d| {
                        let at = origin(d.at);
                        (d, at)
                    });
                    self.defaults.extend(own);
                }
                Item::Log { name, at } => {
                    let text = format!(
                        "log \"{name}\": usherd has one log for all services; see `daemon.log`"
                    );
                    let note = origin(at).note(Effect::Unsupported, text);
                    self.imported.notes.push(note);
                }
                Item::Directory { words, at } => {
                    let folder = words.first().cloned().unwrap_or_default();
                    let (only, not) = (words.get(1), words.get(2));
                    let origin = origin(at);
                    self.folder(Path::new(&folder), only.cloned(), not.cloned(), &origin);
                }
            }
        }
    }

    /// Files whose names match one expression and not the other; in no certain order there, by name here.
    fn folder(&mut self, path: &Path, only: Option<String>, not: Option<String>, origin: &Origin) {
        let pattern = |text: Option<String>| {
            text.filter(|t| !t.is_empty())
                .map(|t| Regex::new(&t).map_err(|_| ()))
        };
        let (only, not) = (pattern(only), pattern(not));
        if matches!(only, Some(Err(_))) || matches!(not, Some(Err(_))) {
            let text = "one of its patterns is none that usherd can read; name the files of the directory yourself";
            return self
                .imported
                .notes
                .push(origin.note(Effect::Unsupported, text));
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(err) => return self.imported.unreadable(path, &err),
        };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        let matches = |pattern: &Option<Result<Regex, _>>, name: &str| match pattern {
            Some(Ok(regex)) => Some(regex.is_match(name)),
            _ => None,
        };
        for name in names {
            let shown = name.to_string_lossy();
            let file = path.join(&name);
            if shown.starts_with('.') || !file.is_file() {
                continue;
            }
            if matches(&only, &shown) == Some(false) || matches(&not, &shown) == Some(true) {
                let text = format!(
                    "{} is not read, here as by rlinetd: its name says so",
                    file.display()
                );
                self.imported.notes.push(origin.note(Effect::Remark, text));
            } else {
                self.waiting.push_back(file);
            }
        }
    }
}
