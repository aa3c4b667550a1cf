//! `firewall.*`: who reaches this host, and which of its ports, in a table of
//! nftables that is usherd's own ([`table`]). Whatever other tables drop stays
//! dropped, and they are never looked at.
#![forbid(unsafe_code)]

mod bans;
mod gates;
mod table;

use serde_json::{Value, json};

use super::tool::Tool;
use super::{Failed, Kind, Outcome, Request, Usherd, to};
use crate::table::{BadPrefix, Prefix};

use table::{Element, What};

pub use bans::{ban, unban};
pub use gates::{close, open};

const NFT: Tool = Tool::new(&["/usr/sbin/nft", "/sbin/nft"], "nftables");

/// The widest networks, of IPv4 and of IPv6: a typing error is not to cut off half of the
/// world, nor is a service to let it in.
const WIDEST: (u8, u8) = (8, 16);

/// Times that something is begun anew because another one changed the table meanwhile.
const ATTEMPTS: u32 = 5;

/// `firewall.list`
pub fn list(_: &Request, _: &mut dyn Usherd) -> Outcome {
    let (mut bans, mut closed, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for element in read()?.unwrap_or_default() {
        let left = element.seconds_left;
        match &element.what {
            What::Ban(prefix) => bans.push(json!({
                "prefix": show(prefix),
                "seconds_left": left,
                "by": element.by(),
                "reason": element.reason(),
            })),
            What::Closed(gate) => closed.push(json!({
                "port": gate.port, "protocol": gate.protocol, "seconds_left": left,
                "by": element.by(),
            })),
            What::Open(gate, from) => open.push(json!({
                "port": gate.port, "protocol": gate.protocol,
                "from": from.as_ref().map(show), "seconds_left": left, "by": element.by(),
            })),
        }
    }
    Ok(json!({ "bans": bans, "closed": closed, "open": open }))
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
    let listing: Value = to("read what nft says", serde_json::from_str(&said.out))?;
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
