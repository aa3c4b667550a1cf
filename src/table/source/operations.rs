//! The files of the catalogue: those that are built in, and over them the
//! operator's, which `daemon.operations` names.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::include::is_pattern;
use super::{Files, read_bounded};
use crate::admin::catalogue::merge::lay_over;
use crate::admin::catalogue::read;
use crate::admin::catalogue::shipped::{SHIPPED, shown_name};
use crate::table::complaint::{At, Fault, Place, SourceFile, did_you_mean};
use crate::table::reader::Value;

/// Where the operator's files are if the table says nothing.
pub const USUAL: &str = "operations.d/*.toml";

/// Operations as TOML, in the order in which they came.
#[derive(Default)]
struct Merged<'t> {
    operations: Vec<(Spanned<DeString<'t>>, Value<'t>)>,
    by_name: HashMap<String, usize>,
}

impl<'t> Merged<'t> {
    fn add(&mut self, name: Spanned<DeString<'t>>, value: Value<'t>) {
        let known = self.by_name.get(name.get_ref().as_ref());
        let Some((_, below)) = known.and_then(|at| self.operations.get_mut(*at)) else {
            let number = self.operations.len();
            self.by_name.insert(name.get_ref().to_string(), number);
            self.operations.push((name, value));
            return;
        };
        match (below.get_mut(), value) {
            (DeValue::Table(below), value) if value.get_ref().is_table() => {
                if let DeValue::Table(above) = value.into_inner() {
                    lay_over(below, above);
                }
            }
            // Complained about when it is read.
            (_, value) => *below = value,
        }
    }
}

impl<'t> Files<'_, 't> {
    /// Reads all of it. `main`: the file of the table, if it is one.
    pub(super) fn read_operations(&mut self, main: Option<&Path>) {
        let mut merged = Merged::default();
        self.written.shipped_from = self.sources.len();
        for (name, text) in SHIPPED {
            let source = SourceFile::new(PathBuf::from(shown_name(name)), (*text).to_owned());
            self.read_catalogue(source, &mut merged);
        }
        self.written.shipped_until = self.sources.len();
        for (path, place) in self.operators_files(main) {
            match read_bounded(&path) {
                // A copy changes nothing, and may name accounts that are not there.
                Ok(text) if SHIPPED.iter().any(|(_, shipped)| *shipped == text) => {}
                Ok(text) => self.read_catalogue(SourceFile::new(path.clone(), text), &mut merged),
                Err(reason) => self.unreadable(&path, Some(place), &reason),
            }
            let path = std::path::absolute(&path).unwrap_or(path);
            self.written.operations_files.push(path);
        }
        for (name, value) in merged.operations {
            let read = self.reading(|r| read::operation(r, &name, &value));
            self.written.operations.extend(read);
        }
    }

    /// One whose syntax is broken is left out: what it changes cannot be known.
    fn read_catalogue(&mut self, source: SourceFile, merged: &mut Merged<'t>) {
        let (file, root) = self.parse(source);
        if self.broken.contains_key(&file) {
            return;
        }
        for (key, value) in root {
            if key.get_ref() != "operation" {
                self.not_here(&key);
                continue;
            }
            let operations = self.operations_of(value);
            for (name, value) in operations {
                merged.add(name, value);
            }
        }
    }

    fn operations_of(&mut self, value: Value<'t>) -> DeTable<'t> {
        let wanted = "operations, each in [operation.\"NAME\"]";
        self.reading(|r| r.table(&value, wanted).is_some());
        match value.into_inner() {
            DeValue::Table(table) => table,
            _ => DeTable::new(),
        }
    }

    fn not_here(&mut self, key: &Spanned<DeString<'t>>) {
        let name: &str = key.get_ref();
        let fault = Fault::new(format!("no key \"{name}\" at the top of a catalogue"));
        let near = did_you_mean(name, ["operation"]);
        let fault = fault.help(match near {
            Some(_) => "did you mean \"operation\"?",
            None => "an operation is headed [operation.\"NAME\"]; services belong into the table",
        });
        self.reading(|r| r.complain::<_, ()>(key, fault));
    }

    /// Each once, with the place of the entry that names it.
    fn operators_files(&mut self, main: Option<&Path>) -> Vec<(PathBuf, Place)> {
        let entries = match (&self.written.daemon.operations, main) {
            (Some(given), _) => given.value.clone(),
            (None, Some(_)) => vec![At {
                value: USUAL.to_owned(),
                place: Place::whole(0),
            }],
            (None, None) => Vec::new(),
        };
        let mut files: Vec<(PathBuf, Place)> = Vec::new();
        for At { value, place } in entries {
            if main.is_none() && !value.starts_with('/') {
                let fault = Fault::new("this table is no file, so there is nothing beside it")
                    .help("write an absolute path");
                self.written.complaints.push(fault.at(place));
                continue;
            }
            let own = main.unwrap_or(Path::new("/"));
            // What is in a folder that is not there is nothing, as for a pattern that matches nothing.
            let found = match is_pattern(&value) {
                true => self.written.layers.find(own, &value),
                false => super::include::find(own.parent().unwrap_or(Path::new("")), &value),
            };
            for path in self.found_files(found, place) {
                if !files.iter().any(|(known, _)| *known == path) {
                    files.push((path, place));
                }
            }
        }
        files
    }
}
