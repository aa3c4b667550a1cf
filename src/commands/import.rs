//! `usherd import`: the files of another super-server become a table, and the
//! operator is told what does not mean the same any more.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::say;
use crate::error::Exit;
use crate::table::complaint::Complaints;
use crate::table::import::inetd::Dialect;
use crate::table::import::settle::settle;
use crate::table::import::{self, Format, Imported, World, hosts, report, write};
use crate::table::{self, Host, Source};

/// What is imported, and where it goes.
#[derive(Args, Debug)]
pub struct Import {
    /// Old files, or folders of them [default: what this host has in /etc]
    files: Vec<PathBuf>,
    /// What the files are [default: told by their names, or by what is in them]
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<From>,
    /// Whose inetd the files were written for [default: told by what is in them, else debian]
    #[arg(long, value_enum, value_name = "INETD")]
    dialect: Option<Whose>,
    /// The hosts.allow(5) that tcpd and libwrap went by
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts.allow")]
    hosts_allow: PathBuf,
    /// The hosts.deny(5) that tcpd and libwrap went by
    #[arg(long, value_name = "FILE", default_value = "/etc/hosts.deny")]
    hosts_deny: PathBuf,
    /// There is no hosts.allow and no hosts.deny: tcpd and libwrap let everybody in
    #[arg(long, conflicts_with_all = ["hosts_allow", "hosts_deny"])]
    no_hosts: bool,
    /// inetd ran with -l: libwrap was asked about every server, not only behind tcpd
    #[arg(long)]
    libwrap: bool,
    /// Where the table goes, a file that is not there yet [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on although a restriction cannot be carried over; the table says which
    #[arg(long)]
    allow_loss: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Inetd,
    Xinetd,
    Rlinetd,
    /// A .socket unit with the service it starts
    Systemd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// openbsd-inetd as Debian has it
    Debian,
    Freebsd,
    Netbsd,
    Openbsd,
    /// GNU inetutils
    Gnu,
}

impl From {
    fn format(self) -> Format {
        match self {
            From::Inetd => Format::Inetd,
            From::Xinetd => Format::Xinetd,
            From::Rlinetd => Format::Rlinetd,
            From::Systemd => Format::Systemd,
        }
    }
}

impl Whose {
    fn dialect(self) -> Dialect {
        match self {
            Whose::Debian => Dialect::Debian,
            Whose::Freebsd => Dialect::FreeBsd,
            Whose::Netbsd => Dialect::NetBsd,
            Whose::Openbsd => Dialect::OpenBsd,
            Whose::Gnu => Dialect::Gnu,
        }
    }
}

/// Table to stdout or to the file, report and complaints to stderr.
#[must_use]
pub fn import(wanted: &Import) -> Exit {
    let host = Host {
        // The table is for the host's usherd, whoever writes it.
        root: true,
        can_bind_low: true,
        ..Host::probe()
    };
    let files = match files(wanted) {
        Ok(files) => files,
        Err((exit, text)) => {
            eprintln!("usherd: {text}");
            return exit;
        }
    };
    let mut imported = read(wanted, &files, &host);
    if !imported.faults.is_empty() {
        let complaints = Complaints::new(imported.files, imported.faults);
        eprintln!(
            "{complaints}{}; nothing is written",
            complaints.count("complaint")
        );
        return Exit::Config;
    }
    settle(&mut imported, &host);
    eprint!("{}", report::report(&imported));
    let lost = imported
        .all_notes()
        .filter(|n| n.effect == import::Effect::Loss)
        .count();
    if lost > 0 && !wanted.allow_loss {
        let s = if lost == 1 { "" } else { "s" };
        eprintln!(
            "\nnothing is written: {lost} restriction{s} would be lost; say it in another way in the \
             old file, or go on with --allow-loss"
        );
        return Exit::Refused;
    }
    let text = write::table(&imported).text;
    let written = match &wanted.output {
        Some(path) => put(path, &text),
        None => say(&text),
    };
    match written {
        Exit::Ok => complain(&text, wanted.output.as_deref(), &host),
        failed => failed,
    }
}

/// What is to be read, each with its format.
fn files(wanted: &Import) -> Result<Vec<(PathBuf, Format)>, (Exit, String)> {
    let given = wanted.from.map(From::format);
    if wanted.files.is_empty() {
        let usual = import::USUAL.iter().filter(|(path, format)| {
            given.is_none_or(|g| g == *format) && Path::new(path).exists()
        });
        let found: Vec<_> = usual
            .map(|(path, format)| (PathBuf::from(path), *format))
            .collect();
        if found.is_empty() {
            let looked: Vec<&str> = import::USUAL.iter().map(|(path, _)| *path).collect();
            let text = format!(
                "nothing to import here: there is no {}; name a file",
                looked.join(", no ")
            );
            return Err((Exit::Usage, text));
        }
        return Ok(found);
    }
    let formats = wanted.files.iter().map(|path| {
        // One that cannot be read is complained about by its reader.
        let guessed = || import::guess(path).or((!path.exists()).then_some(Format::Inetd));
        match given.or_else(guessed) {
            Some(format) => Ok((path.clone(), format)),
            None => Err((
                Exit::Usage,
                format!(
                    "unable to tell what {} is; say it with --from",
                    path.display()
                ),
            )),
        }
    });
    formats.collect()
}

fn read(wanted: &Import, files: &[(PathBuf, Format)], host: &Host) -> Imported {
    let mut imported = Imported::default();
    let rules = if wanted.no_hosts {
        hosts::Rules::default()
    } else {
        hosts::Rules::read(&wanted.hosts_allow, &wanted.hosts_deny)
    };
    let text = fs::read("/etc/hosts").unwrap_or_default();
    let addresses = import::addresses_of_hosts(&String::from_utf8_lossy(&text));
    let world = World {
        host,
        hosts: &rules,
        libwrap: wanted.libwrap,
        ipv6: Path::new("/proc/net/if_inet6").exists(),
        addresses: &addresses,
    };
    for format in files.chunk_by(|a, b| a.1 == b.1) {
        let paths: Vec<&Path> = format.iter().map(|(path, _)| path.as_path()).collect();
        // Each file of inetd is part of one table; the others stand for themselves.
        let each = |read: &dyn Fn(&Path, &World<'_>) -> Imported| {
            paths.iter().fold(Imported::default(), |mut all, path| {
                all.append(read(path, &world));
                all
            })
        };
        imported.append(match format[0].1 {
            Format::Inetd => {
                import::inetd::read(&paths, wanted.dialect.map(Whose::dialect), &world)
            }
            Format::Xinetd => each(&import::xinetd::read),
            Format::Rlinetd => each(&import::rlinetd::read),
            Format::Systemd => each(&import::systemd::read),
        });
    }
    imported
}

/// Writes the whole file or none, and never over another one.
fn put(path: &Path, text: &str) -> Exit {
    match try_put(path, text) {
        Ok(()) => Exit::Ok,
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            eprintln!(
                "usherd: {} is there already; nothing is written",
                path.display()
            );
            Exit::Refused
        }
        Err(err) => {
            eprintln!("usherd: unable to write {}: {err}", path.display());
            Exit::System
        }
    }
}

fn try_put(path: &Path, text: &str) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("this is no name of a file"))?;
    let draft = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let draft = path.with_file_name(draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&draft)?;
    // A link, unlike a rename, fails where a file of that name has come in between.
    let done = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    done.and(removed)
}

/// Loads what was written, as `usherd check` does.
fn complain(text: &str, output: Option<&Path>, host: &Host) -> Exit {
    let name = output.map_or("imported table".into(), Path::to_string_lossy);
    let source = Source::Text { name: &name, text };
    match table::load(source, host) {
        Ok(loaded) => {
            for warning in loaded.warnings.rendered_warnings() {
                eprint!("\n{warning}");
            }
            Exit::Ok
        }
        Err(complaints) => {
            eprint!("\n{complaints}{}\n", complaints.count("complaint"));
            Exit::Config
        }
    }
}
