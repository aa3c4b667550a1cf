//! How long a client may wait before its server starts.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::time::Duration;

use crate::demux::plan::{Facts, Step};
use crate::demux::{Content, Ending, Protocol};
use crate::front::pending::routes::Routes;
use crate::table::{Service, Side};

/// A line for each service of the address.
pub fn show(out: &mut String, services: &[&Service], routes: &Routes) {
    out.push_str("how long a client may wait before its server starts:\n");
    for (candidate, service) in services.iter().enumerate() {
        let _ = writeln!(
            out,
            "  {}: {}",
            service.name,
            wait(candidate, services, routes)
        );
    }
}

fn wait(candidate: usize, services: &[&Service], routes: &Routes) -> String {
    let service = services[candidate];
    let entries = routes.plan.entries();
    let own = || entries.iter().filter(|e| e.route.candidate == candidate);
    let (silence, whole) = (
        seconds(routes.first_byte_timeout),
        seconds(routes.match_timeout),
    );
    let at_once = |entry: &&crate::demux::plan::Entry| {
        let before = entries
            .iter()
            .take_while(|other| !std::ptr::eq(*other, *entry));
        !entry.reads() && !entry.is_for_the_end() && before.into_iter().all(|e| !e.reads())
    };
    if own().any(|entry| at_once(&entry)) {
        return "not at all, its address is enough".into();
    }
    if own().any(super::Entry::is_for_silence) || service.routing.speaks_first == Side::Server {
        return format!("up to {silence}, the client may wait for the server's banner");
    }
    if own().all(|entry| entry.is_for_the_end()) {
        let silent = if takes_silence(service) {
            format!("{silence} if it says nothing, else ")
        } else {
            String::new()
        };
        return format!("until the wait for bytes ends: {silent}up to {whole}");
    }
    if own().all(|entry| !entry.reads()) {
        return format!(
            "until the first bytes rule out the others; up to {silence} if it says nothing, \
             up to {whole} if it says too little"
        );
    }
    if speaks_ssh(service) {
        let fate = match routes
            .plan
            .step(&Facts::default(), &[], Some(Ending::Timeout))
        {
            Step::Route(route) => format!("goes to {}", services[route.candidate].name),
            Step::Need(_) | Step::Refuse => "is dropped".to_owned(),
        };
        return format!(
            "until its first bytes are there; one that waits for the server's banner {fate} \
             after {silence} (speaks_first = \"server\" would serve it)"
        );
    }
    format!("until its first bytes tell, up to {whole}")
}

/// Whether a rule says `timeout`.
fn takes_silence(service: &Service) -> bool {
    let mut rules = service.routing.rules.iter();
    rules.any(|rule| rule.endings.contains(&Ending::Timeout))
}

fn speaks_ssh(service: &Service) -> bool {
    let content = service.routing.rules.iter().flat_map(|rule| &rule.content);
    content
        .into_iter()
        .any(|content| *content == Content::Is(Protocol::Ssh))
}

/// `2 s`, `1.5 s`.
pub fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}
