//! The table: what was imported as TOML, with the old lines as comments.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::ops::Range;

use super::draft::{Draft, Effect, Imported, Note};

/// A text and where each draft is in it, in their order.
#[derive(Clone, Debug)]
pub struct Written {
    pub text: String,
    pub sections: Vec<Range<usize>>,
}

/// Before each line of an old file.
const OLD: &str = "#| ";

/// Writes it all. Names must be settled; see [`super::settle`].
#[must_use]
pub fn table(imported: &Imported) -> Written {
    let mut text = head(imported);
    let mut sections = Vec::with_capacity(imported.drafts.len());
    for draft in &imported.drafts {
        text.push('\n');
        let start = text.len();
        section(&mut text, draft);
        sections.push(start..text.len());
    }
    if imported.drafts.iter().all(|draft| draft.keys.is_empty()) {
        // Else the text would pass for a table that somebody has cut down to nothing.
        text.push_str("\n[service]\n");
    }
    Written { text, sections }
}

fn head(imported: &Imported) -> String {
    let mut out = String::from("# Made by `usherd import` from\n");
    for file in &imported.files {
        comment(&mut out, "#   ", &file.path().display().to_string());
    }
    let _ = writeln!(
        out,
        "# Lines that begin with {OLD:?} are as they stand there."
    );
    for note in &imported.notes {
        note_line(&mut out, note);
    }
    out
}

/// Comments and keys of one draft, as they are read again.
fn section(out: &mut String, draft: &Draft) {
    comment(out, "# ", &draft.origin.to_string());
    for line in &draft.source {
        comment(out, OLD, line);
    }
    for note in &draft.notes {
        note_line(out, note);
    }
    if draft.keys.is_empty() {
        let why = draft.off.as_deref().unwrap_or("it has no equal here");
        return comment(out, "# left out: ", why);
    }
    out.push_str(&heading(draft));
    if let Some(why) = &draft.off {
        out.push_str("enabled = false   ");
        comment(out, "# ", why);
    }
    out.push_str(&body(draft));
}

/// `[service.NAME]`.
#[must_use]
pub fn heading(draft: &Draft) -> String {
    format!("[service.{}]\n", key(&draft.name))
}

/// The keys below the heading, `enabled` not among them.
#[must_use]
pub fn body(draft: &Draft) -> String {
    let mut out = String::new();
    for (name, value) in &draft.keys {
        let name: Vec<String> = name.split('.').map(key).collect();
        let value = value.to_string();
        let _ = writeln!(out, "{} = {}", name.join("."), value.trim());
    }
    out
}

/// A key as TOML takes it.
fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.bytes().all(bare) {
        return name.to_owned();
    }
    toml_edit::Value::from(name).to_string().trim().to_owned()
}

fn note_line(out: &mut String, note: &Note) {
    let word = match note.effect {
        Effect::Remark => "note",
        Effect::Changed => "changed",
        Effect::Unsupported => "unsupported",
        Effect::Loss => "LOST",
    };
    comment(out, &format!("# {word}: "), &note.text);
}

/// One line, whatever the text holds: TOML has no control characters in comments.
fn comment(out: &mut String, mark: &str, text: &str) {
    out.push_str(mark);
    for c in text.chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    let end = out.trim_end_matches([' ', '\t']).len();
    out.truncate(end);
    out.push('\n');
}
