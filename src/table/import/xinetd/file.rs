//! The grammar of xinetd.conf(5), and the files that one of them includes.
//!
//! A line is at most a comment, a keyword or an attribute: there are no
//! comments behind something, no quotes and no continuation. White space is
//! needed before the operator and not behind it.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::table::complaint::SourceFile;
use crate::table::import::{Effect, Note, Origin, read_file};

/// Includes within includes; xinetd itself has no bound and runs out of descriptors.
const DEEPEST: usize = 16;

/// `service NAME` or `defaults`, in the order in which xinetd reads them.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `None`: defaults.
    pub name: Option<String>,
    pub origin: Origin,
    /// Its lines, from the keyword to the brace.
    pub source: Vec<String>,
    pub attributes: Vec<Line>,
    /// Why xinetd skips it from there on.
    pub fault: Option<(Origin, String)>,
}

/// `name operator values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub name: String,
    pub operator: Operator,
    pub words: Vec<String>,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Set,
    Add,
    Remove,
}

impl Operator {
    pub fn text(self) -> &'static str {
        match self {
            Self::Set => "=",
            Self::Add => "+=",
            Self::Remove => "-=",
        }
    }
}

/// All entries of a file and of what it includes.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub entries: Vec<Entry>,
    pub notes: Vec<Note>,
    pub files: Vec<SourceFile>,
    /// The files that are being read.
    open: Vec<PathBuf>,
}

impl Configuration {
    /// Reads `path`; only for that file itself is it an error if it cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut all = Self::default();
        if path.is_dir() {
            let origin = Origin::new(path, 0);
            all.include_folder(&origin, &std::path::absolute(path)?.to_string_lossy());
        } else {
            all.file(path, &read_file(path)?);
        }
        Ok(all)
    }

    fn file(&mut self, path: &Path, text: &str) {
        self.open.push(path.to_owned());
        let source = SourceFile::new(path.to_owned(), text.to_owned());
        self.files.push(source);
        let mut lines = Lines::new(path, text);
        while let Some((origin, line)) = lines.significant() {
            let mut words = words_of(line);
            let keyword = words.next().unwrap_or_default().to_ascii_lowercase();
            match (keyword.as_str(), words.next()) {
                ("include", Some(name)) => self.include(&origin, name),
                ("includedir", Some(name)) => self.include_folder(&origin, name),
                ("defaults", _) => {
                    let entry = lines.entry(None, origin, line);
                    self.entries.push(entry);
                }
                ("service", Some(name)) => {
                    let entry = lines.entry(Some(name.to_owned()), origin, line);
                    self.entries.push(entry);
                }
                _ => {
                    let text = format!(
                        "\"{}\" is no entry; xinetd skips it up to the next line with \"}}\" alone",
                        line.trim()
                    );
                    self.note(&origin, Effect::Unsupported, text);
                    lines.skip();
                }
            }
        }
        self.open.pop();
    }

    fn include(&mut self, origin: &Origin, name: &str) {
        let path = self.absolute(origin, name);
        if self.open.contains(&path) || self.open.len() >= DEEPEST {
            let text = format!(
                "{} is being read already; it is left out here",
                path.display()
            );
            return self.note(origin, Effect::Unsupported, text);
        }
        match read_file(&path) {
            Ok(text) => self.file(&path, &text),
            Err(err) => self.unreadable(origin, &path, &err),
        }
    }

    /// A file of another host that is not here may have had restrictions in its `defaults`.
    fn unreadable(&mut self, origin: &Origin, path: &Path, err: &io::Error) {
        let text = format!(
            "{} cannot be read ({err}): its services, and its `defaults` if it has any, are not \
             carried over",
            path.display()
        );
        self.note(origin, Effect::Unsupported, text);
    }

    /// In the order of their bytes: files whose names have no dot and do not end in `~`.
    fn include_folder(&mut self, origin: &Origin, name: &str) {
        let folder = self.absolute(origin, name);
        let found = match fs::read_dir(&folder) {
            Ok(found) => found,
            Err(err) => return self.unreadable(origin, &folder, &err),
        };
        let mut names: Vec<_> = found.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let shown = name.to_string_lossy();
            if shown.contains('.') || shown.ends_with('~') {
                if !shown.starts_with('.') {
                    let text = format!(
                        "xinetd does not read {}, for the dot or tilde in its name; neither is it read here",
                        path.display()
                    );
                    self.note(origin, Effect::Remark, text);
                }
            } else if path.is_file() {
                self.include(origin, &path.to_string_lossy());
            }
        }
    }

    /// xinetd takes a relative path from where it was started, which nobody knows here.
    fn absolute(&mut self, origin: &Origin, name: &str) -> PathBuf {
        if name.starts_with('/') {
            return PathBuf::from(name);
        }
        let folder = origin.file.parent().unwrap_or(Path::new("/"));
        let path = folder.join(name);
        let text = format!(
            "xinetd looks for \"{name}\" from the folder it was started in; here it is {}",
            path.display()
        );
        self.note(origin, Effect::Changed, text);
        path
    }

    fn note(&mut self, origin: &Origin, effect: Effect, text: String) {
        self.notes.push(origin.note(effect, text));
    }
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\r'])
        .filter(|word| !word.is_empty())
}

/// The lines of a file, with the place of each.
struct Lines<'a> {
    path: &'a Path,
    lines: std::iter::Enumerate<std::str::Split<'a, char>>,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let lines = text.split('\n').enumerate();
        Self { path, lines }
    }

    fn next(&mut self) -> Option<(Origin, &'a str)> {
        let (number, line) = self.lines.next()?;
        let origin = Origin {
            file: self.path.to_owned(),
            line: number + 1,
        };
        Some((origin, line))
    }

    /// The next line that is neither blank nor a comment.
    fn significant(&mut self) -> Option<(Origin, &'a str)> {
        loop {
            let (origin, line) = self.next()?;
            if says_something(line) {
                return Some((origin, line));
            }
        }
    }

    fn skip(&mut self) {
        while let Some((_, line)) = self.significant() {
            if line.trim() == "}" {
                return;
            }
        }
    }

    fn entry(&mut self, name: Option<String>, origin: Origin, head: &str) -> Entry {
        let mut entry = Entry {
            name,
            origin,
            source: vec![head.trim_end().to_owned()],
            attributes: Vec::new(),
            fault: None,
        };
        let mut begun = false;
        while let Some((origin, line)) = self.next() {
            entry.source.push(line.trim_end().to_owned());
            if !says_something(line) {
                continue;
            }
            match line.trim() {
                "{" if !begun => begun = true,
                "}" => return entry,
                text if !begun => {
                    begun = true;
                    entry.spoil(
                        origin,
                        format!("\"{text}\" stands where \"{{\" has to, alone on its line"),
                    );
                }
                text => match attribute(text, &origin) {
                    Ok(line) => entry.attributes.push(line),
                    Err(problem) => entry.spoil(origin, problem),
                },
            }
        }
        while entry.source.last().is_some_and(String::is_empty) {
            entry.source.pop();
        }
        let origin = entry.origin.clone();
        entry.spoil(origin, "there is no \"}\" alone on its line".to_owned());
        entry
    }
}

impl Entry {
    /// The first fault is what xinetd stops at; what follows is read nevertheless.
    fn spoil(&mut self, origin: Origin, problem: String) {
        self.fault.get_or_insert((origin, problem));
    }
}

fn says_something(line: &str) -> bool {
    let text = line.trim_start();
    !text.is_empty() && !text.starts_with('#')
}

fn attribute(text: &str, origin: &Origin) -> Result<Line, String> {
    let (name, rest) = text
        .split_once([' ', '\t'])
        .ok_or_else(|| format!("\"{text}\" has no operator with white space before it"))?;
    let rest = rest.trim_start();
    let operators = [
        ("+=", Operator::Add),
        ("-=", Operator::Remove),
        ("=", Operator::Set),
    ];
    let found = operators.iter().find_map(|(sign, operator)| {
        let values = rest.strip_prefix(sign)?;
        Some((*operator, values))
    });
    let (operator, values) = found.ok_or_else(|| {
        format!("\"{name}\" is not followed by white space and one of =, += and -=")
    })?;
    Ok(Line {
        name: name.to_ascii_lowercase(),
        operator,
        words: words_of(values).map(str::to_owned).collect(),
        origin: origin.clone(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Configuration {
        let mut all = Configuration::default();
        all.file(Path::new("/x"), text);
        all
    }

    #[test]
    fn white_space_is_needed_before_the_operator_only() {
        let origin = Origin {
            file: "/x".into(),
            line: 1,
        };
        let line = attribute("cps\t=100 2", &origin).unwrap();
        assert_eq!((line.name.as_str(), line.operator), ("cps", Operator::Set));
        assert_eq!(line.words, ["100", "2"]);
        assert!(attribute("cps=100 2", &origin).is_err());
        assert!(attribute("cps", &origin).is_err());
        assert!(attribute("cps *= 2", &origin).is_err());
        let line = attribute("only_from -=", &origin).unwrap();
        assert_eq!(line.operator, Operator::Remove);
        assert!(line.words.is_empty());
    }

    #[test]
    fn entries_keep_their_lines_and_comments() {
        let all = parsed("# top\nService Echo\n{\n  # why\n  WAIT = no # not\n}\nDEFAULTS\n{\n}\n");
        let [echo, defaults] = all.entries.as_slice() else {
            panic!("{:?}", all.entries);
        };
        assert_eq!(echo.name.as_deref(), Some("Echo"));
        assert_eq!(echo.origin.line, 2);
        assert_eq!(echo.source.len(), 5);
        assert_eq!(echo.attributes[0].name, "wait");
        assert_eq!(echo.attributes[0].words, ["no", "#", "not"]);
        assert_eq!(defaults.name, None);
        assert!(echo.fault.is_none() && defaults.fault.is_none());
    }

    #[test]
    fn what_xinetd_skips_is_told() {
        let all = parsed(
            "service a {\n wait = no\n}\nservice b\n{\n cps=1 2\n wait = no\n}\nfoo\n}\nservice c\n{\n",
        );
        let faults: Vec<bool> = all.entries.iter().map(|e| e.fault.is_some()).collect();
        assert_eq!(faults, [true, true, true]);
        assert_eq!(all.entries[1].attributes.len(), 1);
        assert_eq!(all.notes.len(), 1);
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_bytes_and_skipped_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", "c.conf", "d~", ".hidden"] {
            let text = format!("service {}\n{{\n}}\n", name.trim_matches('.'));
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::create_dir(folder.path().join("e")).unwrap();
        let all = parsed(&format!("includedir {}\n", folder.path().display()));
        let names: Vec<_> = all.entries.iter().flat_map(|e| e.name.as_deref()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(all.notes.len(), 2, "{:?}", all.notes);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let text = format!("include {}\nservice a\n{{\n}}\n", path.display());
        fs::write(&path, text).unwrap();
        let all = Configuration::read(&path).unwrap();
        assert_eq!(all.entries.len(), 1);
        assert_eq!(all.notes.len(), 1);
    }
}
