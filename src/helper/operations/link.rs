//! What the process of an operation says: `org.usherd.Operation`, and the methods
//! of `org.usherd.Admin` that the catalogue lists for it.
#![forbid(unsafe_code)]

use std::time::Instant;

use serde_json::{Value, json};

use crate::admin::administer::{Begin, Finish, Progress, Serve};
use crate::admin::catalogue::{self, request};
use crate::admin::operations::{Failed, Kind, Parameters, Request};
use crate::control::caller::Who;
use crate::control::message::{Call, CallError, Reply};
use crate::control::server::Answer;
use crate::control::{ADMIN, OPERATION};
use crate::helper::admin::{Wait, changes_something};
use crate::helper::core::Helper;

/// Octets of a word about progress.
const LONGEST_PROGRESS: usize = 1024;
/// Octets of a reason.
const LONGEST_REASON: usize = 16 * 1024;

impl Helper {
    /// `number`: of its link.
    pub(in crate::helper) fn answer_operation(
        &mut self,
        who: Who,
        id: u32,
        number: u64,
        mut call: Call,
        now: Instant,
    ) -> Answer<Wait> {
        let (interface, method) = call.target();
        let (interface, method) = (interface.to_owned(), method.to_owned());
        if interface == ADMIN.name {
            return self.call_for_operation(who, id, number, call, now);
        }
        if interface != OPERATION.name {
            return CallError::InterfaceNotFound(interface).into();
        }
        let answered = match method.as_str() {
            "Begin" => self.begin_operation(id),
            "Progress" => call.take().map(|Progress { text }| {
                self.tell_progress(id, &text, now);
                nothing()
            }),
            "Finish" => call.take().map(|Finish { result }| {
                self.note_outcome(id, Ok(result));
                nothing()
            }),
            "Fail" => call.take().map(|failed: Failed| {
                let Failed { kind, mut reason } = failed;
                cut(&mut reason, LONGEST_REASON);
                self.note_outcome(id, Err(Failed { kind, reason }));
                nothing()
            }),
            _ => Err(CallError::MethodNotFound(call.method.clone())),
        };
        Answer::Reply(answered.unwrap_or_else(Reply::Error))
    }

    fn begin_operation(&mut self, id: u32) -> Result<Reply, CallError> {
        let places = self.places();
        let Some(task) = self.operations.tasks.get_mut(&id) else {
            return Err(CallError::PermissionDenied);
        };
        if std::mem::replace(&mut task.begun, true) {
            return Err(CallError::failed("it has been told already"));
        }
        let order = &task.order;
        let serve = match &order.operation.serve {
            catalogue::Serve::Builtin(name) => Serve::Builtin(name.clone()),
            catalogue::Serve::Program { argv, dry_run } => {
                let argv = match (order.dry_run, dry_run) {
                    (true, Some(argv)) => argv,
                    _ => argv,
                };
                Serve::Program(request::expand(argv, &order.parameters))
            }
        };
        Ok(Reply::last(&Begin {
            serve,
            request: Request {
                operation: order.operation.name.clone(),
                parameters: order.parameters.clone(),
                dry_run: order.dry_run,
                caller: order.caller.clone(),
                places,
            },
            output_limit: order.operation.output_limit,
        }))
    }

    /// The first word holds.
    fn note_outcome(&mut self, id: u32, outcome: Result<Value, Failed>) {
        let Some(task) = self.operations.tasks.get_mut(&id) else {
            return;
        };
        let outcome = match outcome {
            Ok(result) if !result.is_object() => {
                Err(Failed::new(Kind::Failed, "its result is no object"))
            }
            outcome => outcome,
        };
        task.outcome.get_or_insert(outcome);
    }

    fn tell_progress(&mut self, id: u32, text: &str, now: Instant) {
        let Some(task) = self.operations.tasks.get(&id) else {
            return;
        };
        let mut text = text.to_owned();
        cut(&mut text, LONGEST_PROGRESS);
        let number = task.order.asked_by;
        self.tell_more(number, &Reply::Continues(json!({ "progress": text })), now);
    }

    /// Carries out what the catalogue lets this operation call.
    fn call_for_operation(
        &mut self,
        who: Who,
        id: u32,
        number: u64,
        call: Call,
        now: Instant,
    ) -> Answer<Wait> {
        let (_, method) = call.target();
        let Some(task) = self.operations.tasks.get(&id) else {
            return CallError::PermissionDenied.into();
        };
        let operation = &task.order.operation;
        if task.order.dry_run && changes_something(&call) {
            return CallError::failed("a dry run changes nothing").into();
        }
        let is_listed = operation.calls.iter().any(|known| known == method);
        let shares = |one: &str, other: &str| self.sharing(one).any(|name| name == other);
        // What it has frozen it may thaw, whatever the table says of it by now.
        let thaws = method == "Thaw" && self.is_frozen_by(number, &call);
        if !is_listed || !(thaws || is_ours(&task.order.parameters, &call, &shares)) {
            // None of ours does so: it is not what it was any more.
            let mut shown = method.to_owned();
            cut(&mut shown, 64);
            let why = format!("it called {shown} as its entry in the catalogue does not let it");
            log::error!("operation {}: {why}", operation.name);
            self.kill_operation(id, Failed::new(Kind::Forbidden, why));
            return CallError::PermissionDenied.into();
        }
        let rule = format!("calls of {}", operation.name);
        self.carry_out_and_tell(who, number, call, &rule, now)
    }
}

/// Whether a call that changes something is about what was asked for, and nothing else.
/// Whoever `shares` a state stands still with it.
fn is_ours(order: &Parameters, call: &Call, shares: &dyn Fn(&str, &str) -> bool) -> bool {
    const SERVICES: [&str; 3] = ["service", "from", "to"];
    let given = call.parameters.iter().flatten();
    // A backup's number begins with whose it is: `git@2026...`.
    let of_id = || {
        let id = order.some_text("id")?;
        id.rsplit_once('@').map(|(service, _)| service)
    };
    let is_frozen_too = |value: &Value| {
        let (_, method) = call.target();
        let service = order.some_text("service").or_else(of_id);
        let names = service.zip(value.as_str());
        matches!(method, "Freeze" | "Thaw") && names.is_some_and(|(one, other)| shares(one, other))
    };
    let is_service = |value: &Value| {
        let named = SERVICES.iter().any(|key| order.0.contains_key(*key));
        match named {
            true => SERVICES.iter().any(|key| order.0.get(*key) == Some(value)),
            false => value.as_str().is_some() && value.as_str() == of_id(),
        }
    };
    let is_asked = |name: &str, value: &Value| match name {
        "service" => is_service(value) || is_frozen_too(value),
        "instance" | "key" | "value" | "signal" => {
            value.is_null() && !order.0.contains_key(name) || order.0.get(name) == Some(value)
        }
        _ => true,
    };
    !changes_something(call) || given.into_iter().all(|(name, value)| is_asked(name, value))
}

fn nothing() -> Reply {
    Reply::Last(json!({}))
}

pub(super) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_changes_something_is_about_what_was_asked_for() {
        let order = json!({ "service": "git", "key": "nice", "value": "5" });
        let order = Parameters(order.as_object().cloned().unwrap_or_default());
        let call = |method: &str, parameters: Value| Call {
            method: format!("org.usherd.Admin.{method}"),
            parameters: parameters.as_object().cloned(),
            more: false,
            oneway: false,
            upgrade: false,
        };
        let ours = json!({ "service": "git", "key": "nice", "value": "5" });
        let alone = |_: &str, _: &str| false;
        let mates = |one: &str, other: &str| (one, other) == ("git", "hooks");
        assert!(is_ours(&order, &call("SetKey", ours), &alone));
        let other = json!({ "service": "hooks" });
        assert!(is_ours(&order, &call("Freeze", other.clone()), &mates));
        assert!(!is_ours(&order, &call("Freeze", other.clone()), &alone));
        assert!(!is_ours(&order, &call("Stop", other), &mates));
        for other in [
            json!({ "service": "ssh", "key": "nice", "value": "5" }),
            json!({ "service": "git", "key": "user", "value": "5" }),
            json!({ "service": "git", "key": "nice", "value": "-5" }),
            json!({ "service": "git", "key": "nice", "value": null }),
            json!({ "service": ["git"], "key": "nice", "value": "5" }),
        ] {
            assert!(
                !is_ours(&order, &call("SetKey", other.clone()), &mates),
                "{other}"
            );
        }
        assert!(!is_ours(
            &order,
            &call("Kill", json!({ "instance": 7 })),
            &alone
        ));
        assert!(
            is_ours(
                &order,
                &call("Describe", json!({ "service": "ssh" })),
                &alone
            ),
            "it changes nothing"
        );
    }
}
