//! Datagrams: the kernel decides about each of them, by the same tests.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::{Question, refusal};
use crate::demux::datagram::{Asked, ordered};
use crate::table::{Service, show_rule};

pub fn answer(
    services: &[&Service],
    question: &Question,
    sent: Option<&[u8]>,
) -> Result<String, String> {
    let mut out = String::new();
    let address = &question.address;
    if let [only] = services
        && only.routing.rules.is_empty()
    {
        let _ = writeln!(out, "{address}: everything is for {}", only.name);
        return Ok(out);
    }
    let rules = services.iter().map(|service| &*service.routing.rules);
    let asked =
        ordered(rules).map_err(|(at, why)| format!("service \"{}\": {why}", services[at].name))?;
    let _ = writeln!(
        out,
        "{address}: the kernel decides about each datagram by itself, in this order"
    );
    for (number, asked) in asked.iter().enumerate() {
        let _ = writeln!(out, "  {:2}. {}", number + 1, title(asked, services));
    }
    if let Some(sent) = sent {
        decide(&mut out, &asked, services, question, sent);
    }
    Ok(out)
}

fn title(asked: &Asked, services: &[&Service]) -> String {
    let service = services[asked.service];
    let rule = asked.rule.and_then(|rule| service.routing.rules.get(rule));
    let text = rule.map_or_else(|| "everything else".to_owned(), show_rule);
    format!("{}: {text}", service.name)
}

fn decide(
    out: &mut String,
    all: &[Asked],
    services: &[&Service],
    question: &Question,
    sent: &[u8],
) {
    let peer = question.from.map(|peer| peer.ip);
    // Nobody in particular, whom no prefix but the widest has.
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let (from, to) = (peer.unwrap_or(nobody), question.to.unwrap_or(nobody));
    let _ = writeln!(out, "\nthis datagram: {} bytes", sent.len());
    for (number, asked) in all.iter().enumerate() {
        let holds = asked.tests.holds(from, to.to_canonical(), sent);
        let answer = if holds { "yes" } else { "no" };
        let title = title(asked, services);
        let _ = writeln!(out, "  {:2}. {title} -- {answer}", number + 1);
        if holds {
            let service = services[asked.service];
            let _ = writeln!(out, "=> {}", service.name);
            return refusal(out, service, peer);
        }
    }
    let _ = writeln!(out, "=> dropped: no rule of `match` holds");
}
