//! xinetd.conf(5), with what it includes.
//!
//! The files are read as xinetd's own parser reads them (`file`), each service
//! gets what it takes from `defaults` (`merge`), and what the result means is
//! said in the words of a table (`convert`). Where xinetd's code and its manual
//! differ, the code counts, for that is what was in force: the code of 2.3.15 as
//! Debian and openSUSE have it. Where a line limits something and xinetd ignores
//! it, whoever wrote it is told so by an [`Effect::Loss`].
#![forbid(unsafe_code)]

use std::path::Path;

use super::{Draft, Effect, Imported, Note, Origin, World};
use file::Configuration;
use merge::{Merged, Service};
use networks::Networks;

mod address;
mod attribute;
mod convert;
mod file;
mod limits;
mod listen;
mod merge;
mod networks;
mod process;
#[cfg(test)]
mod tests;
mod who;

/// What a service is looked up in.
struct Sources<'a> {
    world: World<'a>,
    networks: Networks,
}

/// Reads `path` and what it includes.
#[must_use]
pub fn read(path: &Path, world: &World<'_>) -> Imported {
    let mut imported = Imported::default();
    let configuration = match Configuration::read(path) {
        Ok(configuration) => configuration,
        Err(err) => {
            imported.unreadable(path, &err);
            return imported;
        }
    };
    let sources = Sources {
        world: *world,
        networks: Networks::probe(),
    };
    let (merged, files) = merge::merge(configuration);
    imported.files = files;
    imported.drafts = merged
        .services
        .iter()
        .map(|service| convert::convert(service, &sources))
        .collect();
    imported.notes = general(path, &merged, &imported.drafts);
    imported.notes.extend(merged.notes);
    imported
}

/// Whether a text is an xinetd.conf or a file of its folder.
#[must_use]
pub fn looks_like_it(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let mut significant = lines
        .by_ref()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = significant.next() else {
        return false;
    };
    let mut words = first.split_ascii_whitespace().map(str::to_ascii_lowercase);
    match words.next().as_deref() {
        Some("service" | "defaults") => significant.next() == Some("{"),
        Some("includedir") => true,
        Some("include") => words.next().is_some_and(|path| path.starts_with('/')),
        _ => false,
    }
}

/// What is so for many services is said once.
fn general(path: &Path, merged: &Merged, drafts: &[Draft]) -> Vec<Note> {
    let with = |test: &dyn Fn(&Service, &Draft) -> bool| {
        let mut both = merged.services.iter().zip(drafts);
        both.any(|(service, draft)| draft.off.is_none() && test(service, draft))
    };
    let mut notes = Vec::new();
    let mut note = |effect, text: &str| notes.push(Origin::new(path, 0).note(effect, text));
    if with(&|service, draft| draft.key("exec").is_some() && service.settings.passenv.is_none()) {
        note(
            Effect::Changed,
            "a server of xinetd has the whole environment that xinetd was started with; here it has PATH, HOME, \
             USER, LOGNAME, SHELL, the facts of its request, `env`, and what `pass_env` names",
        );
    }
    if with(&|service, draft| {
        draft.key("rate").is_some() && service.settings.words("cps").is_none()
    }) {
        note(
            Effect::Changed,
            "where nothing is said of cps, it is 50 10 in xinetd: rate = \"50/s\"; what is too much is turned away \
             one by one, and the port stays open",
        );
    }
    let any_family = |draft: &Draft| {
        let listen = draft.key("listen").and_then(|listen| listen.as_str());
        listen.is_some_and(|text| text.starts_with("tcp:") || text.starts_with("udp:"))
    };
    if with(&|_, draft| any_family(draft)) {
        note(
            Effect::Remark,
            "without the flags IPv4 and IPv6 a service listens on both families, as in xinetd 2.3.15.3 and later of \
             Debian and openSUSE; xinetd.org's listens on IPv4 only: write tcp4: and udp4: where that is wanted",
        );
    }
    if let Some(given) = merged.defaults.values.get("log_type") {
        let text = format!(
            "log_type = {}: usherd has one log for all services; see `daemon.log`",
            given.words.join(" ")
        );
        notes.push(given.origin.note(Effect::Unsupported, text));
    }
    notes
}
