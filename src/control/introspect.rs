//! `org.varlink.service`: what a socket serves, in words of its own.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde_json::json;

use super::Interface;
use super::message::{Call, CallError, Reply};

/// The interface that every Varlink service has.
pub const SERVICE: Interface = Interface {
    name: "org.varlink.service",
    text: include_str!("org.varlink.service.varlink"),
    waiting: 0,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    interface: String,
}

/// Answers calls of `org.varlink.service` and those to interfaces that are not
/// here; `None` is a call of `served` itself.
#[must_use]
pub fn answer(call: &mut Call, served: Interface) -> Option<Reply> {
    let (interface, method) = call.target();
    if interface == served.name {
        return None;
    }
    let reply = match (interface == SERVICE.name, method) {
        (true, "GetInfo") => Ok(Reply::Last(json!({
            "vendor": "usherd",
            "product": "usherd",
            "version": env!("CARGO_PKG_VERSION"),
            "url": "",
            "interfaces": [SERVICE.name, served.name],
        }))),
        (true, "GetInterfaceDescription") => describe(call, served),
        (true, _) => Err(CallError::MethodNotFound(call.method.clone())),
        (false, _) => Err(CallError::InterfaceNotFound(interface.to_owned())),
    };
    Some(reply.unwrap_or_else(Reply::Error))
}

fn describe(call: &mut Call, served: Interface) -> Result<Reply, CallError> {
    let Which { interface: name } = call.take()?;
    let known = [SERVICE, served];
    match known.iter().find(|interface| interface.name == name) {
        Some(interface) => Ok(Reply::Last(json!({ "description": interface.text }))),
        None => Err(CallError::InterfaceNotFound(name)),
    }
}
