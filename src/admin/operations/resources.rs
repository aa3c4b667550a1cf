//! `resource.*`: what servers may use, changed while they run, and moved from one
//! service to another. The helper keeps it within what the table gives.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::{Failed, Kind, Outcome, Parameters, Request, Usherd};

/// Of the table, as sizes and numbers.
const KEYS: [&str; 4] = ["memory", "memory_high", "cpu", "tasks"];

pub fn get(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let parameters = &request.parameters;
    let asked = json!({
        "service": parameters.some_text("service"),
        "instance": parameters.some_number("instance"),
    });
    usherd.call("GetResources", asked)
}

pub fn set(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let parameters = &request.parameters;
    let service = parameters.text("service")?;
    let instance = parameters.some_number("instance");
    let mut asked = Map::new();
    for key in KEYS {
        asked.extend(
            parameters
                .some_number(key)
                .map(|value| (key.to_owned(), json!(value))),
        );
    }
    asked.insert("service".into(), json!(service));
    asked.insert("instance".into(), json!(instance));
    usherd.call("SetResources", Value::Object(asked))
}

/// What one service gives up another gets, or neither changes.
pub fn shift(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let parameters = &request.parameters;
    let (from, to) = (parameters.text("from")?, parameters.text("to")?);
    if from == to {
        let why = "it is the same service";
        return Err(Failed::new(Kind::Invalid, why));
    }
    let (key, amount) = what(parameters)?;
    let giver = limit(usherd, from, key)?;
    let taker = limit(usherd, to, key)?;
    let left = giver.checked_sub(amount).filter(|left| *left > 0);
    let left = left.ok_or_else(|| {
        let why =
            format!("service \"{from}\" has a {key} of {giver}, and cannot give {amount} of it");
        Failed::new(Kind::Forbidden, why)
    })?;
    let more = taker
        .checked_add(amount)
        .ok_or_else(|| Failed::new(Kind::Invalid, "that is more than there can be"))?;
    let put = |usherd: &mut dyn Usherd, service: &str, value: i64| {
        usherd.call("SetResources", json!({ "service": service, key: value }))
    };
    // Taken first, so that the two together never have more than before.
    put(usherd, from, left)?;
    if let Err(failed) = put(usherd, to, more) {
        let back = put(usherd, from, giver);
        let but = back
            .err()
            .map(|err| format!("; and \"{from}\" did not get its own back: {err}"));
        let reason = format!("{failed}{}", but.unwrap_or_default());
        return Err(Failed::new(failed.kind, reason));
    }
    Ok(json!({ "key": key, "amount": amount, "from": { from: left }, "to": { to: more } }))
}

/// The one resource that is named, and how much of it.
fn what(parameters: &Parameters) -> Result<(&'static str, i64), Failed> {
    let named = KEYS.into_iter();
    let mut named = named.filter_map(|key| Some((key, parameters.some_number(key)?)));
    match (named.next(), named.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Failed::new(
            Kind::Invalid,
            format!(
                "name one of {}: how much of it is to be moved",
                KEYS.join(", ")
            ),
        )),
    }
}

/// What is in force for a service; one without a limit has nothing to give, and needs nothing.
fn limit(usherd: &mut dyn Usherd, service: &str, key: &str) -> Result<i64, Failed> {
    let told = usherd.call("GetResources", json!({ "service": service }))?;
    let value = told["resources"][0]["limits"][key].as_i64();
    value.ok_or_else(|| {
        let why = format!("service \"{service}\" has no limit of {key} that could be moved: set one first (resource.set)");
        Failed::new(Kind::Unavailable, why)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::admin::operations::fake::{Fake, request};

    /// Two services with limits; "b" may have 100 at most.
    fn moved(asked: Value) -> (Outcome, HashMap<String, i64>) {
        let mut limits = HashMap::from([("a".to_owned(), 50), ("b".to_owned(), 60)]);
        let outcome = {
            let mut fake = Fake::new(|method, parameters| {
                let service = parameters["service"].as_str().unwrap().to_owned();
                if method == "GetResources" {
                    let tasks = limits.get(&service);
                    return Ok(json!({ "resources": [{ "limits": { "tasks": tasks } }] }));
                }
                let value = parameters["tasks"].as_i64().unwrap();
                if service == "b" && value > 100 {
                    return Err(Failed::new(Kind::Forbidden, "too much"));
                }
                limits.insert(service, value);
                Ok(json!({}))
            });
            shift(&request(asked), &mut fake)
        };
        (outcome, limits)
    }

    #[test]
    fn what_one_gives_the_other_gets_or_nothing_changes() {
        let limits = |a, b| HashMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let (done, now) = moved(json!({ "from": "a", "to": "b", "tasks": 30 }));
        assert_eq!(done.unwrap()["to"]["b"], 90);
        assert_eq!(now, limits(20, 90));
        for (asked, kind) in [
            (
                json!({ "from": "a", "to": "b", "tasks": 45 }),
                Kind::Forbidden,
            ),
            (
                json!({ "from": "a", "to": "b", "tasks": 50 }),
                Kind::Forbidden,
            ),
            (json!({ "from": "a", "to": "a", "tasks": 1 }), Kind::Invalid),
            (json!({ "from": "a", "to": "b" }), Kind::Invalid),
            (
                json!({ "from": "a", "to": "b", "tasks": 1, "cpu": 1 }),
                Kind::Invalid,
            ),
            (
                json!({ "from": "a", "to": "c", "tasks": 1 }),
                Kind::Unavailable,
            ),
        ] {
            let (outcome, now) = moved(asked.clone());
            assert_eq!(outcome.unwrap_err().kind, kind, "{asked}");
            assert_eq!(now, limits(50, 60), "{asked}");
        }
    }
}
