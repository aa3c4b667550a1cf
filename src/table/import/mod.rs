//! Tables of other super-servers in the words of ours.
//!
//! Each format has a reader that turns its entries into [`Draft`]s: keys of a
//! `[service.NAME]` with the source lines they come from, and a [`Note`] for
//! whatever does not mean the same here. What the formats have in common is
//! done once, for all of them: [`settle`] finds names and takes out what cannot
//! be served, [`write`] makes the table, [`report`] tells what became of what.
//! [`live`] does it at every load, for `[import]`. [`hosts`] reads hosts.allow and hosts.deny for daemons that ask tcpd or libwrap.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::complaint::{Complaint, Fault, Place, SourceFile};
use super::host::Host;

pub mod draft;
pub mod hosts;
pub mod inetd;
pub mod live;
mod ready;
pub mod report;
pub mod rlinetd;
pub mod settle;
pub mod systemd;
pub mod write;
pub mod xinetd;

pub use draft::{Draft, Effect, Imported, Note, Origin};

/// No old file is larger; a device or an endless pipe is.
const LARGEST_FILE: u64 = 16 << 20;

/// What a reader has to know besides its file.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    pub host: &'a Host,
    /// What tcpd and libwrap went by.
    pub hosts: &'a hosts::Rules,
    /// Whether inetd asked libwrap itself about all of its servers (Debian's `-l`).
    pub libwrap: bool,
    /// Whether the host has IPv6 at all.
    pub ipv6: bool,
    /// Addresses of names, as hosts(5) has them. Nobody asks DNS.
    pub addresses: &'a [(String, IpAddr)],
}

/// What the host says of names in /etc/hosts; nothing where it cannot be read.
#[must_use]
pub fn addresses_of_hosts(text: &str) -> Vec<(String, IpAddr)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        found.extend(words.map(|name| (name.to_ascii_lowercase(), address)));
    }
    found
}

impl World<'_> {
    /// Every address of a name; `localhost` is known everywhere.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let wanted = name.to_ascii_lowercase();
        let mut found: Vec<IpAddr> = Vec::new();
        if wanted == "localhost" {
            found.push(std::net::Ipv4Addr::LOCALHOST.into());
            found.push(std::net::Ipv6Addr::LOCALHOST.into());
        }
        for (known, address) in self.addresses {
            if *known == wanted && !found.contains(address) {
                found.push(*address);
            }
        }
        found
    }
}

/// The text of an old file. What is not UTF-8 (comments in Latin-1, most often)
/// becomes U+FFFD; a reader that finds one in what counts complains.
pub fn read_file(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let file = fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let text = format!("it is larger than {} MiB", LARGEST_FILE >> 20);
        return Err(io::Error::other(text));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Imported {
    /// Reads a file and enters it; one that cannot be read becomes a fault.
    pub fn open(&mut self, path: &Path) -> Option<(usize, String)> {
        match read_file(path) {
            Ok(text) => {
                let number = self.add_file(SourceFile::new(path.to_owned(), text.clone()));
                Some((number, text))
            }
            Err(err) => {
                self.unreadable(path, &err);
                None
            }
        }
    }

    /// Complains about a file as a whole.
    pub fn unreadable(&mut self, path: &Path, err: &io::Error) {
        let number = self.add_file(SourceFile::new(path.to_owned(), String::new()));
        let problem = format!("unable to read {}: {err}", path.display());
        let complaint: Complaint = Fault::new(problem).at(Place::whole(number));
        self.faults.push(complaint);
    }
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Inetd,
    Xinetd,
    Rlinetd,
    /// A `.socket` with the service it starts.
    Systemd,
}

/// Where a host has its old files: what is there is read if nothing else is named.
pub const USUAL: [(&str, Format); 4] = [
    ("/etc/inetd.conf", Format::Inetd),
    ("/etc/inetd.d", Format::Inetd),
    ("/etc/xinetd.conf", Format::Xinetd),
    ("/etc/rlinetd.conf", Format::Rlinetd),
];

/// The format of a file by its name, else by what is in it.
#[must_use]
pub fn guess(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy();
    if name.starts_with("xinetd.conf") || name == "xinetd.d" {
        return Some(Format::Xinetd);
    }
    if name.starts_with("rlinetd.conf") || name == "rlinetd.d" {
        return Some(Format::Rlinetd);
    }
    if name.contains("inetd.conf") || name == "inetd.d" {
        return Some(Format::Inetd);
    }
    if name.ends_with(".socket") {
        return Some(Format::Systemd);
    }
    read_file(path).ok().and_then(|text| guess_by_text(&text))
}

fn guess_by_text(text: &str) -> Option<Format> {
    if systemd::looks_like_it(text) {
        Some(Format::Systemd)
    } else if xinetd::looks_like_it(text) {
        Some(Format::Xinetd)
    } else if inetd::looks_like_it(text) {
        Some(Format::Inetd)
    } else {
        rlinetd::looks_like_it(text).then_some(Format::Rlinetd)
    }
}
