//! Who is let in, how many, for how long: the rules of one service.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use super::{Check, Draft, Kind, has_streams};
use crate::table::access::{Peers, Prefix};
use crate::table::complaint::At;
use crate::table::{
    Access, Activation, Banner, Builtin, Listen, LogEvents, OnFull, Rules, Side, SourcePrefix,
};

/// Instructions of a socket filter for a waiting server: what fits into the
/// memory that kernels before 6.7 allow a socket (net.core.optmem_max, 20 KiB).
pub(super) const FILTERED: usize = 2000;
const INSTANCES: u32 = 100;

/// What a stream served by usherd itself may use up, unless the table says otherwise.
const BUILTIN_IDLE: Duration = Duration::from_secs(5 * 60);
const BUILTIN_RUNTIME: Duration = Duration::from_secs(60 * 60);
const BUILTIN_BYTES: u64 = 1 << 30;

impl Check<'_> {
    pub(super) fn rules(&mut self, draft: Draft<'_>, kind: Kind, listen: &[Listen]) -> Rules {
        let wait = self.wait(draft, kind, listen);
        if wait {
            self.possible_with_wait(draft);
        }
        self.speaks_first(draft, kind);
        if matches!(kind, Kind::Builtin(builtin) if builtin.tells_figures()) {
            self.readers_are_named(draft, listen);
        }
        let listen_fds = draft.value(|k| &k.activation) == Some(Activation::ListenFds);
        let exec = kind == Kind::Exec;
        let capped = matches!(kind, Kind::Builtin(_)) && has_streams(listen);
        let relayed = |value| if exec { None } else { value };
        Rules {
            wait,
            whole: wait && listen_fds,
            access: self.access(draft, listen, wait),
            hours: draft.value(|k| &k.hours).unwrap_or_default(),
            instances: self.instances(draft, wait),
            per_source: own_if(wait, draft.value(|k| &k.per_source)).flatten(),
            source_prefix: draft
                .value(|k| &k.source_prefix)
                .unwrap_or(SourcePrefix { v4: 32, v6: 64 }),
            rate: draft.value(|k| &k.rate).flatten(),
            rate_per_source: own_if(wait, draft.value(|k| &k.rate_per_source)).flatten(),
            max_load: draft.value(|k| &k.max_load).flatten(),
            on_full: own_if(wait, draft.value(|k| &k.on_full)).unwrap_or(OnFull::Queue),
            banner: own_if(wait, draft.value(|k| &k.banner)).unwrap_or_default(),
            idle_timeout: relayed(
                draft
                    .value(|k| &k.idle_timeout)
                    .unwrap_or(capped.then_some(BUILTIN_IDLE)),
            ),
            max_runtime: draft
                .value(|k| &k.max_runtime)
                .unwrap_or(capped.then_some(BUILTIN_RUNTIME)),
            max_bytes: if exec {
                None
            } else {
                draft
                    .value(|k| &k.max_bytes)
                    .unwrap_or(capped.then_some(BUILTIN_BYTES))
            },
            log: draft.value(|k| &k.log).unwrap_or(usual_log(kind)),
        }
    }

    /// A waiting server accepts its peers itself: usherd never sees them.
    fn possible_with_wait(&mut self, draft: Draft<'_>) {
        let own = draft.own;
        let banner = own
            .banner
            .as_ref()
            .filter(|at| at.value != Banner::default());
        let refuse = own.on_full.as_ref().filter(|at| at.value == OnFull::Refuse);
        let keys = [
            ("banner", banner.map(|at| at.place)),
            ("per_source", set_place(own.per_source.as_ref())),
            ("rate_per_source", set_place(own.rate_per_source.as_ref())),
            ("on_full = \"refuse\"", refuse.map(|at| at.place)),
        ];
        for (key, place) in keys {
            if let Some(place) = place {
                let fault = draft
                    .fault(&format!("`{key}` cannot work with wait"))
                    .help("the server takes its requests from the socket itself; usherd never meets the peers");
                self.complain(place, fault);
            }
        }
    }

    fn instances(&mut self, draft: Draft<'_>, wait: bool) -> u32 {
        if !wait {
            return draft.value(|k| &k.instances).unwrap_or(INSTANCES);
        }
        if let Some(At { value, place }) = &draft.own.instances
            && *value != 1
        {
            let fault = draft
                .fault(&format!(
                    "instances = {value}, but one waiting server has the whole socket"
                ))
                .help("leave `instances` out, or write wait = false");
            self.complain(*place, fault);
        }
        1
    }

    fn access(&mut self, draft: Draft<'_>, listen: &[Listen], wait: bool) -> Access {
        let allow = draft.pick(|k| &k.allow);
        let deny = draft.pick(|k| &k.deny);
        let strangers = listen.iter().filter(|l| !l.has_ip_peers());
        let all_strange = strangers.clone().count() == listen.len();
        if let Some(stranger) = strangers.into_iter().next() {
            let lists = [("allow", &allow), ("deny", &deny)];
            for (key, list) in lists {
                if let Some(list) = list.as_ref().filter(|p| p.own || !all_strange) {
                    let problem =
                        format!("`{key}` cannot guard {stranger}: its peers have no IP address");
                    let help = "make it a service of its own; `socket.mode` guards a unix socket";
                    self.complain(list.place, draft.fault(&problem).help(help));
                }
            }
        }
        if all_strange {
            return Access::default();
        }
        let lists = [&allow, &deny].into_iter().flatten();
        let filter: usize = lists
            .clone()
            .flat_map(|list| Peers::parted(list.value).0)
            .map(|prefix| instructions(&prefix))
            .sum();
        let is_list = |one: &Peers| matches!(one, Peers::List(_));
        let mut named = lists.filter(|list| list.value.iter().any(is_list));
        if let Some(list) = named.next().filter(|_| wait) {
            let fault = draft
                .fault("a local list cannot guard a server that waits")
                .help(
                    "with wait the kernel keeps strangers out, by what stands in the table alone",
                );
            self.complain(list.place, fault);
        }
        if wait && filter > FILTERED {
            let place = allow
                .as_ref()
                .or(deny.as_ref())
                .map_or(draft.place(), |p| p.place);
            let fault = draft
                .fault("these are more prefixes than the kernel's socket filter holds")
                .help(
                    "with wait the kernel keeps strangers out, by some 500 IPv4 or 150 IPv6 \
                     prefixes; a firewall can hold more",
                );
            self.complain(place, fault);
        }
        let allow = allow.as_ref().map(|p| Peers::parted(p.value));
        let (allow, allow_lists) = match allow {
            Some((prefixes, lists)) => (Some(prefixes), lists),
            None => (None, Vec::new()),
        };
        let deny = deny.as_ref().map(|p| Peers::parted(p.value));
        let (deny, deny_lists) = deny.unwrap_or_default();
        Access {
            allow,
            deny,
            allow_lists,
            deny_lists,
        }
    }

    /// What usherd does is nobody's business beyond this host, unless the table says whose.
    fn readers_are_named(&mut self, draft: Draft<'_>, listen: &[Listen]) {
        if draft.pick(|k| &k.allow).is_some() {
            return;
        }
        let written = draft.own.listen.iter().flat_map(|at| &at.value);
        for (listen, At { place, .. }) in listen.iter().zip(written) {
            if listen.stays_on_this_host() {
                continue;
            }
            let fault = draft.fault(&format!("{listen} can be read from beyond this host"));
            let help = if listen.has_ip_peers() {
                "say who may read it with `allow`, or listen at 127.0.0.1, [::1] or a unix socket"
            } else {
                "listen at 127.0.0.1, [::1] or a unix socket"
            };
            self.complain(*place, fault.help(help));
        }
    }

    fn speaks_first(&mut self, draft: Draft<'_>, kind: Kind) {
        let Some(At { value, place }) = &draft.own.speaks_first else {
            return;
        };
        let truth = match kind {
            Kind::Builtin(builtin) if server_first(builtin) => Side::Server,
            Kind::Builtin(_) => Side::Client,
            Kind::Exec | Kind::Forward => return,
        };
        if *value != truth {
            let who = if truth == Side::Server {
                "server"
            } else {
                "client"
            };
            let fault = draft.fault(&format!("with this builtin the {who} speaks first"));
            self.complain(*place, fault.help("leave `speaks_first` out"));
        }
    }
}

/// Builtins that do not wait for a byte.
pub(super) fn server_first(builtin: Builtin) -> bool {
    matches!(builtin, Builtin::Chargen | Builtin::Daytime | Builtin::Time)
}

/// What a waiting service takes from [defaults] of the keys it may not have itself: nothing.
fn own_if<T>(wait: bool, value: Option<T>) -> Option<T> {
    if wait { None } else { value }
}

/// Where a key stands that is not `"none"`.
pub(super) fn set_place<T>(at: Option<&At<Option<T>>>) -> Option<crate::table::complaint::Place> {
    at.filter(|at| at.value.is_some()).map(|at| at.place)
}

fn usual_log(kind: Kind) -> LogEvents {
    let process = !matches!(kind, Kind::Builtin(_));
    LogEvents {
        accept: false,
        start: process,
        exit: process,
        refuse: true,
    }
}

/// What a prefix costs in `helper::filter`: load, mask and compare for each
/// 32 bits, and the verdict.
pub(super) fn instructions(prefix: &Prefix) -> usize {
    match prefix.addr {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 3 * usize::from(prefix.bits.div_ceil(32)) + 1,
    }
}
