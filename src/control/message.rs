//! Calls, replies and errors as JSON. What cannot be read is an error that the
//! caller is told, never one of ours.
#![forbid(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A method call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// `INTERFACE.METHOD`
    pub method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// As many replies as it takes, please.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// No reply, please.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
    /// Speak something else from now on; nothing here does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub upgrade: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Call {
    /// The interface and the method.
    #[must_use]
    pub fn target(&self) -> (&str, &str) {
        self.method.rsplit_once('.').unwrap_or(("", &self.method))
    }

    /// The parameters as a method wants them.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, CallError> {
        let parameters = self.parameters.take().unwrap_or_default();
        T::deserialize(Value::Object(parameters))
            .map_err(|err| CallError::InvalidParameter(named_in(&err.to_string())))
    }
}

/// The parameter that serde complains about, or what it says.
fn named_in(complaint: &str) -> String {
    let mut quoted = complaint.split('`');
    quoted.nth(1).unwrap_or(complaint).to_owned()
}

/// What a call is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The last one.
    Last(Value),
    /// More follow.
    Continues(Value),
    Error(CallError),
}

impl Reply {
    /// From the reply type of a method.
    pub fn last(parameters: &impl Serialize) -> Self {
        serde_json::to_value(parameters).map_or_else(
            |err| Reply::Error(CallError::failed(err.to_string())),
            Reply::Last,
        )
    }

    /// The message, with its NUL.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let value = match self {
            Reply::Last(parameters) => json!({ "parameters": parameters }),
            Reply::Continues(parameters) => json!({ "parameters": parameters, "continues": true }),
            Reply::Error(error) => error.to_value(),
        };
        out.extend_from_slice(value.to_string().as_bytes());
        out.push(0);
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    InterfaceNotFound(String),
    MethodNotFound(String),
    MethodNotImplemented(String),
    /// The name of the parameter.
    InvalidParameter(String),
    PermissionDenied,
    /// The method has many replies and the call did not ask for more.
    ExpectedMore,
    /// One of our interfaces' own: its full name, and its parameters.
    Own(String, Value),
}

impl CallError {
    /// `org.usherd.Admin.NAME`
    #[must_use]
    pub fn admin(name: &str, parameters: Value) -> Self {
        Self::Own(format!("{}.{name}", super::ADMIN.name), parameters)
    }

    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        let reason: String = reason.into();
        Self::admin("Failed", json!({ "reason": reason }))
    }

    /// Whether it says that the caller may not; every other one says that it cannot be done.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            CallError::PermissionDenied => true,
            CallError::Own(name, _) => name.rsplit('.').next() == Some("NotPermitted"),
            _ => false,
        }
    }

    /// As it goes over the socket.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let standard = |name: &str, parameters: Value| {
            let name = format!("org.varlink.service.{name}");
            json!({ "error": name, "parameters": parameters })
        };
        match self {
            CallError::InterfaceNotFound(name) => {
                standard("InterfaceNotFound", json!({ "interface": name }))
            }
            CallError::MethodNotFound(name) => {
                standard("MethodNotFound", json!({ "method": name }))
            }
            CallError::MethodNotImplemented(name) => {
                standard("MethodNotImplemented", json!({ "method": name }))
            }
            CallError::InvalidParameter(name) => {
                standard("InvalidParameter", json!({ "parameter": name }))
            }
            CallError::PermissionDenied => standard("PermissionDenied", json!({})),
            CallError::ExpectedMore => standard("ExpectedMore", json!({})),
            CallError::Own(name, parameters) => json!({ "error": name, "parameters": parameters }),
        }
    }
}

/// Reads a call. The error is for the caller; a message that is no JSON object
/// of this shape leaves nobody to answer to.
pub fn read_call(message: &[u8]) -> Result<Call, serde_json::Error> {
    serde_json::from_slice(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_with_and_without_parameters() {
        let call = read_call(br#"{"method":"a.b.C","more":true,"parameters":{"x":1}}"#).unwrap();
        assert_eq!(call.target(), ("a.b", "C"));
        assert!(call.more && !call.oneway);
        let call = read_call(br#"{"method":"C","parameters":null}"#).unwrap();
        assert_eq!(call.target(), ("", "C"));
        assert_eq!(call.parameters, None);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let deep = format!("{{\"method\":{}", "[".repeat(60_000));
        for bad in ["", "[]", "{}", r#"{"method":1}"#, "\u{fffd}", &deep] {
            assert!(read_call(bad.as_bytes()).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wants {
            service: String,
        }
        let take = |parameters: &str| {
            let text = format!(r#"{{"method":"C","parameters":{parameters}}}"#);
            read_call(text.as_bytes()).unwrap().take::<Wants>()
        };
        assert_eq!(take(r#"{"service":"git"}"#).unwrap().service, "git");
        let named = |name: &str| CallError::InvalidParameter(name.into());
        assert_eq!(take("{}").unwrap_err(), named("service"));
        assert_eq!(take(r#"{"servic":"x"}"#).unwrap_err(), named("servic"));
    }

    #[test]
    fn replies_end_with_a_nul() {
        let mut out = Vec::new();
        Reply::Continues(json!({"a": 1})).encode(&mut out);
        assert_eq!(out, b"{\"continues\":true,\"parameters\":{\"a\":1}}\0");
    }
}
