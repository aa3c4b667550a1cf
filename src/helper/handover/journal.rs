//! The servers that run, in a file of the runtime directory (`instances`), for
//! a usherd that is started while they do: after a restart, or when this one
//! has been killed. A line for each start and each end, written once a turn.
//!
//! A number of a process may have gone to another since. The server that is
//! meant was there before its line was, and leads its session; whoever has its
//! number later was started after that.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{FORMAT, InstanceState};
use crate::ids::InstanceId;
use crate::sys::clock::since_boot;

const NAME: &str = "instances";
/// It is written anew when it is as long, and mostly about servers that are gone.
const LONG: u64 = 1 << 20;

/// A server, and when its line was written (microseconds since the boot).
#[derive(Debug, Serialize, Deserialize)]
pub struct Noted {
    pub instance: InstanceState,
    at: u64,
}

impl Noted {
    fn now(instance: InstanceState) -> Self {
        let at = u64::try_from(since_boot().as_micros()).unwrap_or(u64::MAX);
        Self { instance, at }
    }

    /// Whether a process that began then, and is in that session, is the one.
    #[must_use]
    pub fn is(&self, began: Duration, session: i32) -> bool {
        /// What /proc/PID/stat counts in.
        const TICK: Duration = Duration::from_millis(10);
        began <= Duration::from_micros(self.at) + TICK && session == self.instance.pid
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// What it is good for: this boot, and this numbering of processes.
    For {
        format: u32,
        boot: String,
        pids: u64,
    },
    Start(Box<Noted>),
    End(InstanceId),
}

/// The file of this usherd.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// Lines of servers that run, to write the file anew with.
    running: BTreeMap<InstanceId, Vec<u8>>,
    /// Those whose line is not in the file yet.
    new: BTreeSet<InstanceId>,
    /// Lines of ends that are not in the file yet.
    ends: Vec<u8>,
    failed: bool,
}

impl Journal {
    /// A new one; and the servers that the one before it says run.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<Noted>)> {
        let path = dir.join(NAME);
        let before = fs::read(&path).map(|text| read(&text)).unwrap_or_default();
        let running = BTreeMap::new();
        let (file, length) = write_anew(&path, &running)?;
        let journal = Self {
            path,
            file,
            length,
            running,
            new: BTreeSet::new(),
            ends: Vec::new(),
            failed: false,
        };
        Ok((journal, before))
    }

    pub fn started(&mut self, instance: InstanceState) {
        let id = instance.id;
        let line = encode(&Line::Start(Box::new(Noted::now(instance))));
        self.running.insert(id, line);
        self.new.insert(id);
    }

    pub fn ended(&mut self, id: InstanceId) {
        // Of one that came and went in one turn nothing is said.
        if self.running.remove(&id).is_some() && !self.new.remove(&id) {
            self.ends.extend(encode(&Line::End(id)));
        }
    }

    /// Writes what has happened in this turn.
    pub fn flush(&mut self) {
        if self.new.is_empty() && self.ends.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.ends);
        for id in std::mem::take(&mut self.new) {
            lines.extend(self.running.get(&id).into_iter().flatten());
        }
        let written = self.file.write_all(&lines);
        self.length += lines.len() as u64;
        let living: usize = match self.length > LONG {
            true => self.running.values().map(Vec::len).sum(),
            false => usize::MAX,
        };
        let written = match written {
            Ok(()) if self.length > (living as u64).saturating_mul(4) => self.renew(),
            written => written,
        };
        match written {
            Err(err) if !std::mem::replace(&mut self.failed, true) => {
                let file = self.path.display();
                log::error!("unable to write {file}: {err}; a restart will not know all servers");
            }
            _ => {}
        }
    }

    fn renew(&mut self) -> io::Result<()> {
        (self.file, self.length) = write_anew(&self.path, &self.running)?;
        Ok(())
    }

    /// Nothing runs any more.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// In one go: whoever reads it finds the old one or the new one.
fn write_anew(path: &Path, running: &BTreeMap<InstanceId, Vec<u8>>) -> io::Result<(File, u64)> {
    let mut text = encode(&here()?);
    running.values().for_each(|line| text.extend(line));
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&new)?;
    file.write_all(&text)?;
    fs::rename(&new, path)?;
    Ok((file, text.len() as u64))
}

fn here() -> io::Result<Line> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(Line::For {
        format: FORMAT,
        boot: boot.trim().to_owned(),
        pids: fs::metadata("/proc/self/ns/pid")?.ino(),
    })
}

fn encode(line: &Line) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The servers that have started and not ended. A last line that is cut off is
/// none; a file of another boot, or format, says nothing.
fn read(text: &[u8]) -> Vec<Noted> {
    let lines = text.split_inclusive(|octet| *octet == b'\n');
    let mut lines = lines.map_while(|line| serde_json::from_slice::<Line>(line).ok());
    let is_ours = match (lines.next(), here()) {
        (
            Some(Line::For { format, boot, pids }),
            Ok(Line::For {
                format: our_format,
                boot: our_boot,
                pids: our_pids,
            }),
        ) => (format, boot, pids) == (our_format, our_boot, our_pids),
        _ => false,
    };
    let mut running = BTreeMap::new();
    for line in lines.take_while(|_| is_ours) {
        match line {
            Line::Start(noted) => drop(running.insert(noted.instance.id, *noted)),
            Line::End(id) => drop(running.remove(&id)),
            Line::For { .. } => {}
        }
    }
    running.into_values().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Instant;

    use super::super::state::Moment;
    use super::*;
    use crate::ids::{ConnectionId, ListenerId};
    use crate::table::Stop;

    fn instance(id: u64) -> InstanceState {
        InstanceState {
            id: InstanceId(id),
            pid: 4711,
            service: "cat".into(),
            connection: ConnectionId::new(1, id),
            listener: ListenerId(0),
            wait: false,
            source: None,
            peer: Some("192.0.2.7".parse().unwrap()),
            started: Moment::of(Instant::now()),
            stop: Stop::default(),
            stopping: false,
            alone: false,
            leaf: None,
            leaf_number: None,
            isolated: true,
        }
    }

    fn ids(noted: &[Noted]) -> Vec<u64> {
        noted.iter().map(|noted| noted.instance.id.0).collect()
    }

    #[test]
    fn who_runs_is_known_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, before) = Journal::open(dir.path()).unwrap();
        assert!(before.is_empty());
        for id in 1..=4 {
            journal.started(instance(id));
        }
        journal.ended(InstanceId(1)); // nobody has heard of it
        journal.flush();
        journal.ended(InstanceId(3));
        journal.flush();
        let (_, before) = Journal::open(dir.path()).unwrap();
        assert_eq!(ids(&before), [2, 4]);
        let (_, before) = Journal::open(dir.path()).unwrap();
        assert!(before.is_empty(), "the next one begins anew");
    }

    #[test]
    fn a_line_that_is_cut_off_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        for id in 1..=2 {
            journal.started(instance(id));
            journal.flush();
        }
        let path = dir.path().join(NAME);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(ids(&Journal::open(dir.path()).unwrap().1), [1]);
        fs::write(
            &path,
            "{\"For\":{\"format\":1,\"boot\":\"other\",\"pids\":1}}\n",
        )
        .unwrap();
        assert!(Journal::open(dir.path()).unwrap().1.is_empty());
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.started(instance(0));
        for id in 1..20_000 {
            journal.started(instance(id));
            journal.flush();
            journal.ended(InstanceId(id));
            journal.flush();
        }
        assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() < 2 * LONG);
        assert_eq!(ids(&Journal::open(dir.path()).unwrap().1), [0]);
    }

    #[test]
    fn who_came_later_is_another() {
        let noted = Noted::now(instance(1));
        let now = since_boot();
        assert!(noted.is(now - Duration::from_secs(1), 4711));
        assert!(!noted.is(now + Duration::from_secs(1), 4711));
        assert!(!noted.is(now - Duration::from_secs(1), 4712));
    }
}
