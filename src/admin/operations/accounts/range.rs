//! Which numbers are those of ordinary accounts: login.defs(5) says so.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::ops::RangeInclusive;

use super::super::{Failed, Kind, to};

const FILE: &str = "/etc/login.defs";

/// Numbers that new accounts get, and that old ones must have to be touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    pub users: RangeInclusive<u32>,
    pub groups: RangeInclusive<u32>,
    system: RangeInclusive<u32>,
}

impl Ranges {
    pub fn of_this_host() -> Result<Self, Failed> {
        match fs::read_to_string(FILE) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Self::read("")),
            text => to(format!("read {FILE}"), text).map(|text| Self::read(&text)),
        }
    }

    /// Whatever the file says, root's number and that of nobody are in none.
    fn read(text: &str) -> Self {
        const LAST: u32 = 65_533;
        let number = |name: &str| {
            let mut lines = text.lines().map(str::split_whitespace);
            let found =
                lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
            found.flatten().and_then(|word| word.parse::<u32>().ok())
        };
        let range = |from: &str, to: &str, usual: (u32, u32)| {
            let from = number(from).unwrap_or(usual.0).max(1);
            from..=number(to).unwrap_or(usual.1).min(LAST)
        };
        Self {
            users: range("UID_MIN", "UID_MAX", (1000, 60_000)),
            groups: range("GID_MIN", "GID_MAX", (1000, 60_000)),
            system: range("SYS_UID_MIN", "SYS_UID_MAX", (101, 999)),
        }
    }

    pub fn permit_user(&self, name: &str, uid: u32) -> Result<(), Failed> {
        permit(&self.users, u64::from(uid), &format!("user \"{name}\""))
    }

    pub fn permit_group(&self, name: &str, gid: u32) -> Result<(), Failed> {
        permit(&self.groups, u64::from(gid), &format!("group \"{name}\""))
    }

    pub fn permit_new_uid(&self, uid: i64, is_system: bool) -> Result<(), Failed> {
        let range = if is_system { &self.system } else { &self.users };
        permit(range, u64::try_from(uid).unwrap_or(u64::MAX), "`uid`")
    }
}

fn permit(range: &RangeInclusive<u32>, number: u64, what: &str) -> Result<(), Failed> {
    if u32::try_from(number).is_ok_and(|number| range.contains(&number)) {
        return Ok(());
    }
    let (from, to) = (range.start(), range.end());
    let reason = format!("{what}: {number} is outside of {from} to {to}, the range of {FILE}");
    Err(Failed::new(Kind::Forbidden, reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn login_defs_says_who_is_ordinary() {
        let text = "#UID_MIN 5\nUID_MIN\t\t 2000\nUID_MAX 3000 # so many\nGID_MIN x\n";
        let ranges = Ranges::read(text);
        assert_eq!(ranges.users, 2000..=3000);
        assert_eq!(ranges.groups, 1000..=60_000);
        assert!(ranges.permit_user("x", 2000).is_ok());
        let err = ranges.permit_user("x", 1999).unwrap_err();
        assert_eq!(err.kind, Kind::Forbidden);
        let wanted = "user \"x\": 1999 is outside of 2000 to 3000, the range of /etc/login.defs";
        assert_eq!(err.reason, wanted);
        assert!(ranges.permit_new_uid(2500, false).is_ok());
        assert!(ranges.permit_new_uid(2500, true).is_err());
        assert!(ranges.permit_new_uid(-1, false).is_err());
    }

    #[test]
    fn root_and_nobody_are_never_ordinary() {
        let ranges = Ranges::read("UID_MIN 0\nUID_MAX 4294967295\nGID_MIN 0\n");
        for uid in [0, 65_534, u32::MAX] {
            assert!(ranges.permit_user("x", uid).is_err());
        }
        assert!(ranges.permit_group("root", 0).is_err());
    }
}
