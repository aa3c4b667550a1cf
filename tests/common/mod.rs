//! The harness: a folder per test, a daemon with a table of the test's own,
//! peers with deadlines, and what /proc says about the processes.
//!
//! Nothing here sleeps for a fixed time. A test waits for a line of the log
//! ([`Log::wait_for`]), for bytes on a socket ([`Peer`]), or for a state of
//! the host ([`until`]); each wait has a deadline.
// One crate uses all of this; the helpers that a run of tests does not need
// are still worth having for the next one.
#![allow(dead_code)]

pub mod browser;
pub mod daemon;
pub mod opening;
pub mod peer;
pub mod process;
pub mod runner;
pub mod steal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use daemon::{Daemon, Setup};
pub use peer::{Peer, UdpPeer};
pub use process::Pid;
pub use runner::{Skipped, Test};

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// Ends the test as skipped. Prints nothing itself: the runner does.
pub fn skip(why: impl Into<String>) -> ! {
    std::panic::resume_unwind(Box::new(Skipped(why.into())))
}

/// Whether the tests run with uid 0.
#[must_use]
pub fn as_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Skips the test unless it runs as root.
pub fn needs_root() {
    if !as_root() {
        skip("needs root");
    }
}

/// The path of a program, or the test is skipped: what of Debian's packages has it is said.
#[must_use]
pub fn needs(program: &str, package: &str) -> PathBuf {
    find(program).unwrap_or_else(|| skip(format!("needs {program} (package {package})")))
}

/// The path of a program: absolute, or looked up where servers are.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    ["", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_absolute() && path.is_file())
}

/// Polls a condition of the host until it holds. The only place that pauses:
/// for what cannot be waited for otherwise, such as a state in /proc.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A folder of the test's own, named after it, open to every user of the
/// host; removed unless the test failed.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    /// An empty folder for the test that runs on this thread.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir(), "")
    }

    /// Another one, which is not in a /tmp if we are root: a sandbox that shows a part of that is
    /// not made as others are.
    #[must_use]
    pub fn apart() -> Self {
        let place = match as_root() {
            true => PathBuf::from("/srv"),
            false => std::env::temp_dir(),
        };
        Self::below(&place, "-apart")
    }

    fn below(place: &Path, ending: &str) -> Self {
        let name = runner::current_test().replace("::", "-") + ending;
        let parent = place.join(format!("usherd-tests-{}", std::process::id()));
        let path = parent.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("unable to create the folder of the test");
        for folder in [&parent, &path] {
            set_mode(folder, 0o755);
        }
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the folder, as text for a table.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        let path = self.path.join(name);
        path.to_str().expect("test folders are UTF-8").to_owned()
    }

    /// Writes a file that everybody may read.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        fs::write(&path, content).expect("unable to write a file of the test");
        set_mode(Path::new(&path), 0o644);
        path
    }

    /// Writes a program: a script whose first line names its interpreter.
    pub fn script(&self, name: &str, content: &str) -> String {
        assert!(content.starts_with("#!"), "a script begins with #!");
        let draft = self.write(&format!("{name}.draft"), content);
        let path = self.file(name);
        copy_program(draft.as_ref(), path.as_ref());
        fs::remove_file(draft).expect("unable to remove a draft of the test");
        path
    }

    /// Makes a folder that every user may write to.
    pub fn open_folder(&self, name: &str) -> String {
        let path = self.file(name);
        fs::create_dir_all(&path).expect("unable to create a folder");
        set_mode(Path::new(&path), 0o777);
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            runner::note(&format!("left for a look: {}", self.path.display()));
        } else {
            let _ = fs::remove_dir_all(&self.path);
            // Goes when the last test's folder has gone.
            if let Some(parent) = self.path.parent() {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("unable to set a mode");
}

/// Copies a program, for all to run. A process of its own writes it: what this one has
/// open for writing, the children of other threads have too until they exec, and
/// execve(2) of it says ETXTBSY meanwhile.
pub fn copy_program(from: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).arg(from).arg(to).status();
    let status = status.expect("unable to run install(1)");
    assert!(status.success(), "unable to copy {}", from.display());
}

/// A port that is free for TCP and UDP, on IPv4 and IPv6, below the ports the
/// kernel gives to outgoing connections. No two calls return the same one.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Runs side by side begin at different places.
    let start = std::process::id().wrapping_mul(257);
    for _ in 0..COUNT {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(nth) % COUNT;
        let port = u16::try_from(port).expect("a port has 16 bits");
        let free = ["127.0.0.1", "0.0.0.0", "::"].iter().all(|host| {
            std::net::TcpListener::bind((*host, port)).is_ok()
                && std::net::UdpSocket::bind((*host, port)).is_ok()
        });
        if free {
            return port;
        }
    }
    panic!("no port is free");
}

/// Numbers that look random and are the same in every run (xorshift64*).
#[derive(Debug)]
pub struct Seeded(u64);

impl Seeded {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
