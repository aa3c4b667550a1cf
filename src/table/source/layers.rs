//! Folders of the same shape, one over the other: what packages ship, and over
//! it what the administrator of the host wrote. A file hides the one at the
//! same place in a lower layer.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::include::{self, Found};
use crate::table::complaint::Fault;

/// Where the table of the system is, and where packages put what goes below it.
const SYSTEM: &str = "/etc/usherd";
const VENDOR: &str = "/usr/lib/usherd";

/// The folders, lowest first; the last one is that of the main file.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    folders: Vec<PathBuf>,
}

impl Layers {
    /// Those of a table that names none.
    pub fn usual(main: &Path) -> Self {
        let own = folder_of(main);
        let is_system = own == Path::new(SYSTEM);
        let vendor = is_system.then(|| PathBuf::from(VENDOR));
        Self {
            folders: vendor.into_iter().chain([own]).collect(),
        }
    }

    /// `lower` below the folder of `main`, from which they start if they are relative.
    pub fn declared(main: &Path, lower: &[impl AsRef<str>]) -> Self {
        let own = folder_of(main);
        let mut folders: Vec<PathBuf> = lower
            .iter()
            .map(|folder| plain(&own.join(folder.as_ref())))
            .filter(|folder| *folder != own)
            .collect();
        folders.push(own);
        Self { folders }
    }

    /// The layer that a file is in, and where it is there.
    fn place<'p>(&self, file: &'p Path) -> Option<(usize, &'p Path)> {
        let mut best: Option<(usize, &Path)> = None;
        for (number, folder) in self.folders.iter().enumerate() {
            let Some(rest) = file.strip_prefix(folder).ok().filter(|r| r.is_relative()) else {
                continue;
            };
            if best.is_none_or(|(_, other)| rest.components().count() < other.components().count())
            {
                best = Some((number, rest));
            }
        }
        best
    }

    /// What an `include` entry of `file` means: each file once, from the
    /// highest layer that has it, in the order of their bytes.
    pub fn find(&self, file: &Path, pattern: &str) -> Result<Found, Fault> {
        let own = folder_of(file);
        let inner = match self.place(file) {
            Some((_, rest)) if !pattern.starts_with('/') => rest.parent().unwrap_or(Path::new("")),
            _ => return include::find(&own, pattern).map(|found| self.highest(found)),
        };
        if !include::is_pattern(pattern) {
            let mut folders = self.folders.iter().rev().map(|f| f.join(inner));
            let has_it = folders.find(|folder| folder.join(pattern).exists());
            return include::find(&has_it.unwrap_or(own), pattern);
        }
        let mut all = Found::default();
        for folder in &self.folders {
            let found = include::find(&plain(&folder.join(inner)), pattern)?;
            all.files.extend(found.files);
            all.warnings.extend(found.warnings);
        }
        Ok(self.highest(all))
    }

    fn highest(&self, found: Found) -> Found {
        let mut files: Vec<PathBuf> = found.files.iter().map(|f| self.replaced_by(f)).collect();
        let bytes = |path: &Path| {
            let rest = self.place(path).map_or(path, |(_, rest)| rest);
            rest.as_os_str().as_bytes().to_owned()
        };
        files.sort_by_cached_key(|path| bytes(path));
        files.dedup();
        Found { files, ..found }
    }

    fn replaced_by(&self, file: &Path) -> PathBuf {
        let Some((number, rest)) = self.place(file) else {
            return file.to_owned();
        };
        let higher = self.folders.iter().skip(number + 1).rev();
        let mut same = higher.map(|folder| folder.join(rest));
        // A link that leads nowhere is there too: it is complained about when it is read.
        same.find(|path| fs::symlink_metadata(path).is_ok())
            .unwrap_or_else(|| file.to_owned())
    }

    /// Files that change single keys of what `file` has, lower layers first,
    /// each layer's in the order of their bytes.
    pub fn drop_ins(&self, file: &Path) -> Result<Found, Fault> {
        let mut all = Found::default();
        let mut by_name: BTreeMap<OsString, (usize, PathBuf)> = BTreeMap::new();
        for (number, folder) in self.drop_in_folders(file).iter().enumerate() {
            if !folder.is_dir() {
                continue;
            }
            let found = include::find(folder, "*.toml")?;
            all.warnings.extend(found.warnings);
            for path in found.files {
                let name = path.file_name().unwrap_or_default().to_owned();
                by_name.insert(name, (number, path));
            }
        }
        let mut ordered: Vec<(usize, PathBuf)> = by_name.into_values().collect();
        ordered.sort_by_key(|(number, _)| *number);
        all.files = ordered.into_iter().map(|(_, path)| path).collect();
        Ok(all)
    }

    fn drop_in_folders(&self, file: &Path) -> Vec<PathBuf> {
        match self.place(file) {
            Some((_, rest)) => {
                let folders = self.folders.iter();
                folders.map(|folder| beside(&folder.join(rest))).collect()
            }
            None => vec![beside(file)],
        }
    }

    /// The administrator's folder for drop-ins of a `file` of a lower layer;
    /// nothing for a file that is the administrator's own.
    pub fn overrides_of(&self, file: &Path) -> Option<PathBuf> {
        let (number, rest) = self.place(file)?;
        let top = self.folders.last()?;
        let folder = rest.parent().unwrap_or(Path::new(""));
        let is_drop_in = folder.to_string_lossy().ends_with(".toml.d");
        (number + 1 < self.folders.len()).then(|| match is_drop_in {
            true => top.join(folder),
            false => beside(&top.join(rest)),
        })
    }

    /// Those that are not there.
    pub fn missing(&self) -> impl Iterator<Item = &Path> {
        let folders = self.folders.iter().map(PathBuf::as_path);
        folders.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    }
}

/// `NAME.toml.d` for `NAME.toml`.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".d");
    name.into()
}

fn folder_of(file: &Path) -> PathBuf {
    plain(file.parent().unwrap_or(Path::new("")))
}

/// Without `.` in it, so that it can be compared with others.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_table_of_the_system_has_what_packages_ship_below_it() {
        let folders = |main: &str| Layers::usual(Path::new(main)).folders;
        let system = [Path::new("/usr/lib/usherd"), Path::new("/etc/usherd")];
        assert_eq!(folders("/etc/usherd/usherd.toml"), system);
        assert_eq!(
            folders("/etc/usherd/test/x.toml"),
            [Path::new("/etc/usherd/test")]
        );
        assert_eq!(folders("usherd.toml"), [Path::new("")]);
    }

    #[test]
    fn a_file_is_in_the_layer_that_is_nearest() {
        let layers = Layers::declared(Path::new("t/usherd.toml"), &["vendor", "."]);
        assert_eq!(layers.folders, [Path::new("t/vendor"), Path::new("t")]);
        let place = |file: &'static str| layers.place(Path::new(file));
        assert_eq!(
            place("t/vendor/s.d/a.toml"),
            Some((0, Path::new("s.d/a.toml")))
        );
        assert_eq!(place("t/s.d/a.toml"), Some((1, Path::new("s.d/a.toml"))));
        assert_eq!(place("/elsewhere/a.toml"), None);
        let here = Layers::usual(Path::new("usherd.toml"));
        assert_eq!(
            here.place(Path::new("a.toml")),
            Some((0, Path::new("a.toml")))
        );
        assert_eq!(here.place(Path::new("/a.toml")), None);
    }

    #[test]
    fn a_higher_file_hides_a_lower_one_and_drop_ins_come_by_layer_then_name() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("etc/usherd.toml");
        for file in [
            "lib/s.d/b.toml",
            "lib/s.d/a.toml",
            "lib/s.d/a.toml.d/9.toml",
            "lib/s.d/a.toml.d/1.toml",
            "lib/s.d/a.toml.d/5.toml",
            "etc/s.d/b.toml",
            "etc/s.d/a.toml.d/1.toml",
            "etc/s.d/a.toml.d/0.toml",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let layers = Layers::declared(&main, &["../lib"]);
        let short = |found: Found| -> Vec<String> {
            let root = dir.path().join("etc");
            let shown = found.files.iter().map(|f| f.strip_prefix(&root).unwrap());
            shown.map(|f| f.display().to_string()).collect()
        };
        let found = layers.find(&main, "s.d/*.toml").unwrap();
        assert_eq!(short(found.clone()), ["../lib/s.d/a.toml", "s.d/b.toml"]);
        assert_eq!(layers.missing().count(), 0);
        let found = layers.drop_ins(&found.files[0]).unwrap();
        assert_eq!(
            short(found),
            [
                "../lib/s.d/a.toml.d/5.toml",
                "../lib/s.d/a.toml.d/9.toml",
                "s.d/a.toml.d/0.toml",
                "s.d/a.toml.d/1.toml"
            ]
        );
    }
}
