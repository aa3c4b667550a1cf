//! What is in a backup: one line of JSON that begins with the hash of the rest, so
//! that no octet of it can change unseen.
#![forbid(unsafe_code)]

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::admin::operations::{Failed, Kind};

const FORMAT: u32 = 1;
/// Everything in front of the hash.
const HEAD: &str = "{\"sha256\":\"";
/// Of the hash in hexadecimal digits.
const HASH: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub id: String,
    pub service: String,
    /// The directory under /var/lib.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Seconds since 1970.
    pub made: u64,
    /// Of the compressed archive.
    pub archive: Archive,
    /// In the order of the archive; the first is the directory itself.
    pub files: Vec<Entry>,
    /// What is not in it, and why: the first of it,
    pub skipped: Vec<Skipped>,
    /// and how much there was; not in the first manifests of this format.
    #[serde(default)]
    pub skipped_in_all: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub size: u64,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Relative to the directory, which is "." itself.
    pub path: String,
    pub what: What,
    /// Permissions: `0o7777` of st_mode.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970, of the last change of its contents.
    pub modified: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    Directory,
    File {
        size: u64,
        sha256: String,
    },
    /// Where a symbolic link points, which nobody follows.
    Link {
        target: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub path: String,
    pub why: String,
}

impl Manifest {
    #[must_use]
    pub fn new(id: String, service: &str, state: &str, note: Option<&str>, made: u64) -> Self {
        Self {
            format: FORMAT,
            id,
            service: service.to_owned(),
            state: state.to_owned(),
            note: note.map(str::to_owned),
            made,
            archive: Archive::default(),
            files: Vec::new(),
            skipped: Vec::new(),
            skipped_in_all: 0,
        }
    }

    /// Octets of all files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sizes = self.files.iter().map(|entry| match &entry.what {
            What::File { size, .. } => *size,
            What::Directory | What::Link { .. } => 0,
        });
        sizes.sum()
    }

    /// The text of its file, and the hash in it.
    pub fn seal(&self) -> Result<(String, String), Failed> {
        let mut text = super::to("write the manifest", serde_json::to_string(self))?;
        let hash = hex(&Sha256::digest(&text));
        text.replace_range(..1, &format!("{HEAD}{hash}\","));
        Ok((text, hash))
    }

    /// The reverse, of a text that somebody may have changed. Whatever it holds, its
    /// paths stay in the directory, each is named once and after its parent.
    pub fn open(text: &str) -> Result<(Self, String), Failed> {
        let changed = || Failed::new(Kind::Failed, "the manifest has been changed");
        let rest = text.strip_prefix(HEAD).ok_or_else(changed)?;
        let (hash, rest) = rest.split_at_checked(HASH).ok_or_else(changed)?;
        let body = format!("{{{}", rest.strip_prefix("\",").ok_or_else(changed)?);
        if hex(&Sha256::digest(&body)) != hash {
            return Err(changed());
        }
        let mut manifest: Self = super::to("read the manifest", serde_json::from_str(&body))?;
        manifest.skipped_in_all = manifest.skipped_in_all.max(manifest.skipped.len());
        if manifest.format != FORMAT {
            let why = format!("format {} of a manifest is not known", manifest.format);
            return Err(Failed::new(Kind::Unavailable, why));
        }
        manifest.check()?;
        Ok((manifest, hash.to_owned()))
    }

    fn check(&self) -> Result<(), Failed> {
        let mut directories = std::collections::HashSet::new();
        let mut known = std::collections::HashSet::new();
        let wrong = |entry: &Entry, why: &str| {
            let text = format!("the manifest names {:?}, {why}", entry.path);
            Err(Failed::new(Kind::Forbidden, text))
        };
        for (at, entry) in self.files.iter().enumerate() {
            let is_directory = entry.what == What::Directory;
            match (at, entry.path.as_str()) {
                (0, ".") if is_directory => {}
                (0, _) => return wrong(entry, "which is not the directory itself"),
                (_, path) if !stays_inside(path) => {
                    return wrong(entry, "which is not inside of the directory");
                }
                (_, path) => {
                    let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
                    if !directories.contains(parent) {
                        return wrong(entry, "whose parent is no directory of it");
                    }
                }
            }
            if !known.insert(entry.path.as_str()) {
                return wrong(entry, "twice");
            }
            if is_directory {
                directories.insert(entry.path.as_str());
            }
            if entry.mode & !0o7777 != 0 {
                return wrong(entry, "with a mode that is none");
            }
        }
        match self.files.is_empty() {
            true => Err(Failed::new(Kind::Failed, "the manifest names nothing")),
            false => Ok(()),
        }
    }
}

/// Plain names, joined by single slashes.
fn stays_inside(path: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let parts = Path::new(path).components();
    let rejoined: std::path::PathBuf = parts.clone().collect();
    !path.is_empty()
        && !path.contains('\0')
        && parts.clone().all(plain)
        && rejoined.as_os_str() == path
}

#[must_use]
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub mod tests {
    use super::*;

    pub fn entry(path: &str, what: What) -> Entry {
        Entry {
            path: path.into(),
            what,
            mode: 0o750,
            uid: 0,
            gid: 0,
            modified: 0,
        }
    }

    fn with(files: Vec<Entry>) -> Manifest {
        let mut manifest = Manifest::new("a@1".into(), "a", "a", Some("why \" not"), 7);
        manifest.files = files;
        manifest
    }

    #[test]
    fn every_changed_octet_of_a_manifest_is_found() {
        let manifest = with(vec![entry(".", What::Directory)]);
        let (text, hash) = manifest.seal().unwrap();
        assert_eq!(Manifest::open(&text), Ok((manifest, hash)));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Manifest::open(&changed).is_err(), "octet {at}");
        }
        for cut in 0..text.len() {
            assert!(Manifest::open(&text[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let file = |path: &str| {
            let what = What::File {
                size: 0,
                sha256: String::new(),
            };
            entry(path, what)
        };
        let root = || entry(".", What::Directory);
        let link = entry(
            "l",
            What::Link {
                target: "/etc".into(),
            },
        );
        for bad in [
            vec![],
            vec![file(".")],
            vec![entry("x", What::Directory)],
            vec![root(), file("../x")],
            vec![root(), file("/etc/passwd")],
            vec![root(), file("a/../../x")],
            vec![root(), file("./a")],
            vec![root(), file("a//b")],
            vec![root(), file("a/")],
            vec![root(), file("")],
            vec![root(), file("a\0b")],
            vec![root(), file("a"), file("a")],
            vec![root(), file("a"), file("a/b")],
            vec![root(), file("d/b")],
            vec![root(), link, file("l/x")],
        ] {
            let (text, _) = with(bad.clone()).seal().unwrap();
            assert!(Manifest::open(&text).is_err(), "{bad:?}");
        }
        let (text, _) = with(vec![root(), entry("d", What::Directory), file("d/b")])
            .seal()
            .unwrap();
        assert!(Manifest::open(&text).is_ok());
    }

    #[test]
    fn a_manifest_of_before_is_read() {
        let body = r#"{"format":1,"id":"a@1","service":"a","state":"a","made":1,"archive":{"size":0,"sha256":""},"files":[{"path":".","what":"directory","mode":448,"uid":0,"gid":0,"modified":0}],"skipped":[{"path":"pipe","why":"it is a pipe"}]}"#;
        let hash = hex(&Sha256::digest(body));
        let text = format!("{HEAD}{hash}\",{}", &body[1..]);
        let (manifest, _) = Manifest::open(&text).unwrap();
        assert_eq!(manifest.skipped_in_all, 1);
    }
}
