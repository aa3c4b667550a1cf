//! What became of what, for the operator: a text for the terminal.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt::Write as _;

use super::draft::{Draft, Effect, Imported, Note, Origin};

/// The whole report. Names must be settled.
#[must_use]
pub fn report(imported: &Imported) -> String {
    let mut out = summary(imported);
    exact(&mut out, imported);
    for (effect, title) in [
        (Effect::Changed, "Carried over with another meaning"),
        (Effect::Unsupported, "Not supported, left out"),
        (Effect::Loss, "Restrictions that would be lost"),
        (Effect::Remark, "Worth knowing"),
    ] {
        notes(&mut out, imported, effect, title);
    }
    out
}

/// How many of each.
fn summary(imported: &Imported) -> String {
    let count = |test: fn(&Draft) -> bool| imported.drafts.iter().filter(|d| test(d)).count();
    let has = |draft: &Draft, effect| draft.notes.iter().any(|note| note.effect == effect);
    let files: Vec<String> = imported
        .files
        .iter()
        .map(|file| file.path().display().to_string())
        .collect();
    let mut out = format!("{}\n", files.join(", "));
    let total = imported.drafts.len();
    let plural = if total == 1 { "entry" } else { "entries" };
    let _ = writeln!(
        out,
        "{total} {plural}: {} carried over exactly, {} with another meaning, {} with something unsupported, \
         {} with a restriction lost; {} written disabled, {} left out",
        count(Draft::is_exact),
        imported
            .drafts
            .iter()
            .filter(|d| has(d, Effect::Changed))
            .count(),
        imported
            .drafts
            .iter()
            .filter(|d| has(d, Effect::Unsupported))
            .count(),
        count(Draft::loses),
        count(|d| d.off.is_some() && !d.keys.is_empty()),
        count(|d| d.keys.is_empty()),
    );
    out
}

fn exact(out: &mut String, imported: &Imported) {
    let exact: Vec<&Draft> = imported.drafts.iter().filter(|d| d.is_exact()).collect();
    if exact.is_empty() {
        return;
    }
    out.push_str("\nCarried over exactly\n");
    for draft in exact {
        let off = draft.off.as_ref().map(|why| format!(", disabled: {why}"));
        let off = off.unwrap_or_default();
        let _ = writeln!(out, "  {}: {}{off}", draft.origin, draft.name);
    }
}

fn notes(out: &mut String, imported: &Imported, effect: Effect, title: &str) {
    let general = imported.notes.iter().map(|note| (note, None));
    let of_drafts = imported
        .drafts
        .iter()
        .flat_map(|draft| draft.notes.iter().map(move |note| (note, Some(draft))));
    let all = general.chain(of_drafts);
    // A line of hosts.deny is about many services, and said once.
    let mut chosen: Vec<(&Note, Vec<&str>)> = Vec::new();
    let mut known: HashMap<(&Origin, &str), usize> = HashMap::new();
    for (note, draft) in all.filter(|(note, _)| note.effect == effect) {
        let at = *known
            .entry((&note.origin, &note.text))
            .or_insert(chosen.len());
        if at == chosen.len() {
            chosen.push((note, Vec::new()));
        }
        chosen[at].1.extend(draft.map(|draft| draft.name.as_str()));
    }
    if chosen.is_empty() {
        return;
    }
    let _ = write!(out, "\n{title}\n");
    for (note, names) in chosen {
        let names = match names.is_empty() {
            true => String::new(),
            false => format!("{}: ", names.join(", ")),
        };
        let _ = writeln!(out, "  {}: {names}{}", note.origin, printable(&note.text));
    }
}

/// Strange bytes of an old file do not reach the terminal raw.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
