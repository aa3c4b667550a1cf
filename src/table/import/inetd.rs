//! inetd.conf, in the dialects of FreeBSD, NetBSD (also its `key = value` form),
//! OpenBSD, Debian's openbsd-inetd and GNU inetutils, with update-inetd's marks.
//!
//! `lines` takes the text apart, `fields` says what the words of an entry are,
//! `pairs` does the same for NetBSD's other form, `listen` finds addresses and
//! `entry` makes a draft of it all.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::World;
use super::draft::{Draft, Effect, Imported, Note, Origin};

mod dialect;
mod entry;
mod fields;
mod lines;
mod listen;
mod pairs;

pub use dialect::Dialect;

use lines::{Lines, Piece};

/// NetBSD's `.include` may not go on for ever.
const DEEPEST: usize = 16;

/// Reads files and folders of them, as inetd would in this order. Without a
/// dialect each file says by what is in it whose it is.
#[must_use]
pub fn read(paths: &[&Path], dialect: Option<Dialect>, world: &World<'_>) -> Imported {
    let mut reader = Reader {
        world,
        dialect,
        imported: Imported::default(),
    };
    for path in paths {
        if path.is_dir() {
            reader.folder(path);
        } else {
            reader.file(path, 0);
        }
    }
    reader.replaced();
    reader.imported
}

/// Reads a text; for what has no file.
#[must_use]
pub fn read_text(path: &Path, text: &str, dialect: Option<Dialect>, world: &World<'_>) -> Imported {
    let mut reader = Reader {
        world,
        dialect,
        imported: Imported::default(),
    };
    let file = super::SourceFile::new(path.to_owned(), text.to_owned());
    let number = reader.imported.add_file(file);
    reader.text(path, number, text, 0);
    reader.replaced();
    reader.imported
}

/// Whether some line has the seven fields of an entry.
#[must_use]
pub fn looks_like_it(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start_matches("#<off>#").trim_start_matches('#');
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = words.get(1).map(|kind| kind.split([',', ':']).next());
        let is_kind = matches!(kind, Some(Some("stream" | "dgram" | "seqpacket")));
        let wait = words
            .get(3)
            .is_some_and(|w| w.starts_with("wait") || w.starts_with("nowait"));
        let pairs = matches!(words.get(1), Some(&("on" | "off"))) && line.contains('=');
        words.len() >= 6 && is_kind && wait || pairs
    })
}

/// Whether a line is an entry that a package or update-inetd has disabled.
#[must_use]
pub fn is_off(line: &str) -> bool {
    lines::OFF.iter().any(|(mark, _)| line.starts_with(mark))
}

struct Reader<'a> {
    world: &'a World<'a>,
    dialect: Option<Dialect>,
    imported: Imported,
}

/// What lines before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// An `addr:` line; empty: every address.
    address: Vec<String>,
    /// A `#@` line.
    policy: Option<String>,
    /// `#:LABEL:`, for the next entry.
    heading: Vec<String>,
    /// Some entry so far went through tcpd.
    wrapped: bool,
}

impl Reader<'_> {
    /// Every file, in the order of bytes.
    fn folder(&mut self, path: &Path) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(err) => return self.imported.unreadable(path, &err),
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name.ends_with('~') || name.contains(".dpkg-") {
                let text = "it looks like a leftover of an editor or a package and is not read";
                let note = Origin::new(&file, 0).note(Effect::Unsupported, text);
                self.imported.notes.push(note);
            } else if file.is_file() {
                self.file(&file, 0);
            }
        }
    }

    fn file(&mut self, path: &Path, depth: usize) {
        if let Some((number, text)) = self.imported.open(path) {
            self.text(path, number, &text, depth);
        }
    }

    fn text(&mut self, path: &Path, number: usize, text: &str, depth: usize) {
        let dialect = self.dialect.unwrap_or_else(|| Dialect::guess(text));
        let before = self.imported.drafts.len();
        let mut around = Around::default();
        for piece in Lines::new(text, dialect) {
            match piece {
                Piece::Heading(line) => around.heading = vec![line.to_owned()],
                Piece::Policy(policy) => {
                    around.policy = Some(policy.to_owned()).filter(|p| !p.is_empty());
                }
                Piece::Entry(entry) => {
                    let origin = Origin::new(path, entry.line);
                    if let Some(pattern) = entry.include() {
                        self.include(path, number, &entry, pattern, depth);
                        continue;
                    }
                    match entry::draft(&entry, &origin, dialect, &mut around, self.world) {
                        Ok(draft) => self.imported.drafts.extend(draft),
                        Err((_, fault)) if entry.off.is_some() => {
                            let text = format!("the disabled entry is left out: {}", fault.problem);
                            let note = origin.note(Effect::Unsupported, text);
                            self.imported.notes.push(note);
                        }
                        Err((span, fault)) => self.imported.fault(number, span, fault),
                    }
                }
                Piece::Broken(span, fault) => self.imported.fault(number, span, fault),
            }
        }
        let drafts = &self.imported.drafts[before..];
        if !drafts.is_empty() {
            let wraps = drafts.iter().any(|draft| draft.off.is_none());
            let notes = dialect.notes(&Origin::new(path, 0), wraps);
            self.imported.notes.extend(notes);
        }
        if around.wrapped || dialect.wraps() {
            let note = wrapped(&Origin::new(path, 0), self.world);
            self.imported.notes.push(note);
        }
        self.multiplexer(dialect, before);
    }

    /// `.include PATTERN`, in the order of names, as NetBSD has it but for the order.
    fn include(
        &mut self,
        path: &Path,
        number: usize,
        entry: &lines::Entry<'_>,
        pattern: &str,
        depth: usize,
    ) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let whole = folder.join(pattern);
        let found = glob::glob(&whole.to_string_lossy());
        let fault = match found {
            _ if depth >= DEEPEST => format!("more than {DEEPEST} files deep"),
            Err(err) => format!("\"{pattern}\" is no pattern: {}", err.msg),
            Ok(found) => {
                let files: Vec<PathBuf> = found.flatten().filter(|file| file.is_file()).collect();
                for file in files {
                    self.file(&file, depth + 1);
                }
                return;
            }
        };
        let fault = super::Fault::new(fault);
        self.imported.fault(number, entry.span(), fault);
    }

    /// GNU inetd listens for tcpmux by itself where a service needs it.
    fn multiplexer(&mut self, dialect: Dialect, from: usize) {
        let drafts = &self.imported.drafts[from..];
        let wanted = drafts.iter().find(|draft| {
            let listen = draft.key("listen").map(ToString::to_string);
            draft.off.is_none() && listen.is_some_and(|listen| listen.contains("\"tcpmux:"))
        });
        let there = drafts.iter().any(|draft| {
            let builtin = draft.key("builtin").and_then(toml_edit::Value::as_str);
            draft.off.is_none() && builtin == Some("tcpmux")
        });
        let (Some(first), Dialect::Gnu, false) = (wanted, dialect, there) else {
            return;
        };
        let mut draft = Draft::new("tcpmux", first.origin.clone(), Vec::new());
        draft.set("listen", "tcp4:1");
        draft.set("builtin", "tcpmux");
        draft.note(Effect::Remark, "inetutils listens for tcpmux by itself");
        self.imported.drafts.push(draft);
    }

    /// Of two entries for the same thing inetd serves the later one.
    fn replaced(&mut self) {
        let drafts = &mut self.imported.drafts;
        for at in (1..drafts.len()).rev() {
            let (earlier, later) = drafts.split_at_mut(at);
            let Some(later) = later.first().filter(|d| d.off.is_none()) else {
                continue;
            };
            let Some(listen) = later.key("listen").map(ToString::to_string) else {
                continue;
            };
            let same = earlier.iter_mut().filter(|draft| {
                let other = draft.key("listen").map(ToString::to_string);
                draft.off.is_none() && draft.name == later.name && other.as_ref() == Some(&listen)
            });
            for draft in same {
                draft.off = Some(format!("{} is for the same and comes later", later.origin));
            }
        }
    }
}

/// That hosts.allow and hosts.deny have become `allow` and `deny`.
fn wrapped(file: &Origin, world: &World<'_>) -> Note {
    let files: Vec<String> = world
        .hosts
        .files()
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let text = match files.is_empty() {
        true => "tcpd or libwrap found no rules in hosts.allow and hosts.deny and let everybody in; usherd \
                 does not look whether there are some later"
            .to_owned(),
        false => format!(
            "tcpd and libwrap are not needed any more: what {} said when it was read is in `allow` and `deny`",
            files.join(" and ")
        ),
    };
    file.note(Effect::Changed, text)
}

#[cfg(test)]
mod tests;
