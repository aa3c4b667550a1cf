//! Who is banned, and what may be.
#![forbid(unsafe_code)]

use std::env;
use std::net::IpAddr;

use serde_json::json;

use nix::ifaddrs::getifaddrs;

use super::super::{Failed, Kind, Outcome, Request, Usherd, to};
use super::table::{self, Element, What};
use super::{change, has_room, is_host, prefix, seconds, show, widest};
use crate::table::Prefix;

/// Of the operation's `env`: addresses that are never banned.
const KEEP: &str = "KEEP";

/// This machine, and without what IPv6 finds its neighbours by.
const NEVER: [&str; 5] = [
    "127.0.0.0/8",
    "0.0.0.0/8",
    "::/127",
    "fe80::/10",
    "ff00::/8",
];

/// `firewall.ban`
pub fn ban(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let who = prefix(given.text("prefix")?)?;
    permit(&who, &kept(&env::var(KEEP).unwrap_or_default())?)?;
    permit_neighbours(&who, &own()?, request.caller.service.is_some())?;
    let seconds = seconds(request);
    let by = request.caller.name();
    let comment = match given.some_text("reason") {
        Some(reason) => format!("{by}: {reason}"),
        None => by,
    };
    let may_replace = |element: &Element| request.caller.may_change(element.by());
    change(request, |now| {
        let plan = plan(now, &who, seconds, &may_replace)?;
        let mut result = json!({ "prefix": show(&who), "seconds": seconds });
        let commands = match plan {
            Plan::Covered(by) => {
                result["covered_by"] = show(&by).into();
                Vec::new()
            }
            Plan::Replace(old) => {
                let gone =
                    |one: &&Element| matches!(one.what, What::Ban(known) if old.contains(&known));
                let stays = now.iter().filter(|one| !gone(one));
                has_room(stays, &What::Ban(who), &request.caller)?;
                let old = old.into_iter().map(|old| table::delete(&What::Ban(old)));
                let new = table::add(&What::Ban(who), seconds, Some(&comment));
                old.chain([new]).collect()
            }
        };
        Ok((commands, result))
    })
}

/// `firewall.unban`
pub fn unban(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let who = prefix(request.parameters.text("prefix")?)?;
    change(request, |now| {
        let found = now.iter().find(|element| element.what == What::Ban(who));
        let Some(found) = found else {
            let all = bans(now).map(|(known, _)| known);
            let wider = all.into_iter().find(|known| covers(known, &who));
            let hint = wider.map(|wider| format!("; {} is", show(&wider)));
            let reason = format!("{} is not banned{}", show(&who), hint.unwrap_or_default());
            return Err(Failed::new(Kind::NotFound, reason));
        };
        if !request.caller.may_change(found.by()) {
            let by = found.by().unwrap_or("somebody else");
            let reason = format!("{} was banned by {by}", show(&who));
            return Err(Failed::new(Kind::Forbidden, reason));
        }
        let result = json!({ "prefix": show(&who), "seconds_left": found.seconds_left });
        Ok((vec![table::delete(&found.what)], result))
    })
}

/// What is to be done about one that is to be banned.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing: this one is, for as long.
    Covered(Prefix),
    /// Add it, without these.
    Replace(Vec<Prefix>),
}

/// Sets of networks hold none that is within another one. No ban is shortened by another.
fn plan(
    now: &[Element],
    who: &Prefix,
    seconds: Option<u64>,
    may_replace: &impl Fn(&Element) -> bool,
) -> Result<Plan, Failed> {
    let mut replaced = Vec::new();
    for (known, element) in bans(now) {
        let lasts = element.outlasts(seconds);
        let is_same = known == *who;
        if !is_same && (is_host(&known) || is_host(who)) {
            continue;
        }
        if is_same && may_replace(element) {
            replaced.push(known);
        } else if covers(&known, who) && lasts {
            return Ok(Plan::Covered(known));
        } else if covers(who, &known) && !lasts && may_replace(element) {
            replaced.push(known);
        } else if covers(&known, who) || covers(who, &known) {
            let known = show(&known);
            let reason = format!("{known} is banned already, for another time: unban it first");
            return Err(Failed::new(Kind::Exists, reason));
        }
    }
    Ok(Plan::Replace(replaced))
}

fn bans(elements: &[Element]) -> impl Iterator<Item = (Prefix, &Element)> {
    elements.iter().filter_map(|element| match element.what {
        What::Ban(prefix) => Some((prefix, element)),
        What::Closed(_) | What::Open(..) => None,
    })
}

fn covers(wide: &Prefix, narrow: &Prefix) -> bool {
    wide.bits <= narrow.bits && wide.contains(narrow.addr)
}

/// The list of the operation's `env`: prefixes with blanks between them.
fn kept(list: &str) -> Result<Vec<Prefix>, Failed> {
    let all = list
        .split_whitespace()
        .map(prefix)
        .collect::<Result<_, _>>();
    all.map_err(|why| Failed::new(Kind::Failed, format!("{KEEP} of the catalogue: {why}")))
}

/// The addresses that this machine has now, beside those of [`NEVER`].
fn own() -> Result<Vec<Prefix>, Failed> {
    let all = to("ask for this machine's addresses", getifaddrs())?;
    let all = all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        v4.or(v6)
    });
    let whole = |addr: IpAddr| Prefix {
        addr,
        bits: if addr.is_ipv4() { 32 } else { 128 },
    };
    Ok(all.map(whole).collect())
}

/// This machine itself passes in any case; its neighbours, and what leads to the others,
/// are in the same networks: a service does not cut it off from them.
fn permit_neighbours(who: &Prefix, own: &[Prefix], is_service: bool) -> Result<(), Failed> {
    let touches = |one: &&Prefix| one == &who || is_service && covers(who, one);
    match own.iter().find(touches) {
        None => Ok(()),
        Some(own) => {
            let why = format!(
                "{} is never banned: this machine has {}",
                show(who),
                show(own)
            );
            Err(Failed::new(Kind::Forbidden, why))
        }
    }
}

fn permit(who: &Prefix, kept: &[Prefix]) -> Result<(), Failed> {
    let forbid = |reason: String| Err(Failed::new(Kind::Forbidden, reason));
    let widest = widest(who);
    if who.bits < widest {
        return forbid(format!("{who} is too wide: at least /{widest}"));
    }
    let never = NEVER.iter().filter_map(|text| text.parse().ok());
    let never: Vec<Prefix> = never.collect();
    let touches = |one: &&Prefix| covers(one, who) || covers(who, one);
    if let Some(never) = never.iter().find(touches) {
        return forbid(format!(
            "{} is never banned: this machine needs {never}",
            show(who)
        ));
    }
    if let Some(kept) = kept.iter().find(touches) {
        return forbid(format!(
            "{} is never banned: {KEEP} has {}",
            show(who),
            show(kept)
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn banned(prefix: &str, seconds_left: Option<u64>) -> Element {
        Element {
            what: What::Ban(prefix.parse().unwrap()),
            seconds_left,
            comment: Some("uid 0".into()),
        }
    }

    fn planned(now: &[Element], who: &str, seconds: Option<u64>, all: bool) -> Result<Plan, Kind> {
        let plan = plan(now, &who.parse().unwrap(), seconds, &|_: &Element| all);
        plan.map_err(|failed| failed.kind)
    }

    #[test]
    fn a_ban_never_shortens_another() {
        let now = [
            banned("198.51.100.0/24", Some(60)),
            banned("192.0.2.7", None),
        ];
        let replace = |list: &[&str]| {
            let list = list.iter().map(|text| text.parse().unwrap());
            Ok(Plan::Replace(list.collect()))
        };
        let covered = Ok(Plan::Covered("198.51.100.0/24".parse().unwrap()));
        assert_eq!(planned(&now, "203.0.113.0/24", None, true), replace(&[]));
        // One address has a set of its own.
        assert_eq!(planned(&now, "198.51.100.7", None, true), replace(&[]));
        assert_eq!(planned(&now, "192.0.2.0/24", Some(1), true), replace(&[]));
        // A network within another one.
        assert_eq!(planned(&now, "198.51.100.64/26", Some(60), true), covered);
        assert_eq!(
            planned(&now, "198.51.100.64/26", Some(61), true),
            Err(Kind::Exists)
        );
        // A wider one.
        assert_eq!(
            planned(&now, "198.51.0.0/16", None, true),
            replace(&["198.51.100.0/24"])
        );
        assert_eq!(
            planned(&now, "198.51.0.0/16", Some(30), true),
            Err(Kind::Exists)
        );
        assert_eq!(
            planned(&now, "198.51.0.0/16", None, false),
            Err(Kind::Exists)
        );
        // The same once more: as whoever may says, else only if it is no shorter.
        assert_eq!(
            planned(&now, "198.51.100.0/24", Some(5), true),
            replace(&["198.51.100.0/24"])
        );
        assert_eq!(planned(&now, "198.51.100.0/24", Some(5), false), covered);
        assert_eq!(
            planned(&now, "192.0.2.7", Some(5), false),
            Ok(Plan::Covered("192.0.2.7".parse().unwrap()))
        );
        assert_eq!(
            planned(&now, "198.51.100.0/24", None, false),
            Err(Kind::Exists)
        );
    }

    #[test]
    fn a_service_does_not_ban_the_networks_of_this_machine() {
        let own = ["198.51.100.7", "2001:db8:7::1"].map(|own| own.parse().unwrap());
        let may = |who: &str, is_service| {
            permit_neighbours(&who.parse().unwrap(), &own, is_service).is_ok()
        };
        for network in ["198.51.100.0/28", "198.0.0.0/8", "2001:db8:7::/48"] {
            assert!(may(network, false) && !may(network, true), "{network}");
        }
        for own in ["198.51.100.7", "2001:db8:7::1"] {
            assert!(!may(own, false) && !may(own, true), "{own}");
        }
        for other in ["198.51.100.8", "198.51.100.8/29", "2001:db8:8::/48"] {
            assert!(may(other, false) && may(other, true), "{other}");
        }
    }

    #[test]
    fn this_machine_and_whoever_is_kept_is_not_banned() {
        let kept = kept("192.0.2.0/24  2001:db8::1").unwrap();
        let may = |who: &str| permit(&who.parse().unwrap(), &kept).is_ok();
        for never in [
            "127.0.0.1",
            "::1",
            "::",
            "fe80::7",
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/7",
            "192.0.2.77",
            "192.0.0.0/16",
            "2001:db8::/32",
            "ff02::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(!may(never), "{never}");
        }
        for fine in [
            "198.51.100.1",
            "10.0.0.0/8",
            "2001:db8:1::/48",
            "2001:db8::2",
        ] {
            assert!(may(fine), "{fine}");
        }
        assert!(super::kept("192.0.2.1/24").is_err());
    }
}
