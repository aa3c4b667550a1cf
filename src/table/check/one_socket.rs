//! The listening socket that several services have: its options are the same
//! in all of them, and none of them waits in vain.
#![forbid(unsafe_code)]

use super::Check;
use super::conflicts::Group;
use super::rules::server_first;
use super::shared::Agreement;
use super::sharing::Services;
use super::sockets::{Fits, SHARED_OPTIONS, SocketOption};
use crate::demux::Ending;
use crate::table::complaint::{At, Fault};
use crate::table::schema::{Keys, RawSocket};
use crate::table::{DEFAULT_BACKLOG, Serve, Service, Side, SocketOptions};

impl Check<'_> {
    pub(super) fn one_socket(&mut self, groups: &[&Group<'_>], services: &mut Services<'_>) {
        let groups: Vec<&Group<'_>> = groups
            .iter()
            .copied()
            .filter(|group| group.members.len() > 1)
            .collect();
        if groups.is_empty() {
            return;
        }
        for group in &groups {
            self.may_defer_for_all(group, services);
        }
        for option in &SHARED_OPTIONS {
            self.one_option(option, &groups, services);
        }
        self.one_backlog(&groups, services);
    }

    fn one_option(
        &mut self,
        option: &SocketOption,
        groups: &[&Group<'_>],
        services: &mut Services<'_>,
    ) {
        let mut agreed = Agreement::new(services.raw.len());
        for (number, raw) in services.raw.iter().enumerate() {
            agreed.say(number, said(option, &raw.keys, services.get(number)));
        }
        let fits = |group: &Group<'_>| (option.fits)(&Fits::of(std::slice::from_ref(group.listen)));
        let clashes = agreed.settle(groups, fits);
        self.disagreements(option.key, &clashes, services);
        for (number, raw) in services.raw.iter().enumerate() {
            // A table of the service's own takes the place of the default as a whole.
            if raw.keys.socket.is_none() {
                let default = said(option, services.defaults, services.get(number));
                agreed.say_if_silent(number, default);
            }
        }
        agreed.settle(groups, fits);
        for (number, service) in services.built.iter_mut().enumerate() {
            if let (Some(service), Some(Same(value, _))) = (service, agreed.value(number)) {
                (option.copy)(&mut service.socket, value);
            }
        }
    }

    fn one_backlog(&mut self, groups: &[&Group<'_>], services: &mut Services<'_>) {
        let mut agreed = Agreement::new(services.raw.len());
        for (number, raw) in services.raw.iter().enumerate() {
            agreed.say(number, raw.keys.backlog.clone());
        }
        let clashes = agreed.settle(groups, |_| true);
        self.disagreements("backlog", &clashes, services);
        for (number, service) in services.built.iter_mut().enumerate() {
            if let (Some(service), Some(backlog)) = (service, agreed.value(number)) {
                service.socket.backlog = Some(*backlog).filter(|n| *n != DEFAULT_BACKLOG);
            }
        }
    }

    /// The kernel holds connections back for everybody at the address.
    fn may_defer_for_all(&mut self, group: &Group<'_>, services: &mut Services<'_>) {
        let members: Vec<usize> = group.members.iter().map(|m| m.service).collect();
        let defers = |number: &usize| {
            let service = services.get(*number);
            service.is_some_and(|s| s.socket.defer_accept.is_some())
        };
        if !members.iter().any(defers) {
            return;
        }
        let reluctant = members.iter().find_map(|number| {
            let service = services.get(*number)?;
            let why = why_not_defer(service, *number, services)?;
            Some((service.name.clone(), why))
        });
        let Some((reluctant, why)) = reluctant else {
            return;
        };
        for number in members {
            let raw = services.raw.get(number);
            let own = raw.and_then(|raw| raw.keys.socket.as_ref()?.value.defer_accept.as_ref());
            if let (Some(raw), Some(own)) = (raw, own) {
                let fault = Fault::new(format!(
                    "service \"{}\": `socket.defer_accept` is for all services at {}, \
                     and \"{reluctant}\" {why}",
                    raw.name.value, group.listen
                ));
                let help =
                    "leave it out, or write speaks_first = \"client\" in each of them if it is so";
                self.complain(own.place, fault.help(help));
            }
            // From [defaults] it is passed over.
            if let Some(service) = services.built.get_mut(number).and_then(Option::as_mut) {
                service.socket.defer_accept = None;
            }
        }
    }
}

/// Socket options that are equal in one of them.
#[derive(Clone)]
struct Same(SocketOptions, fn(&SocketOptions, &SocketOptions) -> bool);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        (self.1)(&self.0, &other.0)
    }
}

/// What `keys` say about an option, if the service took it.
fn said(option: &SocketOption, keys: &Keys, service: Option<&Service>) -> Option<At<Same>> {
    let raw: &RawSocket = &keys.socket.as_ref()?.value;
    let place = (option.place)(raw)?;
    let value = Same(service?.socket.clone(), option.same);
    Some(At { value, place })
}

fn why_not_defer(
    service: &Service,
    number: usize,
    services: &Services<'_>,
) -> Option<&'static str> {
    let own = services.raw.get(number)?.keys.speaks_first.as_ref();
    let stated = own.or(services.defaults.speaks_first.as_ref());
    let routing = &service.routing;
    match &service.serve {
        Serve::Builtin(builtin) if server_first(*builtin) => return Some("speaks first"),
        _ if routing.speaks_first == Side::Server => return Some("speaks first"),
        Serve::Exec(_) | Serve::Forward(_) if stated.is_none() => {
            return Some("does not say that the client speaks first");
        }
        _ => {}
    }
    if service.rules.banner.admitted.is_some() {
        return Some("greets with `banner.admitted`");
    }
    let silent = |ending: &Ending| *ending == Ending::Timeout;
    let waits = routing.rules.iter().any(|r| r.endings.iter().any(silent));
    waits.then_some("has a rule for `timeout`")
}
