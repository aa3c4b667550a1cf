//! Where a command speaks: to the daemon by its sockets, to the operator by
//! stdout, as text for a terminal or a pipe, or as JSON.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::grid::{Grid, Paint};
use crate::control::client::{Client, ClientError};
use crate::control::{ADMIN, ADMIN_SOCKET, Interface, STATUS, STATUS_SOCKET};
use crate::logging::is_unsafe;

/// The runtime directory of the host's own usherd.
const SYSTEM_DIR: &str = "/run/usherd";

#[derive(Clone, Debug)]
pub struct Console {
    pub json: bool,
    pub colours: bool,
    /// Of the terminal; text for a pipe is as wide as it is.
    pub width: Option<usize>,
    /// Runtime directories, in the order they are looked at.
    dirs: Vec<PathBuf>,
}

impl Console {
    /// As the environment has it.
    #[must_use]
    pub fn new(runtime_dir: Option<PathBuf>, json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(io::stdout());
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let root = nix::unistd::Uid::effective().is_root();
        Self {
            json,
            colours: terminal && !json && !dumb && set("NO_COLOR").is_none(),
            width: size
                .map(|(width, _)| usize::from(width.0))
                .filter(|width| *width > 0),
            dirs: runtime_dirs(runtime_dir, root, set("XDG_RUNTIME_DIR").map(PathBuf::from)),
        }
    }

    /// The socket of `org.usherd.Status`.
    pub fn status(&self) -> Result<Link, Failure> {
        self.connect(STATUS, STATUS_SOCKET)
    }

    /// The socket of `org.usherd.Admin`.
    pub fn admin(&self) -> Result<Link, Failure> {
        self.connect(ADMIN, ADMIN_SOCKET)
    }

    /// The first of the directories that has the socket. One that nobody
    /// listens on any more counts: its daemon is meant, and it is not running.
    fn connect(&self, interface: Interface, socket: &str) -> Result<Link, Failure> {
        let paths: Vec<PathBuf> = self.dirs.iter().map(|dir| dir.join(socket)).collect();
        let mut missing = io::Error::from(ErrorKind::NotFound);
        for (at, path) in paths.iter().enumerate() {
            match Client::connect(path) {
                Ok(client) => {
                    let path = path.clone();
                    return Ok(Link {
                        client,
                        path,
                        interface,
                    });
                }
                Err(ClientError::Connect(err)) if err.kind() == ErrorKind::NotFound => {
                    missing = err;
                }
                // With those before it, which may be where it was thought to be.
                Err(ClientError::Connect(err)) if err.kind() == ErrorKind::ConnectionRefused => {
                    return Err(Failure::not_there(&paths[..=at], &err));
                }
                Err(err) => return Err(Failure::of_call(path, err)),
            }
        }
        Err(Failure::not_there(&paths, &missing))
    }

    /// To stdout.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        done.map_err(|err| Failure::of_output(&err))
    }

    /// A JSON document to stdout.
    pub fn say_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.put_json(serde_json::to_string_pretty(value))
    }

    /// A JSON document of a stream: one line.
    pub fn say_json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.put_json(serde_json::to_string(value))
    }

    fn put_json(&self, text: Result<String, serde_json::Error>) -> Result<(), Failure> {
        match text {
            Ok(text) => self.say(&(escape_json(&text) + "\n")),
            Err(err) => Err(Failure::new(
                crate::error::Exit::System,
                format!("unable to write JSON: {err}"),
            )),
        }
    }

    /// `value` as JSON if that is wanted, else `text` of it.
    pub fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            self.say_json(value)
        } else {
            self.say(&text(value))
        }
    }

    /// A grid as wide as the terminal.
    #[must_use]
    pub fn grid(&self, grid: &Grid) -> String {
        grid.render(self.width, self.colours)
    }

    #[must_use]
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        paint.on(text, self.colours)
    }
}

/// A connection to one of the sockets.
#[derive(Debug)]
pub struct Link {
    client: Client,
    path: PathBuf,
    interface: Interface,
}

impl Link {
    /// Calls a method of the socket's interface.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<T, Failure> {
        let method = format!("{}.{method}", self.interface.name);
        let reply = self.client.call(&method, parameters);
        reply.map_err(|err| Failure::of_call(&self.path, err))
    }

    /// Calls a method with many replies; `each` is given them as they come.
    pub fn watch<T: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let method = format!("{}.{method}", self.interface.name);
        let failure = |err| Failure::of_call(&self.path, err);
        self.client.watch(&method, parameters).map_err(failure)?;
        loop {
            let (reply, more) = self.client.next_reply().map_err(failure)?;
            each(reply)?;
            if !more {
                return Ok(());
            }
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where usherd may have its sockets: what is asked for and nothing else, or
/// what it takes by itself.
fn runtime_dirs(given: Option<PathBuf>, root: bool, xdg: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given];
    }
    let own = xdg.filter(|_| !root).map(|dir| dir.join("usherd"));
    own.into_iter().chain([PathBuf::from(SYSTEM_DIR)]).collect()
}

/// JSON leaves some characters as they are that a terminal takes for orders.
fn escape_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Those below space are the line ends between values; in strings they
        // are escaped already. Every other one lies in the basic plane.
        if c >= ' ' && is_unsafe(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_usherd_of_his_own_before_that_of_the_host() {
        let dirs = |given: Option<&str>, root, xdg: Option<&str>| {
            let dirs = runtime_dirs(given.map(PathBuf::from), root, xdg.map(PathBuf::from));
            let shown: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            shown.join(" ")
        };
        assert_eq!(dirs(Some("/x"), false, Some("/run/user/7")), "/x");
        assert_eq!(
            dirs(None, false, Some("/run/user/7")),
            "/run/user/7/usherd /run/usherd"
        );
        assert_eq!(dirs(None, true, Some("/run/user/0")), "/run/usherd");
        assert_eq!(dirs(None, false, None), "/run/usherd");
    }

    #[test]
    fn a_socket_nobody_listens_on_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (own, host) = (dir.path().join("own"), dir.path().join("host"));
        for dir in [&own, &host] {
            std::fs::create_dir(dir).unwrap();
        }
        let console = Console {
            json: false,
            colours: false,
            width: None,
            dirs: vec![own.clone(), host.clone()],
        };
        let failure = console.status().unwrap_err();
        assert!(failure.text.contains("own/status.sock or "), "{failure:?}");

        let _served = std::os::unix::net::UnixListener::bind(host.join("status.sock")).unwrap();
        assert_eq!(console.status().unwrap().path(), host.join("status.sock"));

        std::fs::remove_file(host.join("status.sock")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(host.join("status.sock")).unwrap());
        let failure = console.status().unwrap_err();
        assert!(failure.text.contains("own/status.sock or "), "{failure:?}");

        drop(std::os::unix::net::UnixListener::bind(own.join("status.sock")).unwrap());
        let failure = console.status().unwrap_err();
        assert!(!failure.text.contains("host"), "{failure:?}");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_json() {
        let value = serde_json::json!({"text": "\u{1b}[2J \u{9b}1m \u{7f} \u{202e} 雪"});
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && is_unsafe(c)), "{text}");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back, value);
    }
}
