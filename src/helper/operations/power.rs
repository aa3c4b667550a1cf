//! Users and groups that usherd's own rights go by are not for others to give away.
#![forbid(unsafe_code)]

use std::fs;

use super::ask::not_permitted;
use crate::admin::catalogue::{Kind, Operation};
use crate::admin::operations::Parameters;
use crate::control::caller::{Sees, Who};
use crate::control::message::CallError;
use crate::helper::core::Helper;
use crate::table::Table;

/// To be told of somebody gives nobody anything.
const ONLY_TELL: [&str; 2] = ["permission.check", "remote_access.list"];

impl Helper {
    /// Refuses parameters that name such users and groups, unless he may do everything anyway.
    pub(super) fn no_power(
        &self,
        operation: &Operation,
        parameters: &Parameters,
        who: Who,
    ) -> Result<(), CallError> {
        if who.sees == Sees::Everything || ONLY_TELL.contains(&&*operation.name) {
            return Ok(());
        }
        let powers = Powers::of(&self.table);
        let refuse = |parameter: &str, why: &str| {
            let why = format!("{parameter}: rights of usherd go by {why}");
            Err(not_permitted(&operation.name, &why))
        };
        for parameter in &operation.parameters {
            let name = &parameter.name;
            let (has_power, why): (&dyn Fn(&str) -> bool, &str) = match parameter.kind {
                Kind::Group => (&|group| powers.has_group(group), "this group"),
                Kind::User => (&|user| powers.has_user(user), "this user"),
                _ => continue,
            };
            let one = parameters.some_text(name).into_iter();
            if one.chain(parameters.texts(name)).any(has_power) {
                return refuse(name, why);
            }
        }
        let uid = parameters.some_number("uid");
        if uid.is_some_and(|uid| powers.uids.iter().any(|one| i64::from(*one) == uid)) {
            return refuse("uid", "this number");
        }
        Ok(())
    }
}

/// Who may ask usherd for something, as numbers, and what the files say of names. They are
/// read themselves: to ask the name service could take as long as it likes.
struct Powers {
    uids: Vec<u32>,
    gids: Vec<u32>,
    /// passwd(5)
    passwd: String,
    /// group(5)
    group: String,
}

impl Powers {
    fn of(table: &Table) -> Self {
        let daemon = &table.daemon;
        let own = [&daemon.admin_group, &daemon.status_group];
        let own = own.into_iter().flatten().map(|group| group.gid);
        let operations = table.catalogue.operations.iter();
        let operators = operations.map(|one| &one.operators);
        let groups = operators.clone().flat_map(|one| one.groups.iter().copied());
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            uids: operators
                .flat_map(|one| one.users.iter().copied())
                .collect(),
            gids: own.chain(groups).collect(),
            passwd: read("/etc/passwd"),
            group: read("/etc/group"),
        }
    }

    fn has_group(&self, name: &str) -> bool {
        let gid = entry(&self.group, name).and_then(|fields| number(fields.get(2)));
        gid.is_some_and(|gid| self.gids.contains(&gid))
    }

    fn has_user(&self, name: &str) -> bool {
        let Some(fields) = entry(&self.passwd, name) else {
            return false;
        };
        let (uid, gid) = (number(fields.get(2)), number(fields.get(3)));
        uid.is_some_and(|uid| self.uids.contains(&uid))
            || gid.is_some_and(|gid| self.gids.contains(&gid))
            || self
                .gids_of_member(name)
                .any(|gid| self.gids.contains(&gid))
    }

    fn gids_of_member(&self, name: &str) -> impl Iterator<Item = u32> {
        self.group.lines().filter_map(move |line| {
            let fields: Vec<&str> = line.split(':').collect();
            let mut members = fields.get(3)?.split(',');
            members.find(|member| *member == name)?;
            number(fields.get(2))
        })
    }
}

/// The fields of a name's line.
fn entry<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':'));
    let fields = lines.find(|fields| fields.clone().next() == Some(name))?;
    Some(fields.collect())
}

fn number(field: Option<&&str>) -> Option<u32> {
    field?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_power_by_number_by_his_group_or_as_a_member_has_it() {
        let powers = Powers {
            uids: vec![1001],
            gids: vec![50, 60],
            passwd: "root:x:0:0::/root:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n\
                     eve:x:1002:50::/home/eve:/bin/sh\nann:x:1003:1003::/home/ann:/bin/sh\n\
                     joe:x:1004:1004::/home/joe:/bin/sh\n"
                .into(),
            group: "staff:x:50:\nops:x:60:dan,ann\nothers:x:70:joe\n".into(),
        };
        for (name, has) in [
            ("bob", true),
            ("eve", true),
            ("ann", true),
            ("joe", false),
            ("root", false),
            ("nobody", false),
        ] {
            assert_eq!(powers.has_user(name), has, "{name}");
        }
        assert!(powers.has_group("ops") && !powers.has_group("others"));
    }
}
