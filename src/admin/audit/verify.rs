//! Reads the whole log and tells where its chain is broken.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::entry::{Entry, Hash, LONGEST};
use super::files;
use super::log::{Head, read_head};

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    pub file: PathBuf,
    /// From 1; 0 where no line is meant.
    pub line: u64,
    pub what: String,
}

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub entries: u64,
    pub first: Option<u64>,
    pub last: Option<u64>,
    pub breaks: Vec<Break>,
}

/// More than so many are not told one by one.
const MOST_BREAKS: usize = 100;

/// Reads every entry, oldest first. `each` is given those that are whole, with the
/// file and the line they stand in; it ends the walk by returning false.
pub fn walk(dir: &Path, mut each: impl FnMut(&Entry) -> bool) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let head = read_head(dir)?;
    let mut before: Option<(u64, Hash)> = None;
    for file in files(dir)? {
        let mut reader = BufReader::new(File::open(&file)?);
        let mut number = 0;
        loop {
            let mut line = Vec::new();
            let mut bounded = (&mut reader).take(LONGEST as u64 + 1);
            if bounded.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let mut tell = |what: String| {
                if verdict.breaks.len() < MOST_BREAKS {
                    verdict.breaks.push(Break {
                        file: file.clone(),
                        line: number,
                        what,
                    });
                }
            };
            let Some(line) = line.strip_suffix(b"\n") else {
                tell("the line has no end".to_owned());
                break;
            };
            let text = String::from_utf8_lossy(line);
            let (entry, hash) = match Entry::open(&text) {
                Ok(opened) => opened,
                Err(bad) => {
                    tell(bad.to_string());
                    // What follows is judged by itself.
                    before = None;
                    continue;
                }
            };
            if let Some(what) = joint(before, &entry, head, verdict.entries == 0) {
                tell(what);
            }
            before = Some((entry.n, hash));
            verdict.entries += 1;
            verdict.first.get_or_insert(entry.n);
            verdict.last = Some(entry.n);
            if !each(&entry) {
                return Ok(verdict);
            }
        }
    }
    if let Some(what) = end(before, verdict.last, head) {
        verdict.breaks.push(Break {
            file: dir.join(super::HEAD),
            line: 0,
            what,
        });
    }
    Ok(verdict)
}

/// Whether `entry` goes on where the one before it ended.
fn joint(
    before: Option<(u64, Hash)>,
    entry: &Entry,
    head: Option<Head>,
    is_first: bool,
) -> Option<String> {
    match (before, head) {
        (Some((n, _)), _) if entry.n > n + 1 => Some(missing(n + 1, entry.n - 1)),
        (Some((n, _)), _) if entry.n != n + 1 => Some(format!(
            "entry {} stands after entry {n}: it was moved or is there twice",
            entry.n
        )),
        (Some((n, hash)), _) if entry.prev != hash => Some(format!(
            "entry {} does not go on from entry {n} that stands before it",
            entry.n
        )),
        (None, Some(head)) if is_first && entry.n > head.first => {
            Some(missing(head.first, entry.n - 1))
        }
        _ => None,
    }
}

fn end(before: Option<(u64, Hash)>, last: Option<u64>, head: Option<Head>) -> Option<String> {
    match (last, head) {
        (Some(_), None) => Some("there is no record of where the log ends".to_owned()),
        (None, Some(head)) if head.last > 0 => Some(missing(head.first, head.last)),
        (Some(last), Some(head)) if last < head.last => Some(missing(last + 1, head.last)),
        (Some(last), Some(head)) if last == head.last => match before {
            Some((_, hash)) if hash != head.hash => {
                Some(format!("entry {last} is not the one that was written last"))
            }
            _ => None,
        },
        _ => None,
    }
}

fn missing(from: u64, to: u64) -> String {
    match from == to {
        true => format!("entry {from} is missing"),
        false => format!("entries {from} to {to} are missing"),
    }
}
