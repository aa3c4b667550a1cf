//! Whose inetd a file was written for, and what that one did with all its services.
#![forbid(unsafe_code)]

use crate::table::import::draft::{Effect, Note, Origin};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// openbsd-inetd as Debian has it.
    #[default]
    Debian,
    FreeBsd,
    NetBsd,
    OpenBsd,
    /// GNU inetutils.
    Gnu,
}

/// How words are quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    None,
    /// A whole word in quotes.
    Word,
    /// As in a shell: anywhere, with backslashes.
    Shell,
}

impl Dialect {
    /// By what only one of them has; else Debian's.
    #[must_use]
    pub fn guess(text: &str) -> Self {
        for (mark, dialect) in [
            ("$FreeBSD", Dialect::FreeBsd),
            ("$NetBSD", Dialect::NetBsd),
            ("$OpenBSD", Dialect::OpenBsd),
            ("update-inetd", Dialect::Debian),
            ("#<off>#", Dialect::Debian),
        ] {
            if text.contains(mark) {
                return dialect;
            }
        }
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(Self::of_line).next().unwrap_or_default()
    }

    fn of_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let word = |at: usize| words.get(at).copied().unwrap_or("");
        let (first, kind, proto, wait) = (word(0), word(1), word(2), word(3));
        if first == ".include" || matches!(kind, "on" | "off") && line.contains('=') {
            return Some(Dialect::NetBsd);
        }
        if !wait.starts_with("wait") && !wait.starts_with("nowait") {
            return None;
        }
        if proto.ends_with("6only") {
            return Some(Dialect::Gnu);
        }
        if wait.contains('/') || proto.contains("/ttcp") || first.starts_with(":") {
            return Some(Dialect::FreeBsd);
        }
        if wait.contains(':') || proto.contains("buf=") || kind.contains([',', ':']) {
            return Some(Dialect::NetBsd);
        }
        None
    }

    pub(super) fn quoting(self) -> Quoting {
        match self {
            Dialect::Debian | Dialect::OpenBsd => Quoting::None,
            Dialect::FreeBsd => Quoting::Word,
            Dialect::NetBsd | Dialect::Gnu => Quoting::Shell,
        }
    }

    /// Whether a line that begins with a blank belongs to the one before it.
    pub(super) fn continues(self) -> bool {
        self != Dialect::Gnu
    }

    /// How many words of `argv` are kept; what becomes of the others differs.
    pub(super) fn most_args(self) -> usize {
        match self {
            Dialect::Debian | Dialect::OpenBsd | Dialect::FreeBsd => 20,
            Dialect::NetBsd => 64,
            Dialect::Gnu => usize::MAX,
        }
    }

    /// Whether its inetd asks libwrap itself, about every service.
    pub(super) fn wraps(self) -> bool {
        matches!(self, Dialect::FreeBsd | Dialect::NetBsd)
    }

    /// How many are started before the limit of `n` in a minute is reached. The
    /// older code looks only when the count has got there.
    pub(super) fn admitted(self, n: u32) -> u32 {
        match self {
            Dialect::Debian | Dialect::OpenBsd => n.saturating_sub(1).max(1),
            Dialect::FreeBsd | Dialect::NetBsd | Dialect::Gnu => n.max(1),
        }
    }

    /// What it did with every service, and what usherd does.
    pub(super) fn notes(self, file: &Origin, any: bool) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut say = |effect, text: String| notes.push(file.note(effect, text));
        let read_as = format!(
            "read as {}; --dialect names another one. Options on its command line are in no file: \
             --libwrap stands for -l, what others asked for has to be written by hand",
            self.name()
        );
        say(Effect::Remark, read_as);
        if !any {
            return notes;
        }
        let (most, closed) = match self {
            Dialect::Debian | Dialect::OpenBsd => (
                256,
                "shut for 10 minutes (for the rest of the minute from port 1024 on)",
            ),
            Dialect::FreeBsd => (256, "shut for 10 minutes"),
            Dialect::NetBsd => (40, "shut for 10 minutes"),
            Dialect::Gnu => (1000, "shut for good"),
        };
        say(
            Effect::Changed,
            format!(
                "a service without a limit of its own was {closed} after {most} starts in a minute; usherd \
                 shuts none: it runs at most `instances` (100) at once, lets others wait, and rests a \
                 program that fails. Write rate = \"{most}/m\" in [defaults] to keep that bound"
            ),
        );
        let environment = match self {
            Dialect::Debian => "the environment of inetd without PATH and a list of others",
            _ => "the environment of inetd",
        };
        say(
            Effect::Changed,
            format!(
                "servers had {environment}; now they have PATH, HOME, USER, LOGNAME, SHELL and facts about \
                 the request (`env` and `pass_env` add to it), default signals and a session of their own"
            ),
        );
        if matches!(self, Dialect::Debian | Dialect::OpenBsd) {
            let text = "connections from port 20 were dropped (FTP bounce); usherd does not look at that port: \
                        match = { source_port = [\"1-19\", \"21-65535\"] } does it for one service";
            say(Effect::Changed, text.to_owned());
        }
        if self == Dialect::FreeBsd {
            let text = "FreeBSD starts its inetd with -wW -C 60: hosts.allow is carried over for every service, \
                        the 60 connections a minute of one source are not; write rate_per_source = \"60/m\" in [defaults]";
            say(Effect::Changed, text.to_owned());
        }
        say(
            Effect::Remark,
            "isolation = \"none\" and stderr = \"socket\" are what servers had under inetd; raise `isolation` \
             service by service, and write stderr = \"log\" where messages do not belong to the peer"
                .to_owned(),
        );
        notes
    }

    fn name(self) -> &'static str {
        match self {
            Dialect::Debian => "Debian's openbsd-inetd",
            Dialect::FreeBsd => "FreeBSD's inetd",
            Dialect::NetBsd => "NetBSD's inetd",
            Dialect::OpenBsd => "OpenBSD's inetd",
            Dialect::Gnu => "inetd of GNU inetutils",
        }
    }
}
