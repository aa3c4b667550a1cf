//! `config.*`: the table in force, and one key of it changed. The helper edits the
//! file, checks it before it is replaced, and puts it back if it cannot be put in force.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::{Failed, Kind, Outcome, Request, Usherd};

/// Keys as `usherd check --effective` shows them: of a service, or of `[daemon]`.
pub fn get(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let service = request.parameters.some_text("service");
    let key = request.parameters.some_text("key");
    let told = usherd.call("Describe", json!({ "service": service }))?;
    let keys = told["keys"].as_array().into_iter().flatten();
    let all: Map<String, Value> = keys
        .filter_map(|one| Some((one["key"].as_str()?.to_owned(), one["value"].clone())))
        .collect();
    let values = match key {
        None => all,
        Some(key) => {
            let value = all.get(key).cloned().ok_or_else(|| {
                let of =
                    service.map_or("[daemon]".to_owned(), |name| format!("service \"{name}\""));
                Failed::new(Kind::NotFound, format!("{of} has no key {key} in force"))
            })?;
            Map::from_iter([(key.to_owned(), value)])
        }
    };
    Ok(json!({ "service": service, "values": values }))
}

pub fn set(request: &Request, usherd: &mut dyn Usherd) -> Outcome {
    let (service, key) = (
        request.parameters.text("service")?,
        request.parameters.text("key")?,
    );
    let value = request.parameters.some_text("value");
    let asked = json!({ "service": service, "key": key, "value": value });
    let done = usherd.call("SetKey", asked)?;
    Ok(json!({
        "service": service,
        "key": key,
        "changes": done["changes"],
        "warnings": done["warnings"],
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::admin::operations::fake::{Fake, request};

    #[test]
    fn one_key_or_all_are_told_as_the_table_writes_them() {
        let mut fake = Fake::new(|_, _| {
            Ok(json!({ "keys": [
                { "key": "instances", "value": "7" },
                { "key": "user", "value": "\"git\"" },
            ] }))
        });
        let mut ask = |asked| get(&request(asked), &mut fake);
        let all = ask(json!({ "service": "a" })).unwrap();
        assert_eq!(
            all["values"],
            json!({ "instances": "7", "user": "\"git\"" })
        );
        let one = ask(json!({ "service": "a", "key": "instances" })).unwrap();
        assert_eq!(one["values"], json!({ "instances": "7" }));
        let none = ask(json!({ "key": "rate" })).unwrap_err();
        assert_eq!(none.kind, Kind::NotFound);
    }
}
