//! Which files an `include` entry means.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::table::complaint::Fault;

/// What editors and package managers leave behind.
const LEFTOVERS: &[&str] = &[
    "~",
    ".bak",
    ".old",
    ".orig",
    ".rej",
    ".swp",
    ".swo",
    ".tmp",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".dpkg-tmp",
    ".ucf-old",
    ".ucf-new",
    ".ucf-dist",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
];

/// The files of one entry, in their fixed order.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub files: Vec<PathBuf>,
    /// Files beside them that an operator may think are read.
    pub warnings: Vec<Fault>,
}

/// Resolves `pattern` from `folder`. A pattern may match nothing, a plain name may not.
pub fn find(folder: &Path, pattern: &str) -> Result<Found, Fault> {
    if !is_pattern(pattern) {
        return find_plain(folder, pattern);
    }
    let whole = Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(pattern);
    let matches = glob::glob(&whole.to_string_lossy())
        .map_err(|err| Fault::new(format!("\"{pattern}\" is no pattern: {}", err.msg)))?;

    let mut found = Found::default();
    let mut matched: Vec<PathBuf> = Vec::new();
    for entry in matches {
        let path = entry.map_err(|err| {
            Fault::new(format!(
                "unable to read {}: {}",
                err.path().display(),
                err.error()
            ))
        })?;
        matched.push(path);
    }
    matched.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    found.warnings = beside(&folder.join(pattern), &matched);
    for path in matched {
        if is_leftover(&path) {
            found.warnings.push(skipped(
                &path,
                "looks like a leftover of an editor or package",
            ));
        } else if !path.is_dir() {
            found.files.push(path);
        }
    }
    Ok(found)
}

/// Whether an entry stands for any number of files.
pub fn is_pattern(entry: &str) -> bool {
    entry.contains(['*', '?', '['])
}

fn find_plain(folder: &Path, name: &str) -> Result<Found, Fault> {
    let path = folder.join(name);
    if path.is_dir() {
        return Err(Fault::new(format!("{} is a folder", path.display()))
            .help(format!("write \"{}/*.toml\"", name.trim_end_matches('/'))));
    }
    if !path.exists() {
        return Err(
            Fault::new(format!("there is no file {}", path.display())).help(
                "a pattern such as \"services.d/*.toml\" may match nothing, a plain name may not",
            ),
        );
    }
    Ok(Found {
        files: vec![path],
        warnings: Vec::new(),
    })
}

/// Warns about files in the folder of a pattern that it does not match, except
/// hidden ones and documents.
fn beside(pattern: &Path, matched: &[PathBuf]) -> Vec<Fault> {
    let Some(folder) = pattern.parent() else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new(); // no such folder, or itself a pattern
    };
    let matched: HashSet<_> = matched.iter().filter_map(|p| p.file_name()).collect();
    let mut missed: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| !matched.contains(entry.file_name().as_os_str()))
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_bytes();
            !name.starts_with(b".") && !name.starts_with(b"README") && !name.ends_with(b".md")
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    missed.sort();
    missed
        .iter()
        .map(|path| skipped(path, "does not match"))
        .collect()
}

fn skipped(path: &Path, why: &str) -> Fault {
    Fault::new(format!("{} is not read: it {why}", path.display()))
}

fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        || name.starts_with('#')
        || LEFTOVERS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn matches_come_in_the_order_of_their_bytes_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.toml",
            "a.toml",
            "Z.toml",
            ".#a.toml",
            "a.toml~",
            "README.md",
            "c.conf",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = find(dir.path(), "*.toml").unwrap();
        let names: Vec<_> = found.files.iter().map(|p| p.file_name().unwrap()).collect();
        assert_eq!(names, ["Z.toml", "a.toml", "b.toml"]);
        let said: Vec<String> = found.warnings.into_iter().map(|f| f.problem).collect();
        assert_eq!(said.len(), 3, "{said:?}");
    }

    #[test]
    fn a_plain_name_must_exist_and_a_pattern_need_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path(), "missing.toml").is_err());
        assert!(find(dir.path(), "no/*.toml").unwrap().files.is_empty());
        assert!(find(dir.path(), ".").is_err());
        assert!(find(dir.path(), "a[").is_err());
    }
}
