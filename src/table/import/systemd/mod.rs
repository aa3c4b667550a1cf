//! systemd.socket(5) units with the services they start.
//!
//! With `Accept=yes` an instance of `NAME@.service` is started for each
//! connection, without it `NAME.service` gets the listening sockets. Whatever a
//! unit asks for is carried over or named in a note; what is not known here
//! counts as a restriction, for a unit of systemd has hundreds of them.
#![forbid(unsafe_code)]

use std::path::Path;

use super::{Draft, Effect, Imported, Origin, World};
use unit::Unit;

mod access;
mod exec;
mod leftovers;
mod sandbox;
mod service;
mod socket;
#[cfg(test)]
mod tests;
mod unit;
mod words;

/// Why it cannot be carried over at all.
#[derive(Debug)]
struct Impossible(String);

/// A pair of units on its way into a table.
struct Builder<'a> {
    socket: &'a Unit,
    service: &'a Unit,
    world: &'a World<'a>,
    /// `Accept=yes`
    accepts: bool,
    draft: Draft,
}

/// Reads a `.socket` file and the service that belongs to it, with the drop-ins of both.
#[must_use]
pub fn read(path: &Path, world: &World<'_>) -> Imported {
    let mut imported = Imported::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folders = unit::folders(path);
    let Some(socket) = Unit::read(&name, path, &folders, &mut imported) else {
        return imported;
    };
    let stem = name.strip_suffix(".socket").unwrap_or(&name);
    let mut draft = Draft::new(stem, socket.origin(), socket.source.clone());
    let accepts = socket.yes("Socket", "Accept");
    let service = match socket.text("Socket", "Service") {
        Some(named) => named.to_owned(),
        None if accepts && !stem.contains('@') => format!("{stem}@.service"),
        None => format!("{stem}.service"),
    };
    let found = unit::find(&service, &folders);
    let read = found.and_then(|path| Unit::read(&service, &path, &folders, &mut imported));
    let Some(service) = read else {
        let why = format!("there is no {service}, which it starts");
        draft.note(Effect::Unsupported, why.clone());
        draft.give_up(why);
        imported.drafts.push(draft);
        return imported;
    };
    draft.source.push(format!("# {}", service.path.display()));
    draft.source.extend(service.source.iter().cloned());
    let mut builder = Builder {
        socket: &socket,
        service: &service,
        world,
        accepts,
        draft,
    };
    let done = builder.all();
    let mut draft = builder.draft;
    if let Err(Impossible(why)) = done {
        draft.note(
            Effect::Unsupported,
            format!("the service is left out: {why}"),
        );
        draft.give_up(why);
    }
    if draft.off.is_some() {
        draft.notes.iter_mut().for_each(super::Note::mind);
    }
    let note = "it is carried over enabled: disable the unit before usherd starts, and `systemctl mask` it if \
                another one pulls it in";
    draft.note(Effect::Remark, note);
    imported.drafts.push(draft);
    imported
}

/// Whether a text is a unit with a socket.
#[must_use]
pub fn looks_like_it(text: &str) -> bool {
    text.lines().any(|line| line.trim() == "[Socket]")
}

impl Builder<'_> {
    fn all(&mut self) -> Result<(), Impossible> {
        self.conditions();
        self.listen()?;
        self.exec()?;
        self.account()?;
        self.surroundings();
        self.ends();
        self.sandbox();
        self.resources();
        self.access();
        self.how_many();
        self.socket_options();
        self.leftovers();
        if let Some(text) = self.socket.text("Unit", "Description") {
            let text = words::specify(text, self.socket, false).unwrap_or(text.to_owned());
            self.draft.set("description", text);
        }
        Ok(())
    }

    fn note(&mut self, effect: Effect, origin: &Origin, text: impl Into<String>) {
        self.draft.notes.push(origin.note(effect, text));
    }

    /// A note about a key of one of the two units, where it stands.
    fn about(&mut self, effect: Effect, section: &str, key: &str, text: &str) {
        let unit = if section == "Socket" {
            self.socket
        } else {
            self.service
        };
        let Some(setting) = unit.one(section, key) else {
            return;
        };
        let text = format!("{key}={}: {text}", setting.value);
        let origin = setting.origin.clone();
        self.note(effect, &origin, text);
    }

    /// A value of the service that nobody understands.
    fn unknown(&mut self, section: &str, key: &str) {
        self.about(
            Effect::Loss,
            section,
            key,
            "usherd does not understand this value",
        );
    }

    fn service_text(&self, key: &str) -> Option<&str> {
        self.service.text("Service", key)
    }

    fn socket_text(&self, key: &str) -> Option<&str> {
        self.socket.text("Socket", key)
    }
}
