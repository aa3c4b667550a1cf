//! `remote_access.*`: keys by which people log in with OpenSSH, in
//! `.ssh/authorized_keys` of ordinary accounts.
//!
//! All of it is done as the user himself. Links and pipes that he puts in the way
//! lead nowhere that he could not go without us.
#![forbid(unsafe_code)]

mod file;
mod key;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Uid, User, setegid, seteuid, setgroups, setresgid, setresuid};
use serde_json::{Value, json};

use super::accounts::{Ranges, ordinary_user, ordinary_users};
use super::{Caller, Failed, Kind, Outcome, Request, Usherd, to};

use file::Keys;
use key::{Key, Line};

/// How a comment of ours begins; who wanted it follows.
const MARK: &str = "usherd:";

/// `remote_access.grant`
pub fn grant(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let user = ordinary_user(given.text("user")?, &Ranges::of_this_host()?)?;
    let mut words = given.text("key")?.split_whitespace();
    let (kind, text) = (words.next(), words.next());
    let parsed = Key::parse(kind.unwrap_or_default(), text.unwrap_or_default());
    let key = parsed.map_err(|why| Failed::new(Kind::Invalid, format!("`key`: {why}")))?;
    let until = until(request)?;
    let line = line_of(
        &key,
        until,
        given.flag("forwarding"),
        &request.caller,
        given.some_text("comment"),
    );
    become_user(&user)?;
    let mut keys = Keys::open(&user, !request.dry_run)?;
    let known = keys
        .lines()
        .find(|line| line.fingerprint == key.fingerprint);
    if let Some(known) = known {
        let whose = match known.comment.starts_with(MARK) {
            true => "revoke it first",
            false => "the user has put it there",
        };
        let reason = format!(
            "{} lets in as {} already: {whose}",
            key.fingerprint, user.name
        );
        return Err(Failed::new(Kind::Exists, reason));
    }
    let result = json!({
        "user": user.name,
        "fingerprint": key.fingerprint,
        "until": until.map(time_of),
    });
    if request.dry_run {
        return Ok(json!({ "would_add": line, "to": keys.path() }));
    }
    let now = stamp(now()?);
    keys.retain(|line| !is_over(line, &now));
    keys.add(&line);
    keys.write()?;
    Ok(result)
}

/// `remote_access.revoke`
pub fn revoke(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let user = ordinary_user(given.text("user")?, &Ranges::of_this_host()?)?;
    let fingerprint = given.text("fingerprint")?;
    become_user(&user)?;
    let mut keys = Keys::open(&user, !request.dry_run)?;
    let found: Vec<Line> = keys
        .lines()
        .filter(|line| line.fingerprint == fingerprint)
        .collect();
    if found.is_empty() {
        let reason = format!("{fingerprint} does not let in as {}", user.name);
        return Err(Failed::new(Kind::NotFound, reason));
    }
    // Operators may take what anybody gave, a service what it gave itself.
    let by = mark(&request.caller);
    let is_his = |line: &Line| line.comment.split(' ').next() == Some(&*by);
    if request.caller.service.is_some() && !found.iter().all(is_his) {
        let reason = format!("{fingerprint} was let in by somebody else");
        return Err(Failed::new(Kind::Forbidden, reason));
    }
    let result = json!({
        "user": user.name,
        "fingerprint": fingerprint,
        "removed": found.len(),
    });
    if !request.dry_run {
        keys.retain(|line| line.fingerprint != fingerprint);
        keys.write()?;
    }
    Ok(result)
}

/// `remote_access.list`
pub fn list(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let ranges = Ranges::of_this_host()?;
    let users = match request.parameters.some_text("user") {
        Some(name) => vec![ordinary_user(name, &ranges)?],
        None => ordinary_users(&ranges)?,
    };
    let (mut keys, mut unread) = (Vec::new(), Vec::new());
    let now = stamp(now()?);
    for user in users {
        match as_user(&user, || Keys::open(&user, false))? {
            Ok(found) => keys.extend(found.lines().map(|line| told(&user, &line, &now))),
            Err(why) => unread.push(json!({ "user": user.name, "reason": why.reason })),
        }
    }
    Ok(json!({ "keys": keys, "unread": unread }))
}

fn told(user: &User, line: &Line, now: &str) -> Value {
    let (by, comment) = match line.comment.strip_prefix(MARK) {
        Some(ours) => {
            let (by, comment) = ours.split_once(' ').unwrap_or((ours, ""));
            (Some(by), comment)
        }
        None => (None, &*line.comment),
    };
    json!({
        "user": user.name,
        "fingerprint": line.fingerprint,
        "type": line.kind,
        "by": by,
        "comment": comment,
        "until": line.option(EXPIRY).map(readable),
        "over": is_over(line, now),
        "options": line.options,
    })
}

const EXPIRY: &str = "expiry-time";

/// What sshd(8) is to read.
fn line_of(
    key: &Key,
    until: Option<u64>,
    forwarding: bool,
    caller: &Caller,
    comment: Option<&str>,
) -> String {
    let mut options = Vec::new();
    if !forwarding {
        options.push("restrict,pty".to_owned());
    }
    if let Some(until) = until {
        options.push(format!("{EXPIRY}=\"{}\"", stamp(until)));
    }
    let mut line = options.join(",");
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(&format!("{} {} {}", key.kind, key.text, mark(caller)));
    if let Some(comment) = comment.map(str::trim).filter(|comment| !comment.is_empty()) {
        line.push(' ');
        line.push_str(comment);
    }
    line
}

fn mark(caller: &Caller) -> String {
    match &caller.service {
        Some(service) => format!("{MARK}service={service}"),
        None => format!("{MARK}uid={}", caller.uid),
    }
}

/// One of ours whose time has passed. Times of others may be of any zone.
fn is_over(line: &Line, now: &str) -> bool {
    let until = line
        .option(EXPIRY)
        .filter(|_| line.comment.starts_with(MARK));
    until.is_some_and(|until| until.len() == now.len() && until < now)
}

/// Seconds since 1970.
fn now() -> Result<u64, Failed> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    to("tell the time", since).map(|since| since.as_secs())
}

fn until(request: &Request) -> Result<Option<u64>, Failed> {
    let Some(milliseconds) = request.parameters.some_number("for") else {
        return Ok(None);
    };
    let length = Duration::from_millis(milliseconds.try_into().unwrap_or(0));
    Ok(Some(now()? + length.as_secs().max(1)))
}

/// `20300101120000Z`
fn stamp(seconds: u64) -> String {
    let time = time_of(seconds);
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    format!("{digits}Z")
}

/// The reverse, as [`time_of`] writes it; what others have written in another form stays so.
fn readable(stamp: &str) -> String {
    let digits = stamp.strip_suffix('Z').unwrap_or_default();
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return stamp.to_owned();
    }
    let (date, time) = digits.split_at(8);
    let (year, day) = date.split_at(4);
    let (hour, minute) = time.split_at(2);
    format!(
        "{year}-{}-{}T{hour}:{}:{}Z",
        &day[..2],
        &day[2..],
        &minute[..2],
        &minute[2..]
    )
}

/// `2030-01-01T12:00:00Z`
fn time_of(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// For good.
fn become_user(user: &User) -> Result<(), Failed> {
    let what = format!("become user {}", user.name);
    let (uid, gid) = (user.uid, user.gid);
    to(&what, setgroups(&[gid]))?;
    to(&what, setresgid(gid, gid, gid))?;
    to(&what, setresuid(uid, uid, uid))?;
    // The kernel takes the capabilities with the user (capabilities(7)), unless it was told not to.
    match setresuid(uid, Uid::from_raw(0), uid) {
        Err(_) => Ok(()),
        Ok(()) => Err(Failed::new(
            Kind::Failed,
            format!("unable to {what}: rights are left"),
        )),
    }
}

/// For the time of `work`.
fn as_user<T>(user: &User, work: impl FnOnce() -> T) -> Result<T, Failed> {
    let what = format!("become user {}", user.name);
    to(&what, setgroups(&[user.gid]))?;
    to(&what, setegid(user.gid))?;
    to(&what, seteuid(user.uid))?;
    let done = work();
    to("become root again", seteuid(Uid::from_raw(0)))?;
    to("become root again", setegid(Gid::from_raw(0)))?;
    Ok(done)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOPwU8297bH1/L1dqTqQVwATcJWQYfT1QD/kDDIAMZgY";

    fn caller(service: Option<&str>) -> Caller {
        Caller {
            uid: 0,
            service: service.map(str::to_owned),
            instance: None,
        }
    }

    #[test]
    fn a_line_of_ours_is_read_back() {
        let key = Key::parse("ssh-ed25519", KEY).unwrap();
        let text = line_of(
            &key,
            Some(1_893_499_200),
            false,
            &caller(Some("mail")),
            Some("a b"),
        );
        let wanted = format!(
            "restrict,pty,expiry-time=\"20300101120000Z\" ssh-ed25519 {KEY} usherd:service=mail a b"
        );
        assert_eq!(text, wanted);
        let line = Line::parse(&text).unwrap();
        assert_eq!(line.fingerprint, key.fingerprint);
        assert_eq!(readable("20300101120000Z"), time_of(1_893_499_200));
        assert_eq!(readable("203001011200"), "203001011200");
        assert!(!is_over(&line, "20300101115959Z"));
        assert!(is_over(&line, "20300101120001Z"));
        let open = line_of(&key, None, true, &caller(None), None);
        assert_eq!(open, format!("ssh-ed25519 {KEY} usherd:uid=0"));
        // Whatever others say of their keys is theirs to take away.
        let other = Line::parse(&text.replace("usherd:", "")).unwrap();
        assert!(!is_over(&other, "20310101120001Z"));
    }
}
