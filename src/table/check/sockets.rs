//! `socket` and `backlog`: options of the listening sockets. One that none of
//! the service's own addresses can take is a complaint.
#![forbid(unsafe_code)]

use super::rules::{server_first, set_place};
use super::{Check, Draft, Kind, Picked, has_streams};
use crate::table::address::UnixName;
use crate::table::complaint::{At, Place};
use crate::table::schema::RawSocket;
use crate::table::{DEFAULT_BACKLOG, Listen, Side, SocketOptions};

impl Check<'_> {
    pub(super) fn socket(
        &mut self,
        draft: Draft<'_>,
        kind: Kind,
        listen: &[Listen],
        wait: bool,
    ) -> SocketOptions {
        let backlog = self.backlog(draft, listen);
        let Some(Picked {
            value: raw, own, ..
        }) = draft.pick(|k| &k.socket)
        else {
            return SocketOptions {
                backlog,
                ..SocketOptions::default()
            };
        };
        let fits = self.fitting(draft, raw, own, listen);
        self.permitted(draft, raw, &fits);
        let defer = raw.defer_accept.as_ref().filter(|_| fits.tcp);
        let defer = defer.filter(|at| self.may_defer(draft, kind, at.place, own, wait));
        SocketOptions {
            backlog,
            freebind: value(&raw.freebind, fits.bound).unwrap_or(false),
            device: value(&raw.device, fits.bound),
            mark: value(&raw.mark, fits.ip),
            transparent: value(&raw.transparent, fits.bound).unwrap_or(false),
            receive_buffer: value(&raw.receive_buffer, fits.any),
            send_buffer: value(&raw.send_buffer, fits.any),
            keepalive: value(&raw.keepalive, fits.tcp).flatten(),
            nodelay: value(&raw.nodelay, fits.tcp).unwrap_or(false),
            dscp: value(&raw.dscp, fits.ip),
            fast_open: value(&raw.fast_open, fits.tcp),
            defer_accept: defer.map(|at| at.value),
            owner: self.owner(raw.owner.as_ref().filter(|_| fits.path)),
            group: self.owning_group(raw.group.as_ref().filter(|_| fits.path)),
            mode: value(&raw.mode, fits.path),
        }
    }

    fn backlog(&mut self, draft: Draft<'_>, listen: &[Listen]) -> Option<u32> {
        if let Some(at) = &draft.own.backlog
            && !has_streams(listen)
        {
            let fault = draft.fault("datagram sockets have no backlog");
            self.complain(
                at.place,
                fault.help("`socket.receive_buffer` is what holds datagrams"),
            );
        }
        draft
            .value(|k| &k.backlog)
            .filter(|n| has_streams(listen) && *n != DEFAULT_BACKLOG)
    }

    /// Complains about options of the service's own that fit no address.
    fn fitting(&mut self, draft: Draft<'_>, raw: &RawSocket, own: bool, listen: &[Listen]) -> Fits {
        let fits = Fits::of(listen);
        let groups = [
            (fits.tcp, "TCP sockets", raw.tcp_options()),
            (fits.path, "unix sockets with a path", raw.path_options()),
            (
                fits.bound,
                "IP sockets that usherd binds itself",
                raw.bind_options(),
            ),
            (fits.ip, "IP sockets", raw.ip_options()),
            (
                fits.any,
                "sockets of its own, which tcpmux: has not",
                raw.any_options(),
            ),
        ];
        for (fit, whose, options) in groups {
            for (key, place) in options {
                if let Some(place) = place
                    && own
                    && !fit
                {
                    let problem = format!("`socket.{key}` is for {whose}");
                    self.complain(place, draft.fault(&problem));
                }
            }
        }
        fits
    }

    fn permitted(&mut self, draft: Draft<'_>, raw: &RawSocket, fits: &Fits) {
        if self.host.root {
            return;
        }
        let keys = [
            ("mark", raw.mark.as_ref().map(|at| at.place), fits.ip),
            ("transparent", place_if_true(&raw.transparent), fits.bound),
            ("device", raw.device.as_ref().map(|at| at.place), fits.bound),
        ];
        for (key, place, fit) in keys {
            if let Some(place) = place
                && fit
            {
                let problem = format!("`socket.{key}` needs root");
                self.complain(place, draft.fault(&problem));
            }
        }
    }

    /// The kernel holds a connection back until the first byte: for a server
    /// that greets first, that byte never comes.
    fn may_defer(
        &mut self,
        draft: Draft<'_>,
        kind: Kind,
        place: Place,
        own: bool,
        wait: bool,
    ) -> bool {
        let stated = draft.value(|k| &k.speaks_first);
        let banner = draft.value(|k| &k.banner).unwrap_or_default();
        let greets = banner.admitted.is_some() && !wait;
        let (problem, help) = match (stated, kind) {
            (_, Kind::Builtin(builtin)) if server_first(builtin) => (
                "`socket.defer_accept` would wait for a byte that no client of this builtin sends",
                "leave it out",
            ),
            (Some(Side::Server), _) => (
                "`socket.defer_accept` waits for the client's first byte, but the server speaks first",
                "leave it out",
            ),
            _ if greets => (
                "`socket.defer_accept` would hold `banner.admitted` back until the client speaks",
                "leave one of them out",
            ),
            (None, Kind::Exec | Kind::Forward) => (
                "`socket.defer_accept` is safe only if the client speaks first",
                "write speaks_first = \"client\" if it does",
            ),
            _ => return true,
        };
        if own {
            self.complain(place, draft.fault(problem).help(help));
        }
        false
    }

    fn owner(&mut self, name: Option<&At<String>>) -> Option<u32> {
        let At { value, place } = name?;
        match self.directory.user(value) {
            Ok(found) if self.host.root || found.account.uid == self.host.uid => {
                return Some(found.account.uid);
            }
            Ok(_) => {
                let problem = format!("giving a socket to user \"{value}\" needs root");
                self.complain(*place, crate::table::complaint::Fault::new(problem));
            }
            Err(fault) => self.complain(*place, fault),
        }
        None
    }

    fn owning_group(&mut self, name: Option<&At<String>>) -> Option<u32> {
        let At { value, place } = name?;
        let host = self.host;
        match self.directory.group(value) {
            Ok(gid) if host.root || gid == host.gid || host.groups.contains(&gid) => {
                return Some(gid);
            }
            Ok(_) => {
                let problem =
                    format!("giving a socket to group \"{value}\" needs root or membership");
                self.complain(*place, crate::table::complaint::Fault::new(problem));
            }
            Err(fault) => self.complain(*place, fault),
        }
        None
    }
}

/// Which options some address of a service can take.
pub(super) struct Fits {
    tcp: bool,
    ip: bool,
    /// IP, and bound by usherd: an inherited socket is bound already.
    bound: bool,
    path: bool,
    /// Any socket at all.
    any: bool,
}

/// An option of the one socket that several services may have.
pub(super) struct SocketOption {
    pub key: &'static str,
    /// Where a service says something about it.
    pub place: fn(&RawSocket) -> Option<Place>,
    pub same: fn(&SocketOptions, &SocketOptions) -> bool,
    pub copy: fn(&mut SocketOptions, &SocketOptions),
    pub fits: fn(&Fits) -> bool,
}

macro_rules! option {
    ($key:ident, $fits:ident) => {
        SocketOption {
            key: concat!("socket.", stringify!($key)),
            place: |raw| place(&raw.$key),
            same: |a, b| a.$key == b.$key,
            copy: |to, from| to.$key = from.$key.clone(),
            fits: |fits| fits.$fits,
        }
    };
}

/// All but `device`, which makes other sockets.
pub(super) const SHARED_OPTIONS: [SocketOption; 13] = [
    option!(freebind, bound),
    option!(mark, ip),
    option!(transparent, bound),
    option!(receive_buffer, any),
    option!(send_buffer, any),
    option!(keepalive, tcp),
    option!(nodelay, tcp),
    option!(dscp, ip),
    option!(fast_open, tcp),
    option!(defer_accept, tcp),
    option!(owner, path),
    option!(group, path),
    option!(mode, path),
];

impl Fits {
    pub(super) fn of(listen: &[Listen]) -> Self {
        let some = |test: fn(&Listen) -> bool| listen.iter().any(test);
        let ip = |l: &Listen| matches!(l, Listen::Inet(_) | Listen::Rpc { .. });
        Self {
            tcp: some(Listen::is_tcp),
            ip: listen
                .iter()
                .any(|l| ip(l) || matches!(l, Listen::Inherited { .. })),
            bound: listen.iter().any(ip),
            path: some(|l| {
                matches!(
                    l,
                    Listen::Unix {
                        name: UnixName::Path(_),
                        ..
                    }
                )
            }),
            any: some(|l| !matches!(l, Listen::Tcpmux { .. })),
        }
    }
}

type Options = Vec<(&'static str, Option<Place>)>;

impl RawSocket {
    fn tcp_options(&self) -> Options {
        vec![
            ("keepalive", set_place(self.keepalive.as_ref())),
            ("nodelay", place_if_true(&self.nodelay)),
            ("fast_open", place(&self.fast_open)),
            ("defer_accept", place(&self.defer_accept)),
        ]
    }

    fn path_options(&self) -> Options {
        vec![
            ("owner", place(&self.owner)),
            ("group", place(&self.group)),
            ("mode", place(&self.mode)),
        ]
    }

    fn bind_options(&self) -> Options {
        vec![
            ("freebind", place_if_true(&self.freebind)),
            ("device", place(&self.device)),
            ("transparent", place_if_true(&self.transparent)),
        ]
    }

    fn ip_options(&self) -> Options {
        vec![("mark", place(&self.mark)), ("dscp", place(&self.dscp))]
    }

    fn any_options(&self) -> Options {
        vec![
            ("receive_buffer", place(&self.receive_buffer)),
            ("send_buffer", place(&self.send_buffer)),
        ]
    }
}

fn place<T>(at: &Option<At<T>>) -> Option<Place> {
    at.as_ref().map(|at| at.place)
}

fn place_if_true(at: &Option<At<bool>>) -> Option<Place> {
    at.as_ref().filter(|at| at.value).map(|at| at.place)
}

fn value<T: Clone>(at: &Option<At<T>>, fits: bool) -> Option<T> {
    at.as_ref().filter(|_| fits).map(|at| at.value.clone())
}
