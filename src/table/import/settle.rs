//! Makes of drafts what a table can hold: names that are valid and different,
//! and nothing enabled that `usherd check` would complain about. What it takes
//! out it says, so that the operator can mend it.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::draft::{Effect, Imported};
use super::write;
use crate::table::check::load;
use crate::table::complaint::Complaints;
use crate::table::host::Host;
use crate::table::source::Source;

/// Longest name of a service.
const LONGEST: usize = 64;

/// Gives names, then takes out what cannot be served until the rest loads.
/// `host` is the host that the table is for.
pub fn settle(imported: &mut Imported, host: &Host) {
    name(imported);
    // A draft is disabled first and given up next, so this comes to an end.
    for _ in 0..=2 * imported.drafts.len() {
        let written = write::table(imported);
        let source = Source::Text {
            name: "imported",
            text: &written.text,
        };
        let Err(complaints) = load(source, host) else {
            return;
        };
        if !take_out(imported, &written, &complaints) {
            return; // nothing that a draft is to blame for
        }
    }
}

/// Takes out each draft that is complained about; whether there was one.
fn take_out(imported: &mut Imported, written: &write::Written, complaints: &Complaints) -> bool {
    let mut done = HashSet::new();
    for complaint in &complaints.list {
        let place = complaint.place;
        let at = written
            .sections
            .iter()
            .position(|s| s.contains(&place.start));
        let Some(at) = at else { continue };
        if !done.insert(at) {
            continue;
        }
        let Some(draft) = imported.drafts.get_mut(at) else {
            continue;
        };
        let why = reason(&complaint.problem);
        if draft.off.is_some() {
            draft.give_up(why.clone());
            draft.note(Effect::Unsupported, format!("it is left out: {why}"));
        } else {
            draft.off = Some(why.clone());
            draft.note(Effect::Unsupported, format!("it is disabled: {why}"));
        }
    }
    !done.is_empty()
}

/// Without the name of the service, which stands right below.
fn reason(problem: &str) -> String {
    let stripped = problem
        .strip_prefix("service \"")
        .and_then(|rest| rest.split_once("\": "));
    stripped.map_or(problem, |(_, rest)| rest).to_owned()
}

/// Valid names, each once. Of several drafts with one name the first enabled
/// one keeps it: an entry that is off must not take the name of one that is not.
pub fn name(imported: &mut Imported) {
    let mut taken: HashSet<String> = HashSet::new();
    for off in [false, true] {
        for draft in imported
            .drafts
            .iter_mut()
            .filter(|d| d.off.is_some() == off)
        {
            let base = valid(&draft.name);
            let kind = draft
                .key("listen")
                .map(|listen| scheme(&listen.to_string()));
            let tries = std::iter::once(base.clone())
                .chain(kind.map(|kind| suffixed(&base, &kind)))
                .chain((2..).map(|n: u32| suffixed(&base, &n.to_string())));
            let mut free = tries.filter(|name| !taken.contains(name));
            if let Some(name) = free.next() {
                taken.insert(name.clone());
                draft.name = name;
            }
        }
    }
}

/// `udp` of `["udp4:69", ...]`.
fn scheme(listen: &str) -> String {
    let letters = listen.trim_start_matches([' ', '[', '"']);
    let scheme = letters.split(':').next().unwrap_or("");
    scheme.trim_end_matches(['4', '6']).to_owned()
}

fn suffixed(base: &str, suffix: &str) -> String {
    let room = LONGEST.saturating_sub(suffix.len() + 1);
    format!("{}-{suffix}", &base[..base.len().min(room)])
}

/// The nearest name that a service may have; ASCII.
fn valid(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@+".contains(c);
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    let start = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut valid = match name.chars().next() {
        None => "service".to_owned(),
        Some(first) if start(first) => name.to_owned(),
        Some(_) => format!("_{name}"),
    };
    valid.truncate(LONGEST);
    valid
}
