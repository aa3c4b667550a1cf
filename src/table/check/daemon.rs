//! `[daemon]`: above all, who the front is.
#![forbid(unsafe_code)]

use super::Check;
use crate::table::complaint::{At, Fault};
use crate::table::host::Host;
use crate::table::schema::RawDaemon;
use crate::table::{Daemon, FrontUser, NamedGroup};

/// The account of the front if the table names none.
const USUAL_NAME: &str = "usherd";
/// Numbers that no distribution gives to accounts; systemd takes its dynamic users from here.
pub const FREE_UIDS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

impl Check<'_> {
    pub(super) fn daemon(&mut self, raw: &RawDaemon) -> Daemon {
        Daemon {
            user: self.front_user(raw.user.as_ref()),
            runtime_dir: raw.runtime_dir.as_ref().map(|at| at.value.clone()),
            state_dir: raw.state_dir.as_ref().map(|at| at.value.clone()),
            status_group: self.named_group(raw.status_group.as_ref()),
            admin_group: self.named_group(raw.admin_group.as_ref()),
            cpus: raw
                .cpus
                .as_ref()
                .map(|at| at.value.clone())
                .unwrap_or_default(),
            log: raw
                .log
                .as_ref()
                .map(|at| at.value.clone())
                .unwrap_or_default(),
            undecided: raw
                .undecided
                .as_ref()
                .map(|at| at.value)
                .unwrap_or_default(),
            operations: Vec::new(),
            audit: raw.audit.as_ref().map(|at| at.value).unwrap_or_default(),
            resources: raw
                .resources
                .as_ref()
                .map(|at| at.value.clone())
                .unwrap_or_default(),
        }
    }

    fn named_group(&mut self, named: Option<&At<String>>) -> Option<NamedGroup> {
        let At { value: name, place } = named?;
        match self.directory.group(name) {
            Ok(gid) => Some(NamedGroup {
                name: name.clone(),
                gid,
            }),
            Err(fault) => {
                self.complain(*place, fault);
                None
            }
        }
    }

    fn front_user(&mut self, named: Option<&At<String>>) -> Option<FrontUser> {
        if !self.host.root {
            if let Some(At { value, place }) = named
                && !is_self(self.host, value)
            {
                let fault = Fault::new(format!("switching to user \"{value}\" needs root"))
                    .help("leave `user` out: the front then runs as whoever started usherd");
                self.complain(*place, fault);
            }
            return None;
        }
        let Some(At { value: name, place }) = named else {
            return self.usual_user();
        };
        match self.directory.user(name) {
            Err(fault) => self.complain(*place, fault),
            Ok(found) if found.account.uid == 0 || found.account.gid == 0 => {
                let fault =
                    Fault::new("the front reads what strangers send; it never runs as root")
                        .help("leave `user` out, or name an account that owns nothing");
                self.complain(*place, fault);
            }
            Ok(found) => {
                return Some(FrontUser {
                    name: found.known.then_some(found.account.name),
                    uid: found.account.uid,
                    gid: found.account.gid,
                });
            }
        }
        None
    }

    /// The account `usherd`, else a number that is nobody's.
    fn usual_user(&mut self) -> Option<FrontUser> {
        if let Ok(found) = self.directory.user(USUAL_NAME)
            && found.account.uid != 0
            && found.account.gid != 0
        {
            return Some(FrontUser {
                name: Some(found.account.name),
                uid: found.account.uid,
                gid: found.account.gid,
            });
        }
        let accounts = &self.host.accounts;
        let free = FREE_UIDS
            .clone()
            .find(|id| accounts.user_by_uid(*id).is_none() && !accounts.has_gid(*id));
        if free.is_none() {
            let fault = Fault::new("no account for the front: every spare number has an owner")
                .help("create an account \"usherd\", or name one as `user` in [daemon]");
            self.complain(crate::table::complaint::Place::whole(0), fault);
        }
        free.map(|id| FrontUser {
            name: None,
            uid: id,
            gid: id,
        })
    }
}

/// Whether `name` is who usherd runs as anyway.
pub(super) fn is_self(host: &Host, name: &str) -> bool {
    host.user.as_deref() == Some(name) || name.parse() == Ok(host.uid)
}
