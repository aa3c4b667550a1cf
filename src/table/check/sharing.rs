//! Services at one address: what belongs to the address must be the same in
//! all of them, and their rules must leave each of them something.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::Check;
use super::conflicts::{Group, Member};
use super::matching::{Way, place_of_rule};
use super::shared::{Agreement, Clash};
use crate::demux::overlap::{Finding, Id, Medium, Share, inspect};
use crate::demux::{Ending, Rule};
use crate::table::complaint::{At, Complaint, Fault, Place};
use crate::table::schema::{Keys, RawService};
use crate::table::{FIRST_BYTE_TIMEOUT, MATCH_TIMEOUT, Routing, Service, Side, show_rule};

/// The services of a check, as written and as built.
pub(super) struct Services<'a> {
    pub raw: &'a [RawService],
    pub defaults: &'a Keys,
    pub built: &'a mut [Option<Service>],
}

impl Check<'_> {
    /// Fills in what services at one address have in common, after every
    /// complaint about them.
    pub(super) fn share(
        &mut self,
        raw: &[RawService],
        defaults: &Keys,
        groups: &[Group<'_>],
        built: &mut [Option<Service>],
    ) {
        let services = &mut Services {
            raw,
            defaults,
            built,
        };
        let streams: Vec<&Group<'_>> = groups
            .iter()
            .filter(|group| self.is_streams(group, services))
            .collect();
        self.one_socket(&streams, services);
        self.proxy_protocol(&streams, services);
        self.deadlines(&streams, services);
        for group in groups {
            self.compare_rules(group, services);
        }
    }

    fn is_streams(&self, group: &Group<'_>, services: &Services<'_>) -> bool {
        let first = group.members.first();
        let service = first.and_then(|member| services.get(member.service));
        service.is_some_and(|s| self.way(group.listen, s.rules.wait) == Ok(Way::Streams))
    }

    fn proxy_protocol(&mut self, groups: &[&Group<'_>], services: &mut Services<'_>) {
        let fits = |group: &Group<'_>| group.listen.has_ip_peers();
        let own = |keys: &Keys| keys.proxy_protocol.clone();
        let mut agreed = Agreement::new(services.raw.len());
        for (number, raw) in services.raw.iter().enumerate() {
            agreed.say(number, own(&raw.keys));
        }
        let clashes = agreed.settle(groups, fits);
        self.disagreements("proxy_protocol", &clashes, services);
        for group in groups.iter().filter(|group| fits(group)) {
            for member in &group.members {
                agreed.say_if_silent(member.service, own(services.defaults));
            }
        }
        for (number, service) in services.built.iter_mut().enumerate() {
            if let Some(service) = service {
                service.routing.proxy_protocol = agreed.value(number).cloned();
            }
        }
    }

    fn deadlines(&mut self, groups: &[&Group<'_>], services: &mut Services<'_>) {
        let waiting: Vec<&Group<'_>> = groups
            .iter()
            .copied()
            .filter(|group| services.waits(group))
            .collect();
        let waits = waited_for(&waiting, services.raw.len());
        self.deadlines_for_nothing(&waits, services);
        let total = self.deadline("match_timeout", &waiting, services, |k| &k.match_timeout);
        let mut first = self.deadline("first_byte_timeout", &waiting, services, |k| {
            &k.first_byte_timeout
        });
        let total_of = |number: usize| total.value(number).copied().unwrap_or(MATCH_TIMEOUT);
        for group in waiting.iter().filter(|group| services.has_silence(group)) {
            for Member { service, .. } in &group.members {
                let usual = FIRST_BYTE_TIMEOUT.min(total_of(*service));
                let place = services.place(*service);
                first.say_if_silent(
                    *service,
                    Some(At {
                        value: usual,
                        place,
                    }),
                );
            }
        }
        first.settle(&waiting, |_| true);
        for (number, waits) in waits.iter().enumerate() {
            let enabled = services.get(number).is_some_and(|s| s.enabled);
            let said = first.place(number).or(total.place(number));
            let (total, first) = match waits {
                true => (
                    Some(total_of(number)),
                    first.value(number).copied().or(Some(total_of(number))),
                ),
                // What is not in use is kept as it is written.
                false if !enabled => (total.value(number).copied(), first.value(number).copied()),
                false => (None, None),
            };
            if let Some(service) = services.built.get_mut(number).and_then(Option::as_mut) {
                service.routing.match_timeout = total;
                service.routing.first_byte_timeout = first;
                self.in_order(&service.routing, said.unwrap_or(Place::whole(0)));
            }
        }
    }

    /// One deadline as said by the services themselves, else by `[defaults]`.
    fn deadline(
        &mut self,
        key: &str,
        waiting: &[&Group<'_>],
        services: &Services<'_>,
        pick: impl Fn(&Keys) -> &Option<At<Duration>>,
    ) -> Agreement<Duration> {
        let mut agreed = Agreement::new(services.raw.len());
        for (number, raw) in services.raw.iter().enumerate() {
            agreed.say(number, pick(&raw.keys).clone());
        }
        let clashes = agreed.settle(waiting, |_| true);
        self.disagreements(key, &clashes, services);
        for member in waiting.iter().flat_map(|group| &group.members) {
            agreed.say_if_silent(member.service, pick(services.defaults).clone());
        }
        agreed
    }

    fn deadlines_for_nothing(&mut self, waits: &[bool], services: &Services<'_>) {
        for (number, raw) in services.raw.iter().enumerate() {
            let Some(service) = services.get(number).filter(|s| s.enabled) else {
                continue;
            };
            let streams = service
                .listen
                .iter()
                .any(|listen| self.way(listen, service.rules.wait) == Ok(Way::Streams));
            if waits.get(number) == Some(&true) || !streams {
                continue;
            }
            for key in ["match_timeout", "first_byte_timeout"] {
                if let Some(place) = raw.keys.place_of(key) {
                    let fault = Fault::new(format!(
                        "service \"{}\": `{key}` has nothing to do: no byte is waited for here",
                        service.name
                    ));
                    let help =
                        "it is for addresses with a `match` about bytes or with `proxy_protocol`";
                    self.complain(place, fault.help(help));
                }
            }
        }
    }

    /// The first byte cannot be waited for longer than all that is needed.
    fn in_order(&mut self, routing: &Routing, place: Place) {
        let (Some(first), Some(total)) = (routing.first_byte_timeout, routing.match_timeout) else {
            return;
        };
        if first > total {
            let show = crate::table::value::show_duration;
            let fault = Fault::new(format!(
                "first_byte_timeout = \"{}\" is longer than match_timeout = \"{}\"",
                show(first),
                show(total)
            ))
            .help("both count from accept; `match_timeout` is the whole of it");
            self.complain(place, fault);
        }
    }

    /// Different values for the one socket that several services have.
    pub(super) fn disagreements(&mut self, key: &str, clashes: &[Clash], services: &Services<'_>) {
        for clash in clashes {
            let (later, first) = (services.name(clash.later), services.name(clash.first));
            let fault = Fault::new(format!(
                "service \"{later}\": `{key}` is another than that of service \"{first}\", \
                 and both are for {}",
                clash.listen
            ))
            .help("write the same in both, or write it in one of them only");
            let note = format!("what service \"{first}\" says");
            let complaint = fault.at(clash.later_place).and(clash.first_place, note);
            self.complaints.push(complaint);
        }
    }

    fn compare_rules(&mut self, group: &Group<'_>, services: &Services<'_>) {
        let members: Vec<(&Member, &Service)> = group
            .members
            .iter()
            .filter_map(|member| Some((member, services.get(member.service)?)))
            .collect();
        let shares: Vec<Share<'_>> = members
            .iter()
            .map(|(_, service)| Share {
                rules: &service.routing.rules,
                speaks_first: service.routing.speaks_first == Side::Server,
            })
            .collect();
        if shares.iter().all(|share| share.rules.is_empty()) {
            return;
        }
        let about = |id: Id| {
            let (member, service) = members.get(id.service)?;
            let raw = services.raw.get(member.service)?;
            let rule = id.rule.and_then(|rule| service.routing.rules.get(rule));
            let place = id
                .rule
                .map_or(raw.name.place, |rule| place_of_rule(raw, rule));
            Some(About {
                service: &service.name,
                rule,
                place,
            })
        };
        let medium = match group.listen.is_datagram() {
            Some(true) => Medium::Datagrams,
            Some(false) | None => Medium::Streams,
        };
        if medium == Medium::Datagrams {
            self.one_program(group, services);
        }
        for finding in inspect(&shares, medium) {
            self.say_finding(&finding, about);
        }
    }

    fn say_finding<'s>(
        &mut self,
        finding: &Finding,
        about: impl Fn(Id) -> Option<About<'s>>,
    ) -> Option<()> {
        match finding {
            Finding::Unreachable { rule, part, by } => {
                let complaint = unreachable(&about(*rule)?, part.as_deref(), &about(*by)?);
                // Within one service it only says the same twice.
                if rule.service == by.service {
                    self.warnings.push(complaint);
                } else {
                    self.complaints.push(complaint);
                }
            }
            Finding::ByOrder { first, second } => {
                let (first, second) = (about(*first)?, about(*second)?);
                let fault = Fault::new(format!(
                    "service \"{}\": a request may be for this rule and for one of service \
                     \"{other}\"; table order decides: \"{other}\" first",
                    second.service,
                    other = first.service
                ))
                .help("a `priority` in one of them says which is meant");
                let warning = fault.at(second.place).and(first.place, first.shown());
                self.warnings.push(warning);
            }
            Finding::Silent { first, second } => {
                let (first, second) = (about(*first)?, about(*second)?);
                let fault = Fault::new(format!(
                    "service \"{}\": clients that say nothing could be for it or for service \"{}\"",
                    second.service, first.service
                ))
                .help(
                    "at one address such clients go to one service that speaks first; an address \
                     or a `priority` in `match` says which",
                );
                let complaint = fault.at(second.place).and(first.place, first.shown());
                self.complaints.push(complaint);
            }
        }
        Some(())
    }
}

/// A rule, and where it stands.
struct About<'a> {
    service: &'a str,
    rule: Option<&'a Rule>,
    place: Place,
}

impl About<'_> {
    fn shown(&self) -> String {
        match self.rule {
            Some(rule) => format!("service \"{}\": {}", self.service, show_rule(rule)),
            None => format!("service \"{}\"", self.service),
        }
    }
}

fn unreachable(rule: &About<'_>, part: Option<&str>, by: &About<'_>) -> Complaint {
    let what = match (part, rule.rule) {
        (Some(part), _) => format!("{part} in `match`"),
        (None, Some(_)) => "this rule".to_owned(),
        (None, None) => "this service".to_owned(),
    };
    let rank = |about: &About<'_>| about.rule.map_or(0, |rule| rule.priority);
    let (by_name, name) = (by.service, rule.service);
    let help = if name == by_name {
        "leave one of them out".to_owned()
    } else if rank(by) > rank(rule) {
        format!("its `priority` is lower; raise it, or narrow the rule of \"{by_name}\"")
    } else if rule.rule.is_none() {
        format!("a service without `match` comes last; narrow the rule of \"{by_name}\"")
    } else {
        format!(
            "move it before service \"{by_name}\", give it a higher `priority`, \
             or narrow the rule of \"{by_name}\""
        )
    };
    let taker = if name == by_name {
        "another rule of its own".to_owned()
    } else {
        format!("service \"{by_name}\"")
    };
    Fault::new(format!(
        "service \"{name}\": {what} is never reached: {taker} takes all of it"
    ))
    .help(help)
    .at(rule.place)
    .and(by.place, by.shown())
}

/// For each service whether it is in one of the groups.
fn waited_for(waiting: &[&Group<'_>], services: usize) -> Vec<bool> {
    let mut waits = vec![false; services];
    for member in waiting.iter().flat_map(|group| &group.members) {
        if let Some(waits) = waits.get_mut(member.service) {
            *waits = true;
        }
    }
    waits
}

impl Services<'_> {
    pub(super) fn get(&self, number: usize) -> Option<&Service> {
        self.built.get(number)?.as_ref()
    }

    fn name(&self, number: usize) -> &str {
        self.raw.get(number).map_or("", |raw| &raw.name.value)
    }

    fn place(&self, number: usize) -> Place {
        let raw = self.raw.get(number);
        raw.map_or(Place::whole(0), |raw| raw.name.place)
    }

    fn members<'g>(&'g self, group: &'g Group<'_>) -> impl Iterator<Item = &'g Service> {
        let members = group.members.iter();
        members.filter_map(|member| self.get(member.service))
    }

    /// Whether some requests at the address are waited for.
    fn waits(&self, group: &Group<'_>) -> bool {
        let ip = group.listen.has_ip_peers();
        let unruled = |s: &&Service| s.routing.rules.is_empty();
        self.members(group).any(|service| {
            let later = |rule: &Rule| !rule.content.is_empty() || !rule.endings.is_empty();
            service.routing.rules.iter().any(later)
                || ip && service.routing.proxy_protocol.is_some()
        }) || self.members(group).filter(unruled).count() > 1
    }

    /// Whether clients that say nothing are for somebody there.
    fn has_silence(&self, group: &Group<'_>) -> bool {
        let alone = group.members.len() == 1;
        self.members(group).any(|service| {
            let rules = &service.routing.rules;
            let greets = service.routing.speaks_first == Side::Server
                && (rules.is_empty() && !alone || rules.iter().any(|r| !r.content.is_empty()));
            greets || rules.iter().any(|r| r.endings.contains(&Ending::Timeout))
        })
    }
}
