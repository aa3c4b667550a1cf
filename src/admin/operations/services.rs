//! `service.*` and `instance.*`: usherd's own methods, for those who may not call them.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Failed, Outcome, Request, Usherd};

pub fn start(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    call("Start", request, usherd)
}

pub fn stop(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    usherd.progress("waiting for its servers to end");
    call("Stop", request, usherd)
}

pub fn drain(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    call("Drain", request, usherd)
}

pub fn enable(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    call("Enable", request, usherd)
}

pub fn disable(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    call("Disable", request, usherd)
}

/// If it cannot be started again, it stays stopped, and that is said.
pub fn restart(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let stopped = stop(request, usherd)?;
    let started = start(request, usherd).map_err(|failed| {
        let reason = format!("it is stopped, and did not start again: {failed}");
        Failed::new(failed.kind, reason)
    })?;
    Ok(merged(stopped, started))
}

/// To its first process; KILL to all of its tree. Without one, the instance ends as
/// `stop` in the table says.
pub fn signal(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let instance = request.parameters.number("instance")?;
    let signal = request.parameters.some_text("signal");
    usherd.call("Kill", json!({ "instance": instance, "signal": signal }))?;
    Ok(json!({ "instance": instance, "signal": signal }))
}

fn call(method: &str, request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let service = request.parameters.text("service")?;
    let done = usherd.call(method, json!({ "service": service }))?;
    Ok(merged(json!({ "service": service }), done))
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::operations::Kind;
    use crate::admin::operations::fake::{Fake, request};

    #[test]
    fn a_restart_that_ends_halfway_says_so() {
        let mut fake = Fake::new(|method, parameters| {
            assert_eq!(parameters["service"], "a");
            match method {
                "Stop" => Ok(json!({ "stopped": 3 })),
                _ => Err(Failed::new(Kind::Failed, "no such program")),
            }
        });
        let asked = request(json!({ "service": "a" }));
        let failed = restart(&asked, &mut fake).unwrap_err();
        assert!(failed.reason.starts_with("it is stopped"), "{failed}");
        let mut fake = Fake::new(|method, _| {
            Ok(match method {
                "Stop" => json!({ "stopped": 3 }),
                _ => json!({ "instance": 9 }),
            })
        });
        let done = restart(&asked, &mut fake).unwrap();
        assert_eq!(done, json!({ "service": "a", "stopped": 3, "instance": 9 }));
    }
}
