//! Servers that want a port of their own: what each is started with, when it
//! is ready, how it ends.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::common::*;

/// A server that runs before its clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// HTTP/2 without TLS.
    H2c,
    /// HTTP/2 over TLS.
    H2,
    Postgres,
    Redis,
    Mosquitto,
    DnsEast,
    Dns,
    Socks,
}

/// In the order of their ports.
pub const BACKENDS: [Backend; 8] = [
    Backend::H2c,
    Backend::H2,
    Backend::Postgres,
    Backend::Redis,
    Backend::Mosquitto,
    Backend::DnsEast,
    Backend::Dns,
    Backend::Socks,
];

/// What tells the requests of the servers behind relays, in the order of [`BACKENDS`].
pub const RULES: [&str; 8] = [
    "http2 = true",
    "tls = { sni = \"h2.test\", alpn = \"h2\" }",
    "postgres = true",
    "redis = true",
    "mqtt = true",
    "dns.name = \"**.east.test\"",
    "dns = true, priority = -1",
    "socks = 5",
];

/// Absolute, there or not: a test that needs it has asked before.
#[must_use]
pub fn program(name: &str) -> String {
    let found = find(name).unwrap_or_else(|| Path::new("/usr/bin").join(name));
    found.to_str().expect("UTF-8").to_owned()
}

/// A server behind a relay, ended by its own number.
#[derive(Debug)]
pub struct Running {
    child: Child,
    end: Signal,
    log: String,
}

impl Running {
    #[must_use]
    pub fn start(dir: &Dir, backend: Backend, port: u16) -> Self {
        let home = home(dir, backend);
        let log = format!("{home}/log");
        let words = words(dir, backend, &home, port);
        let output = File::create(&log).expect("unable to create a log");
        let mut command = ordinary(&words);
        let child = command
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("unable to clone a descriptor"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|err| panic!("unable to start {words:?}: {err}"));
        let end = match backend {
            // Without a checkpoint: nobody needs the data again.
            Backend::Postgres => Signal::SIGQUIT,
            _ => Signal::SIGTERM,
        };
        let mut running = Self { child, end, log };
        runner::remember(running.pid());
        until(&format!("{backend:?}"), Duration::from_secs(30), || {
            let ended = running.child.try_wait().expect("unable to wait");
            assert!(ended.is_none(), "{backend:?} has ended: {}", running.said());
            let listens = Peer::try_tcp(port).is_ok();
            // It listens before it lets anybody in.
            let waits = backend == Backend::Postgres && !running.said().contains("ready to accept");
            (listens && !waits).then_some(())
        });
        running
    }

    fn pid(&self) -> Pid {
        Pid::try_from(self.child.id()).expect("a pid is positive")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            runner::note(&format!("--- {}\n{}", self.log, self.said()));
        }
        process::kill(self.pid(), self.end);
        if let Ok(pidfd) = usherd::sys::process::pidfd_open(self.pid()) {
            // Readable when it has ended (pidfd_open(2)).
            let mut end = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(SOON).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut end, limit);
        }
        let _ = self.child.kill(); // no harm to one that has ended
        let _ = self.child.wait();
        runner::forget(self.pid());
    }
}

/// A folder that belongs to whom the server runs as.
fn home(dir: &Dir, backend: Backend) -> String {
    let home = dir.file(&format!("of-{backend:?}").to_lowercase());
    fs::create_dir(&home).expect("unable to create a folder");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("unable to set a mode");
    give(&home);
    home
}

fn give(path: &str) {
    if as_root() {
        let nobody = nix::unistd::User::from_name("nobody").ok().flatten();
        let nobody = nobody.expect("there is a nobody");
        nix::unistd::chown(path, Some(nobody.uid), Some(nobody.gid)).expect("unable to give");
    }
}

/// A command as an ordinary user, because some refuse to run as root.
fn ordinary(words: &[String]) -> Command {
    let mut command = if as_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        command.args(words);
        command
    } else {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    };
    command.env("LC_ALL", "C");
    command
}

fn words(dir: &Dir, backend: Backend, home: &str, port: u16) -> Vec<String> {
    let text = match backend {
        Backend::H2c => format!(
            "{} -a 127.0.0.1 -d {} --no-tls {port}",
            program("nghttpd"),
            dir.file("h2c")
        ),
        Backend::H2 => format!(
            "{} -a 127.0.0.1 -d {} {port} {} {}",
            program("nghttpd"),
            dir.file("h2"),
            dir.file("h2.key"),
            dir.file("h2.crt")
        ),
        Backend::Postgres => cluster(dir, home, port),
        Backend::Redis => format!(
            "{} --port {port} --bind 127.0.0.1 --appendonly no --dir {home}",
            program("redis-server")
        ),
        Backend::Mosquitto => {
            let config = dir.write(
                "mosquitto.conf",
                format!("listener {port} 127.0.0.1\nallow_anonymous true\n"),
            );
            format!("{} -c {config}", program("mosquitto"))
        }
        Backend::DnsEast => dnsmasq(home, port, "192.0.2.7"),
        Backend::Dns => dnsmasq(home, port, "198.51.100.7"),
        Backend::Socks => format!("{} -i 127.0.0.1 -p {port}", program("microsocks")),
    };
    text.split(' ').map(str::to_owned).collect()
}

/// Answers every question about an address with the same one.
fn dnsmasq(home: &str, port: u16, answer: &str) -> String {
    format!(
        "{} --keep-in-foreground --port={port} --listen-address=127.0.0.1 --bind-interfaces \
         --no-resolv --no-hosts --conf-file=/dev/null --pid-file={home}/pid --address=/#/{answer}",
        program("dnsmasq")
    )
}

/// The folder of Debian's newest PostgreSQL, whose servers are in no PATH.
#[must_use]
pub fn postgres_folder() -> Option<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<_> = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    folders.sort_unstable();
    Some(folders.pop()?.to_str()?.to_owned())
}

/// Makes a cluster of the test's own; the command that serves it.
fn cluster(dir: &Dir, home: &str, port: u16) -> String {
    let bin = postgres_folder().expect("somebody has asked whether there is one");
    let make =
        format!("{bin}/initdb -D {home}/data -A trust -U tester --no-sync -E UTF8 --locale=C");
    let make: Vec<String> = make.split(' ').map(str::to_owned).collect();
    let made = ordinary(&make).output().expect("unable to run initdb");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    // A key that others may read is refused.
    let key = format!("{home}/key");
    fs::copy(dir.file("h2.key"), &key).expect("unable to copy a key");
    set_mode(Path::new(&key), 0o600);
    give(&key);
    format!(
        "{bin}/postgres -D {home}/data -p {port} -c listen_addresses=127.0.0.1 \
         -c unix_socket_directories= -c fsync=off -c ssl=on -c ssl_key_file={key} \
         -c ssl_cert_file={}",
        dir.file("h2.crt")
    )
}
