//! An entry becomes a draft: every field in the words of the table, and a note
//! for what does not mean the same.
#![forbid(unsafe_code)]

use toml_edit::{InlineTable, Value};

use super::Around;
use super::dialect::Dialect;
use super::fields::{self, Broken, Fields, Kind, Limits, Protocol};
use super::lines::Entry;
use super::listen::{self, Place};
use crate::table::import::draft::{Draft, Effect, Note, Origin};
use crate::table::import::{World, ready};

/// Where tcpd finds servers that are named without a path, on Debian.
const REAL_DAEMONS: &str = "/usr/sbin";

/// `None`: the entry only said something about those behind it.
pub(super) fn draft(
    entry: &Entry<'_>,
    origin: &Origin,
    dialect: Dialect,
    around: &mut Around,
    world: &World<'_>,
) -> Result<Option<Draft>, Broken> {
    if let [word] = entry.words.as_slice()
        && let Some(address) = word.text.strip_suffix(':')
        && entry.off.is_none()
    {
        around.address = fields::addresses(address);
        return Ok(None);
    }
    let mut fields = fields::fields(entry, dialect)?;
    fields.policy = fields.policy.or(around.policy.clone());
    let mut source = std::mem::take(&mut around.heading);
    source.extend(entry.source.iter().map(|line| (*line).to_owned()));
    let mut draft = Draft::new(plain_name(&fields.service), origin.clone(), source);
    draft.off = fields.off.map(str::to_owned);
    if entry
        .words
        .iter()
        .any(|word| word.text.contains('\u{fffd}'))
    {
        draft.give_up("it is not UTF-8, and a table is");
        draft.note(
            Effect::Unsupported,
            "it is left out: it is not UTF-8, and a table is",
        );
        return Ok(Some(draft));
    }
    fits(&fields, entry)?;
    match listen::place(&fields, &around.address, dialect, world) {
        Ok(place) => Maker {
            fields,
            dialect,
            world,
            around,
            draft: &mut draft,
        }
        .keys(place),
        Err(why) => {
            draft.note(Effect::Unsupported, format!("it is left out: {why}"));
            draft.give_up(why);
        }
    }
    if draft.off.is_some() {
        draft.notes.iter_mut().for_each(Note::mind);
    }
    Ok(Some(draft))
}

/// Without `tcpmux/`, versions and folders.
fn plain_name(service: &str) -> String {
    let name = service
        .strip_prefix("tcpmux/")
        .map_or(service, |mux| mux.trim_start_matches('+'));
    match name.strip_prefix('/') {
        Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
        None => name.split('/').next().unwrap_or(name).to_owned(),
    }
}

/// What no inetd takes.
fn fits(fields: &Fields, entry: &Entry<'_>) -> Result<(), Broken> {
    let Protocol::Ip { udp, .. } = fields.protocol else {
        return Ok(());
    };
    if matches!(
        (fields.kind, udp),
        (Kind::Stream, true) | (Kind::Datagram, false)
    ) {
        let fault = crate::table::complaint::Fault::new("type and protocol do not go together")
            .help("stream goes with tcp, dgram with udp");
        return Err((entry.span(), fault));
    }
    Ok(())
}

struct Maker<'a> {
    fields: Fields,
    dialect: Dialect,
    world: &'a World<'a>,
    around: &'a mut Around,
    draft: &'a mut Draft,
}

impl Maker<'_> {
    fn keys(mut self, place: Place) {
        if self.fields.kind == Kind::Other {
            let why = "usherd has no raw and no rdm sockets";
            self.draft
                .note(Effect::Unsupported, format!("it is left out: {why}"));
            return self.draft.give_up(why);
        }
        if self.fields.class.is_some() {
            self.class();
        }
        match place.listen.as_slice() {
            [one] => self.draft.set("listen", one.as_str()),
            several => self.draft.set_list("listen", several),
        }
        for address in &place.unfit {
            let text = format!(
                "{address} is of the other IP version, so its inetd could not listen there"
            );
            self.draft.note(Effect::Remark, text);
        }
        let daemon = if self.fields.program == "internal" {
            match self.builtin() {
                Some(daemon) => daemon,
                None => return,
            }
        } else {
            self.program()
        };
        self.access(daemon, &place);
        self.limits();
        self.socket(&place);
        self.rest();
    }

    /// A service of usherd's own; its name is what libwrap asks about.
    fn builtin(&mut self) -> Option<Option<String>> {
        let name = self.fields.service.clone();
        let builtin = match name.as_str() {
            "echo" => "echo",
            "discard" | "sink" | "null" => "discard",
            "chargen" | "ttytst" | "source" => "chargen",
            "daytime" => "daytime",
            "time" | "timserver" | "timeserver" => "time",
            "tcpmux" => "tcpmux",
            _ => {
                let why = format!("usherd has no internal service \"{name}\"");
                self.draft
                    .note(Effect::Unsupported, format!("it is left out: {why}"));
                self.draft.give_up(why);
                return None;
            }
        };
        self.draft.set("builtin", builtin);
        Some(self.dialect.wraps().then_some(name))
    }

    /// The server and its process; the name that tcpd or libwrap knows it by.
    fn program(&mut self) -> Option<String> {
        let datagrams = self.fields.kind == Kind::Datagram;
        if datagrams && !self.fields.wait {
            let text = "nowait with datagrams started servers until one had read the datagram; \
                        now there is one at a time, and it has the socket until it ends";
            self.draft.note(Effect::Changed, text);
        } else if self.fields.wait && !datagrams {
            self.draft.set("wait", true);
        }
        if let Some(odd) = self.fields.odd_wait.clone() {
            let text = format!("its inetd takes \"{odd}\" for nowait");
            self.draft.note(Effect::Remark, text);
        }
        let mut program = self.fields.program.clone();
        let mut args = std::mem::take(&mut self.fields.args);
        self.most_args(&mut args);
        let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let mut daemon = match self.dialect {
            Dialect::FreeBsd => Some(base(&program)),
            Dialect::NetBsd => args.first().cloned().or_else(|| Some(base(&program))),
            _ => {
                let asked = self.world.libwrap && !datagrams && !self.fields.wait;
                asked.then(|| args.first().cloned().unwrap_or_else(|| base(&program)))
            }
        };
        self.around.wrapped |= daemon.is_some();
        if base(&program) == "tcpd"
            && let Some(first) = args.first_mut()
        {
            program = if first.starts_with('/') {
                first.clone()
            } else {
                format!("{REAL_DAEMONS}/{first}")
            };
            *first = base(first);
            daemon = Some(first.clone());
            self.around.wrapped = true;
        }
        let argv0 = if args.is_empty() {
            if self.dialect.wraps() {
                let text = "it was started without any argument, not even its name; it has one now";
                self.draft.note(Effect::Changed, text);
            }
            base(&program)
        } else {
            args.remove(0)
        };
        if argv0.starts_with('-') && argv0.len() > 1 && !args.iter().any(String::is_empty) {
            let text = format!(
                "the name of the program seems to be missing before {argv0}, which the program takes for its \
                 own name and not for an option; as it was, it is kept"
            );
            self.draft.note(Effect::Remark, text);
        }
        if let Some(hash) = args.iter().find(|arg| arg.starts_with('#')) {
            let text =
                format!("{hash} and what follows it are arguments, here as in inetd, no comment");
            self.draft.note(Effect::Remark, text);
        }
        if let Some(table) = ready::table_for(&program) {
            let text = format!(
                "services.d/{table}.toml is a ready table for {}, in a sandbox",
                base(&program)
            );
            self.draft.note(Effect::Remark, text);
        }
        let is_usual = argv0 == base(&program);
        self.draft
            .set_list("exec", std::iter::once(program).chain(args));
        if !is_usual {
            self.draft.set("argv0", argv0);
        }
        self.account();
        self.draft.set("isolation", "none");
        self.draft.set("stderr", "socket");
        daemon
    }

    fn most_args(&mut self, args: &mut [String]) {
        let most = self.dialect.most_args();
        if args.len() > most {
            let text = format!(
                "its inetd passes {most} arguments at most, with the name; now all {} are",
                args.len()
            );
            self.draft.note(Effect::Changed, text);
        }
    }

    /// `user`, `user:group`, `user.group`; the user database says whether a dot is part of a name.
    fn account(&mut self) {
        let whole = self.fields.user.clone();
        let accounts = &self.world.host.accounts;
        let split = match whole.split_once(':') {
            Some(parts) => Some(parts),
            None if accounts.user(&whole).is_some() => None,
            None => whole.split_once('.'),
        };
        let (user, group) = match (split, self.fields.group.take()) {
            (_, Some(group)) => (whole.clone(), Some(group)),
            (Some((user, group)), None) => (user.to_owned(), Some(group.to_owned())),
            (None, None) => (whole.clone(), None),
        };
        self.draft.set("user", user.as_str());
        let Some(group) = group.filter(|group| !group.is_empty()) else {
            return;
        };
        if self.dialect == Dialect::Gnu && user == "root" {
            let text = format!("inetutils passes over the group {group} of root");
            self.draft.note(Effect::Remark, text);
        } else {
            self.draft.set("group", group);
        }
    }

    fn class(&mut self) {
        if let Some(class) = self.fields.class.take().filter(|class| class != "daemon") {
            let text = format!(
                "login class \"{class}\": there are none on Linux; say what it set with `limits`, `umask`, `nice` and `env`"
            );
            self.draft.note(Effect::Unsupported, text);
        }
    }

    fn access(&mut self, daemon: Option<String>, place: &Place) {
        let Some(daemon) = daemon.filter(|_| place.has_ip_peers) else {
            return;
        };
        let judged = self
            .world
            .hosts
            .for_daemon(&daemon, place.local, self.world);
        if self.fields.wait && !judged.access.is_open() {
            let text = "hosts.allow and hosts.deny were asked about the first peer of a server that waits; \
                        now every peer is judged";
            self.draft.note(Effect::Changed, text);
        }
        judged.apply(self.draft);
    }

    fn limits(&mut self) {
        let Limits {
            per_minute,
            children,
            source_minute,
            source,
        } = std::mem::take(&mut self.fields.limits);
        let waits = self.fields.wait || self.fields.kind == Kind::Datagram;
        let internal = self.draft.key("builtin").is_some();
        match children {
            Some(n) if n > 0 && (internal || !waits) => self.draft.set("instances", i64::from(n)),
            Some(n) if n > 1 => {
                let text =
                    format!("up to {n} servers shared the socket; now there is one at a time");
                self.draft.note(Effect::Changed, text);
            }
            _ => {}
        }
        if waits && (source.is_some() || source_minute.is_some()) {
            let text = "limits for one source have no effect with wait, in inetd as here";
            self.draft.note(Effect::Remark, text);
        } else {
            if let Some(n) = source {
                self.draft.set("per_source", i64::from(n));
            }
            if let Some(n) = source_minute.filter(|n| *n > 0) {
                self.draft.set("rate_per_source", format!("{n}/m"));
            }
            if source.is_some() || source_minute.is_some() {
                let text = "one source of IPv6 is a /64 now, not an address (`source_prefix`)";
                self.draft.note(Effect::Changed, text);
            }
        }
        if let Some(n) = per_minute {
            let admitted = self.dialect.admitted(n);
            self.draft.set("rate", format!("{admitted}/m"));
            let text = format!(
                "a limit of {n} let {admitted} be started within a minute and then shut the service; now {admitted} \
                 are started at once and {admitted} in each minute after, and whoever comes beyond waits"
            );
            self.draft.note(Effect::Changed, text);
        }
    }

    fn socket(&mut self, place: &Place) {
        let mut socket = InlineTable::new();
        let path = place.listen.iter().any(|listen| listen.starts_with("unix"));
        if path {
            self.path_options(&mut socket);
        }
        for (key, size) in [
            ("receive_buffer", self.fields.receive_buffer.take()),
            ("send_buffer", self.fields.send_buffer.take()),
        ] {
            let Some(size) = size else { continue };
            if matches!(self.dialect, Dialect::Debian | Dialect::OpenBsd) {
                let text = format!(
                    "{key} of {size}: Debian's inetd reads it and does nothing with it, so it is left out"
                );
                self.draft.note(Effect::Remark, text);
            } else {
                socket.insert(key, size.into());
            }
        }
        if !socket.is_empty() {
            self.draft.set("socket", Value::InlineTable(socket));
        }
    }

    /// Who may connect to the file of a Unix socket.
    fn path_options(&mut self, socket: &mut InlineTable) {
        match (self.dialect, self.fields.owner.take()) {
            (_, Some([user, group, mode])) => {
                for (key, value) in [("owner", user), ("group", group)] {
                    if !value.is_empty() {
                        socket.insert(key, value.into());
                    }
                }
                let mode = if mode.is_empty() {
                    "0200".to_owned()
                } else {
                    mode
                };
                socket.insert("mode", format!("0{}", mode.trim_start_matches('0')).into());
            }
            (Dialect::FreeBsd, None) => {
                socket.insert("mode", "0200".into());
            }
            (Dialect::Debian | Dialect::OpenBsd, None) => {
                socket.insert("mode", "0666".into());
            }
            (Dialect::NetBsd | Dialect::Gnu, None) => {}
        }
    }

    fn rest(&mut self) {
        if let Some(policy) = self.fields.policy.take() {
            let text = format!(
                "IPsec policy \"{policy}\": usherd sets none; have it in the host's own policy (ip-xfrm(8))"
            );
            self.draft.note(Effect::Loss, text);
        }
        if let Some(filter) = self.fields.accept_filter.take() {
            let text = format!(
                "accept filter \"{filter}\" is not of Linux; `socket.defer_accept` is the nearest to it"
            );
            self.draft.note(Effect::Unsupported, text);
        }
        let extra = match &self.fields.protocol {
            Protocol::Ip { extra, .. } => extra.clone(),
            _ => None,
        };
        if let Some(extra) = extra {
            self.draft
                .note(Effect::Unsupported, format!("\"{extra}\" is not of Linux"));
        }
        if let Protocol::Ip {
            rpc: true, family, ..
        } = &self.fields.protocol
            && family == "6"
        {
            let text = "the program is registered for both IP versions now";
            self.draft.note(Effect::Changed, text);
        }
    }
}
