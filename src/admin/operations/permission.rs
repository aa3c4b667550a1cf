//! `permission.check`: whether somebody may.
#![forbid(unsafe_code)]

use serde_json::json;

use super::{Failed, Kind, Outcome, Request, Usherd};

/// Asks the helper, who knows the catalogue and the table in force.
pub fn check(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let mut asked = json!({ "operation": given.text("operation")? });
    match (given.some_text("service"), given.some_text("user")) {
        (Some(service), None) => asked["service"] = json!(service),
        (None, Some(user)) => {
            let account = nix::unistd::User::from_name(user);
            let account = account.ok().flatten().ok_or_else(|| {
                Failed::new(Kind::NotFound, format!("there is no user \"{user}\""))
            })?;
            let name = std::ffi::CString::new(user).unwrap_or_default();
            let groups = nix::unistd::getgrouplist(&name, account.gid).unwrap_or_default();
            asked["uid"] = json!(account.uid.as_raw());
            asked["gids"] = groups.iter().map(|group| group.as_raw()).collect();
        }
        _ => {
            let why = "name either a service or a user";
            return Err(Failed::new(Kind::Invalid, why));
        }
    }
    if let Some(text) = given.some_text("parameters") {
        let read: Result<serde_json::Value, _> = serde_json::from_str(text);
        asked["parameters"] = match read {
            Ok(read) if read.is_object() => read,
            _ => return Err(Failed::new(Kind::Invalid, "parameters: no JSON object")),
        };
    }
    usherd.call("CheckPermission", asked)
}
