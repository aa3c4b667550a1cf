//! A network of a test's own: usherd at one end of a wire, a client at the other.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use usherd::control::client::ClientError;

use crate::common::*;

/// Two network namespaces with a wire between them: usherd is on one, a client on the other.
pub struct Wire {
    pub ours: String,
    pub theirs: String,
}

pub const SERVER: &str = "10.231.7.1";
pub const CLIENT: &str = "10.231.7.2";
pub const SERVER6: &str = "2001:db8:231::1";
pub const CLIENT6: &str = "2001:db8:231::2";

pub fn ip(words: &[&str]) -> bool {
    let ran = Command::new("ip")
        .args(words)
        .stderr(Stdio::null())
        .status();
    ran.is_ok_and(|status| status.success())
}

impl Wire {
    pub fn new() -> Self {
        needs_root();
        let _ = needs("ip", "iproute2");
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("ush{}x{number}", std::process::id());
        let wire = Self {
            ours: format!("{name}s"),
            theirs: format!("{name}c"),
        };
        let (ours, theirs) = (&*wire.ours, &*wire.theirs);
        if !ip(&["netns", "add", ours]) || !ip(&["netns", "add", theirs]) {
            skip("needs network namespaces");
        }
        let peer = ["peer", "name", "wire", "netns", theirs];
        let link = ["-n", ours, "link", "add", "wire", "type", "veth"];
        if !ip(&[&link[..], &peer].concat()) {
            skip("needs veth");
        }
        for (space, v4, v6) in [(ours, SERVER, SERVER6), (theirs, CLIENT, CLIENT6)] {
            let dev = ["dev", "wire"];
            let (v4, v6) = (format!("{v4}/24"), format!("{v6}/64"));
            assert!(ip(&["-n", space, "link", "set", "lo", "up"]));
            assert!(ip(&[&["-n", space, "addr", "add", &v4][..], &dev].concat()));
            assert!(ip(
                &[&["-n", space, "addr", "add", &v6, "nodad"][..], &dev].concat()
            ));
            assert!(ip(&["-n", space, "link", "set", "wire", "up"]));
        }
        wire
    }

    /// usherd on our end; `port` echoes, on all addresses.
    pub fn daemon(&self, dir: &Dir, port: u16) -> Daemon {
        let services = format!("[service.cat]\nlisten = \"tcp:{port}\"\nexec = [\"/bin/cat\"]\n");
        let through = ["ip", "netns", "exec", &self.ours];
        Setup::new(dir, &services).through(&through).start()
    }

    /// What happens to a client's connection.
    pub fn connect(&self, to: &str, port: u16) -> io::Result<TcpStream> {
        self.from(&self.theirs, to, port)
    }

    pub fn from(&self, space: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        let space = File::open(Path::new("/run/netns").join(space)).unwrap();
        let to = SocketAddr::new(to.parse().unwrap(), port);
        // A thread of its own, for it stays there.
        let thread = thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect_timeout(&to, Duration::from_millis(700))
        });
        thread.join().unwrap()
    }

    pub fn is_served(&self, to: &str, port: u16) {
        let what = format!("{to} answers");
        until(&what, SOON, || self.connect(to, port).ok());
    }

    pub fn is_dropped(&self, to: &str, port: u16) {
        let outcome = self.connect(to, port);
        let kind = outcome.map_err(|err| err.kind());
        assert_eq!(kind.err(), Some(io::ErrorKind::TimedOut), "{to}");
    }

    pub fn rules(&self) -> String {
        let listed = Command::new("ip")
            .args(["netns", "exec", &self.ours, "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for space in [&self.ours, &self.theirs] {
            ip(&["netns", "delete", space]);
        }
    }
}

pub fn done(outcome: Result<Value, ClientError>) -> Value {
    outcome.unwrap_or_else(|err| panic!("{err:?}"))
}
