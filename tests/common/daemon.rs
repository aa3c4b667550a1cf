//! The daemon under test: its table, its log, its processes, its end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::process::{self, Pid};
use super::{Dir, SOON, as_root, runner, until};

/// The binary under test.
pub const USHERD: &str = env!("CARGO_BIN_EXE_usherd");

/// The lines a daemon has written so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Collects lines until the last writer has closed its end.
    fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        let read = move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.change(|lines| lines.lines.push(text));
                line.clear();
            }
            log.change(|lines| lines.ended = true);
        };
        thread::spawn(read);
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    /// How many lines there are: a place to look from later.
    #[must_use]
    pub fn mark(&self) -> usize {
        let lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.len()
    }

    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.join("\n")
    }

    /// How many lines contain every one of `words`.
    #[must_use]
    pub fn count(&self, words: &[&str]) -> usize {
        let lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.lines.iter().filter(|line| has(line, words)).count()
    }

    /// Waits for a line that contains `word`, anywhere in the log.
    pub fn wait_for(&self, word: &str) -> String {
        self.wait_after(0, &[word])
    }

    /// Waits for a line behind `mark` that contains every one of `words`.
    pub fn wait_after(&self, mark: usize, words: &[&str]) -> String {
        let found = self.find(SOON, |lines| {
            lines
                .iter()
                .skip(mark)
                .find(|line| has(line, words))
                .cloned()
        });
        found.unwrap_or_else(|| panic!("no line with {words:?} in the log"))
    }

    /// Waits until at least `count` lines contain every one of `words`.
    pub fn wait_count(&self, count: usize, words: &[&str]) {
        let found = self.find(SOON, |lines| {
            (lines.iter().filter(|line| has(line, words)).count() >= count).then_some(())
        });
        assert!(
            found.is_some(),
            "{} of {count} lines with {words:?} in the log",
            self.count(words)
        );
    }

    /// The same, and there are no more than that. A server may answer before
    /// the line about its start is written.
    pub fn wait_exactly(&self, count: usize, words: &[&str]) {
        self.wait_count(count, words);
        assert_eq!(self.count(words), count, "lines with {words:?}");
    }

    /// Sleeps on new lines until `choose` finds something, the log ends, or time is up.
    pub fn find<T>(
        &self,
        limit: Duration,
        mut choose: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let (lock, changed) = &*self.0;
        let mut lines = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = choose(&lines.lines);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || lines.ended || left.is_zero() {
                return found;
            }
            (lines, _) = changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn has(line: &str, words: &[&str]) -> bool {
    words.iter().all(|word| line.contains(word))
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Setup<'a> {
    dir: &'a Dir,
    table: String,
    /// A program and its arguments that execute the daemon, such as prlimit(1).
    through: Vec<String>,
    env: Vec<(String, String)>,
    cleared: bool,
    program: String,
}

impl<'a> Setup<'a> {
    /// A daemon with these services. What every table of the tests needs is
    /// put before them: as root, the accounts of the front and the servers.
    #[must_use]
    pub fn new(dir: &'a Dir, services: &str) -> Self {
        Self::raw(dir, &table(dir, services))
    }

    /// A daemon with exactly this table.
    #[must_use]
    pub fn raw(dir: &'a Dir, table: &str) -> Self {
        Self {
            dir,
            table: table.to_owned(),
            through: Vec::new(),
            env: Vec::new(),
            cleared: false,
            program: USHERD.to_owned(),
        }
    }

    /// Has `words` execute the daemon.
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Another file than the binary under test, such as a copy of it.
    #[must_use]
    pub fn program(mut self, path: &str) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it serves.
    #[must_use]
    pub fn start(self) -> Daemon {
        let daemon = self.begin();
        daemon.wait_ready();
        daemon
    }

    /// Starts it and returns at once.
    #[must_use]
    pub fn begin(self) -> Daemon {
        let config = self.dir.write("usherd.toml", &self.table);
        let mut words = self.through;
        words.extend([&self.program, "--config", &config].map(str::to_owned));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .envs(self.env)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("unable to start {words:?}: {err}"));
        let pid = Pid::try_from(child.id()).expect("a pid is positive");
        runner::remember(pid);
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        let ended = Arc::new((Mutex::new(None), Condvar::new()));
        let tell = Arc::clone(&ended);
        thread::spawn(move || {
            // Seen before it is reaped: while the lock is held the number is still ours.
            let id = Id::Pid(nix::unistd::Pid::from_raw(pid));
            let _ = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let mut status = tell.0.lock().unwrap_or_else(PoisonError::into_inner);
            *status = child.wait().ok();
            runner::forget(pid);
            tell.1.notify_all();
        });
        Daemon {
            pid,
            config,
            log,
            ended,
        }
    }
}

/// A whole table: what the tests always need, and `services`.
#[must_use]
pub fn table(dir: &Dir, services: &str) -> String {
    let runtime = dir.file("run");
    // Most tests are about something else, and their servers are scripts in the
    // test's folder, which a sandbox would not show them.
    let accounts = if as_root() {
        "user = \"nobody\"\n\n[defaults]\nuser = \"nobody\"\nisolation = \"none\"\n"
    } else {
        "\n[defaults]\nisolation = \"none\"\n"
    };
    let state = dir.file("state");
    format!(
        "[daemon]\nruntime_dir = \"{runtime}\"\nstate_dir = \"{state}\"\n{accounts}\n{services}\n"
    )
}

type Ended = Arc<(Mutex<Option<ExitStatus>>, Condvar)>;

/// A running daemon. Stopped, by its process id, when dropped.
#[derive(Debug)]
pub struct Daemon {
    /// The process that was started: the helper.
    pub pid: Pid,
    /// The path of its table.
    pub config: String,
    pub log: Log,
    ended: Ended,
}

impl Daemon {
    /// Starts a daemon with these services and waits until it serves.
    #[must_use]
    pub fn start(dir: &Dir, services: &str) -> Self {
        Setup::new(dir, services).start()
    }

    pub fn wait_ready(&self) {
        let limit = Duration::from_secs(30);
        let is_ready = |line: &String| line.contains("ready: ");
        let found = self
            .log
            .find(limit, |lines| lines.iter().any(is_ready).then_some(()));
        assert!(found.is_some(), "usherd is not ready");
    }

    /// Signals the helper, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            process::kill(self.pid, signal);
        }
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        ended.is_none()
    }

    /// Waits for the end of the helper.
    #[must_use]
    pub fn wait_end(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let (lock, changed) = &*self.ended;
        let mut ended = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if ended.is_some() || left.is_zero() {
                return *ended;
            }
            (ended, _) = changed
                .wait_timeout(ended, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The exit code of a daemon that is expected to end soon.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let status = self.wait_end(SOON);
        status.expect("usherd has not ended").code()
    }

    /// The front: the child that says so in its command line.
    #[must_use]
    pub fn front(&self) -> Pid {
        until("a front", SOON, || {
            process::children(self.pid)
                .into_iter()
                .find(|&pid| process::is_alive(pid) && process::argv0(pid) == "usherd-front")
        })
    }

    /// Running servers and what they started: every descendant that is not
    /// usherd itself, as the front, keepers and parked children are.
    #[must_use]
    pub fn servers(&self) -> Vec<Pid> {
        // By what they call themselves: who is no root may not see their executables.
        const OURS: [&str; 4] = [
            "usherd-front",
            "usherd-keeper",
            "usherd-session",
            "usherd-probe",
        ];
        let line = |pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let own = line(self.pid);
        let is_ours = |line: &[u8]| {
            let mut ours = OURS.iter();
            line == own || ours.any(|name| line.starts_with(name.as_bytes()))
        };
        let mut found = process::descendants(self.pid);
        found.retain(|&pid| !is_ours(&line(pid)));
        found
    }

    /// Waits until exactly `count` processes run beside the front.
    pub fn wait_servers(&self, count: usize) -> Vec<Pid> {
        until(&format!("{count} servers"), SOON, || {
            let found = self.servers();
            (found.len() == count).then_some(found)
        })
    }

    /// Replaces the table (services only, as in [`Setup::new`]) and waits for
    /// the verdict: true if it was taken over.
    pub fn reload(&self, dir: &Dir, services: &str) -> bool {
        fs::write(&self.config, table(dir, services)).expect("unable to write the table");
        self.reload_as_it_is()
    }

    /// Asks for a reload of what is on disk and waits for the verdict.
    pub fn reload_as_it_is(&self) -> bool {
        let mark = self.log.mark();
        self.signal(Signal::SIGHUP);
        let verdict = self.log.find(SOON, |lines| {
            lines.iter().skip(mark).find_map(|line| {
                if line.contains("reload refused") {
                    Some(false)
                } else {
                    line.contains("reloaded").then_some(true)
                }
            })
        });
        verdict.expect("no verdict on the reload in the log")
    }

    /// Clock ticks that helper and front have used together.
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        process::cpu_ticks(self.pid) + process::cpu_ticks(self.front())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let failed = thread::panicking();
        let before = self.wait_end(Duration::ZERO);
        // Drain, and then do not wait for anybody. Two signals at once would be one.
        self.signal(Signal::SIGTERM);
        let is_stopping = |line: &String| line.contains("stopping");
        let heard = |lines: &[String]| lines.iter().any(is_stopping).then_some(());
        let _ = self.log.find(Duration::from_secs(2), heard);
        self.signal(Signal::SIGTERM);
        if self.wait_end(Duration::from_secs(10)).is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.wait_end(Duration::from_secs(5));
            runner::note("usherd did not end within 10 s of two SIGTERM and was killed");
            self.show(before);
            assert!(failed, "usherd did not end within 10 s of two SIGTERM");
        } else if failed {
            self.show(before);
        }
    }
}

impl Daemon {
    /// Adds table, log and end to the report of the test.
    fn show(&self, before: Option<ExitStatus>) {
        let table = fs::read(&self.config).unwrap_or_default();
        runner::note(&format!(
            "--- table\n{}\n--- log\n{}\n--- exit: {}",
            String::from_utf8_lossy(&table),
            self.log.text(),
            before.map_or("ran until stopped".to_owned(), |status| status.to_string()),
        ));
    }
}
