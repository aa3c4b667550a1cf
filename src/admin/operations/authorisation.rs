//! `auth.check`: whether a password is somebody's, by PAM, so that who asks
//! needs to see no shadow file.
//!
//! A name that nobody has and a password that is not his are the same answer,
//! and modules take their time for both.
#![forbid(unsafe_code)]

use nix::unistd::User;
use serde_json::json;

use super::{Failed, Kind, Outcome, Request, Usherd, to};
use crate::sys::pam::{self, Denied, Item, Pam};

/// `auth.check`
pub fn check(request: &Request, _: &mut dyn Usherd) -> Outcome {
    let given = &request.parameters;
    let (service, user) = (given.text("service")?, given.text("user")?);
    // Who knows root's password needs no server in between. Several names may be root's.
    if to("look up a user", User::from_name(user))?.is_some_and(|one| one.uid.is_root()) {
        let reason = format!("{user} is root, whose password is not checked for others");
        return Err(Failed::new(Kind::Forbidden, reason));
    }
    let password = given.text("password")?;
    if password.contains('\0') {
        let reason = "no password has a NUL in it";
        return Err(Failed::new(Kind::Invalid, reason));
    }
    let reason = match ask(service, user, password, given.some_text("from")) {
        Ok(()) => return Ok(json!({ "ok": true })),
        Err(Denied::Credentials) => "credentials",
        Err(Denied::Expired) => "expired",
        Err(Denied::NewPassword) => "new_password",
        Err(Denied::Forbidden) => "forbidden",
        Err(Denied::Unable(why)) => {
            let reason = format!("unable to ask PAM as \"{service}\": {why}");
            return Err(Failed::new(Kind::Unavailable, reason));
        }
    };
    Ok(json!({ "ok": false, "reason": reason }))
}

fn ask(service: &str, user: &str, password: &str, from: Option<&str>) -> Result<(), Denied> {
    let password = Some(pam::text(password));
    let mut pam =
        Pam::start(&pam::text(service), &pam::text(user), password).map_err(Denied::Unable)?;
    if let Some(from) = from {
        let host = pam::text(from);
        pam.set(Item::RemoteHost, &host).map_err(Denied::Unable)?;
    }
    pam.authenticate()?;
    pam.permits()
}
