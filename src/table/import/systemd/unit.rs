//! Unit files: systemd.syntax(7), with drop-ins.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::table::complaint::SourceFile;
use crate::table::import::{Imported, Origin, read_file};

/// Where systemd looks for units of the host, the first one first: systemd.unit(5).
const SEARCHED: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// `Key=value` in its section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub section: String,
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// A unit with its drop-ins, in the order in which they count.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// `NAME.socket`, as it was asked for: with the instance behind the `@`.
    pub name: String,
    pub path: PathBuf,
    pub settings: Vec<Setting>,
    /// The lines of the unit itself.
    pub source: Vec<String>,
}

/// The folders in which units are looked for: that of the one that was named, then the host's.
pub(super) fn folders(beside: &Path) -> Vec<PathBuf> {
    let own = beside.parent().unwrap_or(Path::new("")).to_owned();
    let mut folders = vec![own];
    folders.extend(SEARCHED.iter().map(PathBuf::from));
    folders
}

/// The file of a unit; an instance that has none of its own is made of its template.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let names = [Some(name.to_owned()), template_of(name)];
    let mut names = names.into_iter().flatten();
    names.find_map(|name| {
        let mut paths = folders.iter().map(|folder| folder.join(&name));
        paths.find(|path| path.is_file())
    })
}

/// `a@.service` of `a@b.service`.
pub(super) fn template_of(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (instance, kind) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

impl Unit {
    /// Reads a unit and its drop-ins; `None` after a fault if it cannot be read.
    pub fn read(
        name: &str,
        path: &Path,
        folders: &[PathBuf],
        imported: &mut Imported,
    ) -> Option<Self> {
        let (_, text) = imported.open(path)?;
        let mut unit = Self {
            name: name.to_owned(),
            path: path.to_owned(),
            settings: parse(&text, path),
            source: text.lines().map(str::to_owned).collect(),
        };
        for path in drop_ins(name, folders) {
            match read_file(&path) {
                Ok(text) => {
                    unit.settings.extend(parse(&text, &path));
                    imported.add_file(SourceFile::new(path, text));
                }
                Err(err) => imported.unreadable(&path, &err),
            }
        }
        Some(unit)
    }

    /// The last value of a key; an empty one counts as none.
    pub fn one(&self, section: &str, key: &str) -> Option<&Setting> {
        let mut settings = self.settings.iter().rev();
        let last = settings.find(|s| s.section == section && s.key == key)?;
        Some(last).filter(|s| !s.value.is_empty())
    }

    pub fn text(&self, section: &str, key: &str) -> Option<&str> {
        self.one(section, key).map(|setting| setting.value.as_str())
    }

    /// Every value of a key that may be given several times; an empty one takes those before it away.
    pub fn all(&self, section: &str, key: &str) -> Vec<&Setting> {
        let mut found = Vec::new();
        for setting in &self.settings {
            if setting.section == section && setting.key == key {
                if setting.value.is_empty() {
                    found.clear();
                } else {
                    found.push(setting);
                }
            }
        }
        found
    }

    /// systemd's words for yes and no.
    pub fn yes(&self, section: &str, key: &str) -> bool {
        self.text(section, key).is_some_and(is_yes)
    }

    /// The first line of the unit.
    pub fn origin(&self) -> Origin {
        Origin::new(&self.path, 1)
    }

    /// What stands between the `@` and the type.
    pub fn instance(&self) -> Option<&str> {
        let (_, rest) = self.name.split_once('@')?;
        rest.rsplit_once('.').map(|(instance, _)| instance)
    }
}

pub(super) fn is_yes(word: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].contains(&word.to_ascii_lowercase().as_str())
}

/// `NAME.d/*.conf`, that of the template and that of the type, by name; a file
/// hides one of the same name that is further back.
fn drop_ins(name: &str, folders: &[PathBuf]) -> Vec<PathBuf> {
    let kind = name.rsplit('.').next().unwrap_or(name).to_owned();
    let owners = [Some(kind), template_of(name), Some(name.to_owned())];
    let mut found: BTreeMap<(usize, String), PathBuf> = BTreeMap::new();
    for (rank, owner) in owners.into_iter().flatten().enumerate() {
        for folder in folders {
            let Ok(entries) = fs::read_dir(folder.join(format!("{owner}.d"))) else {
                continue;
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                let file = path.file_name().unwrap_or_default();
                let file = file.to_string_lossy().into_owned();
                if file.ends_with(".conf") {
                    found.entry((rank, file)).or_insert(path);
                }
            }
        }
    }
    found.into_values().collect()
}

/// Lines of a unit. What makes no sense systemd passes over, and so is it here.
fn parse(text: &str, path: &Path) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut section = String::new();
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) {
            continue; // also between the lines of one that goes on
        }
        let (start, mut whole) = begun.take().unwrap_or((number, String::new()));
        if let Some(part) = trimmed.strip_suffix('\\') {
            whole.push_str(part);
            whole.push(' ');
            begun = Some((start, whole));
            continue;
        }
        whole.push_str(trimmed);
        if let Some(name) = whole.strip_prefix('[').and_then(|w| w.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = whole.split_once('=') {
            settings.push(Setting {
                section: section.clone(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
                origin: Origin::new(path, start + 1),
            });
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_and_comments_in_them_do_not_count() {
        let text = "[Service]\nExecStart=/bin/a \\\n# why\n  b \\\n  c\n; x\nEmpty=\n[Socket]\nAccept = yes\n";
        let settings = parse(text, Path::new("/x"));
        let shown: Vec<(&str, &str, &str, usize)> = settings
            .iter()
            .map(|s| {
                (
                    s.section.as_str(),
                    s.key.as_str(),
                    s.value.as_str(),
                    s.origin.line,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("Service", "ExecStart", "/bin/a  b  c", 2),
                ("Service", "Empty", "", 7),
                ("Socket", "Accept", "yes", 9),
            ]
        );
    }

    #[test]
    fn an_empty_value_takes_those_before_it_away() {
        let text = "[Socket]\nListenStream=1\nListenStream=\nListenStream=2\nListenStream=3\n";
        let unit = Unit {
            name: "a@b.socket".into(),
            path: "/x".into(),
            settings: parse(text, Path::new("/x")),
            source: Vec::new(),
        };
        let all: Vec<&str> = unit
            .all("Socket", "ListenStream")
            .iter()
            .map(|s| s.value.as_str())
            .collect();
        assert_eq!(all, ["2", "3"]);
        assert_eq!(unit.instance(), Some("b"));
        assert_eq!(template_of("a@b.socket").as_deref(), Some("a@.socket"));
        assert_eq!(template_of("a@.socket"), None);
    }
}
