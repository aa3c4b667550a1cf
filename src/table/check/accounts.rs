//! Users and groups by name or number. Each is asked for once: a table of
//! thousands of services names a handful of accounts.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::PathBuf;

use crate::table::complaint::Fault;
use crate::table::host::{Account, Host};

/// The databases, remembered.
pub struct Directory<'a> {
    host: &'a Host,
    users: HashMap<String, Option<Account>>,
    groups: HashMap<String, Option<u32>>,
    members: HashMap<(String, u32), Vec<u32>>,
}

/// A user of the table: an account, or a number that belongs to none.
#[derive(Clone, Debug)]
pub struct Found {
    pub account: Account,
    pub known: bool,
}

impl<'a> Directory<'a> {
    pub fn new(host: &'a Host) -> Self {
        Self {
            host,
            users: HashMap::new(),
            groups: HashMap::new(),
            members: HashMap::new(),
        }
    }

    pub fn user(&mut self, name: &str) -> Result<Found, Fault> {
        let accounts = &self.host.accounts;
        let number = number(name);
        let account = self.users.entry(name.to_owned()).or_insert_with(|| {
            let by_name = accounts.user(name);
            by_name.or_else(|| number.and_then(|uid| accounts.user_by_uid(uid)))
        });
        match (account, number) {
            (Some(account), _) => Ok(Found {
                account: account.clone(),
                known: true,
            }),
            (None, Some(uid)) => Ok(Found {
                account: Account {
                    name: uid.to_string(),
                    uid,
                    gid: uid,
                    home: PathBuf::from("/"),
                    shell: PathBuf::from("/bin/sh"),
                },
                known: false,
            }),
            (None, None) => Err(Fault::new(format!("no user is named \"{name}\""))
                .help("the account must exist when the table is loaded")),
        }
    }

    pub fn group(&mut self, name: &str) -> Result<u32, Fault> {
        let accounts = &self.host.accounts;
        let gid = self
            .groups
            .entry(name.to_owned())
            .or_insert_with(|| accounts.group(name).or_else(|| number(name)));
        gid.ok_or_else(|| {
            Fault::new(format!("no group is named \"{name}\""))
                .help("the group must exist when the table is loaded")
        })
    }

    /// The groups of an account, `gid` first among them.
    pub fn groups_of(&mut self, name: &str, gid: u32) -> Vec<u32> {
        let accounts = &self.host.accounts;
        self.members
            .entry((name.to_owned(), gid))
            .or_insert_with(|| accounts.groups_of(name, gid))
            .clone()
    }
}

/// The highest number means "no change" to the kernel and can be nobody's.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok();
    number.filter(|n| digits && *n != u32::MAX)
}
