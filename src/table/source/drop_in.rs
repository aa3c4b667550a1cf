//! `NAME.toml.d/*.toml`: files that change single keys of what `NAME.toml` has.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::{Files, merge};
use crate::table::complaint::{Fault, Place, SourceFile, did_you_mean};
use crate::table::reader::Value;

impl<'t> Files<'_, 't> {
    /// What changes single keys of the services in `file`.
    pub(super) fn read_drop_ins(&mut self, file: usize, path: &Path) {
        let found = self.written.layers.drop_ins(path);
        for drop_in in self.found_files(found, Place::whole(file)) {
            let identity = fs::canonicalize(&drop_in).unwrap_or_else(|_| drop_in.clone());
            match self.text_of(&drop_in, &identity) {
                Ok(text) => self.read_drop_in(SourceFile::new(drop_in, text), file, path),
                Err(reason) => self.unreadable(&drop_in, Some(Place::whole(file)), &reason),
            }
        }
    }

    fn read_drop_in(&mut self, source: SourceFile, of: usize, path: &Path) {
        let (file, root) = self.parse(source);
        for (key, value) in root {
            if key.get_ref() != "service" {
                self.not_in_a_drop_in(&key, path);
                continue;
            }
            for (name, value) in self.services_of(value) {
                let known = self.by_name.get(name.get_ref().as_ref()).copied();
                match known.filter(|number| self.sections[*number].file == of) {
                    Some(number) => self.lay_over(number, &name, value),
                    None => self.unknown_service(&name, of, path),
                }
            }
        }
        self.forgive(file);
    }

    fn lay_over(&mut self, number: usize, name: &Spanned<DeString<'t>>, value: Value<'t>) {
        self.begin(self.place(name), &value, number);
        self.reading(|r| r.table(&value, "the table of a service").is_some());
        let section = &mut self.sections[number];
        if let (DeValue::Table(lower), DeValue::Table(upper)) =
            (section.value.get_mut(), value.into_inner())
        {
            merge::lay_over(lower, upper);
        }
    }

    fn not_in_a_drop_in(&mut self, key: &Spanned<DeString<'t>>, path: &Path) {
        let fault =
            Fault::new(format!("`{}` has no place in a drop-in", key.get_ref())).help(format!(
                "it has keys of services in {}, each below its [service.NAME]",
                path.display()
            ));
        self.reading(|r| r.complain::<_, ()>(key, fault));
    }

    fn unknown_service(&mut self, name: &Spanned<DeString<'t>>, of: usize, path: &Path) {
        // It may have been in what could not be read.
        if self.broken.contains_key(&of) {
            return;
        }
        let there = self.sections.iter().filter(|section| section.file == of);
        let there: Vec<&str> = there.map(|s| s.name.get_ref().as_ref()).collect();
        let fault = Fault::new(format!(
            "no service \"{}\" in {}",
            name.get_ref(),
            path.display()
        ));
        let fault = fault.help(match did_you_mean(name.get_ref(), there.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if there.is_empty() => "there is none at all".to_owned(),
            None => format!("there is \"{}\"", there.join("\", \"")),
        });
        self.reading(|r| r.complain::<_, ()>(name, fault));
    }
}
