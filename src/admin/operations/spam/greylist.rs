//! `spam.greylist`: whoever sends for the first time is told to come again, which
//! mail servers do and most who send what nobody wants do not (RFC 6647).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::address;
use crate::admin::lists::unix_now;
use crate::admin::operations::{Failed, Kind, Outcome, Request, Usherd, lock, to};
use crate::table::access::mask;

const FOLDER: &str = "spam";
const FILE: &str = "greylist.json";
/// Sooner is not again.
const DELAY: u64 = 300;
/// Whoever has not come again by then is new.
const WINDOW: u64 = 2 * 24 * 3600;
/// Whoever has come again is known as long after his last mail.
const KNOWN: u64 = 35 * 24 * 3600;
/// Triples that are kept; the oldest go first.
const MOST: usize = 200_000;
/// Large senders come again from a neighbour.
const SAME_V4: u8 = 24;
const SAME_V6: u8 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    first: u64,
    last: u64,
    passed: bool,
}

type Known = HashMap<String, Seen>;

/// `pass`, or `defer` and after how many seconds it would pass.
pub fn greylist(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let parameters = &request.parameters;
    let network = network(address(parameters.text("address")?)?);
    let key = key(
        request.caller.service.as_deref(),
        network,
        parameters.text("sender")?,
        parameters.text("recipient")?,
    );
    let delay = parameters
        .some_number("delay")
        .and_then(|ms| u64::try_from(ms).ok());
    let delay = delay.map_or(DELAY, |ms| ms.div_ceil(1000));
    let dir = request.places.state_dir.join(FOLDER);
    let _lock = lock(&dir, request)?;
    let file = dir.join(FILE);
    let mut known = read(&file)?;
    let wait = judge(&mut known, key, unix_now(), delay);
    if !request.dry_run {
        to("write the greylist", write(&file, &known))?;
    }
    let verdict = if wait == 0 { "pass" } else { "defer" };
    Ok(json!({ "verdict": verdict, "seconds": wait }))
}

/// How long he has to wait still, in seconds; notes that he was here.
fn judge(known: &mut Known, key: String, now: u64, delay: u64) -> u64 {
    known.retain(|_, seen| {
        let age = now.saturating_sub(seen.last);
        age < if seen.passed { KNOWN } else { WINDOW }
    });
    if known.len() >= MOST && !known.contains_key(&key) {
        let mut ages: Vec<u64> = known.values().map(|seen| seen.last).collect();
        let (_, middle, _) = ages.select_nth_unstable(MOST / 10);
        let oldest = *middle;
        known.retain(|_, seen| seen.last > oldest);
    }
    let seen = known.entry(key).or_insert(Seen {
        first: now,
        last: now,
        passed: false,
    });
    let waited = now.saturating_sub(seen.first);
    seen.passed |= waited >= delay;
    match seen.passed {
        true => {
            seen.last = now;
            0
        }
        false => delay - waited,
    }
}

fn network(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    let bits = if address.is_ipv4() { SAME_V4 } else { SAME_V6 };
    mask(address, bits).unwrap_or(address)
}

/// Nobody's mail addresses lie about: what is kept is a hash. What one service lets pass is
/// known to no other.
fn key(service: Option<&str>, network: IpAddr, sender: &str, recipient: &str) -> String {
    let (sender, recipient) = (sender.to_lowercase(), recipient.to_lowercase());
    let service = service.unwrap_or_default();
    let hash = Sha256::digest(format!("{service}\0{network}\0{sender}\0{recipient}"));
    hash.iter()
        .take(16)
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

fn read(file: &Path) -> Result<Known, Failed> {
    match fs::read(file) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Known::new()),
        Err(err) => to("read the greylist", Err(err)),
        Ok(text) => serde_json::from_slice(&text).map_err(|err| {
            let why = format!(
                "{} is broken ({err}); remove it to begin anew",
                file.display()
            );
            Failed::new(Kind::Failed, why)
        }),
    }
}

fn write(file: &Path, known: &Known) -> io::Result<()> {
    let beside = file.with_extension("new");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    new.write_all(&serde_json::to_vec(known).map_err(io::Error::other)?)?;
    fs::rename(&beside, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_again_in_time_passes_and_is_known() {
        let mut known = Known::new();
        let mut ask = |now| judge(&mut known, "k".into(), now, 300);
        assert_eq!(ask(1000), 300);
        assert_eq!(ask(1100), 200);
        assert_eq!(ask(1300), 0);
        assert_eq!(ask(1301), 0);
        assert_eq!(ask(1301 + KNOWN - 1), 0);
        assert_eq!(ask(1301 + 3 * KNOWN), 300, "he is forgotten");
        assert_eq!(ask(1301 + 3 * KNOWN + WINDOW), 300, "he came too late");
    }

    #[test]
    fn neighbours_and_letters_of_either_size_are_the_same() {
        let ip = |text: &str| network(text.parse().unwrap());
        let key = |address, from, to| super::key(Some("mx"), ip(address), from, to);
        let one = key("192.0.2.1", "A@example", "b@example");
        assert_eq!(one, key("192.0.2.250", "a@EXAMPLE", "B@example"));
        assert_ne!(one, key("192.0.3.1", "a@example", "b@example"));
        assert_ne!(one, key("192.0.2.1", "a@example", "c@example"));
        let others = super::key(None, ip("192.0.2.1"), "a@example", "b@example");
        assert_ne!(one, others);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut known = Known::new();
        for n in 0..MOST as u64 {
            let seen = Seen {
                first: n,
                last: n,
                passed: false,
            };
            known.insert(n.to_string(), seen);
        }
        judge(&mut known, "new".into(), 10, 300);
        assert!(known.len() < MOST, "{}", known.len());
        assert!(known.contains_key("new"));
    }
}
