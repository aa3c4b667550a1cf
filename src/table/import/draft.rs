//! What a reader of an old format makes of its file.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use toml_edit::Value;

use crate::table::complaint::{Complaint, Fault, Place, SourceFile};

/// A line of an old file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

/// What becomes of something that cannot be carried over as it is. An entry
/// without notes, or with none but remarks, means exactly the same here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing changes, and the operator may want to know.
    Remark,
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
    /// are nested (`"limits.nofile"`). Never `enabled`. None at all: no key of a table can
    /// say it, so that only comments are written; `off` has the reason.
    pub keys: Vec<(String, Value)>,
    pub notes: Vec<Note>,
}

/// All that was read: files, what they include, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    pub drafts: Vec<Draft>,
    /// What is about no service in particular.
    pub notes: Vec<Note>,
    /// Every file that was read, so that its lines can be shown.
    pub files: Vec<SourceFile>,
    /// What makes no sense in its own format, by places in `files`. The command
    /// stops at these; where the daemon itself reads the file they are warnings.
    pub faults: Vec<Complaint>,
}

impl Origin {
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, line: usize) -> Self {
        let file = file.into();
        Self { file, line }
    }

    #[must_use]
    pub fn note(&self, effect: Effect, text: impl Into<String>) -> Note {
        Note {
            origin: self.clone(),
            effect,
            text: text.into(),
        }
    }
}

/// `FILE:LINE`; line 0 is the file as a whole.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

impl Note {
    /// For an entry that is not enabled: nobody comes in where nothing listens,
    /// and who enables it later is told.
    pub fn mind(&mut self) {
        if self.effect == Effect::Loss {
            self.effect = Effect::Unsupported;
            self.text.push_str("; mind that before you enable it");
        }
    }
}

impl Draft {
    #[must_use]
    pub fn new(name: impl Into<String>, origin: Origin, source: Vec<String>) -> Self {
        Self {
            name: name.into(),
            origin,
            source,
            off: None,
            keys: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a key at the end.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.keys.push((key.to_owned(), value.into()));
    }

    /// Adds a list of texts.
    pub fn set_list<T: AsRef<str>>(&mut self, key: &str, items: impl IntoIterator<Item = T>) {
        let list: toml_edit::Array = items
            .into_iter()
            .map(|item| item.as_ref().to_owned())
            .collect();
        self.set(key, list);
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Option<&Value> {
        self.keys.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A note about the line the entry begins in.
    pub fn note(&mut self, effect: Effect, text: impl Into<String>) {
        self.notes.push(self.origin.note(effect, text));
    }

    /// Leaves it out: only its comments are written.
    pub fn give_up(&mut self, why: impl Into<String>) {
        self.keys.clear();
        self.off = Some(why.into());
    }

    /// Whether something that restricted it would be lost.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.notes.iter().any(|note| note.effect == Effect::Loss)
    }

    /// Whether it means the same here.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.notes.iter().all(|note| note.effect == Effect::Remark) && !self.keys.is_empty()
    }
}

impl Imported {
    /// Adds a file; gives its number in `files`.
    pub fn add_file(&mut self, file: SourceFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Complains about bytes `start..end` of a file.
    pub fn fault(&mut self, file: usize, span: std::ops::Range<usize>, fault: Fault) {
        self.faults.push(fault.at(Place::new(file, span)));
    }

    /// Every note, those about single services too.
    pub fn all_notes(&self) -> impl Iterator<Item = &Note> {
        self.notes
            .iter()
            .chain(self.drafts.iter().flat_map(|d| &d.notes))
    }

    /// Puts what another reader found behind what is here.
    pub fn append(&mut self, other: Imported) {
        let before = self.files.len();
        self.drafts.extend(other.drafts);
        self.notes.extend(other.notes);
        self.files.extend(other.files);
        self.faults
            .extend(other.faults.into_iter().map(|mut fault| {
                fault.place.file += before;
                if let Some((place, _)) = &mut fault.other {
                    place.file += before;
                }
                fault
            }));
    }
}
