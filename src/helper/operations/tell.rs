//! What callers may know of the catalogue: `GetOperations` and `CheckPermission`.
#![forbid(unsafe_code)]

use nix::unistd::Uid;
use serde_json::{Map, Value, json};

use super::ask::exec_of;
use crate::admin::authorise::{self, Standing};
use crate::control::caller::Who;
use crate::control::message::{Call, CallError, Reply};
use crate::control::types::operations::GetOperations;
use crate::helper::core::Helper;
use crate::table::{Exec, Serve};

/// Parameters of `CheckPermission`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Whether {
    operation: String,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gids: Option<Vec<u32>>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

impl Helper {
    /// All of it, and whether it is for him.
    pub(in crate::helper) fn get_operations(
        &self,
        who: Who,
        number: u64,
        mut call: Call,
    ) -> Result<Reply, CallError> {
        let _: super::Nothing = call.take()?;
        let asker = self.operations.asker(number).cloned();
        let asker = asker.unwrap_or_default();
        let all = self.table.catalogue.operations.iter();
        let operations = all.map(|operation| {
            let grants = |exec: &&Exec| {
                let mut grants = exec.admin.iter();
                grants.any(|grant| grant.operation == operation.name)
            };
            // A server learns of no other service's.
            let own = self.service_of(who).map(|(name, _)| name);
            let services = self.execs().filter(|(_, exec)| grants(exec));
            let services = services.filter(|(name, _)| own.as_ref().is_none_or(|own| own == name));
            let services = services.map(|(name, _)| name.to_owned()).collect();
            operation.shown(services, self.may(operation, who, &asker).is_ok())
        });
        Ok(Reply::last(&GetOperations {
            operations: operations.collect(),
        }))
    }

    /// Whether somebody may: an instance of `service`, or the user `uid` in `gids`.
    pub(in crate::helper) fn check_permission(&self, call: &mut Call) -> Result<Reply, CallError> {
        let asked: Whether = call.take()?;
        let Some(operation) = self.table.catalogue.find(&asked.operation) else {
            let unknown = json!({ "operation": asked.operation });
            return Err(CallError::admin("NoSuchOperation", unknown));
        };
        let gids = asked.gids.unwrap_or_default();
        let may = match (&asked.service, asked.uid) {
            (Some(name), None) => {
                let mut execs = self.execs();
                let exec = execs.find(|(known, _)| known == name).map(|(_, exec)| exec);
                let grants = exec.map_or(&[][..], |exec| &exec.admin);
                authorise::may(operation, &Standing::Service { name, grants })
            }
            (None, Some(0)) => Ok("root".to_owned()),
            (None, Some(uid)) if uid == Uid::effective().as_raw() => {
                Ok("the user that usherd runs as".to_owned())
            }
            (None, Some(uid)) => {
                let admin = self.table.daemon.admin_group.as_ref();
                match admin.is_some_and(|group| gids.contains(&group.gid)) {
                    true => Ok("daemon.admin_group".to_owned()),
                    false => authorise::may(operation, &Standing::Operator { uid, groups: &gids }),
                }
            }
            (Some(_), Some(_)) | (None, None) => {
                let why = "name either a service or a uid";
                return Err(CallError::failed(why));
            }
        };
        let checked = may.and_then(|rule| match &asked.parameters {
            None => Ok(rule + &self.narrowed(asked.service.as_deref(), &operation.name)),
            Some(given) => self
                .would_take(operation, given, asked.service.as_deref())
                .map(|()| rule),
        });
        Ok(Reply::Last(match checked {
            Ok(rule) => json!({ "may": true, "reason": rule }),
            Err(reason) => json!({ "may": false, "reason": reason }),
        }))
    }

    pub(super) fn execs(&self) -> impl Iterator<Item = (&str, &Exec)> {
        let services = self.table.services.iter();
        services.filter_map(|service| match &service.serve {
            Serve::Exec(exec) => Some((service.name.as_str(), &**exec)),
            Serve::Builtin(_) | Serve::Forward(_) => None,
        })
    }

    /// What the `admin` list of a service says of an operation's parameters, which nobody
    /// has looked at.
    fn narrowed(&self, service: Option<&str>, operation: &str) -> String {
        let exec = service.and_then(|service| exec_of(self, service));
        let grants = exec.into_iter().flat_map(|exec| &exec.admin);
        let mut grants = grants.filter(|grant| grant.operation == operation);
        let names = grants
            .next()
            .map(|grant| grant.with.keys().map(String::as_str));
        let names: Vec<&str> = names.into_iter().flatten().collect();
        match names.is_empty() {
            true => String::new(),
            false => format!(", with {} as that narrows it", names.join(" and ")),
        }
    }

    /// Other services that write to the state directory of this one.
    pub(in crate::helper) fn sharing(&self, name: &str) -> impl Iterator<Item = &str> {
        let own = exec_of(self, name).and_then(|exec| exec.state.as_ref());
        let others = self.table.services.iter();
        let others = others.filter(move |other| match &other.serve {
            Serve::Exec(exec) => own.is_some() && exec.state.as_ref() == own,
            Serve::Builtin(_) | Serve::Forward(_) => false,
        });
        let others = others.filter(move |other| other.enabled && other.name != name);
        others.map(|other| other.name.as_str())
    }
}
