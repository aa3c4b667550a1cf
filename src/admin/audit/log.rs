//! Appends to the log. What is not on the disk has not been written.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Hash, LONGEST, What};
use super::{CURRENT, HEAD, files, set_aside};

/// How large a file grows, and how many are kept beside the one that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets.
    pub max_size: u64,
    pub keep: usize,
}

/// Where the chain begins and ends, as the log itself cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The oldest entry that is kept.
    pub first: u64,
    /// The last one, and its hash.
    pub last: u64,
    pub hash: Hash,
}

/// The log, open for writing by this process alone.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    file: Flock<File>,
    /// Octets of whole entries in it.
    length: u64,
    /// The first entry of the file, once it has one.
    first_here: Option<u64>,
    head: Head,
    bounds: Bounds,
}

impl AuditLog {
    /// Opens the log in `dir`, which is made if it is not there, and writes that it did.
    /// Fails if another process has it open.
    pub fn open(dir: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let mut log = Self {
            dir: dir.to_owned(),
            file: open_current(dir)?,
            length: 0,
            first_here: None,
            head: Head {
                first: 1,
                last: 0,
                hash: Hash::default(),
            },
            bounds,
        };
        let torn = log.find_end()?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        log.append(What::Opened { version, torn })?;
        Ok(log)
    }

    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Writes an entry. When this returns it is on the disk; when it fails, nothing
    /// of it is. Returns its number.
    pub fn append(&mut self, what: What) -> io::Result<u64> {
        let is_full = self.length >= self.bounds.max_size && self.first_here.is_some();
        match self.is_current()? || is_full && self.is_rotating()? {
            true if is_full => self.rotate()?,
            true => {}
            false => self.begin_again()?,
        }
        self.write(what)
    }

    /// Somebody took the file away or put another in its place, as editors do. What was in
    /// it can be gone; what comes is not to go the same way.
    fn begin_again(&mut self) -> io::Result<()> {
        let path = self.dir.join(CURRENT);
        log::error!(
            "{} is not the file any more that was written to",
            path.display()
        );
        self.file = open_current(&self.dir)?;
        (self.length, self.first_here) = (self.file.metadata()?.len(), None);
        let torn = self.find_end()?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.write(What::Opened { version, torn }).map(drop)
    }

    fn write(&mut self, what: What) -> io::Result<u64> {
        let entry = Entry {
            n: self.head.last + 1,
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            prev: self.head.hash,
            what,
        };
        let (mut line, hash) = entry.seal();
        line.push('\n');
        if line.len() > LONGEST {
            return Err(io::Error::other("the entry is too long"));
        }
        let written = (&*self.file)
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(err) = written {
            // Half an entry would break the chain for good.
            self.file.set_len(self.length)?;
            return Err(err);
        }
        let head = Head {
            last: entry.n,
            hash,
            ..self.head
        };
        if let Err(err) = replace(&self.dir, &head) {
            self.file.set_len(self.length)?;
            return Err(err);
        }
        self.head = head;
        self.length += line.len() as u64;
        self.first_here.get_or_insert(entry.n);
        Ok(entry.n)
    }

    /// Sets the file aside and begins a new one, which goes on with the same chain. If
    /// there is no room for a new one, the next try goes on from there.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(first) = self.first_here else {
            return Ok(());
        };
        // Once alone: what a try that failed left behind is not to take the place of the entries.
        if self.is_current()? {
            fs::rename(self.dir.join(CURRENT), set_aside(&self.dir, first))?;
        }
        self.file = open_current(&self.dir)?;
        self.length = self.file.metadata()?.len();
        self.first_here = first_entry(&self.dir.join(CURRENT))?;
        let aside = files(&self.dir)?;
        let old = aside.len().saturating_sub(self.bounds.keep + 1);
        for (file, next) in aside.iter().zip(aside.iter().skip(1)).take(old) {
            // Told first: a file that is gone without a word would look like theft.
            let last = first_entry(next)?.map_or(self.head.last, |first| first - 1);
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let first = std::mem::replace(&mut self.head.first, last + 1);
            let told = self.write(What::Dropped {
                file: name.into_owned(),
                last,
            });
            if let Err(err) = told {
                self.head.first = first;
                return Err(err);
            }
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Whether the file that is open was set aside, and no entry was written since.
    fn is_rotating(&self) -> io::Result<bool> {
        let aside = self.first_here.map(|first| set_aside(&self.dir, first));
        let aside = aside.and_then(|aside| fs::symlink_metadata(aside).ok());
        let open = self.file.metadata()?;
        Ok(aside.is_some_and(|aside| (aside.dev(), aside.ino()) == (open.dev(), open.ino())))
    }

    /// Whether the file that is open is still the one of the name [`CURRENT`].
    fn is_current(&self) -> io::Result<bool> {
        let named = match fs::symlink_metadata(self.dir.join(CURRENT)) {
            Ok(named) => named,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(err),
        };
        let open = self.file.metadata()?;
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    /// Finds the last whole entry. Returns the octets of half an entry after it, which are cut off.
    fn find_end(&mut self) -> io::Result<Option<u64>> {
        if let Some(head) = read_head(&self.dir)? {
            self.head = head;
        }
        let length = self.file.metadata()?.len();
        self.first_here = first_entry(&self.dir.join(CURRENT))?;
        let tail_from = length.saturating_sub(2 * LONGEST as u64);
        let mut tail = Vec::new();
        (&*self.file).seek(SeekFrom::Start(tail_from))?;
        (&*self.file)
            .take(length - tail_from)
            .read_to_end(&mut tail)?;
        let whole = tail
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        self.length = length - torn;
        if torn > 0 {
            self.file.set_len(self.length)?;
        }
        let last = tail[..whole].strip_suffix(b"\n").unwrap_or_default();
        let last = last.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let last = std::str::from_utf8(last)
            .ok()
            .and_then(|l| Entry::open(l).ok());
        // A crash between entry and head leaves the head one behind. Anything else
        // that does not fit is for `verify` to find: we go on where the head is.
        let here = last.as_ref().map_or(0, |(entry, _)| entry.n);
        let is_rotated = self.first_here.is_none() && files(&self.dir)?.len() > 1;
        if here < self.head.last && !is_rotated {
            let written = self.head.last;
            log::error!(
                "the audit log in {} ends with entry {here}, and {written} were written: \
                 see usherctl audit verify",
                self.dir.display()
            );
        }
        if let Some((entry, hash)) = last
            && entry.n > self.head.last
        {
            (self.head.last, self.head.hash) = (entry.n, hash);
        }
        Ok((torn > 0).then_some(torn))
    }
}

fn open_current(dir: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(dir.join(CURRENT))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{CURRENT} is no file")));
    }
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => io::Error::other("another usherd writes to it"),
        errno => errno.into(),
    })
}

/// `None`: there is none yet.
pub(super) fn read_head(dir: &Path) -> io::Result<Option<Head>> {
    match fs::read(dir.join(HEAD)) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|err| io::Error::other(format!("{HEAD}: {err}"))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// The number of the first entry of a file, if it has one.
fn first_entry(file: &Path) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    let reader = io::BufReader::new(File::open(file)?);
    io::BufRead::read_until(&mut reader.take(LONGEST as u64), b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or_default();
    let entry = std::str::from_utf8(line).ok().map(Entry::open);
    Ok(entry.and_then(Result::ok).map(|(entry, _)| entry.n))
}

/// The new head, whole or not at all.
fn replace(dir: &Path, head: &Head) -> io::Result<()> {
    let beside = dir.join(format!(".{HEAD}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(head)?)?;
    file.sync_data()?;
    fs::rename(beside, dir.join(HEAD))
}
