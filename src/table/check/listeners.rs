//! `listen` and `wait`: what kind of requests come in, and who takes them.
#![forbid(unsafe_code)]

use super::{Check, Draft, Kind, has_streams};
use crate::table::address::Inet;
use crate::table::complaint::{At, Fault, Place};
use crate::table::host::{Inherited, InheritedKind};
use crate::table::{Builtin, Listen};

impl Check<'_> {
    /// The addresses of a service, `None` if there is none to speak of.
    pub(super) fn listeners(&mut self, draft: Draft<'_>) -> Option<Vec<Listen>> {
        let Some(listen) = &draft.own.listen else {
            if !draft.own.mentions("listen") {
                let fault = draft
                    .fault("no address to listen at")
                    .help("write listen = \"tcp:PORT\" or another address");
                self.complain(draft.place(), fault);
            }
            return None;
        };
        if draft.enabled() {
            for at in &listen.value {
                self.possible_address(draft, at);
            }
        }
        Some(listen.value.iter().map(|at| at.value.clone()).collect())
    }

    fn possible_address(&mut self, draft: Draft<'_>, at: &At<Listen>) {
        match &at.value {
            Listen::Inet(Inet { port, .. }) if self.host.forbids_port(*port) => {
                let problem = format!("port {port} needs root or CAP_NET_BIND_SERVICE");
                let fault = draft.fault(&problem).help(format!(
                    "ports from {} on are free to all",
                    self.host.unprivileged_port_start
                ));
                self.complain(at.place, fault);
            }
            Listen::Inherited { name } => self.was_inherited(draft, name, at.place),
            _ => {}
        }
    }

    fn was_inherited(&mut self, draft: Draft<'_>, name: &str, place: Place) {
        let fault = draft.fault(&format!("no descriptor named \"{name}\" was inherited"));
        match &self.host.inherited {
            Inherited::Unknown => {
                let fault = draft
                    .fault(&format!(
                        "whether a descriptor \"{name}\" is inherited shows at the start"
                    ))
                    .help("whoever starts usherd sets LISTEN_FDS and LISTEN_FDNAMES");
                self.warn(place, fault);
            }
            Inherited::Known(known) if known.is_empty() => {
                let help = "nothing at all was: LISTEN_FDS is not set for this process";
                self.complain(place, fault.help(help));
            }
            Inherited::Known(known) if !known.iter().any(|(n, _)| n == name) => {
                let names: Vec<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
                let help = format!("these were: {}", names.join(", "));
                self.complain(place, fault.help(help));
            }
            Inherited::Known(_) => {}
        }
    }

    pub(super) fn inherited_kind(&self, name: &str) -> Option<InheritedKind> {
        let Inherited::Known(known) = &self.host.inherited else {
            return None;
        };
        known.iter().find(|(n, _)| n == name).map(|(_, kind)| *kind)
    }

    /// Whether the server takes the socket itself by nature of the address:
    /// datagram sockets and connections that came with LISTEN_FDS.
    fn waits_by_nature(&self, listen: &Listen) -> bool {
        match listen {
            Listen::Inherited { name } => matches!(
                self.inherited_kind(name),
                Some(InheritedKind::Datagram | InheritedKind::Connection)
            ),
            other => other.is_datagram() == Some(true),
        }
    }

    /// The value of `wait` in force, after every complaint about it.
    pub(super) fn wait(&mut self, draft: Draft<'_>, kind: Kind, listen: &[Listen]) -> bool {
        match kind {
            Kind::Exec => self.wait_of_exec(draft, listen),
            Kind::Builtin(builtin) => {
                self.no_wait(draft, "a builtin service");
                if builtin.tells_figures() || builtin == Builtin::Tcpmux {
                    self.streams_only(draft, listen, builtin.name());
                }
                self.no_connections(draft, listen);
                false
            }
            Kind::Forward => {
                self.no_wait(draft, "a relay");
                self.streams_only(draft, listen, "a relay");
                self.no_connections(draft, listen);
                false
            }
        }
    }

    fn wait_of_exec(&mut self, draft: Draft<'_>, listen: &[Listen]) -> bool {
        let natures: Vec<bool> = listen.iter().map(|l| self.waits_by_nature(l)).collect();
        let by_nature = natures.contains(&true);
        let own = draft.own.wait.as_ref();
        // From [defaults] it is about streams: a datagram server has no choice.
        let inherited = draft.defaults.wait.as_ref().map(|at| at.value);
        let wait = match own {
            Some(at) => at.value,
            None => by_nature || inherited.unwrap_or(false),
        };
        if by_nature && !wait {
            let fault = draft
                .fault("a datagram server takes the socket itself, so it cannot have wait = false")
                .help("each datagram of a socket goes to whoever reads it first; leave `wait` out");
            let place = own.map_or(draft.place(), |at| at.place);
            self.complain(place, fault);
        }
        if by_nature && natures.contains(&false) && own.is_none() && inherited != Some(true) {
            let fault = draft
                .fault("datagrams wait for their server and streams do not, and `wait` is for both")
                .help("make two services of it, or write wait = true");
            self.complain(draft.place(), fault);
        }
        if wait && listen.iter().any(|l| matches!(l, Listen::Tcpmux { .. })) {
            let fault = draft.fault(
                "a tcpmux server gets the one connection that asked for it, so it cannot wait",
            );
            let place = own.map_or(draft.place(), |at| at.place);
            self.complain(place, fault);
        }
        wait
    }

    fn no_wait(&mut self, draft: Draft<'_>, what: &str) {
        if let Some(At { value: true, place }) = &draft.own.wait {
            let problem = format!("{what} has no server to wait for");
            self.complain(*place, draft.fault(&problem).help("leave `wait` out"));
        }
    }

    fn streams_only(&mut self, draft: Draft<'_>, listen: &[Listen], what: &str) {
        let written = draft.own.listen.iter().flat_map(|at| &at.value);
        for (listen, At { place, .. }) in listen.iter().zip(written) {
            let datagrams = match listen {
                Listen::Inherited { name } => {
                    self.inherited_kind(name) == Some(InheritedKind::Datagram)
                }
                other => !has_streams(std::slice::from_ref(other)),
            };
            if datagrams {
                let fault =
                    draft.fault(&format!("{what} is for connections, and {listen} has none"));
                self.complain(*place, fault);
            }
        }
    }

    fn no_connections(&mut self, draft: Draft<'_>, listen: &[Listen]) {
        for listen in listen {
            if let Listen::Inherited { name } = listen
                && self.inherited_kind(name) == Some(InheritedKind::Connection)
            {
                let fault = Fault::new(format!(
                    "service \"{}\": fd:{name} is a connection, not a listener",
                    draft.raw.name.value
                ))
                .help("only an `exec` service can be given it");
                self.complain(draft.place(), fault);
            }
        }
    }
}
