//! Who may ask for which operation. Pure.
#![forbid(unsafe_code)]

use super::catalogue::Operation;
use crate::table::Grant;

/// What a caller is, as far as rights go.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// He may change everything; by which rule.
    Everything(&'static str),
    /// An instance of a service, with its `admin` list.
    Service { name: &'a str, grants: &'a [Grant] },
    /// Anybody else on this host.
    Operator { uid: u32, groups: &'a [u32] },
}

/// The rule by which he may, for the audit log; or why not, for him.
pub fn may(operation: &Operation, standing: &Standing<'_>) -> Result<String, String> {
    let name = &operation.name;
    match standing {
        Standing::Everything(rule) => Ok((*rule).to_owned()),
        Standing::Service {
            name: service,
            grants,
        } => {
            if !grants.iter().any(|grant| grant.operation == *name) {
                return Err(format!(
                    "\"{name}\" is not in the `admin` list of service \"{service}\""
                ));
            }
            match operation.services {
                true => Ok(format!("admin of service \"{service}\"")),
                false => Err(format!("\"{name}\" is not for services")),
            }
        }
        Standing::Operator { uid, groups } => {
            let operators = &operation.operators;
            if operators.users.contains(uid) {
                return Ok("operators.users".to_owned());
            }
            let shared = groups.iter().find(|group| operators.groups.contains(group));
            match shared {
                Some(group) => Ok(format!("operators.groups (gid {group})")),
                None => Err(format!("uid {uid} is none of its operators")),
            }
        }
    }
}
