//! Local lists of addresses, `{state_dir}/lists/NAME`, that `allow` and `deny` of
//! services name as `"list:NAME"`. A line is a prefix, and when it ends (seconds since
//! 1970) if it does; `#` begins a comment, that of a line says who put it there.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::table::Table;
use crate::table::access::{List, Prefix};

pub const FOLDER: &str = "lists";
/// Of one list: each is asked about for every connection, and goes to every front.
pub const MOST: usize = 200_000;
/// Octets of a file with as many lines.
const LONGEST: u64 = 32 << 20;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub prefix: Prefix,
    /// Seconds since 1970; `None` is for good.
    pub until: Option<u64>,
    /// The comment behind it: `"service mail"`, `"uid 0"`, or what somebody wrote by hand.
    pub by: Option<String>,
}

impl Listed {
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// Lines of a text that hold; the error names the line that makes no sense.
pub fn parse(text: &str, now: u64) -> Result<Vec<Listed>, String> {
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (line, comment) = line.split_once('#').unwrap_or((line, ""));
        let comment = Some(comment.trim()).filter(|comment| !comment.is_empty());
        let by = comment.map(str::to_owned);
        let mut words = line.split_whitespace();
        let Some(word) = words.next() else { continue };
        let bad = || format!("line {} is no prefix with, at most, its end", number + 1);
        let prefix = word.parse().map_err(|_| bad())?;
        let until = words
            .next()
            .map(str::parse)
            .transpose()
            .map_err(|_| bad())?;
        if words.next().is_some() {
            return Err(bad());
        }
        all.extend(Some(Listed { prefix, until, by }).filter(|one| one.holds(now)));
        if all.len() > MOST {
            return Err(format!("it has more than {MOST} lines"));
        }
    }
    Ok(all)
}

#[must_use]
pub fn show(all: &[Listed]) -> String {
    let mut text = String::new();
    for Listed { prefix, until, by } in all {
        let until = until.map(|until| format!(" {until}")).unwrap_or_default();
        let by = by.as_ref().map(|by| format!(" # {by}")).unwrap_or_default();
        let _ = writeln!(text, "{prefix}{until}{by}");
    }
    text
}

/// What holds of a list; one that is not there is empty.
pub fn read(state_dir: &Path, name: &str, now: u64) -> io::Result<Vec<Listed>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(file(state_dir, name));
    let file = match file {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let about = file.metadata()?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(io::Error::other("it is no file, or too long"));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    let path = self::file(state_dir, name);
    parse(&text, now).map_err(|why| io::Error::other(format!("{}: {why}", path.display())))
}

/// Whole or not at all.
pub fn write(state_dir: &Path, name: &str, all: &[Listed]) -> io::Result<()> {
    let file = file(state_dir, name);
    let beside = file.with_extension("new"); // no list has a dot in its name
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    new.write_all(show(all).as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)
}

fn file(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(FOLDER).join(name)
}

/// Fills in what the lists of a table hold now. Returns when the first line of one
/// ends, in seconds since 1970, and what went wrong. A list that cannot be read keeps
/// what it had in `before`.
pub fn fill(
    table: &mut Table,
    before: Option<&Table>,
    state_dir: Option<&Path>,
) -> (Option<u64>, Vec<String>) {
    let now = unix_now();
    let mut read_already: Vec<List> = Vec::new();
    let mut first_end: Option<u64> = None;
    let mut troubles = Vec::new();
    for service in &mut table.services {
        let access = &mut service.rules.access;
        for list in access.allow_lists.iter_mut().chain(&mut access.deny_lists) {
            if let Some(known) = read_already.iter().find(|known| known.name == list.name) {
                *list = known.clone();
                continue;
            }
            match state_dir.map_or(Ok(Vec::new()), |dir| read(dir, &list.name, now)) {
                Ok(all) => {
                    let ends = all.iter().filter_map(|one| one.until);
                    first_end = ends.chain(first_end).min();
                    list.set(all.iter().map(|one| one.prefix).collect());
                }
                Err(err) => {
                    let name = &list.name;
                    let trouble = format!("unable to read list:{name}: {err}; it stays as it was");
                    log::error!("{trouble}");
                    troubles.push(trouble);
                    let old = before.and_then(|table| find(table, name));
                    list.clone_from(&old.unwrap_or_else(|| List::named(name.clone())));
                }
            }
            read_already.push(list.clone());
        }
    }
    (first_end, troubles)
}

fn find(table: &Table, name: &str) -> Option<List> {
    let mut lists = table.services.iter().flat_map(|service| {
        let access = &service.rules.access;
        access.allow_lists.iter().chain(&access.deny_lists)
    });
    lists.find(|list| list.name == name).cloned()
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let text = "# by hand\n192.0.2.0/24\n\n2001:db8::/32 100  # for a while\n";
        let all = parse(text, 99).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].by.as_deref(), Some("for a while"));
        assert_eq!(parse(&show(&all), 99), Ok(all.clone()));
        assert_eq!(parse(text, 100).unwrap(), all[..1]);
        for bad in ["x", "192.0.2.1/24", "192.0.2.0/24 x", "192.0.2.0/24 1 2"] {
            let why = parse(&format!("\n{bad}\n"), 0).unwrap_err();
            assert!(why.contains("line 2"), "{why}");
        }
    }

    #[test]
    fn a_list_is_replaced_whole_and_one_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), "a", 0).unwrap(), []);
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let all = parse("192.0.2.0/24 9\n", 0).unwrap();
        write(dir.path(), "a", &all).unwrap();
        assert_eq!(read(dir.path(), "a", 0).unwrap(), all);
        assert_eq!(read(dir.path(), "a", 9).unwrap(), []);
    }
}
