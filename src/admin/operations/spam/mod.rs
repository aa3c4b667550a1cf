//! `spam.*`: who sends what nobody wants. DNS block lists, greylisting, and local lists
//! that `allow` and `deny` of services name.
#![forbid(unsafe_code)]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd, lock, to};
use crate::admin::lists::{self, Listed, MOST, unix_now};
use crate::table::access::Prefix;

mod dns;
mod greylist;

pub use greylist::greylist;

/// Where resolver(5) has the host's name servers.
const RESOLVERS: &str = "/etc/resolv.conf";
/// One answer; the next name server is asked then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a DNS block list has an address (RFC 5782): `listed`, and by which codes.
pub fn check(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let address = address(request.parameters.text("address")?)?;
    let zone = request.parameters.text("list")?;
    let resolvers = resolvers(request.parameters.some_text("resolver"))?;
    let name = dns::reversed(address, zone);
    let answer = dns::ask(&name, &resolvers, PATIENCE)?;
    // Codes are in 127.0.0.0/8; anything else is a list that has been given up.
    let (codes, strange): (Vec<_>, Vec<_>) =
        answer.into_iter().partition(|code| code.octets()[0] == 127);
    // 127.255.255.x: the list does not answer us, Spamhaus' and others' usual way to say so.
    if let Some(code) = codes.iter().find(|code| code.octets()[1..3] == [255, 255]) {
        let why = format!("{zone} refuses to answer this host's name server ({code})");
        return Err(Failed::new(Kind::Unavailable, why));
    }
    if codes.is_empty() && !strange.is_empty() {
        let why = format!(
            "{zone} answers with {}, which is no code of a block list",
            strange[0]
        );
        return Err(Failed::new(Kind::Unavailable, why));
    }
    let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
    Ok(
        json!({ "address": address.to_string(), "list": zone, "listed": !codes.is_empty(), "codes": codes }),
    )
}

fn address(text: &str) -> Result<IpAddr, Failed> {
    let prefix = prefix(text)?;
    let whole = if prefix.addr.is_ipv4() { 32 } else { 128 };
    match prefix.bits == whole {
        true => Ok(prefix.addr),
        false => Err(Failed::new(
            Kind::Invalid,
            format!("{text} is a network, not an address"),
        )),
    }
}

fn prefix(text: &str) -> Result<Prefix, Failed> {
    text.parse().map_err(|_| {
        let why = format!("{text} is no address or network");
        Failed::new(Kind::Invalid, why)
    })
}

fn resolvers(named: Option<&str>) -> Result<Vec<SocketAddr>, Failed> {
    if let Some(text) = named {
        let one = text
            .parse()
            .or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
        let bad = |_| {
            Failed::new(
                Kind::Invalid,
                format!("{text} is no address of a name server"),
            )
        };
        return one.map(|one| vec![one]).map_err(bad);
    }
    let text = to(
        format_args!("read {RESOLVERS}"),
        fs::read_to_string(RESOLVERS),
    )?;
    let found = dns::servers(&text);
    match found.is_empty() {
        true => Err(Failed::new(
            Kind::Unavailable,
            format!("{RESOLVERS} names no name server"),
        )),
        false => Ok(found),
    }
}

/// Puts a network on a list, for a time or for good; what it says of it already is replaced,
/// unless a service asks and somebody else said it.
pub fn block(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let prefix = prefix(request.parameters.text("prefix")?)?;
    let for_ms = request.parameters.some_number("for");
    let seconds = for_ms.map(|ms| u64::try_from(ms).unwrap_or(0).div_ceil(1000));
    let until = seconds.map(|seconds| unix_now().saturating_add(seconds));
    change(request, usherd, |all| {
        permit(request, all, prefix)?;
        all.retain(|one| one.prefix != prefix);
        if all.len() >= MOST {
            let why = format!("the list has {MOST} lines already");
            return Err(Failed::new(Kind::Unavailable, why));
        }
        let by = Some(request.caller.name());
        all.push(Listed { prefix, until, by });
        Ok(json!({ "prefix": prefix.to_string(), "seconds": seconds }))
    })
}

/// Takes a network off a list.
pub fn unlist(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let prefix = prefix(request.parameters.text("prefix")?)?;
    change(request, usherd, |all| {
        permit(request, all, prefix)?;
        let before = all.len();
        all.retain(|one| one.prefix != prefix);
        match all.len() < before {
            true => Ok(json!({ "prefix": prefix.to_string() })),
            false => Err(Failed::new(
                Kind::NotFound,
                format!("{prefix} is not on the list"),
            )),
        }
    })
}

/// A service changes what it put there itself.
fn permit(request: &Request, all: &[Listed], prefix: Prefix) -> Result<(), Failed> {
    let caller = &request.caller;
    let mut same = all.iter().filter(|one| one.prefix == prefix);
    let Some(other) = same.find(|one| !caller.may_change(one.by.as_deref())) else {
        return Ok(());
    };
    let by = other.by.as_deref().unwrap_or("somebody else");
    let reason = format!("{prefix} is on the list as {by} wanted, not this service");
    Err(Failed::new(Kind::Forbidden, reason))
}

/// What is on a list.
pub fn list(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let name = request.parameters.text("list")?;
    let now = unix_now();
    let all = read(&request.places.state_dir, name)?;
    let limit = request.parameters.some_number("limit").unwrap_or(1000);
    let shown: Vec<Value> = (all.iter())
        .take(usize::try_from(limit).unwrap_or(0))
        .map(|one| {
            let left = one.until.map(|until| until.saturating_sub(now));
            json!({ "prefix": one.prefix.to_string(), "seconds_left": left, "by": one.by })
        })
        .collect();
    Ok(json!({ "list": name, "entries": all.len(), "prefixes": shown }))
}

fn read(state_dir: &Path, name: &str) -> Result<Vec<Listed>, Failed> {
    to(
        format_args!("read list:{name}"),
        lists::read(state_dir, name, unix_now()),
    )
}

/// Changes a list, alone, and puts it in force.
fn change(
    request: &Request,
    usherd: &mut dyn Usherd,
    act: impl FnOnce(&mut Vec<Listed>) -> Outcome,
) -> Outcome {
    let name = request.parameters.text("list")?;
    let dir = &request.places.state_dir;
    let lock = lock(&dir.join(lists::FOLDER), request)?;
    let before = read(dir, name)?;
    let mut all = before.clone();
    let mut outcome = act(&mut all)?;
    if let Some(outcome) = outcome.as_object_mut() {
        outcome.insert("list".into(), json!(name));
        outcome.insert("entries".into(), json!(all.len()));
    }
    if request.dry_run {
        return Ok(outcome);
    }
    let what = format!("write list:{name}");
    to(&what, lists::write(dir, name, &all))?;
    if let Err(failed) = usherd.call("ReloadLists", json!({})) {
        // What is not in force is not to come into force by itself some day.
        to(&what, lists::write(dir, name, &before))?;
        return Err(failed);
    }
    drop(lock);
    Ok(outcome)
}

#[cfg(test)]
mod tests;
