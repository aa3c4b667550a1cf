//! `firewall.*`: who reaches this host, and which of its ports, in a table of
//! nftables that is usherd's own ([`table`]). Whatever other tables drop stays
//! dropped, and they are never looked at.
#![forbid(unsafe_code)]

mod bans;
mod gates;
mod table;

use serde_json::{Value, json};

use super::tool::Tool;
use super::{Caller, Failed, Kind, Outcome, Parameters, Request, Usherd, to};
use crate::table::{BadPrefix, Prefix};

use table::{Element, What};

pub use bans::{ban, unban};
pub use gates::{close, open};

const NFT: Tool =
    Tool::new(&["/usr/sbin/nft", "/sbin/nft"], "nftables").longest(table::LONGEST_LISTING);

/// The widest networks, of IPv4 and of IPv6: a typing error is not to cut off half of the
/// world, nor is a service to let it in.
const WIDEST: (u8, u8) = (8, 16);

/// Times that something is begun anew because another one changed the table meanwhile.
const ATTEMPTS: u32 = 5;

/// Of each kind, that `firewall.list` tells unless it is asked for another number.
const TOLD: i64 = 10_000;

/// `firewall.list`
pub fn list(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let all = read()?.unwrap_or_default();
    Ok(listed(&all, &request.parameters))
}

/// How many there are, and of each kind as many as were asked for.
fn listed(all: &[Element], given: &Parameters) -> Value {
    let number = |name, or| usize::try_from(given.some_number(name).unwrap_or(or)).unwrap_or(0);
    let (offset, limit) = (number("offset", 0), number("limit", TOLD));
    let told = |is_wanted: fn(&What) -> bool| {
        let wanted = all.iter().filter(|element| is_wanted(&element.what));
        let shown: Vec<Value> = (wanted.clone().skip(offset).take(limit))
            .map(shown)
            .collect();
        (wanted.count(), shown)
    };
    let (some_bans, bans) = told(|what| matches!(what, What::Ban(_)));
    let (some_closed, closed) = told(|what| matches!(what, What::Closed(_)));
    let (some_open, open) = told(|what| matches!(what, What::Open(..)));
    json!({
        "bans": bans, "closed": closed, "open": open,
        "entries": { "bans": some_bans, "closed": some_closed, "open": some_open },
    })
}

fn shown(element: &Element) -> Value {
    let (left, by) = (element.seconds_left, element.by());
    match &element.what {
        What::Ban(prefix) => json!({
            "prefix": show(prefix), "seconds_left": left, "by": by, "reason": element.reason(),
        }),
        What::Closed(gate) => json!({
            "port": gate.port, "protocol": gate.protocol, "seconds_left": left, "by": by,
        }),
        What::Open(gate, from) => json!({
            "port": gate.port, "protocol": gate.protocol,
            "from": from.as_ref().map(show), "seconds_left": left, "by": by,
        }),
    }
}

/// The elements of the table; `None` if there is no such table.
fn read() -> Result<Option<Vec<Element>>, Failed> {
    let said = NFT.run(&["-j", "list", "table", table::FAMILY, table::NAME], b"")?;
    if said.code != 0 && said.err.contains("No such file or directory") {
        return Ok(None);
    }
    if said.code != 0 {
        return Err(NFT.failed(&said));
    }
    let listing: Value = to(
        "read what nft says",
        serde_json::from_str(NFT.whole(&said)?),
    )?;
    Ok(Some(table::elements(&listing)))
}

/// Changes the table as `plan` says, which is asked again when another one came first.
/// What it returns beside the commands is the result.
fn change(
    request: &Request,
    mut plan: impl FnMut(&[Element]) -> Result<(Vec<Value>, Value), Failed>,
) -> Outcome {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let now = read()?;
        let (commands, result) = plan(now.as_deref().unwrap_or_default())?;
        if request.dry_run {
            return Ok(json!({ "would_run": NFT.command(&["-j", "-f", "-"])?, "input": commands }));
        }
        if commands.is_empty() {
            return Ok(result);
        }
        if now.is_none() {
            apply(&table::creation())?.map_or(Ok(()), |failed| match failed.kind {
                Kind::Busy => Ok(()),
                _ => Err(failed),
            })?;
        }
        match apply(&commands)? {
            None => return Ok(result),
            Some(failed) if failed.kind == Kind::Busy => last = Some(failed),
            Some(failed) => return Err(failed),
        }
    }
    Err(last.unwrap_or_else(|| Failed::new(Kind::Busy, "the firewall changes all the time")))
}

/// All of them or none. [`Kind::Busy`]: something was there that was not, or the reverse.
fn apply(commands: &[Value]) -> Result<Option<Failed>, Failed> {
    let input = json!({ "nftables": commands }).to_string();
    let said = NFT.run(&["-j", "-f", "-"], input.as_bytes())?;
    if said.code == 0 {
        return Ok(None);
    }
    // ENFILE: more than SIZE.
    if said.err.contains("Too many open files in system") {
        let most = table::SIZE;
        let reason = format!("the table is full: it has {most} of that kind; lift some first");
        return Err(Failed::new(Kind::Failed, reason));
    }
    let mut failed = NFT.failed(&said);
    let crossed = [
        "File exists",
        "overlaps",
        "does not exist",
        "No such file or directory",
    ];
    if crossed.iter().any(|words| said.err.contains(words)) {
        failed.kind = Kind::Busy;
    }
    Ok(Some(failed))
}

/// Fails if the caller is a service that has as many in the set of `what` as one may.
/// `now`: without what makes way for it.
fn has_room<'a>(
    now: impl Iterator<Item = &'a Element>,
    what: &What,
    caller: &Caller,
) -> Result<(), Failed> {
    if caller.service.is_none() {
        return Ok(());
    }
    let (by, set, most) = (caller.name(), table::set(what), table::MOST_OF_A_SERVICE);
    let is_own = |one: &&Element| one.by() == Some(&*by) && table::set(&one.what) == set;
    if now.filter(is_own).count() < most {
        return Ok(());
    }
    let reason = format!(
        "{by} has {most} of that kind in the table already, as many as a service may: \
         lift some, or let them end by themselves"
    );
    Err(Failed::new(Kind::Forbidden, reason))
}

/// Whole seconds, and never none.
fn seconds(request: &Request) -> Option<u64> {
    let milliseconds = request.parameters.some_number("for")?;
    Some(
        u64::try_from(milliseconds)
            .unwrap_or(0)
            .div_ceil(1000)
            .max(1),
    )
}

fn prefix(text: &str) -> Result<Prefix, Failed> {
    text.parse().map_err(|why| {
        let why = match why {
            BadPrefix::NotAnAddress => "no address".to_owned(),
            BadPrefix::BadLength => "no such length of a prefix".to_owned(),
            BadPrefix::HostBits(meant) => format!("has bits beyond its prefix, try {meant}"),
        };
        Failed::new(Kind::Invalid, format!("{text}: {why}"))
    })
}

/// An address by itself, if it is one.
fn show(prefix: &Prefix) -> String {
    match is_host(prefix) {
        true => prefix.addr.to_string(),
        false => prefix.to_string(),
    }
}

fn widest(prefix: &Prefix) -> u8 {
    match prefix.addr.is_ipv4() {
        true => WIDEST.0,
        false => WIDEST.1,
    }
}

fn is_host(prefix: &Prefix) -> bool {
    prefix.bits == if prefix.addr.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use table::Gate;

    fn element(what: What, by: &str) -> Element {
        Element {
            what,
            seconds_left: Some(31_536_000),
            comment: Some(by.to_owned()),
        }
    }

    fn ban(number: usize) -> What {
        let prefix = format!("2001:db8:1111:2222:3333:4444:{number:x}::/120");
        What::Ban(prefix.parse().unwrap())
    }

    #[test]
    fn a_full_table_is_told_in_pieces_that_fit() {
        let by = format!("service {:x<38}: {:y<80}", "mail", "");
        assert_eq!(by.len(), 128);
        let gate = || Gate {
            protocol: "sctp".into(),
            port: 65_535,
        };
        let all: Vec<Element> = (0..65_536)
            .flat_map(|number| {
                let What::Ban(from) = ban(number) else {
                    unreachable!("it is one");
                };
                [
                    element(ban(number), &by),
                    element(What::Closed(gate()), &by),
                    element(What::Open(gate(), Some(from)), &by),
                ]
            })
            .collect();
        let list = |given: Value| listed(&all, &serde_json::from_value(given).unwrap());
        let count = |told: &Value| told["bans"].as_array().unwrap().len();
        let usual = list(json!({}));
        assert_eq!(count(&usual), 10_000);
        let wanted = json!({ "bans": 65_536, "closed": 65_536, "open": 65_536 });
        assert_eq!(usual["entries"], wanted);
        // The most that the catalogue admits, and its output_limit.
        let most = list(json!({ "limit": 20_000, "offset": 40_000 }));
        assert!(most.to_string().len() < 16 << 20);
        let first = "2001:db8:1111:2222:3333:4444:9c40:0/120";
        assert_eq!(most["bans"][0]["prefix"], first);
        assert_eq!(count(&list(json!({ "offset": 65_530 }))), 6);
        assert_eq!(count(&list(json!({ "offset": 70_000 }))), 0);
    }

    #[test]
    fn a_service_leaves_room_for_others() {
        let caller = |service: Option<&str>| Caller {
            uid: 0,
            service: service.map(str::to_owned),
            instance: None,
        };
        let most = table::MOST_OF_A_SERVICE;
        let mut all: Vec<Element> = (0..most)
            .map(|number| element(ban(number), "service mail: spam"))
            .collect();
        let has_room = |all: &[Element], what: &What, service| {
            super::has_room(all.iter(), what, &caller(service)).map_err(|failed| failed.kind)
        };
        assert_eq!(
            has_room(&all, &ban(most), Some("mail")),
            Err(Kind::Forbidden)
        );
        // Another set, another one, an operator.
        let host = What::Ban("192.0.2.1".parse().unwrap());
        assert_eq!(has_room(&all, &host, Some("mail")), Ok(()));
        assert_eq!(has_room(&all, &ban(most), Some("ftp")), Ok(()));
        assert_eq!(has_room(&all, &ban(most), None), Ok(()));
        all.pop();
        assert_eq!(has_room(&all, &ban(most), Some("mail")), Ok(()));
    }
}
