//! What a reader of an old format makes of its file.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use toml_edit::Value;

/// A line of an old file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

/// What becomes of something that cannot be carried over as it is. An entry
/// without notes means exactly the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is carried over and does something else than it did; the note says what.
    Changed,
    /// It is left out, and nobody gets in who did not before.
    Unsupported,
    /// It kept somebody out, bounded something or took a right away, and would
    /// no longer do so. Nothing is written unless the operator accepts it.
    Loss,
}

/// One difference between the old entry and the draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub origin: Origin,
    pub effect: Effect,
    /// A sentence without a full stop: what was written, what it means now, what to do.
    pub text: String,
}

/// One service as an old file has it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// As the old file calls it; made a unique name of a table when it is written.
    pub name: String,
    pub origin: Origin,
    /// The lines it was written in, as they are; they become comments.
    pub source: Vec<String>,
    /// Why it is written with `enabled = false`, if it is.
    pub off: Option<String>,
    /// Keys of `[service.NAME]` in the order they are to be written, dotted where they
    /// are nested (`"limits.nofile"`). Never `enabled`.
    pub keys: Vec<(String, Value)>,
    pub notes: Vec<Note>,
}

/// All of one file and of what it includes.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub drafts: Vec<Draft>,
    /// What is about no service in particular.
    pub notes: Vec<Note>,
}
