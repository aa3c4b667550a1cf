//! Varlink on two Unix sockets: what usherd tells and what it lets itself be told.
//!
//! A message is a JSON object ended by a NUL octet; a reply goes to each call in
//! the order of the calls (<https://varlink.org>). `org.usherd.Status` is served
//! by the front on `status.sock`, `org.usherd.Admin` by the helper on
//! `admin.sock`; both describe themselves by `org.varlink.service`.
//!
//! - [`frame`]: octets into messages, bounded
//! - [`message`]: calls, replies, errors
//! - [`types`]: what the interfaces speak of
//! - [`introspect`][]: `org.varlink.service`
//! - [`server`], [`connection`] and `room`: many callers, none of whom can hold the loop
//! - [`caller`]: who calls
//! - [`client`]: the other end, for `usherctl`
//!
//! A caller is known by what the kernel says of its socket, and a byte of it is
//! parsed only if it may ask for anything at all.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

pub mod caller;
pub mod client;
pub mod connection;
pub mod frame;
pub mod introspect;
pub mod message;
mod room;
pub mod server;
pub mod types;

/// Names of the sockets in the runtime directory.
pub const STATUS_SOCKET: &str = "status.sock";
pub const ADMIN_SOCKET: &str = "admin.sock";

/// An interface and its definition.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    pub name: &'static str,
    pub text: &'static str,
    /// Callers that wait for the answer to a call beyond the room for all callers; of one
    /// user a quarter of it.
    pub waiting: usize,
}

pub const STATUS: Interface = Interface {
    name: "org.usherd.Status",
    text: include_str!("org.usherd.Status.varlink"),
    waiting: 0,
};

pub const ADMIN: Interface = Interface {
    name: "org.usherd.Admin",
    text: include_str!("org.usherd.Admin.varlink"),
    // Operations take their time, and many may wait for theirs.
    waiting: 4096,
};

/// Between the helper and an administrative server, on no socket.
pub const OPERATION: Interface = Interface {
    name: "org.usherd.Operation",
    text: include_str!("org.usherd.Operation.varlink"),
    waiting: 0,
};

/// The longest path that the address of a Unix socket holds (unix(7), `sun_path`), without its NUL.
const LONGEST_PATH: usize = 107;

/// A path for an address that stands for `path`: the same, or one through a
/// descriptor of its folder where that is too long. It is good as long as the
/// descriptor is kept.
pub fn socket_path(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok((path.to_owned(), None));
    }
    let (folder, name) = (path.parent(), path.file_name());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open(folder.unwrap_or(Path::new("/")), flags, Mode::empty())?;
    let mut short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    short.extend(name);
    Ok((short, Some(folder)))
}
